//! `implement_prd`: work on a branch that the backend names, pushed and offered as a pull request, and nothing else
//! touched of what the developer has.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::files;
use crate::support::hub::{Hub, errand, prd};

const BRANCH: &str = "feature/x";
const URL: &str = "https://host.example/acme/app/pull/7";

/// A hub, and a bare repository that is the origin of the world's.
struct Desk {
    hub: Hub,
    repo: PathBuf,
    origin: PathBuf,
}

impl Desk {
    fn new() -> Self {
        let hub = Hub::new();
        let (repo, origin) = (hub.world.repo(), hub.world.path("origin.git"));
        let desk = Self { hub, repo, origin };
        desk.git(&["clone", "--quiet", "--bare", ".", "../origin.git"]);
        desk.git(&["remote", "add", "origin", "../origin.git"]);
        // What a developer has set up; the agent's commits are in their name.
        desk.git(&["config", "user.name", "Dev"]);
        desk.git(&["config", "user.email", "dev@host.example"]);
        desk
    }

    fn git(&self, args: &[&str]) -> String {
        self.hub.world.git(&self.repo, args).trim_end().to_owned()
    }

    /// What was pushed is there only.
    fn origin(&self, args: &[&str]) -> String {
        self.hub.world.git(&self.origin, args).trim_end().to_owned()
    }

    /// The branches at the origin, each with its commit.
    fn pushed(&self) -> Vec<(String, String)> {
        let refs = self.origin(&["for-each-ref", "--format=%(refname) %(objectname)"]);
        refs.lines()
            .map(|line| line.split_once(' ').unwrap())
            .map(|(name, at)| (name.to_owned(), at.to_owned()))
            .collect()
    }

    fn pushed_branch(&self, branch: &str) -> Option<String> {
        let name = format!("refs/heads/{branch}");
        self.pushed()
            .into_iter()
            .find(|(own, _)| *own == name)
            .map(|(_, at)| at)
    }

    /// The files of a commit.
    fn files_of(&self, commit: &str) -> Vec<String> {
        self.origin(&["ls-tree", "-r", "--name-only", commit])
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// Runs a job on the branch, of a CLI that does that.
    fn run(&self, script: &str) -> Value {
        let _agent = self.hub.agent(script);
        self.hub.run(prd("J-1", BRANCH))
    }

    fn head(&self) -> String {
        self.git(&["rev-parse", "--abbrev-ref", "HEAD"])
    }
}

fn warnings(result: &Value) -> String {
    let all = result["data"]["warnings"]
        .as_array()
        .unwrap_or_else(|| panic!("{result}"));
    all.iter()
        .map(|warning| warning.as_str().unwrap())
        .collect::<Vec<_>>()
        .join("\n")
}

/// Logs its arguments, one a line, and prints the address of a pull request.
fn gh(desk: &Desk) -> String {
    desk.hub.world.on_path(
        "gh",
        &format!("printf '%s\\n' \"$@\" > \"$WORLD/gh-args\"; echo Creating; echo {URL}"),
    )
}

/// The branch is made from the current commit; what the CLI left is committed with the job's title; the branch, and
/// nothing else, is pushed; and the developer's checkout is as it was, and knows nothing of it.
#[test]
fn a_new_branch_is_worked_on_and_pushed() {
    let desk = Desk::new();
    let before = (
        desk.git(&["rev-parse", "main"]),
        files::work_tree(&desk.repo),
    );
    let tags = desk.git(&["tag", "--annotate", "v1", "--message", "one"]);
    let result = desk
        .run("git symbolic-ref HEAD > \"$WORLD/on\"; cat > \"$WORLD/prompt\"; echo new > new.txt");
    assert_eq!(result["status"], "done", "{result}{tags}");
    assert_eq!(desk.hub.world.read("on").trim(), "refs/heads/feature/x");
    let prompt = desk.hub.world.read("prompt");
    assert!(
        prompt.contains("Make it so.") && prompt.contains(BRANCH),
        "{prompt}"
    );

    let tip = desk
        .pushed_branch(BRANCH)
        .unwrap_or_else(|| panic!("nothing is pushed: {result}"));
    let names: Vec<_> = desk.pushed().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["refs/heads/feature/x", "refs/heads/main"]);
    assert_eq!(desk.pushed_branch("main"), Some(before.0.clone()));
    assert_eq!(
        desk.origin(&["log", "-1", "--format=%s|%an|%P", &tip]),
        format!("Make it|Dev|{}", before.0)
    );
    assert_eq!(desk.files_of(&tip), ["README.md", "new.txt", "src/lib.rs"]);
    assert_eq!(
        (&result["data"]["baseCommit"], &result["data"]["headCommit"]),
        (&json!(before.0), &json!(tip))
    );
    assert!(
        result["data"]["diff"]
            .as_str()
            .is_some_and(|diff| diff.contains("+new")),
        "{result}"
    );

