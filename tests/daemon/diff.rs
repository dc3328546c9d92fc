//! The diff: what the run changed and nothing else, with the repository untouched.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::agent::{Agent, Launch, TOKEN};
use crate::support::files;
use crate::support::world::{SLUG, World};

/// Runs one ticket and proves its diff: applied to a copy of the work tree from before, it gives the work tree from
/// after. Gives the result.
fn proven(world: &World, repo: &Path, launch: Launch) -> (Agent, Value) {
    let before = world.path("before");
    copy_work_tree(repo, &before);
    let agent = world.registered(launch.env("REPO_PATHS", format!("acme/app={}", repo.display())));
    let result = world.outcome_of("T-1");
    assert_eq!(result["type"], "ticket.result", "{result}");
    let diff = diff_of(&result);
    apply(world, &before, diff);
    files::assert_same(&files::work_tree(&before), &files::work_tree(repo));
    assert_eq!(result["diffTruncated"], false);
    assert_eq!(result["warnings"], json!([]));
    (agent, result)
}

fn copy_work_tree(repo: &Path, to: &Path) {
    files::copy(repo, to);
    let dot_git = to.join(".git");
    match dot_git.symlink_metadata() {
        Ok(found) if found.is_dir() => {
            files::chmod("u+w", &dot_git);
            fs::remove_dir_all(dot_git).unwrap();
        }
        Ok(_) => fs::remove_file(dot_git).unwrap(),
        Err(_) => {}
    }
}

/// `git apply` in a folder that is no repository.
fn apply(world: &World, folder: &Path, diff: &str) {
    if diff.is_empty() {
        return;
    }
    let patch = world.path("the.patch");
    fs::write(&patch, diff).unwrap();
    let output = Command::new("git")
        .args(["apply", "--whitespace=nowarn"])
        .arg(&patch)
        .current_dir(folder)
        .env("HOME", world.home())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CEILING_DIRECTORIES", world.path(""))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}\n{diff}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn diff_of(result: &Value) -> &str {
    result["diff"]
        .as_str()
        .unwrap_or_else(|| panic!("no diff: {result}"))
}

/// Commits all that there is in the work tree.
fn commit_all(world: &World, repo: &Path, message: &str) {
    world.git(repo, &["add", "."]);
    world.git(repo, &["commit", "--quiet", "--message", message]);
}

/// Adds a repository as the submodule `library`.
fn add_submodule(world: &World, repo: &Path) {
    let library = world.make_repo("library").display().to_string();
    let allow = "protocol.file.allow=always";
    let add = ["submodule", "--quiet", "add", &library, "library"];
    world.git(repo, &[["-c", allow].as_slice(), &add].concat());
    world.git(repo, &["commit", "--quiet", "--message", "library"]);
}

/// The files that a diff names, in its own order and spelling.
fn names(diff: &str) -> Vec<&str> {
    diff.lines()
        .filter_map(|line| line.strip_prefix("diff --git "))
        .collect()
}

/// What was changed, staged, deleted or untracked before the run is not in the diff.
#[test]
fn what_was_dirty_before_is_left_out() {
    let world = World::new();
    let repo = world.repo();
    for name in ["staged.txt", "gone.txt", "both.txt"] {
        fs::write(repo.join(name), "as committed\n").unwrap();
    }
    commit_all(&world, &repo, "second");
    fs::write(repo.join("README.md"), "# App\n\nchanged before\n").unwrap();
    fs::write(repo.join("staged.txt"), "staged before\n").unwrap();
    fs::write(repo.join("new-staged.txt"), "staged and new\n").unwrap();
    world.git(&repo, &["add", "staged.txt", "new-staged.txt"]);
    fs::remove_file(repo.join("gone.txt")).unwrap();
    fs::write(repo.join("both.txt"), "changed before\n").unwrap();
    fs::write(repo.join("untracked.txt"), "untracked before\n").unwrap();
    let script = "echo 'by the run' >> src/lib.rs; echo 'by the run' >> both.txt; echo 'by the run' >> untracked.txt";
    let (_agent, result) = proven(&world, &repo, world.launch(script));
    let diff = result["diff"].as_str().unwrap();
    assert_eq!(
        names(diff),
        [
            "a/both.txt b/both.txt",
            "a/src/lib.rs b/src/lib.rs",
            "a/untracked.txt b/untracked.txt"
        ]
    );
    assert_eq!(
        result["diffStat"],
        json!({"files": 3, "insertions": 3, "deletions": 0})
    );
    assert!(
        !diff.contains("+changed before") && !diff.contains("+untracked before"),
        "{diff}"
    );
}

