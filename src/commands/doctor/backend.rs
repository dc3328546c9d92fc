//! The way to the backend, step by step, and what it says to the token. No agent is registered.

use std::time::{Duration, Instant, SystemTime};

use super::Check;
use crate::config::Config;
use crate::domain::Now;
use crate::domain::event::Setback;
use crate::link::Dialer;
use crate::net::{Route, lookup};

/// For each step.
const LIMIT: Duration = Duration::from_secs(15);
/// The backend's clock has whole seconds, and its answer takes a moment.
const CLOCK_OFF: Duration = Duration::from_secs(60);

pub fn all(config: &Config) -> Vec<Check> {
    let Config {
        api,
        proxy,
        roots,
        token,
        dialect,
        ..
    } = config;
    let (host, port) = proxy.as_ref().map_or((api.host(), api.port()), |proxy| {
        (proxy.host(), proxy.port())
    });
    let mut checks = vec![match proxy {
        Some(proxy) => Check::ok("proxy", format!("{proxy} ({})", proxy.setting())),
        None => Check::ok("proxy", "none"),
    }];
    let setting = proxy
        .as_ref()
        .map_or("WORKFORCE0_API_URL", |proxy| proxy.setting());
    match lookup(host, port, now().mono + LIMIT) {
        Ok(addresses) => {
            let addresses: Vec<_> = addresses
                .iter()
                .map(|address| address.ip().to_string())
                .collect();
            checks.push(Check::ok(
                "address",
                format!("{host} is {}", addresses.join(", ")),
            ));
        }
        Err(e) => {
            let fix = format!("is the host in {setting} right, and is this machine online?");
            checks.push(Check::fail("address", format!("{host}: {e}"), fix));
            return checks;
        }
    }
    let route = Route {
        api: api.clone(),
        proxy: proxy.clone(),
        roots: roots.clone(),
    };
    let online = "is WORKFORCE0_API_URL right, is the backend up, and is this machine online?";
    if let Err(why) = route.open(now().mono + LIMIT) {
        checks.push(split("connection", &why, online));
        return checks;
    }
    let kind = if api.is_secure() {
        "TLS, with a certificate that is trusted"
    } else {
        "clear text"
    };
    checks.push(Check::ok(
        "connection",
        format!("{} answers: {kind}", api.host_and_port()),
    ));
    let only = dialect.or_else(|| api.dialect());
    let dialer = Dialer {
        route,
        token: token.clone(),
        only,
        store: None,
    };
    let answer = match dialer.try_out(now) {
        Ok((dialect, peer_clock)) => {
            let name = dialect.name();
            checks.extend(peer_clock.map(|theirs| clock(now().wall, theirs)));
            Check::ok(
                "backend",
                format!("takes the token and speaks {name:?} (this did not register the agent)"),
            )
        }
        Err(Setback::Failed(why)) => split("backend", &why, online),
        Err(Setback::Wait { why, at_least }) => {
            let fix = format!(
                "try again in {} s; the daemon does so by itself",
                at_least.as_secs()
            );
            Check::warn("backend", format!("is not ready: {why}"), fix)
        }
        Err(Setback::TokenRejected(why)) => {
            let fix =
                "mint another in Settings → Agents → Create token, and set WORKFORCE0_AGENT_TOKEN";
            Check::fail("backend", format!("rejects the token: {why}"), fix)
        }
        Err(Setback::VersionRefused(why)) => Check::fail(
            "backend",
            format!("does not speak this version of the protocol: {why}"),
            "install a newer wf0-agent",
        ),
    };
    checks.push(answer);
    checks
}

fn clock(own: SystemTime, theirs: SystemTime) -> Check {
    let (off, how) = match own.duration_since(theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(e) => (e.duration(), "behind"),
    };
    if off < CLOCK_OFF {
        return Check::ok("clock", "agrees with the backend's");
    }
    let message = format!(
        "{} s {how} the backend's: times in reports and certificates are off",
        off.as_secs()
    );
    Check::warn("clock", message, "have one of the two set by a time server")
}

/// What the daemon would log, which may say what to do behind a semicolon.
fn split(name: &str, text: &str, otherwise: &str) -> Check {
    let (message, fix) = text.split_once("; ").unwrap_or((text, otherwise));
    Check::fail(name, message, fix)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the steps are limited in time, counted from now"
)]
fn now() -> Now {
    Now {
        mono: Instant::now(),
        wall: SystemTime::now(),
    }
}
