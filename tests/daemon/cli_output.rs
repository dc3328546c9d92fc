//! A CLI that prints lines of JSON: what is sent of it, what a failure is, and what it may cost. The fake CLI prints
//! what the real ones do; those themselves are in `real_cli`.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::files::{self, Kind};
use crate::support::processes;
use crate::support::world::World;

const INIT: &str = r#"{"type":"system","subtype":"init","session_id":"s-1"}"#;

/// A script that prints these lines as they are.
fn printing(lines: &[String]) -> String {
    format!("cat <<'LINES'\n{}\nLINES\n", lines.join("\n"))
}

fn said(text: &str) -> String {
    json!({"type": "assistant", "message": {"content": [{"type": "text", "text": text}]}})
        .to_string()
}

fn used(tool: &str, input: Value) -> String {
    json!({"type": "assistant", "message": {"content": [{"type": "tool_use", "name": tool, "input": input}]}})
        .to_string()
}

fn gave_back(text: &str) -> String {
    json!({"type": "user", "message": {"content": [{"type": "tool_result", "content": text}]}})
        .to_string()
}

fn result(fields: Value) -> String {
    let mut line = json!({"type": "result", "subtype": "success", "is_error": false, "result": "Done.", "num_turns": 3,
        "session_id": "s-1", "total_cost_usd": 0.25, "usage": {"input_tokens": 10, "output_tokens": 20}});
    line.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    line.to_string()
}

/// Only the final message is sent, with what the run took; the tools' results stay on disk, and progress names tools and
/// their targets.
#[test]
fn only_the_final_message_is_sent() {
    let world = World::new();
    let file = world.repo().join("src/lib.rs");
    let before = [
        INIT.to_owned(),
        said("I will."),
        used("Edit", json!({"file_path": file, "new_string": "SOURCE"})),
        gave_back("SOURCE"),
        used("Bash", json!({"command": "cargo test 'SOURCE'"})),
    ];
    let script = format!(
        "{}hold end\n{}",
        printing(&before),
        printing(&[gave_back("SOURCE"), result(json!({}))])
    );
    let _agent = world.registered(world.launch(&script).env("PROGRESS_SECONDS", "1"));
    world.assign("T-1");
    let progress = world.backend.frame("ticket.progress");
    assert_eq!(
        progress["lines"],
        json!(["Edit src/lib.rs", "Bash cargo test"]),
        "{progress}"
    );
    world.release("end");
    let outcome = world.backend.outcome("T-1");
    assert_eq!(
        (&outcome["type"], &outcome["stdout"]),
        (&json!("ticket.result"), &json!("Done.")),
        "{outcome}"
    );
    let usage = json!({"inputTokens": 10, "outputTokens": 20, "costUsd": 0.25, "turns": 3, "sessionId": "s-1"});
    assert_eq!(outcome["usage"], usage, "{outcome}");
    assert!(
        world
            .backend
            .frames()
            .iter()
            .all(|frame| !frame.to_string().contains("SOURCE"))
    );
    let kept = files::everything(&world.state());
    let whole = |path: &PathBuf| path.ends_with("stdout.log");
    let log = kept
        .iter()
        .find(|(path, _)| whole(path))
        .map(|(_, entry)| entry.kind.clone());
    let Some(Kind::File(log)) = log else {
        panic!("no output on disk: {kept:?}")
    };
    assert!(
        String::from_utf8_lossy(&log).contains("SOURCE"),
        "the whole output is on disk"
    );
}

/// A long final message is shortened like any other output.
#[test]
fn a_long_message_is_shortened() {
    let world = World::new();
    let script = printing(&[INIT.to_owned(), result(json!({"result": "x".repeat(5000)}))]);
    let _agent = world.registered(world.launch(&script).env("MAX_STDOUT_BYTES", "2048"));
    let outcome = world.outcome_of("T-1");
    assert_eq!(outcome["stdoutTruncated"], true, "{outcome}");
    assert!(
        outcome["stdout"].as_str().unwrap().len() < 2300,
        "{outcome}"
    );
}

/// A CLI that says that it failed has failed, also with exit code 0, and the error is in its words.
#[test]
fn an_error_with_exit_code_0() {
    let world = World::new();
    let _agent = world.agent(&printing(&[
        INIT.to_owned(),
        result(json!({"is_error": true, "result": "API Error: 400 no such model"})),
    ]));
    let fail = world.outcome_of("T-1");
    assert_eq!(
        (&fail["code"], &fail["exitCode"]),
        (&json!("cli_exit"), &json!(0)),
        "{fail}"
    );
    assert_eq!(fail["error"], "API Error: 400 no such model");
    assert_eq!(fail["usage"]["turns"], 3);
}

