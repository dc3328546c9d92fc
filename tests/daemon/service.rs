//! `wf0-agent service` and `doctor --service`: with a stand-in for the system's own tool that notes what it is told.
//! Those of the other systems are tried out on this one, as far as files and tools go.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use wf0_agent::commands::service::launchd::Launchd;
use wf0_agent::commands::service::systemd::{SYSTEM_TEMPLATE, unit};
use wf0_agent::commands::service::windows::{Tasks, to_utf16};
use wf0_agent::commands::service::{Manager, Plan, Run};
use wf0_agent::environment::Environment;

use crate::support::agent::{BINARY, Ended, Launch, TOKEN};
use crate::support::files;
use crate::support::world::World;

/// A manager where all is well.
const WELL: &str = r#"
case "$2" in
show-environment) printf 'HOME=%s\nPATH=/usr/bin:/bin\nFROM_MANAGER=1\n' "$HOME" ;;
show) printf 'ActiveState=active\nSubState=running\nUnitFileState=enabled\nMainPID=12\nStatusText=registered\n' ;;
esac
"#;

/// A machine on which a service can be installed: settings in their place, a repository, a CLI, and a `systemctl`.
struct Machine {
    world: World,
    path: String,
}

impl Machine {
    fn new() -> Self {
        Self::with(WELL)
    }

    fn with(systemctl: &str) -> Self {
        let world = World::new();
        let path = world.on_path(
            "systemctl",
            &format!("echo \"$*\" >> \"$WORLD/calls\"\n{systemctl}"),
        );
        world.cli("true");
        let machine = Self { world, path };
        machine.set("");
        machine
    }

    /// The settings with these lines more.
    fn set(&self, more: &str) {
        let world = &self.world;
        let (url, repo, state, cli) = (
            world.backend.url(),
            world.repo(),
            world.state(),
            world.path("fake-cli"),
        );
        let (repo, state, cli) = (repo.display(), state.display(), cli.display());
        let text = format!(
            "WORKFORCE0_API_URL={url}\nWORKFORCE0_AGENT_TOKEN={TOKEN}\nREPO_PATHS=acme/app={repo}\nSTATE_DIR={state}\n\
             WORKFORCE0_PROTOCOL=ticket\nCLI_COMMAND={cli}\n{more}\n"
        );
        fs::create_dir_all(self.settings().parent().unwrap()).unwrap();
        fs::write(self.settings(), text).unwrap();
        files::chmod("600", &self.settings());
    }

    fn settings(&self) -> PathBuf {
        self.world.home().join(".config/wf0-agent/settings")
    }

    fn unit(&self) -> PathBuf {
        self.world
            .home()
            .join(".config/systemd/user/wf0-agent.service")
    }

    fn launch(&self, words: &str) -> Launch {
        let launch = Launch::new(self.world.dir.path())
            .env("HOME", self.world.home())
            .env("USER", "me");
        let launch = launch
            .env("PATH", self.path.as_str())
            .env("GIT_CONFIG_NOSYSTEM", "1");
        words
            .split_whitespace()
            .fold(launch, |launch, word| launch.arg(word))
    }

    fn install(&self) -> Ended {
        let ended = self.launch("service install").output();
        assert_eq!(ended.code, 0, "{ended:?}");
        ended
    }

    /// What systemctl was told since it was last asked, questions apart.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.world.path("calls")).unwrap_or_default();
        let _ = fs::remove_file(self.world.path("calls"));
        calls
            .lines()
            .filter(|call| !call.contains(" show"))
            .map(str::to_owned)
            .collect()
    }

    fn doctor(&self) -> Vec<Value> {
        let ended = self.launch("doctor --service --json").output();
        assert!(
            !ended.stdout.contains(TOKEN) && ended.stderr.is_empty(),
            "{ended:?}"
        );
        let checks: Vec<Value> = serde_json::from_str(&ended.stdout).unwrap();
        let is_failed = checks.iter().any(|check| check["status"] == "fail");
        assert_eq!(ended.code, i32::from(is_failed), "{checks:#?}");
        checks
    }
}

