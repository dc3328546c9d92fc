//! The repository of an assignment as a path (docs/protocol.md section 4).

use std::fs;

use serde_json::json;
use wf0_agent::config::canonicalize;
use wf0_agent::domain::event::{Event, Order};
use wf0_agent::domain::repos::RepoRef;
use wf0_agent::domain::ticket::Ticket;
use wf0_agent::link::protocol::ticket::Codec;
use wf0_agent::link::protocol::{Decoded, Identity};

use super::support::api;

fn assigned(repo: &str) -> Ticket {
    let identity = Identity {
        agent_id: "5f3c1d9e-0000-4000-8000-000000000001".to_owned(),
        name: "laptop".to_owned(),
    };
    let mut codec = Codec::new(identity, api("https://good.example"));
    let frame = json!({"type": "ticket.assigned", "ticketId": "A", "role": "dev", "repo": repo});
    match codec.decode(&frame.to_string()) {
        Decoded::Event(Event::Backend(Order::Assigned(ticket))) => *ticket,
        other => panic!("{frame}: {other:?}"),
    }
}

/// A path in an assignment is resolved; one that leads nowhere stays as it was written.
#[test]
fn paths_are_resolved() {
    let folder = tempfile::tempdir().unwrap();
    let real = canonicalize(folder.path()).unwrap();
    fs::create_dir_all(real.join("app/src")).unwrap();
    let none = real.join("none");
    let rows = vec![
        ("plain", real.join("app"), real.join("app")),
        ("slash at the end", real.join("app/"), real.join("app")),
        (
            "dots",
            real.join("app/src/..").join(".").join("../app"),
            real.join("app"),
        ),
        ("climbs out", real.join("app/.."), real.clone()),
        ("inside", real.join("app/src"), real.join("app/src")),
        ("not there", none.clone(), none),
    ];
    #[cfg(unix)]
    let rows = {
        use std::os::unix::fs::symlink;
        symlink(real.join("app"), real.join("link")).unwrap();
        symlink("/", real.join("root")).unwrap();
        let links = [
            ("link", real.join("link"), real.join("app")),
            ("link that leads out", real.join("root"), "/".into()),
            ("back from a link", real.join("link/.."), real.clone()),
        ];
        [rows, links.into()].concat()
    };
    for (label, written, wanted) in rows {
        let ticket = assigned(written.to_str().unwrap());
        let asked = written.to_str().unwrap().to_owned();
        assert_eq!(
            ticket.repo,
            RepoRef::Path {
                asked,
                resolved: wanted
            },
            "{label}"
        );
    }
}
