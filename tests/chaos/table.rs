//! A model of a backend: its table of tickets, what it sends, and what it may be sent.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt::Write;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value, json};

use crate::pace::Pace;
use crate::support::backend::{Backend, Seen, What, is_outcome};
use crate::support::world::ticket_with;

/// What was violated, with everything that is known about it.
pub type Violation = String;

pub const ROLE_OF_NOBODY: &str = "nobody";
/// The fake CLI behaves by the ticket's kind, which stands in its id.
const KINDS: [Kind; 9] = [
    Kind::Quick,
    Kind::Slow,
    Kind::Fail,
    Kind::Child,
    Kind::Stubborn,
    Kind::Large,
    Kind::Edit,
    Kind::Nobody,
    Kind::Nowhere,
];
/// Tickets without an outcome, most of the time and in a burst. The daemon takes about twenty.
const OPEN: usize = 10;
const OPEN_IN_BURST: usize = 26;
/// Answered tickets that may be assigned again: well within what the daemon remembers.
const LATELY: usize = 8;
/// Outcomes follow the registration.
const MOMENT: Duration = Duration::from_millis(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Quick,
    Slow,
    Fail,
    Child,
    Stubborn,
    Large,
    Edit,
    /// Of a role that is refused.
    Nobody,
    /// For a repository that is refused.
    Nowhere,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Slow => "slow",
            Self::Fail => "fail",
            Self::Child => "child",
            Self::Stubborn => "stubborn",
            Self::Large => "large",
            Self::Edit => "edit",
            Self::Nobody => "nobody",
            Self::Nowhere => "nowhere",
        }
    }
}

struct Ticket {
    id: String,
    kind: Kind,
    repo: String,
    /// The newest.
    attempt: u32,
    attempts: BTreeMap<u32, Attempt>,
    /// Once claimed, this backend relies on the agent and does not ask again.
    relied_on: bool,
    cancelled: bool,
    again_at: Option<Instant>,
    is_done: bool,
    history: String,
}

struct Attempt {
    first_assigned: Instant,
    assigned: usize,
    claimed: bool,
    /// The one that the agent keeps.
    outcome: Option<Outcome>,
    /// The one without a claim, which the agent forgets.
    refusal: Option<Outcome>,
}

struct Outcome {
    text: String,
    /// The CLI's exit is known, so it ran.
    has_run: bool,
    may_have_run: bool,
    is_restarted: bool,
}

/// What happened on one connection.
#[derive(Default)]
struct Wire {
    is_registered: bool,
    /// Nothing is sent on it any more.
    is_over: bool,
    /// The tickets assigned on it, in order.
    asked: Vec<usize>,
    /// Claims and outcomes that came, by ticket.
    answers: HashMap<usize, usize>,
    claims: HashSet<(usize, u32)>,
    outcomes: HashSet<(usize, u32)>,
    active: HashSet<(String, u32)>,
    compare_at: Option<Instant>,
}

#[derive(Default)]
pub struct Count {
    pub claims: usize,
    pub outcomes: usize,
    pub repeats: usize,
    pub assigned: usize,
    pub connections: usize,
    pub codes: BTreeMap<String, usize>,
}

struct Paces {
    tickets: Pace,
    repeats: Pace,
    raises: Pace,
    cancels: Pace,
    shutdowns: Pace,
}

pub struct Table {
    started: Instant,
    rng: Rng,
    paces: Paces,
    repos: Vec<String>,
    tickets: Vec<Ticket>,
    by_id: HashMap<String, usize>,
    open: Vec<usize>,
    most_open: usize,
    lately: VecDeque<usize>,
    wires: BTreeMap<usize, Wire>,
    /// The last daemon that was killed, and the last that was told to stop.
    pub killed: Option<Instant>,
    pub told_to_stop: Option<Instant>,
    pub count: Count,
}

