//! The run of the CLI: its limits, its end, its tree of processes, its output.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::backend::is_outcome;
#[cfg(target_os = "linux")]
use crate::support::eventually;
use crate::support::files::{self, Kind};
use crate::support::processes;
use crate::support::world::{World, ticket_with};

/// A process that ignores every polite signal, and has a child that does too.
const STUBBORN: &str = "
trap '' TERM INT HUP
( trap '' TERM INT HUP; tell grandchild; hold never ) &
tell child
hold never
wait";

/// Fails if anything that the agent started is alive. Only Linux shows it.
fn assert_nothing_left(world: &World, agent: &Agent) {
    let left = world.processes(agent);
    assert!(left.is_empty(), "still running: {left:?}");
}

/// A CLI that ignores TERM, with a grandchild that does too, is a timeout, and none of them is left, within the
/// limit, the grace and two seconds.
#[test]
fn a_stubborn_tree_is_ended_at_the_limit() {
    let world = World::new();
    let script = format!("echo partial; echo changed >> README.md\n{STUBBORN}");
    let agent = world.registered(world.launch(&script).env("TICKET_TIMEOUT_DEV_SECONDS", "1"));
    world.assign("T-1");
    let (claimed, _) = world.backend.timed_frame("ticket.claim", |_| true);
    world.told("grandchild");
    world.told("child");
    let (failed, fail) = world.backend.timed_frame("ticket.fail", |_| true);
    assert_nothing_left(&world, &agent);
    assert!(
        failed - claimed < Duration::from_secs(1 + 1 + 2),
        "{:?}",
        failed - claimed
    );
    assert_eq!(fail["code"], "timeout", "{fail}");
    assert_eq!(fail["error"], "timeout");
    assert_eq!(fail["retryable"], false);
    assert_eq!(fail["exitCode"], Value::Null);
    assert_eq!(fail["signal"], 9);
    assert_eq!(fail["stdout"], "partial\n");
    assert!(
        fail["diff"]
            .as_str()
            .is_some_and(|diff| diff.contains("+changed")),
        "{fail}"
    );
}

/// A CLI that ends well when it is told to end has timed out all the same.
#[test]
fn a_polite_end_at_the_limit_is_a_timeout() {
    let world = World::new();
    let script = "trap 'echo bye; exit 0' TERM; tell up; hold never & wait";
    let agent = world.registered(world.launch(script).env("TICKET_TIMEOUT_DEV_SECONDS", "1"));
    let fail = world.outcome_of("T-1");
    assert_eq!(fail["code"], "timeout", "{fail}");
    assert_eq!(fail["error"], "timeout");
    assert_eq!(fail["stdout"], "bye\n", "TERM comes before KILL");
    assert_nothing_left(&world, &agent);
}

/// A ticket's own limit may shorten the role's.
#[test]
fn a_ticket_may_shorten_the_limit() {
    let world = World::new();
    let _agent = world.agent("hold never");
    let fail = world.outcome_with("T-1", json!({"timeoutSeconds": 1}));
    assert_eq!(fail["code"], "timeout", "{fail}");
}

/// A ticket's own limit may not lengthen the role's.
#[test]
fn a_ticket_may_not_lengthen_the_limit() {
    let world = World::new();
    let _agent = world.registered(
        world
            .launch("hold never")
            .env("TICKET_TIMEOUT_QA_SECONDS", "1"),
    );
    let fail = world.outcome_with("T-1", json!({"timeoutSeconds": 100_000, "role": "qa"}));
    assert_eq!(fail["code"], "timeout", "{fail}");
}

/// A child in the background that holds the pipes does not hold up the result, and is gone when it comes.
#[test]
fn a_background_child_does_not_hang_the_run() {
    let world = World::new();
    let script = "( trap '' TERM HUP; tell background; hold never ) & echo done";
    let agent = world.agent(script);
    let result = world.outcome_of("T-1");
    assert_eq!(result["type"], "ticket.result", "{result}");
    assert_eq!(result["stdout"], "done\n");
    assert_nothing_left(&world, &agent);
    assert_eq!(world.outcome_of("T-2")["type"], "ticket.result");
}

