//! Which proxy leads to the backend, and when none does; which roots are trusted besides the system's.

use std::path::Path;

use super::config::Home;

/// The proxy is the one for the URL's scheme, else the one for all; in lower case before upper case; none for this
/// machine and for what NO_PROXY names.
#[test]
fn the_choice() {
    const HTTPS: &str = "https://good.example";
    const HTTP: &str = "http://good.example";
    type Row = (
        &'static str,
        &'static str,
        &'static [(&'static str, &'static str)],
        Option<&'static str>,
    );
    let rows: &[Row] = &[
        ("nothing is set", HTTPS, &[], None),
        (
            "https",
            HTTPS,
            &[("HTTPS_PROXY", "http://p:1")],
            Some("p:1"),
        ),
        (
            "https by wss",
            "wss://good.example/x",
            &[("HTTPS_PROXY", "http://p:1")],
            Some("p:1"),
        ),
        (
            "https does not take that of http",
            HTTPS,
            &[("HTTP_PROXY", "http://p:1")],
            None,
        ),
        ("http", HTTP, &[("HTTP_PROXY", "http://p:1")], Some("p:1")),
        (
            "http by ws",
            "ws://good.example/x",
            &[("HTTP_PROXY", "http://p:1")],
            Some("p:1"),
        ),
        (
            "http does not take that of https",
            HTTP,
            &[("HTTPS_PROXY", "http://p:1")],
            None,
        ),
        (
            "all, https",
            HTTPS,
            &[("ALL_PROXY", "http://p:1")],
            Some("p:1"),
        ),
        (
            "all, http",
            HTTP,
            &[("ALL_PROXY", "http://p:1")],
            Some("p:1"),
        ),
        (
            "its own before all",
            HTTPS,
            &[("ALL_PROXY", "http://a:1"), ("HTTPS_PROXY", "http://p:1")],
            Some("p:1"),
        ),
        (
            "lower case",
            HTTPS,
            &[("https_proxy", "http://p:1")],
            Some("p:1"),
        ),
        (
            "lower case, http",
            HTTP,
            &[("http_proxy", "http://p:1")],
            Some("p:1"),
        ),
        (
            "lower case, all",
            HTTPS,
            &[("all_proxy", "http://p:1")],
            Some("p:1"),
        ),
        (
            "lower case first",
            HTTPS,
            &[("HTTPS_PROXY", "http://a:1"), ("https_proxy", "http://p:1")],
            Some("p:1"),
        ),
        (
            "empty is none",
            HTTPS,
            &[("https_proxy", ""), ("HTTPS_PROXY", "http://p:1")],
            Some("p:1"),
        ),
        (
            "exempt",
            HTTPS,
            &[
                ("HTTPS_PROXY", "http://p:1"),
                ("NO_PROXY", "x,good.example"),
            ],
            None,
        ),
        (
            "exempt in lower case",
            HTTPS,
            &[("HTTPS_PROXY", "http://p:1"), ("no_proxy", "good.example")],
            None,
        ),
        (
            "another is exempt",
            HTTPS,
            &[("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", "x")],
            Some("p:1"),
        ),
        (
            "this machine",
            "https://localhost",
            &[("HTTPS_PROXY", "http://p:1")],
            None,
        ),
        (
            "this machine's address",
            "http://127.0.0.1:1",
            &[("HTTP_PROXY", "http://p:1")],
            None,
        ),
        (
            "this machine's IPv6",
            "https://[::1]:1",
            &[("ALL_PROXY", "http://p:1")],
            None,
        ),
        (
            "what does not count may be anything",
            HTTPS,
            &[("HTTP_PROXY", "::"), ("HTTPS_PROXY", "p:1")],
            Some("p:1"),
        ),
        (
            "so may it for an exempt host",
            HTTPS,
            &[("HTTPS_PROXY", "socks5://p:1"), ("NO_PROXY", "*")],
            None,
        ),
    ];
    for (label, url, settings, wanted) in rows {
        let home = Home::new();
        let mut changes = vec![("WORKFORCE0_API_URL", *url), ("ALLOW_INSECURE", "1")];
        changes.extend(*settings);
        let proxy = home
            .load(&changes)
            .unwrap_or_else(|e| panic!("{label}: {e}"))
            .proxy;
        assert_eq!(
            proxy.map(|proxy| proxy.to_string()).as_deref(),
            *wanted,
            "{label}"
        );
    }
}

