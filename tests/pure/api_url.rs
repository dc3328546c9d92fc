//! The backend's address (docs/protocol.md section 1).

use wf0_agent::config::ApiUrl;
use wf0_agent::domain::message::Dialect;

use super::support::api;

/// Scheme, host, port and path prefix of the URL lead to the WebSocket and the HTTP interface.
#[test]
fn where_socket_and_endpoints_are() {
    let rows = [
        (
            "https",
            "https://good.example",
            "wss://good.example/api/agents/ws",
            "https://good.example/api/x",
        ),
        (
            "trailing slash",
            "https://good.example/",
            "wss://good.example/api/agents/ws",
            "https://good.example/api/x",
        ),
        (
            "spaces around",
            " https://good.example\n",
            "wss://good.example/api/agents/ws",
            "https://good.example/api/x",
        ),
        (
            "prefix",
            "https://good.example/wf0",
            "wss://good.example/wf0/api/agents/ws",
            "https://good.example/wf0/api/x",
        ),
        (
            "prefix and slash",
            "https://good.example/wf0/",
            "wss://good.example/wf0/api/agents/ws",
            "https://good.example/wf0/api/x",
        ),
        (
            "long prefix",
            "https://good.example/a/b",
            "wss://good.example/a/b/api/agents/ws",
            "https://good.example/a/b/api/x",
        ),
        (
            "port",
            "https://good.example:8443",
            "wss://good.example:8443/api/agents/ws",
            "https://good.example:8443/api/x",
        ),
        (
            "the usual port",
            "https://good.example:443",
            "wss://good.example/api/agents/ws",
            "https://good.example/api/x",
        ),
        (
            "the usual port of http",
            "http://127.0.0.1:80",
            "ws://127.0.0.1/api/agents/ws",
            "http://127.0.0.1/api/x",
        ),
        (
            "upper case",
            "HTTPS://GOOD.Example/Wf0",
            "wss://good.example/Wf0/api/agents/ws",
            "https://good.example/Wf0/api/x",
        ),
        (
            "loopback",
            "http://127.0.0.1:4000",
            "ws://127.0.0.1:4000/api/agents/ws",
            "http://127.0.0.1:4000/api/x",
        ),
        (
            "localhost",
            "http://localhost:4000",
            "ws://localhost:4000/api/agents/ws",
            "http://localhost:4000/api/x",
        ),
        (
            "IPv6",
            "https://[2001:db8::1]:8443",
            "wss://[2001:db8::1]:8443/api/agents/ws",
            "https://[2001:db8::1]:8443/api/x",
        ),
        (
            "IPv6 loopback",
            "http://[::1]:4000",
            "ws://[::1]:4000/api/agents/ws",
            "http://[::1]:4000/api/x",
        ),
        (
            "wss without a path",
            "wss://good.example",
            "wss://good.example/api/agents/ws",
            "https://good.example/api/x",
        ),
        (
            "wss with a slash",
            "wss://good.example/",
            "wss://good.example/api/agents/ws",
            "https://good.example/api/x",
        ),
        (
            "wss with a path stands",
            "wss://good.example/own/socket",
            "wss://good.example/own/socket",
            "https://good.example/api/x",
        ),
        (
            "wss with a query stands",
            "wss://good.example/own?v=1",
            "wss://good.example/own?v=1",
            "https://good.example/api/x",
        ),
        (
            "wss with the usual path",
            "wss://good.example/wf0/api/agents/ws",
            "wss://good.example/wf0/api/agents/ws",
            "https://good.example/wf0/api/x",
        ),
        (
            "ws to this machine",
            "ws://127.0.0.1:4000/own",
            "ws://127.0.0.1:4000/own",
            "http://127.0.0.1:4000/api/x",
        ),
    ];
    for (label, url, socket, endpoint) in rows {
        let api = ApiUrl::parse(url, false).unwrap_or_else(|e| panic!("{label}: {e}"));
        assert_eq!(api.socket(Dialect::Ticket), socket, "{label}");
        assert_eq!(api.endpoint(&["api", "x"]), endpoint, "{label}");
        assert_eq!(api.secure, socket.starts_with("wss:"), "{label}");
    }
}

/// The hub has a path of its own behind the same prefix; a URL with a path is one socket of one dialect.
#[test]
fn where_the_hub_is() {
    let rows = [
        (
            "https://good.example",
            "wss://good.example/agent/ws",
            "https://good.example/api/x",
            None,
        ),
        (
            "https://good.example/wf0/",
            "wss://good.example/wf0/agent/ws",
            "https://good.example/wf0/api/x",
            None,
        ),
        (
            "wss://good.example/",
            "wss://good.example/agent/ws",
            "https://good.example/api/x",
            None,
        ),
        (
            "wss://good.example/wf0/agent/ws",
            "wss://good.example/wf0/agent/ws",
            "https://good.example/wf0/api/x",
            Some(Dialect::Hub),
        ),
        (
            "wss://good.example/agent/ws?v=1",
            "wss://good.example/agent/ws?v=1",
            "https://good.example/api/x",
            Some(Dialect::Hub),
        ),
        (
            "wss://good.example/api/agents/ws",
            "wss://good.example/api/agents/ws",
            "https://good.example/api/x",
            Some(Dialect::Ticket),
        ),
        (
            "wss://good.example/own",
            "wss://good.example/own",
            "https://good.example/api/x",
            Some(Dialect::Ticket),
        ),
    ];
    for (url, socket, endpoint, dialect) in rows {
        let api = api(url);
        assert_eq!(api.socket(Dialect::Hub), socket, "{url}");
        assert_eq!(api.endpoint(&["api", "x"]), endpoint, "{url}");
        assert_eq!(api.dialect(), dialect, "{url}");
    }
}

