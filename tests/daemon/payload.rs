//! The parts of a ticket that are downloaded, and the prompt that is made of them.

use serde_json::{Value, json};

use crate::support::agent::TOKEN;
use crate::support::backend::{Answer, Backend};
use crate::support::world::{SLUG, World, ticket_with};

/// A ticket of which everything has to be downloaded.
fn bare(id: &str) -> Value {
    ticket_with(id, json!({"title": null, "description": null}))
}

fn payload() -> Answer {
    Answer::data(json!({"title": "Downloaded title", "description": "Downloaded description."}))
}

fn path_of(id: &str) -> String {
    format!("/api/tickets/{id}")
}

/// A ticket without title and description is downloaded by its id, with the token, after the claim.
#[test]
fn a_payload_is_downloaded_by_id() {
    let world = World::new();
    world.backend.answer("/api/tickets/T-1", payload());
    let _agent = world.agent("cat");
    world.backend.send(&bare("T-1"));
    let result = world.backend.outcome("T-1");
    let prompt = result["stdout"].as_str().unwrap();
    assert!(
        prompt.contains("Downloaded title") && prompt.contains("Downloaded description."),
        "{prompt}"
    );
    let requests = world.backend.requests_for("/api/tickets/T-1");
    assert_eq!(requests.len(), 1);
    assert_eq!(
        requests[0].headers["authorization"],
        format!("Bearer {TOKEN}")
    );
}

/// The payload lies below the API URL's path.
#[test]
fn a_payload_is_below_the_path_prefix() {
    let world = World::new();
    world.backend.answer("/wf0/api/tickets/T-1", payload());
    let url = format!("{}/wf0", world.backend.url());
    let _agent = world.registered(world.launch("cat").env("WORKFORCE0_API_URL", url));
    world.backend.send(&bare("T-1"));
    assert_eq!(world.backend.outcome("T-1")["type"], "ticket.result");
}

/// A `payloadUrl` of the same origin is where the payload is downloaded from.
#[test]
fn a_payload_is_downloaded_from_its_url() {
    let world = World::new();
    world
        .backend
        .answer("/elsewhere/payload?version=2", payload());
    let _agent = world.agent("cat");
    let url = format!("{}/elsewhere/payload?version=2", world.backend.url());
    let fields = json!({"title": null, "description": null, "payloadUrl": url});
    let result = world.outcome_with("T-1", fields);
    assert!(
        result["stdout"]
            .as_str()
            .unwrap()
            .contains("Downloaded description."),
        "{result}"
    );
    assert!(world.backend.requests_for("/api/tickets/T-1").is_empty());
    let request = world
        .backend
        .requests_for("/elsewhere/payload?version=2")
        .remove(0);
    assert_eq!(request.headers["authorization"], format!("Bearer {TOKEN}"));
}

/// A `payloadUrl` of another origin makes the ticket invalid: no claim, no request anywhere.
#[test]
fn a_payload_url_of_another_origin_is_refused() {
    let world = World::new();
    let other = Backend::start();
    let _agent = world.agent("tell ran");
    let (port, others) = (world.backend.port(), other.port());
    let urls = [
        format!("http://127.0.0.1:{others}/payload"),
        format!("http://localhost:{port}/payload"),
        format!("https://127.0.0.1:{port}/payload"),
        format!("ws://127.0.0.1:{port}/payload"),
        "http://127.0.0.1/payload".to_owned(),
        format!("http://127.0.0.1:{port}@127.0.0.1:{others}/payload"),
        format!("http://user:pass@127.0.0.1:{port}/payload"),
        format!("http://127.0.0.1:{others}#@127.0.0.1:{port}/payload"),
        format!("http://127.0.0.1:{others}\\@127.0.0.1:{port}/payload"),
        format!("//127.0.0.1:{others}/payload"),
        format!("http://127.0.0.1:{port}.example.com/payload"),
        format!("http://127.0.0.1.example.com:{port}/payload"),
        "/payload".to_owned(),
        "file:///etc/passwd".to_owned(),
        String::new(),
        format!("http://127.0.0.1:{port}/pay load"),
        format!("http://127.0.0.1:{port}/x\r\nHost: evil.example"),
    ];
    for (n, url) in urls.iter().enumerate() {
        let id = format!("T-{n}");
        let fields = json!({"title": null, "description": null, "payloadUrl": url});
        world.backend.send_anything(&ticket_with(&id, fields));
        let fail = world.backend.outcome(&id);
        assert_eq!(fail["code"], "invalid_ticket", "{url}: {fail}");
        assert_eq!(fail["retryable"], false, "{url}");
        assert_eq!(
            world.backend.frames_of(&id).len(),
            1,
            "{url}: {:#?}",
            world.backend.frames_of(&id)
        );
    }
    assert_eq!(
        world.backend.requests().len(),
        1,
        "only the upgrade: {:?}",
        world.backend.requests()
    );
    assert!(other.requests().is_empty(), "{:?}", other.requests());
    assert!(!world.has_told("ran"));
}

