//! The time of day, which tests drive; and times in milliseconds, and pauses.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Since 1970.
pub fn milliseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, milliseconds_of)
}

pub fn milliseconds_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A quarter more at most, so that many who failed at once do not come back at once.
pub fn jittered(pause: Duration) -> Duration {
    let part = getrandom::u32().unwrap_or_default();
    pause + (pause / 4).mul_f64(f64::from(part) / f64::from(u32::MAX))
}
