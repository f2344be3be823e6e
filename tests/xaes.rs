//! XAES-256-GCM against the vectors of its specification, and against another implementation.
//!
//! `COOKIE_SESSION_XAES_MILLION=1` lets the accumulated test go on to a million iterations, which
//! takes minutes in a debug build.

use cookie_session::internal::{xaes_open, xaes_seal};
use proptest::{collection::vec, prelude::*};
use shake::{
    Shake128, Shake128Reader,
    digest::{ExtendableOutput as _, Update as _, XofReader as _},
};
use std::collections::BTreeMap;
use xaes_256_gcm::{
    Xaes256Gcm,
    aead::{Aead as _, KeyInit as _, Payload},
};

/// A record of the vector file: names and values.
struct Record(BTreeMap<&'static str, &'static str>);

impl Record {
    fn text(&self, name: &str) -> &'static str {
        self.0[name]
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        let digits = self.text(name).as_bytes().chunks_exact(2);
        assert!(digits.remainder().is_empty());
        digits.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    fn array<const N: usize>(&self, name: &str) -> [u8; N] {
        self.bytes(name).try_into().unwrap()
    }
}

/// The records whose name begins so.
fn records(name: &str) -> Vec<Record> {
    let fields = include_str!("data/xaes_256_gcm.txt")
        .split("\n\n")
        .map(|record| record.lines().filter(|line| !line.starts_with('#')));
    let record = |lines: &mut dyn Iterator<Item = &'static str>| {
        Record(lines.filter_map(|line| line.split_once('=')).map(|(n, v)| (n.trim(), v.trim())).collect())
    };
    fields
        .map(|mut lines| record(&mut lines))
        .filter(|record| record.0.get("record").is_some_and(|it| it.starts_with(name)))
        .collect()
}

struct Vector {
    key: [u8; 32],
    nonce: [u8; 24],
    plaintext: Vec<u8>,
    aad: Vec<u8>,
    ciphertext: Vec<u8>,
}

fn vectors() -> Vec<Vector> {
    let vector = |record: Record| Vector {
        key: record.array("key"),
        nonce: record.array("nonce"),
        plaintext: record.bytes("plaintext"),
        aad: record.bytes("aad"),
        ciphertext: record.bytes("ciphertext"),
    };
    let vectors: Vec<_> = records("vector-").into_iter().map(vector).collect();
    assert_eq!(vectors.len(), 2);
    vectors
}

#[test]
fn the_vectors_seal() {
    for Vector { key, nonce, plaintext, aad, ciphertext } in vectors() {
        assert_eq!(xaes_seal(&key, &nonce, &aad, &plaintext), ciphertext);
    }
}

#[test]
fn the_vectors_open() {
    for Vector { key, nonce, plaintext, aad, ciphertext } in vectors() {
        assert_eq!(xaes_open(&key, &nonce, &aad, &ciphertext), Some(plaintext));
    }
}

#[test]
fn a_vector_with_any_bit_of_ciphertext_or_tag_changed_does_not_open() {
    for Vector { key, nonce, aad, ciphertext, .. } in vectors() {
        for bit in 0..ciphertext.len() * 8 {
            let changed = flip(&ciphertext, bit);
            assert_eq!(xaes_open(&key, &nonce, &aad, &changed), None, "bit {bit}");
        }
    }
}

#[test]
fn a_vector_with_any_bit_of_key_nonce_or_additional_data_changed_does_not_open() {
    for Vector { key, nonce, aad, ciphertext, .. } in vectors() {
        for bit in 0..key.len() * 8 {
            let key = flip(&key, bit).try_into().unwrap();
            assert_eq!(xaes_open(&key, &nonce, &aad, &ciphertext), None, "bit {bit}");
        }
        for bit in 0..nonce.len() * 8 {
            let nonce = flip(&nonce, bit).try_into().unwrap();
            assert_eq!(xaes_open(&key, &nonce, &aad, &ciphertext), None, "bit {bit}");
        }
        for bit in 0..aad.len() * 8 {
            assert_eq!(xaes_open(&key, &nonce, &flip(&aad, bit), &ciphertext), None, "bit {bit}");
        }
    }
}

