//! Both suites over a frame: what turns a plaintext into something a stranger can carry.
//!
//! XAES-256-GCM after <https://c2sp.org/XAES-256-GCM>, on the `aes-gcm` crate: 192-bit nonces, good
//! for 2^80 messages a key, where AES-GCM with random 96-bit nonces ends at 2^32 (NIST SP 800-38D
//! section 8.3), which a fleet that shares one key reaches within weeks. HMAC-SHA-256 after RFC 2104.
//!
//! The additional data are empty and the MAC covers the plaintext alone: suite, key, purpose, name
//! and context are bound by the derivation of the key (see `key.rs`).

use crate::frame::{HEADER, Suite};
use aes_gcm::{
    Aes256Gcm, KeyInit as _,
    aead::{AeadInOut as _, inout::InOutBuf},
    aes::{
        Aes256,
        cipher::{Array, BlockCipherEncrypt as _, consts::U16},
    },
};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

type Block = Array<u8, U16>;

/// The nonce of XAES-256-GCM.
pub(crate) const NONCE: usize = 24;

/// A derived key, ready for one suite.
pub(crate) enum SealKey {
    // Boxed, so that moves leave no copies of a key schedule behind.
    Xaes(Box<Xaes256Gcm>),
    Hmac(Box<Hmac<Sha256>>),
}

/// The seal is broken: nothing more is known, and nothing more should be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotAuthentic;

impl SealKey {
    pub(crate) fn new(suite: Suite, key: &[u8; 32]) -> SealKey {
        match suite {
            Suite::Xaes256Gcm => SealKey::Xaes(Box::new(Xaes256Gcm::new(key))),
            Suite::HmacSha256 => SealKey::Hmac(Box::new(hmac(key))),
        }
    }

    pub(crate) fn suite(&self) -> Suite {
        match self {
            SealKey::Xaes(_) => Suite::Xaes256Gcm,
            SealKey::Hmac(_) => Suite::HmacSha256,
        }
    }

    /// Opens a frame of this key's suite where it lies: `frame` is all of it, attacker-controlled,
    /// of any length. On success the plaintext stands at `suite.before()`, up to `suite.behind()`
    /// from the end. On failure nothing was decrypted.
    pub(crate) fn open(&self, frame: &mut [u8]) -> Result<(), NotAuthentic> {
        let suite = self.suite();
        let body = frame.get_mut(HEADER..).ok_or(NotAuthentic)?;
        let (body, tag) = split_last(body, suite.behind()).ok_or(NotAuthentic)?;
        match self {
            SealKey::Xaes(key) => {
                let (nonce, ciphertext) = body.split_first_chunk_mut::<NONCE>().ok_or(NotAuthentic)?;
                key.open(nonce, &[], ciphertext, tag)
            }
            // `verify_slice` compares in constant time.
            SealKey::Hmac(mac) => mac_of(mac, body).verify_slice(tag).map_err(|_| NotAuthentic),
        }
    }

    /// Seals a frame where it lies: `frame` holds room for the header (and the nonce), then the
    /// plaintext; the tag is appended. A nonce is used for one message only. `None` if the frame
    /// has no such room: then nothing of it may go out.
    pub(crate) fn seal(
        &self,
        key_id: [u8; 4],
        nonce: &[u8; NONCE],
        frame: &mut Vec<u8>,
        start: usize,
    ) -> Option<()> {
        let [a, b, c, d] = key_id;
        let (header, body) = frame.get_mut(start..)?.split_first_chunk_mut::<HEADER>()?;
        *header = [self.suite().byte(), a, b, c, d];
        match self {
            SealKey::Xaes(key) => {
                let (room, plaintext) = body.split_first_chunk_mut::<NONCE>()?;
                *room = *nonce;
                let tag = key.seal(nonce, &[], plaintext)?;
                frame.extend_from_slice(&tag);
            }
            SealKey::Hmac(mac) => {
                let tag = mac_of(mac, body).finalize().into_bytes();
                frame.extend_from_slice(&tag);
            }
        }
        Some(())
    }
}

fn split_last(bytes: &mut [u8], n: usize) -> Option<(&mut [u8], &mut [u8])> {
    let at = bytes.len().checked_sub(n)?;
    bytes.split_at_mut_checked(at)
}

