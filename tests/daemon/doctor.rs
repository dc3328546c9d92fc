//! `wf0-agent doctor`: what is wrong is named, and what it says to do makes it right.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::agent::{Launch, TOKEN};
use crate::support::backend::Upgrade;
use crate::support::eventually;
use crate::support::files;
use crate::support::hub::Hub;
use crate::support::network::Proxy;
use crate::support::world::World;

/// Runs it with `--json`; no secret is in what it says.
fn doctor(launch: Launch) -> (i32, Vec<Value>) {
    let ended = launch.arg("doctor").arg("--json").output();
    assert!(
        !ended.stdout.contains(TOKEN) && ended.stderr.is_empty(),
        "{ended:?}"
    );
    let checks: Vec<Value> = serde_json::from_str(&ended.stdout).unwrap();
    for check in &checks {
        assert!(
            check["check"].is_string() && check["message"].is_string(),
            "{check}"
        );
        assert_eq!(
            check["status"] == "ok",
            check["fix"].is_null(),
            "whatever is not right has a fix: {check}"
        );
    }
    let is_failed = checks.iter().any(|check| check["status"] == "fail");
    assert_eq!(ended.code, i32::from(is_failed), "{checks:#?}");
    (ended.code, checks)
}

/// The check of that name has that status; its message and its fix hold these words.
fn assert_found(launch: Launch, name: &str, status: &str, message: &str, fix: &str) {
    let (_, checks) = doctor(launch);
    let is_it = |check: &&Value| {
        let text = |field: &str| check[field].as_str().unwrap_or_default().to_owned();
        check["status"] == status && text("message").contains(message) && text("fix").contains(fix)
    };
    let found = checks
        .iter()
        .filter(|check| check["check"] == name)
        .find(is_it);
    assert!(
        found.is_some(),
        "no {status} of {name} with {message:?} and {fix:?} in: {checks:#?}"
    );
}

/// Nothing stands in the way, and nothing is said against the check of that name.
fn assert_right(launch: Launch, name: &str) {
    let (code, checks) = doctor(launch);
    let of_it: Vec<_> = checks
        .iter()
        .filter(|check| check["check"] == name)
        .collect();
    assert!(
        code == 0 && of_it.iter().all(|check| check["status"] == "ok"),
        "{name}: {checks:#?}"
    );
}

/// A port that nobody listens at.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// On a machine where all is well, each setting is shown with where it stands, and the token is not; one line each.
#[test]
fn settings_are_shown_with_their_places() {
    let world = World::new();
    fs::write(
        world.path(".env"),
        "AGENT_ROLES=qa\nTICKET_TIMEOUT_QA_SECONDS=60\n",
    )
    .unwrap();
    let launch = || world.launch("true").arg("--agent-name").arg("named");
    let ended = launch().arg("doctor").output();
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (0, ""),
        "{}",
        ended.stdout
    );
    for line in [
        "✓ AGENT_NAME: named (flag --agent-name)",
        "✓ AGENT_ROLES: qa (.env)",
        "✓ TICKET_TIMEOUT_QA_SECONDS: 60 (.env)",
        "✓ KILL_GRACE_SECONDS: 1 (environment)",
        "✓ WORKFORCE0_AGENT_TOKEN: (hidden) (environment)",
        "✓ proxy: none",
        "✓ DNS: 127.0.0.1 → 127.0.0.1",
    ] {
        assert!(
            ended.stdout.lines().any(|own| own == line),
            "{line} is not in:\n{}",
            ended.stdout
        );
    }
    assert!(
        ended.stdout.contains("CLI_AUTONOMY=edits") && !ended.stdout.contains(TOKEN),
        "{}",
        ended.stdout
    );
    assert!(
        ended
            .stdout
            .lines()
            .all(|line| line.starts_with(['✓', '!'])),
        "{}",
        ended.stdout
    );
    doctor(launch());
}

/// It may run beside a daemon: nothing on disk changes, no agent is registered, and the connection is closed as
/// connections are.
#[test]
fn it_changes_nothing() {
    let world = World::new();
    let launch = || world.launch("true").env("WORKFORCE0_PROTOCOL", "auto");
    assert_found(launch(), "state folder", "ok", "will be created", "");
    assert!(!world.state().exists());
    assert_eq!(world.backend.closed(), Some(1000));
    let mut agent = world.registered(launch());
    // What the daemon itself writes of that is written.
    eventually("the status", || {
        let status = fs::read_to_string(world.state().join("status.json")).ok()?;
        status.contains("\"connected\":true").then_some(())
    });
    let before = files::everything(&world.state());
    assert_found(
        launch(),
        "state folder",
        "ok",
        "in use by the running daemon",
        "",
    );
    assert_eq!(world.backend.closed(), Some(1000));
    assert!(world.backend.frames_on(3).is_empty());
    files::assert_same(&before, &files::everything(&world.state()));
    assert_eq!(agent.terminate().code(), Some(0));
    assert_found(launch(), "state folder", "ok", "is not in use", "");
}

