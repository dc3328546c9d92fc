//! The `ticket` dialect: the documented protocol (docs/protocol.md sections 3 and 4).

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::outcome::{OutcomeBody, outcome_body};
use super::{Decoded, Identity, Unknown, WHY_MAX, event, fit};
use crate::config::ApiUrl;
use crate::domain::event::{Order, Progress, Unavailable};
use crate::domain::message::{Capacity, Heartbeat, Message, Register};
use crate::domain::repos::RepoRef;
use crate::domain::text::one_line;
use crate::domain::ticket::{Payload, Role, Ticket, TicketId};
use crate::times::{millis_of, rfc3339};
use crate::wire::WireBrief;

/// Turns messages into frames and frames into events.
#[derive(Debug)]
pub struct Codec {
    identity: Identity,
    api: ApiUrl,
    unknown: Unknown,
}

impl Codec {
    pub fn new(identity: Identity, api: ApiUrl) -> Self {
        Self {
            identity,
            api,
            unknown: Unknown::default(),
        }
    }

    pub fn encode(&self, message: &Message) -> String {
        match message {
            Message::Register(register) => {
                self.frame("agent.register", &register_body(register, &self.identity))
            }
            Message::Heartbeat(heartbeat) => {
                self.frame("agent.heartbeat", &heartbeat_body(heartbeat))
            }
            Message::Claim { id, attempt, at } => self.frame(
                "ticket.claim",
                &Claim {
                    ticket_id: id.as_str(),
                    attempt: *attempt,
                    at: rfc3339(*at),
                },
            ),
            Message::Progress {
                id,
                attempt,
                seq,
                progress,
            } => self.frame(
                "ticket.progress",
                &progress_body(id, *attempt, *seq, progress),
            ),
            Message::Outcome {
                id,
                attempt,
                outcome,
            } => {
                let kind = if outcome.failure.is_some() {
                    "ticket.fail"
                } else {
                    "ticket.result"
                };
                fit(outcome, |outcome| {
                    let body = outcome_body(outcome);
                    self.frame(
                        kind,
                        &Ended {
                            ticket_id: id.as_str(),
                            attempt: *attempt,
                            body,
                        },
                    )
                })
            }
        }
    }

    /// Whatever the frame holds, it is one event or one line for the log, never an error.
    pub fn decode(&mut self, text: &str) -> Decoded {
        let frame: Value = match serde_json::from_str(text) {
            Ok(frame) => frame,
            Err(e) => return Decoded::Dropped(format!("a frame that is not JSON: {e}")),
        };
        if !frame.is_object() {
            return Decoded::Dropped("a frame that is no JSON object".to_owned());
        }
        let Some(kind) = frame.get("type").and_then(Value::as_str) else {
            return unusable(&frame, "the frame has no string `type`".to_owned());
        };
        match kind {
            "ticket.assigned" => match self.assigned(&frame) {
                Ok(ticket) => event(Order::Assigned(Box::new(ticket))),
                Err(why) => unusable(&frame, why),
            },
            // What is optional here is never a reason not to do what is asked.
            "ticket.cancel" => of_ticket(&frame, kind, |id| {
                let reason = frame
                    .get("reason")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned();
                Order::Cancel { id, reason }
            }),
            // But for an attempt that cannot be read: to take it for any would settle what has not arrived.
            "ticket.ack"
                if frame.get("attempt").is_some_and(|a| !a.is_null())
                    && attempt_of(&frame).is_none() =>
            {
                Decoded::Dropped("a ticket.ack with an unusable attempt".to_owned())
            }
            "ticket.ack" => of_ticket(&frame, kind, |id| Order::Ack {
                id,
                attempt: attempt_of(&frame),
            }),
            "server.shutdown" => {
                let seconds = frame
                    .get("reconnectAfterSeconds")
                    .and_then(Value::as_f64)
                    .unwrap_or_default();
                // Whatever the backend says, the session does not stay away for longer than it sees fit.
                let reconnect_after = Duration::from_secs_f64(seconds.clamp(0.0, 1e9));
                event(Order::ServerShutdown { reconnect_after })
            }
            unknown => self.unknown.seen(unknown),
        }
    }

