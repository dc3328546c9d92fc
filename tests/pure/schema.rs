//! The contract in `contrib/protocol` itself: schemas, types and examples say the same, the codecs keep to it, and it
//! refuses what is wrong. The stand-ins in `tests/support` check that the built daemon keeps to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use wf0_agent::config::Token;
use wf0_agent::domain::event::{Event, Order};
use wf0_agent::domain::message::{
    Capacity, CliState, Dialect, Heartbeat, Message, Register, Status, Unavailable,
};
use wf0_agent::domain::ticket::{
    Changes, DiffStat, Exit, FailCode, Failure, Outcome, Phase, Progress, Span, Usage,
};
use wf0_agent::link::protocol::{Codecs, Decoded, Identity, hub, ticket};

use super::contract::{self, FILES, Side, check, check_frame, kinds, union};
use super::support::{active, api, cli, done, id, repo, role};

/// The examples for readers of TypeScript, which are JSON within it.
const EXAMPLES: &str = include_str!("../../contrib/protocol/examples.ts");
const TYPES: [(&str, &str); 3] = [
    ("ticket", include_str!("../../contrib/protocol/ticket.ts")),
    ("hub", include_str!("../../contrib/protocol/hub.ts")),
    ("http", include_str!("../../contrib/protocol/http.ts")),
];
const SIDES: [(Dialect, Side, &str); 4] = [
    (Dialect::Ticket, Side::Agent, "ticketFromAgent"),
    (Dialect::Ticket, Side::Backend, "ticketFromBackend"),
    (Dialect::Hub, Side::Agent, "hubFromAgent"),
    (Dialect::Hub, Side::Backend, "hubFromBackend"),
];

/// The list of examples of that name.
fn examples(name: &str) -> Vec<Value> {
    let (_, list) = EXAMPLES
        .split_once(&format!("export const {name}: "))
        .unwrap_or_else(|| panic!("no {name}"));
    let (_, list) = list.split_once(" = ").expect("a value");
    let mut values = serde_json::Deserializer::from_str(list).into_iter();
    values
        .next()
        .expect("a list")
        .unwrap_or_else(|e| panic!("{name} is not JSON: {e}"))
}

fn codecs(dialect: Dialect) -> Codecs {
    let agent_id = "5f3c1d9e-0000-4000-8000-000000000001".to_owned();
    let identity = Identity {
        agent_id,
        name: "laptop".to_owned(),
    };
    let ticket = ticket::Codec::new(identity, api("https://workforce0.example.com"));
    Codecs::new(dialect, ticket, hub::Codec::new(vec!["git".to_owned()]))
}

/// What the schemas say of a frame: that of its type, and that of all that this side sends, are of one mind.
fn verdict(dialect: Dialect, side: Side, frame: &Value) -> Result<(), String> {
    let own = check_frame(dialect, side, frame);
    let all = check(dialect.name(), union(side), frame);
    assert_eq!(own.is_ok(), all.is_ok(), "{own:?}\n{all:?}");
    own
}

