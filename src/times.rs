//! Times as text, on the wire and on disk.

use std::time::{Duration, SystemTime};

/// RFC 3339, UTC, milliseconds.
pub fn rfc3339(time: SystemTime) -> String {
    // Outside the years -9999 to 9999 there is nothing sensible to say.
    let time = jiff::Timestamp::try_from(time).unwrap_or_default();
    format!("{time:.3}")
}

/// No time that anybody measures is too long for it.
pub fn millis_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
