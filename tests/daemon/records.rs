//! The files of a run's folder, field by field: a state folder outlives the version that wrote it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wf0_agent::domain::outbox::Entry;
use wf0_agent::domain::quota::Quota;
use wf0_agent::domain::repos::{Branch, Repo, RepoRef, Workspace};
use wf0_agent::domain::text::Excerpt;
use wf0_agent::domain::ticket::{
    Brief, Changes, DiffStat, Exit, FailCode, Failure, Job, Outcome, Payload, Role, RunId, Skill,
    Span, Subagent, Ticket, TicketId, Usage,
};
use wf0_agent::store::Store;
use wf0_agent::store::journal::{CutOff, Started};

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_767_323_045_000 + seconds * 1000)
}

/// A ticket in which every field has a value.
fn full_job(run: RunId) -> Job {
    let path = PathBuf::from("/repos/app");
    let ticket = Ticket {
        id: TicketId::parse("TEAM-1").unwrap(),
        attempt: 1,
        role: Role::parse("dev").unwrap(),
        repo: RepoRef::Slug("acme/app".to_owned()),
        brief: Brief {
            title: Some("Fix it".to_owned()),
            description: Some("All of it".to_owned()),
            skills: vec![
                Skill {
                    slug: "a".to_owned(),
                    body: None,
                },
                Skill {
                    slug: "b".to_owned(),
                    body: Some("B".to_owned()),
                },
            ],
            subagent: Some(Subagent {
                slug: "s".to_owned(),
                prompt: "P".to_owned(),
            }),
        },
        payload: Payload::At("https://good.example/p".to_owned()),
        time_limit: Some(Duration::from_secs(600)),
        branch: Some(Branch::parse("agent/TEAM-1").unwrap()),
    };
    let repo = Repo {
        path: path.clone(),
        slug: Some("acme/app".to_owned()),
        root: path,
        workspace: Workspace::InPlace,
    };
    Job {
        run,
        ticket,
        repo,
        time_limit: Duration::from_secs(1800),
    }
}

/// A ticket in which every field that may be absent is absent.
fn bare_job(run: RunId) -> Job {
    let full = full_job(run);
    Job {
        ticket: Ticket {
            repo: RepoRef::Path {
                asked: "/repos/link".to_owned(),
                resolved: PathBuf::from("/repos/app"),
            },
            brief: Brief::default(),
            payload: Payload::Inline,
            time_limit: None,
            branch: None,
            ..full.ticket
        },
        repo: Repo {
            slug: None,
            ..full.repo
        },
        ..full
    }
}

fn entry(run: RunId, attempt: u32, outcome: Outcome) -> Entry {
    Entry {
        run,
        id: TicketId::parse("TEAM-1").unwrap(),
        attempt,
        outcome: outcome.into(),
    }
}

fn success() -> Outcome {
    Outcome {
        failure: None,
        exit: Some(Exit::Code(0)),
        stdout: Excerpt::from_bytes(b"done\n", b"", 5),
        usage: Some(Usage {
            input_tokens: Some(1),
            output_tokens: Some(2),
            cache_read_tokens: Some(3),
            cost_micros: Some(4),
            turns: Some(5),
            session_id: Some("six".to_owned()),
        }),
        changes: Changes {
            diff: Some("diff --git a/x b/x\n".to_owned()),
            diff_truncated: false,
            stat: Some(DiffStat {
                files: 1,
                insertions: 2,
                deletions: 3,
            }),
            base_commit: Some("a".repeat(40)),
            head_commit: Some("b".repeat(40)),
        },
        span: Some(Span {
            started_at: at(1),
            finished_at: at(2),
            duration: Duration::from_millis(1001),
        }),
        warnings: vec!["w".to_owned()],
        pull_request: Some("https://good.example/pull/1".to_owned()),
    }
}

fn failure() -> Outcome {
    Outcome {
        exit: Some(Exit::Signal(9)),
        stdout: Excerpt::from_bytes(b"head", b"tail", 15),
        changes: Changes {
            diff_truncated: true,
            ..Changes::default()
        },
        ..Outcome::unstarted(Failure::new(FailCode::CliExit, "boom"))
    }
}

fn quota() -> Quota {
    Quota {
        until: Some(at(9)),
        is_told: true,
        guesses: 2,
    }
}

fn started() -> Started {
    Started {
        at_ms: 1_767_323_046_000,
        base_commit: Some("a".repeat(40)),
        clone: Some(PathBuf::from("sub")),
    }
}

/// A state folder with a run at each stage.
fn write(state_dir: &Path) {
    let store = Store::open(state_dir).unwrap();
    let [waiting, cut_off, ended, failed] = [1, 2, 3, 4].map(RunId);
    store.keep_ticket(&bare_job(waiting), at(0)).unwrap();
    store.keep_ticket(&full_job(cut_off), at(1)).unwrap();
    store.keep_attempt(cut_off, 2).unwrap();
    let folder = store.run_folder(cut_off).unwrap();
    folder.keep_start(&started()).unwrap();
    store.keep_ticket(&full_job(ended), at(2)).unwrap();
    store.keep_outcome(&entry(ended, 1, success())).unwrap();
    store.keep_ticket(&full_job(failed), at(3)).unwrap();
    store.keep_outcome(&entry(failed, 1, failure())).unwrap();
    store.keep_quota("claude-code", quota()).unwrap();
}

/// Every record below a folder, by its path.
fn records(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        for path in fs::read_dir(inner).unwrap().map(|e| e.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "json") {
                let name = path.strip_prefix(folder).unwrap().to_owned();
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

fn golden(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(version)
}

/// A renamed field would make the state of every running agent unreadable: the files are exactly these.
#[test]
fn records_keep_their_form() {
    let folder = tempfile::tempdir().unwrap();
    let state_dir = folder.path().join("state");
    write(&state_dir);
    assert_eq!(records(&state_dir), records(&golden("state")));
}

/// An upgrade loses no ticket: a state folder that 0.1.0 wrote is read as it was meant.
#[test]
fn the_state_of_0_1_0_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let state_dir = folder.path().join("state");
    for (name, record) in records(&golden("state-0.1.0")) {
        let path = state_dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, record).unwrap();
    }
    fs::write(state_dir.join("lock"), "").unwrap();
    let store = Store::open(&state_dir).unwrap();
    assert_eq!(store.quota("claude-code"), quota());
    let (past, cut_off) = store.saved_state();
    let mut bare = bare_job(RunId(1));
    // What the path leads to was not written down; only what the backend called it is used after the claim.
    bare.ticket.repo = RepoRef::Slug("/repos/link".to_owned());
    assert_eq!(past.waiting, [(Box::new(bare), at(0))]);
    let mut job = Box::new(full_job(RunId(2)));
    job.ticket.attempt = 2;
    let started = started();
    assert_eq!(cut_off, [CutOff { job, started }]);
    let ended = [entry(RunId(3), 1, success()), entry(RunId(4), 1, failure())];
    assert_eq!(past.ended, ended);
}
