//! Text from elsewhere, made fit for one line of a log or a message.

/// Control characters become spaces, so that nothing can look like a line of its own; at most `max` characters.
pub fn one_line(text: &str, max: usize) -> String {
    let mut chars = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut line: String = chars.by_ref().take(max).collect();
    if chars.next().is_some() {
        line.push('…');
    }
    line
}
