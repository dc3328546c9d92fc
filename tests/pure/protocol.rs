//! The wire format of the `ticket` dialect (docs/protocol.md sections 1, 3, 4 and 6).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use wf0_agent::domain::event::{Action, Event, Order};
use wf0_agent::domain::message::{
    Capacity, CliState, Dialect, Heartbeat, Message, Register, Status, Unavailable,
};
use wf0_agent::domain::repos::{Repo, RepoRef};
use wf0_agent::domain::session::Session;
use wf0_agent::domain::text::Excerpt;
use wf0_agent::domain::ticket::{
    Brief, Changes, DiffStat, Exit, FailCode, Failure, Outcome, Payload, Phase, Progress, Skill,
    Span, Subagent, Ticket, Usage,
};
use wf0_agent::link::protocol::ticket::Codec;
use wf0_agent::link::protocol::{Decoded, Identity, MAX_INBOUND, MAX_OUTBOUND};

use super::contract::{self, Side};
use super::support::{Clock, Disk, active, api, cli, id, on, policy, repo, role, ticket};

const AGENT: &str = "5f3c1d9e-0000-4000-8000-000000000001";

fn codec() -> Codec {
    let identity = Identity {
        agent_id: AGENT.to_owned(),
        name: "laptop é".to_owned(),
    };
    Codec::new(identity, api("https://good.example/wf0"))
}

fn encoded(message: &Message) -> Value {
    let frame = codec().encode(message);
    assert!(!frame.contains('\n'), "a frame is one line");
    let frame = serde_json::from_str(&frame).unwrap_or_else(|e| panic!("{e}: {frame}"));
    contract::check_frame(Dialect::Ticket, Side::Agent, &frame)
        .unwrap_or_else(|why| panic!("{why}"));
    frame
}

fn decode(frame: &str) -> Decoded {
    codec().decode(frame)
}

/// That number of milliseconds after 2026-01-02T03:04:05Z.
fn at(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045) + Duration::from_millis(millis)
}

fn text(text: &str) -> Excerpt {
    Excerpt::from_bytes(text.as_bytes(), b"", text.len() as u64)
}

fn span() -> Span {
    Span {
        started_at: at(0),
        finished_at: at(90_250),
        duration: Duration::from_micros(90_250_900),
    }
}

/// A run that went well, with all there can be.
fn result() -> Outcome {
    Outcome {
        failure: None,
        exit: Some(Exit::Code(0)),
        stdout: text("done \u{1b}[0m\n\"é\"\n"),
        usage: None,
        changes: Changes {
            diff: Some("diff --git a/x b/x\n+é\n".to_owned()),
            diff_truncated: false,
            stat: Some(DiffStat {
                files: 1,
                insertions: 2,
                deletions: 3,
            }),
            base_commit: Some("a".repeat(40)),
            head_commit: Some("b".repeat(40)),
        },
        span: Some(span()),
        warnings: vec!["the skill \"x\" could not be had".to_owned()],
        pull_request: None,
    }
}

fn outcome(outcome: Outcome) -> Message {
    Message::Outcome(id("TEAM-1"), 2, Arc::new(outcome))
}

/// `agent.register` has every field of the protocol, and null where nothing is known.
#[test]
fn register_frames() {
    let full = Register {
        roles: vec![role("dev"), role("qa")],
        repos: vec![
            repo("app"),
            Repo {
                slug: None,
                ..repo("été")
            },
        ],
        cli: CliState {
            version: Some("1.2.3".to_owned()),
            ..cli()
        },
        capacity: Capacity { max: 3, free: 1 },
        active: vec![active("TEAM-1", 2, at(7))],
    };
    let wanted = json!({
        "type": "agent.register",
        "agentId": AGENT,
        "protocolVersion": 1,
        "name": "laptop é",
        "version": env!("CARGO_PKG_VERSION"),
        "roles": ["dev", "qa"],
        "repoPaths": ["/repos/app", "/repos/été"],
        "repos": [{"path": "/repos/app", "slug": "acme/app"}, {"path": "/repos/été", "slug": null}],
        "cli": {
            "name": "claude-code", "version": "1.2.3",
            "available": true, "unavailableReason": null, "availableAt": null,
        },
        "capacity": {"max": 3, "free": 1},
        "activeTickets": [{"ticketId": "TEAM-1", "attempt": 2, "startedAt": "2026-01-02T03:04:05.007Z"}],
        "platform": {"os": std::env::consts::OS, "arch": std::env::consts::ARCH},
    });
    assert_eq!(
        encoded(&Message::Register(full.clone())),
        wanted,
        "all there is"
    );

    let cli = CliState {
        unavailable: Some(Unavailable::NotFound),
        ..cli()
    };
    let downgrade = Register {
        roles: vec![],
        repos: vec![],
        cli,
        active: vec![],
        ..full
    };
    let mut frame = wanted;
    frame["roles"] = json!([]);
    frame["repoPaths"] = json!([]);
    frame["repos"] = json!([]);
    frame["activeTickets"] = json!([]);
    frame["cli"] = json!({
        "name": "claude-code", "version": null,
        "available": false, "unavailableReason": "not_found", "availableAt": null,
    });
    assert_eq!(
        encoded(&Message::Register(downgrade)),
        frame,
        "a capability downgrade"
    );
}

