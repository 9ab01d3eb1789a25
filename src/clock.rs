//! The wall clock, for what people read: trace fields, records, the log.
//!
//! Time-outs are measured with [`std::time::Instant`], which nobody can set.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Local, TimeDelta};

/// The time now, where this machine is. A clock that is set to a time before 1970 is no reason to
/// refuse mail (`Local::now` panics there).
#[must_use]
pub fn now() -> DateTime<Local> {
    // Only a clock set beyond the year 262,000 gets to the epoch.
    let now = DateTime::UNIX_EPOCH.checked_add_signed(since_epoch());
    now.unwrap_or_default().with_timezone(&Local)
}

/// The time now in microseconds since 1970, or before.
#[must_use]
pub fn unix_micros() -> i64 {
    since_epoch().num_microseconds().unwrap_or_default()
}

/// Less than nothing before 1970.
fn since_epoch() -> TimeDelta {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => TimeDelta::from_std(since).unwrap_or_default(),
        Err(error) => -TimeDelta::from_std(error.duration()).unwrap_or_default(),
    }
}