const STARTED: [&str; 3] = [
    "--user daemon-reload",
    "--user enable wf0-agent.service",
    "--user restart wf0-agent.service",
];

/// The check of that name and status holds those words.
fn assert_found(checks: &[Value], name: &str, status: &str, message: &str, fix: &str) {
    let is_it = |check: &&Value| {
        let holds =
            |field: &str, words: &str| check[field].as_str().unwrap_or_default().contains(words);
        check["check"] == name
            && check["status"] == status
            && holds("message", message)
            && holds("fix", fix)
    };
    let found = checks.iter().find(is_it);
    assert!(
        found.is_some(),
        "no {status} of {name} with {message:?} and {fix:?} in: {checks:#?}"
    );
}

/// Where systemd is on the machine, it takes the unit without a word.
fn assert_systemd_takes(unit: &Path) {
    let runtime = tempfile::tempdir().unwrap();
    let verify = Command::new("systemd-analyze")
        .args(["verify", "--user"])
        .arg(unit)
        .env("XDG_RUNTIME_DIR", runtime.path())
        .output();
    let Ok(verified) = verify else {
        eprintln!("skipped: there is no systemd-analyze here");
        return;
    };
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(
        verified.status.success() && said.is_empty(),
        "{said}\n{}",
        fs::read_to_string(unit).unwrap()
    );
}

/// The unit has this program, the settings' file and the PATH of now, whole folders only; it is loaded, enabled and
/// started; and people are told where it is, where its log is and how it outlives their session.
#[test]
fn install_writes_the_unit_and_starts_it() {
    let machine = Machine::new();
    let path = format!(
        "{}:relative::{}",
        machine.path,
        machine.world.path("bin").display()
    );
    let ended = machine.launch("service install").env("PATH", path).output();
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    for words in [
        &machine.unit().display().to_string(),
        "journalctl --user -u wf0-agent",
        "enable-linger",
        "--service",
    ] {
        assert!(
            ended.stdout.contains(words),
            "{words} is not in:\n{}",
            ended.stdout
        );
    }
    let unit = fs::read_to_string(machine.unit()).unwrap();
    let exec = format!(
        "ExecStart={} --env-file {}",
        BINARY.unwrap(),
        machine.settings().display()
    );
    let mut folders: Vec<&str> = machine.path.split(':').collect();
    let mut seen = Vec::new();
    folders.retain(|folder| {
        !seen.contains(folder) && {
            seen.push(folder);
            true
        }
    });
    let environment = format!("Environment=PATH={}", folders.join(":"));
    for line in [
        exec.as_str(),
        &environment,
        "Type=notify",
        "NotifyAccess=main",
        "TimeoutStartSec=infinity",
    ] {
        assert!(
            unit.lines().any(|own| own == line),
            "{line} is not in:\n{unit}"
        );
    }
    assert!(
        !unit.contains(TOKEN) && !unit.contains("cargo install"),
        "{unit}"
    );
    assert_eq!(machine.calls(), STARTED);
    assert_systemd_takes(&machine.unit());
}

