//! `wf0-agent service`: with a stand-in for the system's own tool that notes its arguments. launchd is tried here too, as
//! far as files and the tool go.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use wf0_agent::commands::service::Plan;
use wf0_agent::commands::service::launchd::Launchd;
use wf0_agent::environment::Environment;

use crate::support::agent::{BINARY, Ended, Launch, TOKEN};
use crate::support::files;
use crate::support::world::World;

/// A manager where all is well.
const WELL: &str = "[ $2 = status ] && echo 'Active: active (running)'; exit 0";

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

    /// What systemctl was told since the last look, but for the question whether it answers.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.world.path("calls")).unwrap_or_default();
        let _ = fs::remove_file(self.world.path("calls"));
        calls
            .lines()
            .filter(|call| !call.ends_with("show-environment"))
            .map(str::to_owned)
            .collect()
    }
}

const STARTED: [&str; 3] = [
    "--user daemon-reload",
    "--user enable wf0-agent.service",
    "--user restart wf0-agent.service",
];

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
        "registered with the backend",
    ] {
        assert!(
            ended.stdout.contains(words),
            "{words} is not in:\n{}",
            ended.stdout
        );
    }
    let unit = fs::read_to_string(machine.unit()).unwrap();
    let exec = format!(
        "ExecStart=\"{}\" --env-file \"{}\"",
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
    let environment = format!("Environment=\"PATH={}\"", folders.join(":"));
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

/// Paths with spaces work. One with a character that systemd would take for something else is refused in one line, be it
/// the program's, the settings' or a folder of PATH, and nothing is written.
#[test]
fn a_path_that_would_need_quoting_is_refused() {
    let machine = Machine::new();
    let spaced = machine.world.path("a b");
    fs::create_dir(&spaced).unwrap();
    let settings = spaced.join("settings");
    fs::copy(machine.settings(), &settings).unwrap();
    let install = |settings: &Path, path: &Path| {
        let launch = machine.launch("service install --env-file");
        let path = format!("{}:{}", path.display(), machine.path);
        launch.arg(settings.to_str().unwrap()).env("PATH", path)
    };
    let ended = install(&settings, &spaced).output();
    assert_eq!(ended.code, 0, "{ended:?}");
    let unit = fs::read_to_string(machine.unit()).unwrap();
    for line in [
        format!("--env-file \"{}\"", settings.display()),
        format!("\"PATH={}:", spaced.display()),
    ] {
        assert!(unit.contains(&line), "{line} is not in:\n{unit}");
    }
    assert_systemd_takes(&machine.unit());
    fs::remove_file(machine.unit()).unwrap();
    for odd in [
        "100%",
        "$HOME",
        "back\\slash",
        "quo\"te",
        "it's",
        "a&b",
        "new\nline",
    ] {
        let folder = machine.world.path(odd);
        fs::create_dir(&folder).unwrap();
        let (odd_settings, copy) = (folder.join("settings"), folder.join("wf0-agent"));
        fs::copy(machine.settings(), &odd_settings).unwrap();
        let table = [
            (install(&odd_settings, &spaced), "the path of the settings"),
            (install(&settings, &folder), "PATH"),
            (
                install(&settings, &spaced).copied_to(&copy),
                "the path of this program",
            ),
        ];
        for (launch, what) in table {
            let ended = launch.output();
            assert!(
                ended.code == 1 && ended.stderr.starts_with(&format!("wf0-agent: {what}: ")),
                "{odd}: {ended:?}"
            );
            assert_eq!(ended.stderr.lines().count(), 1, "{odd}: {ended:?}");
            assert!(!machine.unit().exists(), "{odd}");
        }
    }
}

/// What the service would refuse is refused before anything is written, in the same words, with 78.
#[test]
fn wrong_settings_are_refused() {
    let machine = Machine::new();
    let table = [
        ("LOG_LEVEL=loud", "LOG_LEVEL: must be"),
        (
            "REQUIRE_APPROVAL=1",
            "REQUIRE_APPROVAL=1 needs a terminal, and a service has none",
        ),
        (
            "REPO_PATHS=acme/app=app",
            "REPO_PATHS: \"app\" is not an absolute path",
        ),
        (
            "REPO_PATHS=~/app",
            "REPO_PATHS: \"~/app\" is not an absolute path",
        ),
        (
            "STATE_DIR=state",
            "STATE_DIR: \"state\" is not an absolute path",
        ),
        (
            "CLI_COMMAND=./fake-cli",
            "CLI_COMMAND: \"./fake-cli\" is not an absolute path",
        ),
        (
            "WORKFORCE0_AGENT_TOKEN_FILE=token",
            "WORKFORCE0_AGENT_TOKEN_FILE: \"token\" is not an absolute path",
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

/// Without a settings file it says how to make one, closed to others; and done so, it goes on.
#[test]
fn a_missing_settings_file_is_explained() {
    let machine = Machine::new();
    fs::rename(machine.settings(), machine.world.path(".env")).unwrap();
    files::chmod("644", &machine.world.path(".env"));
    let ended = machine.launch("service install").output();
    assert_eq!(ended.code, 78, "{ended:?}");
    assert!(ended.stderr.contains("WORKFORCE0_AGENT_TOKEN"), "{ended:?}");
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
        ended.stderr.contains("nothing was changed")
            && ended.stderr.contains(machine.unit().to_str().unwrap()),
        "{}",
        ended.stderr
    );
    let ended = machine.launch("service uninstall --print").output();
    assert!(
        ended.code == 0 && ended.stdout.contains("nothing was changed"),
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
        ended.stdout.contains("Environment=\"PATH=/nowhere\"\n"),
        "{ended:?}"
    );
}

/// A second install replaces the unit and restarts the service, also where the unit was changed by hand.
#[test]
fn install_again_replaces() {
    let machine = Machine::new();
    machine.install();
    let first = fs::read_to_string(machine.unit()).unwrap();
    machine.calls();
    fs::write(machine.unit(), "[Service]\nExecStart=/bin/other\n").unwrap();
    machine.install();
    assert_eq!(machine.calls(), STARTED);
    assert_eq!(fs::read_to_string(machine.unit()).unwrap(), first);
}

/// A CLI that the service will not find is named before it is installed.
#[test]
fn a_cli_that_is_not_on_path_is_named() {
    let machine = Machine::new();
    machine.set("CLI_COMMAND=claude");
    let ended = machine.launch("service install").output();
    assert!(
        ended.code == 0 && ended.stderr.contains("claude is not on this PATH"),
        "{ended:?}"
    );
}

/// The service's environment is not the shell's: a setting of the shell neither reaches nor hides what is in the file.
#[test]
fn settings_of_the_shell_do_not_count() {
    let machine = Machine::new();
    machine.set("LOG_LEVEL=loud");
    let launch = machine.launch("service install").env("LOG_LEVEL", "info");
    assert_eq!(launch.output().code, 78);
    machine.set("");
    let launch = machine.launch("service install").env("LOG_LEVEL", "loud");
    assert_eq!(launch.output().code, 0);
}

/// It is stopped and removed, with no other file; settings and state stay. Twice is no error.
#[test]
fn uninstall_leaves_settings_and_state() {
    let machine = Machine::new();
    machine.install();
    machine.calls();
    fs::create_dir(machine.world.state()).unwrap();
    let before = files::everything(machine.world.dir.path());
    let ended = machine.launch("service uninstall").output();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended.stdout.contains(machine.unit().to_str().unwrap()) && ended.stdout.contains("stay"),
        "{ended:?}"
    );
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

/// What systemctl says is passed through, with where the log is: 0 while it runs, else 1.
#[test]
fn status_is_passed_through() {
    for (systemctl, code) in [
        (WELL, 0),
        (
            "[ $2 = status ] && { echo 'Active: failed'; exit 3; }; exit 0",
            1,
        ),
    ] {
        let machine = Machine::with(systemctl);
        machine.install();
        let ended = machine.launch("service status").output();
        assert_eq!((ended.code, ended.stderr.as_str()), (code, ""), "{ended:?}");
        assert!(
            ended.stdout.starts_with("Active: ") && ended.stdout.contains("\nlog: journalctl"),
            "{ended:?}"
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

/// What systemctl says against it is shown in its own words, with the usual cause and what to do, and 1.
#[test]
fn each_failure_says_what_to_do() {
    let table = [
        (
            "echo 'Failed to connect to bus: No medium found' >&2; exit 1",
            "show-environment failed: Failed to connect to bus: No medium found",
            "log in and try again",
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
    }
    let machine = Machine::new();
    let ended = machine
        .launch("service install")
        .env("PATH", "/nowhere")
        .output();
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(
        ended.stderr.contains("systemctl is not on PATH") && !machine.unit().exists(),
        "{ended:?}"
    );
}

/// The service of the machine is root's: its unit and the commands are shown, and nothing is done.
#[test]
fn the_system_unit_is_only_shown() {
    let machine = Machine::new();
    let ended = machine.launch("service install --system --print").output();
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (0, include_str!("../../contrib/systemd/wf0-agent.service"))
    );
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
        ended.code == 2 && ended.stderr.contains("Windows service manager"),
        "{ended:?}"
    );
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
    world.on_path(
        "launchctl",
        &format!("echo \"$*\" >> \"$WORLD/calls\"\n{script}"),
    );
    let path = format!("{}:/usr/bin:/bin", world.path("bin").display());
    let environment = Environment::new(vec![
        ("PATH".into(), path.into()),
        ("HOME".into(), world.home().into()),
    ]);
    let launchd = Launchd::new(&environment).unwrap();
    assert_eq!(launchd.status(), Ok(None));
    let plan = Plan {
        program: "/opt/a b/wf0-agent".to_owned(),
        settings: "/home/me/settings".to_owned(),
        path: "/opt/bin:/usr/bin".to_owned(),
    };
    launchd.install(&plan, Duration::ZERO).unwrap();
    let target = format!("gui/{}", nix::unistd::getuid());
    let told = world.read("calls");
    let told: Vec<_> = told
        .lines()
        .filter(|call| !call.starts_with("print"))
        .collect();
    let agent = format!("{target}/com.workforce0.agent");
    let wanted = [
        format!("bootout {agent}"),
        format!("enable {agent}"),
        format!("bootstrap {target} {}", launchd.place),
    ];
    assert_eq!(told, wanted);
    assert_eq!(
        fs::read_to_string(&launchd.place).unwrap(),
        launchd.definition(&plan)
    );
    assert!(
        launchd
            .status()
            .unwrap()
            .is_some_and(|(_, is_running)| is_running)
    );
    assert_eq!(launchd.uninstall(), Ok(true));
    assert!(!world.path("loaded").exists());
    assert_eq!(launchd.status(), Ok(None));
    assert_eq!(launchd.uninstall(), Ok(false));
}
