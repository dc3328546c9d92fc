//! `wf0-agent man`: the man page, from the same tables as `--help`. The language is man(7).

use super::usage::{BRIEF, COMMANDS, EXIT_CODES, GENERAL};
use crate::config::settings::{SETTINGS, flag_of_name};

pub fn page() -> String {
    let mut page = format!(
        ".TH WF0\\-AGENT 1 \"\" \"wf0\\-agent {}\"\n",
        env!("CARGO_PKG_VERSION")
    );
    page += &format!(".SH NAME\nwf0\\-agent \\- {}\n", plain(BRIEF));
    page += ".SH SYNOPSIS\n.nf\n";
    for command in COMMANDS {
        page += &format!("{}\n", plain(&command.synopsis()));
    }
    page += ".fi\n.SH COMMANDS\n";
    for command in COMMANDS {
        page += &entry(command.word, &[], command.about);
        for switch in command.switches {
            page += &format!(
                ".RS\n{}.RE\n",
                option(switch.name, switch.short, None, switch.about)
            );
        }
    }
    page += ".SH OPTIONS\n";
    for general in GENERAL {
        page += &option(general.name, general.short, general.value, general.about);
    }
    page += ".SH SETTINGS\n";
    page += "As a flag, in the environment or in .env, the first that is there counts.\n";
    for setting in SETTINGS {
        let flag = setting
            .flag
            .then(|| format!("--{} {}", flag_of_name(setting.name), setting.value));
        let about = match setting.default {
            "" => setting.about.to_owned(),
            "required" => format!("{} (required)", setting.about),
            default => format!("{} (default: {default})", setting.about),
        };
        page += &entry(
            &format!("{}={}", setting.name, setting.value),
            flag.as_slice(),
            &about,
        );
    }
    page += ".SH ENVIRONMENT\n";
    page += &entry("NO_COLOR", &[], "set to anything: no colours at a terminal");
    page += ".SH EXIT STATUS\n";
    for (code, meaning) in EXIT_CODES {
        page += &entry(&code.to_string(), &[], meaning);
    }
    page + ".SH SEE ALSO\n"
        + &plain("README.md, SECURITY.md and docs/ in the archive of the release")
        + "\n"
}

fn option(name: &str, short: Option<char>, value: Option<&str>, about: &str) -> String {
    let short = short.map(|short| format!("-{short}, ")).unwrap_or_default();
    let value = value.map(|value| format!(" {value}")).unwrap_or_default();
    entry(&format!("{short}--{name}{value}"), &[], about)
}

/// A name in bold, further names for the same below it, and what it is.
fn entry(name: &str, further: &[String], about: &str) -> String {
    let mut text = format!(".TP\n.B {}\n", plain(name));
    for name in further {
        text += &format!(".TQ\n.B {}\n", plain(name));
    }
    text + &plain(about) + "\n"
}

/// Text that roff takes for text: no escape, no request at the start of a line, no dash that is not one.
fn plain(text: &str) -> String {
    let text = text
        .replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq")
        .replace('`', "\\(ga");
    if text.starts_with('.') {
        format!("\\&{text}")
    } else {
        text
    }
}
