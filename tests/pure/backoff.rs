//! The waits between attempts to connect (docs/protocol.md section 7).

use std::time::Duration;

use wf0_agent::domain::liveness::Backoff;

const WHOLE: [u64; 8] = [1, 2, 4, 8, 16, 30, 30, 30];

fn grown() -> Backoff {
    let mut backoff = Backoff::default();
    for _ in 0..WHOLE.len() {
        backoff.next_wait(0.5);
    }
    backoff
}

/// The waits double from 1 s to 30 s, and each is drawn between half and the whole of it.
#[test]
fn doubles_to_thirty_seconds_within_half_and_whole() {
    let rows = [
        ("no jitter", 0.0, 0.5),
        ("half", 0.5, 0.75),
        ("all", 1.0, 1.0),
        ("beyond all", 7.0, 1.0),
        ("below none", -7.0, 0.5),
    ];
    for (label, jitter, share) in rows {
        let mut backoff = Backoff::default();
        for (step, whole) in WHOLE.into_iter().enumerate() {
            assert_eq!(
                backoff.next_wait(jitter),
                Duration::from_secs(whole).mul_f64(share),
                "{label}, wait {step}"
            );
        }
    }
}

/// Only a connection that lasted 30 s takes the waits back to 1 s.
#[test]
fn begins_anew_after_a_connection_that_lasted() {
    let rows = [
        ("never open", Duration::ZERO, 30),
        ("dropped at once", Duration::from_millis(1), 30),
        ("almost", Duration::from_millis(29_999), 30),
        ("exactly", Duration::from_secs(30), 1),
        ("a day", Duration::from_secs(86_400), 1),
    ];
    for (label, lasted, next) in rows {
        let mut backoff = grown();
        backoff.note_connection(lasted);
        assert_eq!(backoff.next_wait(1.0), Duration::from_secs(next), "{label}");
    }
}