/// Every wrong setting is a ✗ of its own, in the words with which the daemon refuses to start.
#[test]
fn each_wrong_setting_is_named() {
    let world = World::new();
    let launch = || {
        let launch = world
            .launch("true")
            .env("LOG_LEVEL", "loud")
            .arg("--max-concurrent-tickets")
            .arg("many");
        launch.env("HTTPS_PROXY", "socks5://me:secret@proxy.test")
    };
    let refused = launch().output();
    let (code, checks) = doctor(launch());
    assert_eq!(code, 1);
    assert!(!format!("{checks:?}").contains("secret"), "{checks:#?}");
    let failed: Vec<_> = checks
        .iter()
        .filter(|check| check["status"] == "fail")
        .collect();
    let text = |check: &&Value| {
        format!(
            "wf0-agent: {}: {}",
            check["check"].as_str().unwrap(),
            check["message"].as_str().unwrap()
        )
    };
    let mut said: Vec<_> = failed.iter().map(text).collect();
    let mut refusals: Vec<_> = refused.stderr.lines().collect();
    said.sort();
    refusals.sort();
    assert_eq!(said, refusals);
    assert_found(
        launch(),
        "MAX_CONCURRENT_TICKETS",
        "fail",
        "whole number",
        "flag --max-concurrent-tickets",
    );
    assert_right(
        launch()
            .env("LOG_LEVEL", "")
            .arg("--max-concurrent-tickets")
            .arg("2"),
        "LOG_LEVEL",
    );
}

/// A settings file that cannot be read is the first thing to correct.
#[test]
fn a_broken_settings_file_is_named() {
    let world = World::new();
    fs::write(world.path(".env"), format!("{TOKEN} is here\n")).unwrap();
    assert_found(
        world.launch("true"),
        "settings file",
        "fail",
        "NAME=value",
        ".env",
    );
    fs::write(world.path(".env"), "").unwrap();
    assert_right(world.launch("true"), "settings file");
}

/// Without a token: how to get one, and where to set it.
#[test]
fn a_missing_token() {
    let world = World::new();
    let launch = world.launch("true").env("WORKFORCE0_AGENT_TOKEN", "");
    assert_found(
        launch,
        "WORKFORCE0_AGENT_TOKEN",
        "fail",
        "Create token",
        "set it in the environment",
    );
    assert_right(world.launch("true"), "WORKFORCE0_AGENT_TOKEN");
}

/// A token that everybody on the machine can read.
#[test]
fn an_open_token_file() {
    let world = World::new();
    let file = world.path("token");
    fs::write(&file, TOKEN).unwrap();
    let launch = || {
        world
            .launch("true")
            .env("WORKFORCE0_AGENT_TOKEN", "")
            .env("WORKFORCE0_AGENT_TOKEN_FILE", file.clone())
    };
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert_found(
        launch(),
        "token file",
        "warn",
        "644",
        &format!("chmod 600 {}", file.display()),
    );
    files::chmod("600", &file);
    assert_right(launch(), "token file");
}

/// A token that the backend rejects, in either dialect.
#[test]
fn a_rejected_token() {
    let world = World::new();
    world.backend.next_upgrade(Upgrade::Answer(
        "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_owned(),
    ));
    assert_found(
        world.launch("true"),
        "token",
        "fail",
        "rejected by the backend: 401",
        "create a new one",
    );
    assert_found(
        world.launch("true"),
        "backend",
        "ok",
        "protocol \"ticket\"",
        "",
    );
    assert_right(world.launch("true"), "backend");

    let hub = Hub::new();
    let launch = || hub.launch("true").env("WORKFORCE0_PROTOCOL", "auto");
    hub.refuse_next("Invalid or revoked token", "auth_failed");
    assert_found(launch(), "token", "fail", "revoked", "create a new one");
    assert_found(launch(), "backend", "ok", "protocol \"hub\"", "");
}

