//! What stands in a session's cookie, octet by octet, so that it can be anything.

use crate::{Rng, Settings, Under, hex};
use serde_json::{Value, json};

/// The latest time of the wire format.
pub const LATEST: u64 = (1 << 48) - 1;

/// How far ahead `issued` may lie, in milliseconds.
const SKEW: i64 = 60_000;

#[derive(Clone, Debug)]
pub struct Session {
    pub flags: u8,
    pub schema: u16,
    pub shape: [u8; 4],
    pub id: [u8; 16],
    pub created: u64,
    pub renewed: u64,
    pub issued: u64,
    pub own: u32,
    pub payload: Vec<u8>,
}

impl Session {
    pub fn plaintext(&self) -> Vec<u8> {
        let six = |time: u64| time.to_le_bytes()[..6].to_vec();
        let fields = [
            &[self.flags][..],
            &self.schema.to_le_bytes(),
            &self.shape,
            &self.id,
            &six(self.created),
            &six(self.renewed),
            &six(self.issued),
            &self.own.to_le_bytes(),
            &self.payload,
        ];
        fields.concat()
    }

    /// The request to seal it.
    pub fn request(&self, under: &Under, nonce: Option<[u8; 24]>) -> Value {
        let Session { flags, schema, shape, id, created, renewed, issued, own, payload } = self;
        let mut request = under.request("seal", nonce);
        for (field, value) in [
            ("flags", json!(flags)),
            ("schema", json!(schema)),
            ("shape", json!(hex(shape))),
            ("id", json!(hex(id))),
            ("created", json!(created)),
            ("renewed", json!(renewed)),
            ("issued", json!(issued)),
            ("own", json!(own)),
            ("payload", json!(hex(payload))),
        ] {
            request[field] = value;
        }
        request
    }

    /// A session that is good at `now`, or only just is not: its times stand at and beside every edge.
    pub fn random(rng: &mut Rng, settings: &Settings, now: i64) -> Session {
        let form = rng.pick(&settings.forms());
        let max_own = i64::try_from(settings.max_own / 1000).expect("400 days");
        let own = match rng.below(8) {
            0 => rng.pick(&[1, u32::MAX, u32::MAX - 1]),
            1 => near(rng, max_own, 1) as u32,
            2 => rng.word() as u32,
            3 => rng.within(1..=max_own) as u32,
            _ => 0,
        };
        let flags = u8::from(own == 0 && rng.once_in(4));
        let own_end = (i64::from(own) * 1000).min(settings.max_own as i64);
        let lasts = if own > 0 { own_end } else { settings.absolute as i64 };
        Session {
            flags,
            schema: form.schema,
            shape: form.shape,
            id: rng.array(),
            created: match rng.below(4) {
                0 => rng.pick(&[0, 1, LATEST - 1, LATEST]),
                1 => rng.word() >> 16,
                _ => time(now.saturating_sub(rng.within(0..=1 << 31))),
            },
            renewed: edge(rng, now, lasts),
            issued: match rng.below(8) {
                0 => near(rng, now.saturating_add(SKEW), 2),
                _ => edge(rng, now, settings.idle as i64),
            },
            own,
            payload: settings.payload(rng, form.schema),
        }
    }
}

/// As a `u48`.
pub fn time(millis: i64) -> u64 {
    millis.clamp(0, LATEST as i64) as u64
}

fn near(rng: &mut Rng, around: i64, by: i64) -> u64 {
    time(around.saturating_add(rng.within(-by..=by)))
}

/// A time from which what lasts so long is mostly not over.
fn edge(rng: &mut Rng, now: i64, lasts: i64) -> u64 {
    match rng.below(12) {
        0 | 1 => near(rng, now.saturating_sub(lasts), 2),
        2 => near(rng, now, 2),
        3 if rng.once_in(3) => rng.pick(&[0, 1, LATEST - 1, LATEST]),
        4 if rng.once_in(3) => rng.word() >> 16,
        _ => time(now.saturating_sub(rng.within(0..=lasts - 1))),
    }
}
