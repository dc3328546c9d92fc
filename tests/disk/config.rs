//! Settings: where they come from, what they must be, and how errors are said.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Duration;

use log::LevelFilter;
use tempfile::TempDir;
use wf0_agent::config::settings::{self, Kind, SETTINGS};
use wf0_agent::config::{Autonomy, Config, Given, LogFilter, Sources, Token};
use wf0_agent::domain::message::Dialect;
use wf0_agent::environment::Environment;

const TOKEN: &str = "wfa_secret-0123456789";

/// A folder with two repositories in it, and what is needed besides to have good settings.
pub struct Home(TempDir);

impl Home {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["app", "web", "state"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self(folder)
    }

    pub fn path(&self, name: &str) -> String {
        self.0
            .path()
            .join(name)
            .into_os_string()
            .into_string()
            .unwrap()
    }

    fn canonical(&self, name: &str) -> std::path::PathBuf {
        wf0_agent::config::canonicalize(self.0.path())
            .unwrap()
            .join(name)
    }

    fn good(&self) -> Vec<(&'static str, String)> {
        vec![
            ("WORKFORCE0_API_URL", "https://good.example".to_owned()),
            ("WORKFORCE0_AGENT_TOKEN", TOKEN.to_owned()),
            ("REPO_PATHS", self.path("app")),
            ("STATE_DIR", self.path("state")),
        ]
    }

    /// The good settings in the environment, with these instead.
    pub fn load(&self, changes: &[(&str, &str)]) -> Result<Config, String> {
        let mut variables: Vec<(OsString, OsString)> = self
            .good()
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        for (name, value) in changes {
            variables.retain(|(own, _)| own != name);
            variables.push((name.into(), value.into()));
        }
        load(&[], variables, None)
    }

    pub fn file(&self, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

fn load(
    flags: &[(&str, &str)],
    environment: Vec<(OsString, OsString)>,
    env_file: Option<&Path>,
) -> Result<Config, String> {
    let sources = sources(flags, environment, env_file)?;
    Config::load(&sources).map_err(|e| e.to_string())
}

fn sources(
    flags: &[(&str, &str)],
    environment: Vec<(OsString, OsString)>,
    env_file: Option<&Path>,
) -> Result<Sources, String> {
    let flags: HashMap<String, OsString> = flags
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.into()))
        .collect();
    Sources::collect(
        Given {
            flags,
            env_file: env_file.map(Path::to_owned),
        },
        Environment::new(environment),
    )
}

/// With nothing but what is required, every other setting has the default that the settings' table names.
#[test]
fn defaults() {
    let home = Home::new();
    let config = home.load(&[]).unwrap();
    assert_eq!(
        config.api.socket(Dialect::Ticket),
        "wss://good.example/api/agents/ws"
    );
    assert_eq!(config.token.bearer(), format!("Bearer {TOKEN}"));
    assert_eq!(config.dialect, None);
    assert_eq!(config.repos.len(), 1);
    assert_eq!(
        (&config.repos[0].path, &config.repos[0].slug),
        (&home.canonical("app"), &None)
    );
    assert_eq!(config.cli.command, "claude");
    assert_eq!(config.cli.args, None);
    assert_eq!(config.cli.autonomy, Autonomy::Edits);
    let roles: Vec<_> = config
        .roles
        .iter()
        .map(|(role, limit)| (role.as_str(), limit.as_secs()))
        .collect();
    assert_eq!(roles, [("dev", 1800), ("qa", 1800)]);
    assert!(!config.agent_name.is_empty());
    assert_eq!(config.max_concurrent, 1);
    assert_eq!(config.grace, Duration::from_secs(5));
    assert_eq!(
        (config.progress.every, config.progress.lines),
        (Duration::from_secs(10), true)
    );
    assert_eq!(
        (config.limits.stdout_bytes, config.limits.diff_bytes),
        (1_048_576, 3_145_728)
    );
    assert_eq!(config.state_dir, home.canonical("state"));
    assert_eq!(config.log_filter, LogFilter::parse("info").unwrap());
}