    assert_eq!(
        (
            desk.head().as_str(),
            desk.git(&["branch", "--list"]).as_str()
        ),
        ("main", "* main")
    );
    assert_eq!(desk.git(&["rev-parse", "main"]), before.0);
    files::assert_same(&before.1, &files::work_tree(&desk.repo));
}

/// A branch that is there is worked on where it is, checked out or not; commits of the CLI's own are pushed with it.
#[test]
fn an_existing_branch_is_continued() {
    for checked_out in [false, true] {
        let desk = Desk::new();
        desk.git(&["switch", "--quiet", "--create", BRANCH]);
        desk.git(&["commit", "--quiet", "--allow-empty", "--message", "second"]);
        let second = desk.git(&["rev-parse", "HEAD"]);
        if !checked_out {
            desk.git(&["switch", "--quiet", "main"]);
        }
        let result =
            desk.run("echo own > own.txt; git add own.txt; commit -m own; echo left > left.txt");
        assert_eq!(
            (
                result["status"].as_str(),
                warnings(&result).contains("not pushed")
            ),
            (Some("done"), false)
        );
        let tip = desk.pushed_branch(BRANCH).unwrap();
        assert_eq!(
            desk.origin(&["log", "-3", "--format=%s", &tip]),
            "Make it\nown\nsecond"
        );
        assert_eq!(desk.origin(&["rev-parse", &format!("{tip}~2")]), second);
        assert_eq!(desk.head(), if checked_out { BRANCH } else { "main" });
    }
}

/// A branch that is only at the origin, of an earlier attempt or another agent's, is continued from there.
#[test]
fn a_branch_of_the_origin_is_continued() {
    let desk = Desk::new();
    let theirs = desk.git(&["commit-tree", "-m", "theirs", "-p", "main", "main^{tree}"]);
    desk.git(&[
        "push",
        "--quiet",
        "origin",
        &format!("{theirs}:refs/heads/feature/x"),
    ]);
    let result = desk.run("echo new > new.txt");
    assert_eq!(
        (
            result["status"].as_str(),
            warnings(&result).contains("not pushed")
        ),
        (Some("done"), false)
    );
    let tip = desk.pushed_branch(BRANCH).unwrap();
    assert_eq!(
        desk.origin(&["log", "-2", "--format=%s", &tip]),
        "Make it\ntheirs"
    );
}

/// A branch that has moved on at the origin is not overwritten: a warning says so, and the job is done all the same.
#[test]
fn nothing_is_forced() {
    let desk = Desk::new();
    desk.git(&["push", "--quiet", "origin", "main:refs/heads/feature/x"]);
    let theirs = desk.git(&["commit-tree", "-m", "theirs", "-p", "main", "main^{tree}"]);
    desk.git(&[
        "push",
        "--quiet",
        "origin",
        &format!("{theirs}:refs/heads/feature/x"),
    ]);
    desk.git(&["branch", BRANCH, "main"]);
    desk.git(&["config", "push.default", "matching"]);
    desk.git(&["config", "remote.origin.push", "+refs/heads/*:refs/heads/*"]);
    desk.git(&["config", "remote.origin.mirror", "true"]);
    let path = gh(&desk);
    let _agent = desk
        .hub
        .registered(desk.hub.launch("echo ours > ours.txt").env("PATH", path));
    let result = desk.hub.run(prd("J-1", BRANCH));
    assert_eq!(result["status"], "done", "{result}");
    assert!(warnings(&result).contains("not pushed"), "{result}");
    assert_eq!(result["data"]["prUrl"], Value::Null, "{result}");
    assert!(
        !desk.hub.world.path("gh-args").exists(),
        "no pull request of what is not there"
    );
    assert_eq!(desk.pushed_branch(BRANCH), Some(theirs));
    assert_eq!(desk.pushed().len(), 2);
}

