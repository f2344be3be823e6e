//! The time of day, which tests drive.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Since 1970.
pub fn milliseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
