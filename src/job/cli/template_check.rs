//! Arguments that cannot work with the CLI they are for, found at start rather than at the first ticket.

use std::ffi::OsStr;

use super::{Known, find, known};
use crate::config::CliConfig;
use crate::domain::invocation::Template;

const STDIN: &str = "leave {prompt} out and the prompt goes to standard input";

/// What is wrong with the user's own arguments, and what works but could work better; each with what to do about it.
/// `path_variable`: where the program is looked for.
pub fn check(config: &CliConfig, path_variable: Option<&OsStr>) -> (Vec<String>, Vec<String>) {
    let program = find::program(&config.command, path_variable);
    let subject = Subject {
        known: known(&config.command),
        command: &config.command,
        is_shim: cfg!(windows) && program.is_some_and(|program| find::is_shim(&program)),
    };
    let settings = [
        ("CLI_ARGS_TEMPLATE", &config.args),
        ("CLI_OFFLINE_ARGS_TEMPLATE", &config.offline_args),
    ];
    let (mut wrong, mut risky) = (Vec::new(), Vec::new());
    for (name, template) in settings {
        let words = template.as_ref().map(Template::words).unwrap_or_default();
        let found = subject.wrong(words);
        if found.is_empty() {
            risky.extend(subject.risky(words).map(|why| format!("{name}: {why}")));
        }
        wrong.extend(found.into_iter().map(|why| format!("{name}: {why}")));
    }
    (wrong, risky)
}

struct Subject<'a> {
    known: &'static Known,
    command: &'a str,
    is_shim: bool,
}

impl Subject<'_> {
    /// With these no ticket could run.
    fn wrong(&self, words: &[String]) -> Vec<String> {
        let Self {
            known,
            command,
            is_shim,
        } = self;
        let mut wrong = Vec::new();
        let is_given = |option: &str| {
            words
                .iter()
                .any(|word| word.split('=').next() == Some(option))
        };
        for option in known.has_no.iter().filter(|option| is_given(option)) {
            wrong.push(format!(
                "{command} has no {option}: leave it out, the run starts in the repository anyway"
            ));
        }
        let line = words.join(" ").replace('=', " ");
        for (option, needed) in known
            .needs
            .iter()
            .filter(|(option, needed)| line.contains(option) && !is_given(needed))
        {
            wrong.push(format!(
                "{command} refuses {option} without {needed}: add that"
            ));
        }
        if *is_shim && words.iter().any(|word| word.contains("{prompt}")) {
            wrong.push(format!(
                "{command} is a .cmd file here, which can be given no more than one line: {STDIN}"
            ));
        }
        let Some(before) = before_the_prompt(words) else {
            return wrong;
        };
        let last_option = before.iter().rfind(|word| word.starts_with('-'));
        if let Some(option) = last_option.filter(|option| known.variadic.contains(&option.as_str()))
        {
            wrong.push(format!(
                "{command} takes {{prompt}} for one more value of {option}: put -- before it, or {STDIN}"
            ));
        }
        wrong
    }

    /// A prompt begins with `# `, and no value of a ticket is ever put where it would begin with a dash, so without `--`
    /// no ticket can make an option of it. It works; what is left is its size, and who can read it.
    fn risky(&self, words: &[String]) -> Option<String> {
        let before = before_the_prompt(words)?;
        let is_protected = before.iter().any(|word| word == "--");
        (!is_protected && self.known.is_safer_with_stdin).then(|| {
            format!(
                "{{prompt}} has no -- before it, and {} takes what begins with a dash for an option; no prompt does, but as an argument its size is limited and others on this machine can read it: {STDIN}",
                self.command
            )
        })
    }
}

/// The words before `{prompt}`, where it is a word of its own.
fn before_the_prompt(words: &[String]) -> Option<&[String]> {
    words
        .iter()
        .position(|word| word == "{prompt}")
        .map(|at| &words[..at])
}
