//! The built daemon under random faults, against a model of a backend: whatever happens, every ticket has one end.
//!
//! `WF0_CHAOS_SECONDS` and `WF0_CHAOS_SEED` say how long and which faults; `scripts/chaos` sets them.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may panic, wait and spawn"
)]

#[path = "../support/mod.rs"]
mod support;

mod pace;
mod proxy;
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fastrand::Rng;
use nix::sys::signal::Signal;

use pace::Pace;
use proxy::{Gate, Proxy, Way};
use support::agent::Agent;
use support::processes;
use support::world::World;
use support::{PATIENCE, eventually};
use table::{Table, Violation};

const SLOTS: usize = 3;
const REPOS: [&str; 3] = ["app", "site", "tool"];
/// What the daemon may have taken beyond its first tickets: its allocator keeps some of what passed through.
const MORE_MEMORY_KB: u64 = 8 << 10;
/// For all that is left once the faults are over: the longest wait for a connection is 30 s.
const END_LIMIT: Duration = Duration::from_secs(120);
/// Longer than any daemon needs to stop, its grace and its last deliveries included.
const STOP_LIMIT: Duration = Duration::from_secs(40);
/// What is waited for at most before the clock is looked at again.
const TURN: Duration = Duration::from_millis(10);

/// A start leaves one line. What the ticket's id says is what it does.
const CLI: &str = r#"
echo "$WF0_TICKET_ID $WF0_RUN_ID" >> "$WORLD/runs"
case "$WF0_TICKET_ID" in
*-slow-*) sleep "${WF0_TICKET_ID##*-}" ;;
*-fail) echo broken >&2; exit 3 ;;
*-child) setsid sleep 1000 & ;;
*-stubborn) trap '' TERM; sleep 0.7 ;;
*-large) yes 'A line of output that is long enough.' | head -c 307200; echo ;;
*-edit) echo "$WF0_TICKET_ID" >> README.md ;;
esac
echo "done $WF0_TICKET_ID"
"#;

enum Daemon {
    Up(Agent),
    Stopping(Agent, Instant),
    Down { until: Instant },
}

/// What a daemon takes of the machine.
struct Footprint {
    resident_kb: u64,
    open_files: usize,
}

struct Chaos {
    seconds: u64,
    world: World,
    proxy: Proxy,
    table: Table,
    daemon: Daemon,
    /// What earlier daemons wrote last.
    past_log: String,
    faults: Pace,
    kills: Pace,
    rng: Rng,
    kill_rng: Rng,
    gate_opens: Option<Instant>,
    /// So long after the next claim the daemon is killed.
    kill_after_claim: Option<Duration>,
    count: BTreeMap<&'static str, usize>,
}

#[test]
fn every_ticket_has_one_end() {
    let setting = |name, default| {
        std::env::var(name).map_or(default, |value| {
            value.parse::<u64>().expect("a whole number")
        })
    };
    let seed = setting("WF0_CHAOS_SEED", 1);
    // Also where a wait in vain ends the test.
    println!("seed: {seed}");
    let mut chaos = Chaos::new(setting("WF0_CHAOS_SECONDS", 30), seed);
    if let Err(violation) = chaos.run() {
        panic!(
            "{violation}\nseed {seed}; the daemon's log:\n{}\n",
            chaos.log()
        );
    }
    print!("{}", chaos.summary());
}

impl Chaos {
    fn new(seconds: u64, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let world = World::new();
        for repo in &REPOS[1..] {
            world.make_repo(repo);
        }
        let proxy = Proxy::start(world.backend.port(), rng.fork());
        let table = Table::new(
            REPOS.iter().map(|repo| format!("acme/{repo}")).collect(),
            rng.fork(),
        );
        Self {
            seconds,
            world,
            proxy,
            table,
            daemon: Daemon::Down {
                until: Instant::now(),
            },
            past_log: String::new(),
            faults: Pace::new(Duration::from_millis(1300), rng.fork()),
            kills: Pace::new(Duration::from_millis(3000), rng.fork()),
            kill_rng: rng.fork(),
            rng,
            gate_opens: None,
            kill_after_claim: None,
            count: BTreeMap::new(),
        }
    }

