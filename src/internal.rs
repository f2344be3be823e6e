//! For this crate's own tests and fuzz targets. Nothing here is part of the public interface, and no application
//! may call it: here the caller chooses the nonce, which can break a seal.

use crate::{
    codec::SessionCodec,
    cookie::{Cookies, Finder},
    error::RejectedKind,
    frame::{self, FrameError, Suite},
    key::Key,
    seal::{HALF, NONCE, SealKey, Xaes256Gcm, halves},
    shape::{self, Shape},
};
use http::HeaderValue;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

/// XAES-256-GCM: ciphertext and tag.
///
/// # Panics
///
/// If the plaintext is longer than GCM allows.
#[allow(clippy::expect_used)]
pub fn xaes_seal(key: &[u8; 32], nonce: &[u8; NONCE], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let (mut sealed, (first, second)) = (plaintext.to_vec(), halves(nonce));
    let derived = Xaes256Gcm::new(key).derive(&first);
    let (_, tag) = derived.seal(&second, aad, &mut sealed).expect("less than 2^36 bytes");
    sealed.extend_from_slice(&tag);
    sealed
}

/// The plaintext of ciphertext and tag, if they are authentic.
pub fn xaes_open(key: &[u8; 32], nonce: &[u8; NONCE], aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (ciphertext, tag) = sealed.split_at_checked(sealed.len().checked_sub(16)?)?;
    let (mut plaintext, (first, second)) = (ciphertext.to_vec(), halves(nonce));
    Xaes256Gcm::new(key).derive(&first).open(&second, aad, &mut plaintext, tag).ok()?;
    Some(plaintext)
}

/// HMAC-SHA-256 as suite 0x02 computes it.
///
/// # Panics
///
/// Never: the frame has room for the header.
#[allow(clippy::expect_used)]
pub fn hmac_seal(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let mut frame = [&[0; frame::HEADER], message].concat();
    SealKey::new(Suite::HmacSha256, key).seal([0; 4], &[0; HALF], &mut frame, 0).expect("room");
    *frame.last_chunk().expect("a MAC")
}

/// Whether suite 0x02 takes this for the message's MAC.
pub fn hmac_open(key: &[u8; 32], message: &[u8], mac: &[u8]) -> bool {
    let mut frame = [&[0; frame::HEADER], message, mac].concat();
    SealKey::new(Suite::HmacSha256, key).open(&mut frame).is_ok()
}

/// A key of any bytes, also published ones: those of the vectors.
pub fn key(secret: [u8; 32]) -> Key {
    Key::from_secret(Box::new(Zeroizing::new(secret)))
}

/// A cookie's value as suite, key id and body.
pub fn frame_parse(value: &[u8]) -> Result<(u8, [u8; 4], Vec<u8>), RejectedKind> {
    let frame = frame::parse(value, 0).map_err(|error| match error {
        FrameError::TooLong => RejectedKind::TooLong,
        FrameError::Malformed => RejectedKind::Malformed,
    })?;
    let body = frame.buffer.get(frame::HEADER..).unwrap_or_default().to_vec();
    Ok((frame.suite, frame.key_id.0, body))
}

/// The cookie's value of suite, key id and body.
pub fn frame_emit(suite: u8, key_id: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    frame::emit(&[&[suite], &key_id[..], body].concat(), &mut text);
    text
}

/// The values of all cookies with this name, in order.
pub fn find_cookies(headers: &[HeaderValue], name: &str) -> Vec<Vec<u8>> {
    Finder::new(name).find(&Cookies::from(headers.iter().cloned())).map(<[u8]>::to_vec).collect()
}

/// A session cookie's value with any plaintext, sealed as this codec would: under the primary key, in
/// the suite that it writes.
pub fn seal_session<T>(codec: &SessionCodec<T>, nonce: &[u8; NONCE], plaintext: &[u8]) -> Option<String> {
    let keys = codec.keys.keys();
    seal(keys.session()?, keys.primary_id().0, nonce, plaintext)
}

/// The same for the sign-out marker.
pub fn seal_marker<T>(codec: &SessionCodec<T>, nonce: &[u8; NONCE], plaintext: &[u8]) -> Option<String> {
    let keys = codec.keys.keys();
    seal(keys.marker(None)?, keys.primary_id().0, nonce, plaintext)
}

fn seal(key: &SealKey, key_id: [u8; 4], nonce: &[u8; NONCE], plaintext: &[u8]) -> Option<String> {
    let (first, second) = halves(nonce);
    let suite = key.suite();
    let mut frame = [&vec![0; suite.before()], plaintext].concat();
    if let SealKey::Xaes(key) = key {
        let mut sealed = plaintext.to_vec();
        let (_, tag) = key.derive(&first).seal(&second, &[], &mut sealed)?;
        frame = [&[suite.byte()], &key_id[..], nonce, &sealed, &tag].concat();
    } else {
        key.seal(key_id, &second, &mut frame, 0)?;
    }
    let mut text = Vec::new();
    frame::emit(&frame, &mut text);
    String::from_utf8(text).ok()
}

/// What the shape of `T` is the hash of, and the shape; `None` for types that have none.
pub fn shape_encoding<T: DeserializeOwned>() -> Option<(Vec<u8>, Shape)> {
    // Each traced anew, so that neither may depend on the other.
    Some((shape::outline_of::<T>(|_, _| {}).ok()?.encoding, shape::outline_of::<T>(|_, _| {}).ok()?.shape()))
}
