//! The same bytes through the fastest parts there are, and nothing else: no layer, no lifetimes, no limits.

use crate::shop::Shop;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use axum::{
    extract::FromRequestParts,
    http::{HeaderValue, StatusCode, header::COOKIE, request::Parts},
    response::{AppendHeaders, IntoResponse},
};
use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurposeConfig, Simd},
};
use std::sync::LazyLock;

const NAME: &str = "session=";
const TAIL: &str = "; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=86400";

/// What stands before the payload: as much as in a frame of the crate.
const BEFORE: usize = 5 + NONCE;
const NONCE: usize = 24;
const META: usize = 45;
const TAG: usize = 16;

static BASE64URL: LazyLock<Simd> = LazyLock::new(|| {
    let config = GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone);
    Simd::url_safe(config)
});

static KEY: LazyLock<LessSafeKey> = LazyLock::new(|| {
    let mut key = [0; 32];
    getrandom::fill(&mut key).expect("randomness");
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).expect("32 bytes"))
});

/// An extractor.
pub struct Floor(pub Shop);

impl<S: Sync> FromRequestParts<S> for Floor {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Floor, StatusCode> {
        let cookie =
            parts.headers.get(COOKIE).and_then(|cookie| cookie.as_bytes().strip_prefix(NAME.as_bytes()));
        cookie.and_then(open).map(Floor).ok_or(StatusCode::UNAUTHORIZED)
    }
}

fn open(value: &[u8]) -> Option<Shop> {
    let mut frame = vec![0; value.len() / 4 * 3 + value.len() % 4 * 3 / 4];
    BASE64URL.decode_slice(value, &mut frame).ok()?;
    let (nonce, sealed) = frame.get_mut(5..)?.split_first_chunk_mut::<NONCE>()?;
    let plaintext = KEY.open_in_place(first(nonce), Aad::empty(), sealed).ok()?;
    postcard::from_bytes(plaintext.get(META..)?).ok()
}

/// A response that sets the cookie.
pub fn seal(shop: &Shop, hint: usize) -> impl IntoResponse + use<> {
    let mut frame = Vec::with_capacity(BEFORE + META + hint + TAG);
    frame.resize(BEFORE + META, 0);
    let mut frame = postcard::to_extend(shop, frame).expect("it encodes");
    let (head, plaintext) = frame.split_first_chunk_mut::<BEFORE>().expect("room");
    let nonce = head.last_chunk_mut::<NONCE>().expect("room");
    getrandom::fill(nonce).expect("randomness");
    let tag = KEY.seal_in_place_separate_tag(first(nonce), Aad::empty(), plaintext).expect("short");
    frame.extend_from_slice(tag.as_ref());
    let value = (frame.len() * 4).div_ceil(3);
    let mut text = Vec::with_capacity(NAME.len() + value + TAIL.len());
    text.extend_from_slice(NAME.as_bytes());
    text.resize(NAME.len() + value, 0);
    BASE64URL.encode_slice(&frame, &mut text[NAME.len()..]).expect("room");
    text.extend_from_slice(TAIL.as_bytes());
    AppendHeaders([("set-cookie", HeaderValue::try_from(text).expect("ASCII"))])
}

fn first(nonce: &[u8; NONCE]) -> Nonce {
    let [n @ .., _, _, _, _, _, _, _, _, _, _, _, _] = *nonce;
    Nonce::assume_unique_for_key(n)
}