/// Each setting is taken as it is written.
#[test]
fn every_setting_counts() {
    let home = Home::new();
    let repos = format!(" acme/app={} ,, {},", home.path("app"), home.path("web"));
    let config = home
        .load(&[
            ("REPO_PATHS", &repos),
            ("CLI_COMMAND", "codex"),
            ("CLI_ARGS_TEMPLATE", "exec {prompt_file}"),
            ("CLI_AUTONOMY", "all"),
            ("AGENT_ROLES", "qa_agent, DOCS-writer ,qa,"),
            ("TICKET_TIMEOUT_QA_SECONDS", "60"),
            ("TICKET_TIMEOUT_DOCS_WRITER_SECONDS", "61"),
            ("TICKET_TIMEOUT_DEV_SECONDS", "62"),
            ("AGENT_NAME", "build server é"),
            ("MAX_CONCURRENT_TICKETS", " 4 "),
            ("KILL_GRACE_SECONDS", "0"),
            ("PROGRESS_SECONDS", "1"),
            ("PROGRESS_LINES", "0"),
            ("MAX_STDOUT_BYTES", "1024"),
            ("MAX_DIFF_BYTES", "4194304"),
            ("LOG_LEVEL", "DEBUG"),
        ])
        .unwrap();
    let repos: Vec<_> = config
        .repos
        .iter()
        .map(|repo| (repo.path.clone(), repo.slug.as_deref()))
        .collect();
    assert_eq!(
        repos,
        [
            (home.canonical("app"), Some("acme/app")),
            (home.canonical("web"), None)
        ]
    );
    assert_eq!(config.cli.command, "codex");
    assert!(config.cli.args.is_some_and(|args| !args.prompt_on_stdin()));
    assert_eq!(config.cli.autonomy, Autonomy::All);
    let roles: Vec<_> = config
        .roles
        .iter()
        .map(|(role, limit)| (role.as_str(), limit.as_secs()))
        .collect();
    assert_eq!(roles, [("qa", 60), ("docs-writer", 61)]);
    assert_eq!(config.agent_name, "build server é");
    assert_eq!(config.max_concurrent, 4);
    assert_eq!(config.grace, Duration::ZERO);
    assert_eq!(
        (config.progress.every, config.progress.lines),
        (Duration::from_secs(1), false)
    );
    assert_eq!(
        (config.limits.stdout_bytes, config.limits.diff_bytes),
        (1024, 4_194_304)
    );
    let debug = LevelFilter::Debug;
    let own = ("wf0_agent".to_owned(), debug);
    assert!(config.log_filter.0.contains(&own));
}

/// The dialect is named, or found out.
#[test]
fn dialects() {
    let home = Home::new();
    let rows = [
        ("ticket", Some(Dialect::Ticket)),
        (" hub ", Some(Dialect::Hub)),
        ("auto", None),
    ];
    for (text, dialect) in rows {
        assert_eq!(
            home.load(&[("WORKFORCE0_PROTOCOL", text)]).unwrap().dialect,
            dialect,
            "{text}"
        );
    }
}

/// A flag counts more than the environment, that more than the file, that more than the default; empty is not set.
#[test]
fn where_a_value_comes_from() {
    let home = Home::new();
    let rows = [
        ("all three", Some("f"), Some("e"), Some("d"), "f"),
        ("flag and file", Some("f"), None, Some("d"), "f"),
        ("environment and file", None, Some("e"), Some("d"), "e"),
        ("file", None, None, Some("d"), "d"),
        ("none", None, None, None, "claude"),
        ("empty flag", Some(""), Some("e"), Some("d"), "e"),
        ("empty environment", None, Some(""), Some("d"), "d"),
        ("all empty", Some(""), Some(""), Some(""), "claude"),
    ];
    for (label, flag, variable, line, wanted) in rows {
        let flags: Vec<_> = flag.iter().map(|value| ("CLI_COMMAND", *value)).collect();
        let mut environment: Vec<(OsString, OsString)> = home
            .good()
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        environment.extend(
            variable
                .iter()
                .map(|value| ("CLI_COMMAND".into(), value.into())),
        );
        let file = home.file(
            "env",
            &line.map_or(String::new(), |value| format!("CLI_COMMAND={value}\n")),
        );
        let config =
            load(&flags, environment, Some(&file)).unwrap_or_else(|e| panic!("{label}: {e}"));
        assert_eq!(config.cli.command, wanted, "{label}");
    }
}

