//! Text from elsewhere, made fit for one line.

use wf0_agent::domain::text::one_line;

/// What comes from elsewhere becomes one line of bounded length that nothing can break out of.
#[test]
fn one_line_of_bounded_length() {
    let rows = [
        ("plain", "a b", 10, "a b"),
        ("spaces around", "  a\n", 10, "a"),
        ("line breaks", "a\nb\r\nc", 10, "a b  c"),
        ("terminal sequence", "a\u{1b}[2Jb", 10, "a [2Jb"),
        ("other controls", "a\u{7f}\u{85}\0b", 10, "a   b"),
        ("just as long", "abc", 3, "abc"),
        ("one more", "abcd", 3, "abc…"),
        ("counted in characters", "日本語", 2, "日本…"),
        ("empty", "", 3, ""),
        ("nothing wanted", "abc", 0, "…"),
    ];
    for (label, text, max, wanted) in rows {
        assert_eq!(one_line(text, max), wanted, "{label}");
    }
}
