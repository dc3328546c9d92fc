//! The `hub` dialect: the backend as it ships today, with all that it breaks from.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::Message;

use crate::quota::used_up_for;
use crate::support::agent::TOKEN;
use crate::support::backend::{Upgrade, What};
use crate::support::files;
use crate::support::hub::{ENDPOINT, Hub, errand, job, prd};
use crate::support::world::{SLUG, World};

const COUNT: &str = "echo $WF0_TICKET_ID >> \"$WORLD/runs\"";

fn types(frames: &[Value]) -> Vec<&str> {
    frames
        .iter()
        .map(|frame| frame["type"].as_str().unwrap())
        .collect()
}

fn wait_for_ping(hub: &Hub) {
    hub.world.backend.wait_for("a Ping", |seen| {
        matches!(seen.what, What::Ping).then_some(())
    });
}

/// The stand-in for the hub is as strict as the hub: a frame that kills the hub kills it too, and a frame that
/// confuses the hub fails the test.
#[test]
fn the_stand_in_is_strict() {
    let auth = json!({"type": "auth", "token": TOKEN});
    let large = json!({"type": "job_progress", "jobId": "J-1", "message": "x".repeat(5 << 20)});
    let ack = json!({"type": "job_ack", "jobId": "J-1"});
    let result = |status: &str, data: Value| json!({"type": "job_result", "jobId": "J-1", "status": status, "data": data});
    let done = result("done", json!({}));
    let failed = result("failed", json!({"error": "no"}));
    let progress = |percent: u32| json!({"type": "job_progress", "jobId": "J-1", "message": "", "percent": percent, "logs": []});
    for (frames, complaint) in [
        (vec![&auth, &large], "died of a frame of"),
        (
            vec![&auth, &json!({"type": "job_ack", "jobId": "J-2"})],
            "died of an acknowledgement of an unknown job",
        ),
        (
            vec![&auth, &json!({"type": "register", "repos": null})],
            "died of a register without repos",
        ),
        (
            vec![&json!({"type": "register", "repos": []})],
            "before auth",
        ),
        (
            vec![&auth, &ack, &done, &ack],
            "acknowledged after its result",
        ),
        (vec![&auth, &ack, &done, &done], "a second result"),
        (
            vec![&auth, &ack, &done, &failed],
            "failed, after it was done",
        ),
        (
            vec![&auth, &ack, &result("failed", json!({}))],
            "cannot be stored",
        ),
        (
            vec![&auth, &ack, &result("done", Value::Null)],
            "cannot be stored",
        ),
        (
            vec![&auth, &ack, &progress(20), &progress(19)],
            "progress that falls",
        ),
        (
            vec![&auth, &json!({"type": "ping", "token": TOKEN})],
            "the token",
        ),
    ] {
        let hub = Hub::new();
        hub.world.backend.peer_is_no_agent();
        let url = format!("ws://127.0.0.1:{}{ENDPOINT}", hub.world.backend.port());
        let (mut agent, _) = tungstenite::connect(url).unwrap();
        hub.offer(errand("J-1"));
        for frame in &frames {
            agent.send(Message::text(frame.to_string())).unwrap();
        }
        let mut seen = 0;
        hub.world.backend.wait_for("the last frame", |event| {
            seen += usize::from(matches!(event.what, What::Frame(_)));
            (seen == frames.len()).then_some(())
        });
        let complaints = hub.complaints();
        assert!(
            complaints.iter().any(|own| own.contains(complaint)),
            "{complaint}: {complaints:?}"
        );
    }
}

