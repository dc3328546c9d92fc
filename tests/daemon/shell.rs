//! What the shell is given: completions and the man page, from the definition that the arguments are read by.

use std::process::Command;

use crate::support::agent::Launch;
use crate::support::world::World;

fn printed(args: &[&str]) -> String {
    let world = World::new();
    let ended = args
        .iter()
        .fold(Launch::new(world.dir.path()), |launch, arg| launch.arg(arg))
        .output();
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{args:?}");
    ended.stdout
}

/// The words that bash offers once that has been typed; `=` is a word of its own, as it is to bash.
fn bash_offers(typed: &[&str]) -> Vec<String> {
    let script = printed(&["completions", "bash"]);
    let ask = r#"COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); compopt() { :; }; _wf0_agent; printf '%s\n' "${COMPREPLY[@]}""#;
    let script = format!("{script}\n{ask}");
    let words = ["-c", &script, "bash", "wf0-agent"]
        .into_iter()
        .chain(typed.iter().copied());
    let output = Command::new("bash").args(words).output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// bash completes commands, a command's own options, the values of options, and operands.
#[test]
fn bash_completes_what_can_be_said() {
    let table: [(&[&str], &[&str]); 11] = [
        (&["sh"], &["show"]),
        (&["show", "T-1", "--d"], &["--drain-seconds", "--diff"]),
        (&["logs", "T-1", "--fo"], &["--follow"]),
        (&["--qui"], &["--quiet"]),
        (&["doctor", "--qui"], &[""]),
        (&["completions", "f"], &["fish"]),
        (&["--log-level", "d"], &["debug"]),
        (&["--log-level", "=", "d"], &["debug"]),
        (
            &["--log-level", "="],
            &["error", "warn", "info", "debug", "trace"],
        ),
        (&["--state-dir", "/tmp", "doctor", "--j"], &["--json"]),
        (&["--state-dir", "=", "/tmp", "doctor", "--j"], &["--json"]),
    ];
    for (typed, offered) in table {
        assert_eq!(bash_offers(typed), offered, "{typed:?}");
    }
    assert!(bash_offers(&["apply", "T-1", "/et"]).contains(&"/etc".to_owned()));
}

/// Every command and every option of `--help` is in the completions of every shell and in the man page.
#[test]
fn nothing_is_missing_for_any_shell() {
    let help = printed(&["--help"]);
    let mut names: Vec<&str> = help
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("--"))
        .collect();
    names.retain(|name| !name.contains('<'));
    assert!(
        names.len() > 30 && names.contains(&"state-dir"),
        "{names:?}"
    );
    let commands: Vec<&str> = help
        .lines()
        .filter_map(|line| line.strip_prefix("  wf0-agent "))
        .collect();
    let commands: Vec<&str> = commands
        .iter()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(
        commands.len() > 7 && commands.contains(&"doctor"),
        "{commands:?}"
    );
    for args in [
        ["completions", "bash"],
        ["completions", "zsh"],
        ["completions", "fish"],
        ["completions", "powershell"],
    ] {
        let script = printed(&args);
        for name in &names {
            let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric());
            assert!(script.contains(name), "{name} is not in {args:?}");
        }
        for command in &commands {
            let command = command.trim_matches(|c: char| !c.is_ascii_alphanumeric());
            assert!(
                script.contains(command) || command == "COMMAND",
                "{command} is not in {args:?}"
            );
        }
    }
}

/// The man page has every setting with its default, every command and every exit code, and no character that roff takes
/// for its own.
#[test]
fn the_man_page_is_complete() {
    let page = printed(&["man"]);
    for name in [
        "REPO_PATHS=LIST",
        "MAX_STDOUT_BYTES=BYTES",
        "(default: 1048576)",
        "\\-\\-follow",
        ".B 78",
        ".B apply",
    ] {
        assert!(page.contains(name), "{name} is not in:\n{page}");
    }
    let requests = [".TH", ".SH", ".TP", ".TQ", ".B", ".nf", ".fi", ".RS", ".RE"];
    for line in page.lines() {
        let is_request = requests
            .iter()
            .any(|request| line.split(' ').next() == Some(request));
        assert!(
            is_request || !line.starts_with(['.', '\'']),
            "roff would take this for a request: {line}"
        );
        assert!(line.is_ascii(), "{line}");
    }
}

/// What no command takes is refused with the command that does, and what a command needs is asked for.
#[test]
fn wrong_arguments_are_explained() {
    let table: [(&[&str], &str); 8] = [
        (
            &["doctor", "--follow"],
            "--follow belongs to logs, not to doctor",
        ),
        (
            &["show", "T-1", "--diff", "--prompt"],
            "show takes one of --prompt, --stdout, --diff",
        ),
        (&["show"], "which ticket?"),
        (
            &["completions", "csh"],
            "\"csh\" is not one of bash, zsh, fish, powershell",
        ),
        (&["completions"], "for which shell?"),
        (&["dctor"], "unknown command \"dctor\""),
        (&["doctor", "more"], "unexpected argument \"more\""),
        (&["-x"], "invalid option '-x'"),
    ];
    let world = World::new();
    for (args, why) in table {
        let ended = args
            .iter()
            .fold(Launch::new(world.dir.path()), |launch, arg| launch.arg(arg))
            .output();
        assert_eq!(ended.code, 2, "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(why), "{args:?}: {ended:?}");
    }
    assert!(printed(&["show", "--help"]).contains("--diff"));
    assert!(printed(&["help", "logs"]).contains("--follow"));
}
