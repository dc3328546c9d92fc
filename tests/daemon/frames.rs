//! What the agent makes of frames: every wrong shape is survived.

use serde_json::{Value, json};
use tungstenite::Message;

use crate::support::backend::{What, is_outcome};
use crate::support::world::{World, ticket_with};

/// Frames that name no ticket and cannot be used, one kind each.
fn nameless() -> Vec<(&'static str, String)> {
    let assigned = |fields: Value| ticket_with("unused", fields).to_string();
    vec![
        ("empty", String::new()),
        ("not JSON", "hello".to_owned()),
        (
            "half of an object",
            r#"{"type":"ticket.assigned","ticketId":"T"#.to_owned(),
        ),
        ("two objects", "{} {}".to_owned()),
        ("null", "null".to_owned()),
        ("a number", "42".to_owned()),
        ("a text", "\"ticket.assigned\"".to_owned()),
        ("an array", "[{\"type\":\"ticket.assigned\"}]".to_owned()),
        ("an empty object", "{}".to_owned()),
        ("a type that is a number", r#"{"type":7}"#.to_owned()),
        ("a type that is null", r#"{"type":null}"#.to_owned()),
        (
            "a type in an array",
            r#"{"type":["ticket.assigned"]}"#.to_owned(),
        ),
        (
            "an unknown type",
            r#"{"type":"ticket.teleport","ticketId":"T-9"}"#.to_owned(),
        ),
        ("an empty type", r#"{"type":""}"#.to_owned()),
        ("its own type", r#"{"type":"agent.register"}"#.to_owned()),
        ("no ticket id", assigned(json!({"ticketId": null}))),
        ("an id that is a number", assigned(json!({"ticketId": 5}))),
        (
            "an id that is an object",
            assigned(json!({"ticketId": {"id": "T"}})),
        ),
        ("an empty id", assigned(json!({"ticketId": ""}))),
        (
            "an id with a slash",
            assigned(json!({"ticketId": "../../etc"})),
        ),
        ("an id with a space", assigned(json!({"ticketId": "T 1"}))),
        (
            "an id with a line break",
            assigned(json!({"ticketId": "T\n1"})),
        ),
        (
            "an id that is not ASCII",
            assigned(json!({"ticketId": "Tïcket"})),
        ),
        (
            "an id of 129 letters",
            assigned(json!({"ticketId": "x".repeat(129)})),
        ),
        (
            "a cancellation of nothing",
            r#"{"type":"ticket.cancel"}"#.to_owned(),
        ),
        (
            "a cancellation of a number",
            r#"{"type":"ticket.cancel","ticketId":1}"#.to_owned(),
        ),
        ("an ack of nothing", r#"{"type":"ticket.ack"}"#.to_owned()),
        ("a hundred thousand brackets", "[".repeat(100_000)),
        (
            "deep nesting",
            format!("{}{}", "{\"a\":".repeat(5000), "1") + &"}".repeat(5000),
        ),
        (
            "a number beyond every size",
            r#"{"type":"ticket.ack","ticketId":"T","attempt":1e999}"#.to_owned(),
        ),
        ("a lone surrogate", r#"{"type":"\ud800"}"#.to_owned()),
        ("NUL", "\0".to_owned()),
    ]
}

/// Fields of an assignment that make it unusable although its ticket can be named.
fn unusable_fields() -> Vec<(&'static str, Value)> {
    let with = |name: &'static str, value: Value| (name, json!({ name: value }));
    vec![
        with("role", Value::Null),
        with("role", json!(5)),
        with("role", json!("")),
        with("role", json!(["dev"])),
        with("repo", Value::Null),
        with("repo", json!({"slug": "acme/app"})),
        with("repo", json!(7)),
        with("type", Value::Null),
        with("type", json!(1)),
        with("attempt", json!(-1)),
        with("attempt", json!("2")),
        with("attempt", json!(1.5)),
        with("timeoutSeconds", json!("soon")),
        with("timeoutSeconds", json!(-5)),
        with("title", json!(["a", "b"])),
        with("description", json!({"text": "x"})),
        with("skills", json!({"slug": "x"})),
        with("skills", json!([1])),
        with("skills", json!([{"body": "no slug"}])),
        with("subagent", json!("reviewer")),
        with("subagent", json!({"slug": "no-prompt"})),
        with("payloadUrl", json!(1)),
    ]
}

/// Frames of every wrong shape, one after another: the connection stays, nothing is answered, and the next ticket runs.
#[test]
fn nameless_malformed_frames_are_dropped() {
    let world = World::new();
    let agent = world.agent("echo ran");
    let frames = nameless();
    assert!(frames.len() >= 15);
    for (kind, text) in frames {
        let before = world.backend.frames().len();
        world.backend.send_text(&text);
        world.fence();
        // The refusal that is the fence is all that came.
        assert_eq!(
            world.backend.frames().len(),
            before + 1,
            "{kind}: {:#?}",
            world.backend.frames()
        );
    }
    world
        .backend
        .send_message(Message::binary(b"{\"type\":\"ticket.assigned\"}".to_vec()));
    world.backend.send_message(Message::binary(Vec::new()));
    assert_eq!(world.outcome_of("T-1")["stdout"], "ran\n");
    assert_eq!(world.backend.connections(), 1);
    assert_eq!(
        world
            .backend
            .frames()
            .iter()
            .filter(|frame| frame["type"] == "agent.register")
            .count(),
        1
    );
    assert!(agent.log().contains(" WARN "), "{}", agent.log());
}

/// An assignment that cannot be used but names its ticket is answered `invalid_ticket`, and is not claimed.
#[test]
fn unusable_assignments_are_answered() {
    let world = World::new();
    let _agent = world.agent("echo ran");
    for (n, (name, fields)) in unusable_fields().into_iter().enumerate() {
        let id = format!("bad-{n}");
        world
            .backend
            .send_anything(&ticket_with(&id, fields.clone()));
        let fail = world.backend.outcome(&id);
        assert_eq!(fail["type"], "ticket.fail", "{fields}: {fail}");
        assert_eq!(fail["code"], "invalid_ticket", "{fields}: {fail}");
        assert_eq!(fail["retryable"], false, "{fields}");
        assert_eq!(fail["exitCode"], Value::Null, "{fields}");
        assert!(
            fail["error"]
                .as_str()
                .is_some_and(|error| !error.is_empty() && !error.contains('\n')),
            "{fail}"
        );
        assert!(fail["attempt"].is_u64(), "{name}: {fail}");
        assert_eq!(
            world.backend.frames_of(&id).len(),
            1,
            "{fields}: {:#?}",
            world.backend.frames_of(&id)
        );
    }
    assert_eq!(world.outcome_of("T-1")["stdout"], "ran\n");
    assert_eq!(world.backend.connections(), 1);
}

/// A shutdown of the backend with an unusable time does not cost the agent.
#[test]
fn a_shutdown_with_an_unusable_time_is_survived() {
    for time in [json!("x"), json!(-1), json!({})] {
        let world = World::new();
        let _agent = world.agent("echo ran");
        world
            .backend
            .send_anything(&json!({"type": "server.shutdown", "reconnectAfterSeconds": time}));
        world.assign("T-1");
        // The agent may take it for a shutdown or not; either way it is there for the next ticket.
        let next = world
            .backend
            .wait_for("a sign of the agent", |seen| match &seen.what {
                What::Frame(frame) if frame["type"] == "agent.register" || is_outcome(frame) => {
                    Some(frame.clone())
                }
                _ => None,
            });
        let result = if is_outcome(&next) {
            next
        } else {
            world.outcome_of("T-1")
        };
        assert_eq!(result["stdout"], "ran\n", "{time}: {result}");
    }
}

/// An unknown type is logged once at `warn`, however often it comes.
#[test]
fn an_unknown_type_is_mentioned_once() {
    let world = World::new();
    let agent = world.agent("true");
    for _ in 0..5 {
        world
            .backend
            .send_anything(&json!({"type": "ticket.teleport", "to": "mars"}));
    }
    world
        .backend
        .send_anything(&json!({"type": "ticket.shrink"}));
    agent.logged("ticket.shrink");
    world.fence();
    let log = agent.log();
    let mentions = log
        .lines()
        .filter(|line| line.contains("WARN") && line.contains("ticket.teleport"))
        .count();
    assert_eq!(mentions, 1, "{log}");
}

/// Unknown fields are ignored, also within objects.
#[test]
fn unknown_fields_are_ignored() {
    let world = World::new();
    let _agent = world.agent("cat");
    let fields = json!({
        "priority": {"level": [1, 2]},
        "subagent": {"slug": "s", "prompt": "Be exact.", "model": "x"},
        "skills": [{"slug": "k", "body": "Know this.", "version": 3}],
    });
    let result = world.outcome_with("T-1", fields);
    assert_eq!(result["type"], "ticket.result", "{result}");
    assert!(result["stdout"].as_str().unwrap().contains("Know this."));
}

/// A frame above 5 MiB ends the connection with 1009; the agent comes back, and the next ticket runs.
#[test]
fn an_oversized_frame_ends_the_connection_with_1009() {
    let world = World::new();
    let _agent = world.agent("echo ran");
    let description = "x".repeat((5 << 20) + 1);
    world
        .backend
        .send(&ticket_with("big", json!({ "description": description })));
    assert_eq!(world.backend.closed(), Some(1009));
    world.backend.frame("agent.register");
    assert_eq!(world.outcome_of("T-1")["stdout"], "ran\n");
    assert!(world.backend.frames_of("big").is_empty());
}

/// A frame just below 5 MiB is taken like any other.
#[test]
fn a_frame_just_below_the_limit_is_taken() {
    let world = World::new();
    let _agent = world.agent("wc -c");
    let description = "x".repeat((5 << 20) - 1000);
    let result = world.outcome_with("T-1", json!({ "description": description }));
    assert_eq!(result["type"], "ticket.result", "{result}");
    let bytes: usize = result["stdout"].as_str().unwrap().trim().parse().unwrap();
    assert!(bytes > description.len(), "the prompt had {bytes} bytes");
    assert_eq!(world.backend.connections(), 1);
}

/// A message may come in fragments, with a Ping between them.
#[test]
fn a_fragmented_message_is_put_together() {
    let world = World::new();
    let _agent = world.agent("echo ran");
    let text = ticket_with("T-1", json!({})).to_string();
    let (first, rest) = text.as_bytes().split_at(50);
    let (second, third) = rest.split_at(50);
    for (head, part) in [
        (0x01, first),
        (0x00, second),
        (0x89, b"between".as_slice()),
        (0x80, third),
    ] {
        assert!(part.len() < 126, "a longer part needs a longer head");
        world
            .backend
            .send_raw(&[&[head, u8::try_from(part.len()).unwrap()], part].concat());
    }
    assert_eq!(world.backend.outcome("T-1")["stdout"], "ran\n");
}

/// Fragments that are small each but too much together end the connection with 1009 too.
#[test]
fn oversized_fragments_end_the_connection_with_1009() {
    let world = World::new();
    let _agent = world.agent("true");
    let part = [b"x".as_slice(); 60_000].concat();
    let head = |first: u8| {
        [
            &[first, 126],
            u16::try_from(part.len()).unwrap().to_be_bytes().as_slice(),
        ]
        .concat()
    };
    world.backend.send_raw(&[head(0x01), part.clone()].concat());
    for _ in 0..(5 << 20) / part.len() + 1 {
        world.backend.send_raw(&[head(0x00), part.clone()].concat());
    }
    assert_eq!(world.backend.closed(), Some(1009));
    world.backend.frame("agent.register");
}

/// The backend's Ping is answered with its own payload.
#[test]
fn a_ping_is_answered() {
    let world = World::new();
    let _agent = world.agent("true");
    world
        .backend
        .send_message(Message::Ping(b"are you there".to_vec().into()));
    let payload = world.backend.wait_for("a Pong", |seen| match &seen.what {
        What::Pong(payload) => Some(payload.clone()),
        _ => None,
    });
    assert_eq!(payload, b"are you there");
}

/// Every frame carries the agent's id, and times are RFC 3339 UTC with milliseconds.
#[test]
fn every_frame_carries_the_agent_id() {
    let world = World::new();
    let _agent = world.agent("true");
    world.outcome_of("T-1");
    world.outcome_with("T-2", json!({"repo": "no/such"}));
    let frames = world.backend.frames();
    let id = frames[0]["agentId"].as_str().unwrap().to_owned();
    assert!(
        frames.len() >= 4 && frames.iter().all(|frame| frame["agentId"] == id.as_str()),
        "{frames:#?}"
    );
    for (frame, field) in frames
        .iter()
        .flat_map(|frame| ["at", "startedAt", "finishedAt"].map(|field| (frame, field)))
    {
        if let Some(time) = frame.get(field) {
            let time = time
                .as_str()
                .unwrap_or_else(|| panic!("{field} in {frame}"));
            assert!(
                time.len() == 24
                    && time.ends_with('Z')
                    && &time[10..11] == "T"
                    && &time[19..20] == ".",
                "{time}"
            );
        }
    }
}

/// At `debug` the log shows the frames of both directions.
#[test]
fn debug_shows_the_traffic() {
    let world = World::new();
    let agent = world.registered(world.launch("true").env("LOG_LEVEL", "debug"));
    world
        .backend
        .send_anything(&json!({"type": "ticket.teleport", "mark": "seen-at-debug"}));
    agent.logged("seen-at-debug");
    assert!(agent.log().contains("agent.register"), "{}", agent.log());
}