/// A failed run is about quotas only where the CLI says so of itself: what its tools gave back may be a file about them.
#[test]
fn source_code_about_quotas_is_no_quota() {
    let failed = |error: &str| result(json!({"is_error": true, "result": error}));
    let event = |status: &str| {
        json!({"type": "rate_limit_event", "rate_limit_info": {"status": status, "resetsAt": 4_000_000_000_u64}})
            .to_string()
    };
    let words = "Claude AI usage limit reached";
    for (lines, code) in [
        (vec![gave_back(words), failed("it broke")], "cli_exit"),
        (
            vec![
                gave_back(&event("rejected")),
                event("allowed"),
                failed("it broke"),
            ],
            "cli_exit",
        ),
        (vec![gave_back(words)], "cli_exit"),
        (vec![failed(words)], "quota_exceeded"),
        (
            vec![event("rejected"), failed("it broke")],
            "quota_exceeded",
        ),
    ] {
        let world = World::new();
        let lines = [vec![INIT.to_owned()], lines].concat();
        let _agent = world.agent(&format!("{}exit 1", printing(&lines)));
        let fail = world.outcome_of("T-1");
        assert_eq!(fail["code"], code, "{lines:?}: {fail}");
        assert!(
            !fail["error"].as_str().unwrap().contains('{'),
            "raw JSON: {fail}"
        );
    }
}

