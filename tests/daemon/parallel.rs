//! Several runs: as many at once as the settings say, and one at a time within one repository.

use serde_json::json;

use crate::support::agent::{Agent, Launch};
use crate::support::world::{World, ticket_with};

/// Tells its start and holds by its ticket's id.
const HOLD: &str =
    "tell started $WF0_TICKET_ID; hold $WF0_TICKET_ID; echo $WF0_TICKET_ID > $WF0_TICKET_ID.txt";

/// With two more repositories, `other` and `third`.
fn launch(world: &World, script: &str, at_once: usize) -> Launch {
    let paths = ["other", "third"]
        .map(|name| world.make_repo(name).display().to_string())
        .join(",");
    let paths = format!("acme/app={},{paths}", world.repo().display());
    world
        .launch(script)
        .env("REPO_PATHS", paths)
        .env("MAX_CONCURRENT_TICKETS", at_once.to_string())
}

fn agent(world: &World, at_once: usize) -> Agent {
    world.registered(launch(world, HOLD, at_once))
}

fn assign_in(world: &World, id: &str, repo: &str) {
    world
        .backend
        .send(&ticket_with(id, json!({"repo": world.path(repo)})));
}

/// While T-1 runs in `app`, T-2 in `second` waits, and T-3 of another repository runs. T-1 then goes on to its end.
fn assert_one_at_a_time(world: &World, second: &str) {
    assign_in(world, "T-1", "app");
    world.told("started T-1");
    // Were the second one started, it would not hold, and be over before the third one had its slot.
    world.release("T-2");
    assign_in(world, "T-2", second);
    world.release("T-3");
    assign_in(world, "T-3", "other");
    assert_eq!(world.backend.outcome("T-3")["type"], "ticket.result");
    assert!(
        !world.has_told("started T-2"),
        "two at once in one repository"
    );
    world.release("T-1");
}

/// Two tickets of different repositories run at the same time.
#[test]
fn two_repositories_run_at_once() {
    let world = World::new();
    let _agent = agent(&world, 2);
    assign_in(&world, "T-1", "app");
    assign_in(&world, "T-2", "other");
    world.told("started T-1");
    world.told("started T-2");
    world.release("T-2");
    let second = world.backend.outcome("T-2");
    world.release("T-1");
    let first = world.backend.outcome("T-1");
    for (result, name) in [(first, "T-1.txt"), (second, "T-2.txt")] {
        assert_eq!(result["diffStat"]["files"], 1, "{result}");
        assert!(result["diff"].as_str().unwrap().contains(name), "{result}");
    }
}

