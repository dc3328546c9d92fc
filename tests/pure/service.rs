//! The definitions of services, made from the templates of `contrib/`.

use wf0_agent::commands::service::CLOSING_CALLS;

/// Whether every element is closed in order, every comment is one, and every `&` begins an entity.
fn assert_well_formed(xml: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = xml;
    while let Some((text, after)) = rest.split_once('<') {
        for entity in text.split('&').skip(1) {
            let known = ["lt;", "gt;", "amp;", "quot;", "apos;"];
            assert!(
                known.iter().any(|known| entity.starts_with(known)),
                "&{entity} in:\n{xml}"
            );
        }
        if let Some(comment) = after.strip_prefix("!--") {
            let (inside, after) = comment.split_once("-->").expect("the end of a comment");
            assert!(
                !inside.contains("--") && !inside.ends_with('-'),
                "-- within a comment: {inside}"
            );
            rest = after;
            continue;
        }
        let (tag, after) = after.split_once('>').expect("the end of a tag");
        match tag.as_bytes().first() {
            Some(b'?' | b'!') => {}
            Some(b'/') => assert_eq!(open.pop(), Some(&tag[1..]), "{xml}"),
            _ if tag.ends_with('/') => {}
            _ => open.push(tag.split_whitespace().next().expect("a name")),
        }
        rest = after;
    }
    assert!(
        open.is_empty() && rest.trim().is_empty(),
        "{open:?} is open, {rest:?} is left"
    );
}

/// A property list is well-formed XML with the plan's values, and no place of the template is left.
#[cfg(unix)]
#[test]
fn a_property_list_has_the_values_of_the_plan() {
    use wf0_agent::commands::service::Plan;
    use wf0_agent::commands::service::launchd::Launchd;
    let home = vec![("HOME".into(), "/Users/me too".into())];
    let launchd = Launchd::new(&wf0_agent::environment::Environment::new(home)).unwrap();
    let plist = launchd.definition(&Plan {
        program: "/opt/my programs/wf0-agent".to_owned(),
        settings: "/Users/me too/.config/wf0-agent/settings".to_owned(),
        path: "/opt/bin:/a b:/usr/bin".to_owned(),
    });
    assert_well_formed(&plist);
    let values = plist.lines().filter_map(|line| {
        line.trim()
            .strip_prefix("<string>")?
            .strip_suffix("</string>")
    });
    let wanted = [
        "com.workforce0.agent",
        "/opt/my programs/wf0-agent",
        "--env-file",
        "/Users/me too/.config/wf0-agent/settings",
        "/opt/bin:/a b:/usr/bin",
        "/Users/me too/Library/Logs/wf0-agent.log",
    ];
    assert_eq!(values.collect::<Vec<_>>(), wanted);
    assert!(!plist.contains("/Users/ME"), "a place was left: {plist}");
}

/// The task for Windows that contrib/ has is well-formed too.
#[test]
fn the_task_is_well_formed() {
    assert_well_formed(include_str!("../../contrib/windows/wf0-agent-task.xml"));
}

/// A folder that another user has made below %ProgramData% becomes the administrators' own and loses every right that
/// was given in it, before the service gets access: no call may be missing, and none may come earlier. The template
/// for doing it by hand makes the same calls.
#[test]
fn the_windows_service_takes_over_its_folder() {
    let calls = CLOSING_CALLS.map(|call| call.join(" "));
    let wanted = [
        "/setowner *S-1-5-32-544 /T /C /L /Q",
        "/reset /T /C /L /Q",
        r"/inheritance:r /grant:r *S-1-5-18:(OI)(CI)F *S-1-5-32-544:(OI)(CI)F NT SERVICE\wf0-agent:(OI)(CI)M",
    ];
    assert_eq!(calls, wanted);
    let template = include_str!("../../contrib/windows/wf0-agent-service.ps1");
    let by_hand = template
        .lines()
        .filter_map(|line| line.strip_prefix("icacls $folder "));
    let by_hand: Vec<_> = by_hand.map(|call| call.replace('\'', "")).collect();
    assert_eq!(by_hand, wanted);
}
