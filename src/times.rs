//! Times and durations as text and as numbers. The protocol, the status and the audit log use text; the records of
//! tickets use numbers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// For logs and files only. The session decides, so it must not read a clock: it gets the time from the event loop.
#[expect(clippy::disallowed_methods, reason = "nothing is decided by this time")]
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// The time as RFC 3339, in UTC, with milliseconds.
pub fn rfc3339(time: SystemTime) -> String {
    // A time outside the years -9999 to 9999 becomes 1970.
    let time = jiff::Timestamp::try_from(time).unwrap_or_default();
    format!("{time:.3}")
}

/// A time in a record, in the form of [`rfc3339`].
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Rfc3339(pub SystemTime);

impl From<Rfc3339> for String {
    fn from(time: Rfc3339) -> Self {
        rfc3339(time.0)
    }
}

impl TryFrom<String> for Rfc3339 {
    type Error = jiff::Error;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let time: jiff::Timestamp = text.parse()?;
        Ok(Self(time.into()))
    }
}

/// The duration for people: `42 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`
pub fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86400, seconds / 3600 % 24),
    }
}

/// A duration too long for the number becomes the largest number.
pub fn millis_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds since 1970. An earlier time becomes 0.
pub fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, millis_of)
}

/// The reverse of [`millis`]. A number too large for a time becomes 1970: a bad number must not lose a ticket.
pub fn from_millis(millis: u64) -> SystemTime {
    UNIX_EPOCH
        .checked_add(Duration::from_millis(millis))
        .unwrap_or(UNIX_EPOCH)
}

/// A time in a record, as the number of [`millis`].
pub mod millis_since_1970 {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::time::SystemTime;

    pub fn serialize<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(super::millis(*time))
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<SystemTime, D::Error> {
        u64::deserialize(from).map(super::from_millis)
    }
}

/// A duration in a record, as a number of milliseconds.
pub mod duration_in_millis {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::time::Duration;

    pub fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(super::millis_of(*duration))
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

/// An optional duration in a record, as a number of seconds.
pub mod optional_seconds {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::time::Duration;

    pub fn serialize<S: Serializer>(limit: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        limit.map(|limit| limit.as_secs()).serialize(to)
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::deserialize(from)?.map(Duration::from_secs))
    }
}