/// `agent.heartbeat` names its status and the tickets that are here.
#[test]
fn heartbeat_frames() {
    let rows = [
        (Status::Ready, "ready"),
        (Status::Draining, "draining"),
        (Status::Degraded, "degraded"),
    ];
    for (status, name) in rows {
        let capacity = Capacity { max: 2, free: 0 };
        let beat = Heartbeat {
            at: at(999),
            active: vec![id("A"), id("B")],
            capacity,
            status,
        };
        let wanted = json!({
            "type": "agent.heartbeat",
            "agentId": AGENT,
            "at": "2026-01-02T03:04:05.999Z",
            "activeTickets": ["A", "B"],
            "capacity": {"max": 2, "free": 0},
            "status": name,
        });
        assert_eq!(encoded(&Message::Heartbeat(beat)), wanted, "{name}");
    }
}

/// `ticket.claim` and `ticket.progress` have the fields of the protocol.
#[test]
fn claim_and_progress_frames() {
    let claim = Message::Claim(id("a.b_c:d-e"), 4_294_967_295, at(60_000));
    let wanted = json!({
        "type": "ticket.claim",
        "agentId": AGENT,
        "ticketId": "a.b_c:d-e",
        "attempt": 4_294_967_295_u32,
        "at": "2026-01-02T03:05:05.000Z",
    });
    assert_eq!(encoded(&claim), wanted, "claim");
    let phases = [
        (Phase::Preparing, "preparing"),
        (Phase::Running, "running"),
        (Phase::Collecting, "collecting"),
    ];
    for (phase, name) in phases {
        let lines = vec!["one".to_owned(), String::new(), "\u{1b}[1m\"é\"".to_owned()];
        let elapsed = Duration::from_micros(10_000_999);
        let progress = Progress {
            phase,
            elapsed,
            stdout_bytes: u64::MAX,
            lines,
        };
        let wanted = json!({
            "type": "ticket.progress",
            "agentId": AGENT,
            "ticketId": "A",
            "attempt": 1,
            "seq": 7,
            "elapsedMs": 10_000,
            "phase": name,
            "stdoutBytes": u64::MAX,
            "lines": ["one", "", "\u{1b}[1m\"é\""],
        });
        assert_eq!(
            encoded(&Message::Progress(id("A"), 1, 7, progress)),
            wanted,
            "{name}"
        );
    }
}

/// Every time is written in UTC with milliseconds.
#[test]
fn moments() {
    let day = Duration::from_secs(86_400);
    let rows = [
        (
            "the epoch",
            SystemTime::UNIX_EPOCH,
            "1970-01-01T00:00:00.000Z",
        ),
        (
            "no rounding up",
            SystemTime::UNIX_EPOCH + Duration::from_micros(1_999),
            "1970-01-01T00:00:00.001Z",
        ),
        (
            "a clock set wrong",
            SystemTime::UNIX_EPOCH - day,
            "1969-12-31T00:00:00.000Z",
        ),
        (
            "a leap day",
            SystemTime::UNIX_EPOCH + day * 19_782,
            "2024-02-29T00:00:00.000Z",
        ),
    ];
    for (label, moment, wanted) in rows {
        assert_eq!(
            encoded(&Message::Claim(id("A"), 1, moment))["at"],
            wanted,
            "{label}"
        );
    }
    let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
    let told = encoded(&Message::Claim(id("A"), 1, far));
    assert!(
        told["at"].as_str().is_some_and(|at| at.ends_with('Z')),
        "beyond all calendars: {told}"
    );
}

/// `usage` is there where the CLI told something, with null where it did not tell that.
#[test]
fn usage_in_a_result() {
    let told = Usage {
        input_tokens: Some(u64::MAX),
        output_tokens: Some(20),
        cache_read_tokens: Some(7),
        cost_micros: Some(3_067),
        turns: Some(2),
        session_id: Some("s-1".to_owned()),
    };
    let all = json!({"inputTokens": u64::MAX, "outputTokens": 20, "cacheReadTokens": 7, "costUsd": 0.003067, "turns": 2, "sessionId": "s-1"});
    let little = json!({"inputTokens": null, "outputTokens": null, "costUsd": null, "turns": 1, "sessionId": null});
    for (label, usage, wanted) in [
        ("all", Some(told), Some(all)),
        (
            "a little",
            Some(Usage {
                turns: Some(1),
                ..Usage::default()
            }),
            Some(little),
        ),
        ("nothing", None, None),
    ] {
        let frame = encoded(&outcome(Outcome {
            usage: usage.clone(),
            ..result()
        }));
        assert_eq!(frame.get("usage"), wanted.as_ref(), "{label}");
        let failure = Some(Failure::new(FailCode::CliExit, "no"));
        let frame = encoded(&outcome(Outcome {
            usage,
            failure,
            ..result()
        }));
        assert_eq!(frame.get("usage"), wanted.as_ref(), "{label}, of a failure");
    }
}

