//! For this crate's own tests and fuzz targets. Nothing here is part of the public interface.

use crate::seal::{NONCE, Xaes256Gcm};

/// XAES-256-GCM: ciphertext and tag.
///
/// # Panics
///
/// If the plaintext is longer than GCM allows.
#[allow(clippy::expect_used)]
pub fn xaes_seal(key: &[u8; 32], nonce: &[u8; NONCE], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let mut sealed = plaintext.to_vec();
    let tag = Xaes256Gcm::new(key).seal(nonce, aad, &mut sealed).expect("less than 2^36 bytes");
    sealed.extend_from_slice(&tag);
    sealed
}

/// The plaintext of ciphertext and tag, if they are authentic.
pub fn xaes_open(key: &[u8; 32], nonce: &[u8; NONCE], aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (ciphertext, tag) = sealed.split_at_checked(sealed.len().checked_sub(16)?)?;
    let mut plaintext = ciphertext.to_vec();
    Xaes256Gcm::new(key).open(nonce, aad, &mut plaintext, tag).ok()?;
    Some(plaintext)
}
