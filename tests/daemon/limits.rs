//! The system has no more of something: room on the disk, files, processes. Each ticket is answered all the same, the
//! daemon lives, and is well again when there is more.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::stat::Mode;
use serde_json::{Value, json};

use crate::support::agent::{Agent, Launch};
use crate::support::backend::Answer;
use crate::support::eventually;
use crate::support::world::{World, ticket_with};

/// Fails unless it is the agent that could not, and another, or this one later, may.
fn assert_refused_by_the_system(fail: &Value) {
    let code = fail["code"].as_str().unwrap_or_default();
    assert!(["internal", "spawn_failed"].contains(&code), "{fail}");
    assert_eq!(fail["retryable"], true, "{fail}");
}

/// The state folder's part for tickets, replaced by a file: nothing can be written below it, by root neither.
struct Unwritable {
    folder: PathBuf,
    aside: PathBuf,
}

impl Unwritable {
    fn make(world: &World) -> Self {
        let (folder, aside) = (world.state().join("tickets"), world.path("tickets-aside"));
        fs::create_dir_all(&folder).unwrap();
        fs::rename(&folder, &aside).unwrap();
        fs::write(&folder, "").unwrap();
        Self { folder, aside }
    }

    fn put_back(self) {
        fs::remove_file(&self.folder).unwrap();
        fs::rename(&self.aside, &self.folder).unwrap();
    }
}

/// A ticket that cannot be kept is `internal` without a claim; once it can be, tickets run again.
#[test]
fn an_unwritable_state_folder_is_told() {
    let world = World::new();
    let _agent = world.agent("echo ran");
    let unwritable = Unwritable::make(&world);
    let fail = world.outcome_of("T-1");
    assert_eq!(
        (fail["code"].as_str(), fail["retryable"].as_bool()),
        (Some("internal"), Some(true)),
        "{fail}"
    );
    assert_eq!(
        world.backend.frames_of("T-1").len(),
        1,
        "a claim would be a promise"
    );
    unwritable.put_back();
    assert_eq!(world.outcome_of("T-2")["stdout"], "ran\n");
}

/// An outcome that cannot be written is sent all the same, and is not contradicted after a restart.
#[test]
fn an_outcome_that_cannot_be_written_is_sent() {
    let world = World::new();
    let script = "echo ran; tell \"up $WF0_TICKET_ID\"; hold \"$WF0_TICKET_ID\"";
    let mut agent = world.agent(script);
    world.assign("T-1");
    world.told("up T-1");
    let unwritable = Unwritable::make(&world);
    world.release("T-1");
    let result = world.backend.outcome("T-1");
    assert_eq!(
        (result["type"].as_str(), result["stdout"].as_str()),
        (Some("ticket.result"), Some("ran\n"))
    );
    // Its delivery cannot be noted either.
    world.fence();
    unwritable.put_back();
    world.release("T-2");
    assert_eq!(world.outcome_of("T-2")["stdout"], "ran\n");
    world.fence();
    agent.crash();
    let _agent = world.agent(script);
    world.fence();
    assert_eq!(world.backend.outcomes_of("T-1"), [result]);
}

/// The folder of a run that waits for its turn.
fn run_folder(world: &World, id: &str) -> PathBuf {
    let is_its = |folder: &PathBuf| {
        let ticket = fs::read_to_string(folder.join("ticket.json")).unwrap_or_default();
        serde_json::from_str(&ticket).is_ok_and(|ticket: Value| ticket["ticket_id"] == id)
    };
    let folders = fs::read_dir(world.state().join("tickets"))
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    folders
        .into_iter()
        .find(is_its)
        .expect("the ticket is on disk")
}