/// `ticket.result` has every field of the protocol; without git the fields of the diff are null.
#[test]
fn result_frames() {
    let wanted = json!({
        "type": "ticket.result",
        "agentId": AGENT,
        "ticketId": "TEAM-1",
        "attempt": 2,
        "exitCode": 0,
        "stdout": "done \u{1b}[0m\n\"é\"\n",
        "stdoutTruncated": false,
        "diff": "diff --git a/x b/x\n+é\n",
        "diffTruncated": false,
        "diffStat": {"files": 1, "insertions": 2, "deletions": 3},
        "baseCommit": "a".repeat(40),
        "headCommit": "b".repeat(40),
        "startedAt": "2026-01-02T03:04:05.000Z",
        "finishedAt": "2026-01-02T03:05:35.250Z",
        "durationMs": 90_250,
        "warnings": ["the skill \"x\" could not be had"],
    });
    assert_eq!(encoded(&outcome(result())), wanted, "all there is");

    let bare = Outcome {
        changes: Changes::default(),
        warnings: vec![],
        stdout: text(""),
        ..result()
    };
    let mut frame = wanted.clone();
    for absent in ["diff", "diffStat", "baseCommit", "headCommit"] {
        frame[absent] = Value::Null;
    }
    frame["stdout"] = json!("");
    frame["warnings"] = json!([]);
    assert_eq!(encoded(&outcome(bare)), frame, "no git, no output");

    let changes = Changes {
        diff: None,
        diff_truncated: true,
        ..result().changes
    };
    let stdout = Excerpt::from_bytes(b"head", b"tail", 1008);
    let mut frame = wanted;
    frame["diff"] = Value::Null;
    frame["diffTruncated"] = json!(true);
    frame["stdout"] = json!("head\n[… 1000 bytes left out …]\ntail");
    frame["stdoutTruncated"] = json!(true);
    assert_eq!(
        encoded(&outcome(Outcome {
            changes,
            stdout,
            ..result()
        })),
        frame,
        "cut and left out"
    );
}

/// `ticket.fail` says why, how the process ended, and all that is known of the run.
#[test]
fn fail_frames() {
    let failing = |code, error: &str, exit| Outcome {
        failure: Some(Failure::new(code, error)),
        exit,
        ..result()
    };
    let rows = [
        (
            FailCode::CliExit,
            "boom",
            Some(Exit::Code(3)),
            json!(3),
            Value::Null,
            false,
        ),
        (
            FailCode::CliExit,
            "killed",
            Some(Exit::Signal(9)),
            Value::Null,
            json!(9),
            false,
        ),
        (
            FailCode::Timeout,
            "timeout",
            Some(Exit::Signal(15)),
            Value::Null,
            json!(15),
            false,
        ),
        (
            FailCode::Cancelled,
            "cancelled",
            None,
            Value::Null,
            Value::Null,
            false,
        ),
        (
            FailCode::AgentShutdown,
            "stopped",
            Some(Exit::Code(-1)),
            json!(-1),
            Value::Null,
            true,
        ),
    ];
    for (code, error, exit, exit_code, signal, retryable) in rows {
        let mut wanted = encoded(&outcome(result()));
        wanted["type"] = json!("ticket.fail");
        wanted["exitCode"] = exit_code;
        wanted["signal"] = signal;
        wanted["code"] = json!(code);
        wanted["error"] = json!(error);
        wanted["retryable"] = json!(retryable);
        assert_eq!(
            encoded(&outcome(failing(code, error, exit))),
            wanted,
            "{code:?}, {exit:?}"
        );
    }
    let refusal = Outcome::unstarted(Failure::new(FailCode::AtCapacity, "full"));
    let wanted = json!({
        "type": "ticket.fail",
        "agentId": AGENT,
        "ticketId": "TEAM-1",
        "attempt": 2,
        "exitCode": null,
        "signal": null,
        "code": "at_capacity",
        "error": "full",
        "retryable": true,
        "warnings": [],
    });
    assert_eq!(
        encoded(&outcome(refusal)),
        wanted,
        "a refusal knows nothing of a run"
    );
}

