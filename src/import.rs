//! Sessions in an older cookie format, that of another module or of one's own: what such a format has to say, and
//! what it is shown of a request.

use crate::{
    cookie::{Cookies, Finder},
    error::{ConfigError, RejectedKind},
    identity::Identity,
    key, lifetime,
};
use std::{fmt, time::SystemTime};

/// An older cookie format, whose sessions become sessions of ours: see
/// [`SessionBuilder::import`](crate::SessionBuilder::import).
///
/// With the feature `express`, `Express` reads the cookies of npm's `cookie-session`; with `jar`, `Jar` those of
/// the `cookie` crate's jars. Any other takes some thirty lines; here, a user's number and an HMAC over it:
///
/// ```
/// # use cookie_session::{Identity, Imported, OldCookies, OldFormat, RejectedKind};
/// # #[derive(Default, serde::Serialize, serde::Deserialize)]
/// # struct Shop { user: Option<u64>, cart: Vec<u32> }
/// # fn verify(_: &[u8], _: &str, _: &str) -> bool { true }
/// struct Legacy {
///     key: Vec<u8>,
/// }
///
/// impl OldFormat<Shop> for Legacy {
///     fn cookies(&self) -> Vec<Identity> {
///         vec![Identity::named("legacy").domain("example.com")]
///     }
///
///     fn open(&self, old: &OldCookies<'_>) -> Result<Imported<Shop>, RejectedKind> {
///         let value = old.first("legacy").ok_or(RejectedKind::Malformed)?;
///         let text = std::str::from_utf8(value).map_err(|_| RejectedKind::Malformed)?;
///         let (user, mac) = text.split_once('.').ok_or(RejectedKind::Malformed)?;
///         if !verify(&self.key, user, mac) { // in constant time
///             return Err(RejectedKind::NotAuthentic);
///         }
///         let user = user.parse().map_err(|_| RejectedKind::Payload)?;
///         let shop = Shop { user: Some(user), ..Shop::default() };
///         Ok(Imported::new(shop, value, &self.key))
///     }
/// }
/// ```
pub trait OldFormat<T>: Send + Sync {
    /// The cookies of one session, with the Domain, Path and Partitioned that they were set with, for their
    /// removal: the one with the data first. Asked once, by `build()`.
    fn cookies(&self) -> Vec<Identity>;

    /// Opens the session in these cookies; only asked if there is one of the first name.
    ///
    /// It runs on the request path and must not block. What comes in is a client's: verify it before anything
    /// else, in constant time, and take nothing on trust that the key's holder did not sign.
    ///
    /// # Errors
    ///
    /// Why it is no session, which goes to [`Session::incoming`](crate::Session::incoming), log and counters, never
    /// to the client.
    fn open(&self, old: &OldCookies<'_>) -> Result<Imported<T>, RejectedKind>;

    /// Whether its settings are good, such as its keys. Asked once, by `build()`.
    ///
    /// # Errors
    ///
    /// What is wrong, for the operator.
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}

/// The cookies of a request, for an [`OldFormat`]. Values of more than 4096 bytes are not shown.
pub struct OldCookies<'r> {
    cookies: &'r Cookies,
    now: u64,
}

impl<'r> OldCookies<'r> {
    /// What no browser keeps is not looked at (RFC 6265bis-22 section 5.7).
    pub(crate) const MAX_VALUE: usize = 4096;

    /// Of one name no more are looked at.
    const MOST: usize = 8;

    pub(crate) fn new(cookies: &'r Cookies, now: u64) -> Self {
        OldCookies { cookies, now }
    }

    /// The value of the first cookie of this name, without blanks around it and otherwise as it came.
    pub fn first(&self, name: &str) -> Option<&'r [u8]> {
        self.find(name).next().filter(|value| value.len() <= Self::MAX_VALUE)
    }

    /// The values of all cookies of this name, in the order in which they came: at most eight.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &'r [u8]> {
        self.find(name).filter(|value| value.len() <= Self::MAX_VALUE)
    }

    fn find(&self, name: &str) -> impl Iterator<Item = &'r [u8]> {
        // Nothing has no name, and a finder of nothing would find it for ever.
        let finder = (!name.is_empty()).then(|| Finder::new(name));
        let values = finder.iter().flat_map(|finder| finder.find(self.cookies)).take(Self::MOST);
        values.collect::<Vec<_>>().into_iter()
    }

    /// When the request came in, by the layer's clock: for a format that holds times.
    pub fn now(&self) -> SystemTime {
        lifetime::to_system(self.now)
    }
}

impl fmt::Debug for OldCookies<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OldCookies").finish_non_exhaustive()
    }
}

/// A session that an [`OldFormat`] opened.
pub struct Imported<T> {
    pub(crate) value: T,
    pub(crate) id: [u8; 16],
}

impl<T> Imported<T> {
    /// The session's value, the octets that were authenticated, and the key that did so.
    ///
    /// The session's id is a keyed hash of the octets under that key: requests that come in at one moment with one
    /// old cookie make one session, also at two instances, and a denylist can name it. No rotation of this crate's
    /// keys changes it.
    ///
    /// **Two old cookies with the same octets are one id.** Where the old format has neither a nonce nor a time, as Express
    /// and signed jars, visitors whose sessions say the same have the same: who denies the id denies them all. The key
    /// must not be empty, or the id tells what is in a cookie that can be guessed.
    pub fn new(value: T, authenticated: &[u8], key: &[u8]) -> Self {
        Imported { value, id: key::imported_id(key, authenticated) }
    }
}

impl<T> fmt::Debug for Imported<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imported").finish_non_exhaustive()
    }
}
