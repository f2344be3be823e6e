//! When a session ends and when its cookie is due for a new one: pure rules over times.
//!
//! All times are milliseconds since 1970, at most 48 bits wide.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How far in the future a cookie's `issued_at` may lie: what the clocks of two instances may be
/// apart. A cookie beyond it is rejected here and left alone. The tolerance never extends an expiry.
pub const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// A head that comes later than this after the handle was handed out re-issues nothing: late
/// responses are what undoes newer ones. In milliseconds.
pub(crate) const LATE: u64 = 10_000;

/// The largest time that the wire format holds: 48 bits, the year 10889.
pub(crate) const LATEST: u64 = (1 << 48) - 1;

/// The most that browsers keep a cookie (RFC 6265bis-22 section 5.5), and the most that any
/// lifetime here can be.
pub(crate) const MAX_LIFETIME: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// How long a sign-out marker lives, in seconds: longer than any session that it can concern, also under the
/// settings of another instance or of a later release, which may raise the timeouts.
pub(crate) const MARKER_MAX_AGE: u64 = MAX_LIFETIME.as_secs();

/// How long a session lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Lifetime {
    /// The configured idle and absolute timeout.
    #[default]
    Timeouts,
    /// A lifetime of its own ("remember me"), counted from `renewed_at`, instead of both timeouts: it
    /// ends then however active the user is, and [`renew`](crate::Session::renew) starts it again.
    /// In whole seconds, rounded down; at least one, at most the configured
    /// [`max_own_lifetime`](crate::SessionBuilder::max_own_lifetime), which is 14 days by default.
    Own(Duration),
    /// Until the browser ends: the cookie has no `Max-Age`. Both timeouts hold all the same.
    Browser,
}

/// The three times of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) created: u64,
    pub(crate) renewed: u64,
    pub(crate) issued: u64,
}

/// The configured lifetimes, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) idle: u64,
    pub(crate) absolute: u64,
    pub(crate) max_own: u64,
    pub(crate) reissue_after: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Live,
    FromTheFuture,
    Expired,
}

impl Rules {
    /// The threshold for a re-issue where none is set: a tenth of the idle timeout, but at least a
    /// minute, so that parallel requests rarely overwrite a newer cookie; and never over a half, so
    /// that an active user stays in.
    pub(crate) fn default_reissue_after(idle: Duration) -> Duration {
        (idle / 2).min((idle / 10).max(Duration::from_secs(60)))
    }

    pub(crate) fn idle_deadline(&self, times: Times, lifetime: Lifetime) -> Option<u64> {
        match lifetime {
            Lifetime::Own(_) => None,
            Lifetime::Timeouts | Lifetime::Browser => Some(times.issued.saturating_add(self.idle)),
        }
    }

    /// The absolute timeout, or the end of the session's own lifetime. A maximum that was lowered
    /// since caps the latter.
    pub(crate) fn absolute_deadline(&self, times: Times, lifetime: Lifetime) -> u64 {
        times.renewed.saturating_add(match lifetime {
            Lifetime::Own(own) => millis(own).min(self.max_own),
            Lifetime::Timeouts | Lifetime::Browser => self.absolute,
        })
    }

    pub(crate) fn expires(&self, times: Times, lifetime: Lifetime) -> u64 {
        let absolute = self.absolute_deadline(times, lifetime);
        self.idle_deadline(times, lifetime).map_or(absolute, |idle| idle.min(absolute))
    }

    /// A session has ended at the very millisecond at which it expires.
    pub(crate) fn judge(&self, times: Times, lifetime: Lifetime, now: u64) -> Verdict {
        if times.issued > now.saturating_add(millis(CLOCK_SKEW)) {
            Verdict::FromTheFuture
        } else if now >= self.expires(times, lifetime) {
            Verdict::Expired
        } else {
            Verdict::Live
        }
    }

    /// Whether an unchanged session gets a new cookie. `moves`: its cookie is not what would be
    /// written now (key, schema, mode), the only reason where the lifetime is the session's own.
    pub(crate) fn reissue_due(&self, times: Times, lifetime: Lifetime, moves: bool, now: u64) -> bool {
        let worth_it = moves || !matches!(lifetime, Lifetime::Own(_));
        worth_it && now.saturating_sub(times.issued) >= self.reissue_after
    }

    /// What is left, in seconds for `Max-Age`; rounded up, since 0 would remove the cookie, and never
    /// more than is budgeted for, though `issued` may lie ahead by the skew.
    pub(crate) fn max_age(&self, times: Times, lifetime: Lifetime, now: u64) -> Option<u64> {
        match lifetime {
            Lifetime::Browser => None,
            _ => {
                let left = self.expires(times, lifetime).saturating_sub(now).div_ceil(1000);
                Some(left.min(self.longest_max_age()))
            }
        }
    }

    /// The longest `Max-Age` that a session's cookie can have, in seconds.
    pub(crate) fn longest_max_age(&self) -> u64 {
        self.idle.min(self.absolute).max(self.max_own).div_ceil(1000)
    }
}

/// Milliseconds, at most as many as the wire format holds.
pub(crate) fn millis(duration: Duration) -> u64 {
    // Not `as_millis`, which takes 128 bits.
    duration.as_secs().saturating_mul(1000).saturating_add(duration.subsec_millis().into()).min(LATEST)
}

/// Milliseconds since 1970; a clock before that reads as 1970.
pub(crate) fn from_system(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, millis)
}

pub(crate) fn to_system(time: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(time)
}
