//! Runs in clones: the repository is only read, and what comes back is the diff.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::support::agent::Launch;
use crate::support::backend::{Upgrade, is_outcome};
use crate::support::world::World;
use crate::support::{eventually, files};

/// Every run in a clone, whatever the repository allows.
fn clones(world: &World, script: &str) -> Launch {
    world.launch(script).env("WORKSPACE_MODE", "clone")
}

/// The clones that are on disk.
fn on_disk(world: &World) -> Vec<PathBuf> {
    let runs = fs::read_dir(world.state().join("tickets"))
        .unwrap()
        .flatten();
    runs.map(|run| run.path().join("clone"))
        .filter(|clone| clone.exists())
        .collect()
}

fn no_clone_is_left(world: &World) {
    eventually("the clone to be removed", || {
        on_disk(world).is_empty().then_some(())
    });
}

fn diff(result: &Value) -> &str {
    result["diff"]
        .as_str()
        .unwrap_or_else(|| panic!("no diff: {result}"))
}

fn warnings(result: &Value) -> String {
    result["warnings"].to_string()
}

/// A repository that the daemon may not write to, and that belongs to somebody else, as in a container: the ticket
/// runs in a clone all the same, its diff comes back, and not a byte of the repository is another.
#[test]
fn a_read_only_repository_gives_a_diff_and_stays_as_it_was() {
    let world = World::new();
    let repo = world.repo();
    fs::write(repo.join("untracked.txt"), "the developer's\n").unwrap();
    fs::write(repo.join(".git/info/attributes"), "").unwrap();
    // Files that nobody may write to, as some package managers leave them, do not keep the clone from being removed.
    let script = "echo by the run >> README.md; echo new > new.txt; git add new.txt; commit --message mine
        printf 'caf\\351\\n' > latin.txt; mkdir -p .git/cache/deep; echo x > .git/cache/deep/file; chmod -R a-w .git/cache; pwd";
    let mut launch = world.launch(script);
    if nix::unistd::geteuid().is_root() {
        // Root may write everywhere, so the daemon is somebody else here.
        const NOBODY: u32 = 65_534;
        launch = launch.by_user(NOBODY, &world.path("wf0-agent"));
        let ours = [world.path(""), world.home(), world.path("told")];
        ours.iter()
            .for_each(|path| std::os::unix::fs::chown(path, Some(NOBODY), None).unwrap());
        files::chmod("go+rX", &repo);
    }
    files::chmod("a-w", &repo);
    let before = files::everything(&repo);
    let _agent = world.registered(launch);
    let result = world.outcome_of("T-1");
    files::assert_same(&before, &files::everything(&repo));
    files::chmod("u+w", &repo);
    assert_eq!(result["type"], "ticket.result", "{result}");
    assert!(
        diff(&result).contains("+by the run") && diff(&result).contains("b/new.txt"),
        "{result}"
    );
    assert_eq!(
        result["diffStat"],
        json!({"files": 3, "insertions": 3, "deletions": 0})
    );
    assert_ne!(
        result["baseCommit"], result["headCommit"],
        "the run's own commit is in its clone"
    );
    let cwd = result["stdout"].as_str().unwrap();
    assert!(
        Path::new(cwd).starts_with(world.state().join("tickets")),
        "{cwd}"
    );
    assert!(warnings(&result).contains("untracked.txt"), "{result}");
    no_clone_is_left(&world);
}

/// A repository that can be written to is worked in, unless the settings say otherwise.
#[test]
fn each_mode_works_where_it_says() {
    for (mode, in_place) in [("auto", true), ("inplace", true), ("clone", false)] {
        let world = World::new();
        let agent = world.registered(world.launch("pwd > where.txt").env("WORKSPACE_MODE", mode));
        let result = world.outcome_of("T-1");
        assert!(diff(&result).contains("b/where.txt"), "{mode}: {result}");
        assert_eq!(world.repo().join("where.txt").exists(), in_place, "{mode}");
        assert_eq!(
            agent.log().contains("each ticket runs in a clone"),
            !in_place,
            "{mode}: {}",
            agent.log()
        );
        assert_eq!(result["warnings"], json!([]), "{mode}");
    }
}

