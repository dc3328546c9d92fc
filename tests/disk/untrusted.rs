//! What comes from elsewhere, as any bytes: frames, settings, the state folder's files.
//!
//! Each function panics where a promise is broken, and says whether the bytes were of use. The fuzz targets in `fuzz/`
//! and the ordinary suite run the same ones.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tempfile::TempDir;
use wf0_agent::config::Config;
use wf0_agent::config::settings as names;
use wf0_agent::config::{Given, Sources};
use wf0_agent::domain::event::{Action, Effect, Event, JobEvent};
use wf0_agent::domain::invocation::{Template, TemplateError, Values};
use wf0_agent::domain::message::{Capacity, CliState, Dialect, Message, Register, Unavailable};
use wf0_agent::domain::outbox::{Delivered, Entry};
use wf0_agent::domain::repos::{Branch, Repo, RepoRef, Repos, Workspace};
use wf0_agent::domain::session::{Policy, SavedState, Session};
use wf0_agent::domain::text::Excerpt;
use wf0_agent::domain::ticket::{
    Brief, Changes, DiffStat, Exit, FailCode, Failure, Job, Outcome, Payload, Phase, Progress,
    Role, RunId, Skill, Span, Subagent, Ticket, TicketId, Usage,
};
use wf0_agent::environment::Environment;
use wf0_agent::link::protocol::{Codecs, Decoded, Identity, MAX_OUTBOUND, hub, ticket};
use wf0_agent::store::Store;
use wf0_agent::store::journal::{CutOff, Started};
use wf0_agent::times::from_millis;

use super::support::{Clock, Disk, active, cli, done, on};

const TOKEN: &str = "wfa_secret-0123456789";
const TOKEN_LINE: &str = "WORKFORCE0_AGENT_TOKEN=wfa_secret-0123456789";

/// Frames of the backend, one in each line; a blank line is ten seconds. After a `#` the hub's dialect is spoken.
/// After a `>` stand the values of a message, after a `!` those of a message with long texts. Long texts take long,
/// so only inputs whose bytes add up to zero, one in 256, have them.
pub fn frames(data: &[u8]) -> bool {
    match data.split_first() {
        Some((first @ (b'>' | b'!'), rest)) => {
            let sum = data.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
            let message = Makings {
                rest,
                long: *first == b'!' && sum == 0,
            }
            .message();
            for dialect in Dialect::ALL {
                HOME.with(|home| check_frame(dialect, &home.codecs(dialect).encode(&message)));
            }
            true
        }
        Some((b'#', rest)) => {
            HOME.with(|home| heard(home, Dialect::Hub, &String::from_utf8_lossy(rest)))
        }
        _ => HOME.with(|home| heard(home, Dialect::Ticket, &String::from_utf8_lossy(data))),
    }
}

/// A file of settings, in which a line that is `@`, or else one at the end, is that of the token. Behind a `>` instead:
/// an argument template and the values for its placeholders, split at NUL.
pub fn settings(data: &[u8]) -> bool {
    match data.strip_prefix(b">") {
        Some(data) => template(&String::from_utf8_lossy(data)),
        // A file that has the token elsewhere, or names its variable, wants it there.
        None if contains(data, TOKEN) || contains(data, "{WORKFORCE0_AGENT_TOKEN}") => false,
        None => HOME.with(|home| env_file(home, data)),
    }
}

/// The lower six bits of the first byte tell which files of the state folder there are; the rest is what they hold,
/// split at 0xFF. With the highest bit instead: the makings of a run that is kept.
pub fn state(data: &[u8]) -> bool {
    match data.split_first() {
        Some((first, rest)) if first & 0x80 == 0 => STATE.with(|state| state.damaged(*first, rest)),
        Some((_, rest)) => STATE.with(|state| state.kept(Makings { rest, long: false })),
        None => false,
    }
}

fn contains(data: &[u8], text: &str) -> bool {
    data.windows(text.len())
        .any(|window| window == text.as_bytes())
}

thread_local! {
    static HOME: Home = Home::new();
    static STATE: State = State::new();
}

/// A folder in memory where the system has such: thousands of files are written and flushed.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

/// Good settings, and a repository for them.
struct Home {
    folder: TempDir,
    config: Config,
}

