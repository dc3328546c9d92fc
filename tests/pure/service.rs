//! The definitions of services, made from the templates of `contrib/`, and the log file of the Windows service.

use std::fs;
use std::io::Write;

use wf0_agent::commands::service::CLOSING_CALLS;
use wf0_agent::store::LogFile;

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

/// A property list is well-formed XML with the plan's values, and no place of the template is left.
#[cfg(unix)]
#[test]
fn a_property_list_has_the_values_of_the_plan() {
    use wf0_agent::commands::service::Plan;
    use wf0_agent::commands::service::launchd::Launchd;
    let home = vec![("HOME".into(), "/Users/me too".into())];
    let launchd = Launchd::new(&wf0_agent::environment::Environment::new(home)).unwrap();
    let plist = launchd.definition(&Plan {
        program: "/opt/my programs/wf0-agent".to_owned(),
        settings: "/Users/me too/.config/wf0-agent/settings".to_owned(),
        path: "/opt/bin:/a b:/usr/bin".to_owned(),
    });
    assert_well_formed(&plist);
    let values = plist.lines().filter_map(|line| {
        line.trim()
            .strip_prefix("<string>")?
            .strip_suffix("</string>")
    });
    let wanted = [
        "com.workforce0.agent",
        "/opt/my programs/wf0-agent",
        "--env-file",
        "/Users/me too/.config/wf0-agent/settings",
        "/opt/bin:/a b:/usr/bin",
        "/Users/me too/Library/Logs/wf0-agent.log",
    ];
    assert_eq!(values.collect::<Vec<_>>(), wanted);
    assert!(!plist.contains("/Users/ME"), "a place was left: {plist}");
}

/// The task for Windows that contrib/ has is well-formed too.
#[test]
fn the_task_is_well_formed() {
    assert_well_formed(include_str!("../../contrib/windows/wf0-agent-task.xml"));
}

/// A folder that another user has made below %ProgramData% becomes the administrators' own and loses every right that
/// was given in it, before the service gets access: no call may be missing, and none may come earlier. The template
/// for doing it by hand makes the same calls.
#[test]
fn the_windows_service_takes_over_its_folder() {
    let calls = CLOSING_CALLS.map(|call| call.join(" "));
    let wanted = [
        "/setowner *S-1-5-32-544 /T /C /L /Q",
        "/reset /T /C /L /Q",
        r"/inheritance:r /grant:r *S-1-5-18:(OI)(CI)F *S-1-5-32-544:(OI)(CI)F NT SERVICE\wf0-agent:(OI)(CI)M",
    ];
    assert_eq!(calls, wanted);
    let template = include_str!("../../contrib/windows/wf0-agent-service.ps1");
    let by_hand = template
        .lines()
        .filter_map(|line| line.strip_prefix("icacls $folder "));
    let by_hand: Vec<_> = by_hand.map(|call| call.replace('\'', "")).collect();
    assert_eq!(by_hand, wanted);
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