/// If the parent ignored SIGCHLD, the system itself reaps the daemon's children. How they ended is unknown then, but
/// the daemon lives on.
#[cfg(unix)]
#[test]
fn a_daemon_lives_with_a_sigchld_that_its_parent_ignored() {
    // Not every /bin/sh hands an ignored SIGCHLD on.
    let ignored = r#"exec bash -c 'trap "" CHLD; exec "$0" "$@"' "$0" "$@""#;
    let world = World::new();
    let mut agent = world.registered(world.launch("echo done").after(ignored));
    for id in ["T-1", "T-2"] {
        let fail = world.outcome_of(id);
        assert_eq!(fail["stdout"], "done\n", "{fail}");
        assert_eq!(fail["type"], "ticket.fail", "{fail}");
        assert_eq!(fail["exitCode"], Value::Null, "{fail}");
    }
    assert!(agent.is_running());
    #[cfg(feature = "tools")]
    {
        let doctor = world.launch("echo done").after(ignored).arg("doctor");
        let ended = doctor.output();
        assert!(ended.stdout.contains("git"), "{ended:?}");
    }
}

/// A grandchild in a session of its own is gone too, after an ordinary end and after a timeout.
#[cfg(target_os = "linux")]
#[test]
fn a_grandchild_in_its_own_session_is_gone_too() {
    for (last, expected) in [("exit 0", "ticket.result"), ("hold never", "ticket.fail")] {
        let world = World::new();
        let escape = r#"setsid sh -c 'trap "" TERM HUP; echo away > "$WORLD/told"; read -r _ < "$WORLD/hold-never"'"#;
        let script = format!("mkfifo \"$WORLD/hold-never\"; {escape} & hold escaped; {last}");
        let agent = world.registered(world.launch(&script).env("TICKET_TIMEOUT_DEV_SECONDS", "2"));
        world.assign("T-1");
        world.told("away");
        world.release("escaped");
        assert_eq!(world.backend.outcome("T-1")["type"], expected);
        assert_nothing_left(&world, &agent);
    }
}

/// A non-zero exit is `cli_exit` with that code and no signal; the CLI's own error is the end of stderr.
#[test]
fn an_exit_code_is_told() {
    let world = World::new();
    let _agent = world.agent("echo out; echo first >&2; echo 'the real reason' >&2; exit 137");
    let fail = world.outcome_of("T-1");
    assert_eq!(fail["type"], "ticket.fail");
    assert_eq!(fail["code"], "cli_exit", "{fail}");
    assert_eq!(fail["retryable"], false);
    assert_eq!(fail["exitCode"], 137);
    assert_eq!(fail["signal"], Value::Null);
    assert_eq!(fail["stdout"], "out\n");
    let error = fail["error"].as_str().unwrap();
    assert!(
        error.ends_with("the real reason") && !error.contains('\n'),
        "{error:?}"
    );
}

/// A signal is told from an exit code.
#[test]
fn a_signal_is_told_from_an_exit_code() {
    let world = World::new();
    let _agent = world.agent("kill -9 $$");
    let fail = world.outcome_of("T-1");
    assert_eq!(fail["code"], "cli_exit", "{fail}");
    assert_eq!(fail["exitCode"], Value::Null);
    assert_eq!(fail["signal"], 9);
    assert!(!fail["error"].as_str().unwrap().is_empty());
}

/// Where stderr is empty, the CLI's own error is the end of stdout.
#[test]
fn an_error_can_be_on_stdout() {
    let world = World::new();
    let _agent = world.agent("echo 'Not logged in'; exit 1");
    let fail = world.outcome_of("T-1");
    assert_eq!(fail["exitCode"], 1);
    assert!(
        fail["error"].as_str().unwrap().ends_with("Not logged in"),
        "{fail}"
    );
}

/// A failed run sends what it changed and every known field of a result.
#[test]
fn a_failed_run_sends_what_is_known() {
    let world = World::new();
    let _agent = world.agent("echo new > new.txt; exit 3");
    let fail = world.outcome_of("T-1");
    assert!(
        fail["diff"].as_str().unwrap().contains("+++ b/new.txt"),
        "{fail}"
    );
    for field in [
        "stdoutTruncated",
        "diffTruncated",
        "diffStat",
        "baseCommit",
        "headCommit",
        "startedAt",
        "finishedAt",
    ] {
        assert!(
            fail.get(field).is_some_and(|value| !value.is_null()),
            "{field} is missing: {fail}"
        );
    }
    assert!(
        fail["durationMs"].is_u64() && fail["warnings"].is_array(),
        "{fail}"
    );
}

/// A CLI that is not there, or cannot be executed, is `cli_not_found`, and one that came back is used.
#[test]
fn a_missing_cli_is_told() {
    let world = World::new();
    let _agent = world.agent("echo ran");
    let cli = world.path("fake-cli");
    fs::rename(&cli, world.path("away")).unwrap();
    let fail = world.outcome_of("T-1");
    assert_eq!(fail["code"], "cli_not_found", "{fail}");
    assert_eq!(fail["retryable"], true);
    assert_eq!(fail["exitCode"], Value::Null);
    fs::write(&cli, "not executable").unwrap();
    assert_eq!(world.outcome_of("T-2")["code"], "cli_not_found");
    fs::rename(world.path("away"), &cli).unwrap();
    assert_eq!(world.outcome_of("T-3")["stdout"], "ran\n");
}