/// What the developer has not committed, staged or not, known to git or not, is in no commit and still there; a warning
/// says that the run did not have it.
#[test]
fn the_developers_changes_are_not_committed() {
    for show in ["normal", "no"] {
        for (file, stage) in [
            ("README.md", false),
            ("README.md", true),
            ("draft.txt", false),
            ("draft.txt", true),
        ] {
            let desk = Desk::new();
            desk.git(&["config", "status.showUntrackedFiles", show]);
            fs::write(desk.repo.join(file), "a draft\n").unwrap();
            if stage {
                desk.git(&["add", file]);
            }
            let result = desk.run(
                "echo own > own.txt; git add own.txt; commit -m own own.txt; echo left > left.txt",
            );
            assert_eq!(result["status"], "done", "{result}");
            let tip = desk.pushed_branch(BRANCH).unwrap();
            assert_eq!(
                desk.files_of(&tip),
                ["README.md", "left.txt", "own.txt", "src/lib.rs"],
                "{file} {stage} {show}"
            );
            assert_eq!(
                desk.origin(&["show", &format!("{tip}:README.md")]),
                "# App",
                "{file} {stage} {show}"
            );
            assert_eq!(
                fs::read_to_string(desk.repo.join(file)).unwrap(),
                "a draft\n"
            );
            assert!(
                warnings(&result).contains("has uncommitted changes"),
                "{result}"
            );
        }
    }
}

/// A submodule in which the developer has another commit checked out stays what it was in the run's commit.
#[test]
fn the_developers_submodules_are_not_committed() {
    let desk = Desk::new();
    desk.hub.world.make_repo("library");
    desk.git(&[
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        "../library",
        "library",
    ]);
    desk.git(&["commit", "--quiet", "--message", "library"]);
    let recorded = desk.git(&["rev-parse", "main:library"]);
    let library = desk.repo.join("library");
    desk.hub.world.git(
        &library,
        &["commit", "--quiet", "--allow-empty", "--message", "draft"],
    );
    let result = desk.run("echo new > new.txt");
    assert_eq!(result["status"], "done", "{result}");
    assert_eq!(
        desk.origin(&[
            "rev-parse",
            &format!("{}:library", desk.pushed_branch(BRANCH).unwrap())
        ]),
        recorded
    );
}

/// What the run makes of a submodule, or of a new repository within the clone, is not committed, and no git of the daemon
/// works in there: its settings may name programs.
#[test]
fn no_git_works_in_a_nested_repository() {
    let desk = Desk::new();
    let world = &desk.hub.world;
    world.make_repo("library");
    let library = world.path("library").display().to_string();
    let allow = "protocol.file.allow=always";
    desk.git(&["-c", allow, "submodule", "--quiet", "add", &library]);
    desk.git(&["commit", "--quiet", "--message", "library"]);
    let recorded = desk.git(&["rev-parse", "main:library"]);
    let trap = world.path("trap");
    world.program(&trap, "tell trapped; cat");
    let script = format!(
        "git -c {allow} submodule --quiet update --init
         git clone --quiet '{library}' nested
         for repo in library nested; do
           git -C $repo -c user.name=n -c user.email=e commit --quiet --allow-empty --message more
           git -C $repo config filter.x.clean '{trap}'
           git -C $repo config core.fsmonitor '{trap}'
           echo '* filter=x' > $repo/.gitattributes
           echo '# Apq' > $repo/README.md
         done
         echo new > new.txt",
        trap = trap.display()
    );
    let result = desk.run(&script);
    assert_eq!(result["status"], "done", "{result}");
    assert!(
        !world.has_told("trapped"),
        "a program of a nested repository was started"
    );
    let pushed = desk.pushed_branch(BRANCH).unwrap();
    assert_eq!(
        desk.origin(&["rev-parse", &format!("{pushed}:library")]),
        recorded
    );
    let files = desk.files_of(&pushed);
    assert!(files.contains(&"new.txt".to_owned()), "{files:?}");
    assert!(!files.contains(&"nested".to_owned()), "{files:?}");
    let warnings = warnings(&result);
    assert!(
        warnings.contains("library") && warnings.contains("nested"),
        "{warnings}"
    );
}