/// A full disk: what cannot be written before the run is `internal`, and nothing is run; what cannot be written
/// afterwards does not keep the outcome from being sent.
#[test]
fn a_full_disk_is_told() {
    let world = World::new();
    let script = "case $WF0_TICKET_ID in T-held) tell up; hold go;; esac
        echo \"$WF0_TICKET_ID\" >> \"$WORLD/ran\"; echo out";
    let mut agent = world.agent(script);
    world.assign("T-held");
    world.told("up");
    let before = [("T-prompt", "prompt.md"), ("T-start", "started.new")];
    let after = [("T-output", "stdout.log"), ("T-outcome", "outcome.new")];
    for (id, name) in before.into_iter().chain(after) {
        world.assign(id);
        world
            .backend
            .frame_where("ticket.claim", |claim| claim["ticketId"] == id);
        // What is written to this device finds no room (full(4)).
        symlink("/dev/full", run_folder(&world, id).join(name)).unwrap();
    }
    world.release("go");
    for (id, _) in before {
        let fail = world.backend.outcome(id);
        assert_eq!(
            (fail["code"].as_str(), fail["retryable"].as_bool()),
            (Some("internal"), Some(true)),
            "{fail}"
        );
    }
    for (id, _) in after {
        let result = world.backend.outcome(id);
        assert_eq!(
            (result["type"].as_str(), result["stdout"].as_str()),
            (Some("ticket.result"), Some("out\n"))
        );
    }
    let warnings = &world.backend.outcomes_of("T-output")[0]["warnings"];
    assert!(
        warnings[0]
            .as_str()
            .is_some_and(|warning| warning.contains("stdout")),
        "{warnings}"
    );
    assert_eq!(world.outcome_of("T-well")["type"], "ticket.result");
    assert_eq!(world.read("ran"), "T-held\nT-output\nT-outcome\nT-well\n");
    world.fence();
    agent.crash();
    let _agent = world.agent(script);
    world.fence();
    for (id, _) in before.into_iter().chain(after) {
        assert_eq!(
            world.backend.outcomes_of(id).len(),
            1,
            "{id}: {:?}",
            world.backend.outcomes_of(id)
        );
    }
}

/// A log that nobody can take, for its disk is full, ends nothing.
#[test]
fn a_log_on_a_full_disk_does_no_harm() {
    let world = World::new();
    let mut agent = world.registered(
        world
            .launch("echo ran")
            .env("LOG_LEVEL", "trace")
            .after("exec 2> /dev/full"),
    );
    assert_eq!(world.outcome_of("T-1")["stdout"], "ran\n");
    assert!(agent.is_running());
}

/// The limits of a running daemon, set from outside.
struct Limits {
    pid: String,
    /// Whose it is.
    user: u32,
}

impl Limits {
    /// `None`: this system has no program that sets them.
    fn of(agent: &Agent, user: u32) -> Option<Self> {
        let limits = Self {
            pid: agent.pid().to_string(),
            user,
        };
        match Command::new("prlimit").arg("--version").output() {
            Ok(_) => Some(limits),
            Err(e) => {
                eprintln!("not tested: prlimit: {e}");
                None
            }
        }
    }

    /// The soft limit, which leaves the way back open.
    fn set(&self, resource: &str, to: &str) {
        let output = self.prlimit(&format!("--{resource}={to}:"), &[]);
        assert!(output.is_some(), "{resource} cannot be limited to {to}");
    }

    fn get(&self, resource: &str) -> String {
        let columns = ["--output", "SOFT", "--noheadings", "--raw"];
        self.prlimit(&format!("--{resource}"), &columns)
            .expect("a limit")
            .trim()
            .to_owned()
    }