/// Messages with all that there can be, and with as little.
fn messages() -> Vec<Message> {
    let at = SystemTime::UNIX_EPOCH;
    let span = Some(Span {
        started_at: at,
        finished_at: at,
        duration: Duration::from_millis(7),
    });
    let usage = Usage {
        input_tokens: Some(1),
        output_tokens: Some(2),
        cache_read_tokens: Some(3),
        cost_micros: Some(4),
        turns: Some(5),
        session_id: Some("s".to_owned()),
    };
    let changes = Changes {
        diff: Some("+x\n".to_owned()),
        diff_truncated: false,
        stat: Some(DiffStat {
            files: 1,
            insertions: 1,
            deletions: 0,
        }),
        base_commit: Some("a".repeat(40)),
        head_commit: Some("b".repeat(64)),
    };
    let full = Outcome {
        exit: Some(Exit::Code(0)),
        usage: Some(usage),
        changes,
        span,
        warnings: vec!["mind the gap".to_owned()],
        pull_request: Some("https://host.example/pull/7".to_owned()),
        ..Outcome::clone(&done("done\n"))
    };
    let bare = Outcome {
        exit: Some(Exit::Code(0)),
        span,
        ..Outcome::default()
    };
    let cut_off = Outcome {
        exit: Some(Exit::Signal(9)),
        pull_request: None,
        ..full.clone()
    };
    let failures = fail_codes().map(|code| {
        let error = if code == FailCode::Timeout {
            "timeout"
        } else {
            "it failed"
        };
        Failure::new(code, error)
    });
    let failed = failures.iter().cloned().flat_map(|failure| {
        [
            Outcome {
                failure: Some(failure.clone()),
                ..cut_off.clone()
            },
            Outcome::unstarted(failure),
        ]
    });
    let outcomes = [full.clone(), bare].into_iter().chain(failed);
    let outcomes = outcomes.map(|outcome| Message::Outcome(id("T-1"), 1, Arc::new(outcome)));

    let quota = |available_at| Some(Unavailable::QuotaExceeded { available_at });
    let clis = [
        None,
        Some(Unavailable::NotFound),
        quota(None),
        quota(Some(at)),
    ];
    let registers = clis.into_iter().map(|unavailable| {
        Message::Register(Register {
            roles: if unavailable.is_none() {
                vec![role("dev"), role("qa")]
            } else {
                Vec::new()
            },
            repos: vec![repo("app")],
            cli: CliState {
                unavailable,
                version: Some("1.2.3".to_owned()),
                ..cli()
            },
            capacity: Capacity { max: 64, free: 0 },
            active: vec![active("T-1", 1, at)],
        })
    });
    let beats = [Status::Ready, Status::Draining, Status::Degraded].map(|status| {
        Message::Heartbeat(Heartbeat {
            at,
            active: vec![id("T-1")],
            capacity: Capacity { max: 1, free: 1 },
            status,
        })
    });
    let progress = [Phase::Preparing, Phase::Running, Phase::Collecting].map(|phase| {
        let progress = Progress {
            phase,
            elapsed: Duration::MAX,
            stdout_bytes: u64::MAX,
            lines: vec![String::new()],
        };
        Message::Progress(id("T-1"), u32::MAX, 1, progress)
    });
    let claim = Message::Claim(id("T-1"), 1, at);
    [claim]
        .into_iter()
        .chain(registers)
        .chain(beats)
        .chain(progress)
        .chain(outcomes)
        .collect()
}

/// A new kind of message fails to compile here, which leads its author to [`messages`], where an example is needed.
fn kind(message: &Message) -> &'static str {
    match message {
        Message::Register(_) => "register",
        Message::Heartbeat(_) => "heartbeat",
        Message::Claim(..) => "claim",
        Message::Progress(..) => "progress",
        Message::Outcome(..) => "outcome",
    }
}

/// Every frame that the codecs make of these messages.
fn encoded(dialect: Dialect) -> Vec<Value> {
    let codecs = codecs(dialect);
    let auth = (dialect == Dialect::Hub).then(|| hub::auth(&Token::new("wfa_secret").unwrap()));
    let frames = messages()
        .into_iter()
        .map(|message| codecs.encode(&message))
        .chain(auth);
    frames
        .map(|frame| serde_json::from_str(&frame).unwrap())
        .collect()
}

fn types(frames: &[Value]) -> BTreeSet<String> {
    frames
        .iter()
        .map(|frame| frame["type"].as_str().expect("a type").to_owned())
        .collect()
}

/// The names of all fields, at any depth.
fn names(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            found.insert(name.clone());
            names(value, found);
        }),
        Value::Array(items) => items.iter().for_each(|item| names(item, found)),
        _ => {}
    }
}

/// The names of all properties that a definition has, and those that it refers to.
fn properties(file: &str, rule: &Value, found: &mut BTreeSet<String>) {
    match rule {
        Value::Object(rules) => {
            for (keyword, rule) in rules {
                match (keyword.as_str(), rule) {
                    ("properties", Value::Object(own)) => found.extend(own.keys().cloned()),
                    ("$ref", Value::String(to)) => {
                        let (other, definition) = to.split_once("#/$defs/").expect("a definition");
                        let other = other.strip_suffix(".schema.json").unwrap_or(file);
                        properties(other, &FILES[other]["$defs"][definition], found);
                    }
                    _ => {}
                }
                properties(file, rule, found);
            }
        }
        Value::Array(rules) => rules.iter().for_each(|rule| properties(file, rule, found)),
        _ => {}
    }
}