/// Spaces, quotes and what systemd would replace stay what they are, in paths and in PATH.
#[test]
fn any_path_is_escaped() {
    let machine = Machine::new();
    let odd = machine.world.path("a b%h$HOME\"c'd\\e;f");
    fs::create_dir(&odd).unwrap();
    let settings = odd.join("settings");
    fs::copy(machine.settings(), &settings).unwrap();
    let path = format!("{}:{}", odd.display(), machine.path);
    let install = machine
        .launch("service install --env-file")
        .arg(settings.to_str().unwrap());
    let install = install
        .env("PATH", path)
        .env("XDG_CONFIG_HOME", odd.join("config"));
    let ended = install.output();
    assert_eq!(ended.code, 0, "{ended:?}");
    let file = odd.join("config/systemd/user/wf0-agent.service");
    let unit_text = fs::read_to_string(&file).unwrap();
    let escaped = odd
        .display()
        .to_string()
        .replace('%', "%%")
        .replace('\\', "\\\\")
        .replace('"', "\\\"");
    for line in [
        "settings\"".to_owned(),
        format!("Environment=\"PATH={escaped}:"),
        escaped.replace('$', "$$"),
    ] {
        assert!(unit_text.contains(&line), "{line} is not in:\n{unit_text}");
    }
    assert_systemd_takes(&file);
    let ended = machine
        .launch("doctor --service")
        .env("XDG_CONFIG_HOME", odd.join("config"))
        .output();
    let read_back = format!(
        "✓ CLI_COMMAND: {} ({})",
        machine.world.path("fake-cli").display(),
        settings.display()
    );
    assert!(
        ended.code == 0 && ended.stdout.lines().any(|line| line == read_back),
        "{ended:?}"
    );
    // The program's own path too, but for what systemd takes in none.
    let folder = machine.world.path("a b%h$HOME;é");
    fs::create_dir(&folder).unwrap();
    let program = folder.join("wf0-agent");
    fs::copy("/bin/true", &program).unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let plan = Plan {
        program: text(&program),
        settings: text(&settings),
        path: text(&odd),
    };
    fs::write(&file, unit(&plan)).unwrap();
    assert_systemd_takes(&file);
    let launch = machine
        .launch("service install")
        .copied_to(&odd.join("wf0-agent"));
    let ended = launch.output();
    assert!(
        ended.code == 1 && ended.stderr.contains("quotes or backslashes"),
        "{ended:?}"
    );
}

/// What the service would refuse is refused before anything is written, in the same words, with 78.
#[test]
fn wrong_settings_are_refused() {
    let machine = Machine::new();
    let table = [
        ("LOG_LEVEL=loud", "LOG_LEVEL: must be"),
        (
            "REQUIRE_APPROVAL=1",
            "REQUIRE_APPROVAL: a service has no terminal",
        ),
        (
            "REPO_PATHS=acme/app=app",
            "REPO_PATHS: \"app\" is not a whole path",
        ),
        ("REPO_PATHS=~/app", "home/app\""),
        (
            "STATE_DIR=state",
            "STATE_DIR: \"state\" is not a whole path",
        ),
        (
            "CLI_COMMAND=./fake-cli",
            "CLI_COMMAND: \"./fake-cli\" is not a whole path",
        ),
        (
            "WORKFORCE0_AGENT_TOKEN_FILE=token",
            "WORKFORCE0_AGENT_TOKEN_FILE: \"token\" is not a whole path",
        ),
        (
            "CLI_COMMAND=claude\nCLI_ARGS_TEMPLATE='-p --cwd {cwd}'",
            "--cwd",
        ),
        ("no setting", "NAME=value"),
    ];
    for (line, words) in table {
        machine.set(line);
        let ended = machine.launch("service install").output();
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (78, ""),
            "{line}: {ended:?}"
        );
        assert!(
            ended.stderr.contains(words) && !ended.stderr.contains(TOKEN),
            "{line}: {}",
            ended.stderr
        );
        assert_eq!(ended.stderr.lines().count(), 1, "{line}: {}", ended.stderr);
        assert!(
            !machine.unit().exists() && machine.calls().is_empty(),
            "{line}"
        );
    }
}

/// What the user's systemd has in its environment counts before the file, as it will for the service.
#[test]
fn the_environment_of_the_manager_counts() {
    let machine =
        Machine::with("[ $2 = show-environment ] && printf 'LOG_LEVEL=%s\\n' \"\\$'lo\\\\'ud'\"");
    let ended = machine
        .launch("service install")
        .env("LOG_LEVEL", "info")
        .output();
    assert_eq!(ended.code, 78, "{ended:?}");
    assert!(ended.stderr.contains("LOG_LEVEL: must be"), "{ended:?}");
}

