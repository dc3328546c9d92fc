//! The CLI's command line.

use wf0_agent::domain::invocation::{Template, TemplateError, Values};

const VALUES: Values<'static> = Values {
    cwd: "/repos/my app",
    prompt: "# Do {cwd} 'now'\n$(rm -rf /)",
    prompt_file: "/state/run/prompt.md",
    ticket_id: "TEAM-1",
    role: "dev",
    title: "A \"quoted\" {prompt}",
};

/// Label, template, arguments.
type Row<'a> = (&'a str, &'a str, &'a [&'a str]);

fn assert_filled(rows: &[Row<'_>]) {
    for (label, text, wanted) in rows {
        let filled = Template::parse(text)
            .unwrap_or_else(|e| panic!("{label}: {e}"))
            .fill(&VALUES);
        assert_eq!(
            filled.as_deref(),
            Ok(&wanted.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>()[..]),
            "{label}"
        );
    }
}

/// The template is split as a shell would split it, and nothing else of a shell happens.
#[test]
fn splits_like_a_shell_and_expands_nothing() {
    let rows: &[Row<'_>] = &[
        ("empty", "", &[]),
        ("only spaces", "  \t ", &[]),
        (
            "plain words",
            "-p --verbose run",
            &["-p", "--verbose", "run"],
        ),
        (
            "double quotes",
            r#"--say "two words""#,
            &["--say", "two words"],
        ),
        (
            "single quotes",
            r#"--say 'a "b" \c'"#,
            &["--say", r#"a "b" \c"#],
        ),
        ("backslash", r"two\ words", &["two words"]),
        ("empty word", "a '' b", &["a", "", "b"]),
        ("glued quotes", r#"--x="a b"c"#, &["--x=a bc"]),
        ("no variable", "$HOME ${HOME}", &["$HOME", "${HOME}"]),
        ("no substitution", "'$(id)' `id`", &["$(id)", "`id`"]),
        ("no glob, no tilde", "*.rs ~/x", &["*.rs", "~/x"]),
        (
            "no operators",
            "a; b | c && d > e",
            &["a;", "b", "|", "c", "&&", "d", ">", "e"],
        ),
        ("several lines", "a\nb", &["a", "b"]),
        (
            "json is text",
            r#"'{"a": {"b": 1}}'"#,
            &[r#"{"a": {"b": 1}}"#],
        ),
        ("upper case is text", "{CWD} {}", &["{CWD}", "{}"]),
        ("brace left open", "a{cwd", &["a{cwd"]),
        ("brace within braces", "{{cwd}}", &["{/repos/my app}"]),
    ];
    assert_filled(rows);
}

/// Each placeholder becomes its value as it is, in one argument, and is never looked at again.
#[test]
fn values_are_put_in_as_they_are() {
    let rows: &[Row<'_>] = &[
        (
            "cwd with a space stays one argument",
            "{cwd}",
            &["/repos/my app"],
        ),
        (
            "cwd within a word",
            "--dir={cwd}/src",
            &["--dir=/repos/my app/src"],
        ),
        (
            "prompt",
            "-p {prompt}",
            &["-p", "# Do {cwd} 'now'\n$(rm -rf /)"],
        ),
        ("prompt file", "{prompt_file}", &["/state/run/prompt.md"]),
        ("id and role", "{ticket_id}:{role}", &["TEAM-1:dev"]),
        (
            "a placeholder in a title stays text",
            "{title}",
            &["A \"quoted\" {prompt}"],
        ),
        ("twice", "{role}{role} {role}", &["devdev", "dev"]),
        (
            "in quotes too",
            "'{role} of {ticket_id}'",
            &["dev of TEAM-1"],
        ),
        (
            "inside json",
            r#"'{"role":"{role}"}'"#,
            &[r#"{"role":"dev"}"#],
        ),
    ];
    assert_filled(rows);
}

/// An unusable template is an error at start that says what is wrong.
#[test]
fn bad_templates_are_errors() {
    let unknown = |name: &str| TemplateError::Unknown(name.to_owned());
    let rows = [
        (
            "double quote left open",
            r#"-p "x"#,
            TemplateError::Unbalanced,
        ),
        ("single quote left open", "-p 'x", TemplateError::Unbalanced),
        ("misspelt", "{promt}", unknown("promt")),
        (
            "misspelt within a word",
            "--dir={workdir}",
            unknown("workdir"),
        ),
        ("a second one", "{cwd} {ticket}", unknown("ticket")),
        (
            "dash for underscore is text, the rest is not",
            "{prompt-file} {file}",
            unknown("file"),
        ),
    ];
    for (label, text, wanted) in rows {
        assert_eq!(Template::parse(text), Err(wanted), "{label}");
    }
    let shown = unknown("promt").to_string();
    for part in [
        "{promt}",
        "{cwd}",
        "{prompt}",
        "{prompt_file}",
        "{ticket_id}",
        "{role}",
        "{title}",
    ] {
        assert!(shown.contains(part), "{part} is not in {shown:?}");
    }
}

/// No value of a ticket can become an option, unless the template itself wrote the dash.
#[test]
fn a_value_cannot_become_an_option() {
    let looks = |text: &str| Err(TemplateError::LooksLikeOption(text.to_owned()));
    let one = |text: &str| Ok(vec![text.to_owned()]);
    let rows = [
        ("a title with a dash", "{title}", "--evil", looks("--evil")),
        ("one dash", "{title}", "-", looks("-")),
        ("behind an empty value", "{cwd}{title}", "-x", looks("-x")),
        (
            "the template's own option",
            "--title={title}",
            "--evil",
            one("--title=--evil"),
        ),
        ("the template's own dash", "-{title}", "x", one("-x")),
        ("a dash behind a value", "{title}-x", "a", one("a-x")),
        ("text before it", "title:{title}", "-x", one("title:-x")),
        ("a dash inside", "{title}", "x-y", one("x-y")),
        ("empty", "{title}", "", one("")),
    ];
    for (label, text, title, wanted) in rows {
        let values = Values {
            cwd: "",
            title,
            ..VALUES
        };
        assert_eq!(
            Template::parse(text).unwrap().fill(&values),
            wanted,
            "{label}"
        );
    }
}

/// The prompt goes to standard input exactly where no placeholder takes it elsewhere.
#[test]
fn where_the_prompt_goes() {
    let rows = [
        ("nothing", "-p", true, false),
        ("empty", "", true, false),
        ("argument", "-p {prompt}", false, true),
        ("file", "-f {prompt_file}", false, false),
        ("both", "{prompt_file} x{prompt}", false, true),
        ("others", "{cwd} {title} {role} {ticket_id}", true, false),
    ];
    for (label, text, stdin, argument) in rows {
        let template = Template::parse(text).unwrap();
        assert_eq!(
            (template.prompt_on_stdin(), template.prompt_as_argument()),
            (stdin, argument),
            "{label}"
        );
    }
}

/// Random texts are split or refused, and never cause a panic.
#[test]
fn survives_any_text() {
    let mut rng = fastrand::Rng::with_seed(7);
    let alphabet = [
        '{',
        '}',
        '"',
        '\'',
        '\\',
        ' ',
        '\n',
        '-',
        'c',
        'w',
        'd',
        '_',
        'é',
        '\u{1F600}',
        '\0',
    ];
    let mut used = 0;
    for round in 0..20_000 {
        let text: String = (0..rng.usize(..16))
            .map(|_| alphabet[rng.usize(..alphabet.len())])
            .collect();
        let Ok(template) = Template::parse(&text) else {
            continue;
        };
        used += 1;
        let Ok(words) = template.fill(&VALUES) else {
            continue;
        };
        let split = shell_words::split(&text).unwrap();
        assert_eq!(words.len(), split.len(), "round {round}: {text:?}");
    }
    assert!(used > 5_000, "only {used} of the texts were templates");
}