impl Table {
    pub fn new(repos: Vec<String>, mut rng: Rng) -> Self {
        let mut pace = |millis| Pace::new(Duration::from_millis(millis), rng.fork());
        let paces = Paces {
            tickets: pace(70),
            repeats: pace(400),
            raises: pace(2500),
            cancels: pace(1500),
            shutdowns: pace(9000),
        };
        Self {
            started: Instant::now(),
            paces,
            repos,
            tickets: Vec::new(),
            by_id: HashMap::new(),
            open: Vec::new(),
            most_open: OPEN,
            lately: VecDeque::new(),
            wires: BTreeMap::new(),
            killed: None,
            told_to_stop: None,
            count: Count::default(),
            rng,
        }
    }

    pub fn is_registered(&self) -> bool {
        self.current().is_some()
    }

    /// The backend knows no connection any more, and still has its tickets. What had come by then counts.
    pub fn restart(&mut self) {
        self.wires.values_mut().for_each(|wire| wire.is_over = true);
    }

    pub fn is_done(&self) -> bool {
        self.open.is_empty()
    }

    pub fn tickets(&self) -> usize {
        self.tickets.len()
    }

    pub fn attempts(&self) -> usize {
        self.tickets
            .iter()
            .map(|ticket| ticket.attempts.len())
            .sum()
    }

    fn current(&self) -> Option<usize> {
        self.wires
            .iter()
            .rev()
            .find(|(_, wire)| wire.is_registered && !wire.is_over)
            .map(|(connection, _)| *connection)
    }

    /// One ticket of each kind, for a beginning without faults.
    pub fn warm_up(&mut self, backend: &Backend) {
        for kind in KINDS {
            self.add(kind, backend);
        }
    }

    /// A ticket whose refusal shows that everything before it has been seen.
    pub fn fence(&mut self, backend: &Backend) {
        self.add(Kind::Nobody, backend);
    }

    /// What a backend does of its own accord.
    pub fn act(&mut self, now: Instant, backend: &Backend) {
        let Some(current) = self.current() else {
            return;
        };
        if self.paces.tickets.is_due(now) {
            if self.open.len() < self.most_open {
                let kind = *self.rng.choice(&KINDS).unwrap_or(&Kind::Quick);
                self.add(kind, backend);
            } else {
                self.most_open = OPEN;
            }
            if self.rng.u32(..150) == 0 {
                self.most_open = OPEN_IN_BURST;
                while self.open.len() < self.most_open {
                    self.add(Kind::Quick, backend);
                }
            }
        }
        if self.paces.repeats.is_due(now) {
            let any: Vec<_> = self.open.iter().chain(&self.lately).copied().collect();
            if let Some(at) = self.rng.choice(any) {
                self.assign(at, "again", backend);
            }
        }
        if self.paces.raises.is_due(now)
            && let Some(at) = self.rng.choice(self.open.clone())
        {
            self.tickets[at].attempt += 1;
            self.assign(at, "under a newer attempt", backend);
        }
        if self.paces.cancels.is_due(now)
            && let Some(at) = self.rng.choice(self.open.clone())
        {
            self.note(at, "cancelled");
            self.tickets[at].cancelled = true;
            let ticket = &self.tickets[at].id;
            backend.send(&json!({"type": "ticket.cancel", "ticketId": ticket, "reason": "chance"}));
        }
        if self.paces.shutdowns.is_due(now) {
            backend.send(&json!({"type": "server.shutdown", "reconnectAfterSeconds": 1}));
        }
        self.keep_up(now, current, backend);
    }

    /// What a backend owes to the tickets that it has: for the end, too.
    pub fn go_on(&mut self, now: Instant, backend: &Backend) {
        if let Some(current) = self.current() {
            self.keep_up(now, current, backend);
        }
    }

