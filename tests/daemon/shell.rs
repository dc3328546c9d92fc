//! What the shell is given: the errors of the command line, completions and man pages.

use std::fs;
use std::process::Command;

use crate::support::agent::{Ended, Launch};
use crate::support::world::World;

#[path = "../../scripts/completions.rs"]
#[expect(dead_code, reason = "its main function is the example's")]
mod completions;

fn run(args: &[&str]) -> Ended {
    let world = World::new();
    let launch = Launch::new(world.dir.path());
    args.iter()
        .fold(launch, |launch, arg| launch.arg(arg))
        .output()
}

fn printed(args: &[&str]) -> String {
    let ended = run(args);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{args:?}");
    ended.stdout
}

/// The content of a file that `scripts/completions.rs` writes.
fn written(name: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    completions::write_all(folder.path()).unwrap();
    fs::read_to_string(folder.path().join(name)).unwrap()
}

/// The words that bash offers once that has been typed.
fn bash_offers(script: &str, typed: &[&str]) -> Vec<String> {
    let ask = r#"COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); compopt() { [ "$2" != plusdirs ] || echo folders; }
        $(complete -p wf0-agent | sed 's/.*-F \([^ ]*\).*/\1/') wf0-agent "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
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
    let script = written("completions/wf0-agent.bash");
    let table: [(&[&str], &[&str]); 9] = [
        (&["sh"], &["show"]),
        (&["show", "T-1", "--d"], &["--diff", "--drain-seconds"]),
        (&["logs", "T-1", "--fo"], &["--follow"]),
        (&["--qui"], &["--quiet"]),
        (&["doctor", "--qui"], &[""]),
        (&["service", "un"], &["uninstall"]),
        (&["--log-level", "d"], &["debug"]),
        (
            &["--log-level", ""],
            &["error", "warn", "info", "debug", "trace"],
        ),
        (&["--state-dir", "/tmp", "doctor", "--j"], &["--json"]),
    ];
    for (typed, offered) in table {
        assert_eq!(bash_offers(&script, typed), offered, "{typed:?}");
    }
    let files = bash_offers(&script, &["--env-file", "/et"]);
    assert!(files.contains(&"/etc".to_owned()), "{files:?}");
    let folders = bash_offers(&script, &["--state-dir", "/et"]);
    assert!(folders.contains(&"folders".to_owned()), "{folders:?}");
}

/// Every command and every option of `--help` is in the completions of every shell and in the man page.
#[test]
fn nothing_is_missing_for_any_shell() {
    let help = printed(&["--help"]);
    let words = help.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    let flags: Vec<&str> = words.filter_map(|word| word.strip_prefix("--")).collect();
    assert!(
        flags.len() > 30 && flags.contains(&"state-dir"),
        "{flags:?}"
    );
    let commands = help.split("Commands:\n").nth(1).unwrap();
    let commands = commands.split("\n\n").next().unwrap().lines();
    let commands: Vec<&str> = commands
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(
        commands.len() > 7 && commands.contains(&"doctor"),
        "{commands:?}"
    );
    for file in [
        "completions/wf0-agent.bash",
        "completions/_wf0-agent",
        "completions/wf0-agent.fish",
        "completions/wf0-agent.ps1",
        "man/wf0-agent.1",
    ] {
        let script = written(file).replace("\\-", "-");
        for name in flags.iter().chain(&commands) {
            assert!(script.contains(name), "{name} is not in {file}");
        }
    }
}

/// The man page has every setting with its default, every command and every exit code; each command has a page too.
#[test]
fn the_man_page_is_complete() {
    let page = written("man/wf0-agent.1").replace("\\-", "-");
    for name in [
        "--repo-paths",
        "[env: MAX_STDOUT_BYTES] [default: 1048576]",
        "wf0-agent-apply(1)",
        "78  wrong settings",
    ] {
        assert!(page.contains(name), "{name} is not in:\n{page}");
    }
    assert!(
        written("man/wf0-agent-logs.1")
            .replace("\\-", "-")
            .contains("--follow")
    );
}

/// One line says what is wrong, and what may have been meant.
#[test]
fn wrong_arguments_are_explained() {
    let table: [(&[&str], &str); 9] = [
        (&["doctor", "--follow"], "unexpected argument '--follow'"),
        (
            &["show", "T-1", "--diff", "--prompt"],
            "'--diff' cannot be used with '--prompt'",
        ),
        (&["show"], "not provided: <TICKET>"),
        (
            &["service", "strt"],
            "invalid value 'strt' for '<ACTION>' [possible values: install, uninstall, status]",
        ),
        (&["service"], "not provided: <ACTION>"),
        (&["dctor"], "a similar subcommand exists: 'doctor'"),
        (
            &["--repo-path", "/"],
            "a similar argument exists: '--repo-paths'",
        ),
        (&["doctor", "more"], "unexpected argument 'more'"),
        (&["-x"], "unexpected argument '-x'"),
    ];
    for (args, why) in table {
        let ended = run(args);
        assert_eq!(ended.code, 2, "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(why), "{args:?}: {ended:?}");
    }
    assert!(printed(&["show", "--help"]).contains("--diff"));
    assert!(printed(&["help", "logs"]).contains("--follow"));
}
