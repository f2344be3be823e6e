//! The cookies of npm's `cookie-session`: JSON in base64, and Keygrip's signature in a second cookie.
//!
//! ```text
//! <name>=base64(JSON); <name>.sig=text(HMAC(key, "<name>=base64(JSON)"))
//! text: base64 with - and _, without padding; or hexadecimal
//! ```

use crate::{
    error::{ConfigError, RejectedKind},
    identity::Identity,
    import::{Imported, OldCookies, OldFormat},
};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use hmac::{EagerHash, Hmac, KeyInit as _, Mac as _};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, MapAccess, SeqAccess, Visitor},
};
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};
use std::{collections::BTreeSet, fmt};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Shorter keys are taken only if it is said that they are known to be short.
const LEAST_KEY: usize = 16;

/// The digest of Keygrip's HMAC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Digest {
    /// `sha1`, Keygrip's default.
    #[default]
    Sha1,
    /// `sha256`.
    Sha256,
    /// `sha384`.
    Sha384,
    /// `sha512`.
    Sha512,
}

/// The text of Keygrip's signature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Encoding {
    /// `base64` or `base64url`, which Keygrip writes alike. The default.
    #[default]
    Base64,
    /// `hex`.
    Hex,
}

/// The sessions of npm's `cookie-session`, for [`SessionBuilder::import`](crate::SessionBuilder::import).
///
/// ```
/// # use cookie_session::{Digest, Express, Identity, Key, KeyRing, SessionLayer};
/// # use std::time::{Duration, SystemTime};
/// #[derive(Default, serde::Serialize, serde::Deserialize)]
/// struct Shop { user: Option<u64>, cart: Vec<u32> }
///
/// /// What `req.session` held.
/// #[derive(serde::Deserialize)]
/// #[serde(rename_all = "camelCase")]
/// struct ExpressShop { user_id: Option<u64>, #[serde(default)] cart: Vec<u32> }
///
/// # let keys = KeyRing::new(Key::generate()?, [])?;
/// # let (new_key, old_key) = ([b'a'; 32], [b'b'; 32]);
/// # let a_month = Duration::from_secs(30 * 24 * 60 * 60);
/// let cookie = Identity::named("session").domain("example.com"); // as its options `name`, `domain`, `path`
/// let express = Express::new(cookie, &new_key, &[&old_key])
///     .convert(|old: ExpressShop| Some(Shop { user: old.user_id, cart: old.cart }));
/// let sessions = SessionLayer::<Shop>::builder(keys).import(express, SystemTime::now() + a_month).build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Where the module is lenient without need, this is not: [the list](crate::docs::from_express#where-it-is-stricter-than-npm).
#[must_use]
pub struct Express<T> {
    cookie: Identity,
    name: String,
    keys: Vec<Zeroizing<Vec<u8>>>,
    digest: Digest,
    encoding: Encoding,
    least_key: usize,
    convert: Convert<T>,
}

type Convert<T> = Box<dyn Fn(&[u8]) -> Option<T> + Send + Sync>;

impl<T: DeserializeOwned> Express<T> {
    /// Cookies of this name, and of the same with `.sig` at the end, that were set with these attributes.
    ///
    /// The keys are the option `keys`: the first of them, which signs, and the others, which only verify; or
    /// `secret` alone. A key that is a text in JavaScript is its UTF-8.
    ///
    /// The JSON is read as a `T`, but for [`convert`](Self::convert).
    pub fn new(cookie: Identity, primary: &[u8], fallbacks: &[&[u8]]) -> Self {
        let keys = std::iter::once(&primary).chain(fallbacks).map(|key| Zeroizing::new(key.to_vec()));
        Express {
            name: cookie.name.clone().unwrap_or_default(),
            cookie,
            keys: keys.collect(),
            digest: Digest::Sha1,
            encoding: Encoding::Base64,
            least_key: LEAST_KEY,
            convert: Box::new(|json| serde_json::from_slice(json).ok()),
        }
    }
}

impl<T> Express<T> {
    /// The digest of a Keygrip made with another one. Default: SHA-1.
    pub fn digest(mut self, digest: Digest) -> Self {
        self.digest = digest;
        self
    }

