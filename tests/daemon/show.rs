//! `wf0-agent show` and `wf0-agent logs`: what became of a ticket, from the state folder alone.

use std::fs;

use crate::support::agent::{Ended, Launch};
use crate::support::eventually;
use crate::support::world::World;

/// With the state folder as the only setting.
fn launch(world: &World, args: &[&str]) -> Launch {
    let launch = Launch::new(world.dir.path())
        .env("HOME", world.home())
        .env("STATE_DIR", world.state());
    args.iter().fold(launch, |launch, arg| launch.arg(arg))
}

/// What it prints, where nothing is wrong.
fn printed(world: &World, args: &[&str]) -> String {
    let ended = launch(world, args).output();
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (0, ""),
        "{args:?}: {ended:?}"
    );
    ended.stdout
}

fn refused(world: &World, args: &[&str]) -> Ended {
    let ended = launch(world, args).output();
    assert_eq!(
        (ended.stdout.as_str(), ended.stderr.lines().count()),
        ("", 1),
        "{args:?}: {ended:?}"
    );
    ended
}

/// How a run ended, what the CLI was told, what it answered and what it changed, beside a daemon at work; each of the
/// last three alone is byte for byte what it was.
#[test]
fn what_became_of_a_ticket() {
    let world = World::new();
    let mut agent = world.agent(
        "cat > \"$WORLD/prompt\"; printf 'in \\033[31mred\\n'; echo oops >&2; echo changed >> README.md; exit 3",
    );
    let outcome = world.outcome_of("T-1");
    let all = eventually("the delivery", || {
        let all = printed(&world, &["show", "T-1"]);
        all.contains("finished, result delivered").then_some(all)
    });
    let repo = world.repo().display().to_string();
    for text in [
        "T-1",
        "exit code     3",
        "cli_exit: ",
        "1 file, +1 −0",
        "Do it",
        &repo,
        ", in place",
        " s\n",
    ] {
        assert!(all.contains(text), "{text:?} is not in:\n{all}");
    }
    for text in [
        "== prompt\n",
        "Do what has to be done.",
        "== stdout\nin \u{1b}[31mred\n",
        "== diff\n",
        "\n+changed\n",
    ] {
        assert!(all.contains(text), "{text:?} is not in:\n{all}");
    }
    assert_eq!(
        printed(&world, &["show", "T-1", "--diff"]),
        outcome["diff"].as_str().unwrap()
    );
    assert_eq!(
        printed(&world, &["show", "T-1", "--stdout"]),
        "in \u{1b}[31mred\n"
    );
    assert_eq!(
        printed(&world, &["show", "T-1", "--prompt"]),
        world.read("prompt")
    );
    let run = all
        .lines()
        .find_map(|line| line.strip_prefix("run "))
        .unwrap()
        .trim()
        .to_owned();
    assert_eq!(printed(&world, &["show", &run]), all);
    assert_eq!(agent.terminate().code(), Some(0));
    assert_eq!(printed(&world, &["show", "T-1"]), all);
}

/// Without a state folder there is nothing to look into; whoever asks for a ticket that is not there is told the newest.
#[test]
fn a_ticket_that_is_not_there() {
    let world = World::new();
    assert_eq!(refused(&world, &["show", "T-1"]).code, 78);
    let _agent = world.agent("true");
    world.outcome_of("T-1");
    for command in ["show", "logs"] {
        let ended = refused(&world, &[command, "T-2"]);
        assert!(
            ended.code == 1 && ended.stderr.contains("newest: T-1"),
            "{ended:?}"
        );
    }
}

/// A run without git has no diff, which is said; alone, it is a failure.
#[test]
fn a_run_without_a_diff() {
    let world = World::new();
    let folder = world.path("plain");
    fs::create_dir(&folder).unwrap();
    let launch = world
        .launch("echo done")
        .env("REPO_PATHS", format!("acme/app={}", folder.display()));
    let _agent = world.registered(launch);
    world.outcome_of("T-1");
    assert!(printed(&world, &["show", "T-1"]).contains("== diff\n(there is no diff)\n"));
    let ended = refused(&world, &["show", "T-1", "--diff"]);
    assert!(
        ended.code == 1 && ended.stderr.contains("no diff"),
        "{ended:?}"
    );
}

/// What the CLI prints is there while it runs, and followed to the end of the run; both streams keep apart.
#[test]
fn a_run_is_followed_to_its_end() {
    let world = World::new();
    let _agent =
        world.agent("echo out-1; echo err-1 >&2; tell up; hold on; echo out-2; echo err-2 >&2");
    world.assign("T-1");
    world.told("up");
    let mut follower = launch(&world, &["logs", "T-1", "--follow"]).start();
    follower.logged("err-1");
    let so_far = launch(&world, &["logs", "T-1"]).output();
    assert_eq!(
        (so_far.code, so_far.stdout.as_str(), so_far.stderr.as_str()),
        (0, "out-1\n", "err-1\n")
    );
    let shown = printed(&world, &["show", "T-1"]);
    assert!(
        shown.contains("running") && shown.contains("wf0-agent logs T-1"),
        "{shown}"
    );
    assert!(follower.is_running());
    world.release("on");
    follower.logged("err-2");
    assert_eq!(follower.exit_code(), 0);
    let all = launch(&world, &["logs", "T-1", "--follow"]).output();
    assert_eq!(
        (all.stdout.as_str(), all.stderr.as_str()),
        ("out-1\nout-2\n", "err-1\nerr-2\n")
    );
}

/// Nobody is left waiting for the end of a run whose daemon is gone.
#[test]
fn following_ends_with_the_daemon() {
    let world = World::new();
    let mut agent = world.agent("echo err-1 >&2; tell up; hold on");
    world.assign("T-1");
    world.told("up");
    let mut follower = launch(&world, &["logs", "T-1", "--follow"]).start();
    follower.logged("err-1");
    agent.crash();
    assert_eq!(follower.exit_code(), 0);
    assert!(printed(&world, &["show", "T-1"]).contains("interrupted"));
    world.release("on");
}

/// At a terminal nothing that a CLI printed is acted upon, and its indentation stays.
#[test]
fn a_terminal_gets_text() {
    let world = World::new();
    let _agent = world.agent("printf '    in \\033[31mred\\033[0m\\007\\rfirst\\nlast' >&2");
    world.outcome_of("T-1");
    let mut shown = launch(&world, &["logs", "T-1"]).at_terminal().start();
    assert_eq!(shown.logged("red"), "    in redfirst");
    assert_eq!(shown.logged("last"), "last");
    assert_eq!(shown.exit_code(), 0);
}