/// A run that changes nothing has an empty diff, also in a work tree that is not clean.
#[test]
fn a_run_without_changes_has_an_empty_diff() {
    let world = World::new();
    fs::write(world.repo().join("README.md"), "dirty\n").unwrap();
    fs::write(world.repo().join("untracked.txt"), "dirty\n").unwrap();
    let (_agent, result) = proven(&world, &world.repo(), world.launch("true"));
    assert_eq!(result["diff"], "");
    assert_eq!(
        result["diffStat"],
        json!({"files": 0, "insertions": 0, "deletions": 0})
    );
}

/// New, deleted, renamed, emptied, binary and executable files, links, and lines without an end are all in the diff.
#[test]
fn every_kind_of_change_is_in_the_diff() {
    let world = World::new();
    let repo = world.repo();
    fs::create_dir_all(repo.join("old/deep")).unwrap();
    for name in [
        "deleted.txt",
        "old/name.txt",
        "old/deep/er.txt",
        "mode.sh",
        "unmode.sh",
        "emptied.txt",
        "cut.txt",
    ] {
        fs::write(
            repo.join(name),
            format!("content of {name}\nmore\nand more\n"),
        )
        .unwrap();
    }
    fs::write(repo.join("picture.bin"), [0u8, 1, 2, 255, 254, 0, 10, 13]).unwrap();
    fs::write(repo.join("removed.bin"), [0u8, 9, 9, 9]).unwrap();
    fs::set_permissions(repo.join("unmode.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("README.md", repo.join("link")).unwrap();
    symlink("cut.txt", repo.join("becomes-file")).unwrap();
    commit_all(&world, &repo, "second");
    let script = r#"
        echo new > new.txt; mkdir -p new/folder; echo x > new/folder/x.txt; : > new/empty
        rm deleted.txt removed.bin
        mv old/name.txt renamed.txt; mv old/deep moved-folder
        chmod +x mode.sh; chmod -x unmode.sh
        : > emptied.txt; printf 'no end' > cut.txt
        printf '\000\001\377new' > picture.bin; printf '\000added' > added.bin
        ln -sf src/lib.rs link; ln -s nowhere dangling
        rm becomes-file; echo file > becomes-file
        printf '#!/bin/sh\n' > tool; chmod 755 tool"#;
    let (_agent, result) = proven(&world, &repo, world.launch(script));
    let diff = result["diff"].as_str().unwrap();
    assert!(
        diff.contains("GIT binary patch") && diff.contains("new mode 100755"),
        "{diff}"
    );
    assert!(!diff.contains("Binary files"), "{diff}");
    let full = diff
        .lines()
        .filter_map(|line| line.strip_prefix("index "))
        .all(|line| line.len() >= 82);
    assert!(full, "object names are whole: {diff}");
}

/// The CLI's own commits are in the diff, with what it staged and what it left; HEAD is told before and after.
#[test]
fn the_clis_own_commits_are_in_the_diff() {
    let world = World::new();
    let script = "
        echo committed > committed.txt; git add committed.txt; commit -m one
        git rm -q README.md; commit -m two
        echo staged > staged.txt; git add staged.txt
        echo left > left.txt";
    let base = world.git(&world.repo(), &["rev-parse", "HEAD"]);
    let (_agent, result) = proven(&world, &world.repo(), world.launch(script));
    let head = world.git(&world.repo(), &["rev-parse", "HEAD"]);
    assert_eq!(result["baseCommit"], base.trim());
    assert_eq!(result["headCommit"], head.trim());
    assert_ne!(base, head);
    let expected =
        ["committed.txt", "left.txt", "staged.txt"].map(|name| format!("a/{name} b/{name}"));
    let diff = result["diff"].as_str().unwrap();
    assert_eq!(
        names(diff),
        [
            "a/README.md b/README.md",
            &expected[0],
            &expected[1],
            &expected[2]
        ]
    );
    assert_eq!(
        world.git(&world.repo(), &["diff", "--cached", "--name-only"]),
        "staged.txt\n",
        "the index is the CLI's"
    );
}

/// A CLI that changes to another branch and discards changes is told as what became of the work tree.
#[test]
fn another_branch_is_told_as_the_work_tree() {
    let world = World::new();
    world.git(&world.repo(), &["checkout", "--quiet", "-b", "other"]);
    fs::write(world.repo().join("README.md"), "# Other\n").unwrap();
    world.git(
        &world.repo(),
        &["commit", "--quiet", "--all", "--message", "other"],
    );
    world.git(&world.repo(), &["checkout", "--quiet", "main"]);
    let script = "git checkout --quiet other; git reset --quiet --hard HEAD; echo x > x.txt";
    let (_agent, result) = proven(&world, &world.repo(), world.launch(script));
    assert_eq!(result["diffStat"]["files"], 2);
}

/// What is ignored stays out, whether by `.gitignore`, by `.git/info/exclude` or by the user's own list.
#[test]
fn ignored_files_stay_out() {
    let world = World::new();
    let repo = world.repo();
    fs::write(repo.join(".gitignore"), "*.log\ntarget/\n!keep.log\n").unwrap();
    fs::write(repo.join(".git/info/exclude"), "excluded.txt\n").unwrap();
    fs::write(world.home().join("ignore"), "by-user.txt\n").unwrap();
    fs::write(
        world.home().join(".gitconfig"),
        "[core]\n\texcludesFile = ~/ignore\n",
    )
    .unwrap();
    commit_all(&world, &repo, "second");
    let script = "
        echo x > a.log; mkdir target src/target; echo x > target/x; echo x > src/target/x
        echo x > excluded.txt; echo x > by-user.txt; echo x > keep.log; echo x > told.txt";
    let _agent = world.agent(script);
    let result = world.outcome_of("T-1");
    assert_eq!(
        names(diff_of(&result)),
        ["a/keep.log b/keep.log", "a/told.txt b/told.txt"]
    );
}

/// A text that is not UTF-8 is in the diff so that it can be applied.
#[test]
fn a_file_that_is_not_utf8_is_in_the_diff() {
    let world = World::new();
    let repo = world.repo();
    for name in [
        "latin.txt",
        "with space.txt",
        "[a]*?.txt",
        "naïve \"q\".txt",
    ] {
        fs::write(repo.join(name), b"caf\xe9\nline\n").unwrap();
    }
    commit_all(&world, &repo, "second");
    let script = r#"
        for f in latin.txt 'with space.txt' '[a]*?.txt' 'naïve "q".txt'; do printf 'th\351\n' >> "$f"; done
        printf '\377\376text\n' > new.txt; echo plain > plain.txt"#;
    let (_agent, result) = proven(&world, &repo, world.launch(script));
    assert!(
        result["diff"].as_str().unwrap().contains("+plain"),
        "{}",
        result["diff"]
    );
}

/// The limit holds for the diff that is sent, also if files that are not UTF-8 make it larger than git's own.
#[test]
fn a_diff_with_files_that_are_not_utf8_is_within_the_limit() {
    let world = World::new();
    let mut state = 1_u64;
    let noise: Vec<u8> = (0..7000)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            ((state >> 56) as u8).max(b'\n' + 1)
        })
        .collect();
    fs::write(world.path("noise"), noise).unwrap();
    // As text both together have 19.5 KB, in letters and digits 9.5 KB, and a part of each 21.5 KB.
    let noise = world.path("noise");
    let script = format!(
        "cp {} noise.txt; head -c 12000 /dev/zero | tr '\\0' a > text.txt",
        noise.display()
    );
    let _agent = world.registered(world.launch(&script).env("MAX_DIFF_BYTES", "20500"));
    let result = world.outcome_of("T-1");
    assert_eq!(result["type"], "ticket.result", "{result}");
    assert_eq!(result["diffStat"]["files"], 2, "{result}");
    assert_eq!(result["diffTruncated"], true);
    assert_eq!(result["diff"], Value::Null);
}