/// A CLI that is not on PATH is told with the PATH that was searched.
#[test]
fn the_searched_path_is_told() {
    let world = World::new();
    let path = format!("{}:/usr/bin:/bin", world.path("bin").display());
    let launch = world
        .launch("true")
        .env("CLI_COMMAND", "no-such-cli-anywhere")
        .env("PATH", &path);
    let _agent = world.registered(launch);
    let fail = world.outcome_of("T-1");
    assert_eq!(fail["code"], "cli_not_found", "{fail}");
    let error = fail["error"].as_str().unwrap();
    assert!(
        error.contains("no-such-cli-anywhere") && error.contains(&path),
        "{error}"
    );
}

/// A program of that name in the repository is not the CLI.
#[test]
fn the_cli_is_never_taken_from_the_repository() {
    let world = World::new();
    world.program(&world.repo().join("own-cli"), "tell trapped");
    let path = format!("{}::.:", std::env::var("PATH").unwrap());
    let _agent = world.registered(
        world
            .launch("true")
            .env("CLI_COMMAND", "own-cli")
            .env("PATH", path),
    );
    assert_eq!(world.outcome_of("T-1")["code"], "cli_not_found");
    assert!(!world.has_told("trapped"));
}

/// Much output is sent as its first quarter and its last three around a line that counts what is missing; the
/// whole is on disk.
#[test]
fn much_output_is_bounded_and_kept_whole() {
    const MAX: usize = 65_536;
    const LINES: usize = 1_250_000;
    let world = World::new();
    let script = format!("echo BEGIN; yes 0123456789abcde | head -n {LINES}; echo END");
    let launch = world
        .launch(&script)
        .env("MAX_STDOUT_BYTES", MAX.to_string());
    let agent = world.registered(launch);
    assert_eq!(
        world.outcome_with("T-0", json!({"role": "nobody"}))["code"],
        "role_not_allowed"
    );
    let before = if cfg!(target_os = "linux") {
        processes::status_kb(agent.pid(), "VmHWM")
    } else {
        0
    };
    let result = world.outcome_of("T-1");
    let after = if cfg!(target_os = "linux") {
        processes::status_kb(agent.pid(), "VmHWM")
    } else {
        0
    };
    let total = LINES * 16 + "BEGIN\nEND\n".len();
    assert_eq!(result["type"], "ticket.result", "{}", result["error"]);
    assert_eq!(result["stdoutTruncated"], true);
    let stdout = result["stdout"].as_str().unwrap();
    assert!(
        stdout.starts_with("BEGIN\n0123456789abcde\n")
            && stdout.ends_with("0123456789abcde\nEND\n")
    );
    assert!(
        stdout.len() >= MAX && stdout.len() <= MAX + 200,
        "{}",
        stdout.len()
    );
    // The one line with a word in it that the CLI never printed.
    let own = |line: &&str| !["BEGIN", "END"].contains(line) && !"0123456789abcde".ends_with(*line);
    let gap: Vec<_> = stdout
        .lines()
        .filter(|line| !"0123456789abcde".starts_with(line))
        .filter(own)
        .collect();
    assert_eq!(gap.len(), 1, "{gap:?}");
    let number: String = gap[0].chars().filter(char::is_ascii_digit).collect();
    let at = stdout.find(gap[0]).unwrap();
    assert!(
        (MAX / 4 - 1..=MAX / 4 + 1).contains(&at),
        "the gap is at {at}"
    );
    let around = stdout.len() - gap[0].len();
    let omitted: usize = number.parse().unwrap();
    assert!(
        (total - around..=total - around + 2).contains(&omitted),
        "{omitted} of {total} left out, {around} sent"
    );

    let kept: Vec<_> = files::everything(&world.state())
        .into_iter()
        .filter_map(|(path, entry)| match entry.kind {
            Kind::File(content) => Some((path, content.len())),
            _ => None,
        })
        .collect();
    assert!(
        kept.iter().any(|(_, size)| *size == total),
        "the whole output is not on disk: {kept:?}"
    );
    assert!(
        after - before < 8192,
        "20 MB of output took {} kB of memory",
        after - before
    );
}

