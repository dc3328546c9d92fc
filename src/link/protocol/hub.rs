//! The `hub` dialect: the hub inside the backend as it ships today (docs/protocol.md section 8).
//!
//! Some frames crash that hub or make its records wrong. This codec and the properties of
//! [`Dialect::Hub`](crate::domain::message::Dialect) avoid such frames.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Decoded, Unknown, WHY_MAX, event, fit, id_of, outcome_body, parse, seconds_of, text_of,
};
use crate::config::Token;
use crate::domain::event::{Order, Setback};
use crate::domain::message::{Message, Register};
use crate::domain::repos::{Branch, RepoRef};
use crate::domain::text::one_line;
use crate::domain::ticket::{Brief, Payload, Phase, Progress, Role, Ticket, TicketId};

/// The largest `prdContent` in bytes. The hub's own agent has the same limit.
const PRD_MAX: usize = 512_000;
/// The largest address in a prompt, in characters.
const PR_URL_MAX: usize = 500;

/// An `auth_error` with one of these words refuses the token itself.
const TOKEN_REJECTED: [&str; 5] = [
    "invalid",
    "revoked",
    "expired",
    "unknown token",
    "auth_failed",
];

/// Turns messages into frames and frames into events.
#[derive(Debug)]
pub struct Codec {
    /// The tools on PATH.
    capabilities: Vec<String>,
    unknown: Unknown,
}

/// The first frame on every connection.
pub fn auth(token: &Token) -> String {
    frame("auth", json!({ "token": token.secret() }))
}

/// The hub's answer to the token. `None`: this frame is not the answer.
pub fn answer_to_auth(text: &str) -> Option<Result<(), Setback>> {
    let frame: Value = serde_json::from_str(text).ok()?;
    match text_of(&frame, "type")? {
        "auth_ok" => Some(Ok(())),
        "auth_error" => {
            let message = text_of(&frame, "message").unwrap_or_default();
            Some(Err(auth_error(message)))
        }
        _ => None,
    }
}

