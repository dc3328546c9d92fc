//! The connection to the backend, step by step, and whether it accepts the token. No agent is registered.

use std::time::{Duration, SystemTime};

use crate::checks::Finding;
use crate::config::Config;
use crate::domain::event::Setback;
use crate::link::Dialer;
use crate::link::event_loop::now;
use crate::net::{Route, lookup};
use crate::times::in_words;

/// For each step.
const LIMIT: Duration = Duration::from_secs(15);
/// The backend's clock has whole seconds, and its answer takes a moment.
const CLOCK_OFF: Duration = Duration::from_secs(60);
const ONLINE: &str = "is WORKFORCE0_API_URL right, is the backend up, and is this machine online?";

pub fn all(config: &Config) -> Vec<Finding> {
    let (api, proxy) = (&config.api, &config.proxy);
    let (host, port) = match proxy {
        Some(proxy) => (proxy.host(), proxy.port()),
        None => (api.host(), api.port()),
    };
    let mut findings = vec![match proxy {
        Some(proxy) => Finding::ok("proxy", format!("{proxy} ({})", proxy.setting())),
        None => Finding::ok("proxy", "none"),
    }];
    match lookup(host, port, now().mono + LIMIT) {
        Ok(addresses) => {
            let addresses = addresses.iter().map(|address| address.ip().to_string());
            let addresses: Vec<_> = addresses.collect();
            findings.push(Finding::ok(
                "DNS",
                format!("{host} → {}", addresses.join(", ")),
            ));
        }
        Err(e) => {
            let setting = match proxy {
                Some(proxy) => proxy.setting(),
                None => "WORKFORCE0_API_URL",
            };
            let fix = format!("is the host in {setting} right, and is this machine online?");
            findings.push(Finding::problem("DNS", format!("{host}: {e}"), fix));
            return findings;
        }
    }
    let dialer = Dialer {
        route: Route {
            api: api.clone(),
            proxy: proxy.clone(),
            roots: config.roots.clone(),
        },
        token: config.token.clone(),
        only: config.dialect.or_else(|| api.dialect()),
        store: None,
    };
    if let Err(e) = dialer.route.open(now().mono + LIMIT) {
        let fix = e.fix.unwrap_or_else(|| ONLINE.to_owned());
        findings.push(Finding::problem("connection", e.what, fix));
        return findings;
    }
    let kind = match api.is_secure() {
        true => "over TLS, certificate trusted",
        false => "unencrypted",
    };
    let reachable = format!("{} is reachable ({kind})", api.host_and_port());
    findings.push(Finding::ok("connection", reachable));
    match dialer.try_out(now) {
        Ok((dialect, backend_time)) => {
            findings.extend(backend_time.map(|theirs| clock(now().wall, theirs)));
            let what = format!("token accepted, protocol {:?}", dialect.name());
            findings.push(Finding::ok("backend", what));
        }
        Err(setback) => findings.push(refusal(setback)),
    }
    findings
}

fn refusal(setback: Setback) -> Finding {
    match setback {
        Setback::Failed(why) => Finding::problem("backend", why, ONLINE),
        Setback::Wait { why, at_least } => Finding::warning(
            "backend",
            format!("not ready: {why}"),
            format!(
                "try again in {} s; the daemon does so by itself",
                at_least.as_secs()
            ),
        ),
        Setback::TokenRejected(why) => Finding::problem(
            "token",
            format!("rejected by the backend: {why}"),
            "create a new one under Settings → Agents → Create token, and set WORKFORCE0_AGENT_TOKEN to it",
        ),
        Setback::VersionRefused(why) => Finding::problem(
            "backend",
            format!("does not speak this version of the protocol: {why}"),
            "install a newer wf0-agent",
        ),
    }
}

fn clock(own: SystemTime, theirs: SystemTime) -> Finding {
    let (off, how) = match own.duration_since(theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(e) => (e.duration(), "behind"),
    };
    if off < CLOCK_OFF {
        return Finding::ok("clock", "agrees with the backend's");
    }
    let off = in_words(off);
    let what = format!("{off} {how} the backend's: times in reports and certificates are wrong");
    Finding::warning("clock", what, "enable time synchronisation (NTP)")
}