    fn run(&mut self) -> Result<(), Violation> {
        let first = self.first_tickets()?;
        let begin = Instant::now();
        let end = begin + Duration::from_secs(self.seconds);
        // The last daemon has to live through faults, too, before it is measured.
        let last_kill = end - Duration::from_secs((self.seconds / 5).min(40));
        while Instant::now() < end {
            self.turn()?;
            let now = Instant::now();
            self.table.act(now, &self.world.backend);
            if now < last_kill {
                self.kill_if_due(now)?;
            }
            self.fault_if_due(now);
        }
        self.proxy.calm();
        self.gate_opens = None;
        self.until("every ticket to end", Table::is_done)?;
        self.check_quiet(&first)?;
        self.stop()
    }

    fn first_tickets(&mut self) -> Result<Footprint, Violation> {
        self.until("the first registration", Table::is_registered)?;
        self.table.warm_up(&self.world.backend);
        self.until("the first tickets to end", Table::is_done)?;
        self.settle()?;
        // Tidying opens folders.
        eventually("the first runs to be tidied", || {
            self.untidied().is_empty().then_some(())
        });
        Ok(self.footprint())
    }

    /// The folders of ended runs that still have what only the run itself needed.
    fn untidied(&self) -> Vec<PathBuf> {
        let runs = fs::read_dir(self.world.state().join("tickets"))
            .expect("a folder")
            .flatten();
        runs.map(|run| run.path())
            .filter(|run| run.join("scratch").exists())
            .collect()
    }

    /// Everything that the daemon has to say is seen.
    fn settle(&mut self) -> Result<(), Violation> {
        self.table.fence(&self.world.backend);
        self.until("the last refusal", Table::is_done)?;
        Ok(())
    }

    /// Goes on without new tickets and new faults.
    fn until(&mut self, what: &str, is_reached: impl Fn(&Table) -> bool) -> Result<(), Violation> {
        let limit = Instant::now() + END_LIMIT;
        loop {
            self.turn()?;
            let now = Instant::now();
            self.table.go_on(now, &self.world.backend);
            if is_reached(&self.table) && matches!(self.daemon, Daemon::Up(_)) {
                return Ok(());
            }
            if now > limit {
                return Err(format!(
                    "waited in vain for {what}: {}",
                    self.table.unanswered()
                ));
            }
        }
    }

    /// Takes in what has happened, and looks after the daemon.
    fn turn(&mut self) -> Result<(), Violation> {
        let mut next = self.world.backend.news(TURN);
        while let Some(seen) = next {
            let is_claim = self.table.see(&seen, &self.world.backend)?;
            if is_claim && let Some(delay) = self.kill_after_claim.take() {
                self.kills.bring_forward(Instant::now() + delay);
            }
            next = self.world.backend.news(Duration::ZERO);
        }
        let now = Instant::now();
        if self.gate_opens.is_some_and(|at| at <= now) {
            self.gate_opens = None;
            self.proxy.set_gate(Gate::Open);
        }
        self.look_after_the_daemon(now)
    }

    fn look_after_the_daemon(&mut self, now: Instant) -> Result<(), Violation> {
        match &mut self.daemon {
            Daemon::Up(agent) => {
                if !agent.is_running() {
                    return Err(format!("the daemon ended by itself: {}", agent.exit()));
                }
            }
            Daemon::Stopping(agent, since) => {
                if !agent.is_running() {
                    let status = agent.exit();
                    // Before it has said its first word it has no work to stop, and the system's own way does.
                    let is_unborn =
                        status.signal() == Some(Signal::SIGTERM as i32) && agent.log().is_empty();
                    if status.code() != Some(0) && !is_unborn {
                        return Err(format!(
                            "the daemon was told to stop and ended with {status}"
                        ));
                    }
                    return self.bury(now);
                }
                if now > *since + STOP_LIMIT {
                    return Err("the daemon was told to stop and does not".to_owned());
                }
            }
            Daemon::Down { until } => {
                if *until <= now {
                    self.daemon = Daemon::Up(self.start());
                }
            }
        }
        Ok(())
    }

    fn start(&self) -> Agent {
        let repos: Vec<_> = REPOS
            .iter()
            .map(|repo| format!("acme/{repo}={}", self.world.path(repo).display()))
            .collect();
        let launch = self
            .world
            .launch(CLI)
            .env("WORKFORCE0_API_URL", self.proxy.url());
        let launch = launch
            .env("REPO_PATHS", repos.join(","))
            .env("MAX_CONCURRENT_TICKETS", SLOTS.to_string());
        launch.env("PROGRESS_SECONDS", "1").start()
    }