fn hmac(key: &[u8; 32]) -> Hmac<Sha256> {
    // When a ring is put in place, never for a request. HMAC takes keys of any length (RFC 2104 section 2).
    #[allow(clippy::expect_used)]
    hmac::KeyInit::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn mac_of(keyed: &Hmac<Sha256>, message: &[u8]) -> Hmac<Sha256> {
    let mut mac = keyed.clone();
    mac.update(message);
    mac
}

/// XAES-256-GCM: AES-256-GCM under a key derived from the first half of the nonce.
pub(crate) struct Xaes256Gcm {
    aes: Aes256,
    k1: Block,
}

impl Xaes256Gcm {
    /// Steps 1 and 2 of the specification, once for each key.
    pub(crate) fn new(key: &[u8; 32]) -> Xaes256Gcm {
        let aes = Aes256::new(key.into());
        // L = AES-256ₖ(0¹²⁸)
        let mut l = Block::default();
        aes.encrypt_block(&mut l);
        // If MSB₁(L) = 0 then K1 = L << 1 else K1 = (L << 1) ⊕ 0¹²⁰10000111; without a branch on L.
        let value = u128::from_be_bytes(l.into());
        let k1 = (value << 1) ^ ((value >> 127) * 0b1000_0111);
        l.zeroize();
        Xaes256Gcm { aes, k1: k1.to_be_bytes().into() }
    }

    /// Steps 3 to 5: Kₓ = AES-256ₖ(M1 ⊕ K1) || AES-256ₖ(M2 ⊕ K1).
    fn derived<'n>(&self, nonce: &'n [u8; NONCE]) -> (Aes256Gcm, &'n [u8; 12]) {
        // M1 = 0x00 || 0x01 || X || 0x00 || N[:12], and M2 the same with 0x02.
        let [n @ .., _, _, _, _, _, _, _, _, _, _, _, _] = nonce;
        let block = |counter: u8| {
            let mut block = Block::default();
            let head = [0, counter, b'X', 0];
            let message = head.iter().chain(n);
            for ((out, k1), m) in block.iter_mut().zip(&self.k1).zip(message) {
                *out = k1 ^ m;
            }
            block
        };
        let mut blocks = [block(1), block(2)];
        self.aes.encrypt_blocks(&mut blocks);
        let mut derived = Zeroizing::new([0; 32]);
        for (out, byte) in derived.iter_mut().zip(blocks.iter().flatten()) {
            *out = *byte;
        }
        blocks.iter_mut().for_each(|block| block.zeroize());
        let [_, _, _, _, _, _, _, _, _, _, _, _, rest @ ..] = nonce;
        (Aes256Gcm::new((&*derived).into()), rest)
    }

    /// `None` only for messages of more than 2^36 - 32 bytes.
    pub(crate) fn seal(&self, nonce: &[u8; NONCE], aad: &[u8], buffer: &mut [u8]) -> Option<[u8; 16]> {
        let (gcm, rest) = self.derived(nonce);
        gcm.encrypt_inout_detached(rest.into(), aad, InOutBuf::from(buffer)).ok().map(Into::into)
    }

    pub(crate) fn open(
        &self,
        nonce: &[u8; NONCE],
        aad: &[u8],
        buffer: &mut [u8],
        tag: &[u8],
    ) -> Result<(), NotAuthentic> {
        let (gcm, rest) = self.derived(nonce);
        let tag: &[u8; 16] = tag.try_into().map_err(|_| NotAuthentic)?;
        gcm.decrypt_inout_detached(rest.into(), aad, InOutBuf::from(buffer), tag.into())
            .map_err(|_| NotAuthentic)
    }
}

impl Drop for Xaes256Gcm {
    fn drop(&mut self) {
        self.k1.zeroize();
    }
}

impl ZeroizeOnDrop for Xaes256Gcm {}

// Dropping any of these clears it; the features that do so are switched on in Cargo.toml.
const _: () = {
    const fn cleared<T: ZeroizeOnDrop>() {}
    cleared::<Xaes256Gcm>();
    cleared::<Aes256>();
    cleared::<Aes256Gcm>();
    // `Hmac<Sha256>` has no marker of its own; it is made of hash states, which do.
    cleared::<Sha256>();
    cleared::<Zeroizing<[u8; 32]>>();
};
