//! Measures the daemon and prints medians, beside figures to compare them with: a bare spawn, bare git commands.
//!
//! `scripts/bench` runs it. It checks no figure; `scripts/budgets` reads what `--tsv` prints. It needs Linux, because it reads
//! /proc.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a benchmark may panic, wait and spawn"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use support::agent::Agent;
use support::backend::{What, is_outcome};
use support::world::{World, ticket_with};

/// A source tree of a usual size.
const FILES: usize = 2000;
const FLOOD_MIB: usize = 300;

/// Output for programs: name, value and unit, with a tab between them.
static TSV: AtomicBool = AtomicBool::new(false);

fn main() {
    let words: Vec<String> = std::env::args().collect();
    match words.get(1).map(String::as_str) {
        Some("cli-touch") => touch(),
        Some("cli-flood") => flood(&[b'x'; 1 << 20]),
        Some("cli-flood-lines") => {
            println!(r#"{{"type":"system","subtype":"init","session_id":"s"}}"#);
            let result = json!({"type": "user", "message": {"content": [{"type": "tool_result", "content": "x".repeat(16 << 10)}]}});
            flood(format!("{result}\n").repeat(63).as_bytes());
            println!(r#"{{"type":"result","is_error":false,"result":"Done."}}"#);
        }
        #[cfg(unix)]
        Some("relay") => stopped::relay(),
        _ => bench(&words[1..]),
    }
}

/// Measures the named figures, or all of them. cargo adds words that begin with a dash.
fn bench(words: &[String]) {
    let quick = words.iter().any(|word| word == "--quick");
    TSV.store(words.iter().any(|word| word == "--tsv"), Ordering::Relaxed);
    let names: Vec<_> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |name: &str| names.is_empty() || names.iter().any(|own| *own == name);
    let rounds = if quick { 5 } else { 25 };
    let figures: &[(&str, &dyn Fn())] = &[
        ("size", &size),
        ("start", &|| starts(rounds)),
        ("flood", &|| {
            flooded("cli-flood", "", if quick { 1 } else { 3 });
            flooded(
                "cli-flood-lines",
                " of JSON lines",
                if quick { 1 } else { 3 },
            );
        }),
        ("tickets", &|| {
            [true, false]
                .into_iter()
                .for_each(|git| tickets(rounds, git))
        }),
        ("soak", &|| soak(if quick { 1000 } else { 10_000 })),
        #[cfg(unix)]
        ("frozen", &stopped::frozen),
        ("idle", &|| idle(if quick { 0 } else { 3 })),
    ];
    if !TSV.load(Ordering::Relaxed) {
        println!("{:<52} {:>12}", "figure (median)", "value");
    }
    figures
        .iter()
        .filter(|(name, _)| is_wanted(name))
        .for_each(|(_, measure)| measure());
}

fn row(name: &str, value: f64, unit: &str) {
    if TSV.load(Ordering::Relaxed) {
        println!("{name}\t{value}\t{unit}");
    } else {
        println!("{name:<52} {value:>12.2} {unit}");
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn size() {
    let bytes =
        fs::metadata(support::agent::BINARY.expect("cargo names the binary for benchmarks"))
            .expect("the binary")
            .len();
    row("binary", bytes as f64 / 1e6, "MB");
}

fn launch(world: &World, mode: &str) -> support::agent::Launch {
    let this = std::env::current_exe().expect("this program");
    world
        .launch("")
        .env("CLI_COMMAND", this)
        .env("CLI_ARGS_TEMPLATE", mode)
}

fn starts(rounds: usize) {
    let world = World::new();
    let times = (0..rounds).map(|_| {
        let from = Instant::now();
        let agent = launch(&world, "cli-touch").start();
        let (at, _) = world.backend.timed_frame("agent.register", |_| true);
        drop(agent);
        millis(at.duration_since(from))
    });
    row("start → register", median(times.collect()), "ms");
}

/// With 0 minutes, it measures only the memory.
fn idle(minutes: usize) {
    let world = World::new();
    let agent = world.registered(launch(&world, "cli-touch"));
    // After one heartbeat, all work that is done only once is done.
    world.backend.frame("agent.heartbeat");
    let memory_now = || status_kib(agent.pid(), "VmRSS") / 1024.0;
    let (mut switches, mut cpu, mut memory) = (Vec::new(), Vec::new(), vec![memory_now()]);
    for _ in 0..minutes {
        let before = Usage::of(&agent);
        thread::sleep(Duration::from_secs(60));
        let after = Usage::of(&agent);
        switches.push((after.switches - before.switches) as f64);
        cpu.push((after.cpu_ns - before.cpu_ns) as f64 / 1e6);
        memory.push(memory_now());
    }
    row("idle: resident memory", median(memory), "MiB");
    if minutes > 0 {
        row("idle: context switches a minute", median(switches), "");
        row("idle: CPU a minute", median(cpu), "ms");
    }
    row("idle: threads", status_kib(agent.pid(), "Threads"), "");
}

fn flooded(cli: &str, of_what: &str, rounds: usize) {
    let more = (0..rounds).map(|_| {
        let world = World::new();
        let agent = world.registered(launch(&world, cli));
        let before = status_kib(agent.pid(), "VmRSS");
        let result = world.outcome_of("FLOOD");
        assert_eq!(result["type"], "ticket.result", "{}", result["error"]);
        (status_kib(agent.pid(), "VmHWM") - before) / 1024.0
    });
    row(
        &format!("CLI prints {FLOOD_MIB} MiB{of_what}: memory above idle"),
        median(more.collect()),
        "MiB",
    );
}

fn tickets(rounds: usize, git: bool) {
    let world = World::new();
    let place = if git { "git repository" } else { "no git" };
    if git {
        fill(&world, &world.repo());
    } else {
        fs::remove_dir_all(world.repo().join(".git")).expect("no git");
    }
    let agent = world.registered(launch(&world, "cli-touch"));
    let one = |number: usize| {
        let id = format!("B-{number}");
        let assigned = (Instant::now(), SystemTime::now());
        world.backend.send(&ticket_with(&id, json!({})));
        let (claimed, _) = world.backend.timed_frame("ticket.claim", |_| true);
        let (answered, result) = world
            .backend
            .wait_for("an outcome", |seen| match &seen.what {
                What::Frame(frame) if is_outcome(frame) => Some((seen.at, frame.clone())),
                _ => None,
            });
        let (started, ended) = cli_times(&result);
        let answered = assigned.1 + answered.duration_since(assigned.0);
        [
            millis(claimed.duration_since(assigned.0)),
            millis(started.duration_since(assigned.1).unwrap_or_default()),
            millis(answered.duration_since(ended).unwrap_or_default()),
        ]
    };
    one(0);
    let times: Vec<_> = (1..=rounds).map(one).collect();
    let column = |n: usize| median(times.iter().map(|row| row[n]).collect());
    row(&format!("{place}: assigned → claim"), column(0), "ms");
    row(&format!("{place}: assigned → CLI started"), column(1), "ms");
    row(&format!("{place}: CLI exit → result"), column(2), "ms");
    let spawn = median((0..rounds).map(|_| bare_spawn(&world)).collect());
    row(
        "  bare spawn of the same CLI, to its first line",
        spawn,
        "ms",
    );
    if git {
        let bare: Vec<_> = (0..rounds).map(|_| bare_git(&world)).collect();
        let before = median(bare.iter().map(|row| row.0).collect());
        let after = median(bare.iter().map(|row| row.1).collect());
        row("  bare git before the run (add)", before, "ms");
        row(
            "  assigned → CLI started: ratio to both",
            column(1) / (spawn + before),
            "",
        );
        row(
            "  bare git after the run (add, write-tree ×2, diff)",
            after,
            "ms",
        );
        row("  CLI exit → result: ratio to it", column(2) / after, "");
    } else {
        row(
            "  assigned → CLI started: ratio to it",
            column(1) / spawn,
            "",
        );
    }
    let from = Instant::now();
    let count = rounds * 4;
    for number in 0..count {
        one(1000 + number);
    }
    row(
        &format!("{place}: tickets one after the other"),
        count as f64 / from.elapsed().as_secs_f64(),
        "/s",
    );
    drop(agent);
}

/// The number of open tickets in the soak: one runs, the others wait.
const SOAK_IN_FLIGHT: usize = 4;
/// After this number of tickets, the daemon has made all that it makes only once.
const SOAK_WARM: usize = 100;

/// Runs many tickets in one daemon and measures its memory and open files early and late, while it is quiet.
fn soak(count: usize) {
    let world = World::new();
    fs::remove_dir_all(world.repo().join(".git")).expect("no git");
    let agent = world.registered(launch(&world, "cli-touch"));
    // The stations in between show whether growth has a bound.
    let mut stations = vec![SOAK_WARM, count / 10, count / 2, count];
    stations.dedup();
    let (mut assigned, mut answered) = (0, 0);
    let mut first = None;
    for station in stations {
        let (from, before) = (Instant::now(), answered);
        while answered < station {
            while assigned < station && assigned < answered + SOAK_IN_FLIGHT {
                world.assign(&format!("S-{assigned}"));
                assigned += 1;
            }
            let result = world
                .backend
                .wait_for("an outcome", |seen| match &seen.what {
                    What::Frame(frame) if is_outcome(frame) => Some(frame.clone()),
                    _ => None,
                });
            assert_eq!(result["type"], "ticket.result", "{result}");
            answered += 1;
        }
        let rate = (answered - before) as f64 / from.elapsed().as_secs_f64();
        // Now the daemon is quiet: a worker cleans up after a run before it starts the next one.
        world.fence();
        // Frames of ten thousand tickets need much memory, and these are not needed any more.
        world.backend.past.lock().expect("nobody panicked").clear();
        let (memory, files) = (
            status_kib(agent.pid(), "VmRSS") / 1024.0,
            open_files(&agent),
        );
        row(
            &format!("soak: resident memory after {station} tickets"),
            memory,
            "MiB",
        );
        row(
            &format!("soak: open files after {station} tickets"),
            files,
            "",
        );
        row(&format!("soak: tickets, {before} to {station}"), rate, "/s");
        let (memory_first, files_first) = *first.get_or_insert((memory, files));
        if station == count {
            row(
                "soak: resident memory, last − first",
                memory - memory_first,
                "MiB",
            );
            row("soak: open files, last − first", files - files_first, "");
        }
    }
}

/// Only root and the daemon itself can see them; for others the result is NaN.
fn open_files(agent: &Agent) -> f64 {
    fs::read_dir(format!("/proc/{}/fd", agent.pid())).map_or(f64::NAN, |files| files.count() as f64)
}

/// When the CLI's `main` began and when it ended, as it printed them.
fn cli_times(result: &Value) -> (SystemTime, SystemTime) {
    let text = result["stdout"]
        .as_str()
        .unwrap_or_else(|| panic!("no output: {result}"));
    let mut times = text
        .split_whitespace()
        .map(|ns| UNIX_EPOCH + Duration::from_nanos(ns.parse().expect("a time")));
    (
        times.next().expect("a start"),
        times.next().expect("an end"),
    )
}

fn bare_spawn(world: &World) -> f64 {
    let from = SystemTime::now();
    let output = Command::new(std::env::current_exe().expect("this program"))
        .arg("cli-touch")
        .current_dir(world.repo())
        .stdin(Stdio::null())
        .output()
        .expect("a bare spawn");
    let text = String::from_utf8(output.stdout).expect("text");
    let ns = text
        .split_whitespace()
        .next()
        .expect("a start")
        .parse()
        .expect("a time");
    millis(
        (UNIX_EPOCH + Duration::from_nanos(ns))
            .duration_since(from)
            .unwrap_or_default(),
    )
}

/// Times the plain git commands that a diff takes: those before the run, and those after it.
fn bare_git(world: &World) -> (f64, f64) {
    let repo = world.repo();
    let scratch = world.path("bare");
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(scratch.join("objects")).expect("a folder");
    copy_index(&repo.join(".git/index"), &scratch.join("before"));
    let git = |index: &str, args: &[&str]| {
        let output = Command::new("git")
            .args(args)
            .current_dir(&repo)
            .env("GIT_INDEX_FILE", scratch.join(index))
            .env("GIT_OBJECT_DIRECTORY", scratch.join("objects"))
            .env(
                "GIT_ALTERNATE_OBJECT_DIRECTORIES",
                repo.join(".git/objects"),
            )
            .output()
            .expect("git starts");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("text")
    };
    let from = Instant::now();
    git("before", &["add", "-A"]);
    let before = millis(from.elapsed());
    change(&repo);
    let from = Instant::now();
    copy_index(&scratch.join("before"), &scratch.join("after"));
    git("after", &["add", "-A"]);
    let first = git("before", &["write-tree"]);
    let second = git("after", &["write-tree"]);
    git(
        "after",
        &[
            "diff",
            "--binary",
            "--full-index",
            "--no-ext-diff",
            "--no-textconv",
            first.trim(),
            second.trim(),
        ],
    );
    (before, millis(from.elapsed()))
}

fn copy_index(from: &Path, to: &Path) {
    fs::copy(from, to).expect("a copy of the index");
    let time = fs::metadata(from)
        .and_then(|meta| meta.modified())
        .expect("its time");
    fs::File::options()
        .write(true)
        .open(to)
        .and_then(|file| file.set_modified(time))
        .expect("the same time");
}

fn fill(world: &World, repo: &Path) {
    for number in 0..FILES {
        let folder = repo.join(format!("src/part{}", number / 50));
        fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join(format!("file{number}.rs"));
        fs::write(&path, "pub fn nothing() {}\n".repeat(40)).expect("a file");
        // An older time, as in real repositories: git reads files again that are as new as the index.
        let file = fs::File::options()
            .write(true)
            .open(&path)
            .expect("the file");
        file.set_modified(SystemTime::now() - Duration::from_secs(3600))
            .expect("an older time");
    }
    world.git(repo, &["add", "."]);
    world.git(repo, &["commit", "--quiet", "--message", "many files"]);
}

/// The fake CLI: changes a few files, and prints when it began and when it ended.
fn touch() {
    let began = now_ns();
    change(Path::new("."));
    println!("{began} {}", now_ns());
}

fn change(repo: &Path) {
    for name in ["README.md", "src/lib.rs", "src/new.rs"] {
        fs::write(repo.join(name), format!("// {}\n", now_ns())).expect("a file");
    }
}

fn flood(chunk: &[u8]) {
    let mut out = std::io::stdout().lock();
    for _ in 0..FLOOD_MIB {
        out.write_all(chunk).expect("somebody reads");
        out.write_all(b"\n").expect("somebody reads");
    }
}

fn now_ns() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock that is set")
        .as_nanos()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// See proc(5).
struct Usage {
    switches: u64,
    cpu_ns: u64,
}

impl Usage {
    fn of(agent: &Agent) -> Self {
        let mut usage = Self {
            switches: 0,
            cpu_ns: 0,
        };
        for task in fs::read_dir(format!("/proc/{}/task", agent.pid()))
            .expect("its threads")
            .flatten()
        {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let number = |line: &str| {
                line.split_whitespace()
                    .last()
                    .and_then(|n| n.parse::<u64>().ok())
                    .unwrap_or(0)
            };
            usage.switches += status
                .lines()
                .filter(|line| line.contains("ctxt_switches"))
                .map(number)
                .sum::<u64>();
            let schedstat = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            usage.cpu_ns += schedstat
                .split_whitespace()
                .next()
                .and_then(|ns| ns.parse::<u64>().ok())
                .unwrap_or(0);
        }
        usage
    }
}

fn status_kib(pid: u32, field: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = status
        .lines()
        .find(|line| line.starts_with(field))
        .unwrap_or_else(|| panic!("no {field}"));
    line.split_whitespace()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .expect("a number")
}

/// Only Unix can stop a process by a signal.
#[cfg(unix)]
mod stopped {
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::fd::{AsFd, OwnedFd};
    use std::process::{Child, Command};
    use std::sync::mpsc;
    use std::thread;
    use std::time::Instant;

    use super::{World, launch, row};

    /// Stops the peer: its system still acknowledges what is sent, but no answer comes. Each connection goes through a process
    /// of its own, and only the first one is stopped.
    pub fn frozen() {
        let world = World::new();
        let front = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let url = format!("http://{}", front.local_addr().expect("its address"));
        let (tell, relays) = mpsc::channel();
        let backend = world.backend.port().to_string();
        // This thread waits for connections and ends with the process.
        thread::spawn(move || {
            for stream in front.incoming().flatten() {
                let relay = Command::new(std::env::current_exe().expect("this program"))
                    .args(["relay", &backend])
                    .stdin(OwnedFd::from(stream))
                    .spawn()
                    .expect("a relay");
                if tell.send(Relay(relay)).is_err() {
                    return;
                }
            }
        });
        let agent = world.registered(launch(&world, "cli-touch").env("WORKFORCE0_API_URL", url));
        assert_eq!(world.outcome_of("before")["type"], "ticket.result");
        let first = relays.recv().expect("the first relay");
        let pid = i32::try_from(first.0.id()).expect("a pid");
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGSTOP,
        )
        .expect("a relay");
        let from = Instant::now();
        agent.logged("not connected");
        let noticed = from.elapsed();
        let (at, _) = world.backend.timed_frame("agent.register", |_| true);
        row("peer stopped → noticed", noticed.as_secs_f64(), "s");
        row(
            "peer stopped → registered on a new connection",
            at.duration_since(from).as_secs_f64(),
            "s",
        );
        assert_eq!(world.outcome_of("after")["type"], "ticket.result");
    }

    /// The process is killed when this is dropped, also while it is stopped.
    struct Relay(Child);

    impl Drop for Relay {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// Passes bytes between its standard input, which is a connection, and a port, until one side ends.
    pub fn relay() {
        let port = std::env::args()
            .nth(2)
            .and_then(|port| port.parse::<u16>().ok())
            .expect("a port");
        let near = TcpStream::from(
            std::io::stdin()
                .as_fd()
                .try_clone_to_owned()
                .expect("a connection"),
        );
        let far = TcpStream::connect(("127.0.0.1", port)).expect("the backend");
        let (mut from_near, mut to_far) = (
            near.try_clone().expect("a copy"),
            far.try_clone().expect("a copy"),
        );
        let there = thread::spawn(move || {
            let _ = std::io::copy(&mut from_near, &mut to_far);
            let _ = to_far.shutdown(Shutdown::Both);
        });
        let (mut from_far, mut to_near) = (far, near);
        let _ = std::io::copy(&mut from_far, &mut to_near);
        let _ = to_near.shutdown(Shutdown::Both);
        there.join().expect("a thread that does not panic");
    }
}
