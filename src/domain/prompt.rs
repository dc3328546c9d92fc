//! What the CLI is asked to do, in words.

use super::text::one_line;
use super::ticket::{Brief, Ticket};

/// A longer title is no title; it may have to stand as one argument of a command line.
const TITLE_MAX: usize = 1000;

/// The prompt: a heading, what the ticket is, the subagent's prompt, the description, the skills.
///
/// It always begins with `#`: never with `-`, which a CLI would take for an option, nor with `/`, which some
/// take for a command of their own and then do nothing. NUL, which no argument can hold, is replaced.
pub fn assemble(ticket: &Ticket, brief: &Brief) -> String {
    let title = title_line(brief);
    let mut prompt = match title.as_str() {
        "" => format!("# Ticket {}\n\n", ticket.id),
        title => format!("# Ticket {}: {title}\n\n", ticket.id),
    };
    prompt.push_str(&format!(
        "- Role: {}\n- Repository: {}\n",
        ticket.role,
        ticket.repo.describe()
    ));
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
            section(
                &mut prompt,
                &format!("Skill: {}", one_line(&skill.slug, TITLE_MAX)),
                body,
            );
        }
    }
    if prompt.contains('\0') {
        prompt.replace('\0', "\u{FFFD}")
    } else {
        prompt
    }
}

/// The title as one line that can stand as an argument: it begins neither with `-` nor with `/`.
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