/// A job from start to end: token, register, job, acknowledgement, progress, result with all that is known, and
/// register again, so that the hub hands out the next.
#[test]
fn a_job_from_start_to_end() {
    let hub = Hub::new();
    let script = "echo working; echo changed >> README.md; tell up; hold end; echo done";
    let _agent = hub.registered(hub.launch(script).env("PROGRESS_SECONDS", "1"));
    hub.offer(errand("J-1"));
    hub.world.told("up");
    let progress = hub.world.backend.frame("job_progress");
    assert_eq!(
        (&progress["jobId"], &progress["logs"]),
        (&json!("J-1"), &json!(["working"])),
        "{progress}"
    );
    hub.world.backend.frame_where("job_progress", |later| {
        later["percent"].as_u64() >= progress["percent"].as_u64()
    });
    hub.world.release("end");
    let result = hub.result_of("J-1");
    hub.world.backend.frame("register");

    assert_eq!(result["status"], "done");
    let data = result["data"].as_object().unwrap();
    let wanted = [
        "exitCode",
        "stdout",
        "stdoutTruncated",
        "diff",
        "diffTruncated",
        "diffStat",
        "baseCommit",
        "headCommit",
        "startedAt",
        "finishedAt",
        "durationMs",
        "warnings",
    ];
    assert_eq!(
        data.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        BTreeSet::from(wanted),
        "{result}"
    );
    assert_eq!(
        (&data["exitCode"], &data["stdout"]),
        (&json!(0), &json!("working\ndone\n")),
        "{result}"
    );
    assert!(
        data["diff"]
            .as_str()
            .is_some_and(|diff| diff.contains("+changed")),
        "{result}"
    );

    let frames = hub.world.backend.frames();
    let mut order = types(&frames);
    order.dedup();
    assert_eq!(
        order,
        [
            "auth",
            "register",
            "job_ack",
            "job_progress",
            "job_result",
            "register"
        ]
    );
    assert_eq!(frames[0], json!({"type": "auth", "token": TOKEN}));
}

/// A failed run is `failed`. `data.error`, the only field that the hub stores, has the CLI's own words; the other known
/// fields are there too.
#[test]
fn a_failed_job_says_why() {
    let hub = Hub::new();
    let _agent = hub.agent("echo partial; echo 'no such module' >&2; exit 3");
    let result = hub.run(errand("J-1"));
    assert_eq!(result["status"], "failed");
    let data = &result["data"];
    assert_eq!(
        (&data["error"], &data["code"]),
        (&json!("no such module"), &json!("cli_exit")),
        "{result}"
    );
    assert_eq!(
        (&data["exitCode"], &data["stdout"]),
        (&json!(3), &json!("partial\n")),
        "{result}"
    );
}

/// Register names the slugs of the repositories that have one, and the tools that are there, without starting them.
#[test]
fn register_names_repositories_and_tools() {
    let hub = Hub::new();
    let plain = hub.world.make_repo("plain");
    let other = hub.world.make_repo("other");
    hub.world.git(
        &other,
        &[
            "remote",
            "add",
            "origin",
            "https://host.example/acme/other.git",
        ],
    );
    for tool in ["claude", "npm"] {
        hub.world.on_path(tool, "tell started");
    }
    let path = hub.world.on_path("gh", "tell started");
    let paths = format!(
        "{SLUG}={},{},{}",
        hub.world.repo().display(),
        plain.display(),
        other.display()
    );
    let _agent = hub
        .launch("true")
        .env("PATH", path)
        .env("REPO_PATHS", paths)
        .start();
    let register = hub.world.backend.frame("register");
    assert_eq!(register["repos"], json!([SLUG, "acme/other"]));
    let tools: BTreeSet<_> = register["capabilities"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool.as_str().unwrap())
        .collect();
    assert_eq!(
        tools,
        BTreeSet::from(["claude", "fake-cli", "gh", "git", "npm"])
    );
    hub.fence();
    assert!(
        !hub.world.has_told("started"),
        "a tool was started to see whether it is there"
    );
}