    fn keep_up(&mut self, now: Instant, current: usize, backend: &Backend) {
        for at in self.open.clone() {
            let ticket = &mut self.tickets[at];
            if ticket.again_at.is_some_and(|again_at| again_at <= now) {
                ticket.again_at = None;
                ticket.attempt += 1;
                self.assign(at, "after a failure", backend);
            }
        }
        let wire = self
            .wires
            .get_mut(&current)
            .expect("the current connection");
        if wire.compare_at.is_none_or(|compare_at| now < compare_at) {
            return;
        }
        wire.compare_at = None;
        let missing = |at: &usize| {
            let Ticket {
                id,
                attempt,
                attempts,
                relied_on,
                again_at,
                ..
            } = &self.tickets[*at];
            let is_relied_on = *relied_on && attempts[attempt].claimed;
            // An answer to an earlier attempt says nothing of this one, which may be lost with its connection.
            let this = (*at, *attempt);
            let is_told = wire.claims.contains(&this) || wire.outcomes.contains(&this);
            let is_here = is_told || wire.active.contains(&(id.clone(), *attempt));
            !is_relied_on && !is_here && again_at.is_none()
        };
        let missing: Vec<_> = self.open.iter().copied().filter(missing).collect();
        for at in missing {
            self.assign(at, "because the agent does not have it", backend);
        }
    }

    fn add(&mut self, kind: Kind, backend: &Backend) {
        let at = self.tickets.len();
        let mut id = format!("T-{}-{}", at + 1, kind.name());
        if kind == Kind::Slow {
            let _ = write!(id, "-{:.2}", 0.05 + 1.95 * self.rng.f64().powi(2));
        }
        let repo = self.rng.choice(&self.repos).expect("a repository").clone();
        self.by_id.insert(id.clone(), at);
        self.tickets.push(Ticket {
            id,
            kind,
            repo,
            attempt: 1,
            attempts: BTreeMap::new(),
            relied_on: self.rng.bool(),
            cancelled: false,
            again_at: None,
            is_done: false,
            history: String::new(),
        });
        self.open.push(at);
        self.assign(at, "for the first time", backend);
    }

    fn assign(&mut self, at: usize, how: &str, backend: &Backend) {
        let Some(current) = self.current() else {
            return;
        };
        let ticket = &mut self.tickets[at];
        let number = ticket.attempt;
        let attempt = ticket.attempts.entry(number).or_insert_with(|| Attempt {
            first_assigned: Instant::now(),
            assigned: 0,
            claimed: false,
            outcome: None,
            refusal: None,
        });
        attempt.assigned += 1;
        let role = if ticket.kind == Kind::Nobody {
            ROLE_OF_NOBODY
        } else {
            "dev"
        };
        let repo = if ticket.kind == Kind::Nowhere {
            "acme/nowhere"
        } else {
            &ticket.repo
        };
        let frame = ticket_with(
            &ticket.id,
            json!({"attempt": number, "role": role, "repo": repo}),
        );
        self.count.assigned += 1;
        self.wires
            .get_mut(&current)
            .expect("the current connection")
            .asked
            .push(at);
        self.note(
            at,
            &format!("assigned as attempt {number} {how} on connection {current}"),
        );
        backend.send(&frame);
    }

    /// Takes in what the agent did. Says whether it was a claim.
    pub fn see(&mut self, seen: &Seen, backend: &Backend) -> Result<bool, Violation> {
        let connection = seen.connection;
        match &seen.what {
            What::Connected => {
                self.count.connections += 1;
                self.wires.insert(connection, Wire::default());
            }
            What::Closed(_) => {
                self.wires.remove(&connection);
            }
            What::Frame(frame) => return self.see_frame(connection, frame, backend),
            What::Refused | What::Ping | What::Pong(_) => {}
        }
        Ok(false)
    }