/// However a text grows when it is escaped, no frame is too large: the diff goes first, then stdout is shortened.
#[test]
fn large_outcomes_fit() {
    const MIB: usize = 1 << 20;
    // A control character takes one byte of text and six of JSON.
    let (plain, growing) = ("x", "\u{1}");
    let rows = [
        ("small", plain, 100, plain, 100, true, false),
        (
            "large, but it fits",
            plain,
            MIB,
            plain,
            3 * MIB,
            true,
            false,
        ),
        ("the diff grows", plain, 100, growing, MIB, false, false),
        (
            "both grow",
            growing,
            MIB / 2,
            growing,
            3 * MIB,
            false,
            false,
        ),
        ("stdout grows", growing, MIB, plain, 100, false, true),
        ("stdout grows, no diff", growing, MIB, plain, 0, false, true),
        (
            "the most that the settings allow",
            growing,
            4 * MIB,
            growing,
            4 * MIB,
            false,
            true,
        ),
        (
            "stdout alone is too large",
            plain,
            6 * MIB,
            plain,
            100,
            false,
            true,
        ),
        (
            "quotes and line breaks",
            "\"\n",
            3 * MIB,
            "\\",
            MIB,
            false,
            true,
        ),
    ];
    for (label, stdout, stdout_len, diff, diff_len, diff_kept, stdout_cut) in rows {
        let stdout = stdout.repeat(stdout_len / stdout.len());
        let diff = (diff_len > 0).then(|| diff.repeat(diff_len));
        let changes = Changes {
            diff: diff.clone(),
            ..result().changes
        };
        let frame = codec().encode(&outcome(Outcome {
            stdout: text(&stdout),
            changes,
            ..result()
        }));
        assert!(
            frame.len() <= MAX_OUTBOUND,
            "{label}: {} bytes",
            frame.len()
        );
        let frame: Value = serde_json::from_str(&frame).unwrap();
        assert_eq!(
            frame["diff"].as_str(),
            diff.as_deref().filter(|_| diff_kept),
            "{label}: a diff is whole or absent"
        );
        assert_eq!(
            frame["diffTruncated"],
            json!(diff.is_some() && !diff_kept),
            "{label}"
        );
        assert_eq!(
            frame["diffStat"],
            json!({"files": 1, "insertions": 2, "deletions": 3}),
            "{label}"
        );
        assert_eq!(frame["stdoutTruncated"], json!(stdout_cut), "{label}");
        let shown = frame["stdout"].as_str().unwrap();
        if !stdout_cut {
            assert!(shown == stdout, "{label}: stdout differs");
            continue;
        }
        let (head, rest) = shown
            .split_once("[… ")
            .unwrap_or_else(|| panic!("{label}: no gap"));
        let (missing, tail) = rest.split_once(" bytes left out …]\n").unwrap();
        let head = if stdout.starts_with(head) {
            head
        } else {
            head.strip_suffix('\n').unwrap()
        };
        assert!(
            stdout.starts_with(head) && stdout.ends_with(tail),
            "{label}: not its beginning and end"
        );
        assert_eq!(
            head.len() + tail.len() + missing.parse::<usize>().unwrap(),
            stdout.len(),
            "{label}"
        );
        assert!(
            head.len() * 5 > tail.len() && head.len() < tail.len(),
            "{label}: {} and {}",
            head.len(),
            tail.len()
        );
        assert!(
            shown.len() > MAX_OUTBOUND / 24,
            "{label}: no more than {} bytes are shown",
            shown.len()
        );
    }
}

/// Texts other than stdout and diff are shortened too, so that they do not make a frame too large.
#[test]
fn everything_else_fits_too() {
    let long = "\u{1}\n語\"".repeat(1 << 18);
    let failure = Failure::new(FailCode::CliExit, long.clone());
    let rows = [
        (
            "one long warning",
            Outcome {
                warnings: vec![long.clone()],
                ..result()
            },
        ),
        (
            "many warnings",
            Outcome {
                warnings: vec!["x".to_owned(); 300_000],
                ..result()
            },
        ),
        (
            "many long warnings",
            Outcome {
                warnings: vec![long; 60],
                ..result()
            },
        ),
        (
            "a long error",
            Outcome {
                failure: Some(failure.clone()),
                ..result()
            },
        ),
        (
            "a long error of a ticket that never ran",
            Outcome::unstarted(failure),
        ),
    ];
    for (label, unbounded) in rows {
        let bounded = unbounded.clone().bounded();
        let size = codec().encode(&outcome(bounded.clone())).len();
        assert!(size < 256 << 10, "{label}: {size} bytes");
        assert_eq!(
            (bounded.stdout, bounded.changes),
            (unbounded.stdout, unbounded.changes),
            "{label}"
        );
        let mut lines = bounded
            .warnings
            .iter()
            .chain(bounded.failure.as_ref().map(|failure| &failure.error));
        assert!(
            lines.all(|line| !line.is_empty() && !line.contains('\n')),
            "{label}: not one line each"
        );
    }
    assert_eq!(
        result().bounded(),
        result(),
        "what a person reads is left as it is"
    );
}