/// Without a settings file it says how to make one, closed to others; and done so, it goes on.
#[test]
fn a_missing_settings_file_is_explained() {
    let machine = Machine::new();
    fs::rename(machine.settings(), machine.world.path(".env")).unwrap();
    files::chmod("644", &machine.world.path(".env"));
    let ended = machine.launch("service install").output();
    assert_eq!(ended.code, 78, "{ended:?}");
    let make = &ended.stderr[ended.stderr.find("(umask").expect("a command")..];
    let made = Command::new("sh")
        .args(["-c", make.trim()])
        .current_dir(machine.world.dir.path())
        .status()
        .unwrap();
    assert!(made.success(), "{make}");
    assert_eq!(
        machine.settings().metadata().unwrap().permissions().mode() & 0o777,
        0o600
    );
    machine.install();
    fs::remove_file(machine.settings()).unwrap();
    fs::remove_file(machine.world.path(".env")).unwrap();
    let ended = machine.launch("service install").output();
    assert!(
        ended
            .stderr
            .contains("WORKFORCE0_AGENT_TOKEN=… and REPO_PATHS=…"),
        "{ended:?}"
    );
}

/// Flags and variables of whoever installs do not reach the service: they are named, and their values are not shown.
#[test]
fn what_does_not_reach_the_service_is_named() {
    let machine = Machine::new();
    let launch = machine
        .launch("service install --agent-name flagged")
        .env("https_proxy", "http://me:secret@p:1");
    let launch = launch
        .env("TICKET_TIMEOUT_QA_SECONDS", "5")
        .env("STATE_DIR", "/elsewhere")
        .env("EDITOR", "ed");
    let ended = launch.output();
    assert_eq!(ended.code, 0, "{ended:?}");
    let named = "wf0-agent: AGENT_NAME, TICKET_TIMEOUT_QA_SECONDS, https_proxy are given here and will not reach";
    assert!(
        ended.stderr.starts_with(named),
        "STATE_DIR is in the file: {}",
        ended.stderr
    );
    assert!(
        !ended.stderr.contains("secret") && ended.stderr.lines().count() == 1,
        "{}",
        ended.stderr
    );
}

/// With --print the unit is shown and nothing changes, whatever the state: also without settings and without systemd.
#[test]
fn print_changes_nothing() {
    let machine = Machine::new();
    machine.install();
    let wanted = fs::read_to_string(machine.unit()).unwrap();
    fs::write(machine.unit(), "[Service]\nExecStart=/bin/other\n").unwrap();
    machine.calls();
    let before = files::everything(machine.world.dir.path());
    let ended = machine.launch("service install --print").output();
    assert_eq!((ended.code, ended.stdout), (0, wanted));
    assert!(
        ended.stderr.contains("nothing is changed") && ended.stderr.contains("daemon-reload"),
        "{}",
        ended.stderr
    );
    let ended = machine.launch("service uninstall --print").output();
    assert!(
        ended.code == 0 && ended.stdout.contains("nothing is changed"),
        "{ended:?}"
    );
    assert!(machine.calls().is_empty());
    files::assert_same(&before, &files::everything(machine.world.dir.path()));
    fs::remove_file(machine.settings()).unwrap();
    let ended = machine
        .launch("service install --print")
        .env("PATH", "/nowhere")
        .output();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended.stdout.contains("Environment=PATH=/nowhere\n") && ended.stderr.contains("(umask"),
        "{ended:?}"
    );
}

/// A second install replaces the first, starts it anew and says what is other than before.
#[test]
fn install_again_replaces() {
    let machine = Machine::new();
    machine.install();
    let first = fs::read_to_string(machine.unit()).unwrap();
    machine.calls();
    assert!(
        machine
            .install()
            .stdout
            .starts_with("as it was, and started anew: ")
    );
    assert_eq!(machine.calls(), STARTED);
    let other = machine.world.path("other");
    let ended = machine
        .launch("service install")
        .env("PATH", format!("{}:{}", other.display(), machine.path))
        .output();
    assert!(ended.stdout.starts_with("replaced: "), "{ended:?}");
    assert!(
        ended
            .stdout
            .contains(&format!("PATH has in addition: {}\n", other.display())),
        "{ended:?}"
    );
    assert!(
        !ended.stdout.contains("before:") && !ended.stdout.contains("no longer"),
        "{ended:?}"
    );
    let ended = machine.install();
    assert!(
        ended
            .stdout
            .contains(&format!("PATH has no longer: {}\n", other.display())),
        "{ended:?}"
    );
    assert_eq!(fs::read_to_string(machine.unit()).unwrap(), first);
    let settings = machine.world.path("other settings");
    fs::copy(machine.settings(), &settings).unwrap();
    let ended = machine
        .launch("service install --env-file")
        .arg("other settings")
        .output();
    assert!(
        ended
            .stdout
            .contains(&format!("--env-file {}\nbefore: ", settings.display())),
        "{ended:?}"
    );
    fs::write(machine.unit(), first + "# mine\n").unwrap();
    machine.launch("service install").output();
    fs::write(
        machine.unit(),
        fs::read_to_string(machine.unit()).unwrap() + "# mine\n",
    )
    .unwrap();
    assert!(
        machine
            .install()
            .stdout
            .contains("changed in it by hand is gone")
    );
}