/// Every message that the codecs can make keeps the contract, and the contract has no message and no field that no
/// codec makes.
#[test]
fn the_codecs_keep_the_contract_and_use_all_of_it() {
    let made: BTreeSet<_> = messages().iter().map(kind).collect();
    assert_eq!(
        made,
        BTreeSet::from(["claim", "heartbeat", "outcome", "progress", "register"])
    );
    for dialect in Dialect::ALL {
        let frames = encoded(dialect);
        for frame in &frames {
            verdict(dialect, Side::Agent, frame).unwrap_or_else(|why| panic!("{why}"));
        }
        let known: BTreeSet<_> = kinds(dialect, Side::Agent)
            .into_iter()
            .map(|(kind, _)| kind)
            .collect();
        assert_eq!(types(&frames), known, "{dialect:?}");
        let (mut sent, mut allowed) = (BTreeSet::new(), BTreeSet::new());
        frames.iter().for_each(|frame| names(frame, &mut sent));
        properties(
            dialect.name(),
            &FILES[dialect.name()]["$defs"][union(Side::Agent)],
            &mut allowed,
        );
        assert_eq!(sent, allowed, "{dialect:?}");
    }
}

/// The examples are of every type, keep the contract, and those of a backend are understood.
#[test]
fn the_examples_keep_the_contract() {
    for (dialect, side, list) in SIDES {
        let frames = examples(list);
        for frame in &frames {
            verdict(dialect, side, frame).unwrap_or_else(|why| panic!("{list}: {why}"));
            assert_eq!(contract::dialect_of(frame), dialect, "{frame}");
            if side == Side::Backend {
                let decoded = codecs(dialect).decode(&frame.to_string());
                // A connected agent knows that its token is good; a later frame about it is only logged.
                let is_late = frame["type"] == "auth_error";
                assert_eq!(
                    matches!(decoded, Decoded::Dropped(_)),
                    is_late,
                    "{list}: {frame}: {decoded:?}"
                );
                assert!(
                    !matches!(decoded, Decoded::Event(Event::Backend(Order::Unusable(..)))),
                    "{frame}"
                );
            }
        }
        let known: BTreeSet<_> = kinds(dialect, side)
            .into_iter()
            .map(|(kind, _)| kind)
            .collect();
        assert_eq!(types(&frames), known, "{list}");
    }
    for (list, definition) in [
        ("payloadAnswers", "PayloadAnswer"),
        ("skillAnswers", "SkillAnswer"),
    ] {
        let answers = examples(list);
        assert!(
            answers.iter().any(|answer| answer["success"] == false),
            "{list}"
        );
        for answer in answers {
            check("http", definition, &answer).unwrap_or_else(|why| panic!("{list}: {why}"));
        }
    }
}

/// The fields of each interface, or of the braces that end a type, and whether they may be absent.
fn interfaces(types: &str) -> BTreeMap<String, BTreeMap<String, bool>> {
    let mut found: BTreeMap<String, BTreeMap<String, bool>> = BTreeMap::new();
    let mut open = None;
    for line in types.lines() {
        let declared = line
            .strip_prefix("export interface ")
            .or_else(|| line.strip_prefix("export type "));
        if let Some(declared) = declared.filter(|_| line.ends_with('{')) {
            let name = declared.split(' ').next().unwrap_or_default().to_owned();
            found.insert(name.clone(), BTreeMap::new());
            open = Some(name);
        } else if line.starts_with('}') {
            open = None;
        } else if let (Some(name), Some((field, _))) = (&open, line.trim_start().split_once(": ")) {
            let word = field.trim_end_matches('?');
            if word.chars().all(char::is_alphanumeric) {
                found
                    .get_mut(name)
                    .expect("it is open")
                    .insert(word.to_owned(), field.ends_with('?'));
            }
        }
    }
    found
}