/// The answer to one frame of the largest size is not too large itself, whichever field was so large.
#[test]
fn answers_to_the_largest_frames_fit() {
    let long = "\u{1}".repeat((MAX_INBOUND - 1000) / 6);
    let good = json!({"type": "ticket.assigned", "ticketId": "A", "role": "dev", "repo": "acme/app", "title": "x"});
    let fields = [
        "type",
        "attempt",
        "role",
        "repo",
        "timeoutSeconds",
        "payloadUrl",
        "skills",
        "subagent",
        "description",
    ];
    for field in fields {
        let mut frame = good.clone();
        frame[field] = json!(long);
        let mut codec = codec();
        let decoded = codec.decode(&frame.to_string());
        if let Decoded::Dropped(line) = &decoded {
            assert!(
                line.len() < 4096,
                "{field}: a line of {} bytes for the log",
                line.len()
            );
        }
        let Decoded::Event(event) = decoded else {
            continue;
        };
        let mut clock = Clock::new();
        let mut session = Session::new(policy(1, &["app"], 1), clock.now());
        session.on(clock.now(), Event::Tick);
        session.on(clock.now(), Event::Connected(Dialect::Ticket));
        clock.advance(Duration::from_secs(1));
        for action in on(&mut session, &mut Disk::default(), clock.now(), event) {
            match action {
                Action::Send(message) => {
                    let size = codec.encode(&message).len();
                    assert!(size < 64 << 10, "{field}: an answer of {size} bytes");
                }
                Action::Log(line) => {
                    let line = line.to_string();
                    assert!(
                        line.len() < 4096,
                        "{field}: {} bytes in the log",
                        line.len()
                    );
                }
                _ => {}
            }
        }
    }
    // If the frame does not name a ticket, there is no answer, only a line in the log.
    for field in fields.into_iter().skip(1).chain(["ticketId"]) {
        for kind in ["ticket.assigned", "ticket.cancel", "ticket.ack"] {
            let mut frame =
                json!({"type": kind, "ticketId": "a b", "role": "dev", "repo": "acme/app"});
            frame[field] = json!(long);
            match decode(&frame.to_string()) {
                Decoded::Dropped(line) => {
                    assert!(
                        line.len() < 4096,
                        "{kind}, {field}: a line of {} bytes",
                        line.len()
                    )
                }
                other => panic!("{kind}, {field}: it was taken: {other:?}"),
            }
        }
    }
}

fn assigned(frame: Value) -> Ticket {
    match decode(&frame.to_string()) {
        Decoded::Event(Event::Backend(Order::Assigned(ticket))) => *ticket,
        other => panic!("{frame}: {other:?}"),
    }
}

/// The least that an assignment needs, with these fields instead.
fn frame_with(changes: Value) -> Value {
    let mut frame =
        json!({"type": "ticket.assigned", "ticketId": "A", "role": "dev", "repo": "acme/app"});
    for (name, value) in changes.as_object().unwrap() {
        frame[name] = value.clone();
    }
    frame
}

/// Every field of an assignment arrives. A field that is absent or null has its default.
#[test]
fn assignments() {
    let least = Ticket {
        brief: Brief::default(),
        payload: Payload::ByTicketId,
        ..ticket("A", 1)
    };
    let inline = |brief: Brief| Ticket {
        brief,
        payload: Payload::Inline,
        ..least.clone()
    };
    let some = |text: &str| Some(text.to_owned());
    let named = |slug: &str| Skill {
        slug: slug.to_owned(),
        body: None,
    };
    let rows = [
        ("the least", json!({}), least.clone()),
        (
            "attempt",
            json!({"attempt": 3}),
            Ticket {
                attempt: 3,
                ..least.clone()
            },
        ),
        ("no attempt", json!({"attempt": null}), least.clone()),
        (
            "the largest attempt",
            json!({"attempt": u32::MAX}),
            Ticket {
                attempt: u32::MAX,
                ..least.clone()
            },
        ),
        (
            "role in its long form",
            json!({"role": "qa_agent"}),
            Ticket {
                role: role("qa"),
                ..least.clone()
            },
        ),
        (
            "any role",
            json!({"role": "Docs"}),
            Ticket {
                role: role("docs"),
                ..least.clone()
            },
        ),
        (
            "any slug",
            json!({"repo": "x/y"}),
            Ticket {
                repo: RepoRef::Slug("x/y".to_owned()),
                ..least.clone()
            },
        ),
        (
            "no slug at all",
            json!({"repo": "~"}),
            Ticket {
                repo: RepoRef::Slug("~".to_owned()),
                ..least.clone()
            },
        ),
        (
            "title",
            json!({"title": "T"}),
            inline(Brief {
                title: some("T"),
                ..Brief::default()
            }),
        ),
        (
            "description",
            json!({"description": "D"}),
            inline(Brief {
                description: some("D"),
                ..Brief::default()
            }),
        ),
        (
            "empty title",
            json!({"title": ""}),
            inline(Brief {
                title: some(""),
                ..Brief::default()
            }),
        ),
        (
            "nulls",
            json!({"title": null, "description": null, "skills": null, "subagent": null, "timeoutSeconds": null, "payloadUrl": null}),
            least.clone(),
        ),
        (
            "skills of each kind",
            json!({"title": "T", "skills": ["a", {"slug": "b", "body": "B"}, {"slug": "c"}, {"slug": "d", "body": null}]}),
            inline(Brief {
                title: some("T"),
                skills: vec![
                    named("a"),
                    Skill {
                        slug: "b".to_owned(),
                        body: Some("B".to_owned()),
                    },
                    named("c"),
                    named("d"),
                ],
                ..Brief::default()
            }),
        ),
        (
            "skills are no payload",
            json!({"skills": ["a"]}),
            Ticket {
                brief: Brief {
                    skills: vec![named("a")],
                    ..Brief::default()
                },
                ..least.clone()
            },
        ),
        (
            "subagent",
            json!({"title": "T", "subagent": {"slug": "s", "prompt": "P", "more": 1}}),
            inline(Brief {
                title: some("T"),
                subagent: Some(Subagent {
                    slug: "s".to_owned(),
                    prompt: "P".to_owned(),
                }),
                ..Brief::default()
            }),
        ),
        (
            "time limit",
            json!({"timeoutSeconds": 60}),
            Ticket {
                time_limit: Some(Duration::from_secs(60)),
                ..least.clone()
            },
        ),
        (
            "payload URL",
            json!({"payloadUrl": "https://good.example/p/1?x=2"}),
            Ticket {
                payload: Payload::At("https://good.example/p/1?x=2".to_owned()),
                ..least.clone()
            },
        ),
        (
            "payload URL beside a title: the rest is there",
            json!({"title": "T", "payloadUrl": "https://good.example/p"}),
            Ticket {
                brief: Brief {
                    title: some("T"),
                    ..Brief::default()
                },
                payload: Payload::At("https://good.example/p".to_owned()),
                ..least.clone()
            },
        ),
        (
            "unknown fields",
            json!({"priority": {"a": [1, 2.5, null]}, "Title": 1, "agentId": "x"}),
            least.clone(),
        ),
    ];
    for (label, changes, wanted) in rows {
        assert_eq!(assigned(frame_with(changes)), wanted, "{label}");
    }
}