/// Names with spaces, quotes, line breaks, letters beyond ASCII or bytes that are no letters are no obstacle.
#[test]
fn unusual_names_are_no_obstacle() {
    let world = World::new();
    let repo = world.repo();
    let names = [
        "with space",
        " leading",
        "-dash",
        "quo\"te",
        "it's",
        "back\\slash",
        "näme",
        "日本語",
        "tab\there",
        "a\nb",
        "*?[x]",
    ];
    for name in names {
        fs::write(repo.join(name), "before\n").unwrap();
    }
    world.git(&repo, &["add", "--", "."]);
    world.git(&repo, &["commit", "--quiet", "--message", "second"]);
    let script = r#"
        for f in * .[!.]*; do [ -f "./$f" ] && echo after >> "./$f"; done
        mkdir 'new folder'; echo x > 'new folder/ñ "x" '; printf x > "$(printf 'raw\377byte')"; echo x > 'a => b'
        rm ./-dash"#;
    let (_agent, result) = proven(&world, &repo, world.launch(script));
    assert_eq!(result["diffStat"]["files"], names.len() + 1 + 3);
}

/// A change that leaves size and modification time as they were is seen.
#[test]
fn a_change_of_same_size_and_time_is_seen() {
    let world = World::new();
    fs::write(world.repo().join("untracked.txt"), "one\n").unwrap();
    let script = r#"for f in README.md untracked.txt; do
        touch -r $f "$WORLD/time"; sed 's/App/Apq/; s/one/two/' $f > "$WORLD/new"; cat "$WORLD/new" > $f; touch -r "$WORLD/time" $f
    done"#;
    let (_agent, result) = proven(&world, &world.repo(), world.launch(script));
    assert_eq!(result["diffStat"]["files"], 2, "{result}");
}

