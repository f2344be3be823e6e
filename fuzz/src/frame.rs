//! A cookie's value and the bytes in it: one frame has one text, and the other way round.
//!
//! A second decoder stands here, written from RFC 4648 alone, so that engine and settings of the
//! crate's own are compared with something.

use cookie_session::{
    RejectedKind,
    internal::{frame_emit, frame_parse},
};

const MAX_VALUE: usize = 4096;

pub fn run(data: &[u8]) {
    text(data);
    bytes(data);
    // Texts of the greatest length and of one more, which mutations of a small input never have.
    for len in [MAX_VALUE, MAX_VALUE + 1] {
        let mut long: Vec<u8> = data.iter().copied().cycle().take(len).collect();
        long.resize(len, b'A');
        text(&long);
    }
}

/// A text is refused as the rules say, or comes out as it went in.
fn text(text: &[u8]) {
    let parsed = frame_parse(text);
    match decode(text).as_deref() {
        _ if text.len() > MAX_VALUE => assert_eq!(parsed, Err(RejectedKind::TooLong)),
        Some([suite, a, b, c, d, body @ ..]) => {
            let id = [*a, *b, *c, *d];
            assert_eq!(parsed, Ok((*suite, id, body.to_vec())));
            assert_eq!(frame_emit(*suite, id, body), text);
        }
        _ => assert_eq!(parsed, Err(RejectedKind::Malformed)),
    }
}

/// Bytes become one text, which is read as these bytes.
fn bytes(frame: &[u8]) {
    let [suite, a, b, c, d, body @ ..] = frame else { return };
    let id = [*a, *b, *c, *d];
    let emitted = frame_emit(*suite, id, body);
    assert_eq!(decode(&emitted).as_deref(), Some(frame));
    let fits = emitted.len() <= MAX_VALUE;
    let parsed = if fits { Ok((*suite, id, body.to_vec())) } else { Err(RejectedKind::TooLong) };
    assert_eq!(frame_parse(&emitted), parsed);
}

/// RFC 4648 section 5, without padding (section 3.2), with nothing outside the alphabet (3.3) and
/// with zeros for the bits left over (3.5).
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0, 0);
    for &symbol in text {
        let number = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(number);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    (held < 6 && bits == 0).then_some(bytes)
}