/// Several tickets of one repository run at once, each with its own changes only.
#[test]
fn several_tickets_of_one_repository_run_at_once() {
    let world = World::new();
    let script = "echo $WF0_TICKET_ID >> README.md; tell started $WF0_TICKET_ID; hold $WF0_TICKET_ID; cat README.md";
    let before = files::everything(&world.repo());
    let _agent = world.registered(clones(&world, script).env("MAX_CONCURRENT_TICKETS", "3"));
    for id in ["T-1", "T-2", "T-3"] {
        world.assign(id);
    }
    for id in ["T-1", "T-2", "T-3"] {
        world.told(&format!("started {id}"));
    }
    world.release("T-2");
    let second = world.backend.outcome("T-2");
    assert_eq!(second["stdout"], "# App\nT-2\n");
    // The others go on undisturbed while the first clone goes.
    eventually("one clone less", || {
        (on_disk(&world).len() == 2).then_some(())
    });
    for id in ["T-1", "T-3"] {
        world.release(id);
        let result = world.backend.outcome(id);
        assert_eq!(result["stdout"], format!("# App\n{id}\n"));
        assert_eq!(diff(&result).matches("\n+T-").count(), 1, "{result}");
    }
    no_clone_is_left(&world);
    files::assert_same(&before, &files::everything(&world.repo()));
}

/// What the developer has not committed stays theirs: it is not in the clone, not in the diff, and said.
#[test]
fn uncommitted_changes_stay_with_the_developer() {
    let world = World::new();
    let repo = world.repo();
    fs::write(repo.join("README.md"), "# App, changed by hand\n").unwrap();
    fs::write(repo.join("staged.txt"), "staged\n").unwrap();
    world.git(&repo, &["add", "staged.txt"]);
    fs::write(repo.join("untracked.txt"), "untracked\n").unwrap();
    let before = files::everything(&repo);
    let _agent = world.registered(clones(&world, "cat README.md; ls; echo x >> src/lib.rs"));
    let result = world.outcome_of("T-1");
    files::assert_same(&before, &files::everything(&repo));
    assert_eq!(result["stdout"], "# App\nREADME.md\nsrc\n");
    assert_eq!(result["diffStat"]["files"], 1, "{result}");
    assert_eq!(result["warnings"].as_array().unwrap().len(), 1, "{result}");
    for name in ["README.md", "staged.txt", "untracked.txt"] {
        assert!(warnings(&result).contains(name), "{result}");
    }
}

/// The clone is on the developer's branch and commit, has their branches and tags, their remote and their name.
#[test]
fn the_clone_is_like_the_repository() {
    let world = World::new();
    let repo = world.repo();
    world.git(&repo, &["tag", "v1"]);
    world.git(&repo, &["checkout", "--quiet", "-b", "feature/one"]);
    world.git(
        &repo,
        &[
            "remote",
            "add",
            "origin",
            "https://example.com/acme/app.git",
        ],
    );
    world.git(&repo, &["update-ref", "refs/remotes/origin/main", "HEAD"]);
    world.git(&repo, &["config", "user.email", "dev@example.com"]);
    let script = "git symbolic-ref HEAD; git for-each-ref --format='%(refname)'; git remote get-url origin
        git config user.email; git status --porcelain; git log --format=%s; git fsck --no-dangling 2>&1";
    let _agent = world.registered(clones(&world, script));
    let result = world.outcome_of("T-1");
    let expected = "refs/heads/feature/one\nrefs/heads/feature/one\nrefs/heads/main\nrefs/remotes/origin/main\n\
                    refs/tags/v1\nhttps://example.com/acme/app.git\ndev@example.com\nfirst\n";
    assert_eq!(result["stdout"], expected, "{result}");
    assert_eq!(
        result["baseCommit"],
        world.git(&repo, &["rev-parse", "HEAD"]).trim()
    );

    world.git(&repo, &["checkout", "--quiet", "--detach"]);
    world.git(
        &repo,
        &[
            "commit",
            "--quiet",
            "--allow-empty",
            "--message",
            "on no branch",
        ],
    );
    world.cli("git symbolic-ref -q HEAD || git log -1 --format=%s");
    assert_eq!(world.outcome_of("T-2")["stdout"], "on no branch\n");
}