impl Home {
    fn new() -> Self {
        let folder = folder();
        fs::create_dir(folder.path().join("app")).unwrap();
        let variables = good(folder.path())
            .map(|(name, value)| (name.into(), value))
            .to_vec();
        let variables = [
            variables,
            vec![("WORKFORCE0_AGENT_TOKEN".into(), TOKEN.into())],
        ]
        .concat();
        let none = folder.path().join("none.env");
        fs::write(&none, "").unwrap();
        let sources = Sources::collect(
            Given {
                env_file: Some(none),
                ..Given::default()
            },
            Environment::new(variables),
        )
        .unwrap();
        Self {
            folder,
            config: Config::load(&sources).unwrap(),
        }
    }

    fn codecs(&self, dialect: Dialect) -> Codecs {
        let agent_id = "5f3c1d9e-0000-4000-8000-000000000001".to_owned();
        let identity = Identity {
            agent_id,
            name: self.config.agent_name.clone(),
        };
        let hub = hub::Codec::new(vec!["git".to_owned()]);
        Codecs::new(
            dialect,
            ticket::Codec::new(identity, self.config.api.clone()),
            hub,
        )
    }

    fn policy(&self) -> Policy {
        let Config {
            repos,
            roles,
            max_concurrent,
            grace,
            drain,
            ..
        } = self.config.clone();
        Policy {
            repos: Repos::new(repos),
            roles,
            max_concurrent,
            grace,
            drain,
            cli: cli(),
            seed: 1,
        }
    }
}

/// All that is required but the token.
fn good(folder: &Path) -> [(&'static str, OsString); 3] {
    let mut repos = OsString::from("acme/app=");
    repos.push(folder.join("app"));
    [
        ("WORKFORCE0_API_URL", "https://good.example".into()),
        ("REPO_PATHS", repos),
        ("STATE_DIR", folder.join("state").into()),
    ]
}

fn heard(home: &Home, dialect: Dialect, text: &str) -> bool {
    let mut daemon = Daemon::new(home, dialect);
    daemon.feed(Event::Tick);
    let mut of_use = false;
    for line in text.split('\n').take(64) {
        if line.is_empty() {
            daemon.wait();
            continue;
        }
        match daemon.codecs.decode(line) {
            Decoded::Event(event) => {
                of_use = true;
                daemon.feed(event);
            }
            Decoded::Dropped(line) => check_log(&line),
            Decoded::Ignored => {}
        }
    }
    daemon.wait();
    of_use
}

/// A session on good terms with its network, disk and workers.
struct Daemon {
    clock: Clock,
    session: Session,
    disk: Disk,
    codecs: Codecs,
    running: VecDeque<RunId>,
    pinged: u64,
}

impl Daemon {
    fn new(home: &Home, dialect: Dialect) -> Self {
        let clock = Clock::new();
        let session = Session::new(home.policy(), clock.now());
        let codecs = home.codecs(dialect);
        Self {
            clock,
            session,
            disk: Disk::default(),
            codecs,
            running: VecDeque::new(),
            pinged: 0,
        }
    }

    fn feed(&mut self, event: Event) {
        let actions = on(&mut self.session, &mut self.disk, self.clock.now(), event);
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Dial => self.feed(Event::Connected(self.codecs.current)),
                Action::Send(message) => {
                    check_frame(self.codecs.current, &self.codecs.encode(&message))
                }
                Action::Ping(number) => self.pinged = number,
                Action::Effect(Effect::Start { job, .. }) => self.running.push_back(job.run),
                Action::Log(line) => check_log(&line.to_string()),
                _ => {}
            }
        }
    }

    /// The peer answers, and the oldest run reports and ends.
    fn wait(&mut self) {
        self.clock.advance(Duration::from_secs(10));
        self.feed(Event::Pong(self.pinged));
        self.feed(Event::Heard);
        if let Some(run) = self.running.pop_front() {
            let elapsed = Duration::from_secs(10);
            let progress = Progress {
                phase: Phase::Running,
                elapsed,
                stdout_bytes: 1,
                lines: vec!["x".to_owned()],
            };
            self.feed(Event::Job(run, JobEvent::Progress(progress)));
            let moment = self.clock.now().wall;
            let span = Some(Span {
                started_at: moment,
                finished_at: moment,
                duration: elapsed,
            });
            let outcome = Outcome {
                span,
                ..(*done("x")).clone()
            };
            self.feed(Event::Job(run, JobEvent::Finished(outcome.into())));
        }
    }
}

