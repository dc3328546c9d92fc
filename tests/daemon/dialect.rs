//! Which dialect the backend speaks: named by the settings, or found out and remembered.

use std::fs;

use crate::support::agent::Launch;
use crate::support::backend::{Backend, Upgrade};
use crate::support::hub::{ENDPOINT as HUB, Hub, errand};
use crate::support::world::World;

const TICKET: &str = "/api/agents/ws";

fn missing() -> Upgrade {
    Upgrade::Answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned())
}

fn bad_gateway() -> Upgrade {
    Upgrade::Answer("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n".to_owned())
}

fn auto(launch: Launch) -> Launch {
    launch.env("WORKFORCE0_PROTOCOL", "auto")
}

/// The paths of all upgrades so far.
fn asked(backend: &Backend) -> Vec<String> {
    backend
        .requests()
        .into_iter()
        .map(|request| request.path)
        .collect()
}

/// After a 404, a hang-up or a proxy's 502 at the endpoint of `ticket`, the agent finds the hub at once, without the
/// token in a header, and remembers it: the next start and every reconnect go there first.
#[test]
fn the_hub_is_found_and_remembered() {
    for how in ["404", "hang-up", "502"] {
        let hub = Hub::new();
        match how {
            "hang-up" => hub.hang_up_elsewhere(),
            "502" => hub.world.backend.next_upgrade(bad_gateway()),
            _ => {}
        }
        let mut agent = hub.registered(auto(hub.launch("echo ran")));
        assert_eq!(asked(&hub.world.backend), [TICKET, HUB]);
        assert_eq!(hub.run(errand("J-1"))["data"]["stdout"], "ran\n");
        hub.world.backend.cut();
        hub.world.backend.frame_where("auth", |_| true);
        hub.fence();
        assert_eq!(asked(&hub.world.backend), [TICKET, HUB, HUB]);
        assert_eq!(agent.terminate().code(), Some(0));
        let _agent = hub.registered(auto(hub.launch("true")));
        assert_eq!(asked(&hub.world.backend), [TICKET, HUB, HUB, HUB]);
    }
}

/// A backend that has learned to speak of tickets is found again by an agent that remembers a hub.
#[test]
fn a_backend_may_change_its_dialect() {
    let hub = Hub::new();
    let mut agent = hub.registered(auto(hub.launch("true")));
    assert_eq!(agent.terminate().code(), Some(0));
    let world = &hub.world;
    let newer = Backend::start();
    newer.next_upgrade(missing());
    let launch = auto(world.launch("true")).env("WORKFORCE0_API_URL", newer.url());
    let _agent = launch.start();
    newer.frame("agent.register");
    assert_eq!(asked(&newer), [HUB, TICKET]);
}

/// A backend that speaks of tickets never sees the hub's path, nor a frame of the hub's.
#[test]
fn a_backend_with_tickets_never_hears_the_other_dialect() {
    let world = World::new();
    let _agent = world.registered(auto(world.launch("true")));
    world.outcome_of("T-1");
    world.backend.cut();
    world.backend.frame("agent.register");
    world.fence();
    assert_eq!(asked(&world.backend), [TICKET, TICKET]);
    let types: Vec<_> = world
        .backend
        .frames()
        .iter()
        .map(|frame| frame["type"].clone())
        .collect();
    assert!(
        types
            .iter()
            .all(|kind| kind.as_str().unwrap().contains('.')),
        "{types:?}"
    );
}

/// A token that is refused where tickets are spoken of is refused: the other endpoint is not tried with it.
#[test]
fn a_refused_token_is_not_tried_elsewhere() {
    let world = World::new();
    world.backend.next_upgrade(Upgrade::Answer(
        "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_owned(),
    ));
    let ended = auto(world.launch("true")).output();
    assert_eq!(ended.code, 77, "{ended:?}");
    assert_eq!(asked(&world.backend), [TICKET]);
}

