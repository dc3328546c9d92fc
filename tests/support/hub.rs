//! A world whose backend is the hub as it ships today, as strict as that one (docs/protocol.md section 8): it dies of what
//! that one dies of, and notes what would confuse it. Both fail the test at its end.

use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use wf0_agent::domain::message::Dialect;

use super::agent::{Agent, Launch, TOKEN};
use super::backend::{Backend, Reactor, Request, Upgrade};
use super::contract::{self, Side};
use super::world::{SLUG, World};

/// Where the hub is; anywhere else it answers 404.
pub const ENDPOINT: &str = "/agent/ws";
/// What one agent gets at once.
const AT_ONCE: usize = 3;
const LARGEST_FRAME: usize = 5 << 20;

pub struct Hub {
    pub world: World,
    table: Arc<Shared>,
}

struct Shared(Mutex<Table>);

/// What the hub knows.
#[derive(Default)]
struct Table {
    jobs: Vec<Job>,
    /// The connection whose token was accepted.
    agent: Option<usize>,
    /// The repositories that it registered; none before.
    repos: Vec<Value>,
    /// Why the next attempts to authenticate are refused, with the reason of the close.
    refusals: Vec<(String, &'static str)>,
    /// Results are stored, and nobody hears of it.
    is_mute: bool,
    hangs_up_elsewhere: bool,
    violations: Vec<String>,
    died_of: Option<String>,
}

struct Job {
    id: String,
    frame: Value,
    stage: Stage,
    percent: u64,
    /// Its result was answered.
    is_complete: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    HandedOut,
    InProgress,
    Done,
    Failed,
}

impl Stage {
    fn is_open(self) -> bool {
        matches!(self, Self::HandedOut | Self::InProgress)
    }
}

impl Hub {
    pub fn new() -> Self {
        let table = Arc::new(Shared(Mutex::default()));
        Self {
            world: World::with(Backend::with(table.clone())),
            table,
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.0.lock().unwrap()
    }

    /// An agent that knows that this is a hub, not yet started.
    pub fn launch(&self, script: &str) -> Launch {
        self.world.launch(script).env("WORKFORCE0_PROTOCOL", "hub")
    }

    /// A started agent that has registered.
    pub fn agent(&self, script: &str) -> Agent {
        self.registered(self.launch(script))
    }

    pub fn registered(&self, launch: Launch) -> Agent {
        let agent = launch.start();
        self.world.backend.frame("register");
        agent
    }

    /// The next attempt to authenticate is refused, with that message and that reason of the close.
    pub fn refuse_next(&self, message: &str, reason: &'static str) {
        self.table().refusals.push((message.to_owned(), reason));
    }

    /// Whether a result that comes from now on is answered; it is stored in any case.
    pub fn answer_results(&self, answer: bool) {
        self.table().is_mute = !answer;
    }

    /// An upgrade on any other path gets no HTTP answer.
    pub fn hang_up_elsewhere(&self) {
        self.table().hangs_up_elsewhere = true;
    }

    /// A new job: handed out at once if the agent may have one more, else when it registers.
    pub fn offer(&self, job: Value) {
        self.offer_all([job]);
    }

    /// Several at once, which the hub has before any is handed out.
    pub fn offer_all(&self, jobs: impl IntoIterator<Item = Value>) {
        for job in jobs {
            if let Err(why) = contract::check_frame(Dialect::Hub, Side::Backend, &job) {
                panic!("the test offers what no hub may: {why}");
            }
            self.table().add(job);
        }
        self.hand_out();
    }

    fn hand_out(&self) {
        let frames = self.table().hand_out();
        frames
            .into_iter()
            .for_each(|frame| self.world.backend.send_message(frame));
    }

    /// Hands out a job that the agent has had, whatever became of it: the acknowledgement was lost, or is late.
    pub fn hand_out_again(&self, id: &str) {
        let frame = self
            .table()
            .job(id)
            .expect("a job of this hub")
            .frame
            .clone();
        self.world.backend.send(&frame);
    }

    /// The result of that job, as the agent sent it.
    pub fn result_of(&self, id: &str) -> Value {
        self.world
            .backend
            .frame_where("job_result", |frame| frame["jobId"] == id)
    }

    /// Offers a job and waits for its result.
    pub fn run(&self, job: Value) -> Value {
        let id = job["jobId"].as_str().expect("a job with an id").to_owned();
        self.offer(job);
        self.result_of(&id)
    }

    /// The same with a job that may break the contract.
    pub fn run_anything(&self, job: Value) -> Value {
        let id = job["jobId"].as_str().expect("a job with an id").to_owned();
        self.table().add(job);
        self.hand_out();
        self.result_of(&id)
    }

    /// The frames about that job so far, by their types.
    pub fn types_of(&self, id: &str) -> Vec<String> {
        let frames = self
            .world
            .backend
            .frames()
            .into_iter()
            .filter(|frame| frame["jobId"] == id);
        frames
            .map(|frame| frame["type"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// When this returns, everything has been seen that the agent sent in answer to what it was sent before: a job for
    /// a repository that it does not have is refused at once, in order.
    pub fn fence(&self) {
        let id = format!("fence-{}", self.table().jobs.len());
        let frame = job(
            &id,
            "fence",
            json!({"targetRepo": "no/such", "prompt": "x"}),
        );
        self.table().add(frame.clone());
        self.table().job(&id).expect("it was just added").stage = Stage::HandedOut;
        self.world.backend.send(&frame);
        let refusal = self.result_of(&id);
        assert_eq!(refusal["data"]["code"], "repo_not_allowed", "{refusal}");
        // What it sends after each outcome.
        self.world.backend.frame("register");
    }

    /// What the hub died of, and what it took amiss. Whoever asks has seen it.
    pub fn complaints(&self) -> Vec<String> {
        let mut table = self.table();
        let died_of = table.died_of.take().map(|why| format!("died of {why}"));
        died_of
            .into_iter()
            .chain(std::mem::take(&mut table.violations))
            .collect()
    }
}

/// The hub has to outlive every test, and nothing may have confused it.
impl Drop for Hub {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let complaints = self.complaints();
            assert!(
                complaints.is_empty(),
                "the hub complains: {complaints:#?}\n{:#?}",
                self.world.backend.frames()
            );
        }
    }
}

impl Reactor for Shared {
    fn upgrade(&self, request: &Request) -> Upgrade {
        let mut table = self.0.lock().unwrap();
        if table.died_of.is_some() {
            return Upgrade::Drop;
        }
        if request.path == ENDPOINT {
            if request.headers.values().any(|value| value.contains(TOKEN)) {
                table.amiss("the token in a header of the upgrade".to_owned());
            }
            return Upgrade::Accept;
        }
        match table.hangs_up_elsewhere {
            true => Upgrade::Drop,
            false => {
                Upgrade::Answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned())
            }
        }
    }

    fn react(&self, connection: usize, text: &str) -> Option<Vec<Message>> {
        let mut table = self.0.lock().unwrap();
        let answers = table.react(connection, text);
        answers
            .iter()
            .flatten()
            .for_each(|answer| table.proofread(answer));
        if let Err(why) = &answers {
            table.died_of = Some(why.clone());
        }
        answers.ok()
    }

    fn closed(&self, connection: usize) {
        self.0.lock().unwrap().lost(connection);
    }
}

impl Table {
    fn amiss(&mut self, what: String) {
        self.violations.push(what);
    }