    fn see_frame(
        &mut self,
        connection: usize,
        frame: &Value,
        backend: &Backend,
    ) -> Result<bool, Violation> {
        let kind = frame["type"].as_str().unwrap_or_default();
        let wire = self
            .wires
            .get_mut(&connection)
            .ok_or("a frame on a connection that is not open")?;
        if kind == "agent.register" {
            wire.is_registered = true;
            wire.compare_at = Some(Instant::now() + MOMENT);
            return self.see_active(connection, frame).map(|()| false);
        }
        if !wire.is_registered {
            return Err(format!(
                "the first frame on connection {connection} is not agent.register: {frame}"
            ));
        }
        if !kind.starts_with("ticket.") {
            let known = kind == "agent.heartbeat";
            return if known {
                Ok(false)
            } else {
                Err(format!("a frame that is no JSON, or of no type: {frame}"))
            };
        }
        let id = frame["ticketId"].as_str().unwrap_or_default();
        let at = *self
            .by_id
            .get(id)
            .ok_or_else(|| format!("a frame about a ticket that there is not: {frame}"))?;
        let number = frame["attempt"]
            .as_u64()
            .and_then(|number| u32::try_from(number).ok())
            .unwrap_or_default();
        if !self.tickets[at].attempts.contains_key(&number) {
            return Err(self.violation(
                at,
                &format!("an attempt that was never assigned: {}", short(frame)),
            ));
        }
        if is_outcome(frame) {
            self.see_outcome(connection, at, number, frame, backend)?;
            return Ok(false);
        }
        if wire.outcomes.contains(&(at, number)) {
            return Err(self.violation(
                at,
                &format!("a {kind} after the outcome on connection {connection}"),
            ));
        }
        if kind == "ticket.claim" {
            wire.claims.insert((at, number));
            *wire.answers.entry(at).or_default() += 1;
            self.count.claims += 1;
            self.note(
                at,
                &format!("claimed as attempt {number} on connection {connection}"),
            );
            self.tickets[at]
                .attempts
                .get_mut(&number)
                .expect("it was looked up")
                .claimed = true;
        }
        Ok(kind == "ticket.claim")
    }

    fn see_active(&mut self, connection: usize, register: &Value) -> Result<(), Violation> {
        let active = register["activeTickets"]
            .as_array()
            .ok_or("a registration without activeTickets")?;
        let mut all = HashSet::new();
        for ticket in active {
            let id = ticket["ticketId"].as_str().unwrap_or_default().to_owned();
            let number = ticket["attempt"]
                .as_u64()
                .and_then(|number| u32::try_from(number).ok())
                .unwrap_or_default();
            let at = *self
                .by_id
                .get(&id)
                .ok_or_else(|| format!("an active ticket that there is not: {ticket}"))?;
            self.note(
                at,
                &format!(
                    "active as attempt {number} at the registration on connection {connection}"
                ),
            );
            if !self.tickets[at].attempts.contains_key(&number) {
                return Err(
                    self.violation(at, "it is active under an attempt that was never assigned")
                );
            }
            all.insert((id, number));
        }
        self.wires
            .get_mut(&connection)
            .expect("it was looked up")
            .active = all;
        Ok(())
    }