    fn kill_if_due(&mut self, now: Instant) -> Result<(), Violation> {
        if !self.kills.is_due(now) {
            return Ok(());
        }
        self.kill_after_claim = match self.kill_rng.u32(..3) {
            0 => Some(Duration::from_millis(self.kill_rng.u64(..60))),
            _ => None,
        };
        let is_asked = self.kill_rng.u32(..4) == 0;
        match std::mem::replace(&mut self.daemon, Daemon::Down { until: now }) {
            Daemon::Up(agent) if is_asked => {
                self.tell("daemon stops");
                self.table.told_to_stop = Some(now);
                agent.signal(Signal::SIGTERM);
                self.daemon = Daemon::Stopping(agent, now);
            }
            Daemon::Up(mut agent) | Daemon::Stopping(mut agent, _) => {
                self.tell("daemon kills");
                agent.crash();
                self.table.killed = Some(Instant::now());
                self.daemon = Daemon::Stopping(agent, now);
                self.bury(now)?;
            }
            down @ Daemon::Down { .. } => self.daemon = down,
        }
        Ok(())
    }

    /// The daemon has ended; the next one comes soon.
    fn bury(&mut self, now: Instant) -> Result<(), Violation> {
        if let Daemon::Up(agent) | Daemon::Stopping(agent, _) = &self.daemon {
            let log = agent.log();
            if log.contains("panicked") {
                return Err("the daemon panicked".to_owned());
            }
            self.past_log = last_part(&log).to_owned();
        }
        self.daemon = Daemon::Down {
            until: now + Duration::from_millis(self.kill_rng.u64(..800)),
        };
        Ok(())
    }

    fn fault_if_due(&mut self, now: Instant) {
        // A fault needs something to go wrong, and some work gets done.
        if !self.table.is_registered() {
            return self.faults.put_off(now + Duration::from_millis(150));
        }
        if !self.faults.is_due(now) {
            return;
        }
        let way = if self.rng.bool() {
            Way::ToBackend
        } else {
            Way::ToAgent
        };
        let for_a_while = Duration::from_millis(self.rng.u64(200..1500));
        match self.rng.u32(..20) {
            0..=1 => {
                self.tell("drops at once");
                self.proxy.cut();
            }
            2..=6 => {
                self.tell("drops after some bytes");
                // An outcome may have 300 KiB.
                let most = *self.rng.choice(&[300, 3_000, 200_000]).unwrap_or(&300);
                let bytes = self.rng.usize(..most);
                self.proxy.cut_after(way, bytes);
            }
            7..=8 => {
                self.tell("drops within the handshake or soon after");
                let bytes = self.rng.usize(..1500);
                self.proxy.cut_next_after(way, bytes);
                self.proxy.cut();
            }
            9..=12 => self.freeze(now, way),
            13 => self.close_gate(
                now,
                "refusals without an answer",
                Gate::Closing,
                for_a_while,
            ),
            14 => self.close_gate(now, "refusals with 503", BUSY, for_a_while),
            15 => self.close_gate(now, "refusals with 429", TOO_MANY, for_a_while),
            16 => self.close_gate(now, "refusals with 500", BROKEN, for_a_while),
            17 => self.close_gate(now, "absences", Gate::Gone, for_a_while),
            _ => {
                self.close_gate(now, "backend restarts", Gate::Gone, for_a_while);
                self.table.restart();
            }
        }
    }

    fn freeze(&mut self, now: Instant, way: Way) {
        self.tell("freezes");
        let mut time = Duration::from_millis(self.rng.u64(100..2500));
        if self.seconds > 60 && self.rng.u32(..4) == 0 {
            self.tell("freezes beyond the silence limit");
            time = Duration::from_secs(40);
            self.kills.put_off(now + time);
            self.faults.put_off(now + time);
        }
        self.proxy.freeze(way, time);
        if self.rng.bool() {
            self.proxy.freeze(Way::ToBackend, time);
            self.proxy.freeze(Way::ToAgent, time);
        }
    }

    /// Whoever is connected is cut off, and comes back to this.
    fn close_gate(&mut self, now: Instant, what: &'static str, gate: Gate, time: Duration) {
        self.tell(what);
        self.proxy.set_gate(gate);
        self.proxy.cut();
        self.gate_opens = Some(now + time);
    }

