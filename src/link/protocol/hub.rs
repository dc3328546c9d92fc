//! The `hub` dialect: the hub inside the backend as it ships today (docs/protocol.md section 8).
//!
//! That hub breaks easily. What would end it or confuse it is kept from it here, and by the properties of
//! [`Dialect::Hub`](crate::domain::dialect::Dialect).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::outcome::{OutcomeBody, outcome_body};
use super::{Decoded, Unknown, WHY_MAX, event, fit};
use crate::config::Token;
use crate::domain::branch::Branch;
use crate::domain::event::{Order, Phase, Progress, Setback};
use crate::domain::message::{Message, Register};
use crate::domain::repos::RepoRef;
use crate::domain::text::one_line;
use crate::domain::ticket::{Brief, Payload, Role, Ticket, TicketId};

/// A document of requirements that is larger is refused, as the hub's own agent does.
const PRD_MAX: usize = 512_000;

/// Turns messages into frames and frames into events.
#[derive(Debug)]
pub struct Codec {
    /// The tools that are on PATH.
    capabilities: Vec<String>,
    unknown: Unknown,
}

/// The first frame on every connection.
pub fn auth(token: &Token) -> String {
    frame(
        "auth",
        &Auth {
            token: token.secret(),
        },
    )
}

/// What a frame before `auth_ok` says: nothing yet, in, or out.
pub fn answer_to_auth(text: &str) -> Option<Result<(), Setback>> {
    let frame: Value = serde_json::from_str(text).ok()?;
    match frame.get("type")?.as_str()? {
        "auth_ok" => Some(Ok(())),
        "auth_error" => Some(Err(auth_error(
            frame
                .get("message")
                .and_then(Value::as_str)
                .unwrap_or_default(),
        ))),
        _ => None,
    }
}

/// Only a token that is wrong makes every further try vain; a limit that is reached passes.
fn auth_error(message: &str) -> Setback {
    let why = one_line(message, WHY_MAX);
    let lower = message.to_ascii_lowercase();
    let is_final = [
        "invalid",
        "revoked",
        "expired",
        "unknown token",
        "auth_failed",
    ]
    .iter()
    .any(|w| lower.contains(w));
    if is_final {
        Setback::TokenRejected(why)
    } else {
        Setback::Failed(format!("the hub refused: {why}"))
    }
}

impl Codec {
    pub fn new(capabilities: Vec<String>) -> Self {
        Self {
            capabilities,
            unknown: Unknown::default(),
        }
    }