    fn see_outcome(
        &mut self,
        connection: usize,
        at: usize,
        number: u32,
        frame: &Value,
        backend: &Backend,
    ) -> Result<(), Violation> {
        let code = frame["code"].as_str().unwrap_or("result");
        let unstarted = frame["startedAt"].is_null();
        self.note(
            at,
            &format!("answered as attempt {number} on connection {connection}: {code}"),
        );
        self.check_outcome(at, number, code, frame)?;
        let wire = self.wires.get_mut(&connection).expect("it was looked up");
        *wire.answers.entry(at).or_default() += 1;
        // The claim of what is kept may have been lost with an earlier connection.
        let may_be_refusal = matches!(code, "at_capacity" | "agent_shutdown")
            && unstarted
            && !wire.claims.contains(&(at, number))
            && !wire.active.contains(&(self.tickets[at].id.clone(), number));
        if !may_be_refusal {
            wire.outcomes.insert((at, number));
        }
        if code == "at_capacity" && !may_be_refusal {
            return Err(self.violation(at, "refused for want of room after it had been claimed"));
        }
        let ticket = &mut self.tickets[at];
        let attempt = ticket.attempts.get_mut(&number).expect("it was looked up");
        let place = if may_be_refusal {
            &mut attempt.refusal
        } else {
            &mut attempt.outcome
        };
        let text = frame.to_string();
        self.count.outcomes += 1;
        *self.count.codes.entry(code.to_owned()).or_default() += 1;
        match place {
            // Two assignments of one attempt may be refused for different reasons.
            Some(first) if first.text != text && !may_be_refusal => {
                let what = format!(
                    "two different outcomes of attempt {number}:\n{}\n{}",
                    first.text,
                    short(frame)
                );
                return Err(self.violation(at, &what));
            }
            Some(_) => self.count.repeats += 1,
            None => {
                *place = Some(Outcome {
                    text,
                    has_run: matches!(code, "result" | "cli_exit"),
                    may_have_run: !unstarted,
                    is_restarted: code == "agent_restarted",
                });
            }
        }
        // What is kept looks like a refusal when it comes once more, on a connection that had no claim of it.
        if let (1, Some(refusal), Some(outcome)) =
            (attempt.assigned, &attempt.refusal, &attempt.outcome)
            && refusal.text != outcome.text
        {
            return Err(self.violation(
                at,
                &format!("attempt {number} was assigned once, refused and run"),
            ));
        }
        let is_final =
            matches!(code, "role_not_allowed" | "repo_not_allowed") || frame["retryable"] != true;
        if number == ticket.attempt && !ticket.is_done {
            if is_final {
                ticket.is_done = true;
                self.open.retain(|open| *open != at);
                self.lately.push_back(at);
                if self.lately.len() > LATELY {
                    self.lately.pop_front();
                }
            } else if ticket.again_at.is_none() {
                ticket.again_at =
                    Some(Instant::now() + Duration::from_millis(self.rng.u64(20..600)));
            }
        }
        if self.tickets[at].kind == Kind::Nobody {
            self.check_order(connection, at)?;
        }
        if self.rng.u32(..4) == 0 {
            let id = &self.tickets[at].id;
            backend.send(&json!({"type": "ticket.ack", "ticketId": id, "attempt": number}));
        }
        Ok(())
    }

    /// Whether a ticket of that kind, to which that happened, may end so.
    fn check_outcome(
        &self,
        at: usize,
        number: u32,
        code: &str,
        frame: &Value,
    ) -> Result<(), Violation> {
        let ticket = &self.tickets[at];
        let since = ticket.attempts[&number].first_assigned;
        let is_refused = matches!(ticket.kind, Kind::Nobody | Kind::Nowhere);
        let stdout = frame["stdout"].as_str().unwrap_or_default();
        let diff = frame["diff"].as_str().unwrap_or_default();
        let is_right = match code {
            "result" => {
                let added: Vec<_> = diff
                    .lines()
                    .filter(|l| l.starts_with('+') && !l.starts_with("+++"))
                    .collect();
                let expected: &[String] = if ticket.kind == Kind::Edit {
                    &[format!("+{}", ticket.id)]
                } else {
                    &[]
                };
                !is_refused
                    && ticket.kind != Kind::Fail
                    && stdout.ends_with(&format!("done {}\n", ticket.id))
                    && (ticket.kind != Kind::Large || stdout.len() > 300_000)
                    && added == expected
                    && frame["warnings"].as_array().is_some_and(Vec::is_empty)
            }
            "cli_exit" => {
                ticket.kind == Kind::Fail && frame["exitCode"] == 3 && frame["error"] == "broken"
            }
            "cancelled" => ticket.cancelled && !is_refused,
            "role_not_allowed" => ticket.kind == Kind::Nobody,
            "repo_not_allowed" => ticket.kind == Kind::Nowhere,
            "at_capacity" => !is_refused,
            "agent_restarted" => self.killed.is_some_and(|killed| since < killed) && !is_refused,
            "agent_shutdown" => self.told_to_stop.is_some(),
            _ => false,
        };
        if is_right {
            Ok(())
        } else {
            Err(self.violation(at, &format!("it must not end so: {}", short(frame))))
        }
    }