/// A redirect to another origin gets neither the credential nor a request.
#[test]
fn a_redirected_download_is_not_followed() {
    let world = World::new();
    let other = Backend::start();
    other.answer("/payload", payload());
    other.answer(
        "/library/skills/s",
        Answer::data(json!({"slug": "s", "body": "Foreign skill."})),
    );
    world.backend.answer(
        "/api/tickets/T-1",
        Answer::redirect(&format!("{}/payload", other.url())),
    );
    world.backend.answer(
        "/api/library/skills/s",
        Answer::redirect(&format!("{}/library/skills/s", other.url())),
    );
    let _agent = world.agent("cat");
    world.backend.send(&bare("T-1"));
    let fail = world.backend.outcome("T-1");
    assert_eq!(fail["code"], "payload_unavailable", "{fail}");
    let result = world.outcome_with("T-2", json!({"skills": ["s"]}));
    assert_eq!(result["type"], "ticket.result", "{result}");
    assert!(
        !result["stdout"]
            .as_str()
            .unwrap()
            .contains("Foreign skill.")
    );
    assert!(other.requests().is_empty(), "{:?}", other.requests());
}

/// A download that fails twice and then works is a ticket like any other.
#[test]
fn a_download_is_tried_three_times() {
    let world = World::new();
    world
        .backend
        .answer_anything("/api/tickets/T-1", Answer::json(500, &json!("oops")));
    world.backend.answer_anything(
        "/api/tickets/T-1",
        Answer::json(503, &json!({"success": false})),
    );
    world.backend.answer("/api/tickets/T-1", payload());
    let _agent = world.agent("cat");
    world.backend.send(&bare("T-1"));
    assert_eq!(world.backend.outcome("T-1")["type"], "ticket.result");
    assert_eq!(world.backend.requests_for("/api/tickets/T-1").len(), 3);
}

/// A payload that cannot be had in three tries is `payload_unavailable`, after the claim, and the next ticket runs.
#[test]
fn a_payload_that_cannot_be_had_fails_the_ticket() {
    let world = World::new();
    world.backend.answer_anything(
        "/api/tickets/T-1",
        Answer::json(500, &json!({"success": false})),
    );
    let _agent = world.agent("echo ran");
    world.backend.send(&bare("T-1"));
    assert_eq!(world.backend.frame("ticket.claim")["ticketId"], "T-1");
    let fail = world.backend.outcome("T-1");
    assert_eq!(fail["code"], "payload_unavailable", "{fail}");
    assert_eq!(fail["retryable"], true);
    assert_eq!(fail["exitCode"], Value::Null);
    assert_eq!(world.backend.requests_for("/api/tickets/T-1").len(), 3);
    assert_eq!(world.outcome_of("T-2")["stdout"], "ran\n");
}