/// The token is in the first frame of a connection and nowhere else, at any width of the log.
#[test]
fn the_token_is_in_one_frame_only() {
    let hub = Hub::new();
    let script = "env > \"$WORLD/cli-env\"; cat > \"$WORLD/cli-stdin\"; echo done";
    let mut agent = hub.registered(hub.launch(script).env("LOG_LEVEL", "trace"));
    hub.run(errand("J-1"));
    hub.world.backend.send_text("{not json");
    hub.fence();
    hub.world.backend.cut();
    hub.world.backend.frame("register");
    hub.fence();
    hub.refuse_next("Invalid or revoked token", "auth_failed");
    hub.world.backend.cut();
    assert_eq!(agent.exit_code(), 77);

    let log = agent.log();
    assert!(
        log.contains("DEBUG") && log.contains("job_ack"),
        "the log is at its widest:\n{log}"
    );
    assert!(!log.contains(TOKEN), "the log holds the token");
    let requests = hub.world.backend.requests();
    assert!(
        requests
            .iter()
            .all(|request| !format!("{request:?}").contains(TOKEN)),
        "{requests:?}"
    );
    assert!(
        requests
            .iter()
            .all(|request| !request.headers.contains_key("authorization")),
        "{requests:?}"
    );
    let frames = hub.world.backend.frames();
    let (with, without): (Vec<_>, Vec<_>) = frames
        .into_iter()
        .partition(|frame| frame.to_string().contains(TOKEN));
    assert_eq!(types(&with), ["auth"; 3]);
    assert!(without.len() > 5, "{without:#?}");
    for name in ["cli-env", "cli-stdin"] {
        assert!(
            !hub.world.read(name).contains(TOKEN),
            "{name} holds the token"
        );
    }
    assert_eq!(files::holding(&hub.world.state(), TOKEN.as_bytes()), None);
}

/// A token that the hub calls wrong ends the daemon with exit code 77 and one line that says where to mint another.
#[test]
fn a_refused_token_ends_the_daemon() {
    for message in [
        "Invalid or revoked token",
        "Token revoked",
        "Authentication failed",
    ] {
        let hub = Hub::new();
        hub.refuse_next(message, "auth_failed");
        let ended = hub.launch("true").env("LOG_LEVEL", "warn").output();
        assert_eq!(ended.code, 77, "{message}: {ended:?}");
        assert_eq!(
            ended.stderr.trim_end().lines().count(),
            1,
            "{}",
            ended.stderr
        );
        assert!(
            ended.stderr.contains("token") && ended.stderr.contains("Settings"),
            "{}",
            ended.stderr
        );
        assert_eq!(hub.world.backend.requests().len(), 1);
    }
}

/// A token that is revoked while connected ends the daemon with exit code 77.
#[test]
fn a_revoked_token_ends_the_daemon() {
    let hub = Hub::new();
    let mut agent = hub.agent("true");
    hub.world
        .backend
        .send(&json!({"type": "auth_error", "message": "Token revoked"}));
    hub.world.backend.close(1008, "auth_failed");
    assert_eq!(agent.exit_code(), 77, "{}", agent.log());
    assert_eq!(hub.world.backend.connections(), 1);
}

/// A limit that is reached passes: the daemon tries again, later each time.
#[test]
fn a_limit_is_waited_out() {
    let hub = Hub::new();
    for (message, reason) in [
        ("Tenant agent limit reached", "tenant_limit"),
        ("Server is at its limit", "global_limit"),
    ] {
        hub.refuse_next(message, reason);
    }
    let mut agent = hub.registered(hub.launch("echo ran"));
    let seen = hub.world.backend.seen();
    let tries: Vec<_> = seen
        .iter()
        .filter(|seen| matches!(seen.what, What::Connected))
        .map(|seen| seen.at)
        .collect();
    assert_eq!(tries.len(), 3);
    for (pair, least) in tries.windows(2).zip([500, 1000]) {
        assert!(
            pair[1] - pair[0] >= Duration::from_millis(least),
            "{:?}",
            pair[1] - pair[0]
        );
    }
    assert!(agent.is_running());
    assert_eq!(hub.run(errand("J-1"))["status"], "done");
}