/// What the CLI was not allowed to do is a warning, and so is an output without its end.
#[test]
fn what_is_odd_is_a_warning() {
    for (lines, warning) in [
        (
            vec![result(
                json!({"permission_denials": [{"tool_name": "Write"}]}),
            )],
            "not allowed to use Write",
        ),
        (vec![said("I will.")], "ends before its result"),
        (
            vec![r#"{"type":"assistant""#.to_owned(), result(json!({}))],
            "were not read",
        ),
        (vec![result(json!({}))], ""),
    ] {
        let world = World::new();
        let _agent = world.agent(&printing(&[vec![INIT.to_owned()], lines].concat()));
        let outcome = world.outcome_of("T-1");
        assert_eq!(outcome["type"], "ticket.result", "{outcome}");
        let warnings = outcome["warnings"].as_array().unwrap();
        assert_eq!(
            warnings.len(),
            usize::from(!warning.is_empty()),
            "{outcome}"
        );
        assert!(
            outcome["warnings"].to_string().contains(warning),
            "{outcome}"
        );
    }
}

/// A known CLI that says nothing and changes nothing has not done its work, whatever its exit code.
#[test]
fn nothing_at_all_is_a_warning() {
    let world = World::new();
    let claude = world.path("claude");
    world.program(&claude, "true");
    let _agent = world.registered(world.launch("true").env("CLI_COMMAND", claude));
    let outcome = world.outcome_of("T-1");
    assert!(
        outcome["warnings"]
            .to_string()
            .contains("said nothing and changed nothing"),
        "{outcome}"
    );
}

/// A run that is ended, or cut off by a crash, has no final message: the last words are sent, and never the lines.
#[test]
fn a_run_that_is_ended_sends_its_last_words() {
    for lines in [
        vec![INIT.to_owned(), gave_back("SOURCE")],
        vec![INIT.to_owned(), said("I will."), gave_back("SOURCE")],
    ] {
        let wanted = if lines.len() > 2 { "I will." } else { "" };
        let script = format!("{}tell printed; hold never", printing(&lines));
        let world = World::new();
        let mut agent = world.agent(&script);
        world.assign("T-1");
        world.told("printed");
        // What is printed is in the pipe; only what the agent has taken from it outlives a crash.
        eventually("the output on disk", || {
            files::holding(&world.state(), b"SOURCE")
        });
        agent.crash();
        let agent = world.agent(&script);
        let fail = world.backend.outcome("T-1");
        assert_eq!(
            (&fail["code"], &fail["stdout"]),
            (&json!("agent_restarted"), &json!(wanted)),
            "{}",
            agent.log()
        );
        assert_eq!(fail["usage"]["sessionId"], "s-1");

        let fail = world.outcome_with("T-2", json!({"timeoutSeconds": 1}));
        assert_eq!(
            (&fail["code"], &fail["stdout"]),
            (&json!("timeout"), &json!(wanted)),
            "{fail}"
        );
    }
}

/// What a run took is kept with its outcome: it is sent again after a crash.
#[test]
fn usage_survives_a_restart() {
    let world = World::new();
    let script = printing(&[INIT.to_owned(), result(json!({}))]);
    let mut agent = world.agent(&script);
    world.backend.ignore_pings();
    let first = world.outcome_of("T-1");
    agent.crash();
    let _agent = world.agent(&script);
    let again = world.backend.outcome("T-1");
    assert_eq!(again["usage"], first["usage"]);
    assert_eq!(again["usage"]["costUsd"], 0.25, "{again}");
}

/// Lines without end and without number cost no memory, and the run's end is still read.
#[test]
fn memory_is_bounded() {
    let world = World::new();
    let script = format!(
        "echo '{INIT}'; printf '{{\"type\":\"user\",\"content\":\"'; yes SOURCE | head -c 50000000 | tr -d '\\n'; echo '\"}}'
        yes '{}' | head -n 200000\n{}",
        gave_back("SOURCE"),
        printing(&[result(json!({}))])
    );
    let agent = world.agent(&script);
    world.fence();
    let before = if cfg!(target_os = "linux") {
        processes::status_kb(agent.pid(), "VmHWM")
    } else {
        0
    };
    let outcome = world.outcome_of("T-1");
    let after = if cfg!(target_os = "linux") {
        processes::status_kb(agent.pid(), "VmHWM")
    } else {
        0
    };
    assert_eq!(
        (&outcome["type"], &outcome["stdout"]),
        (&json!("ticket.result"), &json!("Done.")),
        "{outcome}"
    );
    assert!(
        outcome["warnings"].to_string().contains("1 lines"),
        "{outcome}"
    );
    eprintln!("memory: {} kB", after - before);
    assert!(
        after - before < 8192,
        "70 MB of output took {} kB of memory",
        after - before
    );
}

/// Arguments that cannot work stop the daemon at start with exit code 78 and a way out.
#[test]
fn arguments_that_cannot_work() {
    let world = World::new();
    let claude = world.path("claude");
    world.program(&claude, "echo ran");
    let launch = |args: &str| {
        world
            .launch("true")
            .env("CLI_COMMAND", &claude)
            .env("CLI_ARGS_TEMPLATE", args)
    };
    let ended = launch("--cwd {cwd} -p {prompt}").output();
    assert_eq!(ended.code, 78, "{ended:?}");
    assert!(
        ended.stderr.contains("CLI_ARGS_TEMPLATE: ") && !ended.stderr.contains("connected"),
        "{ended:?}"
    );
    let ended = launch("-p")
        .env("CLI_OFFLINE_ARGS_TEMPLATE", "--cwd {cwd} -p")
        .output();
    assert!(
        ended.code == 78 && ended.stderr.contains("CLI_OFFLINE_ARGS_TEMPLATE: "),
        "{ended:?}"
    );
    assert!(world.backend.requests().is_empty());
}

/// The version of a known CLI comes after the first register, in another; an unknown program is never asked for one.
#[test]
fn the_version_comes_later() {
    let world = World::new();
    let claude = world.path("claude");
    world.program(
        &claude,
        "[ \"$1\" = --version ] && { hold version; echo '2.1.197 (Claude Code)'; exit; }; echo ran",
    );
    let mut agent = world.launch("true").env("CLI_COMMAND", &claude).start();
    assert_eq!(
        world.backend.frame("agent.register")["cli"]["version"],
        Value::Null
    );
    // Nobody waits for it.
    assert_eq!(world.outcome_of("T-1")["stdout"], "ran\n");
    world.release("version");
    let register = world.backend.frame("agent.register");
    assert_eq!(register["cli"]["version"], "2.1.197", "{register}");
    assert_eq!(register["roles"], json!(["dev", "qa"]));
    assert_eq!(agent.terminate().code(), Some(0));

    let mut agent = world.agent("[ \"$1\" = --version ] && tell asked; echo ran");
    assert_eq!(world.outcome_of("T-2")["stdout"], "ran\n");
    assert_eq!(agent.terminate().code(), Some(0));
    assert!(!world.has_told("asked"));
}

/// A CLI that is still being asked for its version does not hold up the daemon's end, and does not outlive it.
#[test]
fn a_version_that_never_comes() {
    let world = World::new();
    let claude = world.path("claude");
    world.program(&claude, "tell asked; hold never");
    let mut agent = world.registered(world.launch("true").env("CLI_COMMAND", &claude));
    world.told("asked");
    assert_eq!(agent.terminate().code(), Some(0));
    let left = world.processes(&agent);
    assert!(left.is_empty(), "still running: {left:?}");
}

/// A CLI that the system cannot start is explained.
#[test]
fn a_cli_that_cannot_be_started() {
    let world = World::new();
    let cli = world.path("fake-cli");
    let _agent = world.agent("true");
    let replace = |content: &[u8]| {
        fs::write(&cli, content).unwrap();
    };
    // A program for another machine: the right magic number, and nothing that fits.
    replace(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xff\xff");
    let fail = world.outcome_of("T-1");
    assert_eq!(fail["code"], "spawn_failed", "{fail}");
    assert!(
        fail["error"]
            .as_str()
            .unwrap()
            .contains("no program for this system"),
        "{fail}"
    );
    replace(b"#!/no/such/interpreter\n");
    let fail = world.outcome_of("T-2");
    assert_eq!(fail["code"], "spawn_failed", "{fail}");
    assert!(
        fail["error"].as_str().unwrap().contains("interpreter"),
        "{fail}"
    );
}
