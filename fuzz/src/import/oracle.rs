//! The old formats, written and read a second time by other means: HMAC (RFC 2104), HKDF (RFC 5869) and base64 (RFC 4648)
//! in a few lines each, and what Keygrip and the jars make of them.

use aes_gcm::{
    Aes256Gcm, KeyInit as _,
    aead::{Aead as _, Payload},
};
use serde_json::Value;
use sha1::{Digest as _, Sha1};
use sha2::{Sha256, Sha384, Sha512};

/// What no browser keeps.
pub const MOST: usize = 4096;

#[derive(Clone, Copy, Debug)]
pub enum Hash {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    fn of(self, data: &[u8]) -> Vec<u8> {
        match self {
            Hash::Sha1 => Sha1::digest(data).to_vec(),
            Hash::Sha256 => Sha256::digest(data).to_vec(),
            Hash::Sha384 => Sha384::digest(data).to_vec(),
            Hash::Sha512 => Sha512::digest(data).to_vec(),
        }
    }

    fn block(self) -> usize {
        match self {
            Hash::Sha1 | Hash::Sha256 => 64,
            Hash::Sha384 | Hash::Sha512 => 128,
        }
    }

    pub fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        let mut key = if key.len() > self.block() { self.of(key) } else { key.to_vec() };
        key.resize(self.block(), 0);
        let padded = |pad: u8| key.iter().map(|byte| byte ^ pad).collect::<Vec<u8>>();
        let inner = self.of(&[&padded(0x36)[..], data].concat());
        self.of(&[&padded(0x5c)[..], &inner].concat())
    }
}

/// The id of an imported session, as the page on the wire format has it.
pub fn id(key: &[u8], authenticated: &[u8]) -> [u8; 16] {
    let part = |part: &[u8]| [&(part.len() as u32).to_le_bytes()[..], part].concat();
    let info = [b"cookie-session/v1", &b"import"[..], authenticated].map(part).concat();
    let extracted = Hash::Sha256.hmac(&[0; 32], key);
    let expanded = Hash::Sha256.hmac(&extracted, &[&info[..], &[1]].concat());
    *expanded.first_chunk().expect("32 bytes")
}

const SYMBOLS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub fn base64(bytes: &[u8]) -> Vec<u8> {
    let group = |three: &[u8]| -> [u8; 4] {
        let bits = (0..3).fold(0, |bits, i| bits << 8 | usize::from(three.get(i).copied().unwrap_or(0)));
        let symbol = |i: usize| SYMBOLS[bits >> (18 - 6 * i) & 63];
        std::array::from_fn(|i| if i <= three.len() { symbol(i) } else { b'=' })
    };
    bytes.chunks(3).flat_map(group).collect()
}

/// Of the one text that these bytes have.
pub fn unbase64(text: &[u8]) -> Option<Vec<u8>> {
    let (mut bits, mut held, mut bytes) = (0_u32, 0, Vec::new());
    for symbol in text.iter().filter(|symbol| **symbol != b'=') {
        bits = bits << 6 | SYMBOLS.iter().position(|other| other == symbol)? as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    (base64(&bytes) == text).then_some(bytes)
}

/// Keygrip's text of a MAC.
pub fn keygrip(hash: Hash, hexadecimal: bool, key: &[u8], data: &[u8]) -> Vec<u8> {
    let mac = hash.hmac(key, data);
    if hexadecimal {
        return mac
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]))
            .collect();
    }
    let safe = |symbol: u8| match symbol {
        b'+' => Some(b'-'),
        b'/' => Some(b'_'),
        b'=' => None,
        symbol => Some(symbol),
    };
    base64(&mac).into_iter().filter_map(safe).collect()
}

/// A jar's signed value.
pub fn sign(key: &[u8; 32], text: &[u8]) -> Vec<u8> {
    [&base64(&Hash::Sha256.hmac(key, text)), text].concat()
}

pub fn verify(key: &[u8; 32], value: &[u8]) -> Option<Vec<u8>> {
    let (_, text) = value.split_at_checked(44)?;
    (sign(key, text) == value).then(|| text.to_vec())
}

/// A jar's private value.
pub fn encrypt(key: &[u8; 32], name: &str, text: &[u8]) -> Vec<u8> {
    let nonce = *b"any 12 bytes";
    let payload = Payload { msg: text, aad: name.as_bytes() };
    let sealed = Aes256Gcm::new(key.into()).encrypt((&nonce).into(), payload).expect("less than GCM's limit");
    base64(&[&nonce[..], &sealed].concat())
}

pub fn decrypt(key: &[u8; 32], name: &str, value: &[u8]) -> Option<Vec<u8>> {
    let sealed = unbase64(value)?;
    let (nonce, sealed) = sealed.split_first_chunk::<12>()?;
    let payload = Payload { msg: sealed, aad: name.as_bytes() };
    Aes256Gcm::new(key.into()).decrypt(nonce.into(), payload).ok()
}

pub fn percent_encoded(value: &[u8]) -> Vec<u8> {
    value.iter().flat_map(|byte| format!("%{byte:02X}").into_bytes()).collect()
}

pub fn percent_decoded(value: &[u8]) -> Vec<u8> {
    let digit = |at: usize| {
        value
            .get(at)
            .filter(|c| c.is_ascii_hexdigit())
            .map(|c| char::from(*c).to_digit(16).expect("a digit") as u8)
    };
    let (mut at, mut decoded) = (0, Vec::new());
    while let Some(byte) = value.get(at) {
        let both = digit(at + 1).zip(digit(at + 2)).filter(|_| *byte == b'%');
        decoded.push(both.map_or(*byte, |(high, low)| high * 16 + low));
        at += if both.is_some() { 3 } else { 1 };
    }
    decoded
}

/// The object in a payload of npm's `cookie-session`, if it has no key twice.
pub fn object(payload: &[u8]) -> Option<(Vec<u8>, Value)> {
    let json = unbase64(payload)?;
    let value: Value = serde_json::from_slice(&json).ok()?;
    (value.is_object() && members(&value) == colons(&json)).then_some((json, value))
}

/// How many members the objects in it have, of those with one name one.
fn members(value: &Value) -> usize {
    match value {
        Value::Array(values) => values.iter().map(members).sum(),
        Value::Object(object) => object.values().map(|value| 1 + members(value)).sum(),
        _ => 0,
    }
}

/// How many of them are written: each has a colon outside all texts.
fn colons(json: &[u8]) -> usize {
    let (mut text, mut escaped, mut colons) = (false, false, 0);
    for c in json {
        match c {
            _ if escaped => escaped = false,
            b'\\' if text => escaped = true,
            b'"' => text = !text,
            b':' if !text => colons += 1,
            _ => {}
        }
    }
    colons
}