/// New files are committed also where git is told not to show such files.
#[test]
fn hidden_new_files_are_committed() {
    let desk = Desk::new();
    desk.git(&["config", "status.showUntrackedFiles", "no"]);
    let result = desk.run("echo new > new.txt");
    assert!(
        desk.files_of(&desk.pushed_branch(BRANCH).unwrap())
            .contains(&"new.txt".to_owned()),
        "{result}"
    );
}

/// No hook of the repository is run, wherever its settings have them.
#[test]
fn no_hook_is_run() {
    const HOOKS: [&str; 8] = [
        "pre-commit",
        "commit-msg",
        "prepare-commit-msg",
        "post-commit",
        "post-checkout",
        "pre-push",
        "reference-transaction",
        "post-index-change",
    ];
    for elsewhere in [false, true] {
        let desk = Desk::new();
        let hooks = if elsewhere {
            desk.hub.world.path("hooks")
        } else {
            desk.repo.join(".git/hooks")
        };
        fs::create_dir_all(&hooks).unwrap();
        if elsewhere {
            desk.git(&["config", "core.hooksPath", &hooks.display().to_string()]);
        }
        for name in HOOKS {
            desk.hub.world.program(
                &hooks.join(name),
                &format!("echo {name} >> \"$WORLD/hooks-run\"; exit 1"),
            );
        }
        let result = desk.run("echo new > new.txt");
        assert_eq!(
            (result["status"].as_str(), desk.head().as_str()),
            (Some("done"), "main"),
            "{result}"
        );
        assert!(desk.pushed_branch(BRANCH).is_some(), "{result}");
        assert!(
            !desk.hub.world.path("hooks-run").exists(),
            "{}",
            desk.hub.world.read("hooks-run")
        );
    }
}

/// An origin that is a repository on this machine has its hooks and settings left alone too: the repository may name any
/// folder as its origin, one of its own among them.
#[test]
fn no_program_of_a_local_origin_is_run() {
    const HOOKS: [&str; 6] = [
        "pre-receive",
        "update",
        "reference-transaction",
        "post-receive",
        "post-update",
        "push-to-checkout",
    ];
    for address in ["./.git/evil.git", ".git/evil.git", "file://{}"] {
        let mut desk = Desk::new();
        desk.origin = desk.repo.join(".git/evil.git");
        desk.git(&["clone", "--quiet", "--bare", ".", ".git/evil.git"]);
        let address = address.replace("{}", &desk.origin.display().to_string());
        desk.git(&["remote", "set-url", "origin", &address]);
        let world = &desk.hub.world;
        let trap = world.path("trap");
        world.program(&trap, "echo trap >> \"$WORLD/programs-run\"");
        for name in HOOKS {
            world.program(
                &desk.origin.join("hooks").join(name),
                &format!("echo {name} >> \"$WORLD/programs-run\""),
            );
        }
        let trap = trap.display().to_string();
        for name in [
            "core.fsmonitor",
            "core.alternateRefsCommand",
            "uploadpack.packObjectsHook",
            "gc.recentObjectsHook",
        ] {
            desk.origin(&["config", name, &trap]);
        }
        let objects = world.repo().join(".git/objects").display().to_string();
        fs::write(desk.origin.join("objects/info/alternates"), objects + "\n").unwrap();
        let result = desk.run("echo new > new.txt");
        assert_eq!(result["status"], "done", "{result}");
        assert!(desk.pushed_branch(BRANCH).is_some(), "{result}");
        assert!(
            !desk.hub.world.path("programs-run").exists(),
            "{address}: {}",
            desk.hub.world.read("programs-run")
        );
    }
}

/// An origin whose checked-out branch would follow a push is not written to: git would work there with its settings.
#[test]
fn no_checkout_of_a_local_origin_is_changed() {
    let mut desk = Desk::new();
    desk.origin = desk.hub.world.path("checkout");
    desk.git(&["clone", "--quiet", ".", "../checkout"]);
    desk.git(&["remote", "set-url", "origin", "../checkout"]);
    let trap = desk.hub.world.path("trap");
    desk.hub.world.program(&trap, "tell trapped; cat");
    desk.origin(&["switch", "--quiet", "--create", BRANCH]);
    let trap = trap.display().to_string();
    for (name, value) in [
        ("receive.denyCurrentBranch", "updateInstead"),
        ("filter.x.smudge", &trap),
        ("filter.x.clean", &trap),
    ] {
        desk.origin(&["config", name, value]);
    }
    fs::write(desk.origin.join(".git/info/attributes"), "* filter=x\n").unwrap();
    let result = desk.run("echo new > new.txt");
    assert!(!desk.hub.world.has_told("trapped"), "{result}");
    assert!(warnings(&result).contains("was not pushed"), "{result}");
}

