//! The session as a picture: how full the cookie is, which key sealed it, when it ends, and what it looks like.

use crate::session::Visit;
use axum::http::{HeaderMap, header};
use cookie_session::{MAX_SET_COOKIE, Session, SessionLayer};
use std::time::SystemTime;

/// What the template draws.
pub struct Picture {
    pub bar: Vec<Segment>,
    pub used: usize,
    pub most: usize,
    /// `None`: the browser has not got a cookie yet, and gets none before there is something to keep.
    pub sealed: Option<Sealed>,
    pub name: String,
    pub attributes: String,
}

/// A part of the bar, in bytes.
pub struct Segment {
    pub class: &'static str,
    pub label: &'static str,
    pub start: usize,
    pub bytes: usize,
}

pub struct Sealed {
    pub key: String,
    /// Of the key's own colour, in degrees.
    pub hue: u32,
    pub mode: &'static str,
    pub id: String,
    pub moments: Vec<Moment>,
    /// Where now is, of a thousand.
    pub now: u64,
    pub parts: Vec<Part>,
}

/// Something on the line between the session's begin and its end.
pub struct Moment {
    pub class: &'static str,
    pub label: &'static str,
    pub at: String,
    pub distance: String,
    pub place: u64,
}

/// A coloured part of the cookie's value.
pub struct Part {
    pub class: &'static str,
    pub label: &'static str,
    pub bytes: usize,
    pub text: String,
}

/// The wire format's, in bytes: suite, key id, nonce, and behind the ciphertext its tag.
const FRAME: [(&str, &str, usize); 3] = [("suite", "suite", 1), ("key", "key id", 4), ("nonce", "nonce", 24)];
const TAG: usize = 16;

impl Picture {
    pub fn of(
        sessions: &SessionLayer<Visit>,
        session: &Session<Visit>,
        visit: &Visit,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Picture {
        let meta = session.meta().filter(|_| !session.is_new() || session.is_changed());
        // What would be sent now: as long as what is sent.
        let cookie = sessions.codec().seal(visit, meta.as_ref(), None, now).ok();
        let (name, value, attributes) = cookie
            .as_ref()
            .map_or(("", "", ""), |cookie| (cookie.name(), cookie.value(), cookie.attributes()));
        let frame: usize = FRAME.iter().map(|(_, _, bytes)| bytes).sum::<usize>() + TAG;
        let envelope = (frame * 4).div_ceil(3).min(value.len());
        let mut start = 0;
        let mut segment = |class, label, bytes| {
            start += bytes;
            Segment { class, label, start: start - bytes, bytes }
        };
        let rest = if attributes.is_empty() { 0 } else { "; ".len() + attributes.len() };
        let bar = vec![
            segment("name", "name", name.len() + "=".len()),
            segment("seal", "seal", envelope),
            segment("data", "session", value.len() - envelope),
            segment("attributes", "attributes", rest),
        ];
        let used = start;
        let sealed = meta.map(|meta| {
            let (begin, end) = (meta.created_at(), meta.absolute_deadline());
            let whole = seconds_between(begin, end).max(1);
            let place = |time| (seconds_between(begin, time) * 1000 / whole).min(1000);
            let moment = |class, label, time| {
                let ago = seconds_between(time, now);
                let distance = match seconds_between(now, time) {
                    0 if ago == 0 => "just now".to_owned(),
                    0 => format!("{} ago", in_words(ago)),
                    ahead => format!("in {}", in_words(ahead)),
                };
                let at = humantime::format_rfc3339_seconds(time)
                    .to_string()
                    .replace('T', " ")
                    .replace('Z', " UTC");
                Moment { class, label, at, distance, place: place(time) }
            };
            let mut moments = vec![
                moment("created", "created", begin),
                moment("issued", "cookie issued", meta.issued_at()),
            ];
            moments.extend(meta.idle_deadline().map(|time| moment("idle", "idle timeout", time)));
            moments.push(moment("absolute", "absolute timeout", end));
            let key = meta.key_id().to_string();
            Sealed {
                hue: u32::from_str_radix(&key, 16).unwrap_or_default() % 360,
                key,
                mode: match meta.mode() {
                    cookie_session::Mode::Signed => "signed",
                    _ => "encrypted",
                },
                id: meta.id().to_string().chars().take(8).collect(),
                moments,
                now: place(now),
                // Not of one that another takes the place of with this very page.
                parts: sent(headers, name).filter(|_| !session.is_changed()).map(parts).unwrap_or_default(),
            }
        });
        Picture {
            bar,
            used,
            most: MAX_SET_COOKIE,
            sealed,
            name: name.to_owned(),
            attributes: attributes.to_owned(),
        }
    }
}

/// The value that the browser sent.
fn sent<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(its, _)| *its == name).map(|(_, value)| value)
}

/// A letter belongs to the part that most of its six bits belong to. Of what would make the cookie whole for a script that
/// reads this page, only the beginning is shown.
fn parts(value: &str) -> Vec<Part> {
    const SHOWN: usize = 24;
    let bytes = value.len() * 3 / 4;
    let lengths = FRAME.iter().copied();
    let fixed: usize = FRAME.iter().map(|(_, _, bytes)| bytes).sum();
    let Some(sealed) = bytes.checked_sub(fixed + TAG) else { return Vec::new() };
    let mut start = 0;
    lengths
        .chain([("data", "session, encrypted", sealed), ("tag", "tag", TAG)])
        .map(|(class, label, bytes)| {
            let letter = |byte: usize| (byte * 8 + 3) / 6;
            let text = value.get(letter(start)..letter(start + bytes).min(value.len())).unwrap_or_default();
            start += bytes;
            let text = match class {
                "tag" => "•".repeat(text.len()),
                _ if text.len() > SHOWN => format!("{}…", &text[..SHOWN]),
                _ => text.to_owned(),
            };
            Part { class, label, bytes, text }
        })
        .collect()
}

fn seconds_between(from: SystemTime, to: SystemTime) -> u64 {
    to.duration_since(from).map_or(0, |between| between.as_secs())
}

/// A time that people read: at most two units of it.
pub fn in_words(seconds: u64) -> String {
    const UNITS: [(u64, &str, u64); 4] =
        [(86_400, "d", u64::MAX), (3_600, "h", 24), (60, "min", 60), (1, "s", 60)];
    let parts = UNITS.iter().map(|(unit, name, modulus)| (seconds / unit % modulus, name));
    let shown = parts.skip_while(|(count, _)| *count == 0).take(2).filter(|(count, _)| *count > 0);
    let words: Vec<String> = shown.map(|(count, name)| format!("{count}\u{a0}{name}")).collect();
    if words.is_empty() { "no time".to_owned() } else { words.join(" ") }
}