/// An assignment that cannot be used is answered under its ticket's name, with a reason in one line.
#[test]
fn unusable_assignments_are_answered() {
    let rows = [
        ("no role", json!({"role": null}), 1),
        ("role of a wrong type", json!({"role": 1}), 1),
        ("role that is none", json!({"role": "a b"}), 1),
        ("empty role", json!({"role": ""}), 1),
        ("no repo", json!({"repo": null}), 1),
        ("repo of a wrong type", json!({"repo": ["acme/app"]}), 1),
        ("attempt zero", json!({"attempt": 0}), 1),
        ("negative attempt", json!({"attempt": -1}), 1),
        (
            "attempt too large",
            json!({"attempt": 4_294_967_296_u64}),
            1,
        ),
        ("attempt as text", json!({"attempt": "2"}), 1),
        ("half an attempt", json!({"attempt": 1.5}), 1),
        (
            "no role in a later attempt",
            json!({"attempt": 5, "role": null}),
            5,
        ),
        ("title of a wrong type", json!({"title": 1}), 1),
        (
            "description of a wrong type",
            json!({"description": {"a": 1}}),
            1,
        ),
        ("skills of a wrong type", json!({"skills": "rust"}), 1),
        ("a skill of a wrong type", json!({"skills": ["a", 1]}), 1),
        (
            "a skill without a slug",
            json!({"skills": [{"body": "B"}]}),
            1,
        ),
        ("subagent of a wrong type", json!({"subagent": "s"}), 1),
        (
            "subagent without a prompt",
            json!({"subagent": {"slug": "s"}}),
            1,
        ),
        ("no time at all", json!({"timeoutSeconds": 0}), 1),
        ("negative time", json!({"timeoutSeconds": -5}), 1),
        ("time as text", json!({"timeoutSeconds": "60"}), 1),
        (
            "payload URL elsewhere",
            json!({"payloadUrl": "https://evil.example/p"}),
            1,
        ),
        (
            "payload URL with a user",
            json!({"payloadUrl": "https://good.example@evil.example/p"}),
            1,
        ),
        (
            "payload URL in clear text",
            json!({"payloadUrl": "http://good.example/p"}),
            1,
        ),
        ("payload URL without a host", json!({"payloadUrl": "/p"}), 1),
        ("payload URL of a wrong type", json!({"payloadUrl": 1}), 1),
        ("no type", json!({"type": null}), 1),
        (
            "type of a wrong type",
            json!({"type": ["ticket.assigned"], "attempt": 2}),
            2,
        ),
    ];
    for (label, changes, wanted) in rows {
        match decode(&frame_with(changes).to_string()) {
            Decoded::Event(Event::Backend(Order::Unusable(own, attempt, why))) => {
                assert_eq!((own, attempt), (id("A"), wanted), "{label}");
                assert!(!why.is_empty() && !why.contains('\n'), "{label}: {why:?}");
            }
            other => panic!("{label}: {other:?}"),
        }
    }
}

