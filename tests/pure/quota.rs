//! When a failed run says that the quota is used up, until when, and how long that counts.

use std::time::{Duration, SystemTime};

use wf0_agent::domain::quota::{Exceeded, Quota, QuotaMessage};

const MINUTE: Duration = Duration::from_secs(60);

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn found(output: &str) -> Option<Option<SystemTime>> {
    QuotaMessage::default()
        .find(output)
        .map(|Exceeded { until }| until)
}

/// What the known CLIs print when the quota is used up is recognized.
#[test]
fn the_usual_words() {
    for output in [
        "You've hit your limit · resets 3pm (Europe/Berlin)",
        "You’ve reached your weekly limit",
        "You've hit your Opus limit",
        "ERROR: You've hit your usage limit. Upgrade to Pro or try again at 12:06 PM.",
        "You've reached your spend limit",
        "Claude usage limit reached. Your limit will reset at 11am.",
        "5-hour limit reached ∙ resets 9pm",
        "Weekly limit reached",
        "Session limit reached",
        "You're out of usage credits",
        "You’re out of extra usage · resets 11:58am (UTC)",
        "Your org is out of usage",
        "your workspace is out of credits",
        "Credit balance is too low",
        "Quota exceeded. Check your plan and billing details.",
        "You exceeded your current quota, please check your plan",
        "You have exhausted your daily quota on this model.",
        "you have exhausted your quota",
        r#"{"error":{"type":"insufficient_quota"}}"#,
        r#"{"error":{"type":"usage_limit_reached"}}"#,
        "TerminalQuotaError: ",
        "some lines before\nUSAGE LIMIT REACHED\nand one after\n",
    ] {
        assert_eq!(found(output), Some(None), "{output}");
    }
}

/// A moment of too many requests passes by itself, and an allowance is none used up.
#[test]
fn other_words() {
    for output in [
        "",
        "API Error: Request rejected (429)",
        "Server is temporarily limiting requests (not your usage limit)",
        "exceeded retry limit, last status: 429 Too Many Requests",
        "API Error: 529 Overloaded",
        "error: the test quota_is_kept failed",
        "you've hit your head on the\nlimit",
    ] {
        assert_eq!(found(output), None, "{output}");
    }
}

/// When the quota is back: what stands straight after the words; the last word counts.
#[test]
fn the_time() {
    for (output, wanted) in [
        (
            "Claude AI usage limit reached|1750000000".to_owned(),
            Some(at(1_750_000_000)),
        ),
        (
            "Claude AI usage limit reached|1750000000\n".to_owned(),
            Some(at(1_750_000_000)),
        ),
        (
            "usage limit reached|1750000000\nusage limit reached|1760000000".to_owned(),
            Some(at(1_760_000_000)),
        ),
        ("usage limit reached|soon".to_owned(), None),
        ("usage limit reached|17".to_owned(), None),
        (
            "usage limit reached|175000000012345678901234".to_owned(),
            None,
        ),
        ("usage limit reached 1750000000".to_owned(), None),
    ] {
        assert_eq!(found(&output), Some(wanted), "{output}");
    }
}

/// A CLI ends with its reason: the same words far before the end are those of something that it worked on.
#[test]
fn only_the_end_is_looked_at() {
    let words = "usage limit reached|1750000000\n";
    assert!(found(&format!("{words}{}", "x".repeat(10_000))).is_some());
    assert_eq!(found(&format!("{words}{}", "ü".repeat(10_000))), None);
    assert!(found(&format!("{}{words}", "ü".repeat(100_001))).is_some());
}

/// A pattern of the user's own replaces the usual words, in upper and lower case.
#[test]
fn a_pattern_of_ones_own() {
    let own = QuotaMessage::parse("no more (coins|fuel)").unwrap();
    for (output, is_one) in [
        ("NO MORE FUEL", true),
        ("no more coins|1750000000", true),
        ("usage limit reached", false),
    ] {
        assert_eq!(own.find(output).is_some(), is_one, "{output}");
    }
    assert_eq!(
        own.find("no more coins|1750000000")
            .and_then(|found| found.until),
        Some(at(1_750_000_000))
    );
    for (pattern, why) in [
        ("(", "is not a regular expression"),
        ("a*", "matches everything"),
    ] {
        let error = QuotaMessage::parse(pattern).expect_err(pattern);
        assert!(error.contains(why), "{error}");
    }
}

/// A time that the CLI named counts as it is, up to a month; one that has passed is none.
#[test]
fn a_named_time() {
    let now = at(1_000_000);
    for (told, wanted, is_told) in [
        (Some(now + 90 * MINUTE), now + 90 * MINUTE, true),
        (Some(at(u64::MAX >> 8)), now + 32 * 24 * 60 * MINUTE, true),
        (Some(now), now + 15 * MINUTE, false),
        (Some(at(0)), now + 15 * MINUTE, false),
        (None, now + 15 * MINUTE, false),
    ] {
        let mut quota = Quota::default();
        quota.mark_exceeded(now, told);
        assert_eq!(
            (quota.until, quota.is_told),
            (Some(wanted), is_told),
            "{told:?}"
        );
        assert_eq!(quota.available_at(), is_told.then_some(wanted), "{told:?}");
        assert!(!quota.end_wait(wanted - Duration::from_secs(1)));
        assert!(quota.end_wait(wanted) && !quota.is_exceeded(), "{told:?}");
        assert!(!quota.end_wait(wanted), "it is over once");
    }
}

/// A second run that finds out the same makes a guess no longer, and a named time counts for more than a guess.
#[test]
fn one_finding_is_one() {
    let now = at(1_000_000);
    let mut quota = Quota::default();
    quota.mark_exceeded(now, None);
    quota.mark_exceeded(now + MINUTE, None);
    assert_eq!((quota.until, quota.guesses), (Some(now + 15 * MINUTE), 1));
    quota.mark_exceeded(now + MINUTE, Some(now + 300 * MINUTE));
    assert_eq!(quota.available_at(), Some(now + 300 * MINUTE));
    quota.mark_exceeded(now + 2 * MINUTE, None);
    assert_eq!(
        quota.available_at(),
        Some(now + 300 * MINUTE),
        "a guess changes nothing about it"
    );
}

/// A clock that is set back by years does not take the agent away for years.
#[test]
fn a_clock_set_back() {
    let mut quota = Quota::default();
    quota.mark_exceeded(at(2_000_000_000), None);
    assert!(quota.end_wait(at(1_000_000_000)));
}