/// The types of TypeScript and the schemas have the same names with the same fields, and the same ones may be absent.
#[test]
fn the_types_say_what_the_schemas_say() {
    for (file, types) in TYPES {
        let mut wanted = BTreeMap::new();
        for (name, definition) in FILES[file]["$defs"].as_object().unwrap() {
            let Some(properties) = definition["properties"].as_object() else {
                continue;
            };
            let required = definition["required"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let is_optional = |field: &String| !required.contains(&json!(field));
            let fields: BTreeMap<_, _> = properties
                .keys()
                .map(|field| (field.clone(), is_optional(field)))
                .collect();
            wanted.insert(name.clone(), fields);
        }
        assert!(wanted.len() > 4, "{file}: {wanted:?}");
        assert_eq!(interfaces(types), wanted, "{file}");
    }
    let codes = FILES["ticket"]["$defs"]["failCode"]["enum"]
        .as_array()
        .unwrap();
    let (_, typed) = TYPES[0].1.split_once("export type FailCode =").unwrap();
    let typed: BTreeSet<_> = typed
        .split_once(';')
        .unwrap()
        .0
        .split('"')
        .skip(1)
        .step_by(2)
        .collect();
    assert_eq!(
        codes
            .iter()
            .map(|code| code.as_str().unwrap())
            .collect::<BTreeSet<_>>(),
        typed
    );
    assert_eq!(
        BTreeSet::from(fail_codes().map(|code| code.to_string())),
        typed.into_iter().map(str::to_owned).collect()
    );
}

/// Every place in a value that is an object or in one, as a pointer.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), value))
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(n, item)| (n.to_string(), item))
            .collect(),
        _ => Vec::new(),
    };
    for (name, value) in inner {
        let at = format!("{at}/{name}");
        places(value, &at, found);
        found.push(at);
    }
}

/// In the agent's frames no field may be missing (but these), have another type, or be added.
#[test]
fn the_schemas_are_strict_with_the_agent() {
    const OPTIONAL: [&str; 3] = ["usage", "cacheReadTokens", "prUrl"];
    let mut tried = 0;
    for (dialect, side, list) in SIDES
        .into_iter()
        .filter(|(_, side, _)| *side == Side::Agent)
    {
        for frame in examples(list) {
            let mut all = Vec::new();
            places(&frame, "", &mut all);
            for at in &all {
                let (parent, name) = at.rsplit_once('/').unwrap();
                let mut broken = frame.clone();
                *broken.pointer_mut(at).unwrap() = json!([[{}]]);
                assert!(
                    verdict(dialect, side, &broken).is_err(),
                    "{at} of another type: {broken}"
                );
                let mut broken = frame.clone();
                if let Some(fields) = broken.pointer_mut(parent).unwrap().as_object_mut() {
                    fields.remove(name);
                    let is_optional = OPTIONAL.contains(&name);
                    assert_eq!(
                        verdict(dialect, side, &broken).is_ok(),
                        is_optional,
                        "{at} is missing: {broken}"
                    );
                }
                tried += 1;
            }
            let objects = all.iter().map(String::as_str).chain([""]);
            for at in objects.filter(|at| frame.pointer(at).unwrap().is_object()) {
                let mut broken = frame.clone();
                broken.pointer_mut(at).unwrap()["surplus"] = json!(1);
                assert!(
                    verdict(dialect, side, &broken).is_err(),
                    "{at} has a field more: {broken}"
                );
            }
        }
    }
    assert!(tried > 150, "only {tried} places");
}

/// The example of that type with these places changed. A place that is set to null is removed.
fn changed(list: &str, kind: &str, changes: &Value) -> Value {
    let mut frame = examples(list)
        .into_iter()
        .find(|frame| frame["type"] == kind)
        .expect("an example");
    for (at, value) in changes.as_object().unwrap() {
        let (parent, name) = at.rsplit_once('/').expect("a pointer");
        let fields = frame
            .pointer_mut(parent)
            .expect("a place")
            .as_object_mut()
            .expect("an object");
        match value {
            Value::Null => fields.remove(name),
            value => fields.insert(name.to_owned(), value.clone()),
        };
    }
    frame
}