    /// All faults are over and all tickets have ended: nothing is left, and the daemon is as it was.
    fn check_quiet(&mut self, first: &Footprint) -> Result<(), Violation> {
        self.settle()?;
        let cut_off = SLOTS * (self.counted("daemon kills") + self.counted("daemon stops"));
        self.table.check_end(&self.world.read("runs"), cut_off)?;
        let Daemon::Up(agent) = &self.daemon else {
            return Err("the daemon is not up".to_owned());
        };
        let left = self.world.processes(agent);
        if !left.is_empty() {
            return Err(format!("still running when all is quiet: {left:?}"));
        }
        // The last run is being tidied, which opens folders.
        let limit = Instant::now() + PATIENCE;
        while self.footprint().open_files != first.open_files || !self.untidied().is_empty() {
            if Instant::now() > limit {
                let (untidied, files) = (self.untidied(), self.open_files());
                return Err(format!(
                    "untidied: {untidied:?}; {} open files at first, at last:\n{files}",
                    first.open_files
                ));
            }
            self.turn()?;
        }
        let last = self.footprint();
        self.count.insert(
            "resident kB at first",
            usize::try_from(first.resident_kb).unwrap_or_default(),
        );
        self.count.insert(
            "resident kB at last",
            usize::try_from(last.resident_kb).unwrap_or_default(),
        );
        if last.resident_kb > first.resident_kb + MORE_MEMORY_KB {
            return Err(format!(
                "{} kB resident at first, {} at last",
                first.resident_kb, last.resident_kb
            ));
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<(), Violation> {
        let Daemon::Up(agent) = &mut self.daemon else {
            return Err("the daemon is not up".to_owned());
        };
        let status = agent.terminate();
        if status.code() != Some(0) {
            return Err(format!(
                "the daemon was told to stop and ended with {status}"
            ));
        }
        self.bury(Instant::now())
    }

    /// Only Linux shows it; elsewhere nothing is compared.
    fn footprint(&self) -> Footprint {
        match &self.daemon {
            Daemon::Up(agent) if cfg!(target_os = "linux") => Footprint {
                resident_kb: processes::status_kb(agent.pid(), "VmRSS"),
                open_files: self.open_files().lines().count(),
            },
            _ => Footprint {
                resident_kb: 0,
                open_files: 0,
            },
        }
    }

    /// What the daemon has open, a line for each.
    fn open_files(&self) -> String {
        let Daemon::Up(agent) = &self.daemon else {
            return String::new();
        };
        let open = fs::read_dir(format!("/proc/{}/fd", agent.pid()))
            .into_iter()
            .flatten()
            .flatten();
        let name = |path: PathBuf| {
            fs::read_link(path)
                .unwrap_or_default()
                .display()
                .to_string()
        };
        open.map(|entry| name(entry.path()) + "\n").collect()
    }

    fn log(&self) -> String {
        match &self.daemon {
            Daemon::Up(agent) | Daemon::Stopping(agent, _) => {
                format!(
                    "{}\n-- the next daemon --\n{}",
                    self.past_log,
                    last_part(&agent.log())
                )
            }
            Daemon::Down { .. } => self.past_log.clone(),
        }
    }

    fn tell(&mut self, what: &'static str) {
        *self.count.entry(what).or_default() += 1;
    }

    fn counted(&self, what: &str) -> usize {
        self.count.get(what).copied().unwrap_or_default()
    }

    fn summary(&self) -> String {
        let count = &self.table.count;
        let mut lines = vec![
            format!("seconds: {}", self.seconds),
            format!("tickets: {}", self.table.tickets()),
            format!("attempts: {}", self.table.attempts()),
            format!("assignments: {}", count.assigned),
            format!("claims: {}", count.claims),
            format!("outcomes: {}", count.outcomes),
            format!("outcomes that came again: {}", count.repeats),
            format!("connections: {}", count.connections),
        ];
        lines.extend(
            count
                .codes
                .iter()
                .map(|(code, count)| format!("outcomes with {code}: {count}")),
        );
        lines.extend(
            self.count
                .iter()
                .map(|(what, count)| format!("{what}: {count}")),
        );
        lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

const BUSY: Gate = Gate::Answering(
    "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
);
const TOO_MANY: Gate =
    Gate::Answering("HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n");
const BROKEN: Gate =
    Gate::Answering("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n");

fn last_part(log: &str) -> &str {
    let start = log.rmatch_indices('\n').nth(80).map_or(0, |(at, _)| at + 1);
    &log[start..]
}
