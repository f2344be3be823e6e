//! Both suites over a frame: what turns a plaintext into something a stranger can carry.
//!
//! XAES-256-GCM after <https://c2sp.org/XAES-256-GCM>, on the `aes-gcm` crate: 192-bit nonces, where
//! AES-GCM with random 96-bit nonces ends at 2^32 messages (NIST SP 800-38D section 8.3), which a fleet
//! that shares one key reaches within weeks. Derived keys are kept; the bound that this leaves stands on the security
//! page, "Keys and randomness". HMAC-SHA-256 after RFC 2104.
//!
//! The additional data are empty and the MAC covers the plaintext alone: suite, key, purpose, name
//! and context are bound by the derivation of the key (see `key.rs`).

use crate::{
    frame::{HEADER, Suite},
    key::clearing_the_stack,
};
use aes_gcm::{
    AesGcm, KeyInit as _,
    aead::{AeadInOut as _, inout::InOutBuf},
    aes::{
        Aes256Enc,
        cipher::{
            Array, BlockCipherEncrypt as _,
            consts::{U12, U16},
        },
    },
};
use arc_swap::ArcSwapOption;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

type Block = Array<u8, U16>;
// Encryption alone: that is all that counter mode takes.
type Aes256Gcm = AesGcm<Aes256Enc, U12>;

/// The nonce of XAES-256-GCM.
pub(crate) const NONCE: usize = 24;

/// Its first half picks a derived key, its second half is that key's nonce for GCM.
pub(crate) const HALF: usize = NONCE / 2;

/// How many messages are sealed under one derived key, before another first half is drawn.
const BATCH: u64 = 1 << 16;

