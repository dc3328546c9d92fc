//! What the CLI is started with: its arguments from `CLI_ARGS_TEMPLATE`, split once and filled in without a shell, and
//! the prompt.

use super::text::one_line;
use super::ticket::{Brief, Ticket};

/// The longest title, in characters. It may have to be one argument of a command line.
const TITLE_MAX: usize = 1000;

/// Arguments with placeholders. An unknown placeholder is an error at start, not at the first ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    words: Vec<Vec<Part>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Placeholder(&'static str),
}

const CWD: &str = "cwd";
const PROMPT: &str = "prompt";
const PROMPT_FILE: &str = "prompt_file";
const TICKET_ID: &str = "ticket_id";
const ROLE: &str = "role";
const TITLE: &str = "title";
const PLACEHOLDERS: [&str; 6] = [CWD, PROMPT, PROMPT_FILE, TICKET_ID, ROLE, TITLE];

/// The values of the placeholders in one run.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    pub cwd: &'a str,
    pub prompt: &'a str,
    pub prompt_file: &'a str,
    pub ticket_id: &'a str,
    pub role: &'a str,
    pub title: &'a str,
}

impl<'a> Values<'a> {
    fn get(&self, placeholder: &str) -> &'a str {
        match placeholder {
            CWD => self.cwd,
            PROMPT => self.prompt,
            PROMPT_FILE => self.prompt_file,
            TICKET_ID => self.ticket_id,
            ROLE => self.role,
            TITLE => self.title,
            _ => "",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("a quote is not closed")]
    Unbalanced,
    #[error("unknown placeholder {{{0}}}; known are {{{known}}}", known = PLACEHOLDERS.join("} {"))]
    Unknown(String),
}

/// An argument would begin with `-` because a value of the ticket does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the argument {0:?} would be taken for an option of the CLI")]
pub struct LooksLikeOption(pub String);

impl Template {
    /// Splits as a shell would (quotes, backslashes), expands nothing, and finds the placeholders. Braces around anything
    /// but a lower-case word are text, so that JSON can be an argument.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let words = shell_words::split(text).map_err(|_| TemplateError::Unbalanced)?;
        let words = words
            .iter()
            .map(|word| parts_of(word))
            .collect::<Result<_, _>>()?;
        Ok(Self { words })
    }

    /// Whether the prompt goes to standard input, because no placeholder takes it elsewhere.
    pub fn prompt_on_stdin(&self) -> bool {
        !self.has(PROMPT) && !self.has(PROMPT_FILE)
    }

    /// Whether the prompt is an argument, whose size the system limits.
    pub fn prompt_as_argument(&self) -> bool {
        self.has(PROMPT)
    }

    /// The arguments. A value is inserted as it is and never searched for placeholders: `{cwd}` in a title stays text.
    pub fn fill(&self, values: &Values<'_>) -> Result<Vec<String>, LooksLikeOption> {
        let words = self.words.iter();
        words.map(|word| fill_word(word, values)).collect()
    }

    /// The words with their placeholders.
    pub(crate) fn words(&self) -> Vec<String> {
        let shown = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Placeholder(name) => format!("{{{name}}}"),
        };
        let word = |parts: &Vec<Part>| parts.iter().map(shown).collect();
        self.words.iter().map(word).collect()
    }

    fn has(&self, placeholder: &'static str) -> bool {
        let part = Part::Placeholder(placeholder);
        self.words.iter().any(|parts| parts.contains(&part))
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
                let Some(known) = PLACEHOLDERS.into_iter().find(|known| *known == name) else {
                    return Err(TemplateError::Unknown(name.to_owned()));
                };
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                }
                parts.push(Part::Placeholder(known));
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
            Part::Placeholder(name) => filled.push_str(values.get(name)),
        }
    }
    let own_dash = matches!(word.first(), Some(Part::Text(text)) if text.starts_with('-'));
    if filled.starts_with('-') && !own_dash {
        Err(LooksLikeOption(filled))
    } else {
        Ok(filled)
    }
}

/// The prompt: a heading, the ticket's facts, the subagent's prompt, the description, the skills.
///
/// It begins with `#`, because a CLI would take `-` for an option, and some take `/` for one of their own commands and
/// do nothing. NUL is replaced, because no argument can hold it.
pub fn prompt(ticket: &Ticket, brief: &Brief) -> String {
    let title = title_line(brief);
    let mut prompt = match title.as_str() {
        "" => format!("# Ticket {}\n\n", ticket.id),
        title => format!("# Ticket {}: {title}\n\n", ticket.id),
    };
    let (role, repo) = (&ticket.role, ticket.repo.describe());
    prompt.push_str(&format!("- Role: {role}\n- Repository: {repo}\n"));
    if let Some(branch) = &ticket.branch {
        prompt.push_str(&format!(
            "- Branch: {branch}, checked out; it is pushed when you are done\n"
        ));
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

/// The title as one line that begins neither with `-` nor with `/`, so that it can be an argument.
pub fn title_line(brief: &Brief) -> String {
    let title = one_line(brief.title.as_deref().unwrap_or_default(), TITLE_MAX);
    title
        .trim_start_matches(|c: char| c == '-' || c == '/' || c.is_whitespace())
        .to_owned()
}

fn section(prompt: &mut String, heading: &str, body: &str) {
    let body = body.trim_matches('\n');
    if !body.trim().is_empty() {
        prompt.push_str(&format!("\n## {heading}\n\n{body}\n"));
    }
}
