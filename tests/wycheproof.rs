//! Project Wycheproof's vectors for the primitives that both suites stand on.
//!
//! What reaches our own code: of the HMAC-SHA-256 vectors, those with a key of 32 bytes, through suite 0x02's seal
//! and open. What reaches the dependency alone: the HMAC vectors with other keys, through the `hmac` crate; and
//! AES-256-GCM's answers, through the calls of the `aes-gcm` crate that XAES-256-GCM ends in, since a derived key
//! cannot be chosen from outside. Keys, nonces, messages, additional data and changes of the tag of those go through
//! our XAES-256-GCM as well, with another implementation for the answers. C2SP's own vectors are in `xaes.rs`.

use aes_gcm::{
    Aes256Gcm,
    aead::{AeadInOut as _, inout::InOutBuf},
};
use cookie_session::internal::{hmac_open, hmac_seal, xaes_open, xaes_seal};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use wycheproof::{TestResult, aead, mac};
use xaes_256_gcm::{
    Xaes256Gcm,
    aead::{Aead as _, Payload},
};

/// Whether the vectors say so; these two sets know nothing in between.
fn valid(result: TestResult) -> bool {
    assert_ne!(result, TestResult::Acceptable);
    result == TestResult::Valid
}

#[test]
fn aes_256_gcm_opens_what_it_must_and_nothing_else() {
    let (mut opened, mut refused) = (0, 0);
    for test in gcm_tests() {
        let (key, nonce, tag): ([u8; 32], [u8; 12], [u8; 16]) =
            (array(&test.key), array(&test.nonce), array(&test.tag));
        let gcm = Aes256Gcm::new((&key).into());

        let mut sealed = test.pt.to_vec();
        let made =
            gcm.encrypt_inout_detached((&nonce).into(), &test.aad, InOutBuf::from(&mut sealed[..])).unwrap();
        let mut buffer = test.ct.to_vec();
        let open = gcm.decrypt_inout_detached(
            (&nonce).into(),
            &test.aad,
            InOutBuf::from(&mut buffer[..]),
            (&tag).into(),
        );
        if valid(test.result) {
            assert_eq!((&sealed, made.as_slice()), (&test.ct.to_vec(), &tag[..]), "vector {}", test.tc_id);
            assert!(open.is_ok(), "vector {}: {}", test.tc_id, test.comment);
            assert_eq!(buffer, *test.pt, "vector {}", test.tc_id);
            opened += 1;
        } else {
            assert!(open.is_err(), "vector {}: {}", test.tc_id, test.comment);
            assert_eq!(
                buffer, *test.ct,
                "vector {}: nothing is decrypted before the tag verifies",
                test.tc_id
            );
            refused += 1;
        }
    }
    assert_eq!((opened, refused), (39, 27));
}

#[test]
fn xaes_256_gcm_agrees_with_another_implementation_on_these_and_takes_no_tag_changed_like_theirs() {
    let (mut opened, mut refused) = (0, 0);
    for test in gcm_tests() {
        let key: [u8; 32] = array(&test.key);
        // The nonce last: there it becomes the inner one.
        let nonce: [u8; 24] = array(&[[0x5a; 12], array(&test.nonce)].concat());
        let mut sealed = xaes_seal(&key, &nonce, &test.aad, &test.pt);
        let message = Payload { msg: &test.pt[..], aad: &test.aad[..] };
        assert_eq!(sealed, Xaes256Gcm::new(&key.into()).encrypt(&nonce.into(), message).unwrap());

        let mut unused = test.pt.to_vec();
        let right = Aes256Gcm::new((&key).into())
            .encrypt_inout_detached(
                (&array::<12>(&test.nonce)).into(),
                &test.aad,
                InOutBuf::from(&mut unused[..]),
            )
            .unwrap();
        let changes = right.iter().zip(&test.tag[..]).map(|(right, theirs)| right ^ theirs);
        sealed.iter_mut().skip(test.pt.len()).zip(changes).for_each(|(byte, change)| *byte ^= change);
        let plaintext = xaes_open(&key, &nonce, &test.aad, &sealed);
        if valid(test.result) {
            assert_eq!(plaintext.as_deref(), Some(&test.pt[..]), "vector {}", test.tc_id);
            opened += 1;
        } else {
            assert_eq!(plaintext, None, "vector {}: {}", test.tc_id, test.comment);
            refused += 1;
        }
    }
    assert_eq!((opened, refused), (39, 27));
}

#[test]
fn suite_0x02_takes_the_right_mac_of_32_bytes_and_no_other() {
    let (mut opened, mut refused, mut truncated) = (0, 0, 0);
    for test in mac_tests() {
        let Ok(key) = <[u8; 32]>::try_from(test.key.to_vec()) else { continue };
        let made = hmac_seal(&key, &test.msg);
        let takes = hmac_open(&key, &test.msg, &test.tag);
        let is_start = made.starts_with(&test.tag);
        assert_eq!(is_start, valid(test.result), "vector {}: {}", test.tc_id, test.comment);
        if test.tag.len() < 32 {
            // What Wycheproof allows for a MAC cut to half is no MAC of ours.
            assert!(!takes, "vector {}: {}", test.tc_id, test.comment);
            truncated += 1;
        } else {
            assert_eq!(takes, is_start, "vector {}: {}", test.tc_id, test.comment);
            *(if takes { &mut opened } else { &mut refused }) += 1;
        }
    }
    assert_eq!((opened, refused, truncated), (27, 54, 81));
}

#[test]
fn hmac_sha_256_takes_the_right_mac_under_keys_of_any_length() {
    let (mut opened, mut refused, mut truncated) = (0, 0, 0);
    for test in mac_tests() {
        if test.key.len() == 32 {
            continue;
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(&test.key).unwrap();
        mac.update(&test.msg);
        let is_start = mac.clone().finalize().into_bytes().starts_with(&test.tag);
        assert_eq!(is_start, valid(test.result), "vector {}: {}", test.tc_id, test.comment);
        let takes = mac.verify_slice(&test.tag).is_ok();
        if test.tag.len() < 32 {
            assert!(!takes, "vector {}: {}", test.tc_id, test.comment);
            truncated += 1;
        } else {
            assert_eq!(takes, is_start, "vector {}: {}", test.tc_id, test.comment);
            *(if takes { &mut opened } else { &mut refused }) += 1;
        }
    }
    assert_eq!((opened, refused, truncated), (6, 0, 6));
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().unwrap()
}

/// 96 bits are what XAES-256-GCM leaves for the inner nonce.
fn gcm_tests() -> Vec<aead::Test> {
    let set = aead::TestSet::load(aead::TestName::AesGcm).unwrap();
    let ours = |group: &aead::TestGroup| (group.key_size, group.nonce_size, group.tag_size) == (256, 96, 128);
    set.test_groups.into_iter().filter(ours).flat_map(|group| group.tests).collect()
}

fn mac_tests() -> Vec<mac::Test> {
    let set = mac::TestSet::load(mac::TestName::HmacSha256).unwrap();
    set.test_groups.into_iter().flat_map(|group| group.tests).collect()
}
