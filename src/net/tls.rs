//! TLS to the backend, and advice for its failures.

use log::debug;
use native_tls::{Protocol, TlsConnector, TlsStream};

use super::{RouteError, Wire};
use crate::config::Roots;
use crate::domain::text::one_line;

/// If there is no advice, the error shows at most this many characters of the TLS library's own words.
const SHOWN_MAX: usize = 300;

/// Reads the system's root certificates each time, because a daemon may run longer than a certificate is valid.
pub fn secure(host: &str, wire: Wire, roots: &Roots) -> Result<TlsStream<Wire>, RouteError> {
    let mut builder = TlsConnector::builder();
    builder.min_protocol_version(Some(Protocol::Tlsv12));
    for root in &roots.0 {
        builder.add_root_certificate(root.clone());
    }
    let connector = builder.build();
    let connector = connector.map_err(|e| format!("TLS cannot be set up: {e}"))?;
    connector.connect(host, wire).map_err(|e| {
        let words = one_line(&e.to_string(), SHOWN_MAX);
        debug!("TLS with {host}: {words}");
        match meaning(&e.to_string()) {
            Some((what, fix)) => RouteError::with_fix(format!("TLS with {host}: {what}"), fix),
            None => format!("TLS with {host}: {words}").into(),
        }
    })
}

/// What is wrong, and what to do about it.
type Meaning = (&'static str, &'static str);

const UNKNOWN_ISSUER: Meaning = (
    "its certificate is signed by an authority that this machine does not know",
    "if that is your company's own, set SSL_CERT_FILE to its certificate (PEM)",
);
const WRONG_HOST: Meaning = (
    "its certificate is for another host name",
    "is the host in WORKFORCE0_API_URL right?",
);
const EXPIRED: Meaning = (
    "its certificate has expired or is not yet valid, or this machine's clock is wrong",
    "set the clock, or have the certificate renewed",
);
const NO_TLS: Meaning = (
    "the server there does not speak TLS",
    "are scheme and port in WORKFORCE0_API_URL right?",
);

/// native-tls describes its failures only in the words of OpenSSL, Apple or Windows. Windows uses the user's language,
/// so there the error number after the words counts.
const WORDS: &[(&str, Meaning)] = &[
    ("issuer certificate", UNKNOWN_ISSUER),
    ("unable to verify the first certificate", UNKNOWN_ISSUER),
    ("signed certificate", UNKNOWN_ISSUER),
    ("certificate is not trusted", UNKNOWN_ISSUER),
    ("os error -2146762487", UNKNOWN_ISSUER), // CERT_E_UNTRUSTEDROOT
    ("os error -2146762486", UNKNOWN_ISSUER), // CERT_E_CHAINING
    ("os error -2146893019", UNKNOWN_ISSUER), // SEC_E_UNTRUSTED_ROOT
    ("hostname mismatch", WRONG_HOST),
    ("ip address mismatch", WRONG_HOST),
    ("certificate name does not match", WRONG_HOST),
    ("os error -2146762481", WRONG_HOST), // CERT_E_CN_NO_MATCH
    ("os error -2146893022", WRONG_HOST), // SEC_E_WRONG_PRINCIPAL
    ("certificate has expired", EXPIRED),
    ("certificate is expired", EXPIRED),
    ("certificate is not yet valid", EXPIRED),
    ("os error -2146762495", EXPIRED), // CERT_E_EXPIRED
    ("os error -2146893016", EXPIRED), // SEC_E_CERT_EXPIRED
    ("wrong version number", NO_TLS),
    ("packet length too long", NO_TLS),
    ("http request", NO_TLS),
    ("os error -2146893048", NO_TLS), // SEC_E_INVALID_TOKEN
];

/// What a TLS library's words mean for the user. `None`: there is nothing to add.
fn meaning(words: &str) -> Option<(&'static str, &'static str)> {
    let words = words.to_ascii_lowercase();
    let known = WORDS.iter().find(|(known, _)| words.contains(known));
    known.map(|(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
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
}