    /// What the hub says of its own accord keeps the contract. A job is whatever was offered.
    fn proofread(&mut self, answer: &Message) {
        let Message::Text(text) = answer else { return };
        let frame: Value = serde_json::from_str(text).unwrap_or_default();
        let kept = contract::check_frame(Dialect::Hub, Side::Backend, &frame);
        if let (Err(why), true) = (kept, frame["type"] != "job") {
            self.amiss(format!("it says what no hub may: {why}"));
        }
    }

    fn job(&mut self, id: &str) -> Option<&mut Job> {
        self.jobs.iter_mut().find(|job| job.id == id)
    }

    fn add(&mut self, frame: Value) {
        let id = frame["jobId"].as_str().unwrap_or_default().to_owned();
        self.jobs.push(Job {
            id,
            frame,
            stage: Stage::Waiting,
            percent: 0,
            is_complete: false,
        });
    }

    /// The frames for as many waiting jobs as the agent may have.
    fn hand_out(&mut self) -> Vec<Message> {
        if self.agent.is_none() || self.repos.is_empty() {
            return Vec::new();
        }
        let open = self.jobs.iter().filter(|job| job.stage.is_open()).count();
        let waiting = self
            .jobs
            .iter_mut()
            .filter(|job| job.stage == Stage::Waiting);
        let next = waiting.take(AT_ONCE.saturating_sub(open));
        next.map(|job| {
            job.stage = Stage::HandedOut;
            text(&job.frame)
        })
        .collect()
    }

    fn lost(&mut self, connection: usize) {
        if self.agent == Some(connection) {
            self.agent = None;
            self.repos.clear();
        }
    }

    /// What is answered, or what the hub dies of.
    fn react(&mut self, connection: usize, frame: &str) -> Result<Vec<Message>, String> {
        if frame.len() > LARGEST_FRAME {
            return Err(format!("a frame of {} bytes", frame.len()));
        }
        let Ok(frame) = serde_json::from_str::<Value>(frame) else {
            self.amiss(format!("a frame that is not JSON: {frame}"));
            return Ok(Vec::new());
        };
        if self.agent != Some(connection) {
            return Ok(self.authenticate(connection, &frame));
        }
        if frame.to_string().contains(TOKEN) {
            self.amiss("the token in a frame that is not for it".to_owned());
        }
        match frame["type"].as_str().unwrap_or_default() {
            "ping" => Ok(vec![text(&json!({"type": "pong"}))]),
            "register" => self.register(&frame),
            "job_ack" => self.ack(&frame),
            "job_progress" => Ok(self.progress(&frame)),
            "job_result" => Ok(self.result(&frame)),
            _ => {
                self.amiss(format!("a frame of no known type: {frame}"));
                Ok(Vec::new())
            }
        }
    }

