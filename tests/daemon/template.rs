//! The CLI's command line: what it is made of, and what it is never taken for.

use serde_json::json;

use crate::support::backend::Upgrade;
use crate::support::world::World;

/// Prints each argument in brackets on a line of its own.
const SHOW: &str = r#"for a in "$@"; do printf '<%s>\n' "$a"; done"#;

/// Runs one ticket of these fields with this template and gives what the CLI saw.
fn shown(template: &str, fields: serde_json::Value) -> String {
    let world = World::new();
    let _agent = world.registered(world.launch(SHOW).env("CLI_ARGS_TEMPLATE", template));
    let result = world.outcome_with("T-1", fields);
    assert_eq!(result["type"], "ticket.result", "{result}");
    result["stdout"].as_str().unwrap().to_owned()
}

/// Every placeholder is filled in, and each argument stays one.
#[test]
fn placeholders_are_filled_in() {
    let world = World::new();
    let template = "--cwd {cwd} --id={ticket_id} -r {role} {title} [{title}|{role}]";
    let _agent = world.registered(world.launch(SHOW).env("CLI_ARGS_TEMPLATE", template));
    let result = world.outcome_with("T-1", json!({"title": "Two words", "role": "qa_agent"}));
    let expected = format!(
        "<--cwd>\n<{}>\n<--id=T-1>\n<-r>\n<qa>\n<Two words>\n<[Two words|qa]>\n",
        world.repo().display()
    );
    assert_eq!(result["stdout"], expected);
}

/// The template is split as a shell would split it, and nothing in it is expanded.
#[test]
fn the_template_is_split_and_not_expanded() {
    let template = r#"a 'b c' "d e" f\ g '' "it's" $HOME ~ * ; | '$(id)' `id` > /dev/null"#;
    let words = [
        "a",
        "b c",
        "d e",
        "f g",
        "",
        "it's",
        "$HOME",
        "~",
        "*",
        ";",
        "|",
        "$(id)",
        "`id`",
        ">",
        "/dev/null",
    ];
    let expected: String = words.map(|word| format!("<{word}>\n")).concat();
    assert_eq!(shown(template, json!({})), expected);
}

/// Nothing of a ticket is interpreted: no shell, no placeholder within a value, no further word.
#[test]
fn nothing_of_a_ticket_is_expanded() {
    let title = r#"a $(touch pwned) `id` ; rm -rf {cwd} 'x "y" \z {prompt} * > out & $HOME"#;
    assert_eq!(
        shown("{title} end", json!({ "title": title })),
        format!("<{title}>\n<end>\n")
    );
}

/// Without a placeholder for it the prompt comes on standard input, which then ends.
#[test]
fn the_prompt_comes_on_standard_input() {
    let world = World::new();
    let launch = world
        .launch(&format!("{SHOW}; cat"))
        .env("CLI_ARGS_TEMPLATE", "-p {title}");
    let _agent = world.registered(launch);
    let result = world.outcome_with(
        "T-1",
        json!({"title": "Title", "description": "On standard input."}),
    );
    let stdout = result["stdout"].as_str().unwrap();
    assert!(stdout.starts_with("<-p>\n<Title>\n# "), "{stdout}");
    assert!(stdout.contains("On standard input."), "{stdout}");
}

/// With `{prompt}` the prompt is one argument, and standard input is empty rather than open.
#[test]
fn the_prompt_can_be_an_argument() {
    let world = World::new();
    let script = r#"printf '%s' "$2" > "$WORLD/prompt"; echo "$# arguments, $(wc -c) bytes""#;
    let _agent = world.registered(world.launch(script).env("CLI_ARGS_TEMPLATE", "-p {prompt}"));
    let result = world.outcome_with("T-1", json!({"description": "As an\nargument; $(id)."}));
    assert_eq!(
        result["stdout"]
            .as_str()
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>(),
        ["2", "arguments,", "0", "bytes"]
    );
    let prompt = world.read("prompt");
    assert!(
        prompt.starts_with("# ") && prompt.contains("As an\nargument; $(id)."),
        "{prompt}"
    );
}

/// With `{prompt_file}` the prompt is in that file, outside the repository, and standard input is empty.
#[test]
fn the_prompt_can_be_a_file() {
    let world = World::new();
    let script = r#"cat "$2" > "$WORLD/prompt"; printf '%s' "$2"; cat"#;
    let _agent = world.registered(
        world
            .launch(script)
            .env("CLI_ARGS_TEMPLATE", "-f {prompt_file}"),
    );
    let result = world.outcome_with("T-1", json!({"description": "In a file."}));
    let file = result["stdout"].as_str().unwrap();
    assert!(std::path::Path::new(file).is_absolute(), "{file}");
    assert!(
        std::path::Path::new(file).starts_with(world.state()),
        "{file}"
    );
    let prompt = world.read("prompt");
    assert!(
        prompt.starts_with("# ") && prompt.contains("In a file."),
        "{prompt}"
    );
}