    /// The encoding of a Keygrip made with another one. Default: base64.
    pub fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// Reads the JSON as an `Old`, and makes the session of it; `None` refuses it. `Old` may be
    /// `serde_json::Value`. Default: the JSON is read as a `T`.
    pub fn convert<Old: DeserializeOwned + 'static>(
        mut self,
        convert: impl Fn(Old) -> Option<T> + Send + Sync + 'static,
    ) -> Self {
        self.convert = Box::new(move |json| serde_json::from_slice(json).ok().and_then(&convert));
        self
    }

    /// Takes keys of less than 16 bytes as well. Default: they are refused by `build()`; empty ones are in any case.
    ///
    /// # ⚠️ Warning: whoever guesses the key makes sessions of anybody
    ///
    /// They can already, with the old application; and here until the date, in sessions that live on.
    pub fn allow_short_keys(mut self) -> Self {
        self.least_key = 1;
        self
    }

    /// Keygrip's signature.
    fn sign(&self, key: &[u8], data: &[u8]) -> String {
        let mac = match self.digest {
            Digest::Sha1 => mac::<Sha1>(key, data),
            Digest::Sha256 => mac::<Sha256>(key, data),
            Digest::Sha384 => mac::<Sha384>(key, data),
            Digest::Sha512 => mac::<Sha512>(key, data),
        };
        match self.encoding {
            Encoding::Base64 => BASE64_URL_SAFE_NO_PAD.encode(mac),
            Encoding::Hex => mac.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

fn mac<D: EagerHash>(key: &[u8], data: &[u8]) -> Vec<u8>
where
    Hmac<D>: hmac::KeyInit + hmac::Mac,
{
    // HMAC takes keys of any length (RFC 2104 section 2); no MAC at all matches no signature.
    let Ok(mut mac) = Hmac::<D>::new_from_slice(key) else { return Vec::new() };
    mac.update(data);
    mac.finalize().into_bytes().to_vec()
}

impl<T> OldFormat<T> for Express<T> {
    fn cookies(&self) -> Vec<Identity> {
        let signature = self
            .cookie
            .name
            .as_ref()
            .map(|name| Identity { name: Some(format!("{name}.sig")), ..self.cookie.clone() });
        std::iter::once(self.cookie.clone()).chain(signature).collect()
    }

    fn open(&self, old: &OldCookies<'_>) -> Result<Imported<T>, RejectedKind> {
        // As the module does, it looks at the first cookie of each name.
        let payload = old.first(&self.name).ok_or(RejectedKind::Malformed)?;
        let signature = old.first(&format!("{}.sig", self.name)).ok_or(RejectedKind::Malformed)?;
        let data = [self.name.as_bytes(), b"=", payload].concat();
        // All keys are tried, whichever it is; and the texts are compared, of which each MAC has one.
        let signed = |key: &&Zeroizing<Vec<u8>>| self.sign(key, &data).as_bytes().ct_eq(signature).into();
        let keys: Vec<_> = self.keys.iter().filter(signed).collect();
        let key = keys.first().ok_or(RejectedKind::NotAuthentic)?;
        let json = BASE64_STANDARD.decode(payload).map_err(|_| RejectedKind::Payload)?;
        serde_json::from_slice::<Object>(&json).map_err(|_| RejectedKind::Payload)?;
        let value = (self.convert)(&json).ok_or(RejectedKind::Payload)?;
        Ok(Imported::new(value, &data, key))
    }

    fn check(&self) -> Result<(), ConfigError> {
        match self.keys.iter().map(|key| key.len()).find(|bytes| *bytes < self.least_key) {
            Some(bytes) => Err(ConfigError::OldKeyShort { bytes, least: self.least_key }),
            None => Ok(()),
        }
    }
}

impl<T> fmt::Debug for Express<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Express").field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// An object of JSON in which no object has a key twice, whatever the session's type makes of it. (Too deep a one and
/// lone surrogates are `serde_json`'s to refuse.)
struct Object;

/// Anything else in it.
struct Inner;

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Object)
    }
}

impl<'de> Visitor<'de> for Object {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        let mut keys = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if !keys.insert(key) {
                return Err(A::Error::custom("a key twice"));
            }
            map.next_value::<Inner>()?;
        }
        Ok(Object)
    }
}

impl<'de> Deserialize<'de> for Inner {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Inner)
    }
}

impl<'de> Visitor<'de> for Inner {
    type Value = Inner;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, _: bool) -> Result<Inner, E> {
        Ok(Inner)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Inner, E> {
        Ok(Inner)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Inner, E> {
        Ok(Inner)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Inner, E> {
        Ok(Inner)
    }
    fn visit_str<E>(self, _: &str) -> Result<Inner, E> {
        Ok(Inner)
    }
    fn visit_unit<E>(self) -> Result<Inner, E> {
        Ok(Inner)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Inner, A::Error> {
        while seq.next_element::<Inner>()?.is_some() {}
        Ok(Inner)
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Inner, A::Error> {
        Object.visit_map(map).map(|_| Inner)
    }
}