/// A linked work tree, a shallow clone, a sparse checkout and a repository without a commit can be cloned too.
#[test]
fn unusual_repositories_can_be_cloned() {
    let world = World::new();
    let repo = world.repo();
    fs::create_dir(repo.join("out")).unwrap();
    fs::write(repo.join("out/b"), "b\n").unwrap();
    world.git(&repo, &["add", "."]);
    world.git(&repo, &["commit", "--quiet", "--message", "second"]);
    let folder = |name: &str| world.path(name).display().to_string();
    world.git(
        &repo,
        &[
            "worktree",
            "add",
            "--quiet",
            "-b",
            "side",
            &folder("linked"),
        ],
    );
    world.git(
        &repo,
        &[
            "clone",
            "--quiet",
            "--depth=1",
            &format!("file://{}", repo.display()),
            &folder("shallow"),
        ],
    );
    world.git(
        &repo,
        &["clone", "--quiet", &folder("app"), &folder("sparse")],
    );
    world.git(&world.path("sparse"), &["sparse-checkout", "set", "src"]);
    world.git(&repo, &["init", "--quiet", &folder("fresh")]);
    let rows = [
        ("linked", "side README.md new.txt out src"),
        ("shallow", "main README.md new.txt out src"),
        ("sparse", "main README.md new.txt src"),
        ("fresh", "new.txt"),
    ];
    let paths = rows.map(|(name, _)| folder(name)).join(",");
    let script = "echo x > new.txt; git log --format=%s > /dev/null 2>&1; echo $(git branch --show-current; ls)";
    let _agent = world.registered(clones(&world, script).env("REPO_PATHS", paths));
    for (name, listed) in rows {
        let before = files::everything(&world.path(name));
        let result = world.outcome_with(name, json!({"repo": world.path(name)}));
        assert!(
            result["stdout"].as_str().unwrap().trim().ends_with(listed),
            "{name}: {result}"
        );
        assert_eq!(
            result["diffStat"],
            json!({"files": 1, "insertions": 1, "deletions": 0}),
            "{name}: {result}"
        );
        files::assert_same(&before, &files::everything(&world.path(name)));
    }
}

/// For a folder of a repository the CLI works in the same folder of the clone, also where it is not committed yet,
/// and never where a link in the commit leads.
#[test]
fn a_subfolder_is_the_same_subfolder() {
    let world = World::new();
    let repo = world.repo();
    fs::create_dir(repo.join("uncommitted")).unwrap();
    std::os::unix::fs::symlink(world.home(), repo.join("link")).unwrap();
    world.git(&repo, &["add", "."]);
    world.git(&repo, &["commit", "--quiet", "--message", "link"]);
    fs::remove_file(repo.join("link")).unwrap();
    fs::create_dir(repo.join("link")).unwrap();
    let paths = ["src", "uncommitted", "link"]
        .map(|name| repo.join(name).display().to_string())
        .join(",");
    let _agent = world
        .registered(clones(&world, "basename $PWD; echo x > here.txt").env("REPO_PATHS", paths));
    for name in ["src", "uncommitted"] {
        let result = world.outcome_with(name, json!({"repo": repo.join(name)}));
        assert_eq!(result["stdout"], format!("{name}\n"));
        assert!(
            diff(&result).contains(&format!("b/{name}/here.txt")),
            "{result}"
        );
    }
    let fail = world.outcome_with("link", json!({"repo": repo.join("link")}));
    assert_eq!(
        (fail["code"].as_str(), &fail["retryable"]),
        (Some("internal"), &json!(true)),
        "{fail}"
    );
    assert!(!world.home().join("here.txt").exists());
}