/// An address that is a command line is not run, not even where the user's settings allow such addresses.
#[test]
fn an_origin_that_is_a_command_is_not_run() {
    let desk = Desk::new();
    let trap = desk.hub.world.path("trap");
    desk.hub.world.program(&trap, "tell trapped");
    let settings = desk.hub.world.home().join(".gitconfig");
    fs::write(settings, "[protocol \"ext\"]\n\tallow = always\n").unwrap();
    let address = format!("ext::{} %S", trap.display());
    desk.git(&["remote", "set-url", "origin", &address]);
    let result = desk.run("echo new > new.txt");
    assert!(!desk.hub.world.has_told("trapped"), "{result}");
    assert!(warnings(&result).contains("was not pushed"), "{result}");
}

/// With `gh` on PATH a pull request is opened for the branch, and its address is `data.prUrl`; no shell reads the title.
#[test]
fn a_pull_request_is_opened() {
    let desk = Desk::new();
    let path = gh(&desk);
    let _agent = desk
        .hub
        .registered(desk.hub.launch("echo new > new.txt").env("PATH", path));
    let mut job = prd("J-1", BRANCH);
    job["payload"]["title"] = json!("--web $(touch x) `y`");
    let result = desk.hub.run(job);
    assert_eq!(result["data"]["prUrl"], URL, "{result}");
    assert_eq!(result["data"]["warnings"], json!([]), "{result}");
    let args = desk.hub.world.read("gh-args");
    let args: Vec<_> = args.lines().collect();
    assert_eq!(
        args[..5],
        [
            "pr",
            "create",
            "--repo=acme/app",
            "--head=feature/x",
            "--title=web $(touch x) `y`"
        ]
    );
    assert!(
        args[5].starts_with("--body=") && args[5].contains("J-1"),
        "{args:?}"
    );
}

/// Where there is a pull request already, its address is asked for.
#[test]
fn a_pull_request_that_is_there_is_named() {
    let desk = Desk::new();
    let path = desk.hub.world.on_path(
        "gh",
        &format!("[ $2 = create ] && {{ echo 'already exists' >&2; exit 1; }}; printf '%s ' \"$@\" > \"$WORLD/gh-args\"; echo {URL}"),
    );
    let _agent = desk
        .hub
        .registered(desk.hub.launch("echo new > new.txt").env("PATH", path));
    assert_eq!(desk.hub.run(prd("J-1", BRANCH))["data"]["prUrl"], URL);
    assert!(
        desk.hub
            .world
            .read("gh-args")
            .starts_with("pr list --repo=acme/app --head=feature/x --state=open ")
    );
}

/// Without `gh`, or with one that fails, there is a warning and no pull request; the branch is pushed.
#[test]
fn without_gh_there_is_a_warning() {
    let desk = Desk::new();
    // git and nothing else.
    let bin = desk.hub.world.path("git-only");
    fs::create_dir(&bin).unwrap();
    let git = Command::new("sh")
        .args(["-c", "command -v git"])
        .output()
        .unwrap()
        .stdout;
    symlink(
        Path::new(String::from_utf8(git).unwrap().trim()),
        bin.join("git"),
    )
    .unwrap();
    let mut agent = desk
        .hub
        .registered(desk.hub.launch("echo new > new.txt").env("PATH", bin));
    let none = desk.hub.run(prd("J-1", "one"));
    assert_eq!(agent.terminate().code(), Some(0));
    let path = desk
        .hub
        .world
        .on_path("gh", "echo 'gh: log in first' >&2; exit 4");
    let _agent = desk
        .hub
        .registered(desk.hub.launch("echo new > new.txt").env("PATH", path));
    let failing = desk.hub.run(prd("J-2", "two"));
    for (result, branch, why) in [
        (none, "one", "gh is not on PATH"),
        (failing, "two", "log in first"),
    ] {
        assert_eq!(
            (&result["status"], &result["data"]["prUrl"]),
            (&json!("done"), &Value::Null),
            "{result}"
        );
        assert!(warnings(&result).contains(why), "{result}");
        assert!(desk.pushed_branch(branch).is_some(), "{result}");
    }
}

