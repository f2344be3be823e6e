//! Whether comparisons tell secrets by their time: two classes of input, timed call by call, and Welch's t-test
//! over both (dudect, eprint 2017/1123). Run by hand on a quiet machine:
//!
//! ```sh
//! cargo run --release                                   # all, some seconds
//! cargo run --release -- --continuous mac_in_a_cookie   # one, until Ctrl-C
//! ```
//!
//! A `max t` above 5 says that the classes differ; below, that no difference was found with so many samples.
//! The `control_` benches differ as they must, or the tool sees nothing. `key_id_` ones may differ: the id stands
//! in the open in every cookie, so whether a ring knows it can be asked with any cookie that was ever sent, and
//! it is the secret key that the tag is compared under.

use cookie_session::{
    Key, KeyRing, Mode, SessionCodec, SessionLayer,
    internal::{frame_emit, frame_parse, hmac_open, hmac_seal, xaes_open, xaes_seal},
};
use dudect_bencher::{
    BenchRng, Class, CtRunner, ctbench_main,
    rand::{Rng as _, RngExt as _},
};
use http::{HeaderMap, HeaderValue, header::COOKIE};
use std::{hint::black_box, time::SystemTime};

const SAMPLES: usize = 500_000;

/// Times `f` on inputs of both classes in a random order, all of them made before.
fn compare<I, R>(
    runner: &mut CtRunner,
    rng: &mut BenchRng,
    mut left: impl FnMut(&mut BenchRng) -> I,
    mut right: impl FnMut(&mut BenchRng) -> I,
    f: impl Fn(&I) -> R,
) {
    let mut input = |_| match rng.random() {
        true => (Class::Left, left(rng)),
        false => (Class::Right, right(rng)),
    };
    let inputs: Vec<(Class, I)> = (0..SAMPLES).map(&mut input).collect();
    for (class, input) in &inputs {
        runner.run_one(*class, || f(input));
    }
}

/// The bytes with one bit of the byte at this place flipped.
fn flipped(bytes: &[u8], at: usize, rng: &mut BenchRng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1 << rng.random_range(0..8);
    bytes
}