fn check_log(line: &str) {
    assert!(
        !line.is_empty() && line.len() < 4096,
        "{} bytes for the log",
        line.len()
    );
    assert!(
        !line.contains(char::is_control),
        "more than one line: {line:?}"
    );
}

/// The fields of each message and their types (docs/protocol.md section 3); what ends in `?` may be null.
static FIELDS: LazyLock<Value> = LazyLock::new(|| {
    let run = json!({
        "stdout": "text", "stdoutTruncated": "bool", "diff": "text?", "diffTruncated": "bool",
        "diffStat?": {"files": "int", "insertions": "int", "deletions": "int"},
        "baseCommit": "text?", "headCommit": "text?", "startedAt": "time", "finishedAt": "time", "durationMs": "int",
    });
    let failure = json!({"code": "text", "error": "text", "exitCode": "int?", "signal": "int?", "retryable": "bool"});
    let mut fields = json!({
        "agent.register": {
            "protocolVersion": "int", "name": "text", "version": "text", "roles": ["text"], "repoPaths": ["text"],
            "repos": [{"path": "text", "slug": "text?"}],
            "cli": {
                "name": "text", "version": "text?", "available": "bool",
                "unavailableReason": "text?", "availableAt": "time?",
            },
            "capacity": {"max": "int", "free": "int"},
            "activeTickets": [{"ticketId": "text", "attempt": "int", "startedAt": "time"}],
            "platform": {"os": "text", "arch": "text"},
        },
        "agent.heartbeat": {
            "at": "time", "activeTickets": ["text"], "capacity": {"max": "int", "free": "int"}, "status": "text",
        },
        "ticket.claim": {"ticketId": "text", "attempt": "int", "at": "time"},
        "ticket.progress": {
            "ticketId": "text", "attempt": "int", "seq": "int", "elapsedMs": "int", "phase": "text",
            "stdoutBytes": "int", "lines": ["text"],
        },
        "ticket.result": {"ticketId": "text", "attempt": "int", "exitCode": "int?", "warnings": ["text"]},
        "ticket.fail": {"ticketId": "text", "attempt": "int", "warnings": ["text"]},
    });
    let add = |fields: &mut Value, more: &Value| {
        fields
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
    };
    add(&mut fields["ticket.fail"], &failure);
    fields["refusal"] = fields["ticket.fail"].clone();
    add(&mut fields["ticket.fail"], &run);
    add(&mut fields["ticket.result"], &run);
    for message in fields.as_object_mut().unwrap().values_mut() {
        add(message, &json!({"type": "text", "agentId": "text"}));
    }
    fields
});

fn check_frame(dialect: Dialect, frame: &str) {
    assert!(
        frame.len() <= MAX_OUTBOUND,
        "a frame of {} bytes",
        frame.len()
    );
    let value: Value = serde_json::from_str(frame).unwrap_or_else(|e| panic!("{e}: {frame}"));
    let kind = value["type"]
        .as_str()
        .unwrap_or_else(|| panic!("no type: {frame}"));
    if dialect == Dialect::Hub {
        assert!(
            kind != "job_result" || value["data"].is_object(),
            "the hub wants an object: {frame}"
        );
        assert!(
            value["status"] != "failed" || value["data"]["error"].is_string(),
            "the hub wants a reason: {frame}"
        );
        assert!(
            kind != "register" || value["repos"].is_array(),
            "the hub wants an array: {frame}"
        );
        return;
    }
    let refusal = kind == "ticket.fail" && value.get("stdout").is_none();
    let wanted = &FIELDS[if refusal { "refusal" } else { kind }];
    assert!(wanted.is_object(), "no message of the protocol: {kind}");
    check_type(&value, wanted, kind);
}

fn check_type(value: &Value, wanted: &Value, at: &str) {
    let fits = match wanted {
        Value::Object(fields) => {
            let value = value
                .as_object()
                .unwrap_or_else(|| panic!("{at} is no object: {value}"));
            for (name, wanted) in fields {
                let own = value
                    .get(name.trim_end_matches('?'))
                    .unwrap_or_else(|| panic!("{at} has no {name}"));
                if !name.ends_with('?') || !own.is_null() {
                    check_type(own, wanted, name);
                }
            }
            value.len() == fields.len()
        }
        Value::Array(of) => {
            value
                .as_array()
                .into_iter()
                .flatten()
                .for_each(|item| check_type(item, &of[0], at));
            value.is_array()
        }
        name => match name.as_str().unwrap() {
            name if name.ends_with('?') && value.is_null() => true,
            "int" | "int?" => value.is_i64() || value.is_u64(),
            "bool" => value.is_boolean(),
            "time" | "time?" => value.as_str().is_some_and(is_time),
            _ => value.is_string(),
        },
    };
    assert!(fits, "{at} is not {wanted}: {value}");
}

