//! Frames: the wire format of each dialect and the sizes that hold for all (docs/protocol.md sections 1 and 6).

pub mod hub;
mod outcome;
pub mod ticket;

use std::collections::HashSet;

use crate::domain::dialect::Dialect;
use crate::domain::event::{Event, Order};
use crate::domain::message::Message;
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
    /// Nothing to do and nothing to say.
    Ignored,
}

/// One codec for each dialect, and the one of the current connection.
#[derive(Debug)]
pub struct Codecs {
    pub current: Dialect,
    ticket: ticket::Codec,
    hub: hub::Codec,
}

impl Codecs {
    /// `current`: what the backend spoke last.
    pub fn new(current: Dialect, ticket: ticket::Codec, hub: hub::Codec) -> Self {
        Self {
            current,
            ticket,
            hub,
        }
    }

    pub fn encode(&self, message: &Message) -> String {
        match self.current {
            Dialect::Ticket => self.ticket.encode(message),
            Dialect::Hub => self.hub.encode(message),
        }
    }

    pub fn decode(&mut self, text: &str) -> Decoded {
        match self.current {
            Dialect::Ticket => self.ticket.decode(text),
            Dialect::Hub => self.hub.decode(text),
        }
    }
}

/// The complaint about a frame quotes the frame; so much of it is sent back.
const WHY_MAX: usize = 300;

/// Types that a codec does not know, so that each is logged once.
#[derive(Debug, Default)]
struct Unknown(HashSet<String>);

impl Unknown {
    /// A backend that invents more of them is not worth more memory.
    const MAX: usize = 64;

    fn seen(&mut self, kind: &str) -> Decoded {
        let short: String = kind.chars().take(64).collect();
        if self.0.len() >= Self::MAX || !self.0.insert(short.clone()) {
            return Decoded::Ignored;
        }
        Decoded::Dropped(format!(
            "a frame of the unknown type {short:?}; further ones are not mentioned"
        ))
    }
}

fn event(order: Order) -> Decoded {
    Decoded::Event(Event::Backend(order))
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