/// Only a wrong token makes further attempts useless. Another cause, such as a reached limit, can go away.
fn auth_error(message: &str) -> Setback {
    let why = one_line(message, WHY_MAX);
    let message = message.to_ascii_lowercase();
    if TOKEN_REJECTED.iter().any(|word| message.contains(word)) {
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
            Message::Register(register) => frame("register", self.register(register)),
            Message::Heartbeat(_) => frame("ping", json!({})),
            Message::Claim(id, ..) => frame("job_ack", json!({ "jobId": id.as_str() })),
            Message::Progress(id, _, _, progress) => {
                frame("job_progress", progress_body(id, progress))
            }
            Message::Outcome(id, _, outcome) => {
                let status = match outcome.failure {
                    Some(_) => "failed",
                    None => "done",
                };
                fit(outcome, |outcome| {
                    let data = outcome_body(outcome);
                    let body = json!({ "jobId": id.as_str(), "status": status, "data": data });
                    frame("job_result", body)
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
            return Decoded::Dropped("a frame without a string `type`".to_owned());
        };
        match kind {
            "job" => job(&frame),
            "job_complete" => match id_of(&frame, "jobId") {
                Some(id) => event(Order::Ack(id, None)),
                None => Decoded::Dropped("a job_complete without a usable jobId".to_owned()),
            },
            "server_shutdown" => event(Order::ServerShutdown(seconds_of(&frame, "reconnectAfter"))),
            "pong" | "registered" | "auth_ok" | "job_resume" => Decoded::Ignored,
            "auth_error" => {
                let message = text_of(&frame, "message").unwrap_or_default();
                Decoded::Dropped(format!("auth_error: {message}"))
            }
            unknown => self.unknown.note(unknown),
        }
    }

    /// The hub knows no roles, so an agent that can run nothing registers with an empty `repos`. Without this array the
    /// hub crashes.
    fn register(&self, register: &Register) -> Value {
        let is_ready = !register.roles.is_empty();
        let repos = register.repos.iter().filter(|_| is_ready);
        let slugs: Vec<_> = repos.filter_map(|repo| repo.slug.as_deref()).collect();
        json!({ "repos": slugs, "capabilities": self.capabilities })
    }
}

fn job(frame: &Value) -> Decoded {
    let Some(id) = id_of(frame, "jobId") else {
        return Decoded::Dropped("a job without a usable jobId".to_owned());
    };
    match ticket(&id, frame) {
        Ok(ticket) => event(Order::Assigned(Box::new(ticket))),
        Err(why) => event(Order::Unusable(id, 1, one_line(&why, WHY_MAX))),
    }
}

/// The hub does not count attempts: each job has only one.
fn ticket(id: &TicketId, frame: &Value) -> Result<Ticket, String> {
    let action = text_of(frame, "action").filter(|action| !action.is_empty());
    let action = action.ok_or("no action")?;
    let payload = match frame.get("payload") {
        None | Some(Value::Null) => JobPayload::default(),
        Some(payload) => JobPayload::deserialize(payload).map_err(|e| format!("payload: {e}"))?,
    };
    let work = payload.work(action)?;
    Ok(Ticket {
        id: id.clone(),
        attempt: 1,
        role: Role::parse(work.role)?,
        repo: RepoRef::Slug(payload.repo()),
        brief: work.brief,
        payload: Payload::Inline,
        time_limit: None,
        branch: work.branch,
    })
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

/// The role, the brief and the branch of a job.
struct Work {
    role: &'static str,
    brief: Brief,
    /// The run works on this branch and pushes it.
    branch: Option<Branch>,
}

impl Work {
    fn new(role: &'static str, title: &str, description: String) -> Self {
        let brief = Brief {
            title: Some(title.to_owned()),
            description: Some(description),
            ..Brief::default()
        };
        Self {
            role,
            brief,
            branch: None,
        }
    }
}

impl JobPayload {
    /// The slug. It is empty if the job names no repository: an empty slug matches no repository.
    fn repo(&self) -> String {
        let parts = self.repo_owner.as_ref().zip(self.repo_name.as_ref());
        let named = self.target_repo.clone().filter(|slug| !slug.is_empty());
        named
            .or_else(|| parts.map(|(owner, name)| format!("{owner}/{name}")))
            .unwrap_or_default()
    }

    fn work(&self, action: &str) -> Result<Work, String> {
        match action {
            "implement_prd" => self.implementation(),
            "review_pr" => self.review(),
            "run_tests" => {
                let text = "Run the tests of this project and say what passed and what failed. Change nothing.";
                Ok(Work::new("qa", "Run the tests", text.to_owned()))
            }
            other => {
                let prompt = self.prompt.as_ref().filter(|text| !text.trim().is_empty());
                let prompt =
                    prompt.ok_or_else(|| format!("the action {other:?} without a prompt"))?;
                let title = self.title.as_deref().unwrap_or(other);
                Ok(Work::new("dev", title, prompt.clone()))
            }
        }
    }

    fn implementation(&self) -> Result<Work, String> {
        let requirements = self.prd()?.ok_or("implement_prd without prdContent")?;
        let branch = self.branch.as_deref();
        let branch = branch.ok_or("implement_prd without a branch")?;
        let title = self.title.as_deref();
        let title = title.unwrap_or("Implement the requirements");
        Ok(Work {
            branch: Some(Branch::parse(branch)?),
            ..Work::new("dev", title, requirements.to_owned())
        })
    }

    fn review(&self) -> Result<Work, String> {
        let branch = self.branch.as_deref().map(Branch::parse).transpose()?;
        let mut text = String::new();
        if let Some(number) = self.pr_number {
            text.push_str(&format!("Pull request: #{number}\n"));
        }
        if let Some(url) = &self.pr_url {
            text.push_str(&format!("Address: {}\n", one_line(url, PR_URL_MAX)));
        }
        if let Some(branch) = branch {
            text.push_str(&format!("Branch: {branch}\n"));
        }
        if text.is_empty() {
            return Err("review_pr without prNumber, prUrl or branch".to_owned());
        }
        if let Some(requirements) = self.prd()? {
            text.push_str(&format!("\nWhat was asked for:\n\n{requirements}\n"));
        }
        let task =
            "Review this pull request: is it right, is it complete, is it tested? Change nothing.";
        let text = format!("{task}\n\n{text}");
        Ok(Work::new("qa", "Review a pull request", text))
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

fn frame(kind: &str, mut body: Value) -> String {
    body["type"] = json!(kind);
    body.to_string()
}

fn progress_body(id: &TicketId, progress: &Progress) -> Value {
    let (doing, percent) = match progress.phase {
        Phase::Preparing => ("preparing", 5),
        Phase::Running => ("running", percent_while_running(progress.elapsed)),
        Phase::Collecting => ("collecting what changed", 95),
    };
    let seconds = progress.elapsed.as_secs();
    let bytes = progress.stdout_bytes;
    json!({
        "jobId": id.as_str(),
        "message": format!("{doing}, {seconds} s, {bytes} bytes of output"),
        "percent": percent,
        "logs": progress.lines,
    })
}

/// An estimate: the length of a run is unknown. It rises from 10 towards 90, is 50 after ten minutes and never falls.
fn percent_while_running(elapsed: Duration) -> u8 {
    let minutes = elapsed.as_secs_f64() / 60.0;
    // The value is between 10 and 90, so it fits into a `u8`.
    (10.0 + 80.0 * minutes / (minutes + 10.0)) as u8
}
