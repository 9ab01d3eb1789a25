//! The wall clock, for what people read: trace fields, records, the log.
//!
//! Time-outs are measured with [`std::time::Instant`], which nobody can set.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Local, TimeDelta};

/// The time now, where this machine is. A clock that is set to a time before 1970 is no reason to
/// refuse mail (`Local::now` panics there).
#[must_use]
pub fn now() -> DateTime<Local> {
    let (since, is_before) = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => (since, false),
        Err(error) => (error.duration(), true),
    };
    let since = TimeDelta::from_std(since).unwrap_or_default();
    let epoch = DateTime::UNIX_EPOCH.with_timezone(&Local);
    let now = if is_before {
        epoch.checked_sub_signed(since)
    } else {
        epoch.checked_add_signed(since)
    };
    // Only a clock set beyond the year 262,000 gets there.
    now.unwrap_or(epoch)
}

/// The time now in microseconds since 1970, or before.
#[must_use]
pub fn unix_micros() -> i128 {
    let micros = |time: Duration| i128::try_from(time.as_micros()).unwrap_or_default();
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => micros(since),
        Err(error) => -micros(error.duration()),
    }
}
