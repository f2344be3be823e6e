//! AES-256-GCM of aws-lc-rs with a ready key, behind the interface of the crate's own `seal.rs`. As many bytes as
//! XAES-256-GCM: of its 24 for the nonce the second 12 are used, which are drawn as there.

use crate::frame::{HEADER, Suite};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

const NONCE: usize = 24;
pub(crate) const HALF: usize = NONCE / 2;

pub(crate) fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes)
}

pub(crate) struct SealKey(Box<LessSafeKey>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotAuthentic;

impl SealKey {
    pub(crate) fn new(_: Suite, key: &[u8; 32]) -> SealKey {
        let key = UnboundKey::new(&AES_256_GCM, key).expect("32 bytes");
        SealKey(Box::new(LessSafeKey::new(key)))
    }

    pub(crate) fn suite(&self) -> Suite {
        Suite::Xaes256Gcm
    }

    pub(crate) fn open(&self, frame: &mut [u8]) -> Result<(), NotAuthentic> {
        let body = frame.get_mut(HEADER..).ok_or(NotAuthentic)?;
        let (nonce, sealed) = body.split_first_chunk_mut::<NONCE>().ok_or(NotAuthentic)?;
        let opened = self.0.open_in_place(second(nonce), Aad::empty(), sealed);
        opened.map(drop).map_err(|_| NotAuthentic)
    }

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
        let (room, plaintext) = body.split_first_chunk_mut::<NONCE>()?;
        *room.last_chunk_mut()? = *half;
        let nonce = Nonce::assume_unique_for_key(*half);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::empty(), plaintext).ok()?;
        frame.extend_from_slice(tag.as_ref());
        Some(())
    }
}

fn second(nonce: &[u8; NONCE]) -> Nonce {
    let [_, _, _, _, _, _, _, _, _, _, _, _, half @ ..] = *nonce;
    Nonce::assume_unique_for_key(half)
}
