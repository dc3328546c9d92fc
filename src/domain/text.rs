//! Text from elsewhere, made fit for one line of a log or a message.

/// Control characters, and what turns text round, become spaces, so that nothing can look like a line of its own or like
/// another text; at most `max` characters.
pub fn one_line(text: &str, max: usize) -> String {
    let mut chars = text.trim().chars().map(|c| {
        if c.is_control() || turns_text(c) {
            ' '
        } else {
            c
        }
    });
    let mut line: String = chars.by_ref().take(max).collect();
    if chars.next().is_some() {
        line.push('…');
    }
    line
}

/// Characters by which what is shown would not be what is there: directions of writing (UAX #9), and the invisible.
fn turns_text(c: char) -> bool {
    matches!(
        c,
        '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// JSON in which nothing acts on a terminal or ends a line: what JSON leaves as it is, escaped (RFC 8259 section 7).
pub fn escaped(json: &str) -> String {
    let mut plain = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_control() || turns_text(c) || matches!(c, '\u{2028}' | '\u{2029}') {
            c.encode_utf16(&mut [0; 2])
                .iter()
                .for_each(|unit| plain.push_str(&format!("\\u{unit:04x}")));
        } else {
            plain.push(c);
        }
    }
    plain
}

/// The end of a text as one line, without what terminals would act on.
pub fn last_lines(max: usize, text: &str) -> Option<String> {
    let mut start = text.len().saturating_sub(max);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let lines = plain_lines(&text[start..]).filter(|line| !line.is_empty());
    let joined = lines.collect::<Vec<_>>().join(" | ");
    (!joined.is_empty()).then_some(joined)
}

/// The lines of a text, fit for a terminal: nothing in them is acted upon.
pub fn plain_lines(text: &str) -> impl Iterator<Item = String> {
    text.lines()
        .map(|line| for_terminal(line).replace('\t', " ").trim().to_owned())
}

/// A line with its indentation, and without escape sequences (ECMA-48: ESC, `[`, parameters, a letter) and control
/// characters.
pub fn for_terminal(line: &str) -> String {
    let mut plain = String::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => {
                if chars.next() == Some('[') {
                    let _ = chars.by_ref().find(|c| ('@'..='~').contains(c));
                }
            }
            c if c.is_control() && c != '\t' || turns_text(c) => {}
            c => plain.push(c),
        }
    }
    plain
}