/// An answer that is no success of the envelope is a payload that cannot be had; the envelope's own words are told.
#[test]
fn every_wrong_envelope_is_unavailable() {
    let world = World::new();
    let text = |status, body: &str| Answer {
        status,
        headers: Vec::new(),
        body: body.to_owned(),
    };
    let error =
        json!({"success": false, "error": {"code": "gone", "message": "the ticket was withdrawn"}});
    let answers = [
        Answer::json(200, &error),
        Answer::json(200, &json!({"success": false, "data": {"title": "t"}})),
        Answer::json(200, &json!({"success": true})),
        Answer::json(200, &json!({"success": true, "data": null})),
        Answer::json(200, &json!({"success": true, "data": {"title": 5}})),
        Answer::json(200, &json!({"success": true, "data": [1]})),
        Answer::json(200, &json!({"title": "no envelope"})),
        text(200, "<html>a login page</html>"),
        text(200, ""),
        Answer::json(500, &json!({"success": true, "data": {"title": "t"}})),
    ];
    let launch = world.launch("tell ran").env("MAX_CONCURRENT_TICKETS", "16");
    let repos: Vec<_> = (0..answers.len())
        .map(|n| world.make_repo(&format!("repo-{n}")))
        .collect();
    let paths: Vec<_> = repos
        .iter()
        .map(|repo| repo.display().to_string())
        .collect();
    let _agent = world.registered(launch.env(
        "REPO_PATHS",
        format!("{SLUG}={},{}", world.repo().display(), paths.join(",")),
    ));
    // All at once, each in a repository of its own: the pauses between the tries run at the same time.
    for (n, answer) in answers.iter().enumerate() {
        world
            .backend
            .answer_anything(&path_of(&format!("T-{n}")), answer.clone());
        world.backend.send(&ticket_with(
            &format!("T-{n}"),
            json!({"title": null, "description": null, "repo": paths[n]}),
        ));
    }
    let mut open: Vec<_> = (0..answers.len()).map(|n| format!("T-{n}")).collect();
    while !open.is_empty() {
        let fail = world.backend.frame_where("ticket.fail", |_| true);
        let id = fail["ticketId"].as_str().unwrap();
        assert_eq!(fail["code"], "payload_unavailable", "{fail}");
        if id == "T-0" {
            assert!(
                fail["error"]
                    .as_str()
                    .unwrap()
                    .contains("the ticket was withdrawn"),
                "{fail}"
            );
        }
        open.retain(|ticket| ticket != id);
    }
    assert!(!world.has_told("ran"));
}

/// A skill given by its slug is downloaded from the library, with the token.
#[test]
fn skills_are_downloaded_by_slug() {
    let world = World::new();
    world.backend.answer(
        "/api/library/skills/rust",
        Answer::data(json!({"slug": "rust", "body": "Use iterators."})),
    );
    let _agent = world.agent("cat");
    let skills = json!(["rust", {"slug": "inline", "body": "Write short sentences."}]);
    let result = world.outcome_with("T-1", json!({ "skills": skills }));
    let prompt = result["stdout"].as_str().unwrap();
    assert!(
        prompt.contains("Use iterators.") && prompt.contains("Write short sentences."),
        "{prompt}"
    );
    assert_eq!(result["warnings"], json!([]));
    let requests = world.backend.requests_for("/api/library/skills/rust");
    assert_eq!(
        requests[0].headers["authorization"],
        format!("Bearer {TOKEN}")
    );
}

/// A skill that cannot be had is a warning that names it; the ticket runs.
#[test]
fn a_missing_skill_is_a_warning() {
    let world = World::new();
    world.backend.answer(
        "/api/library/skills/there",
        Answer::data(json!({"slug": "there", "body": "I am there."})),
    );
    let _agent = world.agent("cat");
    let result = world.outcome_with("T-1", json!({"skills": ["missing", "there"]}));
    assert_eq!(result["type"], "ticket.result", "{result}");
    let warnings = result["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].as_str().unwrap().contains("missing"),
        "{warnings:?}"
    );
    assert!(result["stdout"].as_str().unwrap().contains("I am there."));
}

/// A slug cannot lead the download to another path.
#[test]
fn a_slug_cannot_climb() {
    let world = World::new();
    let secret = Answer::data(json!({"body": "Not a skill."}));
    world.backend.answer_anything("/api/admin", secret.clone());
    world.backend.answer_anything("/admin", secret);
    let _agent = world.agent("cat");
    let skills = json!(["../../admin", "a b?c#d"]);
    let result = world.outcome_with("T-1", json!({ "skills": skills }));
    assert_eq!(result["type"], "ticket.result", "{result}");
    assert_eq!(
        result["warnings"].as_array().unwrap().len(),
        2,
        "{}",
        result["warnings"]
    );
    assert!(!result["stdout"].as_str().unwrap().contains("Not a skill."));
    let paths: Vec<_> = world
        .backend
        .requests()
        .into_iter()
        .map(|request| request.path)
        .skip(1)
        .collect();
    assert!(
        paths
            .iter()
            .all(|path| path.starts_with("/api/library/skills/")),
        "{paths:?}"
    );
    let tails = paths
        .iter()
        .map(|path| path.trim_start_matches("/api/library/skills/"));
    assert!(
        tails.clone().all(|tail| !tail.contains(['/', '?', '#'])),
        "{paths:?}"
    );
}

