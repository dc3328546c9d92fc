//! The command line for the CLI: `CLI_ARGS_TEMPLATE`, split once and filled in without any shell.

use std::fmt;

/// Arguments with placeholders. Only known ones: an unknown one is an error at start, not at the first ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    words: Vec<Vec<Part>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Slot(Slot),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Cwd,
    Prompt,
    PromptFile,
    TicketId,
    Role,
    Title,
}

const SLOTS: [(&str, Slot); 6] = [
    ("cwd", Slot::Cwd),
    ("prompt", Slot::Prompt),
    ("prompt_file", Slot::PromptFile),
    ("ticket_id", Slot::TicketId),
    ("role", Slot::Role),
    ("title", Slot::Title),
];

/// What the placeholders stand for in one run.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    pub cwd: &'a str,
    pub prompt: &'a str,
    pub prompt_file: &'a str,
    pub ticket_id: &'a str,
    pub role: &'a str,
    pub title: &'a str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateError {
    Unbalanced,
    Unknown(String),
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unbalanced => f.write_str("a quote is not closed"),
            Self::Unknown(name) => {
                write!(f, "unknown placeholder {{{name}}}; known are")?;
                SLOTS
                    .iter()
                    .try_for_each(|(name, _)| write!(f, " {{{name}}}"))
            }
        }
    }
}

/// An argument that the CLI would take for an option, because a value of the ticket begins with `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LooksLikeOption(pub String);

impl Template {
    /// Splits as a shell would (quotes, backslashes), expands nothing, and finds the placeholders.
    /// Braces around anything that is not a lower-case word are text, so JSON can be an argument.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let words = shell_words::split(text).map_err(|_| TemplateError::Unbalanced)?;
        let words = words
            .iter()
            .map(|word| parts_of(word))
            .collect::<Result<_, _>>()?;
        Ok(Self { words })
    }

    /// Whether the prompt goes to the CLI's standard input: so it does where no placeholder takes it elsewhere.
    pub fn prompt_on_stdin(&self) -> bool {
        !self.has(Slot::Prompt) && !self.has(Slot::PromptFile)
    }

    /// Whether the prompt is an argument, whose size the system limits.
    pub fn prompt_as_argument(&self) -> bool {
        self.has(Slot::Prompt)
    }

    /// The arguments. Values are put in as they are and never looked at again: a `{cwd}` within a title stays one.
    pub fn fill(&self, values: &Values<'_>) -> Result<Vec<String>, LooksLikeOption> {
        self.words
            .iter()
            .map(|word| fill_word(word, values))
            .collect()
    }

    /// The words as they stand, with the placeholders in them.
    pub fn words(&self) -> Vec<String> {
        let shown = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Slot(slot) => {
                let name = SLOTS
                    .iter()
                    .find(|(_, known)| known == slot)
                    .map_or("", |(name, _)| name);
                format!("{{{name}}}")
            }
        };
        self.words
            .iter()
            .map(|word| word.iter().map(shown).collect())
            .collect()
    }

    fn has(&self, slot: Slot) -> bool {
        self.words
            .iter()
            .flatten()
            .any(|part| *part == Part::Slot(slot))
    }
}

fn parts_of(word: &str) -> Result<Vec<Part>, TemplateError> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut rest = word;
    while let Some(open) = rest.find('{') {
        let (before, after) = rest.split_at(open);
        text.push_str(before);
        match after[1..].split_once('}') {
            Some((name, tail)) if is_placeholder(name) => {
                let slot = SLOTS.iter().find(|(known, _)| *known == name);
                let Some((_, slot)) = slot else {
                    return Err(TemplateError::Unknown(name.to_owned()));
                };
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                }
                parts.push(Part::Slot(*slot));
                rest = tail;
            }
            _ => {
                text.push('{');
                rest = &after[1..];
            }
        }
    }
    text.push_str(rest);
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
    Ok(parts)
}

fn is_placeholder(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

fn fill_word(word: &[Part], values: &Values<'_>) -> Result<String, LooksLikeOption> {
    let mut filled = String::new();
    for part in word {
        match part {
            Part::Text(text) => filled.push_str(text),
            Part::Slot(slot) => filled.push_str(value_of(*slot, values)),
        }
    }
    let own_dash = matches!(word.first(), Some(Part::Text(text)) if text.starts_with('-'));
    if filled.starts_with('-') && !own_dash {
        Err(LooksLikeOption(filled))
    } else {
        Ok(filled)
    }
}

fn value_of<'a>(slot: Slot, values: &Values<'a>) -> &'a str {
    match slot {
        Slot::Cwd => values.cwd,
        Slot::Prompt => values.prompt,
        Slot::PromptFile => values.prompt_file,
        Slot::TicketId => values.ticket_id,
        Slot::Role => values.role,
        Slot::Title => values.title,
    }
}
