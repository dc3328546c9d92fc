//! The parts that need no socket, no process and no clock: policy, wire format, settings.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may panic"
)]

mod api_url;
mod backoff;
mod branch;
mod capture;
mod config;
#[path = "../support/contract.rs"]
mod contract;
mod environment;
mod excerpt;
mod fuzzed;
mod hub;
mod invariants;
mod keeping;
mod lifecycle;
mod prompt;
mod protocol;
mod proxy;
mod quota;
mod reading;
mod repos;
mod schema;
#[cfg(feature = "tools")]
mod service;
mod session;
mod support;
mod template;
mod template_check;
mod text;
mod ticket;
mod tls;
mod untrusted;
mod view;