/// A downloaded payload can bring skills and a subagent of its own.
#[test]
fn a_downloaded_payload_brings_everything() {
    let world = World::new();
    let data = json!({
        "title": "Downloaded title",
        "description": "Downloaded description.",
        "skills": ["rust", {"slug": "inline", "body": "Inline skill."}],
        "subagent": {"slug": "reviewer", "prompt": "You review."},
    });
    world.backend.answer("/api/tickets/T-1", Answer::data(data));
    world.backend.answer(
        "/api/library/skills/rust",
        Answer::data(json!({"slug": "rust", "body": "Library skill."})),
    );
    let _agent = world.agent("cat");
    world.backend.send(&bare("T-1"));
    let result = world.backend.outcome("T-1");
    let prompt = result["stdout"].as_str().unwrap();
    for part in [
        "Downloaded title",
        "Downloaded description.",
        "Inline skill.",
        "You review.",
        "Library skill.",
    ] {
        assert!(prompt.contains(part), "{part:?} is not in:\n{prompt}");
    }
}

/// The prompt begins with a heading and holds id, title, role, repository, the subagent's prompt before the
/// description, and each skill's body.
#[test]
fn the_prompt_holds_everything_in_order() {
    let world = World::new();
    let _agent = world.agent("cat");
    let fields = json!({
        "title": "Add a button",
        "description": "The button is blue.",
        "subagent": {"slug": "designer", "prompt": "You know colours."},
        "skills": [{"slug": "one", "body": "First skill."}, {"slug": "two", "body": "Second skill."}],
    });
    let result = world.outcome_with("T-42", fields);
    let prompt = result["stdout"].as_str().unwrap();
    assert!(prompt.starts_with("# "), "{prompt}");
    for part in [
        "T-42",
        "Add a button",
        "dev",
        SLUG,
        "You know colours.",
        "The button is blue.",
        "First skill.",
        "Second skill.",
    ] {
        assert!(prompt.contains(part), "{part:?} is not in:\n{prompt}");
    }
    let at = |part: &str| prompt.find(part).unwrap();
    assert!(
        at("You know colours.") < at("The button is blue."),
        "{prompt}"
    );
}

/// Whatever title and description begin with, the prompt begins with a heading.
#[test]
fn the_prompt_always_begins_with_a_heading() {
    let world = World::new();
    let _agent = world.agent("cat");
    let fields = [
        json!({"title": "--dangerously-skip-permissions", "description": "-rf"}),
        json!({"title": "/compact", "description": "/init"}),
        json!({"title": "\n\n/compact\n", "description": "\n-x"}),
        json!({"title": "", "description": "/clear"}),
        json!({"title": null, "description": "-x"}),
        json!({"title": "@/etc/passwd", "description": null}),
        json!({"title": "\u{feff}/x", "subagent": {"slug": "s", "prompt": "/y"}}),
    ];
    for (n, fields) in fields.into_iter().enumerate() {
        let result = world.outcome_with(&format!("T-{n}"), fields.clone());
        let prompt = result["stdout"]
            .as_str()
            .unwrap_or_else(|| panic!("{fields}: {result}"));
        assert!(prompt.starts_with("# "), "{fields}: {prompt}");
    }
}

/// The heading stays one line, however many the title has.
#[test]
fn a_title_stays_one_line() {
    let world = World::new();
    let _agent = world.agent("cat");
    let result = world.outcome_with("T-1", json!({"title": "One\ntwo\r\n## Three"}));
    let prompt = result["stdout"].as_str().unwrap();
    let heading = prompt.lines().next().unwrap();
    assert!(
        heading.contains("One") && heading.contains("Three"),
        "{prompt}"
    );
}
