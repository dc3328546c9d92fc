//! The table of settings.

use wf0_agent::config::settings::{self, Fallback, SETTINGS};

/// Each setting has one flag and back, and the token has none.
#[test]
fn flags_and_names() {
    for setting in SETTINGS {
        let flag = settings::flag_of_name(setting.name);
        assert_eq!(settings::name_of_flag(&flag), setting.name);
        assert!(
            settings::find(setting.name).is_some_and(|found| found.name == setting.name),
            "{}",
            setting.name
        );
    }
    let secrets: Vec<_> = SETTINGS
        .iter()
        .filter(|s| !s.has_flag())
        .map(|s| s.name)
        .collect();
    assert_eq!(secrets, ["WORKFORCE0_AGENT_TOKEN"]);
    let rows = [
        (
            "TICKET_TIMEOUT_QA_SECONDS",
            Some("TICKET_TIMEOUT_<ROLE>_SECONDS"),
        ),
        (
            "TICKET_TIMEOUT_A_B_SECONDS",
            Some("TICKET_TIMEOUT_<ROLE>_SECONDS"),
        ),
        ("TICKET_TIMEOUT__SECONDS", None),
        ("TICKET_TIMEOUT_SECONDS", None),
        ("REPO_PATH", None),
        ("", None),
    ];
    for (name, wanted) in rows {
        assert_eq!(
            settings::find(name).map(|setting| setting.name),
            wanted,
            "{name:?}"
        );
    }
}

/// README's table has each setting, with the default of the table that is loaded.
#[test]
fn readme_has_every_setting() {
    let readme = include_str!("../../README.md");
    for setting in SETTINGS {
        let name = format!("`{}`", setting.name);
        let row = readme
            .lines()
            .find(|line| line.starts_with("| `") && line.contains(&name));
        let row = row.unwrap_or_else(|| panic!("README does not have {name}"));
        if let Fallback::Value(default) = setting.fallback {
            assert!(row.contains(&format!("| `{default}` |")), "{row}");
        }
    }
}