/// Output within the limit is sent whole and not marked as cut.
#[test]
fn output_at_the_limit_is_whole() {
    let world = World::new();
    let script = "head -c \"$(cat count)\" /dev/zero | tr '\\0' x";
    let _agent = world.registered(world.launch(script).env("MAX_STDOUT_BYTES", "2048"));
    for (count, cut) in [(2048, false), (2049, true)] {
        fs::write(world.repo().join("count"), count.to_string()).unwrap();
        let result = world.outcome_of(&format!("T-{count}"));
        assert_eq!(result["stdoutTruncated"], cut, "{count}");
        assert_eq!(
            result["stdout"].as_str().unwrap() == "x".repeat(count),
            !cut,
            "{count}"
        );
    }
}

/// No frame is larger than 4.5 MiB as encoded, however much escaping makes of the output.
#[test]
fn no_frame_is_larger_than_allowed() {
    let world = World::new();
    let script = "head -c 4000000 /dev/zero | tr '\\0' '\\001'; head -c 3000000 /dev/zero | tr '\\0' '\\002' > big.txt";
    let launch = world
        .launch(script)
        .env("MAX_STDOUT_BYTES", "4194304")
        .env("MAX_DIFF_BYTES", "4194304");
    let _agent = world.registered(launch);
    let result = world.outcome_of("T-1");
    assert_eq!(result["type"], "ticket.result", "{}", result["error"]);
    assert!(
        world.backend.largest_frame() <= (9 << 20) / 2,
        "{}",
        world.backend.largest_frame()
    );
    assert_eq!(result["diff"], Value::Null, "the diff is left out first");
    assert_eq!(result["diffTruncated"], true);
    assert_eq!(result["stdoutTruncated"], true);
    assert!(result["stdout"].as_str().unwrap().len() > 100_000);
}

/// Bytes that are not UTF-8 are replaced.
#[test]
fn output_that_is_not_utf8_is_replaced() {
    let world = World::new();
    let _agent = world.agent(r"printf 'a\377b\303\n'");
    assert_eq!(world.outcome_of("T-1")["stdout"], "a\u{fffd}b\u{fffd}\n");
}

/// A CLI that closes its output early is still waited for.
#[test]
fn a_cli_that_closes_its_output_is_waited_for() {
    let world = World::new();
    let _agent =
        world.agent("echo first; exec >&- 2>&-; tell closed; hold finish; echo late > late.txt");
    world.assign("T-1");
    world.told("closed");
    world.fence();
    assert!(
        !world
            .backend
            .frames()
            .iter()
            .any(|frame| is_outcome(frame) && frame["ticketId"] == "T-1")
    );
    world.release("finish");
    let result = world.backend.outcome("T-1");
    assert_eq!(result["stdout"], "first\n");
    assert!(
        result["diff"].as_str().unwrap().contains("late.txt"),
        "{result}"
    );
}

/// A CLI that does not read a large prompt does no harm.
#[test]
fn a_prompt_need_not_be_read() {
    let world = World::new();
    let _agent = world.agent("echo ran");
    let result = world.outcome_with("T-1", json!({"description": "x".repeat(3_000_000)}));
    assert_eq!(result["stdout"], "ran\n", "{result}");
}

/// The CLI has a process group of its own, so that what ends it does not end the agent.
#[cfg(target_os = "linux")]
#[test]
fn the_cli_has_its_own_process_group() {
    let world = World::new();
    let agent = world.agent("kill -TERM 0; hold never");
    let fail = world.outcome_of("T-1");
    assert_eq!(
        (fail["code"].as_str(), fail["signal"].as_i64()),
        (Some("cli_exit"), Some(15)),
        "{fail}"
    );
    world.fence();
    assert_nothing_left(&world, &agent);
}

/// A long run reports: numbered, with what is new of its output, at most once per period.
#[test]
fn a_long_run_reports_its_progress() {
    let world = World::new();
    let script = "echo one; echo two; hold more; printf 'three\\nhalf'; tell printed; hold end";
    let _agent = world.registered(world.launch(script).env("PROGRESS_SECONDS", "1"));
    world
        .backend
        .send(&ticket_with("T-1", json!({"attempt": 4})));
    let first = world.backend.frame("ticket.progress");
    assert_eq!(
        (first["ticketId"].as_str(), first["attempt"].as_u64()),
        (Some("T-1"), Some(4))
    );
    assert_eq!(first["seq"], 1);
    assert_eq!(first["phase"], "running");
    assert_eq!(first["lines"], json!(["one", "two"]));
    assert_eq!(first["stdoutBytes"], 8);
    assert!(first["elapsedMs"].as_u64().unwrap() >= 1000, "{first}");
    world.release("more");
    world.told("printed");
    let mut lines = Vec::new();
    let mut last = first;
    while lines.is_empty() {
        let next = world.backend.frame("ticket.progress");
        assert_eq!(
            next["seq"].as_u64(),
            last["seq"].as_u64().map(|seq| seq + 1)
        );
        let apart = next["elapsedMs"].as_u64().unwrap() - last["elapsedMs"].as_u64().unwrap();
        assert!(apart >= 1000, "{apart} ms apart");
        lines.extend(next["lines"].as_array().unwrap().clone());
        last = next;
    }
    assert_eq!(lines, ["three"]);
    assert_eq!(last["stdoutBytes"], 18);
    world.release("end");
    assert_eq!(
        world.backend.outcome("T-1")["stdout"],
        "one\ntwo\nthree\nhalf"
    );
}