/// A folder without git cannot be cloned: its tickets fail and say so, and the log does at the start. Where it can be
/// written to, `auto` runs them in place.
#[test]
fn a_folder_without_git_cannot_be_cloned() {
    for (mode, kind) in [("clone", "ticket.fail"), ("auto", "ticket.result")] {
        let world = World::new();
        let folder = world.path("plain");
        fs::create_dir(&folder).unwrap();
        let launch = world.launch("echo ran").env("WORKSPACE_MODE", mode);
        let agent =
            world.registered(launch.env("REPO_PATHS", format!("acme/app={}", folder.display())));
        let outcome = world.outcome_of("T-1");
        assert_eq!(outcome["type"], kind, "{outcome}");
        if mode == "clone" {
            assert_eq!(
                (outcome["code"].as_str(), &outcome["retryable"]),
                (Some("internal"), &json!(true))
            );
            assert!(
                outcome["error"]
                    .as_str()
                    .unwrap()
                    .contains("not in a git repository"),
                "{outcome}"
            );
            assert!(agent.log().contains("cannot be cloned"), "{}", agent.log());
        }
    }
}

/// What the developer does in their checkout meanwhile is not in the run's diff.
#[test]
fn a_change_of_the_checkout_meanwhile_stays_out() {
    let world = World::new();
    let repo = world.repo();
    let _agent = world.registered(clones(
        &world,
        "tell up; hold $WF0_TICKET_ID; echo x > new.txt",
    ));
    let base = world.git(&repo, &["rev-parse", "HEAD"]);
    world.assign("T-1");
    world.told("up");
    fs::write(repo.join("README.md"), "# Changed\n").unwrap();
    world.git(
        &repo,
        &["commit", "--quiet", "--all", "--message", "meanwhile"],
    );
    world.release("T-1");
    let result = world.backend.outcome("T-1");
    assert_eq!(result["baseCommit"], base.trim());
    assert!(
        diff(&result).contains("new.txt") && !diff(&result).contains("README"),
        "{result}"
    );
}

/// Nothing that the repository's settings name is started for a clone: hooks, monitors, filters.
#[test]
fn the_repositorys_programs_are_not_started_for_a_clone() {
    let world = World::new();
    let repo = world.repo();
    let trap = world.path("trap");
    world.program(&trap, "tell trapped; cat");
    fs::write(
        repo.join(".gitattributes"),
        "* filter=evil diff=evil merge=evil\n",
    )
    .unwrap();
    world.git(&repo, &["add", "."]);
    world.git(&repo, &["commit", "--quiet", "--message", "attributes"]);
    let hooks = repo.join(".git/hooks");
    fs::create_dir_all(&hooks).unwrap();
    for name in [
        "post-checkout",
        "post-index-change",
        "reference-transaction",
        "post-merge",
        "fsmonitor-watchman",
    ] {
        world.program(&hooks.join(name), "tell trapped");
    }
    let path = trap.display();
    let settings = format!(
        "[core]\n\tfsmonitor = {path}\n\tsshCommand = {path}\n\talternateRefsCommand = {path}\n\thooksPath = {hooks}\n\
         [filter \"evil\"]\n\tclean = {path}\n\tsmudge = {path}\n\tprocess = {path}\n[diff \"evil\"]\n\ttextconv = {path}\n\
         [uploadpack]\n\tpackObjectsHook = {path}\n[remote \"origin\"]\n\turl = https://example.com/a/b\n\
         \tuploadpack = {path}\n\tvcs = {path}\n[credential]\n\thelper = {path}\n\
         [alias]\n\tstatus = !{path}\n\tread-tree = !{path}\n[include]\n\tpath = {more}\n",
        hooks = hooks.display(),
        more = world.path("more").display(),
    );
    fs::write(
        world.path("more"),
        format!("[core]\n\tpager = {path}\n[filter \"more\"]\n\tclean = {path}\n"),
    )
    .unwrap();
    let config = repo.join(".git/config");
    fs::write(&config, fs::read_to_string(&config).unwrap() + &settings).unwrap();
    // Of the same size: only by its content git could tell that it has changed.
    fs::write(repo.join("README.md"), "# Apq\n").unwrap();
    let before = files::everything(&repo);
    let _agent = world.registered(clones(
        &world,
        "cat README.md; git config --list --local; git status --short; echo x >> README.md",
    ));
    let result = world.outcome_of("T-1");
    assert!(
        !world.has_told("trapped"),
        "a program of the repository was started"
    );
    assert!(
        result["stdout"].as_str().unwrap().starts_with("# App\n"),
        "{result}"
    );
    assert!(
        !result["stdout"].to_string().contains("trap"),
        "its settings lead to it: {result}"
    );
    files::assert_same(&before, &files::everything(&repo));
    // What a filter of the repository would have sealed is not sent.
    assert_eq!(diff(&result), "");
    assert!(
        warnings(&result).contains("README.md") && warnings(&result).contains("evil"),
        "{result}"
    );
}