/// A hub that takes the token and never says anything is given up, and tried again.
#[test]
fn a_hub_that_does_not_answer_the_token_is_given_up() {
    let world = World::new();
    let mut agent = world
        .launch("true")
        .env("WORKFORCE0_PROTOCOL", "hub")
        .start();
    world.backend.frame("auth");
    world.backend.closed();
    world.backend.frame("auth");
    assert!(agent.is_running());
    assert!(
        world
            .backend
            .frames()
            .iter()
            .all(|frame| frame["type"] == "auth"),
        "{:?}",
        world.backend.frames()
    );
}

/// What the hub sends in one breath with its answer to the token is not lost.
#[test]
fn what_comes_with_the_answer_to_the_token_is_heard() {
    let world = World::new();
    let _agent = world
        .launch("true")
        .env("WORKFORCE0_PROTOCOL", "hub")
        .start();
    world.backend.frame("auth");
    let frames = [json!({"type": "auth_ok"}), job("J-1", "dance", json!({}))].map(|frame| {
        let text = frame.to_string();
        [&[0x81, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
    });
    world.backend.send_raw(&frames.concat());
    assert_eq!(world.backend.frame("register")["repos"], json!([SLUG]));
    assert_eq!(world.backend.frame("job_result")["jobId"], "J-1");
}

/// A job that is handed out again while it runs, or waits, is acknowledged again and runs once.
#[test]
fn a_running_job_that_comes_again_runs_once() {
    let hub = Hub::new();
    let _agent = hub.agent(&format!(
        "{COUNT}; tell up $WF0_TICKET_ID; hold $WF0_TICKET_ID"
    ));
    for id in ["J-1", "J-2"] {
        hub.offer(errand(id));
        hub.world.backend.frame("job_ack");
        hub.hand_out_again(id);
        assert_eq!(hub.world.backend.frame("job_ack")["jobId"], id);
    }
    for id in ["J-1", "J-2"] {
        hub.world.told(&format!("up {id}"));
        hub.world.release(id);
        hub.result_of(id);
    }
    hub.fence();
    assert_eq!(hub.world.read("runs"), "J-1\nJ-2\n");
    for id in ["J-1", "J-2"] {
        assert_eq!(hub.types_of(id), ["job_ack", "job_ack", "job_result"]);
    }
}

/// A job that has ended and is handed out again is not acknowledged, which would put it back to in progress, not
/// answered, which would start a second QA job, and not run; nor after a restart of the daemon.
#[test]
fn an_ended_job_that_comes_again_is_left_alone() {
    for end in ["true", "exit 4"] {
        let hub = Hub::new();
        let mut agent = hub.agent(&format!("{COUNT}; {end}"));
        hub.run(errand("J-1"));
        hub.fence();
        hub.hand_out_again("J-1");
        hub.fence();
        agent.crash();
        let _agent = hub.agent(COUNT);
        hub.hand_out_again("J-1");
        hub.fence();
        assert_eq!(hub.types_of("J-1"), ["job_ack", "job_result"]);
        assert_eq!(hub.world.read("runs"), "J-1\n");
    }
}

/// The hub restarts in the middle of a run: the run goes on, and its result arrives once, after token and register.
#[test]
fn a_restart_of_the_hub_is_outlived() {
    let hub = Hub::new();
    let _agent = hub.agent(&format!(
        "{COUNT}; tell up; hold end; echo finished; tell over"
    ));
    hub.offer(errand("J-1"));
    hub.world.told("up");
    hub.world.backend.next_upgrade(Upgrade::Drop);
    hub.world.backend.cut();
    hub.world.backend.refused();
    hub.world.release("end");
    hub.world.told("over");
    assert_eq!(hub.result_of("J-1")["data"]["stdout"], "finished\n");
    hub.fence();
    assert_eq!(
        types(&hub.world.backend.frames_on(2))[..2],
        ["auth", "register"]
    );
    assert_eq!(hub.types_of("J-1"), ["job_ack", "job_result"]);
    assert_eq!(hub.world.read("runs"), "J-1\n");
}

/// A result that neither a `job_complete` nor a Pong has proven is sent again on the next connection, after a restart
/// of the daemon too; one that either has proven is not.
#[test]
fn only_an_unproven_result_is_sent_again() {
    for (answered, ponged, crash) in [
        (false, false, false),
        (false, false, true),
        (true, false, false),
        (false, true, false),
        (true, false, true),
    ] {
        let hub = Hub::new();
        let mut agent = hub.agent("echo done");
        hub.answer_results(answered);
        if !ponged {
            hub.world.backend.ignore_pings();
        }
        let first = hub.run(errand("J-1"));
        if ponged {
            wait_for_ping(&hub);
        }
        hub.fence();
        hub.answer_results(true);
        let _agent = if crash {
            agent.crash();
            hub.agent("echo again")
        } else {
            hub.world.backend.cut();
            hub.world.backend.frame("register");
            agent
        };
        hub.fence();
        let sent: Vec<_> = hub
            .world
            .backend
            .frames()
            .into_iter()
            .filter(|frame| frame["jobId"] == "J-1" && frame["type"] == "job_result")
            .collect();
        let wanted = if answered || ponged { 1 } else { 2 };
        assert_eq!(
            sent,
            vec![first; wanted],
            "answered {answered}, ponged {ponged}, crash {crash}"
        );
    }
}

/// The hub hands out three at once, and more only when the agent registers: five jobs all get done.
#[test]
fn five_jobs_get_done_by_threes() {
    let hub = Hub::new();
    let names = ["one", "two", "three", "four", "five"];
    let paths = names
        .map(|name| format!("acme/{name}={}", hub.world.make_repo(name).display()))
        .join(",");
    let script = "tell up $WF0_TICKET_ID; hold $WF0_TICKET_ID";
    let launch = hub
        .launch(script)
        .env("REPO_PATHS", paths)
        .env("MAX_CONCURRENT_TICKETS", "5");
    let _agent = hub.registered(launch);
    let work = |name: &str| {
        job(
            name,
            "fix",
            json!({"targetRepo": format!("acme/{name}"), "prompt": "Do it."}),
        )
    };
    hub.offer_all(names.map(work));
    for name in &names[..3] {
        hub.world.told(&format!("up {name}"));
    }
    for name in names {
        hub.world.release(name);
        assert_eq!(hub.result_of(name)["status"], "done", "{name}");
    }
}

/// A job for QA names its repository by owner and name, or not at all: then it is refused, and says so.
#[test]
fn a_qa_job_may_name_its_repository_in_two_parts() {
    let hub = Hub::new();
    let _agent = hub.agent("true");
    let result = hub.run(job(
        "J-1",
        "run_tests",
        json!({"repoOwner": "acme", "repoName": "app", "prdId": "p"}),
    ));
    assert_eq!(result["status"], "done", "{result}");
    for (id, payload) in [
        ("J-2", json!({})),
        ("J-3", json!({"repoOwner": "acme"})),
        ("J-4", Value::Null),
    ] {
        let result = hub.run_anything(job(id, "run_tests", payload));
        assert_eq!(
            (&result["status"], &result["data"]["code"]),
            (&json!("failed"), &json!("repo_not_allowed"))
        );
        assert!(
            result["data"]["error"]
                .as_str()
                .is_some_and(|error| error.contains("no repository")),
            "{result}"
        );
        assert_eq!(
            hub.types_of(id),
            ["job_result"],
            "a refusal is not acknowledged"
        );
    }
}

/// What cannot be used is answered where it can be, and ends nothing.
#[test]
fn unusable_jobs_are_refused() {
    let hub = Hub::new();
    let mut agent = hub.agent("echo ran");
    for text in [
        "{not json",
        "",
        "null",
        "[]",
        "17",
        "{}",
        r#"{"type": 7}"#,
        r#"{"type": "job"}"#,
        r#"{"type": "job", "jobId": "", "action": "run_tests", "payload": {}}"#,
        r#"{"type": "job", "jobId": "../x", "action": "run_tests", "payload": {}}"#,
        r#"{"type": "job", "jobId": 3, "action": "run_tests", "payload": {}}"#,
        r#"{"type": "job_complete"}"#,
        r#"{"type": "job_complete", "jobId": "unknown"}"#,
        r#"{"type": "job_resume", "jobId": "J-1", "payload": {}}"#,
        r#"{"type": "teleport"}"#,
    ] {
        hub.world.backend.send_text(text);
    }
    let with = |fields: Value| {
        let mut job = prd("", "feature");
        fields
            .as_object()
            .unwrap()
            .iter()
            .for_each(|(name, value)| job["payload"][name] = value.clone());
        job
    };
    let mut jobs: Vec<_> = [
        "--mirror",
        "a..b",
        "-x",
        "refs/heads/../x",
        "",
        "a b",
        "a~1",
        "x.lock",
        "@{-1}",
        "a\nb",
    ]
    .map(|branch| with(json!({"branch": branch})))
    .into();
    jobs.extend([
        with(json!({"branch": null})),
        with(json!({"branch": 7})),
        with(json!({"prdContent": "x".repeat(512_001)})),
        with(json!({"prdContent": null})),
        job("", "implement_prd", Value::Null),
        job("", "implement_prd", json!("a text")),
        job(
            "",
            "review_pr",
            json!({"targetRepo": SLUG, "branch": "--mirror"}),
        ),
        job("", "dance", json!({"targetRepo": SLUG})),
        json!({"type": "job", "payload": {"targetRepo": SLUG, "prompt": "x"}}),
        json!({"type": "job", "action": "", "payload": {"targetRepo": SLUG, "prompt": "x"}}),
        json!({"type": "job", "action": null, "payload": {"targetRepo": SLUG, "prompt": "x"}}),
    ]);
    for (n, mut job) in jobs.into_iter().enumerate() {
        let id = format!("J-{n}");
        job["jobId"] = json!(id);
        let short: String = job.to_string().chars().take(200).collect();
        let result = hub.run_anything(job);
        assert_eq!(
            (&result["status"], &result["data"]["code"]),
            (&json!("failed"), &json!("invalid_ticket")),
            "{short}"
        );
        assert_eq!(hub.types_of(&id), ["job_result"], "{short}");
    }
    let largest = job(
        "J-last",
        "review_pr",
        json!({"targetRepo": SLUG, "prNumber": 3, "prdContent": "x".repeat(512_000)}),
    );
    assert_eq!(hub.run(largest)["data"]["stdout"], "ran\n");
    assert!(agent.is_running());
    assert_eq!(hub.world.backend.connections(), 1);
}

/// What the CLI is asked, by action.
#[test]
fn each_action_has_its_prompt() {
    let hub = Hub::new();
    let _agent = hub.agent("cat");
    let pull_request = json!({
        "targetRepo": SLUG, "branch": "feature/x", "prUrl": "https://host.example/acme/app/pull/7", "prNumber": 7,
        "prdContent": "It has to fly.", "taskId": "t", "ticketId": "i", "engagementId": "e",
    });
    let rows: [(&str, Value, &[&str]); 4] = [
        (
            "review_pr",
            pull_request,
            &[
                "qa",
                "Review",
                "#7",
                "https://host.example/acme/app/pull/7",
                "feature/x",
                "It has to fly.",
            ],
        ),
        (
            "run_tests",
            json!({"targetRepo": SLUG}),
            &["qa", "Run the tests"],
        ),
        (
            "tidy_up",
            json!({"targetRepo": SLUG, "prompt": "Sweep the floor."}),
            &["dev", "tidy_up", "Sweep the floor."],
        ),
        (
            "tidy_up",
            json!({"targetRepo": SLUG, "prompt": "--help", "title": "--version"}),
            &["dev", "# Ticket J-3: version", "--help"],
        ),
    ];
    for (n, (action, payload, wanted)) in rows.into_iter().enumerate() {
        let result = hub.run(job(&format!("J-{n}"), action, payload));
        let prompt = result["data"]["stdout"]
            .as_str()
            .unwrap_or_else(|| panic!("{result}"));
        assert!(prompt.starts_with(&format!("# Ticket J-{n}")), "{prompt}");
        for words in wanted {
            assert!(
                prompt.contains(words),
                "{action}: no {words:?} in:\n{prompt}"
            );
        }
    }
}

/// While the CLI's quota is used up the agent registers no repository, so that the hub hands out nothing.
#[test]
fn without_a_quota_there_are_no_repositories() {
    let hub = Hub::new();
    let (script, _) = used_up_for(3);
    let _agent = hub.agent(&script);
    hub.offer(errand("J-1"));
    let downgrade = hub.world.backend.frame("register");
    assert_eq!(downgrade["repos"], json!([]), "{downgrade}");
    assert_eq!(hub.result_of("J-1")["data"]["code"], "quota_exceeded");
    hub.world
        .backend
        .frame_where("register", |register| register["repos"] == json!([]));
    hub.offer(errand("J-2"));
    let back = hub.world.backend.frame("register");
    assert_eq!(back["repos"], json!([SLUG]), "{back}");
    assert_eq!(hub.result_of("J-2")["status"], "done");
}

/// An agent without its CLI registers no repository.
#[test]
fn without_its_cli_there_are_no_repositories() {
    let hub = Hub::new();
    let _agent = hub
        .launch("true")
        .env("CLI_COMMAND", hub.world.path("missing"))
        .start();
    assert_eq!(hub.world.backend.frame("register")["repos"], json!([]));
}

/// After `server_shutdown` the runs go on, and the agent comes back after the time that was named.
#[test]
fn a_server_shutdown_is_followed_by_a_reconnect() {
    let hub = Hub::new();
    let _agent = hub.agent("tell up; hold end; echo finished");
    hub.offer(errand("J-1"));
    hub.world.told("up");
    hub.world
        .backend
        .send(&json!({"type": "server_shutdown", "reconnectAfter": 2}));
    let closed = hub.world.backend.wait_for("the goodbye", |seen| {
        matches!(seen.what, What::Closed(_)).then_some(seen.at)
    });
    let (back, _) = hub.world.backend.timed_frame("auth", |_| true);
    // The agent counts from the frame, which it had a little before its goodbye was seen here.
    assert!(
        back - closed >= Duration::from_millis(1500),
        "{:?}",
        back - closed
    );
    hub.world.release("end");
    assert_eq!(hub.result_of("J-1")["data"]["stdout"], "finished\n");
}

/// The hub's own heartbeat, ten seconds after the connection, is a `ping` frame.
#[test]
fn a_heartbeat_is_a_ping_frame() {
    let hub = Hub::new();
    let _agent = hub.agent("true");
    let ping = hub.world.backend.frame("ping");
    assert_eq!(ping, json!({"type": "ping"}));
}

/// Told to stop, the agent takes no more jobs and sends what its runs have come to.
#[test]
fn a_stop_is_told() {
    let hub = Hub::new();
    let mut agent = hub.agent("tell up; hold never");
    hub.offer(errand("J-1"));
    hub.world.told("up");
    assert_eq!(agent.terminate().code(), Some(0));
    let result = hub.result_of("J-1");
    assert_eq!(
        (&result["status"], &result["data"]["code"]),
        (&json!("failed"), &json!("agent_shutdown")),
        "{result}"
    );
    assert_eq!(hub.world.backend.frame("register")["repos"], json!([]));
}
