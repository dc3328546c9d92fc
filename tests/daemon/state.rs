//! The state folder: whose it is, what it keeps, and where it must not be.

use std::fs;
use std::os::unix::fs::symlink;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::agent::{Agent, Launch};
use crate::support::files::{self, Entry, Kind};
use crate::support::world::World;

/// Starts an agent and gives its id.
fn started(world: &World, launch: Launch) -> (Agent, String) {
    let agent = launch.start();
    let id = world.backend.frame("agent.register")["agentId"]
        .as_str()
        .unwrap()
        .to_owned();
    (agent, id)
}

/// Folders are 0700 and files 0600, whatever is in them.
#[test]
fn nobody_else_can_read_the_state() {
    let world = World::new();
    let agent = world.agent("echo out; echo err >&2; echo x > new.txt");
    world.outcome_of("T-1");
    let wrong = || {
        let wrong = |entry: &Entry| {
            entry.mode
                != if entry.kind == Kind::Folder {
                    0o700
                } else {
                    0o600
                }
        };
        let listing = files::everything(&world.state());
        assert!(listing.len() > 3, "{:?}", listing.keys());
        let modes = listing.into_iter().filter(|(_, entry)| wrong(entry));
        modes
            .map(|(path, entry)| format!("{} is {:o}", path.display(), entry.mode))
            .collect::<Vec<_>>()
    };
    // What git leaves in the run's scratch folder is removed after the outcome has gone out.
    let until = Instant::now() + Duration::from_secs(5);
    while !wrong().is_empty() && Instant::now() < until {
        thread::yield_now();
    }
    assert_eq!(wrong(), [""; 0]);
    let own = &files::everything(world.dir.path())[std::path::Path::new("state")];
    assert_eq!(own.mode, 0o700);
    drop(agent);
}

/// The agent's id is the same after a restart and after a crash.
#[test]
fn the_agent_id_stays() {
    let world = World::new();
    let (mut agent, first) = started(&world, world.launch("true"));
    agent.terminate();
    let (mut agent, second) = started(&world, world.launch("true"));
    agent.crash();
    let (_agent, third) = started(&world, world.launch("true"));
    assert_eq!((&first, &first), (&second, &third));
}

/// Two state folders are two agents.
#[test]
fn each_state_folder_has_its_own_id() {
    let world = World::new();
    let (_first, one) = started(&world, world.launch("true"));
    let (_second, two) = started(
        &world,
        world.launch("true").env("STATE_DIR", world.path("state-2")),
    );
    assert_ne!(one, two);
}

/// An id file that holds no id does not keep the daemon from starting.
#[test]
fn a_damaged_agent_id_is_replaced() {
    let world = World::new();
    let (mut agent, first) = started(&world, world.launch("true"));
    agent.terminate();
    let path = files::holding(&world.state(), first.as_bytes()).expect("the id is on disk");
    for damage in [&b""[..], b"not an id", b"\0\0\0", b"no text \xFF\xFE"] {
        fs::write(world.state().join(&path), damage).unwrap();
        let (mut agent, id) = started(&world, world.launch("true"));
        assert_eq!(id.len(), 36, "{damage:?}");
        agent.terminate();
        let (mut agent, again) = started(&world, world.launch("true"));
        assert_eq!(id, again, "{damage:?}: the new one stays");
        agent.terminate();
    }
}

/// A second daemon on one state folder ends with exit code 75 and leaves the first alone.
#[test]
fn a_second_daemon_is_turned_away() {
    let world = World::new();
    let mut agent = world.agent("echo ran");
    let ended = world.launch("echo ran").output();
    assert_eq!(ended.code, 75, "{ended:?}");
    assert!(
        ended.stderr.contains(world.state().to_str().unwrap()),
        "{}",
        ended.stderr
    );
    assert_eq!(
        world.backend.requests().len(),
        1,
        "the second one never asked the backend"
    );
    assert!(agent.is_running());
    assert_eq!(world.outcome_of("T-1")["stdout"], "ran\n");
}

/// A daemon that crashed leaves no lock behind, even while its CLI is still running.
#[test]
fn a_crash_leaves_no_lock() {
    let world = World::new();
    let mut agent = world.agent("tell up; hold never");
    world.assign("T-1");
    world.told("up");
    agent.crash();
    let _agent = world.agent("true");
}

/// A state folder within a repository is refused with exit code 78, also by way of a link or `..`.
#[test]
fn a_state_folder_in_a_repository_is_refused() {
    let world = World::new();
    symlink(world.repo().join("src"), world.path("link")).unwrap();
    let inside = [
        world.repo(),
        world.repo().join("state"),
        world.repo().join("src/deep/er"),
        world.repo().join(".git/wf0"),
        world.path("link/state"),
        world.path("home/../app/state"),
    ];
    let before = files::everything(&world.repo());
    for path in inside {
        let ended = world.launch("true").env("STATE_DIR", &path).output();
        assert_eq!(ended.code, 78, "{}: {ended:?}", path.display());
        assert!(ended.stderr.contains("STATE_DIR"), "{}", ended.stderr);
    }
    files::assert_same(&before, &files::everything(&world.repo()));
}

/// A relative state folder is one of the working directory.
#[test]
fn a_relative_state_folder_is_below_the_working_directory() {
    let world = World::new();
    let _agent = world.registered(world.launch("true").env("STATE_DIR", "relative/state"));
    assert!(world.path("relative/state").is_dir());
}

/// A state folder that cannot be one is a wrong setting: exit code 78 and a line that names it.
#[test]
fn an_unusable_state_folder_is_refused() {
    let world = World::new();
    fs::write(world.path("file"), "").unwrap();
    for name in ["file", "file/below"] {
        let ended = world
            .launch("true")
            .env("STATE_DIR", world.path(name))
            .output();
        assert_eq!(ended.code, 78, "{name}: {ended:?}");
        assert!(ended.stderr.contains("STATE_DIR"), "{}", ended.stderr);
    }
}

/// Without a setting the state is where the system keeps such things, below the home folder.
#[cfg(target_os = "linux")]
#[test]
fn the_default_state_folder_is_the_systems() {
    let world = World::new();
    let _agent = world.registered(world.launch("true").env("STATE_DIR", ""));
    assert!(world.home().join(".local/state/wf0-agent").is_dir());
    let xdg = world.path("xdg");
    let _agent = world.registered(
        world
            .launch("true")
            .env("STATE_DIR", "")
            .env("XDG_STATE_HOME", &xdg),
    );
    assert!(xdg.join("wf0-agent").is_dir());
}

/// Prompt, output and diff of a run stay on disk in the state folder.
#[test]
fn a_run_leaves_its_papers() {
    let world = World::new();
    let _agent = world.agent("echo the-output; echo the-error >&2; echo the-change > new.txt");
    world.outcome_with("T-1", serde_json::json!({"description": "the-task"}));
    for text in ["the-task", "the-output", "the-error", "+the-change"] {
        assert!(
            files::holding(&world.state(), text.as_bytes()).is_some(),
            "{text} is not on disk"
        );
    }
}