/// Randomness from the operating system, for every seal: a thread's generator repeats after a fork
/// or a snapshot, and a repeated nonce breaks GCM.
pub(crate) fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes)
}

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
                key.open(nonce, ciphertext, tag)
            }
            // `verify_slice` compares in constant time.
            SealKey::Hmac(mac) => mac_of(mac, body).verify_slice(tag).map_err(|_| NotAuthentic),
        }
    }

    /// Seals a frame where it lies: `frame` holds room for the header (and the nonce), then the
    /// plaintext; the tag is appended. `half` is the second half of the nonce, drawn for this one message. `None` if the
    /// frame has no such room, or without randomness for a first half: then nothing of it may go out.
    pub(crate) fn seal(
        &self,
        key_id: [u8; 4],
        half: &[u8; HALF],
        frame: &mut Vec<u8>,
        start: usize,
    ) -> Option<()> {
        let [a, b, c, d] = key_id;
        let (header, body) = frame.get_mut(start..)?.split_first_chunk_mut::<HEADER>()?;
        *header = [self.suite().byte(), a, b, c, d];
        match self {
            SealKey::Xaes(key) => {
                let (room, plaintext) = body.split_first_chunk_mut::<NONCE>()?;
                let (nonce, tag) = key.seal(half, plaintext)?;
                *room = nonce;
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
///
/// To derive one costs more than to seal a small session with it, so derived keys are kept: the one that seals, for
/// [`BATCH`] messages, and those that have opened something authentic, one for each first octet of a nonce. They are
/// dropped, and cleared, with this key.
pub(crate) struct Xaes256Gcm {
    aes: Aes256Enc,
    k1: Block,
    batch: ArcSwapOption<Batch>,
    kept: Box<[ArcSwapOption<Derived>; 256]>,
}

struct Batch {
    key: Arc<Derived>,
    sealed: AtomicU64,
}

/// The key for all nonces with one first half.
pub(crate) struct Derived {
    half: [u8; HALF],
    gcm: Aes256Gcm,
}

impl Xaes256Gcm {
    /// Steps 1 and 2 of the specification, once for each key.
    pub(crate) fn new(key: &[u8; 32]) -> Xaes256Gcm {
        let aes = Aes256Enc::new(key.into());
        // L = AES-256ₖ(0¹²⁸)
        let mut l = Block::default();
        aes.encrypt_block(&mut l);
        // If MSB₁(L) = 0 then K1 = L << 1 else K1 = (L << 1) ⊕ 0¹²⁰10000111; without a branch on L.
        let value = u128::from_be_bytes(l.into());
        let k1 = (value << 1) ^ ((value >> 127) * 0b1000_0111);
        l.zeroize();
        Xaes256Gcm {
            aes,
            k1: k1.to_be_bytes().into(),
            batch: ArcSwapOption::empty(),
            kept: Box::new(std::array::from_fn(|_| ArcSwapOption::empty())),
        }
    }

    /// Steps 3 and 4: Kₓ = AES-256ₖ(M1 ⊕ K1) || AES-256ₖ(M2 ⊕ K1), for the first half of a nonce.
    pub(crate) fn derive(&self, half: &[u8; HALF]) -> Arc<Derived> {
        // M1 = 0x00 || 0x01 || X || 0x00 || N[:12], and M2 the same with 0x02.
        let block = |counter: u8| {
            let mut block = Block::default();
            let head = [0, counter, b'X', 0];
            let message = head.iter().chain(half);
            for ((out, k1), m) in block.iter_mut().zip(&self.k1).zip(message) {
                *out = k1 ^ m;
            }
            block
        };
        clearing_the_stack(|| {
            let mut blocks = [block(1), block(2)];
            self.aes.encrypt_blocks(&mut blocks);
            let mut derived = Zeroizing::new([0; 32]);
            for (out, byte) in derived.iter_mut().zip(blocks.iter().flatten()) {
                *out = *byte;
            }
            blocks.iter_mut().for_each(|block| block.zeroize());
            Arc::new(Derived { half: *half, gcm: Aes256Gcm::new((&*derived).into()) })
        })
    }

    /// Seals under the batch's derived key; returns nonce and tag. `None` without randomness for a new batch.
    fn seal(&self, half: &[u8; HALF], buffer: &mut [u8]) -> Option<([u8; NONCE], [u8; 16])> {
        let batch = self.batch.load();
        // Each message counts before it is sealed, so that none goes over, whatever other threads do. They share this
        // counter, and openings, which are more, look at none.
        let open = batch.as_ref().filter(|batch| batch.sealed.fetch_add(1, Relaxed) < BATCH);
        match open {
            Some(batch) => batch.key.seal(half, &[], buffer),
            None => self.next_batch()?.seal(half, &[], buffer),
        }
    }

    /// Threads that come here at one moment each begin a batch; the last one's is kept.
    fn next_batch(&self) -> Option<Arc<Derived>> {
        let key = self.derive(&random()?);
        if let Some(place) = self.place(&key.half) {
            place.store(Some(Arc::clone(&key)));
        }
        self.batch.store(Some(Arc::new(Batch { key: Arc::clone(&key), sealed: AtomicU64::new(1) })));
        Some(key)
    }

    fn place(&self, [first, ..]: &[u8; HALF]) -> Option<&ArcSwapOption<Derived>> {
        self.kept.get(usize::from(*first))
    }

    fn open(&self, nonce: &[u8; NONCE], buffer: &mut [u8], tag: &[u8]) -> Result<(), NotAuthentic> {
        let (first, second) = halves(nonce);
        let place = self.place(&first).ok_or(NotAuthentic)?;
        let kept = place.load();
        if let Some(key) = kept.as_ref().filter(|key| key.half == first) {
            return key.open(&second, &[], buffer, tag);
        }
        let key = self.derive(&first);
        key.open(&second, &[], buffer, tag)?;
        // In place of another only sometimes: where more keys are met than are kept, to replace each would cost more
        // than it saves.
        let [chance, ..] = second;
        if kept.is_none() || chance < 32 {
            place.store(Some(key));
        }
        Ok(())
    }
}

pub(crate) fn halves(nonce: &[u8; NONCE]) -> ([u8; HALF], [u8; HALF]) {
    let [a, b, c, d, e, f, g, h, i, j, k, l, second @ ..] = *nonce;
    ([a, b, c, d, e, f, g, h, i, j, k, l], second)
}

impl Derived {
    /// Step 5; returns nonce and tag. `None` only for messages of more than 2^36 - 32 bytes.
    pub(crate) fn seal(
        &self,
        half: &[u8; HALF],
        aad: &[u8],
        buffer: &mut [u8],
    ) -> Option<([u8; NONCE], [u8; 16])> {
        let tag = self.gcm.encrypt_inout_detached(half.into(), aad, InOutBuf::from(buffer)).ok()?;
        let mut nonce = [0; NONCE];
        for (out, byte) in nonce.iter_mut().zip(self.half.iter().chain(half)) {
            *out = *byte;
        }
        Some((nonce, tag.into()))
    }

    pub(crate) fn open(
        &self,
        half: &[u8; HALF],
        aad: &[u8],
        buffer: &mut [u8],
        tag: &[u8],
    ) -> Result<(), NotAuthentic> {
        let tag: &[u8; 16] = tag.try_into().map_err(|_| NotAuthentic)?;
        self.gcm
            .decrypt_inout_detached(half.into(), aad, InOutBuf::from(buffer), tag.into())
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
    cleared::<Aes256Enc>();
    cleared::<Aes256Gcm>();
    // `Hmac<Sha256>` has no marker of its own; it is made of hash states, which do.
    cleared::<Sha256>();
    cleared::<Zeroizing<[u8; 32]>>();
};