/// The CLI runs in the repository, whatever the template says of it.
#[test]
fn the_working_directory_is_the_repository() {
    let world = World::new();
    let _agent = world.agent("pwd -P");
    assert_eq!(
        world.outcome_of("T-1")["stdout"].as_str().unwrap().trim(),
        world.repo().to_str().unwrap()
    );
}

/// A title that begins like an option is never an argument that does.
#[test]
fn a_title_is_never_an_option() {
    for title in [
        "-rf",
        "--dangerously-skip-permissions",
        "-",
        "--",
        " -x",
        "\n-x",
        "-- -x",
        "\u{0}-x",
    ] {
        let world = World::new();
        let _agent = world.registered(world.launch(SHOW).env("CLI_ARGS_TEMPLATE", "run {title}"));
        let outcome = world.outcome_with("T-1", json!({ "title": title }));
        // Either it is changed to something harmless or the ticket is not run.
        match outcome["type"].as_str().unwrap() {
            "ticket.result" => {
                let stdout = outcome["stdout"].as_str().unwrap();
                assert!(
                    stdout.starts_with("<run>\n<") && !stdout.contains("<-"),
                    "{title:?}: {stdout}"
                );
            }
            _ => assert_eq!(outcome["code"], "invalid_ticket", "{title:?}: {outcome}"),
        }
    }
}

/// An id that begins like an option is never an argument that does, and is fine behind a name.
#[test]
fn an_id_is_never_an_option() {
    let world = World::new();
    let _agent = world.registered(
        world
            .launch(SHOW)
            .env("CLI_ARGS_TEMPLATE", "run {ticket_id}"),
    );
    let outcome = world.outcome_of("--help");
    match outcome["type"].as_str().unwrap() {
        "ticket.result" => assert!(
            !outcome["stdout"].as_str().unwrap().contains("<-"),
            "{outcome}"
        ),
        _ => assert_eq!(outcome["code"], "invalid_ticket", "{outcome}"),
    }
    assert_eq!(world.outcome_of("T-1")["stdout"], "<run>\n<T-1>\n");

    let world = World::new();
    let _agent = world.registered(
        world
            .launch(SHOW)
            .env("CLI_ARGS_TEMPLATE", "--id={ticket_id}"),
    );
    assert_eq!(world.outcome_of("--help")["stdout"], "<--id=--help>\n");
}

/// A prompt that is too long for an argument fails the ticket with a word about what to do, and the next one runs.
#[test]
fn a_prompt_too_long_for_an_argument_is_told() {
    let world = World::new();
    let _agent = world.registered(
        world
            .launch("echo ran")
            .env("CLI_ARGS_TEMPLATE", "-p {prompt}"),
    );
    let fail = world.outcome_with("T-1", json!({"description": "x".repeat(4 << 20)}));
    assert_eq!(fail["code"], "spawn_failed", "{fail}");
    assert_eq!(fail["retryable"], true);
    assert!(
        fail["error"]
            .as_str()
            .unwrap()
            .contains("CLI_ARGS_TEMPLATE"),
        "{}",
        fail["error"]
    );
    assert_eq!(world.outcome_of("T-2")["stdout"], "ran\n");
}

/// NUL, which no argument can hold, does not keep a ticket from running.
#[test]
fn nul_in_a_ticket_does_no_harm() {
    let world = World::new();
    let _agent = world.registered(
        world
            .launch("echo ran")
            .env("CLI_ARGS_TEMPLATE", "{title} {prompt}"),
    );
    let result = world.outcome_with("T-1", json!({"title": "a\u{0}b", "description": "c\u{0}d"}));
    assert_eq!(result["stdout"], "ran\n", "{result}");
}

/// A run that starts while the backend cannot be reached gets the arguments for that; the others get the usual ones.
#[test]
fn there_are_arguments_for_a_run_without_a_backend() {
    for (offline, wanted) in [
        (Some("local {ticket_id}"), "<local>\n<T-2>\n"),
        (None, "<usual>\n"),
    ] {
        let world = World::new();
        let script = format!("{SHOW}; tell \"up $WF0_TICKET_ID\"; hold $WF0_TICKET_ID");
        let launch = world.launch(&script).env("CLI_ARGS_TEMPLATE", "usual");
        let agent =
            world.registered(launch.env("CLI_OFFLINE_ARGS_TEMPLATE", offline.unwrap_or_default()));
        world.assign("T-1");
        world.told("up T-1");
        for id in ["T-2", "T-3"] {
            world.assign(id);
            world
                .backend
                .frame_where("ticket.claim", |claim| claim["ticketId"] == id);
        }
        for _ in 0..20 {
            world.backend.next_upgrade(Upgrade::Drop);
        }
        world.backend.cut();
        world.backend.refused();
        world.release("T-1");
        world.told("up T-2");
        world.backend.forget_upgrades();
        world.backend.frame("agent.register");
        for id in ["T-2", "T-3"] {
            world.release(id);
        }
        for (id, wanted) in [("T-1", "<usual>\n"), ("T-2", wanted), ("T-3", "<usual>\n")] {
            let result = world.backend.outcomes(&[id]).remove(0);
            assert_eq!(result["stdout"], wanted, "{id}: {}", agent.log());
        }
    }
}