/// A file of settings is read as `.env` files are written, and all of them can stand in it.
#[test]
fn a_file_of_settings() {
    let home = Home::new();
    let text = format!(
        "WORKFORCE0_API_URL=https://good.example\n\n# the token\nexport WORKFORCE0_AGENT_TOKEN='{TOKEN}'\n\
         REPO_PATHS={}\nSTATE_DIR=\"{}\"\nCLI_COMMAND=first\nCLI_COMMAND=last # the last one counts\n\
         AGENT_NAME=\"two words\"\nMY_OWN=1\n",
        home.path("app").replace('\\', "\\\\"),
        home.path("state").replace('\\', "\\\\"),
    );
    // As an editor of Windows may write it, too: with a byte order mark.
    for start in ["", "\u{feff}"] {
        let file = home.file("env", &format!("{start}{text}"));
        let config = load(&[], Vec::new(), Some(&file)).unwrap();
        assert_eq!(config.token.bearer(), format!("Bearer {TOKEN}"));
        assert_eq!(config.cli.command, "last");
        assert_eq!(config.agent_name, "two words");
        let sources = sources(&[], Vec::new(), Some(&file)).unwrap();
        assert!(
            sources.environment.for_cli().is_empty(),
            "the file has reached the environment of children"
        );
    }
}

/// A file that cannot be used is named, and nothing that stands in it is shown.
#[test]
fn a_broken_file_keeps_its_secrets() {
    let home = Home::new();
    let rows = [
        (
            "no equals sign",
            format!("WORKFORCE0_AGENT_TOKEN {TOKEN}\n"),
        ),
        (
            "a space in the value",
            format!("WORKFORCE0_AGENT_TOKEN={TOKEN} {TOKEN}\n"),
        ),
        (
            "a quote left open",
            format!("WORKFORCE0_AGENT_TOKEN=\"{TOKEN}\n"),
        ),
        (
            "a quote closed after the token",
            format!("REPO_PATHS=\"/none\nWORKFORCE0_AGENT_TOKEN={TOKEN}\nAGENT_NAME=\"\n"),
        ),
        ("a name that is none", format!("{TOKEN}-x=1\n")),
        (
            "later in the file",
            format!("AGENT_NAME=x\nWORKFORCE0_AGENT_TOKEN='{TOKEN}\n"),
        ),
        (
            "after the token",
            format!("WORKFORCE0_AGENT_TOKEN={TOKEN}\nAGENT_NAME=two words {TOKEN}\n"),
        ),
        (
            "a substitution left open",
            format!("AGENT_NAME=${{{TOKEN}\n"),
        ),
    ];
    for (label, text) in rows {
        let file = home.file("broken.env", &text);
        let error = sources(&[], Vec::new(), Some(&file))
            .err()
            .unwrap_or_else(|| panic!("{label}: it was read"));
        assert!(error.contains("broken.env"), "{label}: {error}");
        assert!(
            !error.contains(TOKEN) && !error.contains("secret"),
            "{label}: {error}"
        );
        assert!(!error.contains('\n'), "{label}: {error}");
    }
    let error = sources(&[], Vec::new(), Some(&home.0.path().join("none.env")))
        .err()
        .unwrap();
    assert!(error.contains("none.env"), "{error}");
    let error = sources(&[], Vec::new(), Some(home.0.path()))
        .err()
        .unwrap_or_default();
    assert!(!error.is_empty(), "a folder was read");
}

