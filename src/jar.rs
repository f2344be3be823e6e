//! The cookies of the `cookie` crate's private and signed jars, as axum-extra's `PrivateCookieJar` and
//! `SignedCookieJar` set them.
//!
//! ```text
//! private: base64(nonce[12] || AES-256-GCM(key, nonce, text, aad = name))
//! signed:  base64(HMAC-SHA-256(key, text)) || text
//! ```
//!
//! Both may be percent-encoded, which axum-extra does. Neither holds a time, and the signature does not bind the name.

use crate::{
    error::{ConfigError, RejectedKind},
    identity::Identity,
    import::{Imported, OldCookies, OldFormat},
};
use aes_gcm::{
    Aes256Gcm, KeyInit as _,
    aead::{Aead as _, Payload},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use std::fmt;
use zeroize::Zeroizing;

/// The key of a jar: that of `cookie::Key`.
#[derive(Clone)]
pub struct JarKey {
    secret: Box<Zeroizing<[u8; 64]>>,
    /// How many bytes there were, and how many there should be.
    bytes: usize,
    least: usize,
}

impl JarKey {
    /// As `cookie::Key::from`: of 64 bytes or more, the first 64.
    pub fn new(key: &[u8]) -> JarKey {
        let mut secret = Box::new(Zeroizing::new([0; 64]));
        secret.iter_mut().zip(key).for_each(|(out, byte)| *out = *byte);
        JarKey { secret, bytes: key.len(), least: 64 }
    }

    /// As `cookie::Key::derive_from`: of 32 bytes or more.
    pub fn derive_from(master: &[u8]) -> JarKey {
        const INFO: &[u8] = b"COOKIE;SIGNED:HMAC-SHA256;PRIVATE:AEAD-AES-256-GCM";
        let mut secret = Box::new(Zeroizing::new([0; 64]));
        // Too short a key is refused by `build()`.
        let derived = Hkdf::<Sha256>::from_prk(master).map(|hkdf| hkdf.expand(INFO, &mut secret[..]));
        debug_assert!(derived.is_err() || derived.is_ok_and(|expanded| expanded.is_ok()));
        JarKey { secret, bytes: master.len(), least: 32 }
    }

    fn signing(&self) -> &[u8] {
        self.secret.get(..32).unwrap_or_default()
    }

    fn encryption(&self) -> &[u8] {
        self.secret.get(32..).unwrap_or_default()
    }
}

impl fmt::Debug for JarKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JarKey(..)")
    }
}

enum Kind {
    Private,
    Signed,
}

/// A cookie of a private or a signed jar, for [`SessionBuilder::import`](crate::SessionBuilder::import).
///
/// ```
/// # use cookie_session::{Identity, Jar, JarKey, Key, KeyRing, SessionLayer};
/// # use std::time::{Duration, SystemTime};
/// #[derive(Default, serde::Serialize, serde::Deserialize)]
/// struct Account { user: Option<u64> }
///
/// # let keys = KeyRing::new(Key::generate()?, [])?;
/// # let cookie_key = [7; 64];
/// # let a_month = Duration::from_secs(30 * 24 * 60 * 60);
/// let jar = Jar::private(Identity::named("user_id"), JarKey::new(&cookie_key), |text| {
///     Some(Account { user: Some(text.parse().ok()?) })
/// });
/// let sessions = SessionLayer::<Account>::builder(keys).import(jar, SystemTime::now() + a_month).build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub struct Jar<T> {
    cookie: Identity,
    name: String,
    /// The name as the jar had it.
    decoded_name: Vec<u8>,
    key: JarKey,
    kind: Kind,
    read: Read<T>,
}

type Read<T> = Box<dyn Fn(&str) -> Option<T> + Send + Sync>;

impl<T> Jar<T> {
    /// The cookie of this name in a private jar, set with these attributes; `read` makes the session of its text,
    /// and `None` refuses it. The name is the one that a browser shows: axum-extra percent-encodes some signs in it.
    pub fn private(
        cookie: Identity,
        key: JarKey,
        read: impl Fn(&str) -> Option<T> + Send + Sync + 'static,
    ) -> Self {
        Self::new(cookie, key, Kind::Private, Box::new(read))
    }