/// A frame that names no ticket, or is not valid, is dropped with a line in the log.
#[test]
fn frames_of_no_use_are_dropped() {
    let too_long = frame_with(json!({"ticketId": "x".repeat(129)})).to_string();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_field = format!(r#"{{"type":"ticket.assigned","ticketId":"A","x":{deep}}}"#);
    let rows: &[(&str, &str)] = &[
        ("empty", ""),
        ("blank", " \n"),
        ("no JSON", "hello"),
        ("half a frame", r#"{"type":"ticket.assigned","#),
        (
            "two frames",
            r#"{"type":"ticket.ack","ticketId":"A"}{"type":"ticket.ack","ticketId":"A"}"#,
        ),
        ("text", r#""ticket.assigned""#),
        ("number", "1"),
        ("null", "null"),
        ("list", r#"[{"type":"ticket.assigned","ticketId":"A"}]"#),
        ("empty object", "{}"),
        ("no type, no ticket", r#"{"x":1}"#),
        (
            "a lone surrogate",
            r#"{"type":"ticket.assigned","ticketId":"\uD800"}"#,
        ),
        (
            "a number beyond all",
            r#"{"type":"ticket.assigned","ticketId":"A","attempt":1e999}"#,
        ),
        ("nested too deep", &deep),
        ("nested too deep in a field", &deep_field),
        (
            "assignment without an id",
            r#"{"type":"ticket.assigned","role":"dev","repo":"a/b"}"#,
        ),
        (
            "assignment with an empty id",
            r#"{"type":"ticket.assigned","ticketId":"","role":"dev","repo":"a/b"}"#,
        ),
        (
            "id that climbs",
            r#"{"type":"ticket.assigned","ticketId":"../x","role":"dev","repo":"a/b"}"#,
        ),
        (
            "id with a line break",
            r#"{"type":"ticket.assigned","ticketId":"a\nb","role":"dev","repo":"a/b"}"#,
        ),
        (
            "id of a wrong type",
            r#"{"type":"ticket.assigned","ticketId":7,"role":"dev","repo":"a/b"}"#,
        ),
        ("id too long", &too_long),
        (
            "cancel without an id",
            r#"{"type":"ticket.cancel","reason":"x"}"#,
        ),
        (
            "cancel with a bad id",
            r#"{"type":"ticket.cancel","ticketId":"a b"}"#,
        ),
        ("ack without an id", r#"{"type":"ticket.ack","attempt":1}"#),
        (
            "ack with a bad id",
            r#"{"type":"ticket.ack","ticketId":""}"#,
        ),
        (
            "ack of an attempt in text",
            r#"{"type":"ticket.ack","ticketId":"A","attempt":"1"}"#,
        ),
        (
            "ack of an attempt beyond all",
            r#"{"type":"ticket.ack","ticketId":"A","attempt":4294967297}"#,
        ),
    ];
    for (label, frame) in rows {
        match decode(frame) {
            Decoded::Dropped(why) => {
                assert!(!why.is_empty() && why.len() < 4096, "{label}: {why:?}")
            }
            other => panic!("{label}: {other:?}"),
        }
    }
}

/// The other orders arrive with what they carry.
#[test]
fn other_orders() {
    let cancel = |reason: &str| Order::Cancel(id("A"), reason.to_owned());
    let ack = |attempt| Order::Ack(id("A"), attempt);
    let shutdown = |seconds| Order::ServerShutdown(Duration::from_secs(seconds));
    let rows = [
        (
            "cancel",
            json!({"type": "ticket.cancel", "ticketId": "A", "reason": "no more"}),
            cancel("no more"),
        ),
        (
            "cancel without a reason",
            json!({"type": "ticket.cancel", "ticketId": "A"}),
            cancel(""),
        ),
        (
            "cancel, reason null",
            json!({"type": "ticket.cancel", "ticketId": "A", "reason": null}),
            cancel(""),
        ),
        (
            "cancel with more",
            json!({"type": "ticket.cancel", "ticketId": "A", "by": {"x": 1}}),
            cancel(""),
        ),
        (
            "ack",
            json!({"type": "ticket.ack", "ticketId": "A", "attempt": 2}),
            ack(Some(2)),
        ),
        (
            "ack without an attempt",
            json!({"type": "ticket.ack", "ticketId": "A"}),
            ack(None),
        ),
        (
            "shutdown",
            json!({"type": "server.shutdown", "reconnectAfterSeconds": 30}),
            shutdown(30),
        ),
        (
            "shutdown at once",
            json!({"type": "server.shutdown", "reconnectAfterSeconds": 0}),
            shutdown(0),
        ),
        (
            "shutdown in the past",
            json!({"type": "server.shutdown", "reconnectAfterSeconds": -5}),
            shutdown(0),
        ),
        (
            "shutdown, no time",
            json!({"type": "server.shutdown"}),
            shutdown(0),
        ),
        (
            "shutdown, time in words",
            json!({"type": "server.shutdown", "reconnectAfterSeconds": "soon"}),
            shutdown(0),
        ),
        (
            "cancel with a strange reason",
            json!({"type": "ticket.cancel", "ticketId": "A", "reason": [1]}),
            cancel(""),
        ),
    ];
    for (label, frame, wanted) in rows {
        assert_eq!(
            decode(&frame.to_string()),
            Decoded::Event(Event::Backend(wanted)),
            "{label}"
        );
    }
    for seconds in [json!(u64::MAX), json!(1e300)] {
        let frame = json!({"type": "server.shutdown", "reconnectAfterSeconds": seconds});
        match decode(&frame.to_string()) {
            Decoded::Event(Event::Backend(Order::ServerShutdown(reconnect_after))) => {
                assert!(
                    reconnect_after >= Duration::from_secs(300),
                    "{seconds} s: {reconnect_after:?}"
                );
            }
            other => panic!("{seconds}: {other:?}"),
        }
    }
}

/// An unknown type is logged once, in a short line, and has no answer.
#[test]
fn unknown_types_are_mentioned_once() {
    let mut codec = codec();
    let mut seen = |kind: &str| codec.decode(&json!({"type": kind, "ticketId": "A"}).to_string());
    for kind in ["job", "ticket.Assigned", "", "agent.register"] {
        assert!(
            matches!(seen(kind), Decoded::Dropped(_)),
            "{kind:?}: the first time"
        );
        assert_eq!(seen(kind), Decoded::Ignored, "{kind:?}: the second time");
    }
    let Decoded::Dropped(line) = seen(&"\n\u{1b}".repeat(100_000)) else {
        panic!("a long type is not mentioned")
    };
    assert!(
        line.len() < 1000 && !line.contains(['\n', '\u{1b}']),
        "{line:?}"
    );
    let mentioned = (0..10_000)
        .filter(|n| matches!(seen(&format!("type{n}")), Decoded::Dropped(_)))
        .count();
    assert!(
        (1..=100).contains(&mentioned),
        "{mentioned} of 10000 invented types were mentioned"
    );
    assert!(matches!(
        codec.decode(r#"{"type":"ticket.ack","ticketId":"A"}"#),
        Decoded::Event(Event::Backend(Order::Ack(..)))
    ));
}

/// Every frame becomes one event or one line in the log, and never a panic.
#[test]
fn survives_any_frame() {
    let good = [
        frame_with(json!({
            "attempt": 2, "title": "T", "description": "D", "timeoutSeconds": 5,
            "skills": ["a", {"slug": "b", "body": "B"}], "subagent": {"slug": "s", "prompt": "P"},
            "payloadUrl": "https://good.example/p",
        })),
        json!({"type": "ticket.cancel", "ticketId": "A", "reason": "x"}),
        json!({"type": "ticket.ack", "ticketId": "A", "attempt": 1}),
        json!({"type": "server.shutdown", "reconnectAfterSeconds": 5}),
    ];
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(""),
        json!("A"),
        json!("\u{0}"),
        json!([]),
        json!({}),
        json!([null]),
        json!({"slug": []}),
        json!("https://evil.example"),
        json!("/"),
    ];
    let mut rng = fastrand::Rng::with_seed(5);
    let mut codec = codec();
    let (mut events, mut dropped) = (0, 0);
    for _ in 0..20_000 {
        let mut frame = good[rng.usize(..good.len())].clone();
        let text = match rng.u8(..4) {
            // One or two values of another kind.
            0 | 1 => {
                for _ in 0..rng.usize(1..3) {
                    let object = frame.as_object_mut().unwrap();
                    let at = rng.usize(..object.len());
                    *object.values_mut().nth(at).unwrap() =
                        values[rng.usize(..values.len())].clone();
                }
                frame.to_string()
            }
            // A field less.
            2 => {
                let object = frame.as_object_mut().unwrap();
                let name = object
                    .keys()
                    .nth(rng.usize(..object.len()))
                    .unwrap()
                    .clone();
                object.remove(&name);
                frame.to_string()
            }
            // Bytes of another kind.
            _ => {
                let mut bytes = frame.to_string().into_bytes();
                for _ in 0..rng.usize(1..4) {
                    let at = rng.usize(..bytes.len());
                    match rng.u8(..3) {
                        0 => bytes[at] = rng.u8(..),
                        1 => bytes.truncate(at.max(1)),
                        _ => bytes.insert(at, rng.u8(..)),
                    }
                }
                String::from_utf8_lossy(&bytes).into_owned()
            }
        };
        match codec.decode(&text) {
            Decoded::Event(_) => events += 1,
            Decoded::Dropped(_) | Decoded::Ignored => dropped += 1,
        }
    }
    assert!(
        events > 1000 && dropped > 1000,
        "{events} events, {dropped} dropped: the frames were hardly varied"
    );
    for _ in 0..5_000 {
        let noise: Vec<u8> = (0..rng.usize(..64)).map(|_| rng.u8(..)).collect();
        let decoded = codec.decode(&String::from_utf8_lossy(&noise));
        assert!(
            !matches!(decoded, Decoded::Event(_)),
            "noise is taken for an order: {noise:?}"
        );
    }
}
