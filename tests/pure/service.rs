//! The texts of services: what is written from the templates of `contrib/`, and what is read of what is installed.

use std::fs;
use std::io::Write;

use wf0_agent::commands::service::template::fill;
use wf0_agent::commands::service::{
    Definition, Plan, Run, State, closing_calls, launchd, systemd, windows,
};
use wf0_agent::store::log_file::LogFile;

fn plan(program: &str, settings: &str, path: &str) -> Plan {
    Plan {
        program: program.to_owned(),
        settings: settings.to_owned(),
        path: path.to_owned(),
    }
}

fn started(program: &str, settings: &str, variables: &[(&str, &str)]) -> Definition {
    Definition {
        program: program.to_owned(),
        args: vec!["--env-file".to_owned(), settings.to_owned()],
        variables: variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..Definition::default()
    }
}

/// Paths that some format would take for something else.
const ODD: &[(&str, &str, &str)] = &[
    ("/usr/bin/wf0-agent", "/home/me/settings", "/usr/bin:/bin"),
    ("/a b/wf0-agent", "/c d/e", "/f g:/h"),
    ("/100%/h%h/wf0-agent", "/%%/s", "/%E:/50%"),
    ("/a$b/${HOME}", "/$HOME/$$/s", "/$PATH:/x"),
    ("/a;b/#c", "/;x", "/y z;#"),
    ("/é/ü", "/日本", "/ø"),
    ("/a&b/<c>", "/]]>&amp;", "/<!--:/-->"),
    ("/q/plain", "/q\"uo'te", "/back\\slash:/\"x\""),
    (
        "/Users/ME/.cargo/bin/wf0-agent",
        "/Users/ME/.config/wf0-agent/settings",
        "/Users/ME/Library/Logs/wf0-agent.log",
    ),
];

/// Whether every element is closed in order, every comment is one, and every `&` begins an entity.
fn assert_well_formed(xml: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = xml;
    while let Some((text, after)) = rest.split_once('<') {
        for entity in text.split('&').skip(1) {
            let known = ["lt;", "gt;", "amp;", "quot;", "apos;"];
            assert!(
                known.iter().any(|known| entity.starts_with(known)),
                "&{entity} in:\n{xml}"
            );
        }
        if let Some(comment) = after.strip_prefix("!--") {
            let (inside, after) = comment.split_once("-->").expect("the end of a comment");
            assert!(
                !inside.contains("--") && !inside.ends_with('-'),
                "-- within a comment: {inside}"
            );
            rest = after;
            continue;
        }
        let (tag, after) = after.split_once('>').expect("the end of a tag");
        match tag.as_bytes().first() {
            Some(b'?' | b'!') => {}
            Some(b'/') => assert_eq!(open.pop(), Some(&tag[1..]), "{xml}"),
            _ if tag.ends_with('/') => {}
            _ => open.push(tag.split_whitespace().next().expect("a name")),
        }
        rest = after;
    }
    assert!(
        open.is_empty() && rest.trim().is_empty(),
        "{open:?} is open, {rest:?} is left"
    );
}

/// A value is put at its place as it is, also where it looks like another place.
#[test]
fn templates_are_filled_in_one_go() {
    let filled = fill(
        "a ONE b TWO c ONE",
        &[("ONE", "TWO".to_owned()), ("TWO", "ONE".to_owned())],
    );
    assert_eq!(filled, "a TWO b ONE c TWO");
}

/// A template without one of the places is a mistake that nobody can overlook.
#[test]
#[should_panic(expected = "the template has no \"TWO\"")]
fn a_place_that_is_not_there() {
    fill("a ONE", &[("ONE", String::new()), ("TWO", String::new())]);
}

