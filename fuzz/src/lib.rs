//! The functions that the targets run: those of the agent's own tests, so that there is one of each.

#![allow(clippy::disallowed_methods, reason = "they are tests")]

#[path = "../../tests/pure/support.rs"]
#[allow(dead_code, reason = "the other tests need the rest")]
mod support;
#[path = "../../tests/disk/untrusted.rs"]
mod untrusted;

pub use untrusted::{frames, settings, state};