/// Without an origin there is nowhere to push to: a warning says so, and the diff is there all the same.
#[test]
fn without_an_origin_there_is_a_warning() {
    let desk = Desk::new();
    desk.git(&["remote", "remove", "origin"]);
    let result = desk.run("echo new > new.txt");
    assert_eq!(result["status"], "done", "{result}");
    assert!(warnings(&result).contains("not pushed"), "{result}");
    assert!(
        result["data"]["diff"]
            .as_str()
            .is_some_and(|diff| diff.contains("+new")),
        "{result}"
    );
}

/// A password in the origin's address is in no frame and in no line of the log.
#[test]
fn a_password_of_the_origin_is_not_told() {
    let desk = Desk::new();
    // Nobody listens there.
    for url in [
        "https://dev:hunter2@127.0.0.1:1/acme/app.git",
        "https://hunter2@127.0.0.1:1/acme/app.git",
    ] {
        desk.git(&["remote", "set-url", "origin", url]);
        let launch = desk
            .hub
            .launch("echo new > $WF0_TICKET_ID.txt")
            .env("LOG_LEVEL", "trace");
        let mut agent = desk.hub.registered(launch);
        let id = format!("J-{}", url.len());
        let result = desk.hub.run(prd(&id, &id));
        assert!(warnings(&result).contains("not pushed"), "{result}");
        assert!(!result.to_string().contains("hunter2"), "{result}");
        assert_eq!(agent.terminate().code(), Some(0));
        assert!(!agent.log().contains("hunter2"), "{}", agent.log());
    }
}

/// The origin is what it was before the run: a CLI cannot send the branch elsewhere.
#[test]
fn the_run_cannot_name_another_origin() {
    let desk = Desk::new();
    let other = desk.hub.world.path("other.git");
    desk.git(&["clone", "--quiet", "--bare", ".", "../other.git"]);
    let (own, evil) = (
        desk.origin.display().to_string(),
        other.display().to_string(),
    );
    let result = desk.run(&format!(
        "echo new > new.txt; git remote set-url origin {evil}; git remote set-url --push origin {evil}
        git config url.{evil}.pushInsteadOf {own}; git config url.{evil}.insteadOf {own}
        git config filter.evil.clean 'echo ran > \"$WORLD/ran\"; cat'; echo '* filter=evil' > .gitattributes"
    ));
    assert!(
        !desk.hub.world.path("ran").exists(),
        "the daemon has started a program of the run's choice: {result}"
    );
    assert!(desk.pushed_branch(BRANCH).is_some());
    assert_eq!(
        desk.hub.world.git(&other, &["branch", "--list", BRANCH]),
        ""
    );
}

/// Nor by what it leaves in `.git`: a file `commondir` does not lead git to settings of the run's own, and a link in the
/// place of the settings is not followed when they are put back.
#[test]
fn the_run_cannot_plant_settings() {
    let desk = Desk::new();
    let result = desk.run(
        "mkdir -p planted; cp -R .git/. planted; echo planted > .git/planted; echo '../planted' > .git/commondir
        printf '[filter \"evil\"]\\n\\tclean = echo ran > %s/ran; cat\\n' \"$WORLD\" >> planted/config
        echo '* filter=evil' > .gitattributes; echo new > new.txt",
    );
    assert!(
        !desk.hub.world.path("ran").exists(),
        "the daemon has started a program of the run's choice: {result}"
    );
    assert!(desk.pushed_branch(BRANCH).is_some(), "{result}");

    let desk = Desk::new();
    let result = desk.run(
        "echo precious > \"$WORLD/precious\"; rm .git/config; ln -s \"$WORLD/precious\" .git/config
        ln -s \"$WORLD/precious\" .git/config.wf0; echo new > new.txt",
    );
    assert_eq!(desk.hub.world.read("precious"), "precious\n");
    assert!(desk.pushed_branch(BRANCH).is_some(), "{result}");

    let desk = Desk::new();
    let result = desk.run("mv .git \"$WORLD/git\"; ln -s \"$WORLD/git\" .git; echo new > new.txt");
    assert!(
        warnings(&result).contains("its .git is no folder any more"),
        "{result}"
    );
    assert_eq!(desk.pushed_branch(BRANCH), None);
}

