//! The connection to the backend: which addresses are accepted, and the first frame.

use std::os::unix::fs::symlink;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::agent::TOKEN;
use crate::support::backend::{Backend, Upgrade, What};
use crate::support::world::World;

const ENDPOINT: &str = "/api/agents/ws";

/// The token travels in the bearer header of the upgrade request, and neither in the URL nor in a frame.
#[test]
fn the_upgrade_carries_the_bearer_token() {
    let world = World::new();
    let _agent = world.agent("true");
    let upgrade = world.backend.requests().remove(0);
    assert_eq!(upgrade.path, ENDPOINT);
    assert_eq!(upgrade.headers["authorization"], format!("Bearer {TOKEN}"));
    let elsewhere = upgrade
        .headers
        .iter()
        .filter(|(name, _)| *name != "authorization");
    assert!(
        elsewhere.clone().all(|(_, value)| !value.contains(TOKEN)),
        "{elsewhere:?}"
    );
    assert!(
        world
            .backend
            .frames()
            .iter()
            .all(|frame| !frame.to_string().contains(TOKEN))
    );
}

/// A path before the endpoint is kept, with and without a slash at its end.
#[test]
fn a_path_prefix_is_kept() {
    for prefix in ["/wf0", "/wf0/", "/deep/er"] {
        let world = World::new();
        let url = format!("{}{prefix}", world.backend.url());
        let _agent = world.registered(world.launch("true").env("WORKFORCE0_API_URL", url));
        assert_eq!(
            world.backend.requests()[0].path,
            format!("{}{ENDPOINT}", prefix.trim_end_matches('/'))
        );
    }
}

/// A `ws` URL with a path is used as it stands; one without gets the endpoint.
#[test]
fn a_websocket_url_is_used_as_it_stands() {
    for (path, expected) in [
        ("/own/socket", "/own/socket"),
        ("/own?x=1", "/own?x=1"),
        ("/", ENDPOINT),
        ("", ENDPOINT),
    ] {
        let world = World::new();
        let url = format!("ws://127.0.0.1:{}{path}", world.backend.port());
        let _agent = world.registered(world.launch("true").env("WORKFORCE0_API_URL", url));
        assert_eq!(world.backend.requests()[0].path, expected);
    }
}

/// `localhost` is loopback: clear text is fine there.
#[test]
fn localhost_needs_no_tls() {
    let world = World::new();
    let url = format!("http://localhost:{}", world.backend.port());
    let _agent = world.registered(world.launch("true").env("WORKFORCE0_API_URL", url));
}

/// Clear text to any other host is refused at the start, however much the host looks like this machine.
#[test]
fn clear_text_to_another_host_is_refused() {
    let world = World::new();
    let port = world.backend.port();
    for url in [
        "http://backend.example.com".to_owned(),
        "ws://backend.example.com/socket".to_owned(),
        "http://192.0.2.1".to_owned(),
        format!("http://0.0.0.0:{port}"),
        "http://localhost.example.com".to_owned(),
        "http://127.0.0.1.example.com".to_owned(),
        "http://[2001:db8::1]".to_owned(),
    ] {
        let ended = world
            .launch("true")
            .env("WORKFORCE0_API_URL", &url)
            .output();
        assert_eq!(ended.code, 78, "{url}: {ended:?}");
        assert!(
            ended.stderr.contains("WORKFORCE0_API_URL"),
            "{url}: {}",
            ended.stderr
        );
        assert!(
            ended.stderr.contains("ALLOW_INSECURE"),
            "{url}: the way out is not named: {}",
            ended.stderr
        );
    }
    assert!(world.backend.requests().is_empty());
}

/// `ALLOW_INSECURE=1` lifts the refusal of clear text.
#[test]
fn clear_text_can_be_allowed() {
    let world = World::new();
    // Not loopback by its name, but it leads there.
    let url = format!("http://0.0.0.0:{}", world.backend.port());
    let _agent = world.registered(
        world
            .launch("true")
            .env("WORKFORCE0_API_URL", url)
            .env("ALLOW_INSECURE", "1"),
    );
}