/// RFC 3339, UTC, milliseconds.
fn is_time(text: &str) -> bool {
    let shape: String = text
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    shape.ends_with("0000-00-00T00:00:00.000Z")
}

fn env_file(home: &Home, data: &[u8]) -> bool {
    let mut lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    match lines.iter().position(|line| *line == b"@") {
        Some(at) => lines[at] = TOKEN_LINE.as_bytes(),
        None => lines.push(TOKEN_LINE.as_bytes()),
    }
    let path = home.folder.path().join("fuzzed.env");
    fs::write(&path, lines.join(&b'\n')).unwrap();
    // For these settings any value in the file counts.
    let absent = good(home.folder.path())
        .into_iter()
        .filter(|(name, _)| !contains(data, name));
    let environment = Environment::new(absent.map(|(name, value)| (name.into(), value)).collect());
    let sources = match Sources::collect(
        Given {
            env_file: Some(path),
            ..Given::default()
        },
        environment,
    ) {
        Ok(sources) => sources,
        Err(e) => {
            assert!(
                e.contains("fuzzed.env") && !e.contains('\n') && !e.contains(TOKEN),
                "{e}"
            );
            return false;
        }
    };
    // A device may never end.
    let token_file = sources
        .get("WORKFORCE0_AGENT_TOKEN_FILE")
        .map(PathBuf::from);
    if token_file.is_some_and(|path| path.exists())
        && sources.get("WORKFORCE0_AGENT_TOKEN").is_none()
    {
        return false;
    }
    match Config::load(&sources) {
        Ok(config) => {
            assert!(!format!("{config:?}").contains(TOKEN), "{config:?}");
            true
        }
        Err(e) => {
            let e = e.to_string();
            assert!(!e.contains(TOKEN), "the token: {e}");
            for line in e.lines() {
                let name = line
                    .split_once(": ")
                    .unwrap_or_else(|| panic!("{line:?} in {e:?}"))
                    .0;
                let known = names::find(name).is_some();
                assert!(known, "{line:?} names no setting: {e:?}");
            }
            false
        }
    }
}

fn template(text: &str) -> bool {
    let mut parts = text.split('\0');
    let text = parts.next().unwrap_or_default();
    let Ok(template) = Template::parse(text) else {
        return false;
    };
    // The first filling shows where the values go: no template has such a character.
    let marks = [
        "\u{E000}", "\u{E001}", "\u{E002}", "\u{E003}", "\u{E004}", "\u{E005}",
    ];
    let own: [&str; 6] = std::array::from_fn(|_| parts.next().unwrap_or("x"));
    if text.contains(marks.concat().chars().collect::<Vec<_>>().as_slice()) {
        return false;
    }
    let fill = |[cwd, prompt, prompt_file, ticket_id, role, title]: [&str; 6]| {
        template.fill(&Values {
            cwd,
            prompt,
            prompt_file,
            ticket_id,
            role,
            title,
        })
    };
    let marked = fill(marks).unwrap();
    assert_eq!(
        marked.len(),
        shell_words::split(text).unwrap().len(),
        "not one argument for each word"
    );
    let value = |c: char| {
        marks
            .iter()
            .position(|mark| mark.starts_with(c))
            .map(|at| own[at])
    };
    let wanted: Vec<String> = marked
        .iter()
        .map(|word| {
            word.chars()
                .map(|c| value(c).map_or_else(|| c.to_string(), str::to_owned))
                .collect()
        })
        .collect();
    let option = wanted
        .iter()
        .zip(&marked)
        .find(|(word, marked)| word.starts_with('-') && !marked.starts_with('-'));
    match option {
        Some((word, _)) => assert_eq!(fill(own), Err(TemplateError::LooksLikeOption(word.clone()))),
        None => assert_eq!(fill(own), Ok(wanted)),
    }
    true
}