/// The lines of one report are at most 16 KiB, and none where they are not wanted.
#[test]
fn the_lines_of_a_report_are_bounded() {
    for (wanted, least, most) in [("1", 8 << 10, 16 << 10), ("0", 0, 0)] {
        let world = World::new();
        let script = "yes 0123456789abcde | head -n 10000; tell printed; hold end";
        let launch = world
            .launch(script)
            .env("PROGRESS_SECONDS", "1")
            .env("PROGRESS_LINES", wanted);
        let _agent = world.registered(launch);
        world.assign("T-1");
        world.told("printed");
        let report = world.backend.frame("ticket.progress");
        let lines = report["lines"].as_array().unwrap();
        let bytes: usize = lines.iter().map(|line| line.as_str().unwrap().len()).sum();
        assert!((least..=most).contains(&bytes), "{bytes} bytes of lines");
        assert_eq!(report["stdoutBytes"], 160_000);
        world.release("end");
        world.backend.outcome("T-1");
    }
}

/// A run that is shorter than the period reports nothing.
#[test]
fn a_short_run_reports_nothing() {
    let world = World::new();
    let _agent = world.agent("echo quick");
    world.outcome_of("T-1");
    let kinds: Vec<_> = world
        .backend
        .frames_of("T-1")
        .into_iter()
        .map(|frame| frame["type"].clone())
        .collect();
    assert_eq!(kinds, ["ticket.claim", "ticket.result"]);
}

/// A daemon within a run has runs of its own, and the end of the outer run is the end of those too.
#[cfg(target_os = "linux")]
#[test]
fn a_nested_run_ends_with_the_outer_one() {
    let world = World::new();
    let launch = world
        .launch("setsid sleep 1000 & tell up; hold never")
        .env("WF0_RUN_ID", "outer");
    let agent = world.registered(launch);
    world.assign("T-1");
    world.told("up");
    let marks = || {
        let marks = world.processes(&agent).into_iter().filter_map(|(pid, _)| {
            let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
            let environment = String::from_utf8_lossy(&environment).into_owned();
            environment
                .split('\0')
                .find_map(|variable| variable.strip_prefix("WF0_RUN_ID=").map(str::to_owned))
        });
        marks.collect::<Vec<_>>()
    };
    // One that has been forked for git, and is not yet git, shows the daemon's own environment.
    eventually("every process to have its mark", || {
        let marks = marks();
        (!marks.is_empty() && marks.iter().all(|mark| mark.starts_with("outer,"))).then_some(())
    });
    world
        .backend
        .send(&serde_json::json!({"type": "ticket.cancel", "ticketId": "T-1"}));
    world.backend.outcome("T-1");
    assert!(world.processes(&agent).is_empty());
}

/// A stop that comes while only a leftover of the run is being ended does not undo the run's result.
#[test]
fn a_late_stop_does_not_undo_a_result() {
    let world = World::new();
    // The run ends only once the leftover would hear of it.
    let script = "echo x > new.txt
        ( trap 'tell told' TERM; tell up; : > \"$WORLD/ready\"; while :; do sleep 0.05; done ) > /dev/null 2>&1 &
        until [ -e \"$WORLD/ready\" ]; do sleep 0.01; done; echo done";
    let mut agent = world.registered(world.launch(script).env("KILL_GRACE_SECONDS", "2"));
    world.assign("T-1");
    world.told("up");
    world.told("told");
    agent.signal(nix::sys::signal::Signal::SIGTERM);
    let result = world.backend.outcome("T-1");
    assert_eq!(result["type"], "ticket.result", "{result}");
    assert!(
        result["diff"]
            .as_str()
            .is_some_and(|diff| diff.contains("new.txt")),
        "{result}"
    );
    assert_eq!(agent.exit_code(), 0);
}