/// It is stopped and removed, with no other file; settings and state are left, and named. Twice is no error.
#[test]
fn uninstall_leaves_settings_and_state() {
    let machine = Machine::new();
    machine.install();
    machine.calls();
    fs::create_dir(machine.world.state()).unwrap();
    let before = files::everything(machine.world.dir.path());
    let ended = machine.launch("service uninstall").output();
    assert_eq!(ended.code, 0, "{ended:?}");
    for left in [machine.settings(), machine.world.state()] {
        assert!(
            ended.stdout.contains(&format!(", {}\n", left.display())),
            "{ended:?}"
        );
    }
    assert_eq!(
        machine.calls(),
        [
            "--user disable --now wf0-agent.service",
            "--user daemon-reload"
        ]
    );
    let mut after = files::everything(machine.world.dir.path());
    let unit = machine
        .unit()
        .strip_prefix(machine.world.path(""))
        .unwrap()
        .to_owned();
    assert!(after.insert(unit.clone(), before[&unit].clone()).is_none());
    files::assert_same(&before, &after);
    let ended = machine.launch("service uninstall").output();
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (0, "no service is installed: nothing to do\n")
    );
}

/// One line on how it is, 0 while it runs, else 1; why it ended, where systemd knows; and where the log is.
#[test]
fn status_says_how_it_is() {
    let table = [
        (
            "ActiveState=active\nUnitFileState=enabled\nMainPID=12\nStatusText=2 runs",
            0,
            "enabled, running (pid 12; 2 runs)",
        ),
        (
            "ActiveState=active\nUnitFileState=disabled\nMainPID=12",
            0,
            "not enabled, running (pid 12)",
        ),
        (
            "ActiveState=activating\nSubState=start\nUnitFileState=enabled\nMainPID=12",
            0,
            "running, not registered yet (pid 12)",
        ),
        (
            "ActiveState=activating\nSubState=auto-restart\nMainPID=0\nExecMainStatus=75",
            1,
            "it ended with 75: another daemon",
        ),
        (
            "ActiveState=failed\nSubState=failed\nMainPID=0\nExecMainStatus=77",
            1,
            "not running (failed, failed; it ended with 77: token rejected)",
        ),
        (
            "ActiveState=inactive\nSubState=dead\nMainPID=0\nExecMainStatus=0",
            1,
            "not running (inactive, dead)",
        ),
    ];
    for (shown, code, words) in table {
        let machine = Machine::with(&format!(
            "case $2 in show) cat <<'END'\n{shown}\nEND\n;; esac"
        ));
        machine.install();
        let ended = machine.launch("service status").output();
        assert_eq!(
            (ended.code, ended.stderr.as_str()),
            (code, ""),
            "{shown}: {ended:?}"
        );
        assert!(
            ended.stdout.contains(words) && ended.stdout.contains("\nlog: journalctl"),
            "{shown}: {}",
            ended.stdout
        );
    }
    let ended = Machine::new().launch("service status").output();
    assert_eq!(
        (ended.code, ended.stdout.lines().count()),
        (1, 1),
        "{ended:?}"
    );
    assert!(
        ended.stdout.contains("wf0-agent service install"),
        "{ended:?}"
    );
}