const RUN: RunId = RunId(0x5f3c);

/// An open state folder, and one that is opened for each input.
struct State {
    folder: TempDir,
    store: Store,
}

impl State {
    fn new() -> Self {
        let folder = folder();
        let store = Store::open(&folder.path().join("state")).unwrap();
        Self { folder, store }
    }

    fn runs(&self) -> PathBuf {
        self.folder.path().join("state/tickets")
    }

    fn damaged(&self, present: u8, data: &[u8]) -> bool {
        let names = [
            "ticket.json",
            "attempt.json",
            "started.json",
            "outcome.json",
            "delivered",
        ];
        let present = |at: usize| present & (1 << at) != 0;
        let mut parts = data.split(|byte| *byte == 0xFF);
        let folder = self.store.run_folder(RUN).unwrap();
        for (_, name) in names.iter().enumerate().filter(|(at, _)| present(*at)) {
            folder
                .write(name, parts.next().unwrap_or_default())
                .unwrap();
        }
        if present(names.len()) {
            self.agent_id(parts.next().unwrap_or_default());
        }
        let before = contents(&self.runs());
        let (past, cut_off) = self.store.saved_state();
        let after = contents(&self.runs());
        assert_eq!(
            before.values().collect::<Vec<_>>(),
            after.values().collect::<Vec<_>>(),
            "something is lost"
        );
        let (again, cut_off_again) = self.store.saved_state();
        assert_eq!(
            (count(&past), cut_off.len()),
            (count(&again), cut_off_again.len()),
            "the second start finds something else"
        );
        let of_use = count(&past) + cut_off.len() > 0;
        HOME.with(|home| taken_over(home, past));
        fs::remove_dir_all(self.runs()).unwrap();
        of_use
    }

    /// The daemon starts with any file, and sets aside a file that is not an id.
    fn agent_id(&self, held: &[u8]) {
        let root = self.folder.path().join("other");
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("lock"), "").unwrap();
        fs::write(root.join("agent-id"), held).unwrap();
        let store = Store::open(&root).unwrap_or_else(|e| panic!("{e}"));
        let id = store.agent_id.to_owned();
        assert_eq!(id.len(), 36, "{id:?}");
        assert!(
            contains(&fs::read(root.join("agent-id")).unwrap(), &id),
            "it is not kept"
        );
        if !contains(held, &id) && !held.is_empty() {
            assert_eq!(
                fs::read(root.join("agent-id.unusable")).unwrap(),
                held,
                "it is lost"
            );
        }
        drop(store);
        fs::remove_dir_all(root).unwrap();
    }

    /// A stored run is found again as it was, in every stage.
    fn kept(&self, mut makings: Makings<'_>) -> bool {
        let stage = makings.byte() % 5;
        let (mut job, claimed_at) = (makings.job(), makings.time());
        self.store.keep_ticket(&job, claimed_at).unwrap();
        if makings.flag() {
            job.ticket.attempt = makings.u32();
            self.store
                .keep_attempt(job.run, job.ticket.attempt)
                .unwrap();
        }
        let started = Started {
            at_ms: makings.u64(),
            base_commit: makings.maybe(Makings::text),
            clone: makings.maybe(Makings::text).map(PathBuf::from),
        };
        let entry = Entry {
            run: job.run,
            id: job.ticket.id.clone(),
            attempt: job.ticket.attempt,
            outcome: makings.outcome().into(),
        };
        if stage > 0 {
            self.store
                .run_folder(job.run)
                .unwrap()
                .keep_start(&started)
                .unwrap();
        }
        if stage > 1 {
            self.store.keep_outcome(&entry).unwrap();
        }
        if stage > 2 {
            self.store.keep_delivery(job.run).unwrap();
        }
        let (mut past, mut cut_off) = self.store.saved_state();
        assert_eq!(count(&past) + cut_off.len(), 1);
        match stage {
            0 => assert_eq!(past.waiting.pop(), Some((Box::new(job), claimed_at))),
            1 => {
                let job = Box::new(job);
                assert_eq!(cut_off.pop(), Some(CutOff { job, started }));
            }
            2 => assert_eq!(past.ended.pop(), Some(entry)),
            _ => {
                let Entry { run, id, .. } = entry.clone();
                let attempt = entry.attempt;
                let delivered = Delivered { run, id, attempt };
                assert_eq!(past.delivered.pop(), Some(delivered));
                assert_eq!(self.store.outcome(run), Some(entry));
            }
        }
        fs::remove_dir_all(self.runs()).unwrap();
        true
    }
}

