use super::{Cli, version_in, wrong_options};
use crate::config::{Autonomy, CliConfig};
use crate::domain::invocation::Template;
use crate::domain::quota::QuotaMessage;

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

fn wrong(config: &CliConfig) -> Vec<String> {
    let wrong = wrong_options(config);
    wrong.iter().map(ToString::to_string).collect()
}

/// An option that the CLI does not have is named with the setting and what to do instead.
#[test]
fn options_that_the_cli_does_not_have() {
    let rows = [
        ("claude", "--cwd {cwd} -p", true),
        ("/usr/local/bin/claude", "--cwd={cwd} -p", true),
        ("codex", "exec --cwd {cwd} -", true),
        ("claude", "-p --append-system-prompt 'say {role}'", false),
        ("claude", "-p --add-dir {cwd}", false),
        ("windsurf", "--cwd {cwd} -p {prompt}", false),
        ("cursor-agent", "-p {prompt}", false),
    ];
    for (command, args, is_wrong) in rows {
        for (name, config) in [
            ("CLI_ARGS_TEMPLATE", config(command, Some(args), None)),
            (
                "CLI_OFFLINE_ARGS_TEMPLATE",
                config(command, None, Some(args)),
            ),
        ] {
            let fix = "has no --cwd: leave it out; the run starts in the repository anyway";
            let wanted = [format!("{name}: {command} {fix}")];
            let wanted = if is_wrong { &wanted[..] } else { &[] };
            assert_eq!(wrong(&config), wanted, "{command} {args}");
        }
    }
    let both = config("claude", Some("--cwd {cwd} -p"), Some("--cwd x"));
    assert_eq!(wrong(&both).len(), 2, "all at once");
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
            let given = CliConfig {
                args: Some(args),
                ..usual
            };
            assert_eq!(
                wrong(&given),
                Vec::<String>::new(),
                "{command} {autonomy:?}"
            );
        }
    }
}

/// The version is the first word that looks like one.
#[test]
fn versions() {
    for (output, version) in [
        ("2.1.197 (Claude Code)\n", Some("2.1.197")),
        ("codex-cli 0.169.0\n", Some("0.169.0")),
        ("v1.2.3-beta\n", Some("1.2.3-beta")),
        ("no version\n", None),
        ("", None),
    ] {
        assert_eq!(version_in(output).as_deref(), version, "{output}");
    }
}
