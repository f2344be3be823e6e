//! Bytes and base64url: what stands in the cookie's value, before any cryptography.
//!
//! ```text
//! cookie-value = base64url ( suite[1] || key-id[4] || body )    unpadded, canonical
//! body         = nonce[24] || ciphertext || tag[16]             suite 0x01, XAES-256-GCM
//!              | plaintext || mac[32]                           suite 0x02, HMAC-SHA-256
//! ```
//!
//! Strict, after RFC 4648 sections 3.2 to 3.5: no padding, no other alphabet, no bits left over,
//! so that one frame has one text.

use crate::key::KeyId;
use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurposeConfig},
};
use std::sync::LazyLock;

/// The largest value that is looked at, in bytes: RFC 6265bis-22 section 5.7 lets browsers ignore
/// a cookie whose name and value have more.
pub(crate) const MAX_VALUE: usize = 4096;

/// Suite and key id.
pub(crate) const HEADER: usize = 1 + 4;

const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_encode_padding(false)
    .with_decode_padding_mode(DecodePaddingMode::RequireNone)
    .with_decode_allow_trailing_bits(false);

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
static BASE64URL: LazyLock<base64::engine::Simd> = LazyLock::new(|| base64::engine::Simd::url_safe(CONFIG));
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
static BASE64URL: LazyLock<base64::engine::GeneralPurpose> =
    LazyLock::new(|| base64::engine::GeneralPurpose::new(&base64::alphabet::URL_SAFE, CONFIG));

/// How a value is sealed. The byte is the first of every cookie; a later version of the format is
/// another suite, and a known one is never read differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suite {
    Xaes256Gcm,
    HmacSha256,
}

impl Suite {
    pub(crate) const ALL: [Suite; 2] = [Suite::Xaes256Gcm, Suite::HmacSha256];

    pub(crate) const fn byte(self) -> u8 {
        match self {
            Suite::Xaes256Gcm => 0x01,
            Suite::HmacSha256 => 0x02,
        }
    }

    /// How many bytes stand before the plaintext: the header, and the nonce if there is one.
    pub(crate) const fn before(self) -> usize {
        match self {
            Suite::Xaes256Gcm => HEADER + 24,
            Suite::HmacSha256 => HEADER,
        }
    }

    /// How many bytes stand behind it: the tag or MAC.
    pub(crate) const fn behind(self) -> usize {
        match self {
            Suite::Xaes256Gcm => 16,
            Suite::HmacSha256 => 32,
        }
    }
}

/// A frame that parsed: nothing in it is trusted yet.
pub(crate) struct Frame {
    pub(crate) suite: u8,
    pub(crate) key_id: KeyId,
    /// The whole frame, behind `room` bytes that are free.
    pub(crate) buffer: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameError {
    TooLong,
    Malformed,
}

/// Parses a cookie's value; the frame begins at `room` in the buffer.
pub(crate) fn parse(value: &[u8], room: usize) -> Result<Frame, FrameError> {
    if value.len() > MAX_VALUE {
        return Err(FrameError::TooLong);
    }
    let mut buffer = vec![0; room + decoded_len(value.len())];
    let out = buffer.get_mut(room..).unwrap_or_default();
    match BASE64URL.decode_slice(value, out) {
        Ok(len) if len == decoded_len(value.len()) => {}
        _ => return Err(FrameError::Malformed),
    }
    match buffer.get(room..) {
        Some(&[suite, a, b, c, d, ..]) => Ok(Frame { suite, key_id: KeyId([a, b, c, d]), buffer }),
        _ => Err(FrameError::Malformed),
    }
}

/// Appends the text of a frame.
pub(crate) fn emit(frame: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + encoded_len(frame.len()), 0);
    let written = BASE64URL.encode_slice(frame, out.get_mut(start..).unwrap_or_default());
    debug_assert_eq!(written, Ok(encoded_len(frame.len())));
}

/// How many bytes of base64url a frame has.
pub(crate) const fn encoded_len(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

/// How many bytes fit into so much base64url.
pub(crate) const fn decoded_len(text: usize) -> usize {
    text / 4 * 3 + text % 4 * 3 / 4
}