fn assert_unusable(world: &World, url: &str) {
    let ended = world.launch("true").env("WORKFORCE0_API_URL", url).output();
    assert_eq!(ended.code, 78, "{url}: {ended:?}");
    assert!(
        ended.stderr.contains("WORKFORCE0_API_URL"),
        "{url}: {}",
        ended.stderr
    );
}

/// A value that is not the URL of a backend is refused at start with exit code 78.
#[test]
fn unusable_urls_are_refused() {
    let world = World::new();
    for url in [
        "workforce0.example.com",
        "ftp://example.com",
        "https://",
        "https:///path",
        "file:///etc/passwd",
        "https://user:pass@example.com",
        "http://127.0.0.1@example.com/",
        "https://exa mple.com",
    ] {
        assert_unusable(&world, url);
    }
}

/// An invalid port is refused and not replaced by the usual one.
#[test]
fn an_unusable_port_is_refused() {
    let world = World::new();
    for url in [
        "https://127.0.0.1:99999",
        "https://127.0.0.1:0",
        "http://127.0.0.1:65536",
        "https://127.0.0.1:-1",
    ] {
        assert_unusable(&world, url);
    }
}

/// A redirect of the upgrade is not followed: the other origin hears nothing, and the agent tries again.
#[test]
fn a_redirected_upgrade_is_not_followed() {
    let world = World::new();
    let other = Backend::start();
    let to = format!("{}{ENDPOINT}", other.url());
    for status in ["301 Moved Permanently", "307 Temporary Redirect"] {
        let answer = format!("HTTP/1.1 {status}\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
        world.backend.next_upgrade(Upgrade::Answer(answer));
    }
    let _agent = world.launch("true").start();
    world.backend.frame("agent.register");
    assert_eq!(world.backend.requests().len(), 3);
    assert!(other.requests().is_empty(), "{:?}", other.requests());
}

/// The first frame is `agent.register`, with every field of the protocol.
#[test]
fn register_says_who_and_what() {
    let world = World::new();
    let other = world.make_repo("other");
    world.git(
        &other,
        &["remote", "add", "origin", "git@github.com:acme/other.git"],
    );
    let plain = world.make_repo("plain");
    symlink(&plain, world.path("link")).unwrap();
    let paths = format!(
        "acme/app={}, {},{}",
        world.repo().display(),
        other.join("src/..").display(),
        world.path("link").display()
    );
    let launch = world
        .launch("true")
        .env("REPO_PATHS", paths)
        .env("AGENT_NAME", "a laptop");
    let _agent = launch
        .env("MAX_CONCURRENT_TICKETS", "3")
        .env("AGENT_ROLES", "qa_agent,docs")
        .start();
    let register = world
        .backend
        .wait_for("the first frame", |seen| match &seen.what {
            What::Frame(frame) => Some(frame.clone()),
            _ => None,
        });
    assert_eq!(register["type"], "agent.register");
    assert_eq!(register["protocolVersion"], 1);
    assert_eq!(register["name"], "a laptop");
    assert_eq!(register["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(register["roles"], json!(["qa", "docs"]));
    assert_eq!(register["repoPaths"], json!([world.repo(), other, plain]));
    assert_eq!(
        register["repos"],
        json!([
            {"path": world.repo(), "slug": "acme/app"},
            {"path": other, "slug": "acme/other"},
            {"path": plain, "slug": null},
        ])
    );
    assert_eq!(register["cli"]["available"], true);
    assert_eq!(register["cli"]["name"], "fake-cli");
    assert_eq!(register["cli"]["unavailableReason"], Value::Null);
    assert_eq!(register["cli"]["availableAt"], Value::Null);
    assert!(
        register["cli"]
            .get("version")
            .is_some_and(|version| version.is_null() || version.is_string())
    );
    assert_eq!(register["capacity"], json!({"max": 3, "free": 3}));
    assert_eq!(register["activeTickets"], json!([]));
    assert_eq!(
        register["platform"],
        json!({"os": std::env::consts::OS, "arch": std::env::consts::ARCH})
    );
    let id = register["agentId"].as_str().unwrap();
    let lengths: Vec<_> = id.split('-').map(str::len).collect();
    assert_eq!(lengths, [8, 4, 4, 4, 12], "{id} is no UUID");
}

/// Addresses of every usual form give the slug of a repository.
#[test]
fn the_slug_comes_from_the_origin() {
    for (url, slug) in [
        ("https://github.com/acme/one.git", json!("acme/one")),
        ("https://user@host.example/acme/two", json!("acme/two")),
        (
            "ssh://git@host.example:2222/acme/three.git",
            json!("acme/three"),
        ),
        ("host:acme/four", json!("acme/four")),
        ("/srv/git/five.git", Value::Null),
        ("file:///srv/git/six.git", Value::Null),
    ] {
        let world = World::new();
        world.git(&world.repo(), &["remote", "add", "origin", url]);
        let _agent = world.launch("true").env("REPO_PATHS", world.repo()).start();
        assert_eq!(
            world.backend.frame("agent.register")["repos"][0]["slug"],
            slug,
            "{url}"
        );
    }
}

/// A known CLI is registered by its subscription's name.
#[test]
fn known_clis_have_their_names() {
    for (program, name) in [
        ("claude", "claude-code"),
        ("codex", "codex"),
        ("cursor-agent", "cursor"),
        ("windsurf", "windsurf"),
    ] {
        let world = World::new();
        let path = world.on_path(program, "true");
        let _agent = world
            .launch("true")
            .env("PATH", path)
            .env("CLI_COMMAND", program)
            .start();
        let register = world.backend.frame("agent.register");
        assert_eq!(register["cli"]["name"], name);
        assert_eq!(register["cli"]["available"], true);
    }
}

/// An agent without its CLI registers no role, and says why.
#[test]
fn without_its_cli_an_agent_claims_no_role() {
    let world = World::new();
    let _agent = world
        .launch("true")
        .env("CLI_COMMAND", world.path("missing"))
        .start();
    let register = world.backend.frame("agent.register");
    assert_eq!(register["roles"], json!([]));
    assert_eq!(register["cli"]["available"], false);
    assert_eq!(register["cli"]["unavailableReason"], "not_found");
}

/// Without AGENT_NAME, the name is the host's.
#[test]
fn the_default_name_is_the_hosts() {
    let world = World::new();
    let _agent = world.launch("true").start();
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    assert_eq!(world.backend.frame("agent.register")["name"], host);
}

/// Ten seconds after the connection comes a heartbeat, and with it a Ping.
#[test]
fn a_heartbeat_comes_with_a_ping() {
    let world = World::new();
    let _agent = world.agent("hold end");
    let registered = world.backend.seen().last().unwrap().at;
    world.assign("T-1");
    let (at, heartbeat) = world.backend.timed_frame("agent.heartbeat", |_| true);
    assert!(
        at - registered >= Duration::from_secs(9),
        "{:?}",
        at - registered
    );
    assert_eq!(heartbeat["activeTickets"], json!(["T-1"]));
    assert_eq!(heartbeat["capacity"], json!({"max": 1, "free": 0}));
    assert_eq!(heartbeat["status"], "ready");
    let time = heartbeat["at"].as_str().unwrap();
    assert!(
        time.len() == 24 && time.ends_with('Z') && &time[19..20] == ".",
        "{time} is not RFC 3339 in milliseconds"
    );
    world.backend.wait_for("a Ping", |seen| {
        matches!(seen.what, What::Ping).then_some(())
    });
    world.release("end");
    assert_eq!(world.backend.outcome("T-1")["type"], "ticket.result");
}
