use std::ffi::OsString;

use super::{Environment, MARK, TICKET};

fn environment() -> Environment {
    let names = [
        "PATH",
        "HOME",
        "WORKFORCE0_AGENT_TOKEN",
        "WORKFORCE0_API_URL",
        "workforce0_lower",
        "WORKFORCE",
        "MY_WORKFORCE0_X",
        "GIT_DIR",
        "GIT_SSH_COMMAND",
        "git_index_file",
        "GITHUB_TOKEN",
        "ANTHROPIC_API_KEY",
        MARK,
        TICKET,
    ];
    Environment::new(
        names
            .iter()
            .map(|name| {
                (
                    OsString::from(name),
                    OsString::from(format!("value of {name}")),
                )
            })
            .collect(),
    )
}

fn names(variables: Vec<(OsString, OsString)>) -> Vec<String> {
    variables
        .into_iter()
        .map(|(name, _)| name.into_string().unwrap())
        .collect()
}

/// The CLI gets everything but the daemon's own settings and the marks of a run that the daemon itself is part of.
#[test]
fn a_cli_gets_no_setting_of_the_daemon() {
    let wanted = [
        "PATH",
        "HOME",
        "WORKFORCE",
        "MY_WORKFORCE0_X",
        "GIT_DIR",
        "GIT_SSH_COMMAND",
        "git_index_file",
        "GITHUB_TOKEN",
        "ANTHROPIC_API_KEY",
    ];
    assert_eq!(names(environment().for_cli()), wanted);
}

/// Git gets neither the daemon's settings nor a variable that leads it elsewhere.
#[test]
fn git_gets_no_variable_that_steers_it() {
    let wanted = [
        "PATH",
        "HOME",
        "WORKFORCE",
        "MY_WORKFORCE0_X",
        "GITHUB_TOKEN",
        "ANTHROPIC_API_KEY",
    ];
    assert_eq!(names(environment().for_git()), wanted);
}

/// A name that is shorter than the prefix, or no UTF-8, is passed on and breaks nothing.
#[cfg(unix)]
#[test]
fn strange_names_are_passed_on() {
    use std::os::unix::ffi::OsStringExt;
    let strange = [
        b"W".to_vec(),
        b"".to_vec(),
        vec![0xFF, 0xFE],
        "WORKFORCÉ0_".as_bytes().to_vec(),
    ];
    let variables = strange.map(|name| (OsString::from_vec(name), OsString::from("x")));
    let environment = Environment::new(variables.to_vec());
    assert_eq!(environment.for_cli(), variables);
    assert_eq!(environment.for_git(), variables);
}

/// A variable is found by its name, and only by that.
#[test]
fn variables_are_found_by_name() {
    let environment = environment();
    assert_eq!(environment.get("HOME"), Some("value of HOME".as_ref()));
    assert_eq!(environment.get("HOM"), None);
    assert_eq!(environment.get(""), None);
    assert_eq!(Environment::default().get("HOME"), None);
}