/// What is no proxy is refused by the name of its setting, and nothing of it is shown: a password may be in it.
#[test]
fn unusable_proxies() {
    let rows = [
        "socks5://me:secret@p:1",
        "https://me:secret@p:1",
        "ftp://secret",
        "http://me:secret@",
        "http://me:secret@:1",
        "http://me:secret@p:0",
        "http://me:secret@p:99999",
        "http://me:secret@p:x",
        "http://me:secret@p:1/secret",
        "http://me:secret@p:1?secret",
        "http://me:secret@sec ret",
        "me:secret",
        "://secret",
    ];
    for text in rows {
        let refused = Home::new().load(&[("HTTPS_PROXY", text)]).expect_err(text);
        assert!(refused.starts_with("HTTPS_PROXY: "), "{text}: {refused}");
        assert!(
            !refused.contains("secret") && !refused.contains("sec ret"),
            "{text}: {refused}"
        );
        assert_eq!(refused.lines().count(), 1, "{text}: {refused}");
    }
}

/// A company's own authority, made for these tests; its key is gone.
const COMPANY: &str = "\
-----BEGIN CERTIFICATE-----
MIIBgDCCASegAwIBAgIULGBnzJY8cTQBRo98bkG6YquwX+4wCgYIKoZIzj0EAwIw
FTETMBEGA1UEAwwKQ29tcGFueSBDQTAgFw0yNjExMjIxNjQ1MDhaGA8yMTI2MTAy
OTE2NDUwOFowFTETMBEGA1UEAwwKQ29tcGFueSBDQTBZMBMGByqGSM49AgEGCCqG
SM49AwEHA0IABCbAPlVAqCOAJ5bXXo5RkM6M+x0P3kgnAlaUYwqGMCfPi9nyLEwZ
W333ZmIEG/piQbbAEoaxpXDZPYQDlGsdF/mjUzBRMB0GA1UdDgQWBBSjJfFuRxt2
g62ljMKjxvLxuxb+IDAfBgNVHSMEGDAWgBSjJfFuRxt2g62ljMKjxvLxuxb+IDAP
BgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0cAMEQCIEcUPclLNIi6bOsq4g/9
qwAZvEs12guQ0V1HKK8sXmNtAiA14X0/aptDt1RZa6okq3Bb4ajURN4u+FTuczrT
k827ng==
-----END CERTIFICATE-----
";

/// Every certificate of a file and of the files of a folder is taken once, whatever else lies there.
#[test]
fn further_roots() {
    let home = Home::new();
    let roots = |changes: &[(&str, &str)]| home.load(changes).unwrap().roots.0.len();
    assert_eq!(roots(&[]), 0);
    let file = home.file(
        "company.pem",
        &format!("Subject: Company CA\n{COMPANY}{COMPANY}"),
    );
    home.file("web/README", "No certificate.");
    home.file("web/1b2c3d4e.0", COMPANY);
    home.file("web/company.crt", COMPANY);
    let (file, folder, both) = (
        file.to_str().unwrap(),
        home.path("web"),
        format!("{0}:{0}", home.path("web")),
    );
    assert_eq!(roots(&[("SSL_CERT_DIR", &folder)]), 1);
    if cfg!(unix) {
        assert_eq!(roots(&[("SSL_CERT_DIR", &both)]), 1);
    }
    // In the environment OpenSSL finds it too, and takes it instead of the system's, which has to be there all the same.
    let has_bundle =
        Path::new("/etc/ssl/certs/ca-certificates.crt").exists() && cfg!(target_os = "linux");
    let all = roots(&[("SSL_CERT_FILE", file)]);
    assert!(if has_bundle { all > 1 } else { all >= 1 }, "{all}");
}

/// Further roots are read at the start; a file or folder that gives none is refused by the name of its setting.
#[test]
fn unusable_roots() {
    let home = Home::new();
    let empty = home.file("empty.pem", "");
    let text = home.file("text.pem", "no certificate\n");
    let broken = home.file(
        "broken.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    let state = home.path("state");
    for (setting, path) in [
        ("SSL_CERT_FILE", "/no/such/file.pem"),
        ("SSL_CERT_FILE", state.as_str()),
        ("SSL_CERT_FILE", empty.to_str().unwrap()),
        ("SSL_CERT_FILE", text.to_str().unwrap()),
        ("SSL_CERT_FILE", broken.to_str().unwrap()),
        ("SSL_CERT_DIR", "/no/such/folder"),
        ("SSL_CERT_DIR", empty.to_str().unwrap()),
        ("SSL_CERT_DIR", state.as_str()),
    ] {
        let refused = home.load(&[(setting, path)]).expect_err(path);
        assert!(
            refused.starts_with(&format!("{setting}: ")) && refused.contains(path),
            "{path}: {refused}"
        );
    }
}