/// Whatever systemctl says against it is one line with its own words and what to do, and 1.
#[test]
fn each_failure_is_one_line() {
    let table = [
        (
            "echo 'Failed to connect to bus: No medium found' >&2; exit 1",
            "connect to bus: No medium found",
            "wsl.conf",
        ),
        (
            "[ $2 = show-environment ] || { echo 'Access\ndenied' >&2; exit 4; }",
            "daemon-reload failed: Access denied",
            "journalctl",
        ),
        (
            "[ $2 = enable ] && exit 5",
            "enable wf0-agent.service failed: exit code 5",
            "journalctl",
        ),
        (
            "[ $2 = restart ] && { echo 'Job failed' >&2; exit 1; }",
            "does not start: Job failed",
            "journalctl",
        ),
    ];
    for (systemctl, words, fix) in table {
        let ended = Machine::with(&format!("{systemctl}\nexit 0"))
            .launch("service install")
            .output();
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (1, ""),
            "{systemctl}: {ended:?}"
        );
        assert!(
            ended.stderr.contains(words) && ended.stderr.contains(fix),
            "{systemctl}: {}",
            ended.stderr
        );
        assert_eq!(
            ended.stderr.lines().count(),
            1,
            "{systemctl}: {}",
            ended.stderr
        );
    }
    let machine = Machine::new();
    let ended = machine
        .launch("service install")
        .env("PATH", "/nowhere")
        .output();
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(
        ended.stderr.contains("no systemctl on PATH") && !machine.unit().exists(),
        "{ended:?}"
    );
}

/// The service of the machine is root's: its unit and the commands are shown, and nothing is done.
#[test]
fn the_system_unit_is_only_shown() {
    let machine = Machine::new();
    let ended = machine.launch("service install --system --print").output();
    assert_eq!((ended.code, ended.stdout.as_str()), (0, SYSTEM_TEMPLATE));
    let ended = machine.launch("service install --system").output();
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(
        ended.stdout.contains("  useradd --system")
            && ended.stderr.contains("nothing is installed"),
        "{ended:?}"
    );
    assert!(!machine.world.path("calls").exists());
    let ended = machine.launch("run-as-service").output();
    assert!(
        ended.code == 2 && ended.stderr.contains("Windows' service manager"),
        "{ended:?}"
    );
}

/// A CLI that this shell finds and the service does not: installing anew, as it says, takes the PATH over.
#[test]
fn doctor_sees_with_the_path_of_the_service() {
    let machine = Machine::new();
    machine.set("CLI_COMMAND=claude");
    let ended = machine.launch("service install").output();
    assert!(
        ended.code == 0 && ended.stderr.contains("claude is not on the service's PATH"),
        "{ended:?}"
    );
    assert_found(
        &machine.doctor(),
        "CLI",
        "fail",
        "claude was not found",
        "install it",
    );
    let tools = machine.world.path("tools");
    fs::create_dir(&tools).unwrap();
    machine
        .world
        .program(&tools.join("claude"), "echo '2.1.0 (Claude Code)'");
    let path = format!("{}:{}", tools.display(), machine.path);
    let machine = Machine { path, ..machine };
    let found = format!(
        "{} is on the PATH of this shell: wf0-agent service install",
        tools.join("claude").display()
    );
    assert_found(
        &machine.doctor(),
        "CLI",
        "fail",
        "claude was not found",
        &found,
    );
    machine.install();
    let checks = machine.doctor();
    assert_found(&checks, "CLI", "ok", "is claude-code 2.1.0", "");
    assert_found(&checks, "service", "ok", "runs (pid 12; registered)", "");
    assert_found(&checks, "backend", "ok", "takes the token", "");
}

