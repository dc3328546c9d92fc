//! `wf0-agent apply`: a run's whole patch in the developer's checkout, or a reason and nothing of it.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::support::agent::{Agent, Ended, Launch};
use crate::support::files;
use crate::support::world::World;

/// A daemon whose runs are in clones.
fn agent(world: &World, script: &str) -> Agent {
    world.registered(world.launch(script).env("WORKSPACE_MODE", "clone"))
}

/// With the state folder as the only setting.
fn launch(world: &World, args: &[&str]) -> Launch {
    let launch = Launch::new(world.dir.path())
        .env("HOME", world.home())
        .env("GIT_CONFIG_NOSYSTEM", "1");
    args.iter().fold(
        launch.env("STATE_DIR", world.state()).arg("apply"),
        |launch, arg| launch.arg(arg),
    )
}

fn apply(world: &World, args: &[&str]) -> Ended {
    launch(world, args).output()
}

/// Every kind of change arrives in the checkout, uncommitted, while the daemon is at work; the second time there is
/// nothing left to do.
#[test]
fn a_patch_is_applied() {
    let world = World::new();
    let repo = world.repo();
    for name in ["gone.txt", "old name.txt", "tool"] {
        fs::write(
            repo.join(name),
            format!("content of {name}\nmore\nand more\n"),
        )
        .unwrap();
    }
    fs::write(repo.join("picture.bin"), [0u8, 1, 2, 255]).unwrap();
    symlink("gone.txt", repo.join("link")).unwrap();
    world.git(&repo, &["add", "."]);
    world.git(&repo, &["commit", "--quiet", "--message", "second"]);
    let script = "
        echo changed >> README.md; rm gone.txt; mv 'old name.txt' 'new name.txt'; chmod +x tool
        printf '\\000\\001\\377new' > picture.bin; ln -sf README.md link; printf 'caf\\351' > latin.txt
        mkdir -p deep/er; echo new > deep/er/new.txt; git add deep; commit --message mine";
    let before = world.path("before");
    files::copy(&repo, &before);
    // What the run makes of it, from a checkout where it runs in place.
    let in_place = world.registered(
        world
            .launch(script)
            .env("STATE_DIR", world.path("state-2"))
            .env("REPO_PATHS", format!("acme/app={}", before.display())),
    );
    world.outcome_of("T-0");
    drop(in_place);
    // The settings of whoever applies do not make it another patch.
    fs::write(
        world.home().join(".gitconfig"),
        "[apply]\n\twhitespace = error-all\n[core]\n\tautocrlf = false\n",
    )
    .unwrap();
    let dot_git = files::everything(&repo.join(".git"));
    let _agent = agent(&world, script);
    world.outcome_of("T-1");

    let ended = apply(&world, &["T-1"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    let after = files::work_tree(&repo);
    files::assert_same(&files::work_tree(&before), &after);
    files::assert_same(&dot_git, &files::everything(&repo.join(".git")));
    for text in [
        "README.md",
        "new name.txt",
        "picture.bin",
        "8 files changed",
        "(not committed)",
        repo.to_str().unwrap(),
    ] {
        assert!(
            ended.stdout.contains(text),
            "{text} is not in: {}",
            ended.stdout
        );
    }
    let again = apply(&world, &["T-1"]);
    assert!(
        again.code == 0 && again.stdout.contains("already"),
        "{again:?}"
    );
    files::assert_same(&after, &files::work_tree(&repo));
}

/// What is not in the patch is told with it.
#[test]
fn what_the_run_warned_of_is_told() {
    let world = World::new();
    let script = "echo new > new.txt; git init -q inner; cd inner; echo one > file; git add file
        git -c user.name=me -c user.email=me@localhost commit -q -m one";
    let _agent = agent(&world, script);
    let warnings = world.outcome_of("T-1")["warnings"].clone();
    let ended = apply(&world, &["T-1"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let warning = warnings[0].as_str().unwrap();
    assert!(warning.contains("inner"), "{warnings}");
    assert!(ended.stdout.contains(warning), "{ended:?}");
}

/// A run chooses the names of its files. None of them turns the text at the terminal round.
#[test]
fn names_do_not_turn_text_round() {
    let world = World::new();
    let _agent = agent(
        &world,
        "echo new > \"$(printf 'safe\\342\\200\\256txt.exe')\"",
    );
    world.outcome_of("T-1");
    let config = "[core]\n\tquotePath = false\n";
    fs::write(world.home().join(".gitconfig"), config).unwrap();
    let ended = apply(&world, &["T-1"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stdout.contains("safetxt.exe"), "{ended:?}");
    assert!(world.repo().join("safe\u{202e}txt.exe").exists());
}

/// What the developer did elsewhere stays, and does not keep a patch from being applied.
#[test]
fn other_changes_stay() {
    let world = World::new();
    let repo = world.repo();
    let _agent = agent(&world, "echo changed >> README.md");
    world.outcome_of("T-1");
    fs::write(repo.join("src/lib.rs"), "pub fn two() {}\n").unwrap();
    world.git(
        &repo,
        &["commit", "--quiet", "--all", "--message", "elsewhere"],
    );
    fs::write(repo.join("untracked.txt"), "by hand\n").unwrap();
    let ended = apply(&world, &["T-1"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(
        fs::read_to_string(repo.join("README.md")).unwrap(),
        "# App\nchanged\n"
    );
    assert_eq!(
        fs::read_to_string(repo.join("src/lib.rs")).unwrap(),
        "pub fn two() {}\n"
    );
    assert_eq!(
        fs::read_to_string(repo.join("untracked.txt")).unwrap(),
        "by hand\n"
    );
}

/// A patch that does not apply names the file and the commit at which the run began, and nothing changes.
#[test]
fn a_patch_that_does_not_apply_says_why() {
    let world = World::new();
    let repo = world.repo();
    let _agent = agent(
        &world,
        "echo fits > aaa.txt; sed -i s/App/Run/ README.md; echo fits > zzz.txt",
    );
    world.outcome_of("T-1");
    // Not even in its spaces it is another patch, whatever the user's settings say.
    fs::write(
        world.home().join(".gitconfig"),
        "[apply]\n\tignoreWhitespace = change\n",
    )
    .unwrap();
    fs::write(repo.join("README.md"), "#  App\n").unwrap();
    let base = world.git(&repo, &["rev-parse", "HEAD"]);
    for committed in [false, true] {
        if committed {
            world.git(
                &repo,
                &["commit", "--quiet", "--all", "--message", "meanwhile"],
            );
        }
        let before = files::everything(&repo);
        let ended = apply(&world, &["T-1"]);
        assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{ended:?}");
        for text in ["README.md", base.trim(), "--3way"] {
            assert!(
                ended.stderr.contains(text),
                "{text} is not in: {}",
                ended.stderr
            );
        }
        files::assert_same(&before, &files::everything(&repo));
    }
}

/// If git fails while it writes, as in a folder that cannot be written to, that is said, with where to look.
#[test]
fn a_write_error_is_reported() {
    let world = World::new();
    let repo = world.repo();
    fs::create_dir(repo.join("locked")).unwrap();
    fs::write(repo.join("locked/file.txt"), "before\n").unwrap();
    world.git(&repo, &["add", "."]);
    world.git(&repo, &["commit", "--quiet", "--message", "second"]);
    let mut agent = agent(&world, "echo x > locked/new.txt");
    world.outcome_of("T-1");
    world.fence();
    agent.terminate();
    files::chmod("555", &repo.join("locked"));
    let mut launch = launch(&world, &["T-1"]);
    if nix::unistd::geteuid().is_root() {
        // Root may write everywhere, so another user does it here.
        const NOBODY: u32 = 65_534;
        launch = launch.by_user(NOBODY, &world.path("wf0-agent"));
        files::chown(NOBODY, world.dir.path());
    }
    let ended = launch.output();
    files::chmod("755", &repo.join("locked"));
    assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{ended:?}");
    assert!(
        ended.stderr.contains("locked") && ended.stderr.contains("git status"),
        "{}",
        ended.stderr
    );
}

/// A typo is answered with the newest tickets; a run in place, one that still runs and one that changed nothing each get
/// their own answer.
#[test]
fn what_cannot_be_applied_is_told() {
    let world = World::new();
    let mut agent = agent(&world, "echo changed >> README.md");
    world.outcome_of("T-1");
    world.cli("true");
    world.outcome_of("nothing");
    world.cli("echo x > partial.txt; exit 3");
    world.outcome_of("failed");
    world.cli("tell up; hold go");
    world.assign("running");
    world.told("up");
    let before = files::everything(&world.repo());
    let rows = [
        ("T-11", 1, "running, failed, nothing, T-1"),
        ("../../etc", 1, "no ticket"),
        ("", 1, "no ticket"),
        ("running", 1, "not ended"),
        ("nothing", 0, "changed nothing"),
    ];
    for (ticket, code, text) in rows {
        let ended = apply(&world, &[ticket]);
        assert_eq!(ended.code, code, "{ticket}: {ended:?}");
        let said = if code == 0 {
            &ended.stdout
        } else {
            &ended.stderr
        };
        assert!(said.contains(text), "{ticket}: {ended:?}");
        files::assert_same(&before, &files::everything(&world.repo()));
    }
    let ended = apply(&world, &["failed"]);
    assert!(
        ended.code == 0 && ended.stdout.contains("The run itself failed: "),
        "{ended:?}"
    );
    assert!(world.repo().join("partial.txt").exists());
    world.release("go");
    world.backend.outcome("running");
    agent.terminate();
    let _agent = world.agent("echo in place > place.txt");
    world.outcome_of("place");
    let ended = apply(&world, &["place"]);
    assert!(
        ended.code == 0 && ended.stdout.contains("ran directly in"),
        "{ended:?}"
    );
    let ended = apply(&world, &["T-1"]).code;
    assert_eq!(
        ended, 0,
        "a run in a clone stays one whatever the mode is now"
    );
}

/// The newest run of a ticket counts; an older one can be named by its own id.
#[test]
fn the_newest_run_counts() {
    let world = World::new();
    let _agent = agent(&world, "echo one > one.txt");
    world.outcome_of("T-1");
    let runs = fs::read_dir(world.state().join("tickets")).unwrap();
    let first = runs
        .map(|run| run.unwrap().file_name().into_string().unwrap())
        .next()
        .unwrap();
    world.cli("echo two > two.txt");
    world.outcome_with("T-1", json!({"attempt": 2}));
    assert_eq!(apply(&world, &["T-1"]).code, 0);
    assert!(world.repo().join("two.txt").exists() && !world.repo().join("one.txt").exists());
    assert_eq!(apply(&world, &[&first]).code, 0);
    assert!(world.repo().join("one.txt").exists());
}

/// A ticket for a folder of a repository is applied where it belongs, and another checkout can be named.
#[test]
fn a_subfolder_and_another_checkout_work() {
    let world = World::new();
    let elsewhere = world.path("elsewhere");
    files::copy(&world.repo(), &elsewhere);
    let launch = world
        .launch("echo x > new.rs; echo x >> lib.rs")
        .env("WORKSPACE_MODE", "clone");
    let paths = format!("acme/app={}", world.repo().join("src").display());
    let _agent = world.registered(launch.env("REPO_PATHS", paths));
    world.outcome_of("T-1");
    assert_eq!(
        apply(&world, &["T-1", elsewhere.join("src").to_str().unwrap()]).code,
        0
    );
    assert!(elsewhere.join("src/new.rs").exists() && !world.repo().join("src/new.rs").exists());
    assert_eq!(apply(&world, &["T-1"]).code, 0);
    assert!(world.repo().join("src/new.rs").exists());
    let ended = apply(&world, &["T-1", world.home().to_str().unwrap()]);
    assert!(
        ended.code == 1 && ended.stderr.contains("git repository"),
        "{ended:?}"
    );
}

/// A state folder that is not there is a wrong setting, and is not made.
#[test]
fn a_missing_state_folder_is_a_wrong_setting() {
    let world = World::new();
    let ended = apply(&world, &["T-1"]);
    assert_eq!(ended.code, 78, "{ended:?}");
    assert!(ended.stderr.contains("STATE_DIR"), "{}", ended.stderr);
    assert!(!world.state().exists());
}