/// A URL where there is no backend, and one where something else answers.
#[test]
fn an_unreachable_backend() {
    let world = World::new();
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let launch = world.launch("true").env("WORKFORCE0_API_URL", nobody);
    assert_found(
        launch,
        "connection",
        "fail",
        "127.0.0.1",
        "is WORKFORCE0_API_URL right",
    );
    let elsewhere =
        Upgrade::Answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned());
    world.backend.next_upgrade(elsewhere);
    assert_found(
        world.launch("true"),
        "backend",
        "fail",
        "no agent endpoint",
        "is WORKFORCE0_API_URL right",
    );
    assert_right(world.launch("true"), "connection");
}

/// A proxy that is not there, and one that wants other credentials; neither is shown with its password.
#[test]
fn a_wrong_proxy() {
    let world = World::new();
    let proxy = Proxy::start(([127, 0, 0, 1], world.backend.port()).into());
    proxy.demand(Some("Basic bWU6cEBzcw=="));
    let url = format!("http://backend.test:{}", world.backend.port());
    let launch = |proxy: String| {
        world
            .launch("true")
            .env("WORKFORCE0_API_URL", url.as_str())
            .env("ALLOW_INSECURE", "1")
            .env("HTTP_PROXY", proxy)
    };
    let gone = || launch(format!("http://me:wrong@127.0.0.1:{}", free_port()));
    assert_found(
        gone(),
        "connection",
        "fail",
        "cannot be reached",
        "is HTTP_PROXY right?",
    );
    assert!(!gone().arg("doctor").output().stdout.contains("wrong"));
    let refused = || launch(format!("http://me:wrong@{}", proxy.address()));
    assert_found(
        refused(),
        "connection",
        "fail",
        "407",
        "HTTP_PROXY=http://user:password@host:port",
    );
    let right = || launch(format!("http://me:p%40ss@{}", proxy.address()));
    assert_found(
        right(),
        "HTTP_PROXY",
        "ok",
        &format!("(hidden)@{} (environment)", proxy.address()),
        "",
    );
    assert_right(right(), "connection");
    assert!(!right().arg("doctor").output().stdout.contains("p%40ss"));
}

/// A company's own authority.
#[cfg(target_os = "linux")]
#[test]
fn an_unknown_authority() {
    use crate::support::tls::{Identity, Validity, terminate};
    let world = World::new();
    let authority = Identity::authority();
    let certificate = authority.sign("localhost", Validity::Now);
    let port = terminate(&certificate, ([127, 0, 0, 1], world.backend.port()).into());
    let launch = || {
        world
            .launch("true")
            .env("WORKFORCE0_API_URL", format!("https://localhost:{port}"))
    };
    assert_found(
        launch(),
        "connection",
        "fail",
        "this machine does not know",
        "set SSL_CERT_FILE",
    );
    let file = world.path("company.pem");
    fs::write(&file, authority.pem()).unwrap();
    assert_right(launch().env("SSL_CERT_FILE", file), "connection");
}

/// A repository that is gone.
#[test]
fn a_missing_repository() {
    let world = World::new();
    let launch = || {
        world.launch("true").env(
            "REPO_PATHS",
            format!("acme/gone={}", world.path("gone").display()),
        )
    };
    assert_found(
        launch(),
        "REPO_PATHS",
        "fail",
        "gone\" cannot be used",
        "fix it: environment",
    );
    world.make_repo("gone");
    assert_right(launch(), "REPO_PATHS");
}

/// A folder that git knows nothing of has no diff, and cannot be cloned; one without a slug is hard to find.
#[test]
fn a_folder_without_git() {
    let world = World::new();
    let folder = world.path("plain");
    fs::create_dir(&folder).unwrap();
    let named = || {
        world
            .launch("true")
            .env("REPO_PATHS", format!("acme/plain={}", folder.display()))
    };
    let git_init = format!("git init {}", folder.display());
    assert_found(named(), "repository", "warn", "no diff", &git_init);
    assert_found(
        named().env("WORKSPACE_MODE", "clone"),
        "repository",
        "fail",
        "cannot be cloned",
        &git_init,
    );
    world.git(&folder, &["init", "--quiet"]);
    assert_right(named(), "repository");
    let launch = || world.launch("true").env("REPO_PATHS", folder.clone());
    assert_found(
        launch(),
        "repository",
        "warn",
        "no owner/name",
        &format!("owner/name={}", folder.display()),
    );
    // The log of a daemon does not warn of it: tickets can name the path.
    let line = world.registered(launch()).logged("no owner/name");
    assert!(line.contains("INFO"), "{line}");
}

/// A CLI that is not on PATH: where it was looked for.
#[test]
fn a_missing_cli() {
    let world = World::new();
    let launch = || world.launch("true").env("CLI_COMMAND", "no-such-cli");
    assert_found(
        launch(),
        "CLI",
        "fail",
        &std::env::var("PATH").unwrap(),
        "CLI_COMMAND",
    );
    let path = world.on_path("no-such-cli", "true");
    assert_right(launch().env("PATH", path), "CLI");
}

