//! The words of a ticket: ids, roles, codes.

use wf0_agent::domain::ticket::{FailCode, Role, StopReason, TicketId};

/// A ticket id is 1 to 128 of `A-Z a-z 0-9 . _ : -`, and nothing else is one.
#[test]
fn ticket_ids() {
    let longest = "x".repeat(128);
    let too_long = "x".repeat(129);
    let good = [
        "a",
        "TEAM-1",
        "a.b_c:d-e",
        "0",
        "..",
        "-p",
        ":",
        longest.as_str(),
    ];
    let bad = [
        "",
        " ",
        "a b",
        "a/b",
        "a\\b",
        "a\n",
        "a\0",
        "é",
        "a%",
        "../x",
        "a;b",
        "{cwd}",
        "\u{FF21}",
        too_long.as_str(),
    ];
    for text in good {
        assert_eq!(
            TicketId::parse(text).map(|id| id.as_str().to_owned()),
            Ok(text.to_owned()),
            "{text:?}"
        );
    }
    for text in bad {
        assert!(TicketId::parse(text).is_err(), "{text:?}");
    }
}

/// The long form of a role is the same role, in any case and with spaces around.
#[test]
fn roles() {
    let longest = "x".repeat(32);
    let rows = [
        ("dev", Some("dev")),
        ("dev_agent", Some("dev")),
        ("QA", Some("qa")),
        (" qa_agent ", Some("qa")),
        ("Dev_Agent", Some("dev")),
        ("front-end_2", Some("front-end_2")),
        (longest.as_str(), Some(longest.as_str())),
        ("", None),
        ("_agent", None),
        (" ", None),
        ("dev qa", None),
        ("dev/qa", None),
        ("dév", None),
        ("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", None),
    ];
    for (text, wanted) in rows {
        assert_eq!(
            Role::parse(text).ok().as_ref().map(Role::as_str),
            wanted,
            "{text:?}"
        );
    }
}

/// Each code has its name and its word on whether another try may help, as docs/protocol.md section 3 says.
#[test]
fn fail_codes() {
    let rows = [
        (FailCode::Timeout, "timeout", false),
        (FailCode::CliExit, "cli_exit", false),
        (FailCode::CliNotFound, "cli_not_found", true),
        (FailCode::SpawnFailed, "spawn_failed", true),
        (FailCode::RepoNotAllowed, "repo_not_allowed", true),
        (FailCode::RoleNotAllowed, "role_not_allowed", true),
        (FailCode::AtCapacity, "at_capacity", true),
        (FailCode::InvalidTicket, "invalid_ticket", false),
        (FailCode::PayloadUnavailable, "payload_unavailable", true),
        (FailCode::Cancelled, "cancelled", false),
        (FailCode::AgentShutdown, "agent_shutdown", true),
        (FailCode::Internal, "internal", true),
    ];
    for (code, name, retryable) in rows {
        assert_eq!(
            (code.to_string(), code.is_retryable()),
            (name.to_owned(), retryable)
        );
    }
    assert_eq!(StopReason::Cancelled.failure().code, FailCode::Cancelled);
    assert_eq!(StopReason::Shutdown.failure().code, FailCode::AgentShutdown);
}