/// Not more run at once than `MAX_CONCURRENT_TICKETS`; the rest wait, claimed.
#[test]
fn no_more_run_than_allowed() {
    let world = World::new();
    let script = "
        : > \"$WORLD/run-$WF0_TICKET_ID\"
        [ $(ls -d \"$WORLD\"/run-* | wc -l) -le 2 ] || tell too many
        tell started $WF0_TICKET_ID; hold $WF0_TICKET_ID
        rm \"$WORLD/run-$WF0_TICKET_ID\"";
    let _agent = world.registered(launch(&world, script, 2));
    for (id, repo) in [("T-1", "app"), ("T-2", "other")] {
        assign_in(&world, id, repo);
        world.told(&format!("started {id}"));
    }
    // Were it started now, it would not hold, and see the two others.
    world.release("T-3");
    assign_in(&world, "T-3", "third");
    assert_eq!(
        world
            .backend
            .frame_where("ticket.claim", |claim| claim["ticketId"] == "T-3")["attempt"],
        1
    );
    world.fence();
    world.release("T-1");
    world.backend.outcomes(&["T-1", "T-3"]);
    assert!(!world.has_told("too many"));
    world.release("T-2");
    assert_eq!(world.backend.outcome("T-2")["type"], "ticket.result");
}

/// One run at a time within one repository, while another repository goes on.
#[test]
fn one_run_at_a_time_within_a_repository() {
    let world = World::new();
    let _agent = agent(&world, 2);
    assert_one_at_a_time(&world, "app");
    let first = world.backend.outcome("T-1");
    let second = world.backend.outcome("T-2");
    assert!(
        !first["diff"].as_str().unwrap().contains("T-2.txt"),
        "{first}"
    );
    assert!(
        !second["diff"].as_str().unwrap().contains("T-1.txt"),
        "{second}"
    );
}

/// A repository is one however it is named: by slug, by path, by a way round.
#[test]
fn one_repository_under_several_names_is_one() {
    let world = World::new();
    let script =
        "mkdir \"$WORLD/inside\" || tell overlap; hold $WF0_TICKET_ID; rmdir \"$WORLD/inside\"";
    let _agent = world.registered(launch(&world, script, 4));
    let names = [
        json!("acme/app"),
        json!(world.repo()),
        json!(world.path("other/../app")),
    ];
    for (n, name) in names.iter().enumerate() {
        world
            .backend
            .send(&ticket_with(&format!("T-{n}"), json!({ "repo": name })));
    }
    for n in 0..names.len() {
        world.release(&format!("T-{n}"));
        assert_eq!(
            world.backend.outcome(&format!("T-{n}"))["type"],
            "ticket.result"
        );
    }
    assert!(!world.has_told("overlap"));
}

/// A folder and a folder within it are one repository: their tickets do not run at the same time.
#[test]
fn a_repository_and_its_subfolder_are_one() {
    let world = World::new();
    let other = world.make_repo("other");
    let paths = [world.repo(), world.repo().join("src"), other]
        .map(|path| path.display().to_string())
        .join(",");
    let launch = world
        .launch(HOLD)
        .env("REPO_PATHS", paths)
        .env("MAX_CONCURRENT_TICKETS", "2");
    let _agent = world.registered(launch);
    assert_one_at_a_time(&world, "app/src");
    world.backend.outcomes(&["T-1", "T-2"]);
}

/// A waiting ticket of a busy repository does not hold up those behind it.
#[test]
fn a_busy_repository_does_not_hold_up_the_line() {
    let world = World::new();
    let _agent = agent(&world, 2);
    for n in 1..=4 {
        assign_in(&world, &format!("T-{n}"), "app");
    }
    world.told("started T-1");
    assign_in(&world, "T-5", "other");
    world.told("started T-5");
    for n in 1..=5 {
        world.release(&format!("T-{n}"));
    }
    let ended = world.backend.outcomes(&["T-1", "T-2", "T-3", "T-4", "T-5"]);
    let mut order: Vec<_> = ended
        .iter()
        .map(|result| result["ticketId"].as_str().unwrap())
        .collect();
    assert!(
        ended.iter().all(|result| result["type"] == "ticket.result"),
        "{ended:#?}"
    );
    order.retain(|id| *id != "T-5");
    assert_eq!(
        order,
        ["T-1", "T-2", "T-3", "T-4"],
        "within a repository the order is that of the assignments"
    );
}

/// Two entries in one work tree are one repository: they share its index and its HEAD.
#[test]
fn two_folders_of_one_repository_are_one() {
    let world = World::new();
    for name in ["a", "b"] {
        std::fs::create_dir(world.repo().join(name)).unwrap();
    }
    let paths = ["a", "b"]
        .map(|name| world.repo().join(name).display().to_string())
        .join(",");
    let launch = world
        .launch(HOLD)
        .env("REPO_PATHS", paths)
        .env("MAX_CONCURRENT_TICKETS", "2");
    let _agent = world.registered(launch);
    assign_in(&world, "T-1", "app/a");
    world.told("started T-1");
    assign_in(&world, "T-2", "app/b");
    world.fence();
    assert!(!world.has_told("started T-2"), "both run");
    world.release("T-1");
    world.backend.outcome("T-1");
    world.told("started T-2");
    world.release("T-2");
    world.backend.outcome("T-2");
}