/// A clone stays until its outcome has arrived; then it goes, also when the daemon died in between.
#[test]
fn a_clone_goes_with_the_delivery() {
    let world = World::new();
    let script = "echo x > new.txt";
    let mut agent = world.registered(clones(&world, script));
    world.backend.ignore_pings();
    world.outcome_of("T-1");
    world.fence();
    assert_eq!(
        on_disk(&world).len(),
        1,
        "nobody has said that the outcome arrived"
    );
    agent.crash();
    let [undelivered] = on_disk(&world).try_into().unwrap();
    // Beside it one of a daemon that died between the delivery and the removal; and the backend is away.
    let run = world
        .state()
        .join("tickets/00000000000000000000000000000001");
    fs::create_dir_all(run.join("clone/left")).unwrap();
    fs::write(run.join("delivered"), "").unwrap();
    for _ in 0..20 {
        world.backend.next_upgrade(Upgrade::Drop);
    }
    let mut agent = clones(&world, script).start();
    eventually("what is left to be removed", || {
        (!run.join("clone").exists()).then_some(())
    });
    agent.terminate();
    assert_eq!(
        on_disk(&world),
        std::slice::from_ref(&undelivered),
        "nobody has said that the outcome arrived"
    );
    world.backend.forget_upgrades();
    let _agent = world.registered(clones(&world, script));
    world.backend.outcome("T-1");
    no_clone_is_left(&world);
    let patch = fs::read_to_string(undelivered.with_file_name("diff.patch")).unwrap();
    assert!(patch.contains("+++ b/new.txt"), "the patch stays: {patch}");
}

/// A run in a clone that was cut off by the daemon's death is reported with the diff from its clone, without what the
/// developer did in the checkout.
#[test]
fn a_cut_off_run_is_told_from_its_clone() {
    let world = World::new();
    let script = "echo changed >> README.md; tell up; hold never";
    let mut agent = world.registered(clones(&world, script));
    world.assign("T-1");
    world.told("up");
    agent.crash();
    fs::write(world.repo().join("by-hand.txt"), "by hand\n").unwrap();
    let base = world.git(&world.repo(), &["rev-parse", "HEAD"]);
    world.git(
        &world.repo(),
        &[
            "commit",
            "--quiet",
            "--allow-empty",
            "--message",
            "meanwhile",
        ],
    );
    let before = files::everything(&world.repo());
    // Another mode by now: the run is where it is.
    let agent = world.registered(world.launch(script).env("WORKSPACE_MODE", "inplace"));
    let fail = world.backend.outcome("T-1");
    assert_eq!(fail["code"], "agent_restarted", "{fail}");
    assert!(
        diff(&fail).contains("+changed") && !diff(&fail).contains("by-hand"),
        "{fail}"
    );
    assert_eq!(fail["baseCommit"], base.trim());
    no_clone_is_left(&world);
    assert!(world.processes(&agent).is_empty());
    files::assert_same(&before, &files::everything(&world.repo()));
}

