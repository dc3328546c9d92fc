//! Lost connections and refused ones: when the agent comes back, and when it ends.

use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::support::backend::{Backend, Upgrade, What, is_outcome};
use crate::support::world::{World, ticket_with};

fn answer(head: &str) -> Upgrade {
    Upgrade::Answer(format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n"))
}

/// The time from the last refusal or the end of a connection to the next registration.
fn time_to_return(backend: &Backend) -> Duration {
    let (at, _) = backend.timed_frame("agent.register", |_| true);
    let seen = backend.seen();
    let before = seen
        .iter()
        .rev()
        .find(|seen| matches!(seen.what, What::Refused | What::Closed(_)) && seen.at < at);
    at - before.expect("a setback").at
}

/// The waits grow from 1 s, doubling, each at least half of its whole.
#[test]
fn the_backoff_grows() {
    let world = World::new();
    for _ in 0..3 {
        world.backend.next_upgrade(Upgrade::Drop);
    }
    let _agent = world.launch("true").start();
    let mut last = world.backend.refused();
    for least in [500, 1000] {
        let next = world.backend.refused();
        assert!(
            next - last >= Duration::from_millis(least),
            "{:?} is less than {least} ms",
            next - last
        );
        last = next;
    }
    let (registered, _) = world.backend.timed_frame("agent.register", |_| true);
    assert!(
        registered - last >= Duration::from_secs(2),
        "{:?}",
        registered - last
    );
}

/// After any other answer to the upgrade, or none, the agent tries again.
#[test]
fn other_refusals_are_tried_again() {
    for refusal in [
        answer("400 Bad Request"),
        answer("404 Not Found"),
        answer("429 Too Many Requests"),
        answer("500 Internal Server Error"),
        answer("502 Bad Gateway"),
        answer("200 OK"),
        Upgrade::Answer("SSH-2.0-OpenSSH_9.6\r\n".to_owned()),
        Upgrade::Answer(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Accept: bm90IHRoZSByaWdodCBvbmU=\r\n\r\n"
                .to_owned(),
        ),
    ] {
        let world = World::new();
        world.backend.next_upgrade(refusal.clone());
        let mut agent = world.launch("true").start();
        world.backend.refused();
        world.backend.frame("agent.register");
        assert!(agent.is_running(), "{refusal:?}");
    }
}

/// A backend that is not there yet is waited for.
#[test]
fn a_backend_that_is_not_there_is_waited_for() {
    let world = World::new();
    let unused = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://127.0.0.1:{}", unused.local_addr().unwrap().port());
    drop(unused);
    let mut agent = world.launch("true").env("WORKFORCE0_API_URL", url).start();
    agent.logged("next try");
    agent.logged("next try");
    assert!(agent.is_running());
    assert_eq!(agent.terminate().code(), Some(0));
}

/// A run goes on while the connection is away; its outcome comes after the next registration, exactly once.
#[test]
fn a_run_outlasts_the_connection() {
    let world = World::new();
    let _agent = world.agent("tell up; hold end; echo finished; tell over");
    world.assign("T-1");
    world.told("up");
    world.backend.next_upgrade(Upgrade::Drop);
    world.backend.cut();
    world.backend.refused();
    world.release("end");
    world.told("over");
    let register = world.backend.frame("agent.register");
    let active: Vec<_> = register["activeTickets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["ticketId"].clone())
        .collect();
    assert!(active.is_empty() || active == ["T-1"], "{register}");
    assert_eq!(world.backend.outcome("T-1")["stdout"], "finished\n");
    world.fence();
    assert_eq!(
        world.outcome_with("T-2", json!({"repo": "no/such"}))["code"],
        "repo_not_allowed"
    );
    let again = world.backend.frames_on(2);
    assert_eq!(again[0]["type"], "agent.register", "{again:#?}");
    let outcomes = world
        .backend
        .frames()
        .into_iter()
        .filter(|frame| is_outcome(frame) && frame["ticketId"] == "T-1");
    assert_eq!(outcomes.count(), 1);
    let claims = world
        .backend
        .frames()
        .into_iter()
        .filter(|frame| frame["type"] == "ticket.claim");
    assert_eq!(claims.count(), 1);
}

/// The registration after a reconnect names what still runs and what waits.
#[test]
fn a_new_registration_names_the_active_tickets() {
    let world = World::new();
    let _agent = world.agent("tell up; hold end");
    world
        .backend
        .send(&ticket_with("T-1", json!({"attempt": 3})));
    world.told("up");
    world.assign("T-2");
    world.fence();
    world.backend.cut();
    let register = world.backend.frame("agent.register");
    let active = register["activeTickets"].as_array().unwrap();
    assert_eq!(active.len(), 2, "{register}");
    assert_eq!(
        (&active[0]["ticketId"], &active[0]["attempt"]),
        (&json!("T-1"), &json!(3))
    );
    assert_eq!(
        (&active[1]["ticketId"], &active[1]["attempt"]),
        (&json!("T-2"), &json!(1))
    );
    assert!(
        active.iter().all(|ticket| ticket["startedAt"]
            .as_str()
            .is_some_and(|at| at.len() == 24)),
        "{register}"
    );
    assert_eq!(register["capacity"], json!({"max": 1, "free": 0}));
    world.release("end");
    assert_eq!(world.backend.outcome("T-1")["attempt"], 3);
}

/// A token that is refused ends the daemon with exit code 77 and one line that says where to mint another.
#[test]
fn a_refused_token_ends_the_daemon() {
    for status in ["401 Unauthorized", "403 Forbidden"] {
        let world = World::new();
        world.backend.next_upgrade(answer(status));
        let ended = world.launch("true").env("LOG_LEVEL", "warn").output();
        assert_eq!(ended.code, 77, "{status}: {ended:?}");
        assert_eq!(
            ended.stderr.trim_end().lines().count(),
            1,
            "{}",
            ended.stderr
        );
        assert!(
            ended.stderr.contains("token") && ended.stderr.contains("Settings"),
            "{}",
            ended.stderr
        );
        assert_eq!(world.backend.requests().len(), 1);
    }
}

/// A token that is revoked while connected ends the daemon with exit code 77, and the runs with it.
#[test]
fn a_revoked_token_ends_the_daemon() {
    for (code, reason) in [
        (4401, ""),
        (4403, "revoked"),
        (1008, "auth_failed"),
        (1008, "auth"),
    ] {
        let world = World::new();
        let mut agent = world.agent("tell up; hold never");
        world.assign("T-1");
        world.told("up");
        world.backend.close(code, reason);
        assert_eq!(agent.exit_code(), 77, "{code} {reason:?}: {}", agent.log());
        assert!(agent.log().contains("token"), "{}", agent.log());
        assert!(
            world.processes(&agent).is_empty(),
            "{code}: {:?}",
            world.processes(&agent)
        );
        assert_eq!(world.backend.connections(), 1);
    }
}

/// Any other close, a 1008 for another reason included, is followed by a reconnect.
#[test]
fn any_other_close_is_followed_by_a_reconnect() {
    for (code, reason) in [
        (1000, ""),
        (1001, "going away"),
        (1008, "policy"),
        (1011, "auth"),
        (1012, ""),
        (4400, "auth"),
    ] {
        let world = World::new();
        let mut agent = world.agent("true");
        world.backend.close(code, reason);
        world.backend.frame("agent.register");
        assert!(agent.is_running(), "{code} {reason:?}");
    }
}

/// A version that the backend does not support ends the daemon with exit code 76.
#[test]
fn an_unsupported_version_ends_the_daemon() {
    let world = World::new();
    world.backend.next_upgrade(answer("426 Upgrade Required"));
    let ended = world.launch("true").output();
    assert_eq!(ended.code, 76, "{ended:?}");
    assert!(ended.stderr.contains("version"), "{}", ended.stderr);
}

/// `Retry-After` is waited out, in seconds and as a date.
#[test]
fn retry_after_is_waited_out() {
    let date = || {
        let at = SystemTime::now() + Duration::from_secs(4);
        let at = jiff::Timestamp::try_from(at).unwrap();
        jiff::fmt::rfc2822::DateTimePrinter::new()
            .timestamp_to_rfc9110_string(&at)
            .unwrap()
    };
    // A date has whole seconds, so up to one of the four may be gone.
    for (status, seconds) in [
        ("503 Service Unavailable", Some(2)),
        ("429 Too Many Requests", Some(2)),
        ("503 Busy", None),
    ] {
        let after = seconds.map_or_else(date, |seconds: u64| seconds.to_string());
        let world = World::new();
        world
            .backend
            .next_upgrade(answer(&format!("{status}\r\nRetry-After: {after}")));
        let _agent = world.launch("true").start();
        world.backend.refused();
        let took = time_to_return(&world.backend);
        assert!(
            took >= Duration::from_secs(2),
            "Retry-After: {after}: back after {took:?}"
        );
    }
}

/// After `server.shutdown` the runs go on, and the agent comes back after the time that was named.
#[test]
fn a_server_shutdown_is_followed_by_a_reconnect() {
    let world = World::new();
    let mut agent = world.agent("tell up; hold end; echo finished");
    world.assign("T-1");
    world.told("up");
    world
        .backend
        .send(&json!({"type": "server.shutdown", "reconnectAfterSeconds": 2}));
    world.backend.closed();
    let took = time_to_return(&world.backend);
    // The agent counts from the frame, which it had a little before its goodbye was seen here.
    assert!(took >= Duration::from_millis(1500), "back after {took:?}");
    assert!(agent.is_running());
    world.release("end");
    assert_eq!(world.backend.outcome("T-1")["stdout"], "finished\n");
}

/// A peer from which nothing comes for 25 s is given up, and the agent connects again.
#[test]
fn a_silent_peer_is_given_up() {
    let world = World::new();
    let _agent = world.agent("true");
    let since = world.backend.seen().last().unwrap().at;
    world.backend.ignore_pings();
    let closed = world
        .backend
        .wait_for("the end of the connection", |seen| match seen.what {
            What::Closed(_) => Some(seen.at),
            _ => None,
        });
    assert!(
        closed - since >= Duration::from_secs(24),
        "given up after {:?}",
        closed - since
    );
    world.backend.frame("agent.register");
}

/// Garbage instead of frames ends the connection, not the agent.
#[test]
fn garbage_instead_of_frames_is_survived() {
    // Long enough that no length in it can be waited for.
    let text_that_is_not_utf8 = b"\x81\x02\xff\xfe".to_vec();
    for garbage in [
        b"HTTP/1.1 400 Bad Request\r\n\r\n".repeat(10),
        vec![0xff; 1000],
        text_that_is_not_utf8,
    ] {
        let world = World::new();
        let _agent = world.agent("echo ran");
        world.backend.send_raw(&garbage);
        world.backend.frame("agent.register");
        assert_eq!(world.outcome_of("T-1")["stdout"], "ran\n");
    }
}
