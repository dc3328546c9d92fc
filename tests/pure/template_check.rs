//! Arguments that cannot work with a CLI are found at start.

use wf0_agent::config::{Autonomy, CliConfig};
use wf0_agent::domain::invocation::Template;
use wf0_agent::domain::quota::QuotaMessage;
use wf0_agent::job::cli::{Cli, check};

fn config(command: &str, args: Option<&str>, offline_args: Option<&str>) -> CliConfig {
    let template = |text: &str| Template::parse(text).unwrap();
    CliConfig {
        command: command.to_owned(),
        args: args.map(template),
        offline_args: offline_args.map(template),
        quota: QuotaMessage::default(),
        autonomy: Autonomy::Edits,
    }
}

/// What cannot work is named with the setting and what to do instead; what is a risk is only said.
#[test]
fn arguments_that_cannot_work() {
    let rows = [
        ("claude", "--cwd {cwd} -p", "has no --cwd", ""),
        (
            "/usr/local/bin/claude",
            "--cwd={cwd} -p",
            "has no --cwd",
            "",
        ),
        ("codex", "exec --cwd {cwd} -", "has no --cwd", ""),
        (
            "claude",
            "-p --allowedTools {prompt}",
            "one more value of --allowedTools",
            "",
        ),
        (
            "claude",
            "-p --allowedTools Bash Edit {prompt}",
            "one more value of --allowedTools",
            "",
        ),
        (
            "claude",
            "-p --add-dir /x {prompt}",
            "one more value of --add-dir",
            "",
        ),
        (
            "codex",
            "exec -i a.png {prompt}",
            "one more value of -i",
            "",
        ),
        (
            "claude",
            "-p --output-format stream-json",
            "without --verbose",
            "",
        ),
        (
            "claude",
            "-p --output-format=stream-json",
            "without --verbose",
            "",
        ),
        (
            "claude",
            "-p {prompt}",
            "",
            "others on this machine can read it",
        ),
        (
            "codex",
            "exec {prompt}",
            "",
            "others on this machine can read it",
        ),
        (
            "opencode",
            "run {prompt}",
            "",
            "others on this machine can read it",
        ),
        (
            "claude",
            "-p --allowedTools=Bash {prompt}",
            "",
            "others on this machine can read it",
        ),
        ("claude", "-p --allowedTools Bash -- {prompt}", "", ""),
        ("claude", "-p --allowedTools Bash", "", ""),
        ("claude", "-p --output-format stream-json --verbose", "", ""),
        ("claude", "-p --append-system-prompt 'say {role}'", "", ""),
        ("windsurf", "--cwd {cwd} -p {prompt}", "", ""),
        ("fake-cli", "--allowedTools {prompt}", "", ""),
        ("cursor-agent", "-p {prompt}", "", ""),
    ];
    for (command, args, wrong, risky) in rows {
        for (name, config) in [
            ("CLI_ARGS_TEMPLATE", config(command, Some(args), None)),
            (
                "CLI_OFFLINE_ARGS_TEMPLATE",
                config(command, None, Some(args)),
            ),
        ] {
            let (found_wrong, found_risky) = check(&config, None);
            for (found, wanted) in [(found_wrong, wrong), (found_risky, risky)] {
                assert_eq!(
                    found.len(),
                    usize::from(!wanted.is_empty()),
                    "{command} {args}: {found:?}"
                );
                let named =
                    |line: &String| line.starts_with(&format!("{name}: ")) && line.contains(wanted);
                assert!(found.iter().all(named), "{command} {args}: {found:?}");
            }
        }
    }
    let (wrong, _) = check(
        &config(
            "claude",
            Some("--cwd {cwd} -p"),
            Some("--cwd x --allowedTools {prompt}"),
        ),
        None,
    );
    assert_eq!(wrong.len(), 3, "all at once: {wrong:?}");
}

/// No default is among them, whatever the CLI may do, and only Cursor's takes the prompt as an argument.
#[test]
fn the_defaults_can_work() {
    for command in [
        "claude",
        "codex",
        "opencode",
        "gemini",
        "cursor-agent",
        "else",
    ] {
        for autonomy in [Autonomy::Edits, Autonomy::Commands, Autonomy::All] {
            let usual = CliConfig {
                autonomy,
                ..config(command, None, None)
            };
            let cli = Cli::from_config(&usual);
            let args = cli.args(false).clone();
            assert_eq!(
                args.prompt_on_stdin(),
                command != "cursor-agent",
                "{command}"
            );
            assert_eq!(cli.is_known(), command != "else");
            let found = check(
                &CliConfig {
                    args: Some(args),
                    ..usual
                },
                None,
            );
            assert_eq!(found, (vec![], vec![]), "{command} {autonomy:?}");
        }
    }
}
