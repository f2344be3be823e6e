//! An identity of the session's cookie: what makes it one to a browser (name, Domain, Path, Partitioned), and what
//! its seal is bound to beside the name (context, mode).

use crate::{cookie::Target, frame::Suite, lifetime, ring::Bound};
use std::time::SystemTime;

/// How a session is sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// Nobody but the server can read or change it: XAES-256-GCM. The default.
    #[default]
    Encrypted,
    /// The client can read it, but not change it: HMAC-SHA-256.
    Signed,
}

impl Mode {
    pub(crate) const fn suite(self) -> Suite {
        match self {
            Mode::Encrypted => Suite::Xaes256Gcm,
            Mode::Signed => Suite::HmacSha256,
        }
    }

    pub(crate) const fn of(suite: Suite) -> Mode {
        match suite {
            Suite::Xaes256Gcm => Mode::Encrypted,
            Suite::HmacSha256 => Mode::Signed,
        }
    }
}

/// An identity of the session's cookie, for [`SessionBuilder::formerly`](crate::SessionBuilder::formerly): to a
/// browser a cookie with another name, Domain, Path or Partitioned is another cookie, and one with another name,
/// context or mode is sealed otherwise.
///
/// It also names the cookies of an [`OldFormat`](crate::OldFormat), where only what a browser knows counts.
///
/// ```
/// # use cookie_session::{Identity, Mode};
/// # use std::time::{Duration, SystemTime};
/// let before = Identity::named("session").domain("example.com").context("shop").mode(Mode::Signed);
/// # let a_month = Duration::from_secs(30 * 24 * 60 * 60);
/// let accepted = before.until(SystemTime::now() + a_month);
/// # let _ = accepted;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Identity {
    /// `None`: the layer's own.
    pub(crate) name: Option<String>,
    pub(crate) domain: Option<String>,
    pub(crate) path: Option<String>,
    pub(crate) partitioned: bool,
    /// `None`: the layer's own.
    pub(crate) context: Option<String>,
    /// `None`: the modes that the layer accepts.
    pub(crate) mode: Option<Mode>,
    /// `None`: sessions in this identity are not accepted.
    pub(crate) until: Option<SystemTime>,
}

impl Identity {
    /// As the layer writes now, but for what the setters change.
    pub fn current() -> Self {
        Identity {
            name: None,
            domain: None,
            path: None,
            partitioned: false,
            context: None,
            mode: None,
            until: None,
        }
    }

    /// A cookie of this name, without Domain, with `Path=/`, not Partitioned, but for what the
    /// setters change. Context and mode are the layer's own.
    pub fn named(name: impl Into<String>) -> Self {
        Identity { name: Some(name.into()), ..Identity::current() }
    }

    /// It has this Domain.
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.domain = Some(domain.into());
        self
    }

    /// It has this Path.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// It is Partitioned.
    pub fn partitioned(mut self) -> Self {
        self.partitioned = true;
        self
    }

    /// Its seal is bound to this [`context`](crate::SessionBuilder::context).
    pub fn context(mut self, context: impl Into<String>) -> Self {
        self.context = Some(context.into());
        self
    }

    /// It is sealed in this mode.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Sessions in this identity are accepted before this moment. Without it they are not: its cookies are removed, and
    /// sign-outs count in both, as they do after the date.
    ///
    /// Where nothing but Domain, Path or Partitioned differs, a request does not show which identity a cookie has, and
    /// the seal is the same: its sessions are accepted in any case. So are those in a mode that
    /// [`accept_mode`](crate::SessionBuilder::accept_mode) names.
    pub fn until(mut self, until: SystemTime) -> Self {
        self.until = Some(until);
        self
    }

    /// The cookie that a browser knows it by.
    pub(crate) fn target(&self, current: &Target) -> Target {
        let base = match &self.name {
            None => current.clone(),
            Some(name) => {
                Target { name: name.clone(), domain: None, path: "/".to_owned(), partitioned: false }
            }
        };
        Target {
            name: base.name,
            domain: self.domain.clone().or(base.domain),
            path: self.path.clone().unwrap_or(base.path),
            partitioned: self.partitioned || base.partitioned,
        }
    }

    /// What its seals are bound to, beside those of the layer's own.
    pub(crate) fn bound(&self, cookie: &Target, own: &Bound) -> Bound {
        let suite = self.mode.map(Mode::suite);
        Bound {
            name: cookie.name.clone(),
            context: self.context.clone().unwrap_or_else(|| own.context.clone()),
            writes: suite.unwrap_or(own.writes),
            accepts: suite.map_or_else(|| own.accepts.clone(), |suite| vec![suite]),
        }
    }

    /// In milliseconds since 1970: no time is before 0.
    pub(crate) fn accepted_until(&self) -> u64 {
        self.until.map_or(0, lifetime::from_system)
    }
}
