use super::meaning;

/// Each failure that a user can do something about says what, whichever system's library it is that speaks.
#[test]
fn failures_say_what_to_do() {
    let rows = [
        (
            "OpenSSL",
            "certificate verify failed:ssl/x.c:1889: (unable to get local issuer certificate)",
            "SSL_CERT_FILE",
        ),
        (
            "OpenSSL",
            "certificate verify failed (self-signed certificate in certificate chain)",
            "SSL_CERT_FILE",
        ),
        (
            "OpenSSL 1.1",
            "certificate verify failed (self signed certificate)",
            "SSL_CERT_FILE",
        ),
        (
            "Apple",
            "\u{201c}CA\u{201d} certificate is not trusted",
            "SSL_CERT_FILE",
        ),
        (
            "Windows",
            "Eine Zertifikatkette … (os error -2146762487)",
            "SSL_CERT_FILE",
        ),
        (
            "OpenSSL",
            "certificate verify failed (hostname mismatch)",
            "another host name",
        ),
        (
            "OpenSSL",
            "certificate verify failed (IP address mismatch)",
            "another host name",
        ),
        (
            "Windows",
            "Der CN-Name … (os error -2146762481)",
            "another host name",
        ),
        (
            "OpenSSL",
            "certificate verify failed (certificate has expired)",
            "clock",
        ),
        ("Apple", "\u{201c}x\u{201d} certificate is expired", "clock"),
        (
            "Windows",
            "Ein erforderliches Zertifikat … (os error -2146762495)",
            "clock",
        ),
        (
            "OpenSSL",
            "certificate verify failed (certificate is not yet valid)",
            "clock",
        ),
        (
            "OpenSSL",
            "error:0A00010B:SSL routines::wrong version number",
            "does not speak TLS",
        ),
    ];
    for (library, words, wanted) in rows {
        let (what, fix) =
            meaning(words).unwrap_or_else(|| panic!("{library}: {words}: nothing is said"));
        let meaning = format!("{what}; {fix}");
        assert!(
            meaning.contains(wanted) && !meaning.contains('\n'),
            "{library}: {words}: {meaning}"
        );
    }
    for words in [
        "",
        "unexpected EOF",
        "Connection reset by peer (os error 104)",
        "sslv3 alert handshake failure",
    ] {
        assert_eq!(meaning(words), None, "{words}: more is said than is known");
    }
}