fn random<const N: usize>(rng: &mut BenchRng) -> [u8; N] {
    let mut bytes = [0; N];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// An early exit, as a careless comparison of MACs has it.
fn control_leaky(runner: &mut CtRunner, rng: &mut BenchRng) {
    let mac: [u8; 32] = random(rng);
    let differs =
        |theirs: &Vec<u8>| black_box(mac).iter().zip(theirs).any(|(ours, theirs)| black_box(ours != theirs));
    compare(runner, rng, |rng| flipped(&mac, 0, rng), |rng| flipped(&mac, 31, rng), differs);
}

/// The same, but of one class only: what the machine's noise alone makes.
fn control_same(runner: &mut CtRunner, rng: &mut BenchRng) {
    let mac: [u8; 32] = random(rng);
    let differs =
        |theirs: &Vec<u8>| black_box(mac).iter().zip(theirs).any(|(ours, theirs)| black_box(ours != theirs));
    compare(runner, rng, |rng| flipped(&mac, 31, rng), |rng| flipped(&mac, 31, rng), differs);
}

fn mac(runner: &mut CtRunner, rng: &mut BenchRng) {
    let (key, message) = (random(rng), random::<64>(rng));
    let mac = hmac_seal(&key, &message);
    let open = |mac: &Vec<u8>| hmac_open(&key, &message, mac);
    compare(runner, rng, |rng| flipped(&mac, 0, rng), |rng| flipped(&mac, 31, rng), open);
}

fn tag(runner: &mut CtRunner, rng: &mut BenchRng) {
    let (key, nonce, message) = (random(rng), random(rng), random::<64>(rng));
    let sealed = xaes_seal(&key, &nonce, &[], &message);
    let open = |sealed: &Vec<u8>| xaes_open(&key, &nonce, &[], sealed);
    compare(runner, rng, |rng| flipped(&sealed, 64, rng), |rng| flipped(&sealed, 79, rng), open);
}

fn key_equals_key(runner: &mut CtRunner, rng: &mut BenchRng) {
    let bytes = random::<32>(rng);
    let key = |bytes: &[u8]| {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        hex.parse::<Key>().expect("a random key")
    };
    let ours = key(&bytes);
    let differs = |theirs: &Key| ours == *theirs;
    let other = |at| move |rng: &mut BenchRng| key(&flipped(&bytes, at, rng));
    compare(runner, rng, other(0), other(31), differs);
}

fn codec(mode: Mode) -> SessionLayer<u64> {
    let mut keys = (0..17).map(|_| Key::generate().expect("randomness"));
    let ring = KeyRing::new(keys.next().expect("seventeen"), keys).expect("different keys");
    SessionLayer::builder(ring).mode(mode).build().expect("good settings")
}

/// A cookie's name, suite, key id and body.
struct Parts(String, u8, [u8; 4], Vec<u8>);

fn cookie(codec: &SessionCodec<u64>) -> Parts {
    let cookie = codec.seal(&7, None, None, SystemTime::now()).expect("randomness").request_header();
    let (name, value) = cookie.to_str().expect("ASCII").split_once('=').expect("a pair");
    let (suite, id, body) = frame_parse(value.as_bytes()).expect("a frame");
    Parts(name.to_owned(), suite, id, body)
}

fn request(Parts(name, suite, ..): &Parts, id: [u8; 4], body: &[u8]) -> HeaderMap {
    let pair = [name.as_bytes(), b"=", &frame_emit(*suite, id, body)].concat();
    HeaderMap::from_iter([(COOKIE, HeaderValue::from_bytes(&pair).expect("a header"))])
}

/// The first byte of the tag or MAC is wrong, or the last one.
fn in_a_cookie(mode: Mode, tag: usize, runner: &mut CtRunner, rng: &mut BenchRng) {
    let layer = codec(mode);
    let (good, now) = (cookie(layer.codec()), SystemTime::now());
    let wrong = |from_end| {
        let good = &good;
        move |rng: &mut BenchRng| request(good, good.2, &flipped(&good.3, good.3.len() - from_end, rng))
    };
    compare(runner, rng, wrong(tag), wrong(1), |headers| layer.codec().open(headers, now).incoming());
}

fn mac_in_a_cookie(runner: &mut CtRunner, rng: &mut BenchRng) {
    in_a_cookie(Mode::Signed, 32, runner, rng);
}

fn tag_in_a_cookie(runner: &mut CtRunner, rng: &mut BenchRng) {
    in_a_cookie(Mode::Encrypted, 16, runner, rng);
}

/// An unknown key id that begins like a known one, or like none.
fn key_id_near_or_far(runner: &mut CtRunner, rng: &mut BenchRng) {
    let layer = codec(Mode::Encrypted);
    let (good, now) = (cookie(layer.codec()), SystemTime::now());
    let near = |rng: &mut BenchRng| {
        let [a, b, c, d] = good.2;
        request(&good, [a, b, c, d ^ rng.random_range(1..=255)], &good.3)
    };
    let far = |rng: &mut BenchRng| request(&good, random(rng), &good.3);
    compare(runner, rng, near, far, |headers| layer.codec().open(headers, now).incoming());
}

/// A known key id, so that the tag is looked at, or an unknown one that begins like it.
fn key_id_known_or_not(runner: &mut CtRunner, rng: &mut BenchRng) {
    let layer = codec(Mode::Encrypted);
    let (good, now) = (cookie(layer.codec()), SystemTime::now());
    let wrong = |good: &Parts, rng: &mut BenchRng| flipped(&good.3, good.3.len() - 1, rng);
    let known = |rng: &mut BenchRng| request(&good, good.2, &wrong(&good, rng));
    let unknown = |rng: &mut BenchRng| {
        let [a, b, c, d] = good.2;
        request(&good, [a, b, c, d ^ rng.random_range(1..=255)], &wrong(&good, rng))
    };
    compare(runner, rng, known, unknown, |headers| layer.codec().open(headers, now).incoming());
}

ctbench_main!(
    control_leaky,
    control_same,
    mac,
    mac_in_a_cookie,
    tag,
    tag_in_a_cookie,
    key_equals_key,
    key_id_near_or_far,
    key_id_known_or_not
);
