//! What a message of the smallest session costs in the crates below: the parts that a profile shows.

use crate::ours::{Call, Measured};
use aes_gcm::{
    AesGcm, KeyInit as _,
    aead::{AeadInOut as _, inout::InOutBuf},
    aes::{
        Aes256Enc,
        cipher::{Array, BlockCipherEncrypt as _, consts::U12, consts::U16},
    },
};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use std::{cell::RefCell, hint::black_box};

type Gcm = AesGcm<Aes256Enc, U12>;

/// As many bytes as the smallest session has with its fixed-width fields.
const MESSAGE: usize = 45 + 76;

pub fn cases() -> Vec<Measured> {
    let key = [7; 32];
    let (aes, gcm) = (Aes256Enc::new(&key.into()), Gcm::new(&key.into()));
    let aws_lc = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).expect("32 bytes"));
    let mac: Hmac<Sha256> = hmac::KeyInit::new_from_slice(&key).expect("any length");
    let buffer = || RefCell::new([1; MESSAGE]);
    let (ours, theirs, signed) = (buffer(), buffer(), buffer());
    let random = |bytes: usize| -> Call {
        Box::new(move || getrandom::fill(&mut black_box([0; 64])[..bytes]).expect("randomness"))
    };
    let cases: Vec<(&str, Call)> = vec![
        ("randomness, 12 bytes: half of a nonce", random(12)),
        ("randomness, 28 bytes: and an id", random(28)),
        ("randomness, 40 bytes", random(40)),
        (
            "aes: a call for one block",
            Box::new(move || {
                let mut block = Array::<u8, U16>::default();
                aes.encrypt_block(&mut block);
                black_box(block);
            }),
        ),
        ("aes-gcm: a key made ready", Box::new(move || drop(black_box(Gcm::new(black_box(&key.into())))))),
        (
            "aes-gcm: 121 bytes sealed, key ready",
            Box::new(move || {
                let mut buffer = ours.borrow_mut();
                let tag = gcm.encrypt_inout_detached(&[3; 12].into(), &[], InOutBuf::from(&mut buffer[..]));
                _ = black_box(tag.expect("short"));
            }),
        ),
        (
            "aws-lc-rs: the same",
            Box::new(move || {
                let mut buffer = theirs.borrow_mut();
                let nonce = Nonce::assume_unique_for_key([3; 12]);
                let tag = aws_lc.seal_in_place_separate_tag(nonce, Aad::empty(), &mut buffer[..]);
                _ = black_box(tag.expect("short"));
            }),
        ),
        (
            "hmac, sha2: a MAC of 121 bytes, key ready",
            Box::new(move || {
                let mut mac = mac.clone();
                mac.update(&signed.borrow()[..]);
                black_box(mac.finalize());
            }),
        ),
    ];
    cases.into_iter().map(|(name, call)| (name.to_owned(), call)).collect()
}