/// What no agent sends, by the values: out of range, of another form, or one field against another.
#[test]
fn the_schemas_refuse_wrong_values_of_the_agent() {
    let long = |length: usize| json!("x".repeat(length));
    let wrong = [
        ("agent.register", json!({"/protocolVersion": 2})),
        ("agent.register", json!({"/agentId": "laptop"})),
        ("agent.register", json!({"/roles": ["dev_agent!"]})),
        ("agent.register", json!({"/roles": ["dev", "dev"]})),
        ("agent.register", json!({"/repos/0/slug": "app"})),
        ("agent.register", json!({"/repos/0/slug": "acme/app name"})),
        ("agent.register", json!({"/capacity/max": 0})),
        ("agent.register", json!({"/capacity/max": 65})),
        ("agent.register", json!({"/capacity/free": -1})),
        ("agent.register", json!({"/cli/available": false})),
        (
            "agent.register",
            json!({"/cli/available": false, "/cli/unavailableReason": "not_found"}),
        ),
        (
            "agent.register",
            json!({"/cli/unavailableReason": "quota_exceeded"}),
        ),
        (
            "agent.register",
            json!({"/cli/unavailableReason": "asleep"}),
        ),
        (
            "agent.register",
            json!({"/cli/availableAt": "2026-01-02T08:00:00.000Z"}),
        ),
        ("agent.register", json!({"/activeTickets/0/attempt": 0})),
        ("agent.register", json!({"/type": "agent.registered"})),
        ("agent.heartbeat", json!({"/status": "busy"})),
        ("agent.heartbeat", json!({"/at": "2026-01-02T03:04:05Z"})),
        (
            "agent.heartbeat",
            json!({"/at": "2026-01-02T03:04:05.678+00:00"}),
        ),
        (
            "agent.heartbeat",
            json!({"/at": "2026-13-02T03:04:05.678Z"}),
        ),
        ("agent.heartbeat", json!({"/at": 1_767_323_045})),
        ("agent.heartbeat", json!({"/activeTickets": ["a b"]})),
        ("ticket.claim", json!({"/ticketId": ""})),
        ("ticket.claim", json!({"/ticketId": "x".repeat(129)})),
        ("ticket.claim", json!({"/ticketId": "../etc"})),
        ("ticket.claim", json!({"/attempt": 0})),
        ("ticket.claim", json!({"/attempt": 1.5})),
        ("ticket.claim", json!({"/attempt": 4_294_967_296_u64})),
        ("ticket.progress", json!({"/seq": 0})),
        ("ticket.progress", json!({"/elapsedMs": -1})),
        ("ticket.progress", json!({"/phase": "done"})),
        ("ticket.progress", json!({"/lines": [long(16_385)]})),
        ("ticket.progress", json!({"/lines": "one"})),
        ("ticket.result", json!({"/exitCode": 1})),
        ("ticket.result", json!({"/error": "none"})),
        ("ticket.result", json!({"/diffTruncated": true})),
        ("ticket.result", json!({"/headCommit": "abc"})),
        ("ticket.result", json!({"/durationMs": -1})),
        ("ticket.result", json!({"/stdout": long(4_718_593)})),
        ("ticket.result", json!({"/warnings": ["one\ntwo"]})),
        ("ticket.result", json!({"/warnings": [long(502)]})),
        ("ticket.result", json!({"/warnings": vec!["x"; 52]})),
        ("ticket.result", json!({"/usage/costUsd": -0.1})),
        (
            "ticket.result",
            json!({"/prUrl": "http://host.example/pull/7"}),
        ),
        ("ticket.fail", json!({"/code": "failed"})),
        ("ticket.fail", json!({"/code": "quota_exceeded"})),
        ("ticket.fail", json!({"/retryable": true})),
        ("ticket.fail", json!({"/code": "timeout"})),
        ("ticket.fail", json!({"/error": ""})),
        ("ticket.fail", json!({"/error": long(2002)})),
        ("ticket.fail", json!({"/error": "\u{1b}[1mno"})),
        ("ticket.fail", json!({"/signal": 9})),
        (
            "ticket.fail",
            json!({"/prUrl": "https://host.example/pull/7"}),
        ),
        ("ticket.fail", json!({"/startedAt": null})),
        ("ticket.fail", json!({"/stdout": null})),
        ("auth", json!({"/token": ""})),
        ("register", json!({"/repos": null})),
        ("register", json!({"/repos": ["app"]})),
        ("register", json!({"/capabilities": ["git", "git"]})),
        ("ping", json!({"/at": "2026-01-02T03:04:05.678Z"})),
        ("job_ack", json!({"/jobId": "a b"})),
        ("job_progress", json!({"/percent": 100})),
        ("job_progress", json!({"/percent": 4})),
        ("job_progress", json!({"/percent": 18.5})),
        ("job_progress", json!({"/message": ""})),
        ("job_result", json!({"/status": "failed"})),
        ("job_result", json!({"/status": "completed"})),
        ("job_result", json!({"/data/exitCode": 2})),
        ("job_result", json!({"/data/error": "none"})),
    ];
    for (kind, changes) in wrong {
        let list = if kind.contains('.') {
            "ticketFromAgent"
        } else {
            "hubFromAgent"
        };
        let dialect = if kind.contains('.') {
            Dialect::Ticket
        } else {
            Dialect::Hub
        };
        let whole = changed(list, kind, &json!({}));
        verdict(dialect, Side::Agent, &whole).unwrap_or_else(|why| panic!("{why}"));
        let broken = changed(list, kind, &changes);
        assert!(
            verdict(dialect, Side::Agent, &broken).is_err(),
            "{kind} with {changes} is taken"
        );
        // Nor does the other dialect know it, nor the other side send it.
        assert!(
            verdict(dialect.other(), Side::Agent, &whole).is_err(),
            "{kind} in the other dialect"
        );
        assert!(
            verdict(dialect, Side::Backend, &whole).is_err(),
            "{kind} from a backend"
        );
    }
    for nothing in [
        json!(null),
        json!([]),
        json!({}),
        json!("ping"),
        json!({"type": 7}),
        json!({"type": null}),
    ] {
        for (dialect, side, _) in SIDES {
            assert!(verdict(dialect, side, &nothing).is_err(), "{nothing}");
        }
    }
}