/// No service, one whose program is gone, one that does not run, one that would ask: each is a ✗ with what to do.
#[test]
fn doctor_says_what_is_wrong_with_the_service() {
    let machine = Machine::with(&format!("[ -e \"$WORLD/stopped\" ] && exit\n{WELL}"));
    let fails = |name: &str, message: &str, fix: &str| {
        assert_found(&machine.doctor(), name, "fail", message, fix)
    };
    fails("service", "none is installed", "wf0-agent service install");
    machine.install();
    fs::write(machine.world.path("stopped"), "").unwrap();
    fails("service", "does not run", "journalctl");
    fs::remove_file(machine.world.path("stopped")).unwrap();
    machine.set("REQUIRE_APPROVAL=1");
    fails(
        "approval",
        "no terminal",
        &format!("leave it out of {}", machine.settings().display()),
    );
    machine.set("");
    let unit = fs::read_to_string(machine.unit()).unwrap();
    fs::write(
        machine.unit(),
        unit.replace(BINARY.unwrap(), "/opt/gone/wf0-agent"),
    )
    .unwrap();
    fails(
        "service",
        "/opt/gone/wf0-agent, which is not there",
        "wf0-agent service install",
    );
    machine.install();
    let checks = machine.doctor();
    assert!(
        checks.iter().all(|check| check["status"] != "fail"),
        "{checks:#?}"
    );
    let ended = machine
        .launch("doctor")
        .env("REQUIRE_APPROVAL", "1")
        .arg("--env-file")
        .arg(machine.settings().to_str().unwrap())
        .output();
    assert!(
        ended.code == 0 && ended.stdout.contains("! approval: "),
        "{ended:?}"
    );
}

/// A unit that was made from the template by hand, with what `systemctl --user edit` adds, is understood as well.
#[test]
fn doctor_reads_a_unit_made_by_hand() {
    let machine = Machine::new();
    let program = machine.world.home().join(".cargo/bin/wf0-agent");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(BINARY.unwrap(), &program).unwrap();
    fs::create_dir_all(machine.unit().with_extension("service.d")).unwrap();
    fs::write(
        machine.unit(),
        include_str!("../../contrib/systemd/wf0-agent-user.service"),
    )
    .unwrap();
    let edited = "[Service]\n# mine\nEnvironment=LOG_LEVEL=debug \\\n  \"AGENT_NAME=a %% b\"\nEnvironmentFile=/etc/more\n";
    fs::write(
        machine
            .unit()
            .with_extension("service.d")
            .join("override.conf"),
        edited,
    )
    .unwrap();
    let checks = machine.doctor();
    assert_found(
        &checks,
        "service",
        "warn",
        &format!("starts {}", program.display()),
        "wf0-agent service install",
    );
    assert_found(&checks, "service", "warn", "EnvironmentFile", "may differ");
    assert_found(&checks, "LOG_LEVEL", "ok", "debug (environment)", "");
    assert_found(&checks, "AGENT_NAME", "ok", "a % b (environment)", "");
    assert_found(
        &checks,
        "REPO_PATHS",
        "ok",
        &format!("({})", machine.settings().display()),
        "",
    );
}

/// A tool of another system, which notes what it is told, and the environment in which it is found.
fn stand_in(world: &World, tools: &[(&str, &str)]) -> Environment {
    for (name, script) in tools {
        world.on_path(name, &format!("echo \"$*\" >> \"$WORLD/calls\"\n{script}"));
    }
    let folder = |name: &str| world.path(name).into_os_string();
    let path = format!("{}:/usr/bin:/bin", world.path("bin").display());
    Environment::new(vec![
        ("PATH".into(), path.into()),
        ("HOME".into(), folder("home")),
        ("LOCALAPPDATA".into(), folder("home")),
        ("USERDOMAIN".into(), "ACME".into()),
        ("USERNAME".into(), "me & you".into()),
    ])
}

fn plan() -> Plan {
    let text = str::to_owned;
    Plan {
        program: text("/opt/a & b/wf0-agent"),
        settings: text("/home/me/<settings>"),
        path: text("/opt/bin:/usr/bin"),
    }
}

/// macOS: an older agent is unloaded first, and only when it is gone is the new one loaded.
#[test]
fn launchd_is_told_in_order() {
    let world = World::new();
    fs::write(world.path("loaded"), "1").unwrap();
    let script = r#"
case $1 in
print) [ -e "$WORLD/loaded" ] || exit 113; printf 'gui = {\n\tstate = running\n\tpid = 77\n}\n'
    # Twice it is still there after it was told to go.
    [ -e "$WORLD/going" ] && echo x >> "$WORLD/going" && [ "$(wc -l < "$WORLD/going")" -gt 2 ] &&
        rm "$WORLD/loaded" "$WORLD/going" ;;
