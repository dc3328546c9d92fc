//! Frames: one codec for each dialect, and the size limits of both (docs/protocol.md sections 1 and 6).

pub mod hub;
pub mod ticket;

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::domain::event::{Event, Order};
use crate::domain::message::{Dialect, Message};
use crate::domain::ticket::{Exit, Outcome, Span, TicketId, Usage};
use crate::times::{millis_of, rfc3339};

/// A larger inbound frame closes the connection with 1009.
pub const MAX_INBOUND: usize = 5 << 20;
/// The largest encoded frame that the daemon sends.
pub const MAX_OUTBOUND: usize = (9 << 20) / 2;
/// Room for the outcomes in the outbox's window, each in its largest encoding, and for small frames.
pub(super) const SEND_BUFFER: usize = 8 * MAX_OUTBOUND;

/// What every message says about the agent.
#[derive(Debug, Clone)]
pub struct Identity {
    pub agent_id: String,
    pub name: String,
}

/// The meaning of an inbound frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded {
    Event(Event),
    /// The frame cannot be used. The text is a line for the log.
    Dropped(String),
    /// There is nothing to do and nothing to log.
    Ignored,
}

/// One codec for each dialect, and the dialect of the current connection.
#[derive(Debug)]
pub struct Codecs {
    pub current: Dialect,
    ticket: ticket::Codec,
    hub: hub::Codec,
}

impl Codecs {
    /// `current` is the dialect that the backend spoke last.
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

/// The longest error about a frame that the daemon sends back, in characters. It may quote the frame.
const WHY_MAX: usize = 300;

/// The unknown types that a codec has seen, so that each is logged once.
#[derive(Debug, Default)]
struct Unknown(HashSet<String>);

impl Unknown {
    /// How many types a codec remembers, and how many characters of each.
    const MAX: usize = 64;

    fn note(&mut self, kind: &str) -> Decoded {
        let short: String = kind.chars().take(Self::MAX).collect();
        if self.0.len() >= Self::MAX || !self.0.insert(short.clone()) {
            return Decoded::Ignored;
        }
        let why = format!("a frame of the unknown type {short:?}; further ones are not mentioned");
        Decoded::Dropped(why)
    }
}

fn event(order: Order) -> Decoded {
    Decoded::Event(Event::Backend(order))
}

/// Encodes an outcome within [`MAX_OUTBOUND`]. First leaves out the diff, then shortens stdout further.
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
            // The other fields have limits of their own.
            return frame;
        }
        smaller.stdout = smaller.stdout.shortened(smaller.stdout.shown_len() / 2);
    }
}

/// How a ticket ended, as both dialects send it (docs/protocol.md section 3, `ticket.result` and `ticket.fail`).
fn outcome_body(outcome: &Outcome) -> Value {
    let (exit_code, signal) = match outcome.exit {
        Some(Exit::Code(code)) => (Some(code), None),
        Some(Exit::Signal(signal)) => (None, Some(signal)),
        None => (None, None),
    };
    let mut body = json!({ "exitCode": exit_code, "warnings": outcome.warnings });
    if let Some(failure) = &outcome.failure {
        body["code"] = json!(failure.code);
        body["error"] = json!(failure.error);
        body["signal"] = json!(signal);
        body["retryable"] = json!(failure.code.is_retryable());
    }
    if let Some(span) = outcome.span {
        add_run(&mut body, outcome, span);
    }
    if let Some(address) = &outcome.pull_request {
        body["prUrl"] = json!(address);
    }
    body
}

/// Adds the fields that only a started run has.
fn add_run(body: &mut Value, outcome: &Outcome, span: Span) {
    let changes = &outcome.changes;
    body["stdout"] = json!(outcome.stdout.render());
    body["stdoutTruncated"] = json!(outcome.stdout.is_cut());
    body["diff"] = json!(changes.diff);
    body["diffTruncated"] = json!(changes.diff_truncated);
    body["diffStat"] = json!(changes.stat);
    body["baseCommit"] = json!(changes.base_commit);
    body["headCommit"] = json!(changes.head_commit);
    body["startedAt"] = json!(rfc3339(span.started_at));
    body["finishedAt"] = json!(rfc3339(span.finished_at));
    body["durationMs"] = json!(millis_of(span.duration));
    if let Some(usage) = &outcome.usage {
        body["usage"] = usage_body(usage);
    }
}

#[expect(clippy::cast_precision_loss, reason = "no run costs so many dollars")]
fn usage_body(usage: &Usage) -> Value {
    let mut body = json!({
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "costUsd": usage.cost_micros.map(|micros| micros as f64 / 1e6),
        "turns": usage.turns,
        "sessionId": usage.session_id,
    });
    if let Some(tokens) = usage.cache_read_tokens {
        body["cacheReadTokens"] = json!(tokens);
    }
    body
}

/// An inbound frame as JSON, or a line for the log.
fn parse(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(frame @ Value::Object(_)) => Ok(frame),
        Ok(_) => Err("a frame that is no JSON object".to_owned()),
        Err(e) => Err(format!("a frame that is not JSON: {e}")),
    }
}

fn text_of<'a>(frame: &'a Value, field: &str) -> Option<&'a str> {
    frame.get(field)?.as_str()
}

/// The ticket id in this field, if the field has a valid one.
fn id_of(frame: &Value, field: &str) -> Option<TicketId> {
    TicketId::parse(text_of(frame, field)?).ok()
}

/// The seconds in this field. The session limits them further.
fn seconds_of(frame: &Value, field: &str) -> Duration {
    let seconds = frame.get(field).and_then(Value::as_f64);
    Duration::from_secs_f64(seconds.unwrap_or_default().clamp(0.0, 1e9))
}
