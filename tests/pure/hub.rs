//! The wire format of the `hub` dialect (docs/protocol.md section 8).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use wf0_agent::config::Token;
use wf0_agent::domain::event::{Event, Order, Setback};
use wf0_agent::domain::message::{Capacity, Dialect, Heartbeat, Message, Register, Status};
use wf0_agent::domain::repos::{Branch, Repo, RepoRef};
use wf0_agent::domain::ticket::{
    Changes, DiffStat, Exit, FailCode, Failure, Outcome, Payload, Phase, Progress, Span, Ticket,
};
use wf0_agent::link::protocol::hub::{Codec, answer_to_auth, auth};
use wf0_agent::link::protocol::{Decoded, MAX_OUTBOUND};

use super::contract::{self, Side};
use super::support::{active, cli, done, id, repo, role};

fn codec() -> Codec {
    Codec::new(vec!["claude".to_owned(), "git".to_owned()])
}

fn encoded(message: &Message) -> Value {
    let frame = codec().encode(message);
    assert!(!frame.contains('\n'), "a frame is one line");
    let frame = serde_json::from_str(&frame).unwrap_or_else(|e| panic!("{e}: {frame}"));
    contract::check_frame(Dialect::Hub, Side::Agent, &frame).unwrap_or_else(|why| panic!("{why}"));
    frame
}

fn decode(frame: &Value) -> Decoded {
    codec().decode(&frame.to_string())
}

fn job(action: &str, payload: Value) -> Decoded {
    decode(&json!({"type": "job", "jobId": "J-1", "action": action, "payload": payload}))
}

/// The ticket that a job comes to.
fn ticket(action: &str, payload: Value) -> Ticket {
    match job(action, payload) {
        Decoded::Event(Event::Backend(Order::Assigned(ticket))) => *ticket,
        other => panic!("{action}: {other:?}"),
    }
}

fn unusable(decoded: Decoded) -> Option<String> {
    match decoded {
        Decoded::Event(Event::Backend(Order::Unusable(own, 1, why))) if own == id("J-1") => {
            Some(why)
        }
        _ => None,
    }
}

fn outcome(outcome: Outcome) -> Message {
    Message::Outcome(id("J-1"), 1, Arc::new(outcome))
}

fn register() -> Register {
    let path = PathBuf::from("/repos/plain");
    Register {
        roles: vec![role("dev")],
        repos: vec![
            repo("app"),
            Repo {
                root: path.clone(),
                path,
                slug: None,
                ..repo("app")
            },
            repo("web"),
        ],
        cli: cli(),
        capacity: Capacity { max: 2, free: 1 },
        active: vec![active("J-1", 1, SystemTime::UNIX_EPOCH)],
    }
}

/// `auth` has the token and nothing else.
#[test]
fn auth_frame() {
    let token = Token::new("wfa_secret").unwrap();
    let frame: Value = serde_json::from_str(&auth(&token)).unwrap();
    assert_eq!(frame, json!({"type": "auth", "token": "wfa_secret"}));
}