/// Every byte below `.git` is the same before and after, when the CLI touches only the work tree.
#[test]
fn the_repository_is_left_as_it_was() {
    let world = World::new();
    let repo = world.repo();
    fs::write(repo.join("README.md"), "stashed\n").unwrap();
    world.git(&repo, &["stash", "push", "--quiet"]);
    world.git(&repo, &["tag", "v1"]);
    world.git(&repo, &["pack-refs", "--all"]);
    world.git(&repo, &["branch", "loose"]);
    fs::write(repo.join("staged.txt"), "staged\n").unwrap();
    world.git(&repo, &["add", "staged.txt"]);
    fs::write(repo.join("README.md"), "dirty\n").unwrap();
    fs::write(repo.join("untracked.txt"), "untracked\n").unwrap();
    let before = files::everything(&repo.join(".git"));
    let script = "echo x >> README.md; echo x > new.txt; rm src/lib.rs; echo x >> staged.txt; echo x >> untracked.txt";
    let (mut agent, _) = proven(&world, &repo, world.launch(script));
    files::assert_same(&before, &files::everything(&repo.join(".git")));
    agent.terminate();
    files::assert_same(&before, &files::everything(&repo.join(".git")));
}

/// A repository that cannot be written to is no obstacle.
#[test]
fn a_read_only_repository_works() {
    let world = World::new();
    let dot_git = world.repo().join(".git");
    files::chmod("a-w", &dot_git);
    let before = files::everything(&dot_git);
    let (_agent, result) = proven(
        &world,
        &world.repo(),
        world.launch("echo x >> README.md; echo x > new.txt"),
    );
    files::assert_same(&before, &files::everything(&dot_git));
    files::chmod("u+w", &dot_git);
    assert_eq!(result["diffStat"]["files"], 2);
}

/// A lock that another git left, a merge under way and a HEAD without a branch are no obstacle.
#[test]
fn a_repository_in_the_middle_of_something_works() {
    let world = World::new();
    let repo = world.repo();
    for (branch, text) in [("theirs", "# Theirs\n"), ("ours", "# Ours\n")] {
        world.git(&repo, &["checkout", "--quiet", "-b", branch, "main"]);
        fs::write(repo.join("README.md"), text).unwrap();
        world.git(&repo, &["commit", "--quiet", "--all", "--message", branch]);
    }
    world.git(&repo, &["checkout", "--quiet", "--detach"]);
    let merge = Command::new("git")
        .args(["merge", "theirs"])
        .current_dir(&repo)
        .env("HOME", world.home())
        .output();
    assert!(!merge.unwrap().status.success(), "the merge has a conflict");
    fs::write(repo.join(".git/index.lock"), "").unwrap();
    let before = files::everything(&repo.join(".git"));
    let (_agent, result) = proven(&world, &repo, world.launch("echo x > new.txt"));
    assert_eq!(names(diff_of(&result)), ["a/new.txt b/new.txt"]);
    files::assert_same(&before, &files::everything(&repo.join(".git")));
}