    fn prlimit(&self, resource: &str, more: &[&str]) -> Option<String> {
        let mut command = Command::new("prlimit");
        // Root itself may not set those of another user where it lacks that capability.
        command
            .args(["--pid", &self.pid, resource])
            .args(more)
            .uid(self.user);
        let output = command.output().unwrap();
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// A CLI that needs no process besides itself, waits to be released, and tells when it is up.
const ALONE: &str = "tell up; read -r _ < \"$WORLD/hold-$WF0_TICKET_ID\"; echo ran";

fn assign_alone(world: &World, id: &str) -> Value {
    nix::unistd::mkfifo(
        &world.path(&format!("hold-{id}")),
        Mode::from_bits_truncate(0o644),
    )
    .unwrap();
    world.assign(id);
    eventually(&format!("the outcome of {id}"), || {
        if world.has_told("up") {
            world.release(id);
        }
        world.backend.outcomes_of(id).pop()
    })
}

/// Gives the daemon one more of the resource with each ticket, until one goes through: whichever step it is that
/// finds nothing left, the ticket is answered, the daemon lives, and nothing is left running.
fn assert_every_step_can_fail(
    world: &World,
    agent: &mut Agent,
    limits: &Limits,
    resource: &str,
    first: u32,
) {
    let before = limits.get(resource);
    let mut refused = Vec::new();
    for limit in first.. {
        assert!(
            limit < first + 100,
            "no ticket goes through: {}",
            agent.log()
        );
        limits.set(resource, &limit.to_string());
        let id = format!("T-{limit}");
        let outcome = assign_alone(world, &id);
        assert!(agent.is_running(), "at {limit}: {}", agent.log());
        let left = world.processes(agent);
        assert!(left.is_empty(), "at {limit} still running: {left:?}");
        if outcome["type"] == "ticket.result" {
            assert_eq!(outcome["stdout"], "ran\n", "at {limit}");
            // A run that lacks git only says so.
            if !outcome["warnings"].to_string().contains("os error") {
                break;
            }
        } else {
            assert_refused_by_the_system(&outcome);
            refused.push(id);
        }
    }
    assert!(!refused.is_empty(), "the limit was none");
    limits.set(resource, &before);
    assert_eq!(assign_alone(world, "T-well")["stdout"], "ran\n");
    world.fence();
    agent.crash();
    let _agent = world.agent(ALONE);
    world.fence();
    for id in refused {
        assert_eq!(
            world.backend.outcomes_of(&id).len(),
            1,
            "{id}: {:#?}",
            world.backend.frames_of(&id)
        );
        assert!(
            !world.has_told("up"),
            "{id} was refused, and is run after the restart"
        );
    }
}

/// Too many open files, at whichever step of a ticket.
#[test]
fn every_step_can_lack_a_file() {
    let world = World::new();
    let mut agent = world.agent(ALONE);
    let Some(limits) = Limits::of(&agent, nix::unistd::geteuid().as_raw()) else {
        return;
    };
    assert_every_step_can_fail(&world, &mut agent, &limits, "nofile", 3);
}

/// Started by root as a user whom nobody else is: limits on processes do not bind root, and count all of a user's.
/// `None` where this is not root.
fn by_a_lonely_user(world: &World, launch: Launch) -> Option<(Launch, u32)> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not tested: the limit would count every process of this user");
        return None;
    }
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = std::process::id() * 8 + NUMBER.fetch_add(1, Ordering::Relaxed);
    let user = 50_000 + number % 10_000;
    let launch = launch.by_user(user, &world.path("wf0-agent"));
    let status = Command::new("chown")
        .args(["-R", &user.to_string()])
        .arg(world.dir.path())
        .status()
        .unwrap();
    assert!(status.success());
    Some((launch, user))
}

/// No more processes or threads, at whichever step of a ticket.
#[test]
fn every_step_can_lack_a_process() {
    let world = World::new();
    // git would take what there is, and do without.
    fs::remove_dir_all(world.repo().join(".git")).unwrap();
    let Some((launch, user)) = by_a_lonely_user(&world, world.launch(ALONE)) else {
        return;
    };
    let mut agent = world.registered(launch);
    let Some(limits) = Limits::of(&agent, user) else {
        return;
    };
    assert_every_step_can_fail(&world, &mut agent, &limits, "nproc", 1);
}

/// A run that is to end ends with all its processes also while no file can be opened to look for them.
#[test]
fn a_run_is_ended_without_a_file_to_open() {
    let world = World::new();
    let agent = world.agent("( trap '' TERM; tell child; hold never ) & tell up; hold never");
    let Some(limits) = Limits::of(&agent, nix::unistd::geteuid().as_raw()) else {
        return;
    };
    world.assign("T-1");
    world.told("child");
    world.told("up");
    let before = limits.get("nofile");
    limits.set("nofile", "3");
    world
        .backend
        .send(&json!({"type": "ticket.cancel", "ticketId": "T-1"}));
    assert_eq!(world.backend.outcome("T-1")["code"], "cancelled");
    let left = world.processes(&agent);
    assert!(left.is_empty(), "still running: {left:?}");
    limits.set("nofile", &before);
    world.cli("echo ran");
    assert_eq!(world.outcome_of("T-2")["stdout"], "ran\n");
}

/// The connection is lost while `resource` is limited to `least`. The log tells it with these words at each attempt, and
/// the agent connects again when there is more.
fn assert_reconnects(world: &World, mut agent: Agent, user: u32, shortage: Shortage) {
    let Some(limits) = Limits::of(&agent, user) else {
        return;
    };
    let before = limits.get(shortage.resource);
    limits.set(shortage.resource, shortage.least);
    world.backend.cut();
    for _ in 0..2 {
        agent.logged(shortage.words);
    }
    assert!(agent.is_running());
    limits.set(shortage.resource, &before);
    world.backend.frame("agent.register");
    assert_eq!(world.outcome_of("T-1")["stdout"], "ran\n");
}

