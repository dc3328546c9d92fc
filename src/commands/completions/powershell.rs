//! For PowerShell, of Windows and elsewhere.

use super::{Flag, common, own};
use crate::commands::usage::{COMMANDS, Command};
use crate::config::settings::Kind;

const HEAD: &str = "\
# Completions of wf0-agent for PowerShell. Install:
#   wf0-agent completions powershell >> $PROFILE

Register-ArgumentCompleter -Native -CommandName 'wf0-agent', 'wf0-agent.exe' -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $common = @(
";

const MIDDLE: &str = r#"
    $valued = @($common | Where-Object { $_.Value } | ForEach-Object { $_.Name })
    # The words before the one that is being completed.
    $before = @($commandAst.CommandElements | Select-Object -Skip 1 |
        Where-Object { $_.Extent.EndOffset -lt $cursorPosition } | ForEach-Object { $_.Extent.Text })
    $command = $null
    $operands = 0
    for ($at = 0; $at -lt $before.Count; $at++) {
        if ($valued -contains $before[$at]) { $at++ }
        elseif ($before[$at].StartsWith('-')) { }
        elseif ($null -eq $command) { $command = $before[$at] }
        else { $operands++ }
    }
    $last = if ($before.Count) { $before[-1] } else { '' }
    $asked = @($common | Where-Object { $_.Name -eq $last -and $_.Value })
    $found = if ($asked.Count) {
        if ($asked[0].Choices) { $asked[0].Choices | ForEach-Object { @{ Name = $_; About = $_ } } } else { return }
    } elseif ($wordToComplete.StartsWith('-')) {
        $key = if ($null -eq $command) { '@first@' } else { $command }
        $common + @($own[$key])
    } elseif ($null -eq $command) {
        $commands
    } else {
        $choices = $operandsOf["${command}:$operands"]
        if ($choices) { $choices | ForEach-Object { @{ Name = $_; About = $_ } } } else { return }
    }
    $found | Where-Object { $_ -and $_.Name -like "$wordToComplete*" } | ForEach-Object {
        [System.Management.Automation.CompletionResult]::new($_.Name, $_.Name, 'ParameterValue', $_.About)
    }
}
"#;

pub fn script() -> String {
    let mut text = HEAD.to_owned();
    text.extend(
        common()
            .iter()
            .flat_map(entries)
            .map(|entry| format!("        {entry}\n")),
    );
    text += "    )\n    $own = @{\n";
    for command in COMMANDS {
        let own: Vec<_> = own(command).iter().flat_map(entries).collect();
        text += &format!("        {} = @({})\n", quoted(command.word), own.join("; "));
    }
    text += "    }\n    $commands = @(\n";
    for Command { word, brief, .. } in COMMANDS {
        text += &format!(
            "        @{{ Name = {}; About = {} }}\n",
            quoted(word),
            quoted(brief)
        );
    }
    text += "    )\n    $operandsOf = @{\n";
    for command in COMMANDS {
        for (at, operand) in command.operands.iter().enumerate() {
            if let Kind::OneOf(choices) = operand.kind {
                text += &format!("        '{}:{at}' = {}\n", command.word, list(choices));
            }
        }
    }
    text + "    }" + &MIDDLE.replace("@first@", COMMANDS[0].word)
}

/// One for the long name, one for the short.
fn entries(flag: &Flag) -> Vec<String> {
    let value = flag
        .value
        .map(|(name, _)| format!("; Value = {}", quoted(name)))
        .unwrap_or_default();
    let choices = match flag.value {
        Some((_, Kind::OneOf(choices))) => format!("; Choices = {}", list(choices)),
        _ => String::new(),
    };
    let entry = |name: String| {
        format!(
            "@{{ Name = {}; About = {}{value}{choices} }}",
            quoted(&name),
            quoted(flag.about)
        )
    };
    let short = flag.short.map(|short| entry(format!("-{short}")));
    [entry(format!("--{}", flag.name))]
        .into_iter()
        .chain(short)
        .collect()
}

fn list(choices: &[&str]) -> String {
    format!(
        "@({})",
        choices
            .iter()
            .map(|choice| quoted(choice))
            .collect::<Vec<_>>()
            .join(", ")
    )
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