/// Each run's files, by its folder.
fn contents(runs: &Path) -> BTreeMap<PathBuf, BTreeMap<OsString, Vec<u8>>> {
    let list = |folder: &Path| {
        fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap())
            .collect::<Vec<_>>()
    };
    let file = |file: fs::DirEntry| (file.file_name(), fs::read(file.path()).unwrap());
    list(runs)
        .iter()
        .map(|run| {
            (
                run.path(),
                list(&run.path()).into_iter().map(file).collect(),
            )
        })
        .collect()
}

/// The runs in it.
fn count(past: &SavedState) -> usize {
    past.waiting.len() + past.ended.len() + past.delivered.len()
}

fn taken_over(home: &Home, mut past: SavedState) {
    // The daemon never stores a success of a run that did not start.
    past.ended
        .retain(|entry| entry.outcome.failure.is_some() || entry.outcome.span.is_some());
    let mut daemon = Daemon::new(home, Dialect::Ticket);
    let actions = daemon.session.restore(past, daemon.clock.now());
    daemon.carry_out(actions);
    daemon.wait();
}

/// Bytes of which values are made, one after the other. Where they are used up there are zeros and empty texts.
struct Makings<'a> {
    rest: &'a [u8],
    long: bool,
}

impl<'a> Makings<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    fn u32(&mut self) -> u32 {
        self.u64() as u32
    }

    fn u64(&mut self) -> u64 {
        self.take(8)
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn text(&mut self) -> String {
        let length = self.byte();
        String::from_utf8_lossy(self.take(length.into())).into_owned()
    }

    fn excerpt(&mut self) -> Excerpt {
        let (head, omitted, tail) = (self.long_text(), self.u64() >> 1, self.long_text());
        let total = (head.len() + tail.len()) as u64 + omitted;
        Excerpt::from_bytes(head.as_bytes(), tail.as_bytes(), total)
    }

    /// Where texts are long, one of some 100 KiB to a MiB and a half.
    fn long_text(&mut self) -> String {
        let text = self.text();
        let times = if self.long {
            usize::from(self.byte() % 16) * (100 << 10) / text.len().max(1)
        } else {
            0
        };
        text.repeat(times.max(1))
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| make(self))
    }

    fn several<T>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.byte() % 80)
            .map_while(|_| (!self.rest.is_empty()).then(|| make(self)))
            .collect()
    }

    /// In milliseconds, from 1970 on: as a record holds it.
    fn time(&mut self) -> SystemTime {
        from_millis(self.u64())
    }

    fn duration(&mut self) -> Duration {
        Duration::from_millis(self.u64())
    }

    fn id(&mut self) -> TicketId {
        let usable = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-');
        let text: String = self.text().chars().filter(usable).take(128).collect();
        TicketId::parse(&text).unwrap_or_else(|_| TicketId::parse("A").unwrap())
    }

    fn role(&mut self) -> Role {
        Role::parse(&self.text()).unwrap_or_else(|_| Role::parse("dev").unwrap())
    }

    fn repo(&mut self) -> Repo {
        let path = PathBuf::from(self.text());
        Repo {
            root: path.clone(),
            path,
            slug: self.maybe(Self::text),
            workspace: Workspace::InPlace,
        }
    }

    fn message(&mut self) -> Message {
        match self.byte() % 3 {
            0 => Message::Register(Register {
                roles: self.several(Self::role),
                repos: self.several(Self::repo),
                cli: CliState {
                    name: self.text(),
                    version: self.maybe(Self::text),
                    unavailable: self.maybe(|_| Unavailable::NotFound),
                },
                capacity: Capacity {
                    max: self.u64() as usize,
                    free: self.u64() as usize,
                },
                active: self.several(|makings| {
                    let (id, attempt) = (makings.id(), makings.u32());
                    active(id.as_str(), attempt, makings.time())
                }),
            }),
            1 => {
                let phase = [Phase::Preparing, Phase::Running, Phase::Collecting]
                    [usize::from(self.byte() % 3)];
                let (elapsed, stdout_bytes) = (self.duration(), self.u64());
                // The largest number of bytes in a report.
                let mut left = 16_usize << 10;
                let mut lines = self.several(Self::text);
                lines.retain(|line| {
                    left.checked_sub(line.len())
                        .map(|rest| left = rest)
                        .is_some()
                });
                let progress = Progress {
                    phase,
                    elapsed,
                    stdout_bytes,
                    lines,
                };
                Message::Progress(self.id(), self.u32(), self.u64(), progress)
            }
            _ => {
                let (id, attempt) = (self.id(), self.u32());
                // Not every message has these fields.
                let outcome = Outcome {
                    pull_request: None,
                    usage: None,
                    ..self.outcome()
                };
                Message::Outcome(id, attempt, outcome.into())
            }
        }
    }

    fn outcome(&mut self) -> Outcome {
        const CODES: [FailCode; 15] = [
            FailCode::QuotaExceeded,
            FailCode::Rejected,
            FailCode::Timeout,
            FailCode::CliExit,
            FailCode::CliNotFound,
            FailCode::SpawnFailed,
            FailCode::RepoNotAllowed,
            FailCode::RoleNotAllowed,
            FailCode::AtCapacity,
            FailCode::InvalidTicket,
            FailCode::PayloadUnavailable,
            FailCode::Cancelled,
            FailCode::AgentShutdown,
            FailCode::AgentRestarted,
            FailCode::Internal,
        ];
        let failure = self.maybe(|makings| {
            let code = CODES[usize::from(makings.byte()) % CODES.len()];
            Failure::new(code, makings.long_text())
        });
        let span = |makings: &mut Self| Span {
            started_at: makings.time(),
            finished_at: makings.time(),
            duration: makings.duration(),
        };
        Outcome {
            // A success is one of something that ran.
            span: if failure.is_none() {
                Some(span(self))
            } else {
                self.maybe(span)
            },
            failure,
            exit: self.maybe(|makings| {
                let number = makings.u32() as i32;
                if makings.flag() {
                    Exit::Code(number)
                } else {
                    Exit::Signal(number)
                }
            }),
            // Half the range, because no stream is so long that the sum of missing bytes overflows.
            stdout: self.excerpt(),
            changes: Changes {
                diff: self.maybe(Self::long_text),
                diff_truncated: self.flag(),
                stat: self.maybe(|makings| DiffStat {
                    files: makings.u64(),
                    insertions: makings.u64(),
                    deletions: makings.u64(),
                }),
                base_commit: self.maybe(Self::text),
                head_commit: self.maybe(Self::text),
            },
            warnings: self.several(Self::long_text),
            pull_request: self.maybe(Self::text),
            usage: self.maybe(|makings| Usage {
                input_tokens: makings.maybe(Self::u64),
                output_tokens: makings.maybe(Self::u64),
                cache_read_tokens: makings.maybe(Self::u64),
                cost_micros: makings.maybe(Self::u64),
                turns: makings.maybe(Self::u64),
                session_id: makings.maybe(Self::text),
            }),
        }
    }

    /// A job whose two names for the repository agree, as in the journal.
    fn job(&mut self) -> Job {
        let repo = self.repo();
        let skill = |makings: &mut Self| {
            let slug = makings.text();
            let body = makings.maybe(Self::text);
            Skill { slug, body }
        };
        let ticket = Ticket {
            id: self.id(),
            attempt: self.u32(),
            role: self.role(),
            repo: match self.flag() {
                true => RepoRef::Path {
                    asked: self.text(),
                    resolved: repo.path.clone(),
                },
                false => RepoRef::Slug(self.text()),
            },
            brief: Brief {
                title: self.maybe(Self::text),
                description: self.maybe(Self::text),
                skills: self.several(skill),
                subagent: self.maybe(|makings| Subagent {
                    slug: makings.text(),
                    prompt: makings.text(),
                }),
            },
            payload: match self.byte() % 3 {
                0 => Payload::Inline,
                1 => Payload::ByTicketId,
                _ => Payload::At(self.text()),
            },
            time_limit: self.maybe(|makings| Duration::from_secs(makings.u64())),
            branch: Branch::parse(&self.text()).ok(),
        };
        let run = RunId(u128::from(self.u64()) << 64 | u128::from(self.u64()));
        Job {
            run,
            ticket,
            repo,
            time_limit: Duration::from_secs(self.u64()),
        }
    }
}