    /// The same in a signed jar. Its signature does not bind the name: any text that the old application signed,
    /// in whatever cookie, can be put here by the client. So `read` must take nothing but sessions.
    pub fn signed(
        cookie: Identity,
        key: JarKey,
        read: impl Fn(&str) -> Option<T> + Send + Sync + 'static,
    ) -> Self {
        Self::new(cookie, key, Kind::Signed, Box::new(read))
    }

    fn new(cookie: Identity, key: JarKey, kind: Kind, read: Read<T>) -> Self {
        let name = cookie.name.clone().unwrap_or_default();
        let decoded_name = percent_decoded(name.as_bytes());
        Jar { cookie, name, decoded_name, key, kind, read }
    }

    /// The text in a value, if it is authentic.
    fn text(&self, value: &[u8]) -> Result<Vec<u8>, RejectedKind> {
        match self.kind {
            Kind::Private => {
                let sealed = BASE64_STANDARD.decode(value).map_err(|_| RejectedKind::Malformed)?;
                let (nonce, sealed) = sealed.split_first_chunk::<12>().ok_or(RejectedKind::Malformed)?;
                let aead = Aes256Gcm::new_from_slice(self.key.encryption());
                let aead = aead.map_err(|_| RejectedKind::NotAuthentic)?;
                let payload = Payload { msg: sealed, aad: &self.decoded_name };
                aead.decrypt(nonce.into(), payload).map_err(|_| RejectedKind::NotAuthentic)
            }
            Kind::Signed => {
                let (mac, text) = value.split_at_checked(44).ok_or(RejectedKind::Malformed)?;
                let mac = BASE64_STANDARD.decode(mac).map_err(|_| RejectedKind::Malformed)?;
                let hmac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(self.key.signing());
                let mut hmac = hmac.map_err(|_| RejectedKind::NotAuthentic)?;
                hmac.update(text);
                hmac.verify_slice(&mac).map_err(|_| RejectedKind::NotAuthentic)?;
                Ok(text.to_vec())
            }
        }
    }

    fn open_value(&self, value: &[u8]) -> Result<Imported<T>, RejectedKind> {
        let decoded = percent_decoded(value);
        // As it came, where the application did not encode it: a signed text may hold a percent sign.
        let (authenticated, text) = match self.text(&decoded) {
            Ok(text) => (decoded.as_slice(), text),
            Err(kind) => match self.text(value) {
                Ok(text) => (value, text),
                Err(other) => return Err(kind.further(Some(other)).unwrap_or(kind)),
            },
        };
        let text = std::str::from_utf8(&text).map_err(|_| RejectedKind::Payload)?;
        let value = (self.read)(text).ok_or(RejectedKind::Payload)?;
        let key = match self.kind {
            Kind::Private => self.key.encryption(),
            Kind::Signed => self.key.signing(),
        };
        Ok(Imported::new(value, authenticated, key))
    }
}

impl<T> OldFormat<T> for Jar<T> {
    fn cookies(&self) -> Vec<Identity> {
        vec![self.cookie.clone()]
    }

    fn open(&self, old: &OldCookies<'_>) -> Result<Imported<T>, RejectedKind> {
        // Of several the last one counts, as in a jar; and one that does not open stands in no other's way.
        let mut rejected = None;
        let mut found = None;
        for value in old.all(&self.name) {
            match self.open_value(value) {
                Ok(imported) => found = Some(imported),
                Err(kind) => rejected = kind.further(rejected),
            }
        }
        found.ok_or(rejected.unwrap_or(RejectedKind::Malformed))
    }

    fn check(&self) -> Result<(), ConfigError> {
        let JarKey { bytes, least, .. } = self.key;
        if bytes < least { Err(ConfigError::OldKeyShort { bytes, least }) } else { Ok(()) }
    }
}

impl<T> fmt::Debug for Jar<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jar").field("key", &self.key).finish_non_exhaustive()
    }
}

/// `%2F` as `/`; what is no such thing stays, as where jars are read.
fn percent_decoded(value: &[u8]) -> Vec<u8> {
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        let byte = match (first, behind) {
            (b'%', [high, low, behind @ ..]) => digit(*high).zip(digit(*low)).map(|(high, low)| {
                rest = behind;
                high << 4 | low
            }),
            _ => None,
        };
        decoded.push(byte.unwrap_or(first));
    }
    decoded
}
