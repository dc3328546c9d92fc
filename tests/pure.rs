//! The parts that need no socket, no process and no clock: policy, wire format, settings.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may panic"
)]

#[path = "pure/api_url.rs"]
mod api_url;
#[path = "pure/backoff.rs"]
mod backoff;
#[path = "pure/branch.rs"]
mod branch;
#[path = "pure/capture.rs"]
mod capture;
#[path = "pure/config.rs"]
mod config;
#[path = "support/contract.rs"]
mod contract;
#[path = "pure/environment.rs"]
mod environment;
#[path = "pure/excerpt.rs"]
mod excerpt;
#[path = "pure/fuzzed.rs"]
mod fuzzed;
#[path = "pure/hub.rs"]
mod hub;
#[path = "pure/invariants.rs"]
mod invariants;
#[path = "pure/keeping.rs"]
mod keeping;
#[path = "pure/lifecycle.rs"]
mod lifecycle;
#[path = "pure/prompt.rs"]
mod prompt;
#[path = "pure/protocol.rs"]
mod protocol;
#[path = "pure/proxy.rs"]
mod proxy;
#[path = "pure/quota.rs"]
mod quota;
#[path = "pure/reading.rs"]
mod reading;
#[path = "pure/repos.rs"]
mod repos;
#[path = "pure/schema.rs"]
mod schema;
#[path = "pure/service.rs"]
mod service;
#[path = "pure/session.rs"]
mod session;
#[path = "pure/support.rs"]
mod support;
#[path = "pure/template.rs"]
mod template;
#[path = "pure/template_check.rs"]
mod template_check;
#[path = "pure/text.rs"]
mod text;
#[path = "pure/ticket.rs"]
mod ticket;
#[path = "pure/tls.rs"]
mod tls;
#[path = "pure/untrusted.rs"]
mod untrusted;
#[path = "pure/view.rs"]
mod view;