/// The host for name lookup and TLS stands without brackets, the port is always known.
#[test]
fn host_and_port() {
    let rows = [
        ("https://good.example", "good.example", 443),
        ("http://localhost", "localhost", 80),
        ("https://GOOD.example:1", "good.example", 1),
        ("https://[2001:DB8::1]", "2001:db8::1", 443),
        ("http://[::1]:65535", "::1", 65535),
    ];
    for (url, host, port) in rows {
        let address = api(url).address;
        assert_eq!((address.host(), address.port), (host, port), "{url}");
    }
}

/// A URL that cannot be used is refused with a reason.
#[test]
fn unusable_urls() {
    let rows = [
        ("empty", ""),
        ("a host alone", "good.example"),
        ("host and port", "good.example:8443"),
        ("a path", "/api"),
        ("another scheme", "ftp://good.example"),
        ("a file", "file:///etc/passwd"),
        ("no host", "https://"),
        ("no host but a port", "https://:8443"),
        ("no host but a path", "https:///api"),
        ("a user", "https://me@good.example"),
        ("a user and a password", "https://me:secret@good.example"),
        ("an empty user", "https://@good.example"),
        ("a query", "https://good.example/?token=x"),
        ("a query without a slash", "https://good.example?x=1"),
        ("a space", "https://good example"),
        ("a line break", "https://good.example\nevil"),
        ("port zero", "https://good.example:0"),
        ("a port too large", "https://good.example:65536"),
        ("no number for a port", "https://good.example:x"),
        ("a broken IPv6 address", "https://[::1"),
        ("a backslash", "https://good.example\\evil"),
    ];
    for insecure in [false, true] {
        let usable = |(_, url): &(&str, &str)| ApiUrl::parse(url, insecure).is_ok();
        let accepted: Vec<_> = rows.into_iter().filter(usable).collect();
        assert!(
            accepted.is_empty(),
            "accepted, ALLOW_INSECURE {insecure}: {accepted:#?}"
        );
    }
}

/// Clear text goes to this machine only, unless the user accepts the risk by name.
#[test]
fn clear_text_stays_on_this_machine() {
    let rows = [
        ("http://localhost", true),
        ("http://LOCALHOST:4000", true),
        ("http://127.0.0.1", true),
        ("http://127.255.0.9", true),
        ("http://[::1]", true),
        ("ws://localhost/own", true),
        ("http://good.example", false),
        ("ws://good.example/own", false),
        ("HTTP://good.example", false),
        ("http://10.0.0.1", false),
        ("http://192.168.0.1", false),
        ("http://0.0.0.0", false),
        ("http://[::]", false),
        ("http://[::2]", false),
        ("http://localhost.evil.example", false),
        ("http://127.0.0.1.evil.example", false),
        ("http://evil.example/localhost", false),
        ("http://xlocalhost", false),
    ];
    for (url, allowed) in rows {
        let strict = ApiUrl::parse(url, false);
        assert_eq!(strict.is_ok(), allowed, "{url}: {strict:?}");
        assert!(
            allowed || strict.is_err_and(|why| why.contains("ALLOW_INSECURE")),
            "{url}: the way out is not named"
        );
        assert!(
            ApiUrl::parse(url, true).is_ok(),
            "{url}: with ALLOW_INSECURE"
        );
    }
}