/// A setting that cannot be used stops the start with one line: its name, what is wrong, an example.
#[test]
fn errors_name_the_setting_and_show_an_example() {
    let home = Home::new();
    let file = home.file("file", "x");
    let file = file.to_str().unwrap();
    let none = home.path("none");
    let repo_twice = format!("app={}", home.path("app"));
    let state_inside = format!("{}/state", home.path("app"));
    let rows = [
        ("no URL", "WORKFORCE0_API_URL", ""),
        ("no token", "WORKFORCE0_AGENT_TOKEN", ""),
        ("no repositories", "REPO_PATHS", ""),
        ("URL without a scheme", "WORKFORCE0_API_URL", "good.example"),
        ("clear text", "WORKFORCE0_API_URL", "http://good.example"),
        ("token with a space", "WORKFORCE0_AGENT_TOKEN", "two words"),
        ("token of spaces", "WORKFORCE0_AGENT_TOKEN", "  "),
        ("token with a line break", "WORKFORCE0_AGENT_TOKEN", "a\nb"),
        ("token that is not ASCII", "WORKFORCE0_AGENT_TOKEN", "tökén"),
        ("repository that is not there", "REPO_PATHS", &none),
        ("repository that is a file", "REPO_PATHS", file),
        ("repository with half a slug", "REPO_PATHS", &repo_twice),
        ("no such dialect", "WORKFORCE0_PROTOCOL", "graphql"),
        ("only commas", "REPO_PATHS", " , ,"),
        ("blank command", "CLI_COMMAND", "  "),
        ("quote left open", "CLI_ARGS_TEMPLATE", "-p \"x"),
        ("unknown placeholder", "CLI_ARGS_TEMPLATE", "{promt}"),
        ("unknown autonomy", "CLI_AUTONOMY", "everything"),
        ("role that is none", "AGENT_ROLES", "dev,q a"),
        ("no role", "AGENT_ROLES", ","),
        ("zero", "MAX_CONCURRENT_TICKETS", "0"),
        ("too many", "MAX_CONCURRENT_TICKETS", "65"),
        ("a word for a number", "MAX_CONCURRENT_TICKETS", "two"),
        ("a fraction", "KILL_GRACE_SECONDS", "1.5"),
        ("negative", "KILL_GRACE_SECONDS", "-1"),
        (
            "more than a number holds",
            "KILL_GRACE_SECONDS",
            "99999999999999999999",
        ),
        ("no time at all", "TICKET_TIMEOUT_DEV_SECONDS", "0"),
        ("for ever", "TICKET_TIMEOUT_QA_SECONDS", "31536000"),
        ("with a unit", "PROGRESS_SECONDS", "10s"),
        ("neither 0 nor 1", "PROGRESS_LINES", "yes"),
        ("too little", "MAX_STDOUT_BYTES", "1023"),
        ("too much", "MAX_DIFF_BYTES", "4194305"),
        ("state within a repository", "STATE_DIR", &state_inside),
        ("the repository for state", "STATE_DIR", &home.path("app")),
        ("neither 0 nor 1", "ALLOW_INSECURE", "true"),
        ("no such level", "LOG_LEVEL", "loud"),
        (
            "a module without a level",
            "LOG_LEVEL",
            "debug,wf0_agent::link",
        ),
        (
            "a module at no such level",
            "LOG_LEVEL",
            "wf0_agent::link=loud",
        ),
        ("a level of no module", "LOG_LEVEL", "info,=trace"),
        (
            "a library that would log the token",
            "LOG_LEVEL",
            "tungstenite=trace",
        ),
    ];
    for (label, name, value) in rows {
        let error = home
            .load(&[(name, value)])
            .err()
            .unwrap_or_else(|| panic!("{label}: {name}={value} was accepted"));
        assert_eq!(error.lines().count(), 1, "{label}: {error}");
        assert!(error.starts_with(&format!("{name}: ")), "{label}: {error}");
        assert!(
            error.contains(&format!("example: {name}=")),
            "{label}: {error}"
        );
        let example = error.rsplit_once(&format!("example: {name}=")).unwrap().1;
        assert!(example.len() > 1, "{label}: the example is empty: {error}");
    }
}

/// Several wrong settings are all named at once, one line each.
#[test]
fn several_errors_at_once() {
    let home = Home::new();
    let changes = [
        ("WORKFORCE0_API_URL", "nonsense"),
        ("WORKFORCE0_AGENT_TOKEN", ""),
        ("REPO_PATHS", ""),
        ("MAX_CONCURRENT_TICKETS", "0"),
        ("LOG_LEVEL", "loud"),
    ];
    let error = home.load(&changes).err().unwrap();
    let mut names: Vec<_> = error
        .lines()
        .map(|line| line.split(':').next().unwrap())
        .collect();
    let mut wanted = changes.map(|(name, _)| name);
    names.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(names, wanted, "{error}");
}

/// A value that is no text is an error that names its setting.
#[cfg(unix)]
#[test]
fn values_that_are_no_text() {
    use std::os::unix::ffi::OsStringExt;
    let home = Home::new();
    for name in [
        "WORKFORCE0_API_URL",
        "WORKFORCE0_AGENT_TOKEN",
        "REPO_PATHS",
        "CLI_COMMAND",
        "LOG_LEVEL",
    ] {
        let mut environment: Vec<(OsString, OsString)> = home
            .good()
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        environment.retain(|(own, _)| own != name);
        environment.push((name.into(), OsString::from_vec(vec![b'x', 0xFF])));
        let error = load(&[], environment, None).err().unwrap();
        assert!(
            error.starts_with(&format!("{name}: is not UTF-8")),
            "{error}"
        );
    }
}