/// A push that is called off is no success: the job is retryable, and nobody is told of a branch that is not there.
#[test]
fn a_push_that_is_called_off_is_no_success() {
    let desk = Desk::new();
    desk.git(&[
        "remote",
        "set-url",
        "origin",
        "ssh://nowhere.example/acme/app",
    ]);
    let ssh = desk.hub.world.path("ssh");
    desk.hub.world.program(
        &ssh,
        "case \"$*\" in *receive-pack*) tell pushing; hold never;; esac; exit 1",
    );
    let launch = desk
        .hub
        .launch("echo new > new.txt")
        .env("GIT_SSH_COMMAND", ssh);
    let agent = desk.hub.registered(launch);
    desk.hub.offer(prd("J-1", BRANCH));
    desk.hub.world.told("pushing");
    agent.signal(nix::sys::signal::Signal::SIGTERM);
    let result = desk.hub.result_of("J-1");
    assert_eq!(
        (&result["status"], &result["data"]["code"]),
        (&json!("failed"), &json!("agent_shutdown")),
        "{result}"
    );
}

/// Of a failed run nothing is committed and nothing is pushed.
#[test]
fn a_failed_run_is_not_pushed() {
    let desk = Desk::new();
    let before = desk.pushed();
    let _agent = desk
        .hub
        .agent("[ $WF0_TICKET_ID = J-2 ] && { ls > \"$WORLD/ls\"; exit 0; }; git add . ; echo new > new.txt; exit 1");
    let result = desk.hub.run(prd("J-1", BRANCH));
    assert_eq!(result["data"]["code"], "cli_exit", "{result}");
    assert_eq!(desk.pushed(), before);
    assert!(
        result["data"]["diff"]
            .as_str()
            .is_some_and(|diff| diff.contains("+new")),
        "{result}"
    );
    assert_eq!(
        (
            desk.head().as_str(),
            desk.git(&["status", "--porcelain"]).as_str()
        ),
        ("main", "")
    );
    // Nor does it stand in the way of the next.
    assert_eq!(desk.hub.run(prd("J-2", "second"))["status"], "done");
    assert_eq!(desk.hub.world.read("ls"), "README.md\nsrc\n");
}

/// A CLI that leaves the branch leaves its work too: nothing is committed to a branch that nobody named.
#[test]
fn no_other_branch_gets_a_commit() {
    let desk = Desk::new();
    let main = desk.git(&["rev-parse", "main"]);
    let result = desk.run("git switch --quiet main; echo new > new.txt");
    assert_eq!(result["status"], "done", "{result}");
    assert_eq!(desk.git(&["rev-parse", "main"]), main);
    assert!(
        warnings(&result).contains("the run has left it"),
        "{result}"
    );
    assert_eq!(desk.pushed_branch(BRANCH), None);
    assert_eq!(desk.head(), "main");
}

/// Who has no branch checked out may have one worked on all the same.
#[test]
fn a_detached_checkout_is_no_obstacle() {
    let desk = Desk::new();
    desk.git(&["checkout", "--quiet", "--detach"]);
    let before = desk.git(&["rev-parse", "HEAD"]);
    let result = desk.run("echo new > new.txt");
    assert!(desk.pushed_branch(BRANCH).is_some(), "{result}");
    assert_eq!(
        (desk.head().as_str(), desk.git(&["rev-parse", "HEAD"])),
        ("HEAD", before)
    );
}

/// A branch that cannot be checked out fails the job before the CLI runs, and a job for no branch stays where it is.
#[test]
fn a_branch_that_cannot_be_is_a_failure() {
    let desk = Desk::new();
    desk.git(&["branch", "feature"]);
    let _agent = desk.hub.agent("echo ran; git symbolic-ref --short HEAD");
    // A branch cannot be a folder of another.
    let result = desk.hub.run(prd("J-1", BRANCH));
    assert_eq!(result["status"], "failed");
    assert!(
        result["data"]["error"]
            .as_str()
            .is_some_and(|error| error.contains(BRANCH)),
        "{result}"
    );
    assert!(
        !result["data"]["stdout"]
            .as_str()
            .unwrap_or_default()
            .contains("ran"),
        "{result}"
    );
    assert_eq!(desk.head(), "main");
    assert_eq!(desk.hub.run(errand("J-2"))["data"]["stdout"], "ran\nmain\n");
    assert_eq!(desk.pushed().len(), 1);
}

