//! What a site had in Express, in the words of both sides.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use cookie_session::{Express, Identity};
use hmac::{Hmac, KeyInit, Mac};
use interop_tests::hex;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Digest {
    pub const ALL: [Digest; 4] = [Digest::Sha1, Digest::Sha256, Digest::Sha384, Digest::Sha512];

    fn hmac(self, key: &[u8], text: &[u8]) -> Vec<u8> {
        fn of<M: Mac + KeyInit>(key: &[u8], text: &[u8]) -> Vec<u8> {
            let mac = <M as KeyInit>::new_from_slice(key).expect("keys of any length");
            mac.chain_update(text).finalize().into_bytes().to_vec()
        }
        match self {
            Digest::Sha1 => of::<Hmac<sha1::Sha1>>(key, text),
            Digest::Sha256 => of::<Hmac<sha2::Sha256>>(key, text),
            Digest::Sha384 => of::<Hmac<sha2::Sha384>>(key, text),
            Digest::Sha512 => of::<Hmac<sha2::Sha512>>(key, text),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Base64,
    Hex,
}

impl Encoding {
    pub const ALL: [Encoding; 2] = [Encoding::Base64, Encoding::Hex];
}

/// How an Express app has its sessions.
#[derive(Clone, Debug)]
pub struct Settings {
    pub name: String,
    /// The newest first.
    pub keys: Vec<Vec<u8>>,
    pub digest: Digest,
    pub encoding: Encoding,
    /// cookie-session's other options.
    pub options: Value,
}

impl Settings {
    /// As most apps have it, under these keys.
    pub fn new(keys: &[&str]) -> Settings {
        Settings {
            name: "session".to_owned(),
            keys: keys.iter().map(|key| key.as_bytes().to_vec()).collect(),
            digest: Digest::Sha1,
            encoding: Encoding::Base64,
            options: json!({}),
        }
    }

    /// For the programs in `node`.
    pub fn json(&self) -> Value {
        json!({
            "name": self.name,
            "keys": self.keys.iter().map(|key| hex(key)).collect::<Vec<_>>(),
            "algorithm": format!("{:?}", self.digest).to_ascii_lowercase(),
            "encoding": format!("{:?}", self.encoding).to_ascii_lowercase(),
            "options": self.options,
        })
    }

    /// For our builder.
    pub fn import<T: DeserializeOwned>(&self) -> Express<T> {
        let option = |option: &str| self.options[option].as_str();
        let mut cookie = Identity::named(&*self.name);
        if let Some(domain) = option("domain") {
            // A dot before it means nothing to a browser, and we do not take it.
            cookie = cookie.domain(domain.trim_start_matches('.'));
        }
        if let Some(path) = option("path") {
            cookie = cookie.path(path);
        }
        if self.options["partitioned"] == true {
            cookie = cookie.partitioned();
        }
        let (primary, fallbacks) = self.keys.split_first().expect("a key");
        let fallbacks: Vec<_> = fallbacks.iter().map(Vec::as_slice).collect();
        let digest = match self.digest {
            Digest::Sha1 => cookie_session::Digest::Sha1,
            Digest::Sha256 => cookie_session::Digest::Sha256,
            Digest::Sha384 => cookie_session::Digest::Sha384,
            Digest::Sha512 => cookie_session::Digest::Sha512,
        };
        let encoding = match self.encoding {
            Encoding::Base64 => cookie_session::Encoding::Base64,
            Encoding::Hex => cookie_session::Encoding::Hex,
        };
        Express::new(cookie, primary, &fallbacks).digest(digest).encoding(encoding)
    }

    /// The signature of a value, as Express makes it under a key.
    pub fn sign(&self, key: &[u8], value: &[u8]) -> String {
        let text = [self.name.as_bytes(), b"=", value].concat();
        let mac = self.digest.hmac(key, &text);
        match self.encoding {
            Encoding::Base64 => BASE64_URL_SAFE_NO_PAD.encode(mac),
            Encoding::Hex => hex(&mac),
        }
    }
}
