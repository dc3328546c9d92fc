//! Frames: the wire format of each dialect and the sizes that hold for all (PROTOCOL.md sections 1 and 6).

pub mod ticket;

use std::time::SystemTime;

use crate::domain::event::Event;
use crate::domain::ticket::Outcome;

/// A larger inbound frame closes the connection with 1009.
pub const MAX_INBOUND: usize = 5 << 20;
/// The daemon never sends a larger frame, as encoded.
pub const MAX_OUTBOUND: usize = (9 << 20) / 2;
/// What may wait in the send buffer: the session's window of outcomes, each at its largest, and small frames.
pub const SEND_BUFFER: usize = 8 * MAX_OUTBOUND;

/// Who this agent is: what every message says, whatever it is about.
#[derive(Debug, Clone)]
pub struct Identity {
    pub agent_id: String,
    pub name: String,
}

/// What became of an inbound frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded {
    Event(Event),
    /// Not for this daemon, or of no use; a line for the log.
    Dropped(String),
    /// Of no use, and it has been said already.
    DroppedAgain,
}

/// RFC 3339, UTC, milliseconds.
fn rfc3339(time: SystemTime) -> String {
    // Outside the years -9999 to 9999 there is nothing sensible to say.
    let time = jiff::Timestamp::try_from(time).unwrap_or_default();
    format!("{time:.3}")
}

/// Encodes an outcome within [`MAX_OUTBOUND`]: the diff is left out first, then stdout is shortened further.
/// Escaping can make text six times longer, so only the encoded length counts.
fn fit(outcome: &Outcome, encode: impl Fn(&Outcome) -> String) -> String {
    let frame = encode(outcome);
    if frame.len() <= MAX_OUTBOUND {
        return frame;
    }
    let mut smaller = outcome.clone().bounded();
    if smaller.changes.diff.take().is_some() {
        smaller.changes.diff_truncated = true;
    }
    loop {
        let frame = encode(&smaller);
        if frame.len() <= MAX_OUTBOUND || smaller.stdout.shown_len() == 0 {
            // What is left has bounds of its own.
            return frame;
        }
        smaller.stdout = smaller.stdout.shortened(smaller.stdout.shown_len() / 2);
    }
}