/// The token may come from a file; the setting itself counts for more.
#[test]
fn a_token_from_a_file() {
    let home = Home::new();
    let file = home.file("token", &format!("{TOKEN}\n"));
    let rows = [
        ("file alone", "", file.to_str().unwrap(), Ok(TOKEN)),
        ("both", "wfa_own", file.to_str().unwrap(), Ok("wfa_own")),
        (
            "no such file",
            "",
            "/nowhere/token",
            Err("WORKFORCE0_AGENT_TOKEN_FILE: "),
        ),
        (
            "a line break",
            "",
            "/nowhere/\ntoken",
            Err("WORKFORCE0_AGENT_TOKEN_FILE: \"/nowhere/\\ntoken\""),
        ),
        ("neither", "", "", Err("WORKFORCE0_AGENT_TOKEN: ")),
    ];
    for (label, token, file, wanted) in rows {
        let config = home.load(&[
            ("WORKFORCE0_AGENT_TOKEN", token),
            ("WORKFORCE0_AGENT_TOKEN_FILE", file),
        ]);
        match (config, wanted) {
            (Ok(config), Ok(wanted)) => {
                assert_eq!(config.token.bearer(), format!("Bearer {wanted}"), "{label}")
            }
            (Err(error), Err(begins)) => assert!(error.starts_with(begins), "{label}: {error}"),
            (got, wanted) => panic!("{label}: {got:?} is not {wanted:?}"),
        }
    }
    for (label, text) in [
        ("empty", ""),
        ("two lines", "wfa_secret\nwfa_secret"),
        ("blank", " \n"),
    ] {
        let file = home.file("token", text);
        let changes = [
            ("WORKFORCE0_AGENT_TOKEN", ""),
            ("WORKFORCE0_AGENT_TOKEN_FILE", file.to_str().unwrap()),
        ];
        let error = home
            .load(&changes)
            .err()
            .unwrap_or_else(|| panic!("{label}: it was accepted"));
        assert!(
            error.starts_with("WORKFORCE0_AGENT_TOKEN_FILE: "),
            "{label}: {error}"
        );
        assert!(!error.contains("wfa_secret"), "{label}: {error}");
    }
}

/// Neither the settings nor their errors ever show the token.
#[test]
fn the_token_is_never_shown() {
    let home = Home::new();
    let token = Token::new(TOKEN).unwrap();
    assert!(
        !format!("{token:?} {token:#?}").contains("secret"),
        "{token:?}"
    );
    let config = home.load(&[]).unwrap();
    assert!(
        !format!("{config:?} {config:#?}").contains("secret"),
        "{config:?}"
    );
    let error = home
        .load(&[
            ("WORKFORCE0_AGENT_TOKEN", "wfa_secret two"),
            ("LOG_LEVEL", "loud"),
        ])
        .err()
        .unwrap();
    assert!(!error.contains("secret"), "{error}");
}

/// Repositories are canonical folders, each once, and a link leads to what it points at.
#[cfg(unix)]
#[test]
fn repositories_are_canonical() {
    let home = Home::new();
    std::os::unix::fs::symlink(home.path("app"), home.path("link")).unwrap();
    let (app, web, link) = (home.path("app"), home.path("web"), home.path("link"));
    let rows = [
        ("dots", format!("{web}/../app/."), vec!["app"]),
        ("link", link.clone(), vec!["app"]),
        ("twice", format!("{app},{web},{app}"), vec!["app", "web"]),
        ("link and folder", format!("{link},{app}"), vec!["app"]),
    ];
    for (label, value, wanted) in rows {
        let config = home
            .load(&[("REPO_PATHS", &value)])
            .unwrap_or_else(|e| panic!("{label}: {e}"));
        let paths: Vec<_> = config.repos.into_iter().map(|repo| repo.path).collect();
        assert_eq!(
            paths,
            wanted
                .iter()
                .map(|name| home.canonical(name))
                .collect::<Vec<_>>(),
            "{label}"
        );
    }
    let inside = format!("{link}/state");
    let error = home.load(&[("STATE_DIR", &inside)]).err();
    assert!(
        error.is_some_and(|e| e.starts_with("STATE_DIR: ")),
        "state within a repository, by way of a link"
    );
}