    pub fn encode(&self, message: &Message) -> String {
        match message {
            Message::Register(register) => frame("register", &self.register(register)),
            Message::Heartbeat(_) => frame("ping", &Empty {}),
            Message::Claim { id, .. } => frame(
                "job_ack",
                &Ack {
                    job_id: id.as_str(),
                },
            ),
            Message::Progress { id, progress, .. } => {
                frame("job_progress", &progress_body(id, progress))
            }
            Message::Outcome { id, outcome, .. } => {
                let status = if outcome.failure.is_some() {
                    "failed"
                } else {
                    "done"
                };
                fit(outcome, |outcome| {
                    frame(
                        "job_result",
                        &JobResult {
                            job_id: id.as_str(),
                            status,
                            data: outcome_body(outcome),
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
        let Some(kind) = frame.get("type").and_then(Value::as_str) else {
            return Decoded::Dropped("a frame without a string `type`".to_owned());
        };
        match kind {
            "job" => job(&frame),
            "job_complete" => match id_of(&frame) {
                Some(id) => event(Order::Ack { id, attempt: None }),
                None => Decoded::Dropped("a job_complete without a usable jobId".to_owned()),
            },
            "server_shutdown" => {
                let seconds = frame
                    .get("reconnectAfter")
                    .and_then(Value::as_f64)
                    .unwrap_or_default();
                event(Order::ServerShutdown {
                    reconnect_after: Duration::from_secs_f64(seconds.clamp(0.0, 1e9)),
                })
            }
            "pong" | "registered" | "auth_ok" | "job_resume" => Decoded::Ignored,
            "auth_error" => {
                let message = frame
                    .get("message")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                Decoded::Dropped(format!("auth_error: {message}"))
            }
            unknown => self.unknown.seen(unknown),
        }
    }

    /// An agent that can run nothing has no repositories: the hub knows no other way to say it. The array has to be
    /// there all the same.
    fn register<'a>(&'a self, register: &'a Register) -> RegisterBody<'a> {
        let is_ready = !register.roles.is_empty();
        let repos = register
            .repos
            .iter()
            .filter(|_| is_ready)
            .filter_map(|repo| repo.slug.as_deref())
            .collect();
        RegisterBody {
            repos,
            capabilities: &self.capabilities,
        }
    }
}

fn job(frame: &Value) -> Decoded {
    let Some(id) = id_of(frame) else {
        return Decoded::Dropped("a job without a usable jobId".to_owned());
    };
    match ticket(&id, frame) {
        Ok(ticket) => event(Order::Assigned(Box::new(ticket))),
        Err(why) => event(Order::Unusable {
            id,
            attempt: 1,
            why: one_line(&why, WHY_MAX),
        }),
    }
}

/// The hub counts no attempts: each job has one.
fn ticket(id: &TicketId, frame: &Value) -> Result<Ticket, String> {
    let action = frame
        .get("action")
        .and_then(Value::as_str)
        .filter(|action| !action.is_empty())
        .ok_or("no action")?;
    let payload = match frame.get("payload") {
        None | Some(Value::Null) => JobPayload::default(),
        Some(payload) => JobPayload::deserialize(payload).map_err(|e| format!("payload: {e}"))?,
    };
    let Work {
        role,
        brief,
        branch,
    } = payload.work(action)?;
    Ok(Ticket {
        id: id.clone(),
        attempt: 1,
        role: Role::parse(role)?,
        repo: RepoRef::Slug(payload.repo()),
        brief,
        payload: Payload::Inline,
        time_limit: None,
        branch,
    })
}

fn id_of(frame: &Value) -> Option<TicketId> {
    frame
        .get("jobId")
        .and_then(Value::as_str)
        .and_then(|id| TicketId::parse(id).ok())
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct JobPayload {
    target_repo: Option<String>,
    repo_owner: Option<String>,
    repo_name: Option<String>,
    branch: Option<String>,
    title: Option<String>,
    prd_content: Option<String>,
    pr_url: Option<String>,
    pr_number: Option<u64>,
    prompt: Option<String>,
}

/// What an action comes to.
struct Work {
    role: &'static str,
    brief: Brief,
    /// Where it is to be done and pushed.
    branch: Option<Branch>,
}

impl JobPayload {
    /// Empty where none is named, which is no repository of this agent's.
    fn repo(&self) -> String {
        let parts = self.repo_owner.as_ref().zip(self.repo_name.as_ref());
        let named = self.target_repo.clone().filter(|slug| !slug.is_empty());
        named
            .or_else(|| parts.map(|(owner, name)| format!("{owner}/{name}")))
            .unwrap_or_default()
    }

    fn work(&self, action: &str) -> Result<Work, String> {
        match action {
            "implement_prd" => {
                let prd = self.prd()?.ok_or("implement_prd without prdContent")?;
                let branch = self
                    .branch
                    .as_deref()
                    .ok_or("implement_prd without a branch")?;
                let title = self
                    .title
                    .as_deref()
                    .unwrap_or("Implement the requirements");
                Ok(Work {
                    role: "dev",
                    brief: brief(title, prd.to_owned()),
                    branch: Some(Branch::parse(branch)?),
                })
            }
            "review_pr" => {
                let branch = self.branch.as_deref().map(Branch::parse).transpose()?;
                let named = [
                    self.pr_number
                        .map(|number| format!("Pull request: #{number}")),
                    self.pr_url
                        .as_deref()
                        .map(|url| format!("Address: {}", one_line(url, 500))),
                    branch.as_ref().map(|branch| format!("Branch: {branch}")),
                ];
                let named: Vec<String> = named.into_iter().flatten().collect();
                if named.is_empty() {
                    return Err("review_pr without prNumber, prUrl or branch".to_owned());
                }
                let mut text = format!(
                    "Review this pull request: is it right, is it complete, is it tested? Change nothing.\n\n{}\n",
                    named.join("\n")
                );
                if let Some(prd) = self.prd()? {
                    text.push_str(&format!("\nWhat was asked for:\n\n{prd}\n"));
                }
                Ok(Work {
                    role: "qa",
                    brief: brief("Review a pull request", text),
                    branch: None,
                })
            }
            "run_tests" => {
                let text = "Run the tests of this project and say what passed and what failed. Change nothing.";
                Ok(Work {
                    role: "qa",
                    brief: brief("Run the tests", text.to_owned()),
                    branch: None,
                })
            }
            other => {
                let prompt = self
                    .prompt
                    .clone()
                    .filter(|prompt| !prompt.trim().is_empty());
                let prompt =
                    prompt.ok_or_else(|| format!("the action {other:?} without a prompt"))?;
                Ok(Work {
                    role: "dev",
                    brief: brief(self.title.as_deref().unwrap_or(other), prompt),
                    branch: None,
                })
            }
        }
    }

    fn prd(&self) -> Result<Option<&str>, String> {
        match &self.prd_content {
            Some(prd) if prd.len() > PRD_MAX => {
                Err(format!("prdContent has more than {PRD_MAX} bytes"))
            }
            prd => Ok(prd.as_deref().filter(|prd| !prd.trim().is_empty())),
        }
    }
}

fn brief(title: &str, description: String) -> Brief {
    Brief {
        title: Some(title.to_owned()),
        description: Some(description),
        ..Brief::default()
    }
}

fn frame<T: Serialize>(kind: &'static str, body: &T) -> String {
    let frame = Frame { kind, body };
    // Nothing here can fail to be JSON: the maps have string keys.
    serde_json::to_string(&frame)
        .unwrap_or_else(|e| panic!("a {kind} frame cannot be encoded: {e}"))
}

#[derive(Serialize)]
struct Frame<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    body: &'a T,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct Auth<'a> {
    token: &'a str,
}

#[derive(Serialize)]
struct RegisterBody<'a> {
    repos: Vec<&'a str>,
    capabilities: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ack<'a> {
    job_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JobResult<'a> {
    job_id: &'a str,
    status: &'static str,
    data: OutcomeBody<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProgressBody<'a> {
    job_id: &'a str,
    message: String,
    percent: u8,
    logs: &'a [String],
}

fn progress_body<'a>(id: &'a TicketId, progress: &'a Progress) -> ProgressBody<'a> {
    let seconds = progress.elapsed.as_secs();
    let (doing, percent) = match progress.phase {
        Phase::Preparing => ("preparing", 5),
        Phase::Running => ("running", while_running(progress.elapsed)),
        Phase::Collecting => ("collecting what changed", 95),
    };
    let message = format!(
        "{doing}, {seconds} s, {} bytes of output",
        progress.stdout_bytes
    );
    ProgressBody {
        job_id: id.as_str(),
        message,
        percent,
        logs: &progress.lines,
    }
}

/// Nobody knows how long a run takes: from 10 towards 90, half of it after ten minutes, and never back.
fn while_running(elapsed: Duration) -> u8 {
    let minutes = elapsed.as_secs_f64() / 60.0;
    // Between 10 and 90, so it fits.
    (10.0 + 80.0 * minutes / (minutes + 10.0)) as u8
}