/// A unit says just what it was made for, and the rest of it is the template's.
#[test]
fn a_unit_is_read_as_it_was_written() {
    for (program, settings, path) in ODD {
        let text = systemd::unit(&plan(program, settings, path));
        let none = |letter| panic!("a specifier %{letter} in:\n{text}");
        assert_eq!(
            systemd::read(&text, none),
            started(program, settings, &[("PATH", path)]),
            "{text}"
        );
    }
    let template = include_str!("../../contrib/systemd/wf0-agent-user.service");
    let text = systemd::unit(&plan("/p", "/s", "/x"));
    let own = |text: &str| {
        let lines = text.lines().skip_while(|line| *line != "[Unit]");
        lines
            .filter(|line| {
                !line.starts_with("ExecStart=") && !line.starts_with("Environment=PATH=")
            })
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(own(&text), own(template));
    assert!(
        text.starts_with("# wf0-agent as a service") && text.len() < template.len(),
        "{text}"
    );
}

/// What people write into units: specifiers, quotes, escapes, prefixes, continued lines, empty values that reset.
#[test]
fn units_made_by_hand_are_read() {
    let table: [(&str, Definition); 6] = [
        (
            "[Service]\nExecStart=%h/bin/wf0-agent --env-file %E/s",
            started("/home/me/bin/wf0-agent", "/home/me/.config/s", &[]),
        ),
        (
            "[Service]\nExecStart=-/bin/w '--env-file' \\\n  \"a \\x41\\tb\" # ;",
            Definition {
                program: "/bin/w".to_owned(),
                args: ["--env-file", "a A\tb", "#", ";"]
                    .map(str::to_owned)
                    .to_vec(),
                ..Definition::default()
            },
        ),
        (
            "[Unit]\nExecStart=/no\n[Service]\n# ExecStart=/no\n; ExecStart=/no\nExecStart = /bin/w --env-file /s",
            started("/bin/w", "/s", &[]),
        ),
        (
            "[Service]\nExecStart=/old --env-file /o\nExecStart=\nExecStart=/bin/w --env-file /s",
            started("/bin/w", "/s", &[]),
        ),
        (
            "[Service]\nExecStart=/bin/w --env-file /s\nEnvironment=A=1 \"B=2 3\" C='4'\nEnvironment=\n\
             Environment=D=%%x %q",
            started("/bin/w", "/s", &[("D", "%x")]),
        ),
        (
            "[Service]\nExecStart=/bin/w --env-file /s\nEnvironmentFile=/e\nPassEnvironment=X",
            Definition {
                unread: vec!["EnvironmentFile".to_owned(), "PassEnvironment".to_owned()],
                ..started("/bin/w", "/s", &[])
            },
        ),
    ];
    let specifier = |letter| match letter {
        'h' => Some("/home/me".to_owned()),
        'E' => Some("/home/me/.config".to_owned()),
        _ => None,
    };
    for (text, wanted) in table {
        assert_eq!(systemd::read(text, specifier), wanted, "{text}");
    }
}

/// `systemctl show-environment` quotes what a shell would take apart.
#[test]
fn the_environment_of_systemd_is_read() {
    let table = [
        ("A=b", "A", "b"),
        ("A=b=c d", "A", "b=c d"),
        (r"A=$'b\'c\\d\ne\x41'", "A", "b'c\\d\neA"),
        (r#"A="b\"c""#, "A", "b\"c"),
        ("A=", "A", ""),
    ];
    for (line, name, value) in table {
        assert_eq!(
            systemd::environment_shown(line),
            [(name.to_owned(), value.to_owned())],
            "{line}"
        );
    }
}

/// A property list is XML that says just what it was made for.
#[test]
fn a_property_list_is_read_as_it_was_written() {
    for (program, settings, path) in ODD {
        let text = launchd::plist(&plan(program, settings, path), "/Users/me & you/log");
        assert_well_formed(&text);
        assert_eq!(
            launchd::read(&text),
            started(program, settings, &[("PATH", path)]),
            "{text}"
        );
        assert!(
            text.contains("<string>/Users/me &amp; you/log</string>"),
            "{text}"
        );
    }
    let text = launchd::plist(&plan("/p", "/s", "/x"), "/l");
    assert!(!text.contains("/Users/ME"), "a place was left: {text}");
}

/// What `launchctl print` says: whether it runs, and how it ended.
#[test]
fn the_state_of_an_agent_is_read() {
    let state = |run, words: &str| State {
        enabled: true,
        run,
        words: words.to_owned(),
    };
    let table = [
        (
            "x = {\n\tactive count = 1\n\tstate = running\n\n\tpid = 41\n\tlast exit code = 78: EX_CONFIG\n}",
            state(Run::Running, "pid 41"),
        ),
        (
            "x = {\n\tstate = spawn scheduled\n\tlast exit code = 77\n}",
            state(Run::Not, "it ended with 77: token rejected"),
        ),
        (
            "x = {\n\tstate = not running\n\tlast exit code = 0\n}",
            state(Run::Not, ""),
        ),
        (
            "x = {\n\tstate = not running\n\tlast exit code = (never exited)\n}",
            state(Run::Not, ""),
        ),
    ];
    for (printed, wanted) in table {
        assert_eq!(launchd::state(printed), wanted, "{printed}");
    }
}

/// A task is XML that says just what it was made for, in the encoding that the scheduler wants.
#[test]
fn a_task_is_read_as_it_was_written() {
    let odd = [
        (r"C:\bin\wf0-agent.exe", r"C:\settings"),
        (
            r"C:\Program Files\a & b\wf0-agent.exe",
            r"C:\Users\Jürgen <x>\settings",
        ),
        (r"%LOCALAPPDATA%\x", r"DOMAIN\user"),
    ];
    for (program, settings) in odd {
        let text = windows::task(&plan(program, settings, ""), r"ACME\me & you", r"C:\folder");
        assert_well_formed(&text);
        assert_eq!(
            windows::read(&text),
            started(program, settings, &[]),
            "{text}"
        );
        assert_eq!(
            text.matches(r"<UserId>ACME\me &amp; you</UserId>").count(),
            2,
            "{text}"
        );
        assert!(
            text.contains(r"<WorkingDirectory>C:\folder</WorkingDirectory>"),
            "{text}"
        );
        let bytes = windows::to_utf16(&text);
        assert_eq!(
            (&bytes[..4], windows::from_utf16(&bytes)),
            (&[0xFF, 0xFE, b'<', 0][..], text)
        );
    }
}

/// What Windows' tools print: the number that says how a task is in every language, values of the registry, command
/// lines, variables in paths.
#[test]
fn what_windows_tools_print_is_read() {
    let csv = |result: &str| {
        format!(
            "\"PC\",\"\\wf0-agent\",\"N/A\",\"Bereit\",\"Nur interaktiv\",\"1.1.2026, 9:00\",\"{result}\",\"me\"\r\n"
        )
    };
    let state = |run, words: &str| State {
        enabled: true,
        run,
        words: words.to_owned(),
    };
    assert_eq!(windows::state(&csv("267009")), state(Run::Running, ""));
    assert_eq!(windows::state(&csv("267011")), state(Run::Not, ""));
    assert_eq!(
        windows::state(&csv("77")),
        state(Run::Not, "it ended with 77: token rejected")
    );
    assert_eq!(
        windows::state(&csv("-1073741510")),
        state(Run::Not, "its last result is -1073741510")
    );
    let printed = "\r\nHKEY_CURRENT_USER\\Environment\r\n    Path    REG_EXPAND_SZ    %USERPROFILE%\\bin;C:\\a    b\r\n\r\n";
    assert_eq!(
        windows::registry_value(printed).as_deref(),
        Some("%USERPROFILE%\\bin;C:\\a    b")
    );
    assert_eq!(windows::registry_value("ERROR: nothing"), None);
    let line = r#""C:\a b\wf0-agent.exe" run-as-service --env-file C:\s """#;
    assert_eq!(
        windows::split(line),
        [
            r"C:\a b\wf0-agent.exe",
            "run-as-service",
            "--env-file",
            r"C:\s",
            ""
        ]
    );
    let variable = |name: &str| (name == "HOME").then(|| "C:\\me".to_owned());
    for (text, wanted) in [
        ("%HOME%\\x;%HOME%", "C:\\me\\x;C:\\me"),
        ("50%", "50%"),
        ("%NO%HOME%", "%NOC:\\me"),
        ("%%", "%%"),
    ] {
        assert_eq!(windows::expand(text, variable), wanted, "{text}");
    }
}

/// A folder that another user has made below %ProgramData% becomes the administrators' own and loses every right that
/// was given in it, before the service gets access: no call may be missing, and none may come earlier.
#[test]
fn the_windows_service_takes_over_its_folder() {
    let calls = closing_calls(r"C:\ProgramData\wf0-agent").map(|call| call.join(" "));
    let wanted = [
        r"C:\ProgramData\wf0-agent /setowner *S-1-5-32-544 /T /C /L /Q",
        r"C:\ProgramData\wf0-agent /reset /T /C /L /Q",
        r"C:\ProgramData\wf0-agent /inheritance:r /grant:r *S-1-5-18:(OI)(CI)F *S-1-5-32-544:(OI)(CI)F NT SERVICE\wf0-agent:(OI)(CI)M",
    ];
    assert_eq!(calls, wanted);
}

/// A log goes on where an earlier one ended, and is set aside at its limit: never more than two, and no line is torn.
#[test]
fn a_log_file_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("below/wf0-agent.log");
    let read =
        |name: &str| fs::read_to_string(folder.path().join("below").join(name)).unwrap_or_default();
    LogFile::open(&path, 20)
        .unwrap()
        .write_all(b"first 789\n")
        .unwrap();
    let mut log = LogFile::open(&path, 20).unwrap();
    log.write_all(b"second 89\n").unwrap();
    assert_eq!(
        (read("wf0-agent.log"), read("wf0-agent.log.1")),
        ("first 789\nsecond 89\n".to_owned(), String::new())
    );
    log.write_all(b"third 789\n").unwrap();
    assert_eq!(
        (
            read("wf0-agent.log").as_str(),
            read("wf0-agent.log.1").as_str()
        ),
        ("third 789\n", "first 789\nsecond 89\n")
    );
    log.write_all(b"longer than the whole limit\n").unwrap();
    log.write_all(b"fourth\n").unwrap();
    assert_eq!(
        (
            read("wf0-agent.log").as_str(),
            read("wf0-agent.log.1").as_str()
        ),
        ("fourth\n", "longer than the whole limit\n")
    );
    assert_eq!(
        fs::read_dir(folder.path().join("below")).unwrap().count(),
        2
    );
    // One that cannot be set aside is written on.
    fs::remove_file(folder.path().join("below/wf0-agent.log.1")).unwrap();
    fs::create_dir_all(folder.path().join("below/wf0-agent.log.1/x")).unwrap();
    log.write_all(b"longer than the whole limit\n").unwrap();
    assert_eq!(
        read("wf0-agent.log"),
        "fourth\nlonger than the whole limit\n"
    );
}