/// All is right in this shell, and the running daemon, as a service with another PATH, finds no CLI or another one. Started
/// with this PATH, it finds the same.
#[test]
fn a_daemon_with_another_path() {
    let world = World::new();
    let tools = world.path("tools");
    fs::create_dir(&tools).unwrap();
    world.program(&tools.join("claude"), "echo '2.1.0 (Claude Code)'");
    let own = std::env::var("PATH").unwrap();
    let with_tools = format!("{}:{own}", tools.display());
    let launch = |path: &str| {
        let launch = world.launch("true").env("CLI_COMMAND", "claude");
        launch.env("PATH", path)
    };
    let fix = "wf0-agent service install";
    let mut agent = world.registered(launch(&own));
    let missing = format!("did not find claude at its start (its PATH: {own})");
    let written = || {
        let status = fs::read_to_string(world.state().join("status.json")).ok()?;
        status.contains("\"connected\":true").then_some(())
    };
    eventually("the status", written);
    assert_found(launch(&with_tools), "daemon", "fail", &missing, fix);
    agent.terminate();
    let mut agent = world.registered(launch(&with_tools));
    eventually("the status", written);
    let found = format!("uses {}", tools.join("claude").display());
    let other = world.on_path("claude", "echo '2.0.0 (Claude Code)'");
    assert_found(launch(&other), "daemon", "warn", &found, fix);
    assert_found(
        launch(&with_tools),
        "daemon",
        "ok",
        "the same git and CLI",
        "",
    );
    agent.terminate();
}

/// Arguments that cannot work; without them the CLI is right.
#[test]
fn arguments_that_cannot_work() {
    let world = World::new();
    let path = world.on_path("claude", "echo '2.1.0 (Claude Code)'");
    let launch = |args: &str| {
        let launch = world
            .launch("true")
            .env("CLI_COMMAND", "claude")
            .env("PATH", path.as_str());
        launch.env("CLI_ARGS_TEMPLATE", args)
    };
    assert_found(
        launch("-p --cwd {cwd}"),
        "CLI",
        "fail",
        "claude has no --cwd",
        "leave it out",
    );
    assert_found(launch("-p"), "CLI", "ok", "is claude-code 2.1.0", "");
    assert_right(launch("-p"), "CLI");
}

/// A state folder that is somebody else's, and one that cannot be made.
#[test]
fn an_unusable_state_folder() {
    let world = World::new();
    fs::create_dir(world.state()).unwrap();
    fs::write(world.state().join("thesis.txt"), "").unwrap();
    let own = world.state().join("wf0-agent");
    let fix = format!("such as {}", own.display());
    assert_found(
        world.launch("true"),
        "state folder",
        "fail",
        "was not created by wf0-agent",
        &fix,
    );
    assert_right(world.launch("true").env("STATE_DIR", own), "state folder");
    let launch = world
        .launch("true")
        .env("STATE_DIR", world.path("fake-cli").join("state"));
    assert_found(
        launch,
        "state folder",
        "fail",
        "fake-cli",
        "a folder that this user can write to",
    );
}

/// A state folder that this user may not write to.
#[test]
fn a_read_only_state_folder() {
    const NOBODY: u32 = 65_534;
    let world = World::new();
    fs::create_dir(world.state()).unwrap();
    let launch = || match nix::unistd::geteuid().is_root() {
        // Root may write everywhere.
        true => world
            .launch("true")
            .by_user(NOBODY, &world.path("wf0-agent")),
        false => world.launch("true"),
    };
    if nix::unistd::geteuid().is_root() {
        files::chown(NOBODY, world.dir.path());
    }
    files::chmod("500", &world.state());
    assert_found(
        launch(),
        "state folder",
        "fail",
        "Permission denied",
        "a folder that this user can write to",
    );
    files::chmod("700", &world.state());
    assert_right(launch(), "state folder");
}

/// A machine without git on PATH, and one with an old one.
#[test]
fn no_git() {
    let world = World::new();
    let nothing = world.path("nothing");
    fs::create_dir(&nothing).unwrap();
    let launch = world.launch("true").env("PATH", nothing.clone());
    assert_found(
        launch,
        "git",
        "fail",
        nothing.to_str().unwrap(),
        "install git",
    );
    let old = world.on_path("git", "echo git version 2.20.1");
    assert_found(
        world.launch("true").env("PATH", old),
        "git",
        "warn",
        "2.20.1",
        "install git",
    );
    assert_right(world.launch("true"), "git");
}
