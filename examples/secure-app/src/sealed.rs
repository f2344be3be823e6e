//! What instances share and nobody else may read or make: sealed by the session crate, under the keys of the sessions and
//! with a context of its own, so that neither passes for the other. Keys are rotated with those of the sessions.

use axum::http::{HeaderMap, HeaderValue, header};
use cookie_session::{Incoming, KeyRing, KeyRingHandle, SessionLayer};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const NAME: &str = "sealed";
/// Of a text, in bytes: what one cookie takes, less all that a seal adds.
const PIECE: usize = 2800;
/// The crate wants one.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// What is sealed has no age: it opens also by a clock that is behind the one of whoever sealed it.
const TIME: SystemTime = UNIX_EPOCH;

pub struct Seal(SessionLayer<Vec<u8>>);

impl Seal {
    pub fn new(ring: KeyRing) -> Result<Seal, String> {
        let layer = SessionLayer::builder(KeyRingHandle::from(ring))
            .name(NAME)
            .context("secure-app, what instances share")
            .idle_timeout(LIFETIME)
            .absolute_timeout(LIFETIME)
            .build();
        layer.map(Seal).map_err(|error| format!("session: {error}"))
    }

    pub fn replace_keys(&self, ring: KeyRing) {
        self.0.keys().replace(ring);
    }

    pub fn seal(&self, text: &str) -> Result<String, String> {
        let seal = |piece: &[u8]| {
            let cookie = self.0.codec().seal(&piece.to_vec(), None, None, TIME);
            cookie.map(|cookie| cookie.value().to_owned()).map_err(|error| error.to_string())
        };
        let pieces: Vec<String> = text.as_bytes().chunks(PIECE).map(seal).collect::<Result<_, _>>()?;
        Ok(pieces.join(" "))
    }

    /// `None`: it is not of ours, or of a key that is gone.
    pub fn open(&self, sealed: &str) -> Option<String> {
        let mut text = Vec::new();
        for piece in sealed.split(' ') {
            let cookie = HeaderValue::try_from(format!("{NAME}={piece}")).ok()?;
            let opened = self.0.codec().open(&HeaderMap::from_iter([(header::COOKIE, cookie)]), TIME);
            let is_ours = opened.incoming() == Incoming::Accepted;
            text.extend(opened.into_value().filter(|_| is_ours)?);
        }
        String::from_utf8(text).ok()
    }
}
