//! Text from elsewhere, made fit for one line.

use wf0_agent::domain::text::{escaped, for_terminal, one_line};

/// What comes from elsewhere becomes one line of bounded length that nothing can break out of.
#[test]
fn one_line_of_bounded_length() {
    let rows = [
        ("plain", "a b", 10, "a b"),
        ("spaces around", "  a\n", 10, "a"),
        ("line breaks", "a\nb\r\nc", 10, "a b  c"),
        ("terminal sequence", "a\u{1b}[2Jb", 10, "a [2Jb"),
        ("other controls", "a\u{7f}\u{85}\0b", 10, "a   b"),
        ("direction of writing", "a\u{202e}b\u{2066}c", 10, "a b c"),
        ("invisible", "a\u{200b}b\u{e0041}", 10, "a b "),
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

/// Nothing of a line acts on a terminal, and nothing in it is hidden or turned round (UAX #9).
#[test]
fn fit_for_a_terminal() {
    let rows = [
        ("indentation stays", "\ta  b", "\ta  b"),
        ("colours", "\u{1b}[31mred\u{1b}[0m", "red"),
        ("the cursor", "a\u{1b}[1;1Hb\rc\u{7}", "abc"),
        (
            "direction of writing",
            "if admin \u{202e}{ // \u{2066}",
            "if admin { // ",
        ),
        ("letters of any script", "日本語 עברית", "日本語 עברית"),
    ];
    for (label, text, wanted) in rows {
        assert_eq!(for_terminal(text), wanted, "{label}");
    }
}

/// JSON says the same, and nothing in it acts on a terminal or ends a line before its end.
#[test]
fn json_is_fit_for_a_terminal() {
    let value = serde_json::json!({"a": "b\u{9b}31m\u{85}\u{202e}\u{2028}\u{e0041}日本"});
    let json = escaped(&value.to_string());
    assert!(
        json.chars().all(|c| !c.is_control())
            && json.contains("\\u009b31m\\u0085\\u202e\\u2028\\udb40\\udc41日本"),
        "{json}"
    );
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&json).unwrap(),
        value
    );
}