#[test]
fn a_vector_of_another_length_does_not_open() {
    for Vector { key, nonce, aad, ciphertext, .. } in vectors() {
        for len in 0..ciphertext.len() {
            assert_eq!(xaes_open(&key, &nonce, &aad, &ciphertext[..len]), None, "{len} bytes");
            assert_eq!(xaes_open(&key, &nonce, &aad, &ciphertext[len + 1..]), None, "all but {len} bytes");
        }
        for byte in 0..=255 {
            let longer = [&ciphertext[..], &[byte]].concat();
            assert_eq!(xaes_open(&key, &nonce, &aad, &longer), None);
        }
    }
}

#[test]
fn the_accumulated_test_yields_the_digest() {
    let record = records("accumulated").remove(0);
    let mut stream = Shake128::default().finalize_xof();
    assert_eq!(read::<16>(&mut stream.clone()), record.array("stream_start"));
    let mut ciphertexts = Shake128::default();
    let mut accumulate = |iterations: u32| {
        for _ in 0..iterations {
            let (key, nonce) = (read(&mut stream), read(&mut stream));
            let [plaintext, aad] = [(); 2].map(|()| {
                let [len] = read(&mut stream);
                let mut bytes = vec![0; len.into()];
                stream.read(&mut bytes);
                bytes
            });
            let sealed = xaes_seal(&key, &nonce, &aad, &plaintext);
            assert_eq!(xaes_open(&key, &nonce, &aad, &sealed), Some(plaintext));
            ciphertexts.update(&sealed);
        }
        read::<32>(&mut ciphertexts.clone().finalize_xof())
    };
    assert_eq!(accumulate(10_000), record.array("iterations_10000_digest"));
    if std::env::var_os("COOKIE_SESSION_XAES_MILLION").is_some() {
        assert_eq!(accumulate(990_000), record.array("iterations_1000000_digest"));
    }
}

fn read<const N: usize>(stream: &mut Shake128Reader) -> [u8; N] {
    let mut bytes = [0; N];
    stream.read(&mut bytes);
    bytes
}

fn flip(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// With random keys both ways to K1 are taken.
    #[test]
    fn another_implementation_seals_and_opens_the_same(
        key: [u8; 32],
        nonce: [u8; 24],
        aad in vec(any::<u8>(), 0..100),
        plaintext in vec(any::<u8>(), 0..5000),
    ) {
        let oracle = Xaes256Gcm::new(&key.into());
        let theirs = oracle.encrypt(&nonce.into(), Payload { msg: &plaintext, aad: &aad }).unwrap();
        let ours = xaes_seal(&key, &nonce, &aad, &plaintext);
        prop_assert_eq!(&ours, &theirs);
        let theirs_opened = xaes_open(&key, &nonce, &aad, &theirs);
        prop_assert_eq!(theirs_opened.as_ref(), Some(&plaintext));
        let ours_opened = oracle.decrypt(&nonce.into(), Payload { msg: &ours, aad: &aad }).ok();
        prop_assert_eq!(ours_opened.as_ref(), Some(&plaintext));
    }

    #[test]
    fn what_neither_implementation_sealed_opens_in_neither(
        key: [u8; 32],
        nonce: [u8; 24],
        aad in vec(any::<u8>(), 0..100),
        noise in vec(any::<u8>(), 0..500),
    ) {
        let theirs = Xaes256Gcm::new(&key.into()).decrypt(&nonce.into(), Payload { msg: &noise, aad: &aad });
        prop_assert!(theirs.is_err());
        prop_assert_eq!(xaes_open(&key, &nonce, &aad, &noise), None);
    }
}