struct Shortage {
    resource: &'static str,
    least: &'static str,
    words: &'static str,
}

/// A connection that is lost while there are no files comes back when there are.
#[test]
fn a_reconnect_waits_for_a_file() {
    let world = World::new();
    let agent = world.agent("echo ran");
    let files = Shortage {
        resource: "nofile",
        least: "3",
        words: "Too many open files",
    };
    assert_reconnects(&world, agent, nix::unistd::geteuid().as_raw(), files);
}

/// A connection that is lost while there are no threads comes back when there are.
#[test]
fn a_reconnect_waits_for_a_thread() {
    let world = World::new();
    let Some((launch, user)) = by_a_lonely_user(&world, world.launch("echo ran")) else {
        return;
    };
    let agent = world.registered(launch);
    let threads = Shortage {
        resource: "nproc",
        least: "1",
        words: "no thread to connect with",
    };
    assert_reconnects(&world, agent, user, threads);
}

/// A payload that no thread can be had for is `payload_unavailable`, and the daemon lives.
#[test]
fn a_download_without_a_thread_is_told() {
    let world = World::new();
    let path = "/api/tickets/T-";
    for n in 1..=2 {
        world.backend.answer(
            &format!("{path}{n}"),
            Answer::data(json!({"title": "Do it", "description": "This."})),
        );
    }
    // A name has to be looked up, an address has not.
    let url = world.backend.url().replace("127.0.0.1", "localhost");
    let launch = world.launch("echo ran").env("WORKFORCE0_API_URL", url);
    let Some((launch, user)) = by_a_lonely_user(&world, launch) else {
        return;
    };
    let mut agent = world.registered(launch);
    let Some(limits) = Limits::of(&agent, user) else {
        return;
    };
    let before = limits.get("nproc");
    limits.set("nproc", "1");
    let bare = json!({"title": null, "description": null});
    let fail = world.outcome_with("T-1", bare.clone());
    assert_eq!(
        (fail["code"].as_str(), fail["retryable"].as_bool()),
        (Some("payload_unavailable"), Some(true)),
        "{fail}"
    );
    assert!(agent.is_running());
    limits.set("nproc", &before);
    assert_eq!(world.outcome_with("T-2", bare)["stdout"], "ran\n");
}

/// Runs beside each other that have no files left between them are refused one by one, and their files come back.
#[test]
fn what_one_run_uses_another_lacks() {
    const RUNS: usize = 4;
    let world = World::new();
    let names: Vec<String> = (0..RUNS).map(|n| format!("plain-{n}")).collect();
    let folder = |name: &String| {
        fs::create_dir(world.path(name)).unwrap();
        format!("acme/{name}={}", world.path(name).display())
    };
    let repos = names.iter().map(folder).collect::<Vec<_>>().join(",");
    let launch = world
        .launch("tell \"up $WF0_TICKET_ID\"; hold \"$WF0_TICKET_ID\"")
        .env("REPO_PATHS", repos);
    // A quiet daemon has about a dozen open, and a run needs nearly as many.
    let agent = world.registered(
        launch
            .env("MAX_CONCURRENT_TICKETS", RUNS.to_string())
            .after("ulimit -n 24"),
    );
    let mut up = Vec::new();
    for name in &names {
        world
            .backend
            .send(&ticket_with(name, json!({"repo": format!("acme/{name}")})));
        let fail = eventually("a start or a refusal", || {
            match world.has_told(&format!("up {name}")) {
                true => Some(None),
                false => world.backend.outcomes_of(name).pop().map(Some),
            }
        });
        match fail {
            None => up.push(name),
            Some(fail) => assert_refused_by_the_system(&fail),
        }
    }
    assert!(
        (1..RUNS).contains(&up.len()),
        "{up:?} of {names:?}: {}",
        agent.log()
    );
    for name in up {
        world.release(name);
        assert_eq!(world.backend.outcome(name)["type"], "ticket.result");
    }
    world.release("T-well");
    let result = world.outcome_with("T-well", json!({"repo": "acme/plain-0"}));
    assert_eq!(result["type"], "ticket.result", "{result}");
}
