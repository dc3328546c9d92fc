//! The parts that need no disk, no socket, no process and no clock: policy, wire format, the table of settings.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may panic"
)]

mod api_url;
mod backoff;
#[path = "../support/contract.rs"]
mod contract;
mod hub;
mod invariants;
mod keeping;
mod lifecycle;
mod prompt;
mod protocol;
mod quota;
mod repos;
mod schema;
#[cfg(feature = "tools")]
mod service;
mod session;
mod settings;
mod support;
mod template;
mod ticket;
mod view;