/// Only an address of the very same scheme, host and port is of the API URL's origin.
#[test]
fn same_origin() {
    let own = "https://good.example";
    let with_port = "https://good.example:8443";
    let v6 = "https://[2001:db8::1]";
    let rows = [
        ("path", own, "https://good.example/x", true),
        ("path and query", own, "https://good.example/x?y=1", true),
        ("no path", own, "https://good.example", true),
        ("the usual port", own, "https://good.example:443/x", true),
        ("host in another case", own, "https://GOOD.Example/x", true),
        (
            "scheme in another case",
            own,
            "HTTPS://good.example/x",
            true,
        ),
        ("same port", with_port, "https://good.example:8443/x", true),
        ("IPv6", v6, "https://[2001:db8::1]/x", true),
        ("IPv6 in another case", v6, "https://[2001:DB8::1]/x", true),
        (
            "prefix does not matter",
            "https://good.example/wf0",
            "https://good.example/other",
            true,
        ),
        (
            "the socket's own URL",
            "wss://good.example/own",
            "https://good.example/x",
            true,
        ),
        ("another host", own, "https://evil.example/x", false),
        ("a host within", own, "https://x.good.example/x", false),
        ("a host above", own, "https://example/x", false),
        (
            "a host that begins like it",
            own,
            "https://good.example.evil/x",
            false,
        ),
        (
            "a host that ends like it",
            own,
            "https://evilgood.example/x",
            false,
        ),
        (
            "a user that looks like it",
            own,
            "https://good.example@evil.example/x",
            false,
        ),
        (
            "user and password that look like it",
            own,
            "https://good.example:443@evil.example/x",
            false,
        ),
        (
            "credentials of its own",
            own,
            "https://me:pw@good.example/x",
            false,
        ),
        ("an empty user", own, "https://@good.example/x", false),
        ("two at signs", own, "https://a@b@good.example/x", false),
        (
            "a backslash before the at sign",
            own,
            "https://evil.example\\@good.example/x",
            false,
        ),
        (
            "a backslash for a slash",
            own,
            "https:\\\\good.example/x",
            false,
        ),
        (
            "an at sign in the path",
            own,
            "https://evil.example/@good.example",
            false,
        ),
        ("an escaped host", own, "https://good%2Eexample/x", false),
        (
            "a dot at the end of the host",
            own,
            "https://good.example./x",
            false,
        ),
        ("another port", own, "https://good.example:8443/x", false),
        (
            "the usual port instead of ours",
            with_port,
            "https://good.example/x",
            false,
        ),
        ("the port of http", own, "https://good.example:80/x", false),
        ("port zero", own, "https://good.example:0/x", false),
        (
            "a port too large",
            own,
            "https://good.example:65979/x",
            false,
        ),
        ("clear text", own, "http://good.example/x", false),
        (
            "clear text on our port",
            own,
            "http://good.example:443/x",
            false,
        ),
        ("another scheme", own, "ftp://good.example/x", false),
        ("a socket", own, "wss://good.example/x", false),
        ("no scheme", own, "//good.example/x", false),
        ("a path alone", own, "/x", false),
        ("host and path", own, "good.example/x", false),
        ("empty", own, "", false),
        ("a file", own, "file:///etc/passwd", false),
        ("a space before", own, " https://good.example/x", false),
        (
            "a line break",
            own,
            "https://good.example/x\r\nHost: evil",
            false,
        ),
        (
            "a tab within the host",
            own,
            "https://go\tod.example/x",
            false,
        ),
        (
            "look-alike letters",
            own,
            "https://g\u{43e}od.example/x",
            false,
        ),
        ("another IPv6 address", v6, "https://[2001:db8::2]/x", false),
        ("IPv6 without brackets", v6, "https://2001:db8::1/x", false),
    ];
    let wrong = |(_, own, url, wanted): &(&str, &str, &str, bool)| {
        api(own).same_origin(url).is_ok() != *wanted
    };
    let wrong: Vec<_> = rows.into_iter().filter(wrong).collect();
    assert!(wrong.is_empty(), "taken for the opposite: {wrong:#?}");
}

/// What the check accepts is what will be requested: it names the host that was checked.
#[test]
fn the_accepted_address_is_the_one_that_was_checked() {
    let api = api("https://good.example");
    for url in [
        "https://good.example/a/b?c=d",
        "https://GOOD.example/x",
        "https://good.example:443/x#part",
    ] {
        let accepted = api.same_origin(url).unwrap();
        let again: http::Uri = accepted.parse().unwrap();
        assert!(
            again.host().unwrap().eq_ignore_ascii_case("good.example"),
            "{url}: {accepted}"
        );
        assert_eq!(again.scheme_str(), Some("https"), "{url}: {accepted}");
        assert_eq!(api.same_origin(&accepted).as_ref(), Ok(&accepted), "{url}");
    }
}

/// Each segment stays one segment: none can climb, branch off or add a query.
#[test]
fn segments_are_escaped() {
    let api = api("https://good.example/wf0");
    let rows = [
        ("TEAM-1", "TEAM-1"),
        ("a.b_c~d", "a.b_c~d"),
        ("a:b", "a%3Ab"),
        ("..", "%2E%2E"),
        (".", "%2E"),
        ("...", "%2E%2E%2E"),
        ("a..b", "a..b"),
        ("../admin", "..%2Fadmin"),
        ("a/b", "a%2Fb"),
        ("a\\b", "a%5Cb"),
        ("a?b=c", "a%3Fb%3Dc"),
        ("a#b", "a%23b"),
        ("a@evil.example", "a%40evil.example"),
        ("a b", "a%20b"),
        ("a+b", "a%2Bb"),
        ("100%", "100%25"),
        ("%2e%2e", "%252e%252e"),
        ("é", "%C3%A9"),
        ("a\r\nb", "a%0D%0Ab"),
        ("\0", "%00"),
        ("", ""),
    ];
    for (segment, escaped) in rows {
        let url = api.endpoint(&["api", segment, "end"]);
        assert_eq!(
            url,
            format!("https://good.example/wf0/api/{escaped}/end"),
            "{segment:?}"
        );
        assert!(api.same_origin(&url).is_ok(), "{segment:?}: {url}");
    }
}