/// What a filter of the repository's own would seal must not be pushed in the clear: such a repository is refused before
/// the CLI runs.
#[test]
fn a_repository_that_seals_files_is_refused() {
    let desk = Desk::new();
    desk.git(&["config", "filter.seal.clean", "cat"]);
    let result = desk.run("echo ran > \"$WORLD/ran\"");
    assert_eq!(result["data"]["code"], "internal", "{result}");
    assert!(
        result["data"]["error"]
            .as_str()
            .is_some_and(|error| error.contains("seal")),
        "{result}"
    );
    assert!(!desk.hub.world.path("ran").exists());
}

/// A branch in which a link stands where the folder of the entry was leads nowhere else.
#[test]
fn a_link_in_the_branch_is_not_followed() {
    let desk = Desk::new();
    let elsewhere = desk.hub.world.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    desk.git(&["switch", "--quiet", "--create", BRANCH]);
    fs::remove_dir_all(desk.repo.join("src")).unwrap();
    symlink(&elsewhere, desk.repo.join("src")).unwrap();
    desk.git(&["add", "--all"]);
    desk.git(&["commit", "--quiet", "--message", "link"]);
    desk.git(&["switch", "--quiet", "main"]);
    let paths = format!("acme/app={}", desk.repo.join("src").display());
    let _agent = desk.hub.registered(
        desk.hub
            .launch("pwd > \"$WORLD/ran\"")
            .env("REPO_PATHS", paths),
    );
    let result = desk.hub.run(prd("J-1", BRANCH));
    assert_eq!(result["status"], "failed", "{result}");
    assert!(!desk.hub.world.path("ran").exists());
}

/// Names that git takes for a branch and somebody might take for something else are branches of just that name.
#[test]
fn odd_names_are_branches() {
    let names = [
        "refs/heads/main",
        "heads/main",
        "origin/main",
        "FETCH_HEAD",
        "v1",
        "0123456789abcdef0123456789abcdef01234567",
    ];
    for name in names {
        let desk = Desk::new();
        desk.git(&["tag", "v1"]);
        let main = desk.git(&["rev-parse", "main"]);
        let _agent = desk.hub.agent("echo new > new.txt");
        let result = desk.hub.run(prd("J-1", name));
        assert_eq!(
            desk.pushed_branch("main"),
            Some(main.clone()),
            "{name}: {result}"
        );
        assert_eq!(
            desk.git(&["rev-parse", "refs/heads/main"]),
            main,
            "{name}: {result}"
        );
        if result["status"] == "done" {
            assert!(desk.pushed_branch(name).is_some(), "{name}: {result}");
        }
        assert_eq!(
            desk.pushed().len(),
            1 + usize::from(result["status"] == "done"),
            "{name}: {result}"
        );
    }
}

/// The branch and the address of the pull request outlast the daemon: a waiting job works on its branch after a crash,
/// and a result that was not proven is the same when it comes again.
#[test]
fn a_crash_forgets_neither_branch_nor_address() {
    let desk = Desk::new();
    let path = gh(&desk);
    let script = "tell up $WF0_TICKET_ID; hold $WF0_TICKET_ID; echo new > $WF0_TICKET_ID.txt";
    let mut agent = desk
        .hub
        .registered(desk.hub.launch(script).env("PATH", &path));
    desk.hub.offer(prd("J-1", BRANCH));
    desk.hub.world.told("up J-1");
    desk.hub.offer(prd("J-2", "second"));
    desk.hub
        .world
        .backend
        .frame_where("job_ack", |ack| ack["jobId"] == "J-2");
    desk.hub.answer_results(false);
    desk.hub.world.backend.ignore_pings();
    desk.hub.world.release("J-1");
    let first = desk.hub.result_of("J-1");
    desk.hub.world.told("up J-2");
    agent.crash();
    desk.hub.answer_results(true);
    let _agent = desk
        .hub
        .registered(desk.hub.launch(script).env("PATH", &path));
    assert_eq!(desk.hub.result_of("J-1"), first);
    assert_eq!(first["data"]["prUrl"], URL);
    let second = desk.hub.result_of("J-2");
    assert_eq!(second["data"]["code"], "agent_restarted", "{second}");
}