/// A repository without a commit has a diff; there is no HEAD to tell.
#[test]
fn a_repository_without_commits_works() {
    let world = World::new();
    let repo = world.path("fresh");
    fs::create_dir(&repo).unwrap();
    world.git(&repo, &["init", "--quiet"]);
    fs::write(repo.join("before.txt"), "before\n").unwrap();
    let (_agent, result) = proven(
        &world,
        &repo,
        world.launch("echo x >> before.txt; echo x > new.txt"),
    );
    assert_eq!(
        (&result["baseCommit"], &result["headCommit"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(
        result["diffStat"],
        json!({"files": 2, "insertions": 2, "deletions": 0})
    );
}

/// The CLI's first commit in a repository without one is told.
#[test]
fn a_first_commit_is_told() {
    let world = World::new();
    let repo = world.path("fresh");
    fs::create_dir(&repo).unwrap();
    world.git(&repo, &["init", "--quiet"]);
    let script = "echo x > new.txt; git add .; commit -m first";
    let (_agent, result) = proven(&world, &repo, world.launch(script));
    assert_eq!(result["baseCommit"], Value::Null);
    assert_eq!(
        result["headCommit"],
        world.git(&repo, &["rev-parse", "HEAD"]).trim()
    );
    assert_eq!(names(diff_of(&result)), ["a/new.txt b/new.txt"]);
}

/// Without git the ticket runs, has no diff, and says why.
#[test]
fn a_folder_without_git_is_a_warning() {
    let world = World::new();
    let folder = world.path("plain");
    fs::create_dir(&folder).unwrap();
    let paths = format!("acme/app={}", folder.display());
    let _agent = world.registered(
        world
            .launch("echo ran; echo x > new.txt")
            .env("REPO_PATHS", paths),
    );
    let result = world.outcome_of("T-1");
    assert_eq!(result["type"], "ticket.result", "{result}");
    assert_eq!(result["stdout"], "ran\n");
    for field in ["diff", "diffStat", "baseCommit", "headCommit"] {
        assert_eq!(result.get(field), Some(&Value::Null), "{field}: {result}");
    }
    assert_eq!(result["diffTruncated"], false);
    let warnings = result["warnings"].as_array().unwrap();
    assert!(
        warnings.len() == 1 && warnings[0].as_str().unwrap().contains("git"),
        "{warnings:?}"
    );
}

/// Where the git program is missing, the ticket runs, has no diff, and says why.
#[test]
fn a_missing_git_program_is_a_warning() {
    let world = World::new();
    let bin = world.path("bin");
    fs::create_dir(&bin).unwrap();
    let _agent = world.registered(world.launch("echo ran").env("PATH", &bin));
    let result = world.outcome_of("T-1");
    assert_eq!(result["type"], "ticket.result", "{result}");
    assert_eq!(result["diff"], Value::Null);
    assert!(
        result["warnings"][0]
            .as_str()
            .is_some_and(|warning| warning.contains("git")),
        "{result}"
    );
}

/// A linked work tree has its own diff, and neither it nor the main repository is changed.
#[test]
fn a_linked_work_tree_works() {
    let world = World::new();
    let linked = world.path("linked");
    world.git(
        &world.repo(),
        &[
            "worktree",
            "add",
            "--quiet",
            linked.to_str().unwrap(),
            "-b",
            "side",
        ],
    );
    fs::write(
        world.repo().join("README.md"),
        "dirty in the main work tree\n",
    )
    .unwrap();
    let before = files::everything(&world.repo());
    let (_agent, result) = proven(
        &world,
        &linked,
        world.launch("echo x >> README.md; echo x > new.txt"),
    );
    assert_eq!(result["diffStat"]["files"], 2);
    files::assert_same(&before, &files::everything(&world.repo()));
}

/// A folder within a repository can be an entry of `REPO_PATHS`; its diff applies at the repository's root.
#[test]
fn a_subfolder_of_a_repository_works() {
    let world = World::new();
    fs::write(world.repo().join("src/untracked.rs"), "before\n").unwrap();
    let dot_git = files::everything(&world.repo().join(".git"));
    let paths = format!("acme/app={}", world.repo().join("src").display());
    let before = world.path("before");
    copy_work_tree(&world.repo(), &before);
    let script = "echo x >> lib.rs; echo x > new.rs; mkdir deep; echo x > deep/x; rm untracked.rs";
    let _agent = world.registered(world.launch(script).env("REPO_PATHS", paths));
    let result = world.outcome_of("T-1");
    apply(&world, &before, result["diff"].as_str().unwrap());
    files::assert_same(&files::work_tree(&before), &files::work_tree(&world.repo()));
    files::assert_same(&dot_git, &files::everything(&world.repo().join(".git")));
    assert_eq!(result["diffStat"]["files"], 4);
}

/// Nothing that the repository's settings name is ever started by the daemon: hooks, monitors, diff programs.
#[test]
fn the_repositorys_programs_are_never_started() {
    let world = World::new();
    let repo = world.repo();
    let trap = world.path("trap");
    world.program(&trap, "tell trapped; cat");
    fs::write(
        repo.join(".gitattributes"),
        "* diff=evil merge=evil text=auto\n",
    )
    .unwrap();
    fs::write(repo.join("dirty.txt"), "before\n").unwrap();
    world.git(&repo, &["add", ".gitattributes"]);
    let hooks = repo.join(".git/hooks");
    fs::create_dir_all(&hooks).unwrap();
    for name in [
        "pre-commit",
        "post-index-change",
        "reference-transaction",
        "post-checkout",
        "pre-auto-gc",
        "fsmonitor-watchman",
    ] {
        world.program(&hooks.join(name), "tell trapped");
    }
    let path = trap.display();
    let settings = format!(
        "[core]\n\tfsmonitor = {path}\n\tpager = {path}\n\teditor = {path}\n\tsshCommand = {path}\n\taskPass = {path}\n\
         \talternateRefsCommand = {path}\n\thooksPath = {hooks}\n\tgitProxy = {path}\n\
         [diff]\n\texternal = {path}\n[diff \"evil\"]\n\tcommand = {path}\n\ttextconv = {path}\n\
         [merge \"evil\"]\n\tdriver = {path}\n[pager]\n\tdiff = {path}\n\tdiff-tree = {path}\n[interactive]\n\tdiffFilter = {path}\n\
         [credential]\n\thelper = {path}\n[gpg]\n\tprogram = {path}\n[uploadpack]\n\tpackObjectsHook = {path}\n\
         [alias]\n\tadd = !{path}\n\tdiff-tree = !{path}\n\twrite-tree = !{path}\n\trev-parse = !{path}\n\
         [trace2]\n\teventTarget = {target}\n",
        hooks = hooks.display(),
        target = world.path("trace").display(),
    );
    let config = repo.join(".git/config");
    fs::write(&config, fs::read_to_string(&config).unwrap() + &settings).unwrap();
    let before = files::everything(&repo.join(".git"));
    let launch = world.launch("echo x >> README.md; echo x > new.txt; echo x >> dirty.txt");
    let launch = launch
        .env("GIT_EXTERNAL_DIFF", &trap)
        .env("GIT_PAGER", &trap)
        .env("GIT_ASKPASS", &trap);
    let (_agent, result) = proven(&world, &repo, launch);
    assert_eq!(result["diffStat"]["files"], 3);
    assert!(
        !world.has_told("trapped"),
        "a program of the repository was started"
    );
    files::assert_same(&before, &files::everything(&repo.join(".git")));
}

/// A filter that the repository's own settings name is never started, not even one that the run sets up: what it is
/// for might be meant to be kept secret, so it is left out, and said.
#[test]
fn a_filter_of_the_repository_is_never_started() {
    let world = World::new();
    let repo = world.repo();
    let trap = world.path("trap");
    world.program(&trap, "tell trapped; sed s/plain/sealed/");
    fs::write(repo.join(".gitattributes"), "*.key filter=seal\n").unwrap();
    world.git(&repo, &["add", "."]);
    for key in ["clean", "smudge", "process"] {
        world.git(
            &repo,
            &[
                "config",
                &format!("filter.seal.{key}"),
                trap.to_str().unwrap(),
            ],
        );
    }
    let script = format!(
        "git config filter.more.clean '{}'; echo plain > a.key; echo other > b.txt",
        trap.display()
    );
    let _agent = world.agent(&script);
    let result = world.outcome_of("T-1");
    assert!(
        !world.has_told("trapped"),
        "a filter of the repository was started"
    );
    let diff = diff_of(&result);
    assert_eq!(names(diff), ["a/b.txt b/b.txt"]);
    let warnings = result["warnings"].as_array().unwrap();
    assert!(
        warnings.len() == 1 && warnings[0].as_str().unwrap().contains("a.key"),
        "{warnings:?}"
    );
}

/// A filter of the user's own settings works as ever, without the token in its environment.
#[test]
fn a_filter_of_the_user_is_applied() {
    let world = World::new();
    let repo = world.repo();
    let filter = world.path("filter");
    world.program(&filter, "env >> \"$WORLD/filter-env\"; sed s/plain/sealed/");
    let settings = format!(
        "[filter \"seal\"]\n\tclean = {}\n\trequired = true\n",
        filter.display()
    );
    fs::write(world.home().join(".gitconfig"), settings).unwrap();
    fs::write(repo.join(".gitattributes"), "*.key filter=seal\n").unwrap();
    let _agent = world.agent("echo plain > a.key");
    let result = world.outcome_of("T-1");
    let diff = diff_of(&result);
    assert!(
        diff.contains("+sealed") && !diff.contains("+plain"),
        "{diff}"
    );
    let env = world.read("filter-env");
    assert!(
        !env.is_empty() && !env.contains(TOKEN),
        "the filter has the token, or was not started"
    );
}

/// git's own variables in the daemon's environment do not lead it astray.
#[test]
fn git_variables_do_not_lead_astray() {
    let world = World::new();
    let other = world.make_repo("other");
    let before = files::everything(&other);
    let launch = world
        .launch("echo x >> README.md")
        .env("GIT_DIR", other.join(".git"))
        .env("GIT_WORK_TREE", &other)
        .env("GIT_INDEX_FILE", other.join(".git/index"))
        .env("GIT_OBJECT_DIRECTORY", other.join(".git/objects"))
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "core.quotePath")
        .env("GIT_CONFIG_VALUE_0", "false")
        .env("GIT_DIFF_OPTS", "--unified=0");
    let (_agent, result) = proven(&world, &world.repo(), launch);
    assert_eq!(names(diff_of(&result)), ["a/README.md b/README.md"]);
    files::assert_same(&before, &files::everything(&other));
}

/// The user's own settings do not change what a diff looks like.
#[test]
fn the_users_settings_do_not_change_the_form() {
    let world = World::new();
    let settings = "[diff]\n\tnoprefix = true\n\tmnemonicPrefix = true\n\tcontext = 0\n\talgorithm = patience\n\
                    [color]\n\tui = always\n\tdiff = always\n[core]\n\tquotePath = false\n\tabbrev = 4\n";
    fs::write(world.home().join(".gitconfig"), settings).unwrap();
    let (_agent, result) = proven(&world, &world.repo(), world.launch("echo x >> src/lib.rs"));
    let diff = result["diff"].as_str().unwrap();
    assert!(
        diff.starts_with("diff --git a/src/lib.rs b/src/lib.rs\nindex "),
        "{diff}"
    );
    assert!(
        diff.contains("\n pub fn one()") || diff.contains("\n     1\n"),
        "context is missing: {diff}"
    );
}

/// A diff above `MAX_DIFF_BYTES` is left out whole and said to be; its figures are sent, and all of it is on disk.
#[test]
fn a_large_diff_is_left_out_and_kept() {
    let world = World::new();
    let script =
        "yes 'a changed line' | head -n 200 > big.txt; echo 'the very last line' >> big.txt";
    let _agent = world.registered(world.launch(script).env("MAX_DIFF_BYTES", "2048"));
    let result = world.outcome_of("T-1");
    assert_eq!(result["type"], "ticket.result");
    assert_eq!(result["diff"], Value::Null);
    assert_eq!(result["diffTruncated"], true);
    assert_eq!(
        result["diffStat"],
        json!({"files": 1, "insertions": 201, "deletions": 0})
    );
    assert!(
        files::holding(&world.state(), b"+the very last line").is_some(),
        "the whole diff is not on disk"
    );
    world.cli("echo small > small.txt");
    let result = world.outcome_of("T-2");
    assert_eq!(result["diffTruncated"], false);
    assert_eq!(names(diff_of(&result)), ["a/small.txt b/small.txt"]);
}

/// A repository that the CLI makes within the repository does not cost the rest of the diff.
#[test]
fn a_nested_repository_does_not_cost_the_diff() {
    let world = World::new();
    let _agent = world.agent(
        "git init -q nested; echo x > nested/inner.txt; echo x > outer.txt; echo x >> README.md",
    );
    let result = world.outcome_of("T-1");
    assert_eq!(result["type"], "ticket.result", "{result}");
    let diff = diff_of(&result);
    assert!(
        diff.contains("b/outer.txt") && diff.contains("b/README.md"),
        "{diff}"
    );
}

/// Files that are neither files nor links do not cost the rest of the diff.
#[test]
fn special_files_do_not_cost_the_diff() {
    let world = World::new();
    let _agent = world.agent("mkfifo pipe; echo x > outer.txt");
    let result = world.outcome_of("T-1");
    let diff = diff_of(&result);
    assert_eq!(names(diff), ["a/outer.txt b/outer.txt"]);
}

/// A pipe in the place of one of git's own files is waited for by nobody: the next ticket ends, with a warning for a diff.
#[test]
fn a_pipe_in_git_holds_up_nothing() {
    let world = World::new();
    let _agent =
        world.agent("rm -f .git/info/exclude; mkfifo .git/info/exclude; echo more >> README.md");
    world.outcome_of("T-1");
    let second = world.outcome_of("T-2");
    assert_eq!(second["type"], "ticket.result", "{second}");
    assert!(
        second["warnings"]
            .to_string()
            .contains("info/exclude is no file"),
        "{second}"
    );
}

/// Whoever tells git to assume that a file never changes is taken at that word; the rest of the diff is whole.
#[test]
fn an_assume_unchanged_file_is_left_out() {
    let world = World::new();
    world.git(
        &world.repo(),
        &["update-index", "--assume-unchanged", "README.md"],
    );
    let _agent = world.agent("echo x >> README.md; echo x > new.txt");
    let result = world.outcome_of("T-1");
    assert_eq!(names(diff_of(&result)), ["a/new.txt b/new.txt"]);
}

/// A change is seen even where the index was told to leave the file of the work tree alone.
#[test]
fn a_skip_worktree_file_is_seen() {
    let world = World::new();
    world.git(
        &world.repo(),
        &["update-index", "--skip-worktree", "README.md"],
    );
    let (_agent, result) = proven(
        &world,
        &world.repo(),
        world.launch("echo x >> README.md; echo x > new.txt"),
    );
    assert_eq!(result["diffStat"]["files"], 2);
}

/// Two runs one after the other have each their own diff.
#[test]
fn each_run_has_its_own_diff() {
    let world = World::new();
    let _agent = world.agent("echo \"$WF0_TICKET_ID\" > \"$WF0_TICKET_ID.txt\"");
    for id in ["T-1", "T-2"] {
        let result = world.outcome_of(id);
        let name = format!("a/{id}.txt b/{id}.txt");
        assert_eq!(names(diff_of(&result)), [name.as_str()]);
    }
}

/// A file that is for a filter of the repository stays out of the diff also where its name is not UTF-8, where the
/// run deletes it, and where the run takes the filter away.
#[test]
fn what_a_filter_would_hide_never_shows() {
    let world = World::new();
    let repo = world.repo();
    fs::write(repo.join(".gitattributes"), "*.key filter=seal\n").unwrap();
    fs::write(repo.join("b.key"), "sealed\n").unwrap();
    fs::write(repo.join("c.key"), "sealed\n").unwrap();
    commit_all(&world, &repo, "keys");
    world.git(&repo, &["config", "filter.seal.clean", "false"]);
    fs::write(repo.join("b.key"), "plain before\n").unwrap();
    let script = "
        echo plain > \"$(printf 'a\\377.key')\"; rm b.key; echo plain > c.key
        echo > .gitattributes; echo open > open.txt";
    let _agent = world.agent(script);
    let result = world.outcome_of("T-1");
    let diff = diff_of(&result);
    assert!(diff.contains("+open") && !diff.contains("plain"), "{diff}");
    assert!(
        result["warnings"].to_string().contains("filter"),
        "{result}"
    );
}

/// In a sparse checkout what lies outside its patterns, and is there all the same, is seen.
#[test]
fn outside_a_sparse_checkout_is_seen() {
    let world = World::new();
    let repo = world.repo();
    fs::create_dir(repo.join("out")).unwrap();
    fs::write(repo.join("out/b"), "b\n").unwrap();
    commit_all(&world, &repo, "out");
    world.git(&repo, &["sparse-checkout", "set", "src"]);
    let _agent = world.agent("mkdir out; echo changed > out/b; echo new > out/n");
    let result = world.outcome_of("T-1");
    let diff = diff_of(&result);
    assert_eq!(
        names(diff),
        ["a/out/b b/out/b", "a/out/n b/out/n"],
        "{result}"
    );
}

/// A repository with submodules says that what changed inside them is not in the diff.
#[test]
fn submodules_are_mentioned() {
    let world = World::new();
    let repo = world.repo();
    add_submodule(&world, &repo);
    let _agent = world.agent("echo changed >> library/README.md; echo x > new.txt");
    let result = world.outcome_of("T-1");
    assert_eq!(names(diff_of(&result)), ["a/new.txt b/new.txt"]);
    assert!(
        result["warnings"].to_string().contains("submodule"),
        "{result}"
    );
}

/// So it is where the entry of `REPO_PATHS` is a folder of the repository, and the pattern names a path.
#[test]
fn a_filter_counts_in_a_subfolder_too() {
    let world = World::new();
    let repo = world.repo();
    fs::create_dir_all(repo.join("app/secrets")).unwrap();
    fs::write(repo.join("app/.gitattributes"), "secrets/** filter=seal\n").unwrap();
    commit_all(&world, &repo, "app");
    world.git(&repo, &["config", "filter.seal.clean", "false"]);
    let launch = world.launch("echo plain > secrets/key; echo open > open.txt");
    let _agent = world.registered(launch.env(
        "REPO_PATHS",
        format!("{SLUG}={}", repo.join("app").display()),
    ));
    let result = world.outcome_of("T-1");
    assert_eq!(
        names(diff_of(&result)),
        ["a/app/open.txt b/app/open.txt"],
        "{result}"
    );
}

/// Has a program started by every git that looks for changes in that repository.
fn arm(world: &World, repo: &Path) {
    let trap = world.path("trap");
    world.program(&trap, "tell trapped; cat");
    let trap = trap.display().to_string();
    world.git(repo, &["config", "filter.x.clean", &trap]);
    world.git(repo, &["config", "core.fsmonitor", &trap]);
    fs::write(repo.join(".gitattributes"), "* filter=x\n").unwrap();
    // Of the same size, at another time: only the filter tells whether it has changed.
    fs::write(repo.join("README.md"), "# Apq\n").unwrap();
}

/// No git of the daemon works in a repository within the repository: an untracked one, one inside that, a submodule, a
/// linked work tree. Their settings may name programs.
#[test]
fn no_git_works_in_a_nested_repository() {
    let world = World::new();
    let repo = world.repo();
    add_submodule(&world, &repo);
    world.git(&repo, &["worktree", "add", "--quiet", "tree"]);
    let outer = world.make_repo("app/vendor/outer");
    let inner = world.make_repo("app/vendor/outer/inner");
    for nested in [&repo.join("library"), &outer, &inner, &repo.join("tree")] {
        arm(&world, nested);
    }
    let _agent = world
        .agent("echo x > $WF0_TICKET_ID; echo x > vendor/outer/new.txt; echo x > library/new.txt");
    for ticket in ["T-1", "T-2"] {
        let result = world.outcome_of(ticket);
        assert!(
            !world.has_told("trapped"),
            "a program of a nested repository was started"
        );
        let warnings = result["warnings"].to_string();
        for nested in ["library", "vendor/outer", "tree"] {
            assert!(warnings.contains(nested), "{nested}: {result}");
        }
        assert_eq!(names(diff_of(&result)), [format!("a/{ticket} b/{ticket}")]);
    }
}