/// Without `STATE_DIR` the system's own place is used, where it names one.
#[cfg(target_os = "linux")]
#[test]
fn the_place_of_the_state() {
    let home = Home::new();
    let base = home.canonical("");
    let at = |name: &str| base.join(name).into_os_string().into_string().unwrap();
    let rows = [
        (
            "XDG",
            vec![("XDG_STATE_HOME", at("xdg")), ("HOME", at("me"))],
            Some("xdg/wf0-agent"),
        ),
        (
            "home",
            vec![("HOME", at("me"))],
            Some("me/.local/state/wf0-agent"),
        ),
        (
            "relative XDG is ignored",
            vec![("XDG_STATE_HOME", "xdg".to_owned()), ("HOME", at("me"))],
            Some("me/.local/state/wf0-agent"),
        ),
        ("nothing", vec![], None),
    ];
    for (label, variables, wanted) in rows {
        let mut changes: Vec<(&str, &str)> = vec![("STATE_DIR", "")];
        changes.extend(
            variables
                .iter()
                .map(|(name, value)| (*name, value.as_str())),
        );
        match (home.load(&changes), wanted) {
            (Ok(config), Some(wanted)) => {
                assert_eq!(config.state_dir, base.join(wanted), "{label}")
            }
            (Err(error), None) => assert!(error.starts_with("STATE_DIR: "), "{label}: {error}"),
            (got, wanted) => panic!("{label}: {got:?} is not {wanted:?}"),
        }
    }
}

/// A command with a path in it is taken from where the daemon was started.
#[test]
fn a_command_with_a_path_is_absolute() {
    let home = Home::new();
    let command = |text: &str| home.load(&[("CLI_COMMAND", text)]).unwrap().cli.command;
    assert_eq!(command("claude"), "claude");
    assert_eq!(command(" claude "), "claude");
    let relative = command("./bin/claude");
    assert!(
        Path::new(&relative).is_absolute() && relative.ends_with("claude"),
        "{relative}"
    );
}

/// What the table of settings says is what is loaded: each word, in upper case too, both ends of each range and no more.
#[test]
fn the_table_is_what_counts() {
    let home = Home::new();
    for setting in SETTINGS {
        let name = if setting.is_for_roles() {
            settings::ticket_timeout("dev")
        } else {
            setting.name.to_owned()
        };
        let takes = |value: &str| home.load(&[(&name, value)]).is_ok();
        match &setting.kind {
            Kind::Choice(words) => {
                for word in *words {
                    assert!(takes(word) && takes(&word.to_uppercase()), "{name}={word}");
                }
                assert!(!takes("other"), "{name}");
            }
            Kind::Number(range) => {
                let (least, most) = (*range.start(), *range.end());
                assert!(
                    takes(&least.to_string()) && takes(&most.to_string()),
                    "{name}"
                );
                assert!(!takes(&(most + 1).to_string()), "{name}");
                assert!(least == 0 || !takes(&(least - 1).to_string()), "{name}");
            }
            _ => {}
        }
    }
}

/// Each word means the value of that name.
#[test]
fn words_and_values_belong_together() {
    let home = Home::new();
    type Read = fn(&Config) -> String;
    let rows: [(&str, Read); 4] = [
        ("CLI_AUTONOMY", |config| {
            format!("{:?}", config.cli.autonomy)
        }),
        ("WORKSPACE_MODE", |config| format!("{:?}", config.workspace)),
        ("LOG_FORMAT", |config| format!("{:?}", config.log_format)),
        ("WORKFORCE0_PROTOCOL", |config| {
            config.dialect.map_or("auto", Dialect::name).to_owned()
        }),
    ];
    for (name, read) in rows {
        let Some(Kind::Choice(words)) = settings::find(name).map(|setting| &setting.kind) else {
            panic!("{name} is no choice");
        };
        for word in *words {
            let config = home.load(&[(name, word)]).unwrap();
            assert_eq!(read(&config).to_lowercase(), *word, "{name}");
        }
    }
}