    fn frame<T: Serialize>(&self, kind: &str, body: &T) -> String {
        let frame = Frame {
            kind,
            agent_id: &self.identity.agent_id,
            body,
        };
        // Nothing here can fail to be JSON: the maps have string keys.
        serde_json::to_string(&frame)
            .unwrap_or_else(|e| panic!("a {kind} frame cannot be encoded: {e}"))
    }

    fn assigned(&self, frame: &Value) -> Result<Ticket, String> {
        let wire = Assigned::deserialize(frame).map_err(|e| e.to_string())?;
        let brief = WireBrief::deserialize(frame).map_err(|e| e.to_string())?;
        let id = TicketId::parse(&wire.ticket_id)?;
        let attempt = match wire.attempt {
            Some(0) => return Err("attempt must be at least 1".to_owned()),
            attempt => attempt.unwrap_or(1),
        };
        let time_limit = match wire.timeout_seconds {
            Some(0) => return Err("timeoutSeconds must be at least 1".to_owned()),
            seconds => seconds.map(Duration::from_secs),
        };
        let brief: crate::domain::ticket::Brief = brief.into();
        let payload = match (wire.payload_url, &brief) {
            (Some(url), _) => Payload::At(self.api.same_origin(&url)?),
            (None, brief) if brief.title.is_none() && brief.description.is_none() => {
                Payload::ByTicketId
            }
            (None, _) => Payload::Inline,
        };
        Ok(Ticket {
            id,
            attempt,
            role: Role::parse(&wire.role)?,
            repo: repo_ref(wire.repo),
            brief,
            payload,
            time_limit,
            branch: None,
        })
    }
}

/// A path is resolved here, once, so that policy compares canonical paths only. A network path of Windows is
/// left alone: to look at it would send the user's credentials to whatever host it names.
fn repo_ref(text: String) -> RepoRef {
    let path = PathBuf::from(&text);
    if !path.is_absolute() {
        return RepoRef::Slug(text);
    }
    let local = !cfg!(windows) || text.as_bytes().get(1) == Some(&b':');
    let resolved = if local {
        dunce::canonicalize(&path).unwrap_or(path)
    } else {
        path
    };
    RepoRef::Path {
        asked: text,
        resolved,
    }
}

fn of_ticket(frame: &Value, kind: &str, order: impl FnOnce(TicketId) -> Order) -> Decoded {
    match id_of(frame) {
        Some(id) => event(order(id)),
        None => Decoded::Dropped(format!("a {kind} without a usable ticketId")),
    }
}

fn id_of(frame: &Value) -> Option<TicketId> {
    frame
        .get("ticketId")
        .and_then(Value::as_str)
        .and_then(|id| TicketId::parse(id).ok())
}

fn attempt_of(frame: &Value) -> Option<u32> {
    frame
        .get("attempt")
        .and_then(Value::as_u64)
        .and_then(|attempt| u32::try_from(attempt).ok())
}

