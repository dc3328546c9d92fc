use super::{Proxy, is_exempt};

/// NO_PROXY: names with all below them, addresses, networks, everything; nothing that only looks alike.
#[test]
fn exemptions() {
    let rows = [
        ("good.example", "good.example", true),
        ("good.example", "GOOD.example", true),
        ("good.example.", "good.example", true),
        ("a.good.example", "good.example", true),
        ("a.b.good.example", "good.example", true),
        ("a.good.example", ".good.example", true),
        ("good.example", ".good.example", true),
        ("a.good.example", "*.good.example", true),
        ("good.example", "a, good.example", true),
        ("good.example", "a good.example\tb", true),
        ("good.example", ",,good.example,", true),
        ("good.example", "*", true),
        ("good.example", "a,*", true),
        ("10.1.2.3", "*", true),
        ("10.1.2.3", "10.1.2.3", true),
        ("10.1.2.3", "10.0.0.0/8", true),
        ("10.1.2.3", "10.1.2.2/31", true),
        ("10.1.2.3", "10.1.2.3/32", true),
        ("10.1.2.3", "0.0.0.0/0", true),
        ("10.1.2.3", "192.168.0.0/16,10.0.0.0/8", true),
        ("2001:db8::1", "2001:db8::1", true),
        ("2001:db8::1", "[2001:db8::1]", true),
        ("2001:db8::1", "2001:DB8:0::/32", true),
        ("2001:db8::1", "::/0", true),
        ("::ffff:10.1.2.3", "10.0.0.0/8", true),
        ("good.example", "", false),
        ("good.example", ",", false),
        ("good.example", ".", false),
        ("good.example", "*.", false),
        ("good.example", "example.good", false),
        ("good.example", "a.good.example", false),
        ("evilgood.example", "good.example", false),
        ("good.example.evil", "good.example", false),
        ("good.example", "od.example", false),
        ("good.example", "0.0.0.0/0", false),
        ("10.1.2.3", "10.1.2.4", false),
        ("10.1.2.3", "1.2.3", false),
        ("10.1.2.3", "11.0.0.0/8", false),
        ("10.1.2.3", "10.1.2.0/31", false),
        ("10.1.2.3", "10.0.0.0/x", false),
        ("10.1.2.3", "10.0.0.0/", false),
        ("10.1.2.3", "::/0", false),
        ("2001:db8::1", "2001:db9::/32", false),
        ("2001:db8::1", "2001:db8::2/127", false),
        ("2001:db8::1", "0.0.0.0/0", false),
    ];
    let wrong: Vec<_> = rows
        .into_iter()
        .filter(|(host, list, wanted)| is_exempt(host, list) != *wanted)
        .collect();
    assert!(wrong.is_empty(), "taken for the opposite: {wrong:#?}");
}

/// A proxy is a URL or just host and port; what is escaped in the credentials is meant literally (RFC 7617).
#[test]
fn proxies() {
    let rows = [
        (
            "http://proxy.example:3128",
            "proxy.example:3128",
            "proxy.example",
            3128,
            None,
        ),
        (
            "HTTP://Proxy.Example:3128/",
            "proxy.example:3128",
            "proxy.example",
            3128,
            None,
        ),
        (
            " proxy.example:3128\n",
            "proxy.example:3128",
            "proxy.example",
            3128,
            None,
        ),
        (
            "http://proxy.example",
            "proxy.example:80",
            "proxy.example",
            80,
            None,
        ),
        (
            "http://[2001:db8::1]:8080",
            "[2001:db8::1]:8080",
            "2001:db8::1",
            8080,
            None,
        ),
        (
            "http://me:secret@p:1",
            "p:1",
            "p",
            1,
            Some("Basic bWU6c2VjcmV0"),
        ),
        ("me:secret@p:1", "p:1", "p", 1, Some("Basic bWU6c2VjcmV0")),
        (
            "http://me:p%40%3a%25@p:1",
            "p:1",
            "p",
            1,
            Some("Basic bWU6cEA6JQ=="),
        ),
        ("http://me:p@/@p:1", "p:1", "p", 1, Some("Basic bWU6cEAv")),
        ("http://me@p:1", "p:1", "p", 1, Some("Basic bWU6")),
    ];
    for (text, shown, host, port, authorization) in rows {
        let proxy = Proxy::parse("HTTPS_PROXY", text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(
            (proxy.address.host(), proxy.address.port),
            (host, port),
            "{text}"
        );
        assert_eq!(proxy.authorization.as_deref(), authorization, "{text}");
        assert_eq!(proxy.to_string(), shown, "{text}");
        assert_eq!(
            format!("{proxy:?}"),
            format!("Proxy({shown})"),
            "{text}: Debug shows more"
        );
    }
}