/// Where no diff could be taken, the clone is all that there is of the run: it is kept as long as the run's folder
/// would be, and said.
#[test]
fn a_clone_without_a_diff_is_kept() {
    let world = World::new();
    let mut agent = world.registered(clones(&world, "echo x > new.txt; rm -r ../scratch"));
    let result = world.outcome_of("T-1");
    assert_eq!(result["diff"], Value::Null, "{result}");
    let [clone] = on_disk(&world).try_into().unwrap();
    assert!(
        warnings(&result).contains(clone.to_str().unwrap()),
        "{result}"
    );
    world.cli("echo x > new.txt");
    world.outcome_of("T-2");
    world.fence();
    eventually("the other clone to be removed", || {
        (on_disk(&world) == std::slice::from_ref(&clone)).then_some(())
    });
    assert!(clone.join("new.txt").exists());
    agent.terminate();
    let two_days_ago = SystemTime::now() - Duration::from_secs(48 * 3600);
    fs::File::options()
        .write(true)
        .open(clone.with_file_name("delivered"))
        .unwrap()
        .set_modified(two_days_ago)
        .unwrap();
    let _agent = world.registered(clones(&world, "true").env("KEEP_TICKETS_DAYS", "1"));
    no_clone_is_left(&world);
}

/// What the diff leaves out is nowhere but in the clone: it is kept too.
#[test]
fn a_clone_with_more_than_its_diff_is_kept() {
    let world = World::new();
    let repo = world.repo();
    fs::write(repo.join(".gitattributes"), "*.key filter=seal\n").unwrap();
    world.git(&repo, &["config", "filter.seal.clean", "cat"]);
    world.git(&repo, &["add", "."]);
    world.git(&repo, &["commit", "--quiet", "--message", "seal"]);
    let _agent = world.registered(clones(
        &world,
        "echo plain > $WF0_TICKET_ID.${WF0_TICKET_ID#T-}",
    ));
    let result = world.outcome_of("T-key");
    assert!(
        warnings(&result).contains("T-key.key") && !diff(&result).contains("plain"),
        "{result}"
    );
    world.outcome_of("T-txt");
    world.fence();
    eventually("the other clone to be removed", || {
        (on_disk(&world).len() == 1).then_some(())
    });
    assert!(on_disk(&world)[0].join("T-key.key").exists());
}

/// A run whose CLI could not be started leaves no clone: there is nothing in it to be kept.
#[test]
fn a_cli_that_is_missing_leaves_no_clone() {
    let world = World::new();
    let _agent = world.registered(clones(&world, "true").env("CLI_COMMAND", world.path("missing")));
    assert_eq!(world.outcome_of("T-1")["code"], "cli_not_found");
    no_clone_is_left(&world);
}

/// A run that is cancelled gives its partial diff from the clone, and the clone goes as ever.
#[test]
fn a_run_that_is_ended_gives_its_diff_too() {
    let world = World::new();
    let script = "echo partial > partial.txt; tell up; hold never";
    let _agent = world.registered(clones(&world, script));
    world.assign("T-1");
    world.told("up");
    world
        .backend
        .send(&json!({"type": "ticket.cancel", "ticketId": "T-1", "reason": "changed my mind"}));
    let fail = world.backend.outcome("T-1");
    assert_eq!(fail["code"], "cancelled");
    assert!(diff(&fail).contains("+partial"), "{fail}");
    no_clone_is_left(&world);
    assert_eq!(
        world
            .backend
            .frames_of("T-1")
            .iter()
            .filter(|frame| is_outcome(frame))
            .count(),
        1
    );
}