fn is_understood(dialect: Dialect, frame: &Value) -> bool {
    match codecs(dialect).decode(&frame.to_string()) {
        Decoded::Event(Event::Backend(Order::Unusable(..))) | Decoded::Dropped(_) => false,
        Decoded::Event(_) | Decoded::Ignored => true,
    }
}

/// The schemas and the codecs accept the same frames of a backend: valid ones, also with unknown fields, and no unusable
/// ones.
#[test]
fn the_schemas_take_from_a_backend_what_the_codecs_take() {
    let rows = [
        (
            "ticket.assigned",
            json!({"/priority": {"level": [1, 2]}}),
            true,
        ),
        (
            "ticket.assigned",
            json!({"/attempt": null, "/skills": null, "/timeoutSeconds": null}),
            true,
        ),
        (
            "ticket.assigned",
            json!({"/subagent": {"slug": "s", "prompt": "p", "model": "x"}}),
            true,
        ),
        (
            "ticket.assigned",
            json!({"/skills": [{"slug": "s"}, {"slug": "s", "version": 3}]}),
            true,
        ),
        (
            "ticket.assigned",
            json!({"/payloadUrl": "https://workforce0.example.com/p?x=2"}),
            true,
        ),
        ("ticket.assigned", json!({"/ticketId": null}), false),
        ("ticket.assigned", json!({"/ticketId": "a b"}), false),
        ("ticket.assigned", json!({"/role": null}), false),
        ("ticket.assigned", json!({"/role": "a b"}), false),
        ("ticket.assigned", json!({"/repo": null}), false),
        (
            "ticket.assigned",
            json!({"/repo": {"slug": "acme/app"}}),
            false,
        ),
        ("ticket.assigned", json!({"/attempt": 0}), false),
        (
            "ticket.assigned",
            json!({"/attempt": 4_294_967_296_u64}),
            false,
        ),
        ("ticket.assigned", json!({"/attempt": "2"}), false),
        ("ticket.assigned", json!({"/title": ["a"]}), false),
        (
            "ticket.assigned",
            json!({"/description": {"text": "x"}}),
            false,
        ),
        ("ticket.assigned", json!({"/skills": [1]}), false),
        (
            "ticket.assigned",
            json!({"/skills": [{"body": "no slug"}]}),
            false,
        ),
        ("ticket.assigned", json!({"/subagent": "reviewer"}), false),
        (
            "ticket.assigned",
            json!({"/subagent": {"slug": "no prompt"}}),
            false,
        ),
        ("ticket.assigned", json!({"/timeoutSeconds": 0}), false),
        ("ticket.assigned", json!({"/timeoutSeconds": "soon"}), false),
        ("ticket.assigned", json!({"/payloadUrl": "/p"}), false),
        (
            "ticket.assigned",
            json!({"/payloadUrl": "ftp://workforce0.example.com/p"}),
            false,
        ),
        ("ticket.assigned", json!({"/payloadUrl": 1}), false),
        (
            "ticket.assigned",
            json!({"/type": "ticket.teleport"}),
            false,
        ),
        ("ticket.cancel", json!({"/reason": null, "/by": "x"}), true),
        ("ticket.cancel", json!({"/ticketId": null}), false),
        ("ticket.ack", json!({"/attempt": null}), true),
        ("ticket.ack", json!({"/attempt": "1"}), false),
        ("ticket.ack", json!({"/ticketId": ""}), false),
        (
            "server.shutdown",
            json!({"/reconnectAfterSeconds": 0.5}),
            true,
        ),
        ("job", json!({"/payload/taskId": "t", "/priority": 1}), true),
        ("job", json!({"/payload/title": null}), true),
        ("job", json!({"/jobId": null}), false),
        ("job", json!({"/jobId": "../x"}), false),
        ("job", json!({"/action": null}), false),
        ("job", json!({"/action": ""}), false),
        ("job", json!({"/action": "dance"}), false),
        (
            "job",
            json!({"/action": "dance", "/payload/prompt": " "}),
            false,
        ),
        (
            "job",
            json!({"/action": "review_pr", "/payload/branch": null}),
            false,
        ),
        ("job", json!({"/payload/branch": null}), false),
        ("job", json!({"/payload/branch": "--mirror"}), false),
        ("job", json!({"/payload/branch": "a b"}), false),
        ("job", json!({"/payload/prdContent": null}), false),
        (
            "job",
            json!({"/payload/prdContent": "x".repeat(512_001)}),
            false,
        ),
        ("job", json!({"/payload": "a text"}), false),
        ("job_complete", json!({"/jobId": null}), false),
        (
            "server_shutdown",
            json!({"/reconnectAfter": 0, "/why": "deploy"}),
            true,
        ),
    ];
    for (kind, changes, is_good) in rows {
        let list = if kind.contains('.') {
            "ticketFromBackend"
        } else {
            "hubFromBackend"
        };
        let dialect = if kind.contains('.') {
            Dialect::Ticket
        } else {
            Dialect::Hub
        };
        let frame = changed(list, kind, &changes);
        let verdict = verdict(dialect, Side::Backend, &frame);
        assert_eq!(
            verdict.is_ok(),
            is_good,
            "{kind} with {changes}: {verdict:?}"
        );
        assert_eq!(
            is_understood(dialect, &frame),
            is_good,
            "{kind} with {changes}"
        );
    }
    for (definition, answer) in [
        ("PayloadAnswer", json!({"success": true})),
        ("PayloadAnswer", json!({"success": true, "data": null})),
        (
            "PayloadAnswer",
            json!({"success": true, "data": {"title": 5}}),
        ),
        ("PayloadAnswer", json!({"success": true, "data": [1]})),
        ("PayloadAnswer", json!({"success": false})),
        ("PayloadAnswer", json!({"title": "no envelope"})),
        ("SkillAnswer", json!({"success": true, "data": {}})),
        ("SkillAnswer", json!({"success": true, "data": {"body": 1}})),
        (
            "SkillAnswer",
            json!({"success": false, "error": {"code": "gone"}}),
        ),
    ] {
        assert!(
            check("http", definition, &answer).is_err(),
            "{definition}: {answer}"
        );
    }
}

/// Every code. The match does not compile without a code that is missing here.
fn fail_codes() -> [FailCode; 15] {
    use FailCode::{
        AgentRestarted, AgentShutdown, AtCapacity, Cancelled, CliExit, CliNotFound, Internal,
        InvalidTicket, PayloadUnavailable, QuotaExceeded, Rejected, RepoNotAllowed, RoleNotAllowed,
        SpawnFailed, Timeout,
    };
    match Timeout {
        Timeout | CliExit | CliNotFound | SpawnFailed | QuotaExceeded | RepoNotAllowed
        | RoleNotAllowed | AtCapacity | InvalidTicket | PayloadUnavailable | Cancelled
        | Rejected | AgentShutdown | AgentRestarted | Internal => [
            Timeout,
            CliExit,
            CliNotFound,
            SpawnFailed,
            QuotaExceeded,
            RepoNotAllowed,
            RoleNotAllowed,
            AtCapacity,
            InvalidTicket,
            PayloadUnavailable,
            Cancelled,
            Rejected,
            AgentShutdown,
            AgentRestarted,
            Internal,
        ],
    }
}
