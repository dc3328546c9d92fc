//! Root certificates beside the system's own: a company's CA (`SSL_CERT_FILE`, `SSL_CERT_DIR`).

use std::collections::HashSet;
use std::fmt;
use std::fs;

use native_tls::Certificate;

/// Where Linux distributions keep their roots in one file.
const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

#[derive(Clone, Default)]
pub struct Roots(Vec<Certificate>);

impl Roots {
    /// OpenSSL reads `SSL_CERT_FILE` from the environment too, and takes it instead of the system's file: that one
    /// has to be added then.
    pub fn new(further: impl Iterator<Item = Certificate>, is_known_to_openssl: bool) -> Self {
        let bundle = || {
            BUNDLES
                .iter()
                .find_map(|path| of_file(path).ok())
                .unwrap_or_default()
        };
        let bundle = if is_known_to_openssl && cfg!(target_os = "linux") {
            bundle()
        } else {
            Vec::new()
        };
        let mut seen = HashSet::new();
        // The folders that distributions make hold every certificate several times.
        let is_new = |root: &Certificate| root.to_der().is_ok_and(|der| seen.insert(der));
        Self(further.chain(bundle).filter(is_new).collect())
    }

    pub fn certificates(&self) -> &[Certificate] {
        &self.0
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roots({})", self.0.len())
    }
}

/// Every certificate of a PEM file.
pub fn of_file(path: &str) -> Result<Vec<Certificate>, String> {
    let pem = fs::read(path).map_err(|e| format!("{path} cannot be read: {e}"))?;
    match Certificate::stack_from_pem(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(format!("{path} holds no certificate (PEM)")),
        Err(e) => Err(format!(
            "{path} holds a certificate that cannot be read: {e}"
        )),
    }
}

/// Every certificate of the PEM files in one or several folders, separated as in PATH. What else lies there is not
/// looked at twice.
pub fn of_folders(list: &str) -> Result<Vec<Certificate>, String> {
    let mut certificates = Vec::new();
    for folder in std::env::split_paths(list) {
        let entries = fs::read_dir(&folder)
            .map_err(|e| format!("{} cannot be read: {e}", folder.display()))?;
        let paths = entries.flatten().map(|entry| entry.path());
        certificates.extend(
            paths
                .filter_map(|path| of_file(path.to_str()?).ok())
                .flatten(),
        );
    }
    if certificates.is_empty() {
        Err(format!("no file in {list} holds a certificate (PEM)"))
    } else {
        Ok(certificates)
    }
}