/// A token that the hub refuses is refused, also where the hub had to be found first.
#[test]
fn a_token_that_the_hub_refuses_is_refused() {
    let hub = Hub::new();
    hub.refuse_next("Invalid or revoked token", "auth_failed");
    let ended = auto(hub.launch("true")).output();
    assert_eq!(ended.code, 77, "{ended:?}");
    assert_eq!(asked(&hub.world.backend), [TICKET, HUB]);
}

/// Any other answer says nothing about the dialect: the same endpoint is tried again.
#[test]
fn a_failing_backend_is_not_taken_for_the_other() {
    let world = World::new();
    let broken = Upgrade::Answer(
        "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n".to_owned(),
    );
    world.backend.next_upgrade(broken);
    let _agent = world.registered(auto(world.launch("true")));
    assert_eq!(asked(&world.backend), [TICKET, TICKET]);
}

/// While a backend restarts, another endpoint's refusal of the token is not taken for the backend's.
#[test]
fn a_restart_is_no_refusal_of_the_token() {
    for restarting in [Upgrade::Drop, bad_gateway()] {
        let world = World::new();
        world.backend.next_upgrade(restarting);
        world.backend.next_upgrade(Upgrade::Answer(
            "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_owned(),
        ));
        let mut agent = world.registered(auto(world.launch("true")));
        assert!(agent.is_running());
        assert_eq!(asked(&world.backend), [TICKET, HUB, TICKET]);
    }
}

/// Where neither endpoint is, the agent waits and tries both again.
#[test]
fn a_backend_without_either_is_waited_for() {
    let world = World::new();
    [missing(), missing()]
        .into_iter()
        .for_each(|upgrade| world.backend.next_upgrade(upgrade));
    let agent = auto(world.launch("true")).start();
    agent.logged("next try");
    world.backend.frame("agent.register");
    assert_eq!(asked(&world.backend), [TICKET, HUB, TICKET]);
}

/// A dialect that the settings name is the only one that is tried.
#[test]
fn a_named_dialect_is_the_only_one() {
    for (name, path) in [("ticket", TICKET), ("hub", HUB)] {
        for refusal in [missing(), Upgrade::Drop] {
            let world = World::new();
            world.backend.next_upgrade(refusal.clone());
            world.backend.next_upgrade(refusal);
            let mut agent = world
                .launch("true")
                .env("WORKFORCE0_PROTOCOL", name)
                .start();
            world.backend.refused();
            world.backend.refused();
            world.backend.connected();
            assert_eq!(asked(&world.backend), [path; 3]);
            assert!(agent.is_running());
        }
    }
}

/// A `ws` URL with a path is used as it stands, and says by its path which dialect is spoken, where the settings do
/// not.
#[test]
fn a_url_with_a_path_is_used_as_it_stands() {
    for (path, protocol, first) in [
        ("/agent/ws", "auto", "auth"),
        ("/deep/er/agent/ws", "auto", "auth"),
        ("/agent/ws?x=1", "auto", "auth"),
        ("/own/socket", "hub", "auth"),
        ("/own/socket", "auto", "agent.register"),
        ("/api/agents/ws", "auto", "agent.register"),
    ] {
        let world = World::new();
        let url = format!("ws://127.0.0.1:{}{path}", world.backend.port());
        world.backend.next_upgrade(missing());
        let launch = world
            .launch("true")
            .env("WORKFORCE0_API_URL", url)
            .env("WORKFORCE0_PROTOCOL", protocol);
        let _agent = launch.start();
        world.backend.frame(first);
        assert_eq!(asked(&world.backend), [path, path], "{protocol}");
    }
}

/// An unusable value in the file that remembers the dialect is the same as no file.
#[test]
fn a_memory_that_makes_no_sense_is_none() {
    let hub = Hub::new();
    let mut agent = hub.registered(auto(hub.launch("true")));
    assert_eq!(agent.terminate().code(), Some(0));
    let file = hub.world.state().join("dialect");
    assert_eq!(fs::read_to_string(&file).unwrap(), "hub\n");
    fs::write(&file, b"\xffhub\n").unwrap();
    let _agent = hub.registered(auto(hub.launch("true")));
    assert_eq!(asked(&hub.world.backend), [TICKET, HUB, TICKET, HUB]);
}
