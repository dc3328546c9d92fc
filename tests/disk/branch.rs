//! Names of branches (docs/protocol.md section 8).

use std::process::Command;

use wf0_agent::domain::repos::Branch;

const GOOD: [&str; 11] = [
    "main",
    "feature/x",
    "a/b/c",
    "v1.2",
    "A_b-C",
    "0",
    "x-",
    "refs/heads/x",
    "origin/main",
    "x.locked",
    "_",
];

/// What git would not take, or take for something else.
const BAD: [&str; 26] = [
    "",
    "-",
    "-x",
    "--mirror",
    "--",
    ".",
    "..",
    "a..b",
    ".x",
    "x/.y",
    "x.",
    "x.lock",
    "a.lock/b",
    "/",
    "/x",
    "x/",
    "a//b",
    "HEAD",
    "refs/heads/../x",
    "./x",
    "../x",
    "x/..",
    "a/./b",
    "..a",
    "x.lock/",
    "-/x",
];

/// What git takes and the protocol does not: other characters than `A-Z a-z 0-9 . _ / -`.
const FOREIGN: [&str; 22] = [
    "a b", "a\nb", "a\tb", "a\0b", "é", "a~1", "a^", "a:b", "+a", "a?", "a*", "a[b", "a\\b", "@",
    "@{-1}", "a@{0}", "a@b", "$(x)", "`x`", "a;b", "'x'", "{cwd}",
];

/// Each name is taken or refused as the protocol says.
#[test]
fn names() {
    for name in GOOD {
        assert_eq!(
            Branch::parse(name).map(|branch| branch.to_string()),
            Ok(name.to_owned()),
            "{name:?}"
        );
    }
    for name in BAD.into_iter().chain(FOREIGN) {
        assert!(Branch::parse(name).is_err(), "{name:?}");
    }
    assert!(
        Branch::parse(&"x".repeat(201)).is_err(),
        "no file name on every system"
    );
}

/// The check agrees with git on chosen names and on random names of these characters.
#[test]
fn git_agrees() {
    let mut rng = fastrand::Rng::with_seed(7);
    let parts = [
        "a",
        "B",
        "0",
        ".",
        "..",
        "-",
        "_",
        "/",
        "//",
        ".lock",
        "HEAD",
        "lock",
        "refs/heads/",
    ];
    let random = (0..250).map(|_| {
        (0..rng.usize(1..6))
            .map(|_| parts[rng.usize(..parts.len())])
            .collect::<String>()
    });
    let names: Vec<String> = GOOD
        .into_iter()
        .chain(BAD)
        .map(str::to_owned)
        .chain(random.collect::<Vec<_>>())
        .collect();
    for name in names {
        let checked = Command::new("git")
            .args(["check-ref-format", "--branch", &name])
            .output()
            .expect("git starts");
        assert_eq!(
            Branch::parse(&name).is_ok(),
            checked.status.success(),
            "{name:?}"
        );
    }
}