/// A wrong token is final, a reached limit is not, and after any other frame the codec waits for the answer.
#[test]
fn answers_to_auth() {
    for message in [
        "Invalid token",
        "invalid or revoked token",
        "Token REVOKED",
        "Token has expired",
    ] {
        let answer = answer_to_auth(&json!({"type": "auth_error", "message": message}).to_string());
        assert!(
            matches!(answer, Some(Err(Setback::TokenRejected(_)))),
            "{message}: {answer:?}"
        );
    }
    for message in [
        "Tenant agent limit reached",
        "tenant_limit",
        "Too many agents connected",
        "global_limit",
        "",
    ] {
        let answer = answer_to_auth(&json!({"type": "auth_error", "message": message}).to_string());
        assert!(
            matches!(answer, Some(Err(Setback::Failed(_)))),
            "{message}: {answer:?}"
        );
    }
    let bare = answer_to_auth(r#"{"type": "auth_error"}"#);
    assert!(matches!(bare, Some(Err(Setback::Failed(_)))), "{bare:?}");
    let ok = json!({"type": "auth_ok", "agentId": "a", "tenantId": "t"}).to_string();
    assert_eq!(answer_to_auth(&ok), Some(Ok(())));
    for other in [
        "",
        "{",
        "null",
        "[]",
        "{}",
        r#"{"type": "pong"}"#,
        r#"{"type": 1}"#,
        r#"{"type": "registered"}"#,
    ] {
        assert_eq!(answer_to_auth(other), None, "{other}");
    }
}

/// `register` has the slugs that are known and the tools; without a role that can be claimed, an empty array.
#[test]
fn register_frames() {
    let wanted = json!({"type": "register", "repos": ["acme/app", "acme/web"], "capabilities": ["claude", "git"]});
    assert_eq!(encoded(&Message::Register(register())), wanted);
    let downgrade = Register {
        roles: vec![],
        ..register()
    };
    let wanted = json!({"type": "register", "repos": [], "capabilities": ["claude", "git"]});
    assert_eq!(encoded(&Message::Register(downgrade)), wanted);
}

/// A heartbeat is a bare `ping`, a claim a bare `job_ack`.
#[test]
fn small_frames() {
    let beat = Heartbeat {
        at: SystemTime::UNIX_EPOCH,
        active: vec![id("J-1")],
        capacity: Capacity { max: 1, free: 0 },
        status: Status::Degraded,
    };
    assert_eq!(encoded(&Message::Heartbeat(beat)), json!({"type": "ping"}));
    let claim = Message::Claim(id("J-1"), 1, SystemTime::UNIX_EPOCH);
    assert_eq!(encoded(&claim), json!({"type": "job_ack", "jobId": "J-1"}));
}

/// `job_progress` has a message for people, a percentage that never falls nor ends at a hundred, and the lines.
#[test]
fn progress_frames() {
    let progress = |phase, seconds| {
        let lines = vec!["one".to_owned(), "\u{1b}[1m".to_owned()];
        let progress = Progress {
            phase,
            elapsed: Duration::from_secs(seconds),
            stdout_bytes: 9,
            lines,
        };
        encoded(&Message::Progress(id("J-1"), 1, 3, progress))
    };
    let frame = progress(Phase::Running, 70);
    assert_eq!(frame.as_object().unwrap().len(), 5, "{frame}");
    assert_eq!(
        (&frame["type"], &frame["jobId"]),
        (&json!("job_progress"), &json!("J-1"))
    );
    assert_eq!(frame["logs"], json!(["one", "\u{1b}[1m"]));
    assert_eq!(frame["message"], "running, 70 s, 9 bytes of output");
    let preparing = [0, 1, 10_000].map(|seconds| (Phase::Preparing, seconds));
    let running = [0, 1, 59, 60, 600, 1800, 86_400, u64::from(u32::MAX)]
        .map(|seconds| (Phase::Running, seconds));
    let all = preparing
        .into_iter()
        .chain(running)
        .chain([(Phase::Collecting, 1), (Phase::Collecting, 10_000)]);
    let percents: Vec<_> = all
        .map(|(phase, seconds)| progress(phase, seconds)["percent"].as_u64().unwrap())
        .collect();
    assert!(
        percents.is_sorted() && percents.iter().all(|percent| (1..100).contains(percent)),
        "{percents:?}"
    );
}

/// `job_result` has the fields of `ticket.result` in `data`, and the address of the pull request if one was opened.
#[test]
fn result_frames() {
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let result = Outcome {
        exit: Some(Exit::Code(0)),
        changes: Changes {
            diff: Some("+é\n".to_owned()),
            diff_truncated: false,
            stat: Some(DiffStat {
                files: 1,
                insertions: 2,
                deletions: 3,
            }),
            base_commit: Some("a".repeat(40)),
            head_commit: Some("b".repeat(40)),
        },
        span: Some(Span {
            started_at: at(0),
            finished_at: at(2),
            duration: Duration::from_millis(1999),
        }),
        warnings: vec!["mind the gap".to_owned()],
        pull_request: Some("https://host.example/pull/7".to_owned()),
        ..Outcome::clone(&done("ok\n"))
    };
    let mut wanted = json!({
        "type": "job_result",
        "jobId": "J-1",
        "status": "done",
        "data": {
            "exitCode": 0,
            "stdout": "ok\n",
            "stdoutTruncated": false,
            "diff": "+é\n",
            "diffTruncated": false,
            "diffStat": {"files": 1, "insertions": 2, "deletions": 3},
            "baseCommit": "a".repeat(40),
            "headCommit": "b".repeat(40),
            "startedAt": "1970-01-01T00:00:00.000Z",
            "finishedAt": "1970-01-01T00:00:02.000Z",
            "durationMs": 1999,
            "warnings": ["mind the gap"],
            "prUrl": "https://host.example/pull/7",
        },
    });
    assert_eq!(encoded(&outcome(result.clone())), wanted);
    wanted["data"].as_object_mut().unwrap().remove("prUrl");
    assert_eq!(
        encoded(&outcome(Outcome {
            pull_request: None,
            ..result.clone()
        })),
        wanted
    );
    wanted["status"] = json!("failed");
    wanted["data"]["code"] = json!("cli_exit");
    wanted["data"]["error"] = json!("boom");
    wanted["data"]["retryable"] = json!(false);
    wanted["data"]["exitCode"] = Value::Null;
    wanted["data"]["signal"] = json!(9);
    let failure = Some(Failure::new(FailCode::CliExit, "boom"));
    let failed = Outcome {
        failure,
        exit: Some(Exit::Signal(9)),
        pull_request: None,
        ..result
    };
    assert_eq!(encoded(&outcome(failed)), wanted);
}

/// A refusal is a failed result with the fields that are known, above all `data.error`.
#[test]
fn refusal_frames() {
    let refusal = Outcome::unstarted(Failure::new(FailCode::RepoNotAllowed, "not here"));
    let wanted = json!({
        "type": "job_result",
        "jobId": "J-1",
        "status": "failed",
        "data": {
            "code": "repo_not_allowed", "error": "not here", "retryable": true,
            "exitCode": null, "signal": null, "warnings": [],
        },
    });
    assert_eq!(encoded(&outcome(refusal)), wanted);
}

/// No frame comes near the 5 MiB that the hub dies of, however a text grows when it is escaped.
#[test]
fn large_outcomes_fit() {
    let growing = "\u{1}".repeat(3 << 20);
    let changes = Changes {
        diff: Some(growing.clone()),
        ..Changes::default()
    };
    let span = Span {
        started_at: SystemTime::UNIX_EPOCH,
        finished_at: SystemTime::UNIX_EPOCH,
        duration: Duration::ZERO,
    };
    let large = Outcome {
        changes,
        span: Some(span),
        ..Outcome::clone(&done(&growing))
    };
    let frame = codec().encode(&outcome(large));
    assert!(frame.len() <= MAX_OUTBOUND, "{} bytes", frame.len());
    let data = serde_json::from_str::<Value>(&frame).unwrap()["data"].clone();
    assert_eq!(
        (
            &data["diff"],
            &data["diffTruncated"],
            &data["stdoutTruncated"]
        ),
        (&Value::Null, &json!(true), &json!(true))
    );
}

/// `implement_prd` is work for `dev` on the branch, with the requirements as its description.
#[test]
fn implement_prd() {
    let full = json!({
        "targetRepo": "acme/app", "branch": "feature/x", "prdContent": "Make it so.", "title": "Make it",
        "taskId": "t", "ticketId": "i", "prdId": "p", "engagementId": "e", "unknown": [1],
    });
    let ticket = ticket("implement_prd", full.clone());
    assert_eq!(
        (ticket.id, ticket.attempt, ticket.role),
        (id("J-1"), 1, role("dev"))
    );
    assert_eq!(
        (ticket.repo, ticket.payload),
        (RepoRef::Slug("acme/app".to_owned()), Payload::Inline)
    );
    assert_eq!(
        ticket.branch.as_ref().map(Branch::as_str),
        Some("feature/x")
    );
    assert_eq!(
        (
            ticket.brief.title.as_deref(),
            ticket.brief.description.as_deref()
        ),
        (Some("Make it"), Some("Make it so."))
    );
    assert_eq!(ticket.time_limit, None);
    for (field, value) in [
        ("branch", Value::Null),
        ("branch", json!("--mirror")),
        ("branch", json!(1)),
        ("prdContent", Value::Null),
        ("prdContent", json!(" \n")),
        ("prdContent", json!("é".repeat(256_001))),
        ("targetRepo", json!({"owner": "acme"})),
    ] {
        let mut payload = full.clone();
        payload[field] = value;
        let decoded = job("implement_prd", payload);
        assert!(
            unusable(decoded.clone()).is_some_and(|why| why.len() < 400),
            "{field}: {decoded:?}"
        );
    }
    let mut largest = full;
    largest["prdContent"] = json!("é".repeat(256_000));
    assert!(
        unusable(job("implement_prd", largest)).is_none(),
        "512,000 bytes are not too many"
    );
}

/// The repository is `targetRepo`, else owner and name, else one that matches none of this agent's.
#[test]
fn repositories() {
    for (payload, wanted) in [
        (
            json!({"targetRepo": "acme/app", "repoOwner": "other", "repoName": "x"}),
            "acme/app",
        ),
        (
            json!({"targetRepo": null, "repoOwner": "acme", "repoName": "app"}),
            "acme/app",
        ),
        (
            json!({"targetRepo": "", "repoOwner": "acme", "repoName": "app"}),
            "acme/app",
        ),
        (json!({"repoOwner": "acme"}), ""),
        (json!({}), ""),
        (Value::Null, ""),
    ] {
        assert_eq!(
            ticket("run_tests", payload.clone()).repo,
            RepoRef::Slug(wanted.to_owned()),
            "{payload}"
        );
    }
}

/// Each other action has its role and its prompt, and no branch of its own to push.
#[test]
fn other_actions() {
    for (action, payload, wanted_role, words) in [
        ("review_pr", json!({"prNumber": 7}), "qa", "#7"),
        (
            "review_pr",
            json!({"prUrl": "https://host.example/pull/7\nand more"}),
            "qa",
            "https://host.example/pull/7 and more",
        ),
        (
            "review_pr",
            json!({"branch": "feature/x", "prdContent": "It has to fly."}),
            "qa",
            "It has to fly.",
        ),
        ("run_tests", json!({}), "qa", "tests"),
        ("dance", json!({"prompt": "A waltz."}), "dev", "A waltz."),
    ] {
        let ticket = ticket(action, payload);
        assert_eq!(
            (ticket.role, ticket.branch),
            (role(wanted_role), None),
            "{action}"
        );
        assert!(
            ticket
                .brief
                .description
                .is_some_and(|text| text.contains(words)),
            "{action}: {words}"
        );
        assert!(
            ticket.brief.title.is_some_and(|title| !title.is_empty()),
            "{action}"
        );
    }
    for (action, payload) in [
        ("review_pr", json!({})),
        ("review_pr", json!({"branch": "a..b", "prNumber": 7})),
        ("dance", json!({})),
        ("dance", json!({"prompt": " "})),
        ("dance", json!({"prompt": 7})),
        ("dance", json!("A waltz.")),
        ("", json!({"prompt": "A waltz."})),
    ] {
        assert!(
            unusable(job(action, payload.clone())).is_some(),
            "{action} {payload}"
        );
    }
    for without in [json!({}), json!({"action": null}), json!({"action": 7})] {
        let mut frame = json!({"type": "job", "jobId": "J-1", "payload": {"prompt": "A waltz."}});
        without
            .as_object()
            .unwrap()
            .iter()
            .for_each(|(name, value)| frame[name] = value.clone());
        assert!(unusable(decode(&frame)).is_some(), "{frame}");
    }
}

/// The hub's other frames, and texts that are not frames.
#[test]
fn other_frames() {
    let ack = Decoded::Event(Event::Backend(Order::Ack(id("J-1"), None)));
    let shutdown = |millis| {
        Decoded::Event(Event::Backend(Order::ServerShutdown(
            Duration::from_millis(millis),
        )))
    };
    for (frame, wanted) in [
        (json!({"type": "job_complete", "jobId": "J-1"}), ack),
        (
            json!({"type": "server_shutdown", "reconnectAfter": 5}),
            shutdown(5000),
        ),
        (
            json!({"type": "server_shutdown", "reconnectAfter": 0.5}),
            shutdown(500),
        ),
        (
            json!({"type": "server_shutdown", "reconnectAfter": -1}),
            shutdown(0),
        ),
        (
            json!({"type": "server_shutdown", "reconnectAfter": "soon"}),
            shutdown(0),
        ),
        (json!({"type": "server_shutdown"}), shutdown(0)),
        (json!({"type": "pong"}), Decoded::Ignored),
        (json!({"type": "registered", "repos": 2}), Decoded::Ignored),
        (json!({"type": "auth_ok"}), Decoded::Ignored),
        (
            json!({"type": "job_resume", "jobId": "J-1", "payload": {}}),
            Decoded::Ignored,
        ),
    ] {
        assert_eq!(decode(&frame), wanted, "{frame}");
    }
    for frame in [
        json!(null),
        json!([]),
        json!("job"),
        json!({}),
        json!({"type": 1}),
        json!({"type": "job"}),
        json!({"type": "job", "jobId": "a b"}),
        json!({"type": "job", "jobId": 1}),
        json!({"type": "job_complete"}),
        json!({"type": "auth_error", "message": "Token revoked"}),
        json!({"type": "teleport"}),
    ] {
        assert!(matches!(decode(&frame), Decoded::Dropped(_)), "{frame}");
    }
    assert!(matches!(codec().decode("{"), Decoded::Dropped(_)));
    let mut codec = codec();
    let unknown = r#"{"type": "teleport"}"#;
    assert!(
        matches!(codec.decode(unknown), Decoded::Dropped(_)),
        "mentioned once"
    );
    assert_eq!(codec.decode(unknown), Decoded::Ignored, "and no more");
}
