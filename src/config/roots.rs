//! Root certificates to trust besides the system's: a company's own CA (`SSL_CERT_FILE`, `SSL_CERT_DIR`).

use std::collections::HashSet;
use std::fmt;
use std::fs;

use native_tls::Certificate;

use super::reader::Reader;

/// The files in which Linux distributions keep their roots.
const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

#[derive(Clone, Default)]
pub struct Roots(Vec<Certificate>);

impl Roots {
    pub(super) fn read(r: &mut Reader) -> Self {
        let mut roots = r.value("SSL_CERT_FILE", from_file).unwrap_or_default();
        roots.extend(r.value("SSL_CERT_DIR", from_folders).unwrap_or_default());
        // OpenSSL reads this variable too, and then not the system's file, which must be added.
        let replaces_system = r.sources.environment().get("SSL_CERT_FILE").is_some();
        if replaces_system && cfg!(target_os = "linux") {
            let bundle = BUNDLES.iter().find_map(|path| from_file(path).ok());
            roots.extend(bundle.unwrap_or_default());
        }
        let mut seen = HashSet::new();
        // The folders of distributions contain each certificate several times.
        roots.retain(|root| root.to_der().is_ok_and(|der| seen.insert(der)));
        Self(roots)
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
fn from_file(path: &str) -> Result<Vec<Certificate>, String> {
    let pem = fs::read(path).map_err(|e| format!("{path} cannot be read: {e}"))?;
    match Certificate::stack_from_pem(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(format!("{path} contains no certificate (PEM)")),
        Err(e) => Err(format!(
            "{path} contains a certificate that cannot be read: {e}"
        )),
    }
}

/// Every certificate of the PEM files in one or several folders, separated as in PATH. Other files are skipped.
fn from_folders(list: &str) -> Result<Vec<Certificate>, String> {
    let mut certificates = Vec::new();
    for folder in std::env::split_paths(list) {
        let entries = fs::read_dir(&folder)
            .map_err(|e| format!("{} cannot be read: {e}", folder.display()))?;
        let paths = entries.flatten().map(|entry| entry.path());
        let found = paths.filter_map(|path| from_file(path.to_str()?).ok());
        certificates.extend(found.flatten());
    }
    if certificates.is_empty() {
        return Err(format!("no file in {list} contains a certificate (PEM)"));
    }
    Ok(certificates)
}