bootout) : > "$WORLD/going" ;;
bootstrap)
    [ -e "$WORLD/loaded" ] && { echo 'Bootstrap failed: 5: Input/output error' >&2; exit 5; }
    : > "$WORLD/loaded" ;;
esac
exit 0"#;
    let launchd = Launchd::new(stand_in(&world, &[("launchctl", script)])).unwrap();
    assert_eq!(launchd.installed(), Ok(None));
    let draft = launchd.draft(&plan()).unwrap();
    launchd.install(&draft, Duration::ZERO).unwrap();
    let target = format!("gui/{}", nix::unistd::getuid());
    let told = world.read("calls");
    let told: Vec<_> = told
        .lines()
        .filter(|call| !call.starts_with("print"))
        .collect();
    let file = world
        .home()
        .join("Library/LaunchAgents/com.workforce0.agent.plist");
    let agent = format!("{target}/com.workforce0.agent");
    let wanted = [
        format!("bootout {agent}"),
        format!("enable {agent}"),
        format!("bootstrap {target} {}", file.display()),
    ];
    assert_eq!(told, wanted);
    assert_eq!(launchd.installed(), Ok(Some(draft.definition)));
    assert_eq!(launchd.state().unwrap().run, Run::Running);
    launchd.uninstall().unwrap();
    assert_eq!(
        (launchd.installed(), launchd.state().unwrap().run),
        (Ok(None), Run::Not)
    );
}

/// Windows: the task is registered from a file in UTF-16 for this user, started, read back, and removed.
#[test]
fn the_task_scheduler_is_told_in_order() {
    let world = World::new();
    let script = r#"
case $1 in
/Query) [ -e "$WORLD/registered" ] || exit 1
    printf '"PC","\\wf0-agent","N/A","Wird ausgeführt","Interaktiv","1.1.2026","267009","ACME"\r\n' ;;
/Create) cp "$6" "$WORLD/registered" ;;
/Delete) rm "$WORLD/registered" ;;
esac
exit 0"#;
    let reg = r#"case $2 in HKLM*) value='/machine' ;; *) value='%HOME%/mine' ;; esac
printf '\n%s\n    Path    REG_EXPAND_SZ    %s\n\n' "$2" "$value""#;
    let tasks = Tasks::new(stand_in(&world, &[("schtasks", script), ("reg", reg)])).unwrap();
    assert_eq!(tasks.installed(), Ok(None));
    let draft = tasks.draft(&plan()).unwrap();
    assert!(
        draft.text.contains(r"<UserId>ACME\me &amp; you</UserId>"),
        "{}",
        draft.text
    );
    tasks.install(&draft, Duration::ZERO).unwrap();
    assert_eq!(
        fs::read(world.path("registered")).unwrap(),
        to_utf16(&draft.text)
    );
    assert_eq!(tasks.installed(), Ok(Some(draft.definition)));
    assert_eq!(tasks.state().unwrap().run, Run::Running);
    let environment = tasks.environment().unwrap();
    assert_eq!(
        environment.get("Path").unwrap(),
        format!("/machine;{}/mine", world.home().display()).as_str()
    );
    tasks.uninstall().unwrap();
    assert_eq!(tasks.installed(), Ok(None));
    let told = world.read("calls");
    let told: Vec<_> = told
        .lines()
        .filter(|call| call.starts_with('/') && !call.starts_with("/Query"))
        .collect();
    let file = world.home().join("wf0-agent-program/wf0-agent-task.xml");
    let create = format!("/Create /F /TN wf0-agent /XML {}", file.display());
    assert_eq!(
        told,
        [
            &create,
            "/Run /TN wf0-agent",
            "/End /TN wf0-agent",
            "/Delete /F /TN wf0-agent"
        ]
    );
}