    /// Everything that was assigned on this connection before this ticket has been answered on it, or the agent
    /// would not have come to this one.
    fn check_order(&self, connection: usize, fence: usize) -> Result<(), Violation> {
        let wire = &self.wires[&connection];
        let Some(end) = wire.asked.iter().position(|at| *at == fence) else {
            return Ok(());
        };
        let mut asked: HashMap<usize, usize> = HashMap::new();
        wire.asked[..end]
            .iter()
            .for_each(|at| *asked.entry(*at).or_default() += 1);
        for (at, asked) in asked {
            let answered = wire.answers.get(&at).copied().unwrap_or_default();
            if answered < asked {
                let what = format!(
                    "assigned {asked} times and answered {answered} times on connection {connection}"
                );
                return Err(self.violation(at, &what));
            }
        }
        Ok(())
    }

    /// What must hold when everything is over. `runs` has a line for every start of the CLI: the ticket and the run.
    pub fn check_end(&self, runs: &str, most_cut_off: usize) -> Result<(), Violation> {
        if let Some(open) = self.open.first() {
            return Err(self.violation(*open, "it never ended"));
        }
        let mut starts: HashMap<&str, usize> = HashMap::new();
        let mut known = HashSet::new();
        for line in runs.lines() {
            let (ticket, _) = line
                .split_once(' ')
                .ok_or_else(|| format!("an incomplete line of runs: {line:?}"))?;
            *starts.entry(ticket).or_default() += 1;
            let at = *self
                .by_id
                .get(ticket)
                .ok_or_else(|| format!("a run of no ticket: {line}"))?;
            if !known.insert(line) {
                return Err(self.violation(at, &format!("started twice as one run: {line}")));
            }
        }
        let mut unseen_starts = 0;
        for (at, ticket) in self.tickets.iter().enumerate() {
            let starts = starts.get(ticket.id.as_str()).copied().unwrap_or_default();
            let outcomes = || {
                ticket
                    .attempts
                    .values()
                    .filter_map(|attempt| attempt.outcome.as_ref())
            };
            let needed = outcomes().filter(|outcome| outcome.has_run).count();
            let possible = outcomes().filter(|outcome| outcome.may_have_run).count();
            if starts > ticket.attempts.len() {
                let what = format!(
                    "it ran {starts} times under {} attempts",
                    ticket.attempts.len()
                );
                return Err(self.violation(at, &what));
            }
            if starts < needed || starts > possible {
                let what = format!(
                    "it ran {starts} times; {needed} of its outcomes need a run, {possible} may have one"
                );
                return Err(self.violation(at, &what));
            }
            let restarted = outcomes().filter(|outcome| outcome.is_restarted).count();
            unseen_starts += (needed + restarted).saturating_sub(starts);
            for (number, attempt) in &ticket.attempts {
                let superseded = ticket
                    .attempts
                    .range(number + 1..)
                    .any(|(_, newer)| newer.outcome.is_some());
                if attempt.claimed && attempt.outcome.is_none() && !superseded {
                    return Err(self.violation(
                        at,
                        &format!("attempt {number} was claimed and has no outcome"),
                    ));
                }
            }
        }
        if unseen_starts > most_cut_off {
            return Err(format!(
                "{unseen_starts} runs were reported as cut off and never started; at most {most_cut_off} can be \
                 between the two"
            ));
        }
        Ok(())
    }

    /// A ticket that has no outcome yet, for when the wait for it is over.
    pub fn unanswered(&self) -> Violation {
        match self.open.first() {
            Some(at) => self.violation(*at, "it does not end"),
            None => "no ticket is without its outcome".to_owned(),
        }
    }

    fn note(&mut self, at: usize, what: &str) {
        let since = self.started.elapsed().as_secs_f64();
        let _ = writeln!(self.tickets[at].history, "  {since:8.3} {what}");
    }

    fn violation(&self, at: usize, what: &str) -> Violation {
        let Ticket { id, history, .. } = &self.tickets[at];
        format!("ticket {id}: {what}\nits history:\n{history}")
    }
}

fn short(frame: &Value) -> String {
    let text = frame.to_string();
    match text.char_indices().nth(2000) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
