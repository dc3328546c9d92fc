use super::{Excerpt, escaped, for_terminal, one_line};

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

/// Label, head, tail, total bytes, shown text.
type Row<'a> = (&'a str, &'a [u8], &'a [u8], u64, &'a str);

fn whole(text: &str) -> Excerpt {
    Excerpt::from_bytes(text.as_bytes(), b"", text.len() as u64)
}

/// A line between beginning and end says exactly how many bytes are missing.
#[test]
fn says_what_is_missing() {
    let rows: &[Row<'_>] = &[
        ("empty", b"", b"", 0, ""),
        ("all in the head", b"abc", b"", 3, "abc"),
        ("head and tail meet", b"abc", b"def", 6, "abcdef"),
        (
            "a gap",
            b"abc",
            b"xyz",
            100,
            "abc\n[… 94 bytes left out …]\nxyz",
        ),
        (
            "head ends its line",
            b"abc\n",
            b"xyz",
            100,
            "abc\n[… 93 bytes left out …]\nxyz",
        ),
        ("no head", b"", b"xyz", 100, "[… 97 bytes left out …]\nxyz"),
        (
            "no tail",
            b"abc",
            b"",
            100,
            "abc\n[… 97 bytes left out …]\n",
        ),
        ("nothing kept", b"", b"", 100, "[… 100 bytes left out …]\n"),
    ];
    for (label, head, tail, total, wanted) in rows {
        let excerpt = Excerpt::from_bytes(head, tail, *total);
        assert_eq!(excerpt.render(), *wanted, "{label}");
        assert_eq!(
            excerpt.is_cut(),
            *total > (head.len() + tail.len()) as u64,
            "{label}"
        );
    }
}

/// A character that the gap cuts in two is left out whole and counted; one that the joint only touches is kept.
#[test]
fn no_character_is_cut_in_two() {
    let rows: &[Row<'_>] = &[
        (
            "two bytes, head has one",
            b"a\xC3",
            b"b",
            10,
            "a\n[… 8 bytes left out …]\nb",
        ),
        (
            "three bytes, head has one",
            b"a\xE6",
            b"b",
            10,
            "a\n[… 8 bytes left out …]\nb",
        ),
        (
            "three bytes, head has two",
            b"a\xE6\x97",
            b"b",
            10,
            "a\n[… 8 bytes left out …]\nb",
        ),
        (
            "four bytes, head has three",
            b"a\xF0\x9F\x98",
            b"b",
            10,
            "a\n[… 8 bytes left out …]\nb",
        ),
        (
            "whole at the end of the head",
            "aé".as_bytes(),
            b"b",
            10,
            "aé\n[… 6 bytes left out …]\nb",
        ),
        (
            "four bytes, whole",
            "a\u{1F600}".as_bytes(),
            b"b",
            10,
            "a\u{1F600}\n[… 4 bytes left out …]\nb",
        ),
        (
            "tail begins with the last byte",
            b"a",
            b"\xA9b",
            10,
            "a\n[… 8 bytes left out …]\nb",
        ),
        (
            "tail begins with three bytes",
            b"a",
            b"\x9F\x98\x80b",
            10,
            "a\n[… 8 bytes left out …]\nb",
        ),
        (
            "tail begins whole",
            b"a",
            "éb".as_bytes(),
            10,
            "a\n[… 6 bytes left out …]\néb",
        ),
        (
            "only a part of a character",
            b"\xF0\x9F",
            b"\x80",
            10,
            "[… 10 bytes left out …]\n",
        ),
        ("no gap: the halves meet", b"a\xC3", b"\xA9b", 4, "aéb"),
    ];
    for (label, head, tail, total, wanted) in rows {
        assert_eq!(
            Excerpt::from_bytes(head, tail, *total).render(),
            *wanted,
            "{label}"
        );
    }
}

/// Bytes that are no UTF-8 are replaced, and never make the rest unreadable.
#[test]
fn invalid_bytes_are_replaced() {
    let rows: &[(&str, &[u8], &str)] = &[
        ("one byte", b"a\xFFb", "a\u{FFFD}b"),
        ("only such", b"\xFF\xFE", "\u{FFFD}\u{FFFD}"),
        ("stray continuation", b"a\x80b", "a\u{FFFD}b"),
        ("an end that is missing", b"a\xC3", "a\u{FFFD}"),
        ("overlong", b"\xC0\xAF", "\u{FFFD}\u{FFFD}"),
        ("surrogate", b"\xED\xA0\x80", "\u{FFFD}\u{FFFD}\u{FFFD}"),
        ("NUL stays", b"a\0b", "a\0b"),
    ];
    for (label, bytes, wanted) in rows {
        assert_eq!(
            Excerpt::from_bytes(bytes, b"", bytes.len() as u64).render(),
            *wanted,
            "{label}"
        );
    }
}

/// Shortening keeps the first quarter and the last three quarters of what may stay, and whole characters.
#[test]
fn shortening_keeps_a_quarter_and_three() {
    let rows = [
        ("not needed", "abcdefgh", 8, "abcdefgh"),
        ("more than enough", "abcdefgh", 100, "abcdefgh"),
        (
            "by one",
            "abcdefghi",
            8,
            "ab\n[… 1 bytes left out …]\ndefghi",
        ),
        ("to half", "abcdefgh", 4, "a\n[… 4 bytes left out …]\nfgh"),
        ("to one byte", "abcdefgh", 1, "[… 7 bytes left out …]\nh"),
        ("to nothing", "abcdefgh", 0, "[… 8 bytes left out …]\n"),
        (
            "within characters",
            "ééééé",
            8,
            "é\n[… 2 bytes left out …]\nééé",
        ),
        (
            "a character does not fit",
            "日本語文字",
            4,
            "[… 12 bytes left out …]\n字",
        ),
    ];
    for (label, text, max, wanted) in rows {
        let short = whole(text).shortened(max);
        assert_eq!(short.render(), wanted, "{label}");
        assert!(
            short.shown_len() <= max,
            "{label}: {} bytes are shown",
            short.shown_len()
        );
    }
}

/// Repeated shortening adds up the missing bytes and always ends.
#[test]
fn shortening_adds_up() {
    let text: String = (0..500)
        .map(|n| ['a', 'é', '語', '\u{1F600}'][n % 4])
        .collect();
    let mut excerpt = whole(&text);
    for max in (0..text.len()).rev() {
        excerpt = excerpt.shortened(max);
        assert!(excerpt.shown_len() <= max, "{max}");
        let rendered = excerpt.render();
        let missing = format!(
            "[… {} bytes left out …]\n",
            text.len() - excerpt.shown_len()
        );
        assert!(rendered.contains(&missing), "{max}: {rendered:?}");
    }
    assert!(excerpt.is_cut());
}

/// What a gap has parted is not joined by shortening: the beginning holds nothing of what came after the gap.
#[test]
fn shortening_never_closes_a_gap() {
    let rows: &[(&str, &[u8], &[u8], usize)] = &[
        ("a short beginning", b"AA", b"zzzzzzzzzzzzzzzzzzzzzz", 20),
        (
            "an end that grew when it was made text",
            b"AAAAAAAA",
            b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
            40,
        ),
    ];
    for (label, head, tail, max) in rows {
        let rendered = Excerpt::from_bytes(head, tail, 1000)
            .shortened(*max)
            .render();
        let (before, _) = rendered
            .split_once("\n[…")
            .unwrap_or_else(|| panic!("{label}: no gap: {rendered:?}"));
        assert!(before.chars().all(|c| c == 'A'), "{label}: {rendered:?}");
    }
}