/// An assignment that cannot be used is answered where it names its ticket.
fn unusable(frame: &Value, why: String) -> Decoded {
    let why = one_line(&why, WHY_MAX);
    match id_of(frame) {
        Some(id) => event(Order::Unusable {
            id,
            attempt: attempt_of(frame).unwrap_or(1).max(1),
            why,
        }),
        None => Decoded::Dropped(format!("an unusable frame: {why}")),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Frame<'a, T> {
    #[serde(rename = "type")]
    kind: &'a str,
    agent_id: &'a str,
    #[serde(flatten)]
    body: &'a T,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RegisterBody<'a> {
    protocol_version: u32,
    name: &'a str,
    version: &'a str,
    roles: Vec<&'a str>,
    repo_paths: Vec<&'a PathBuf>,
    repos: Vec<RepoBody<'a>>,
    cli: CliBody<'a>,
    capacity: CapacityBody,
    active_tickets: Vec<ActiveBody<'a>>,
    platform: Platform,
}

#[derive(Serialize)]
struct RepoBody<'a> {
    path: &'a PathBuf,
    slug: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CliBody<'a> {
    name: &'a str,
    version: Option<&'a str>,
    available: bool,
    unavailable_reason: Option<&'a str>,
    available_at: Option<String>,
}

#[derive(Serialize)]
struct CapacityBody {
    max: usize,
    free: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ActiveBody<'a> {
    ticket_id: &'a str,
    attempt: u32,
    started_at: String,
}

#[derive(Serialize)]
struct Platform {
    os: &'static str,
    arch: &'static str,
}

fn register_body<'a>(register: &'a Register, identity: &'a Identity) -> RegisterBody<'a> {
    let cli = &register.cli;
    RegisterBody {
        protocol_version: 1,
        name: &identity.name,
        version: env!("CARGO_PKG_VERSION"),
        roles: register.roles.iter().map(Role::as_str).collect(),
        repo_paths: register.repo_paths().collect(),
        repos: register
            .repos
            .iter()
            .map(|repo| RepoBody {
                path: &repo.path,
                slug: repo.slug.as_deref(),
            })
            .collect(),
        cli: CliBody {
            name: &cli.name,
            version: cli.version.as_deref(),
            available: cli.unavailable.is_none(),
            unavailable_reason: cli.unavailable.map(Unavailable::name),
            available_at: match cli.unavailable {
                Some(Unavailable::QuotaExceeded { available_at }) => available_at.map(rfc3339),
                _ => None,
            },
        },
        capacity: capacity_body(register.capacity),
        active_tickets: register
            .active
            .iter()
            .map(|ticket| ActiveBody {
                ticket_id: ticket.id.as_str(),
                attempt: ticket.attempt,
                started_at: rfc3339(ticket.started_at),
            })
            .collect(),
        platform: Platform {
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
        },
    }
}

fn capacity_body(capacity: Capacity) -> CapacityBody {
    CapacityBody {
        max: capacity.max,
        free: capacity.free,
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HeartbeatBody<'a> {
    at: String,
    active_tickets: Vec<&'a str>,
    capacity: CapacityBody,
    status: &'static str,
}

fn heartbeat_body(heartbeat: &Heartbeat) -> HeartbeatBody<'_> {
    HeartbeatBody {
        at: rfc3339(heartbeat.at),
        active_tickets: heartbeat.active.iter().map(TicketId::as_str).collect(),
        capacity: capacity_body(heartbeat.capacity),
        status: heartbeat.status.name(),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Claim<'a> {
    ticket_id: &'a str,
    attempt: u32,
    at: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProgressBody<'a> {
    ticket_id: &'a str,
    attempt: u32,
    seq: u64,
    elapsed_ms: u64,
    phase: &'static str,
    stdout_bytes: u64,
    lines: &'a [String],
}

fn progress_body<'a>(
    id: &'a TicketId,
    attempt: u32,
    seq: u64,
    progress: &'a Progress,
) -> ProgressBody<'a> {
    ProgressBody {
        ticket_id: id.as_str(),
        attempt,
        seq,
        elapsed_ms: millis_of(progress.elapsed),
        phase: progress.phase.name(),
        stdout_bytes: progress.stdout_bytes,
        lines: &progress.lines,
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ended<'a> {
    ticket_id: &'a str,
    attempt: u32,
    #[serde(flatten)]
    body: OutcomeBody<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Assigned {
    ticket_id: String,
    attempt: Option<u32>,
    role: String,
    repo: String,
    timeout_seconds: Option<u64>,
    payload_url: Option<String>,
}
