//! Which repositories are allowed, and their names.

use std::path::{Path, PathBuf};

use wf0_agent::domain::repos::{Remote, Repo, RepoRef, Repos, is_slug};

use super::support::{at_path, repo};

/// A ticket reaches exactly the entries of the settings: by slug or by the whole path, and nothing inside or near.
#[test]
fn only_exact_entries_are_found() {
    let nameless = Repo {
        slug: None,
        ..repo("nameless")
    };
    let repos = Repos::new(vec![repo("app"), repo("web"), nameless]);
    let slug = |text: &str| RepoRef::Slug(text.to_owned());
    let rows = [
        ("slug", slug("acme/app"), Some("/repos/app")),
        ("second slug", slug("acme/web"), Some("/repos/web")),
        ("slug in another case", slug("ACME/App"), Some("/repos/app")),
        ("path", at_path("/repos/app"), Some("/repos/app")),
        (
            "path without a slug",
            at_path("/repos/nameless"),
            Some("/repos/nameless"),
        ),
        ("name alone", slug("app"), None),
        ("another owner", slug("evil/app"), None),
        ("longer name", slug("acme/app2"), None),
        ("shorter name", slug("acme/ap"), None),
        ("name with .git", slug("acme/app.git"), None),
        ("spaces around", slug(" acme/app "), None),
        ("empty slug", slug(""), None),
        ("folder inside", at_path("/repos/app/src"), None),
        ("folder above", at_path("/repos"), None),
        (
            "sibling with the same beginning",
            at_path("/repos/app-secret"),
            None,
        ),
        ("climbs out", at_path("/repos/app/../web2"), None),
        ("root", at_path("/"), None),
        ("empty path", at_path(""), None),
        ("path as a slug", slug("/repos/app"), None),
        ("slug as a path", at_path("acme/app"), None),
    ];
    for (label, wanted, found) in rows {
        assert_eq!(
            repos.find(&wanted).map(|r| r.path.as_path()),
            found.map(Path::new),
            "{label}"
        );
    }
}

/// With no entries nothing is allowed.
#[test]
fn nothing_is_allowed_by_default() {
    let repos = Repos::default();
    assert_eq!(repos.find(&RepoRef::Slug("acme/app".to_owned())), None);
    assert_eq!(repos.find(&at_path("/")), None);
    assert!(repos.at(Path::new("/")).is_none());
    assert!(
        Repos::new(vec![repo("app")])
            .at(Path::new("/repos/app"))
            .is_some()
    );
}

/// A slug is `owner/name`, groups within groups included, and nothing that could be a path or an option of git.
#[test]
fn slugs_have_a_form() {
    let rows = [
        ("acme/app", true),
        ("a/b", true),
        ("group/sub/name", true),
        ("acme/my.app-2_x", true),
        ("", false),
        ("app", false),
        ("/", false),
        ("acme/", false),
        ("/app", false),
        ("acme//app", false),
        ("acme/app/", false),
        ("acme/..", false),
        ("../app", false),
        ("./app", false),
        ("acme/my app", false),
        ("acme/app\n", false),
        ("acme\\app", false),
        ("acme/äpp", false),
        ("acme/app?x", false),
        ("acme/a%2Fb", false),
    ];
    for (text, wanted) in rows {
        assert_eq!(is_slug(text), wanted, "{text:?}");
    }
    assert!(
        !is_slug(&format!("acme/{}", "x".repeat(300))),
        "a name of 300 characters"
    );
}

/// Every usual form of a remote gives its `owner/name`, and a local path gives none.
#[test]
fn slugs_of_remotes() {
    let rows = [
        ("https", "https://github.com/acme/app.git", Some("acme/app")),
        (
            "https without .git",
            "https://github.com/acme/app",
            Some("acme/app"),
        ),
        (
            "trailing slash",
            "https://github.com/acme/app/",
            Some("acme/app"),
        ),
        (
            ".git and slash",
            "https://github.com/acme/app.git/",
            Some("acme/app"),
        ),
        (
            "user and port",
            "https://me@git.example.com:8443/acme/app.git",
            Some("acme/app"),
        ),
        (
            "user and password",
            "https://me:secret@github.com/acme/app",
            Some("acme/app"),
        ),
        (
            "upper-case scheme",
            "HTTPS://github.com/acme/app",
            Some("acme/app"),
        ),
        ("http", "http://host/acme/app", Some("acme/app")),
        ("ssh", "ssh://git@github.com/acme/app.git", Some("acme/app")),
        (
            "ssh with a port",
            "ssh://git@github.com:22/acme/app.git",
            Some("acme/app"),
        ),
        ("git", "git://github.com/acme/app.git", Some("acme/app")),
        ("short ssh", "git@github.com:acme/app.git", Some("acme/app")),
        (
            "short ssh without a user",
            "github.com:acme/app",
            Some("acme/app"),
        ),
        (
            "short ssh with a slash",
            "git@host:/acme/app.git",
            Some("acme/app"),
        ),
        (
            "groups",
            "git@gitlab.com:group/sub/app.git",
            Some("group/sub/app"),
        ),
        (
            "line break at the end",
            "https://github.com/acme/app.git\n",
            Some("acme/app"),
        ),
        (
            "name with dots",
            "https://github.com/acme/app.js.git",
            Some("acme/app.js"),
        ),
        (
            "name is .git twice",
            "https://github.com/acme/app.git.git",
            Some("acme/app.git"),
        ),
        ("empty", "", None),
        ("blank", "  \n", None),
        ("host alone", "https://github.com", None),
        ("host and slash", "https://github.com/", None),
        ("owner alone", "https://github.com/acme", None),
        ("unix path", "/srv/git/app.git", None),
        ("relative path", "../app", None),
        ("relative path with a colon", "./a:b/c", None),
        ("windows path", "C:\\git\\acme\\app", None),
        ("windows path with slashes", "C:/git/acme/app", None),
        ("file", "file:///srv/git/acme/app.git", None),
        ("file in upper case", "FILE:///srv/git/acme/app.git", None),
        ("a space in the name", "https://host/acme/my app", None),
        ("a query", "https://host/acme/app?x=1", None),
        ("climbing", "https://host/../app", None),
        ("short ssh, home folder", "git@host:~me/app", None),
    ];
    for (label, url, wanted) in rows {
        assert_eq!(
            Remote::parse(url).map(|remote| remote.slug),
            wanted,
            "{label}: {url:?}"
        );
    }
}

/// A repository is described in one line of limited length.
#[test]
fn a_description_is_one_short_line() {
    let long = "x".repeat(10_000);
    let cut = format!("{}…", &long[..256]);
    let rows = [
        ("slug", RepoRef::Slug("acme/app".to_owned()), "acme/app"),
        ("path", at_path("/repos/app"), "/repos/app"),
        (
            "a path that leads elsewhere",
            RepoRef::Path {
                asked: "/link".to_owned(),
                resolved: PathBuf::from("/secret"),
            },
            "/link",
        ),
        (
            "line break",
            RepoRef::Slug("a\nERROR b".to_owned()),
            "a ERROR b",
        ),
        ("terminal sequence", at_path("/a\u{1b}[2J"), "/a [2J"),
        ("long", RepoRef::Slug(long), &cut),
    ];
    for (label, repo, wanted) in rows {
        assert_eq!(repo.describe(), wanted, "{label}");
    }
}