    fn authenticate(&mut self, connection: usize, frame: &Value) -> Vec<Message> {
        if frame["type"] != "auth" {
            self.amiss(format!("before auth: {frame}"));
            return refused("Expected auth", "expected_auth");
        }
        if !self.refusals.is_empty() {
            let (message, reason) = self.refusals.remove(0);
            return refused(&message, reason);
        }
        if frame["token"] != TOKEN {
            return refused("Invalid or revoked token", "auth_failed");
        }
        self.agent = Some(connection);
        self.repos.clear();
        vec![text(
            &json!({"type": "auth_ok", "agentId": "agent-1", "tenantId": "tenant-1"}),
        )]
    }

    fn register(&mut self, frame: &Value) -> Result<Vec<Message>, String> {
        let repos = frame["repos"]
            .as_array()
            .ok_or_else(|| format!("a register without repos: {frame}"))?;
        if !repos.iter().all(Value::is_string) || !frame["capabilities"].is_array() {
            self.amiss(format!("a register that says nothing: {frame}"));
        }
        self.repos.clone_from(repos);
        let registered = text(&json!({"type": "registered", "repos": repos.len()}));
        Ok(std::iter::once(registered).chain(self.hand_out()).collect())
    }

    fn ack(&mut self, frame: &Value) -> Result<Vec<Message>, String> {
        let id = frame["jobId"].as_str().unwrap_or_default();
        let job = self
            .job(id)
            .ok_or_else(|| format!("an acknowledgement of an unknown job: {frame}"))?;
        if job.stage == Stage::Done || job.stage == Stage::Failed {
            self.amiss(format!("{id}: acknowledged after its result"));
        } else {
            job.stage = Stage::InProgress;
        }
        Ok(Vec::new())
    }

    fn progress(&mut self, frame: &Value) -> Vec<Message> {
        let percent = frame["percent"].as_u64().filter(|percent| *percent <= 100);
        let lines = frame["logs"]
            .as_array()
            .is_some_and(|logs| logs.iter().all(Value::is_string));
        let job = self.job(frame["jobId"].as_str().unwrap_or_default());
        match (job, percent) {
            (Some(job), Some(percent)) if lines && frame["message"].is_string() => {
                let is_right = job.stage == Stage::InProgress && job.percent <= percent;
                job.percent = percent;
                if !is_right {
                    self.amiss(format!(
                        "progress that falls, or of a job that is not in progress: {frame}"
                    ));
                }
            }
            _ => self.amiss(format!("progress that cannot be shown: {frame}")),
        }
        Vec::new()
    }

    fn result(&mut self, frame: &Value) -> Vec<Message> {
        let id = frame["jobId"].as_str().unwrap_or_default().to_owned();
        let (is_done, is_failed) = (frame["status"] == "done", frame["status"] == "failed");
        let has_error = frame["data"]["error"]
            .as_str()
            .is_some_and(|error| !error.trim().is_empty());
        if !frame["data"].is_object() || is_done == is_failed || is_failed != has_error {
            self.amiss(format!("a result that cannot be stored: {frame}"));
        }
        let is_mute = self.is_mute;
        let Some(job) = self.job(&id) else {
            self.amiss(format!("a result of an unknown job: {frame}"));
            return Vec::new();
        };
        let (was, was_complete) = (job.stage, job.is_complete);
        job.stage = if is_done { Stage::Done } else { Stage::Failed };
        job.is_complete |= !is_mute;
        if was_complete {
            self.amiss(format!(
                "{id}: a second result, though the first was answered"
            ));
        }
        if was == Stage::Done && is_failed {
            self.amiss(format!("{id}: failed, after it was done"));
        }
        if is_mute {
            Vec::new()
        } else {
            vec![text(&json!({"type": "job_complete", "jobId": id}))]
        }
    }
}

fn text(frame: &Value) -> Message {
    Message::text(frame.to_string())
}

fn refused(message: &str, reason: &'static str) -> Vec<Message> {
    let close = CloseFrame {
        code: CloseCode::Policy,
        reason: reason.into(),
    };
    vec![
        text(&json!({"type": "auth_error", "message": message})),
        Message::Close(Some(close)),
    ]
}

pub fn job(id: &str, action: &str, payload: Value) -> Value {
    json!({"type": "job", "jobId": id, "action": action, "payload": payload})
}

/// A job for the world's repository that nothing is wrong with, and that touches no branch.
pub fn errand(id: &str) -> Value {
    job(
        id,
        "fix",
        json!({"targetRepo": SLUG, "prompt": "Do what has to be done."}),
    )
}

/// `implement_prd` for the world's repository, on that branch.
pub fn prd(id: &str, branch: &str) -> Value {
    let payload = json!({"targetRepo": SLUG, "branch": branch, "prdContent": "Make it so.", "title": "Make it"});
    job(id, "implement_prd", payload)
}
