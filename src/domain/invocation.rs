//! The CLI's arguments and its prompt. `CLI_ARGS_TEMPLATE` is split once, and filled in without a shell.

use super::text::one_line;
use super::ticket::{Brief, Ticket};

/// The longest title, in characters. The title may be an argument of the CLI, and an argument has a size limit.
const TITLE_MAX: usize = 1000;

/// The words of `CLI_ARGS_TEMPLATE`, with placeholders. An unknown placeholder is an error at start, not at the first
/// ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<String>);

/// The values of the placeholders in one run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Values<'a> {
    pub cwd: &'a str,
    pub prompt: &'a str,
    pub prompt_file: &'a str,
    pub ticket_id: &'a str,
    pub role: &'a str,
    pub title: &'a str,
}

impl<'a> Values<'a> {
    fn get(&self, placeholder: &str) -> Result<&'a str, TemplateError> {
        match placeholder {
            "cwd" => Ok(self.cwd),
            "prompt" => Ok(self.prompt),
            "prompt_file" => Ok(self.prompt_file),
            "ticket_id" => Ok(self.ticket_id),
            "role" => Ok(self.role),
            "title" => Ok(self.title),
            unknown => Err(TemplateError::Unknown(unknown.to_owned())),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("a quote is not closed")]
    Unbalanced,
    #[error(
        "unknown placeholder {{{0}}}; known are {{cwd}} {{prompt}} {{prompt_file}} {{ticket_id}} {{role}} {{title}}"
    )]
    Unknown(String),
    /// The argument begins with `-` only because a value of the ticket does.
    #[error("the CLI would take the argument {0:?} for an option")]
    LooksLikeOption(String),
}

impl Template {
    /// Splits the text like a shell (quotes, backslashes), but expands nothing.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let words = shell_words::split(text).map_err(|_| TemplateError::Unbalanced)?;
        for word in &words {
            fill_word(word, &Values::default())?;
        }
        Ok(Self(words))
    }

    /// Whether the prompt goes to standard input, because no placeholder takes it elsewhere.
    pub fn prompt_on_stdin(&self) -> bool {
        !self.prompt_as_argument() && !self.has("{prompt_file}")
    }

    /// Whether the prompt is an argument, whose size the system limits.
    pub fn prompt_as_argument(&self) -> bool {
        self.has("{prompt}")
    }

    fn has(&self, placeholder: &str) -> bool {
        self.0.iter().any(|word| word.contains(placeholder))
    }

    /// Fills in the placeholders and returns the arguments.
    pub fn fill(&self, values: &Values<'_>) -> Result<Vec<String>, TemplateError> {
        let fill = |word: &String| {
            let filled = fill_word(word, values)?;
            match filled.starts_with('-') && !word.starts_with('-') {
                true => Err(TemplateError::LooksLikeOption(filled)),
                false => Ok(filled),
            }
        };
        self.0.iter().map(fill).collect()
    }

    /// The words with their placeholders.
    pub(crate) fn words(&self) -> &[String] {
        &self.0
    }
}

/// Replaces the placeholders of a word. A value is never searched for placeholders: `{cwd}` in a title stays text. Braces
/// around anything but a lower-case word stay text too: an argument may be JSON.
fn fill_word(word: &str, values: &Values<'_>) -> Result<String, TemplateError> {
    let mut filled = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        match after.split_once('}') {
            Some((name, tail)) if is_placeholder(name) => {
                filled.push_str(values.get(name)?);
                rest = tail;
            }
            _ => {
                filled.push('{');
                rest = after;
            }
        }
    }
    filled.push_str(rest);
    Ok(filled)
}

fn is_placeholder(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

/// The prompt: a heading, the ticket's facts, the subagent's prompt, the description, the skills.
///
/// The prompt begins with `#`. A CLI would take one that begins with `-` for an option. Some CLIs take one that begins
/// with `/` for a command of their own and do nothing. No argument can hold a NUL, so it is replaced.
pub fn prompt(ticket: &Ticket, brief: &Brief) -> String {
    let title = title_line(brief);
    let mut prompt = match title.as_str() {
        "" => format!("# Ticket {}\n\n", ticket.id),
        title => format!("# Ticket {}: {title}\n\n", ticket.id),
    };
    let (role, repo) = (&ticket.role, ticket.repo.describe());
    prompt.push_str(&format!("- Role: {role}\n- Repository: {repo}\n"));
    if let Some(branch) = &ticket.branch {
        let end = "checked out; it is pushed when you are done";
        prompt.push_str(&format!("- Branch: {branch}, {end}\n"));
    }
    if let Some(subagent) = &brief.subagent {
        section(&mut prompt, "Instructions", &subagent.prompt);
    }
    if let Some(description) = &brief.description {
        section(&mut prompt, "Description", description);
    }
    for skill in &brief.skills {
        if let Some(body) = &skill.body {
            let heading = format!("Skill: {}", one_line(&skill.slug, TITLE_MAX));
            section(&mut prompt, &heading, body);
        }
    }
    prompt.replace('\0', "\u{FFFD}")
}

/// The title as one line that can be an argument: it begins neither with `-` nor with `/`.
pub fn title_line(brief: &Brief) -> String {
    let title = one_line(brief.title.as_deref().unwrap_or_default(), TITLE_MAX);
    let is_left_out = |c: char| c == '-' || c == '/' || c.is_whitespace();
    title.trim_start_matches(is_left_out).to_owned()
}

fn section(prompt: &mut String, heading: &str, body: &str) {
    let body = body.trim_matches('\n');
    if !body.trim().is_empty() {
        prompt.push_str(&format!("\n## {heading}\n\n{body}\n"));
    }
}
