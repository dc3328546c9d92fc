//! The `ticket` dialect: the documented protocol (docs/protocol.md sections 3 and 4).

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Decoded, Identity, Unknown, WHY_MAX, event, fit, id_of, outcome_body, parse, seconds_of,
    text_of,
};
use crate::config::{ApiUrl, canonicalize};
use crate::domain::event::Order;
use crate::domain::message::{CliState, Heartbeat, Message, Register, Unavailable};
use crate::domain::repos::{Repo, RepoRef};
use crate::domain::text::one_line;
use crate::domain::ticket::{ActiveTicket, Brief, Payload, Progress, Role, Ticket, TicketId};
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
                self.frame("agent.register", register_body(register, &self.identity))
            }
            Message::Heartbeat(heartbeat) => {
                self.frame("agent.heartbeat", heartbeat_body(heartbeat))
            }
            Message::Claim(id, attempt, at) => {
                let body = json!({ "at": rfc3339(*at) });
                self.ticket_frame("ticket.claim", id, *attempt, body)
            }
            Message::Progress(id, attempt, seq, progress) => {
                let body = progress_body(*seq, progress);
                self.ticket_frame("ticket.progress", id, *attempt, body)
            }
            Message::Outcome(id, attempt, outcome) => {
                let kind = match outcome.failure {
                    Some(_) => "ticket.fail",
                    None => "ticket.result",
                };
                fit(outcome, |outcome| {
                    self.ticket_frame(kind, id, *attempt, outcome_body(outcome))
                })
            }
        }
    }

    /// Turns a frame into at most one event or one line for the log. It never fails.
    pub fn decode(&mut self, text: &str) -> Decoded {
        let frame = match parse(text) {
            Ok(frame) => frame,
            Err(why) => return Decoded::Dropped(why),
        };
        let Some(kind) = text_of(&frame, "type") else {
            return unusable(&frame, "the frame has no string `type`");
        };
        match kind {
            "ticket.assigned" => match self.assigned(&frame) {
                Ok(ticket) => event(Order::Assigned(Box::new(ticket))),
                Err(why) => unusable(&frame, &why),
            },
            // The reason is optional. The daemon cancels the ticket without it, too.
            "ticket.cancel" => about_ticket(&frame, kind, |id| {
                let reason = text_of(&frame, "reason").unwrap_or_default().to_owned();
                Order::Cancel(id, reason)
            }),
            // An attempt that cannot be read must not mean "any attempt". Otherwise the daemon would drop an outcome
            // that the backend does not have.
            "ticket.ack" if !has_usable_attempt(&frame) => {
                Decoded::Dropped("a ticket.ack with an unusable attempt".to_owned())
            }
            "ticket.ack" => about_ticket(&frame, kind, |id| Order::Ack(id, attempt_of(&frame))),
            "server.shutdown" => {
                let after = seconds_of(&frame, "reconnectAfterSeconds");
                event(Order::ServerShutdown(after))
            }
            unknown => self.unknown.note(unknown),
        }
    }

    fn ticket_frame(&self, kind: &str, id: &TicketId, attempt: u32, mut body: Value) -> String {
        body["ticketId"] = json!(id.as_str());
        body["attempt"] = json!(attempt);
        self.frame(kind, body)
    }

    fn frame(&self, kind: &str, mut body: Value) -> String {
        body["type"] = json!(kind);
        body["agentId"] = json!(self.identity.agent_id);
        body.to_string()
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
        let brief = Brief::from(brief);
        let has_task = brief.title.is_some() || brief.description.is_some();
        let payload = match wire.payload_url {
            Some(url) => Payload::At(self.api.same_origin(&url)?),
            None if has_task => Payload::Inline,
            None => Payload::ByTicketId,
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

/// Resolves a path once, here, so policy compares only canonical paths. A network path of Windows stays as it is:
/// resolving it would send the user's credentials to the host in the path.
fn repo_ref(text: String) -> RepoRef {
    let path = PathBuf::from(&text);
    if !path.is_absolute() {
        return RepoRef::Slug(text);
    }
    let local = !cfg!(windows) || text.as_bytes().get(1) == Some(&b':');
    let resolved = match local {
        true => canonicalize(&path).unwrap_or(path),
        false => path,
    };
    let asked = text;
    RepoRef::Path { asked, resolved }
}

fn about_ticket(frame: &Value, kind: &str, order: impl FnOnce(TicketId) -> Order) -> Decoded {
    match id_of(frame, "ticketId") {
        Some(id) => event(order(id)),
        None => Decoded::Dropped(format!("a {kind} without a usable ticketId")),
    }
}

fn attempt_of(frame: &Value) -> Option<u32> {
    u32::try_from(frame.get("attempt")?.as_u64()?).ok()
}

fn has_usable_attempt(frame: &Value) -> bool {
    frame.get("attempt").is_none_or(Value::is_null) || attempt_of(frame).is_some()
}

/// The backend gets an answer to an unusable frame only if the frame names its ticket.
fn unusable(frame: &Value, why: &str) -> Decoded {
    let why = one_line(why, WHY_MAX);
    match id_of(frame, "ticketId") {
        Some(id) => {
            let attempt = attempt_of(frame).unwrap_or(1).max(1);
            event(Order::Unusable(id, attempt, why))
        }
        None => Decoded::Dropped(format!("an unusable frame: {why}")),
    }
}

fn register_body(register: &Register, identity: &Identity) -> Value {
    let repo = |repo: &Repo| json!({ "path": repo.path, "slug": repo.slug });
    let active = |active: &ActiveTicket| {
        json!({
            "ticketId": active.id.as_str(),
            "attempt": active.attempt,
            "startedAt": rfc3339(active.claimed_at),
        })
    };
    json!({
        "protocolVersion": 1,
        "name": identity.name,
        "version": env!("CARGO_PKG_VERSION"),
        "roles": register.roles,
        "repoPaths": register.repos.iter().map(|repo| &repo.path).collect::<Vec<_>>(),
        "repos": register.repos.iter().map(repo).collect::<Vec<_>>(),
        "cli": cli_body(&register.cli),
        "capacity": register.capacity,
        "activeTickets": register.active.iter().map(active).collect::<Vec<_>>(),
        "platform": { "os": std::env::consts::OS, "arch": std::env::consts::ARCH },
    })
}

fn cli_body(cli: &CliState) -> Value {
    let available_at = match cli.unavailable {
        Some(Unavailable::QuotaExceeded { available_at }) => available_at.map(rfc3339),
        _ => None,
    };
    json!({
        "name": cli.name,
        "version": cli.version,
        "available": cli.unavailable.is_none(),
        "unavailableReason": cli.unavailable.map(Unavailable::name),
        "availableAt": available_at,
    })
}

fn heartbeat_body(heartbeat: &Heartbeat) -> Value {
    json!({
        "at": rfc3339(heartbeat.at),
        "activeTickets": heartbeat.active,
        "capacity": heartbeat.capacity,
        "status": heartbeat.status,
    })
}

fn progress_body(seq: u64, progress: &Progress) -> Value {
    json!({
        "seq": seq,
        "elapsedMs": millis_of(progress.elapsed),
        "phase": progress.phase,
        "stdoutBytes": progress.stdout_bytes,
        "lines": progress.lines,
    })
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
