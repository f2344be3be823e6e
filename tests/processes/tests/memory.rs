//! What keys leave in the memory of a process that has dropped them.
//!
//! The process (`src/bin/keeping.rs`) stands still at each step while its memory is read from here, so that the
//! search neither finds itself nor writes over what it looks for. Each secret is looked for in every form that gives
//! it away, see [`Secrets`]. That a living key is found shows that the search can see.
#![cfg(target_os = "linux")]

use aes_gcm::{
    KeyInit as _,
    aes::{Aes256, cipher::BlockCipherEncrypt as _},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};
use hkdf::Hkdf;
use sha2::{Digest as _, Sha256, block_api::compress256};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::FileExt as _,
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// What the layers of `keeping` are called; their context is empty.
const NAME: &str = "__Host-Http-session";

/// All that must not be left of one key, in pieces of 16 bytes, each under what it is.
struct Secrets {
    pieces: BTreeMap<[u8; 16], String>,
    /// How pieces begin.
    starts: Vec<bool>,
    xaes: Aes256,
}

impl Secrets {
    fn of(key: &[u8; 32]) -> Secrets {
        let (prk, hkdf) = Hkdf::<Sha256>::extract(None, key);
        let seal_key = |suite, purpose: &str| {
            let parts = [b"cookie-session/v1", &[suite][..], purpose.as_bytes(), NAME.as_bytes(), b""];
            let lp = |part: &[u8]| [&(part.len() as u32).to_le_bytes(), part].concat();
            let mut seal_key = [0; 32];
            hkdf.expand(&parts.map(lp).concat(), &mut seal_key).unwrap();
            seal_key
        };
        let xaes = Aes256::new((&seal_key(1, "session")).into());
        let mut secrets = Secrets { pieces: BTreeMap::new(), starts: vec![false; 1 << 16], xaes };
        secrets.bytes("the key", key);
        // Extract is the key's HMAC under zeros: whoever has the inner hash has the PRK.
        secrets.bytes("Extract's inner hash", &Sha256::digest([&[0x36; 64][..], key].concat()).into());
        secrets.mac_key("PRK", &prk.into());
        for purpose in ["session", "sign-out"] {
            // The round keys of AES-256 begin with the key (FIPS 197 section 5.2).
            secrets.bytes(&format!("{purpose} key of suite 1"), &seal_key(1, purpose));
            secrets.mac_key(&format!("{purpose} key of suite 2"), &seal_key(2, purpose));
        }
        for text in texts(key) {
            text.as_bytes().chunks_exact(16).for_each(|piece| secrets.add("the key's text", piece));
        }
        secrets
    }

    fn add(&mut self, what: &str, piece: &[u8]) {
        let piece: [u8; 16] = piece.try_into().unwrap();
        self.starts[usize::from(u16::from_ne_bytes([piece[0], piece[1]]))] = true;
        self.pieces.insert(piece, what.to_owned());
    }

    /// As it is, and as the big-endian words that SHA-256 works on.
    fn bytes(&mut self, what: &str, bytes: &[u8; 32]) {
        let words: Vec<u8> = bytes.chunks_exact(4).flat_map(|word| word.iter().rev()).copied().collect();
        for (form, bytes) in [("", &bytes[..]), (", as words", &words)] {
            bytes.chunks_exact(16).for_each(|piece| self.add(&format!("{what}{form}"), piece));
        }
    }

    /// A key of HMAC: also as its two padded blocks, and as the two states behind them, which are all that it takes
    /// to make MACs (RFC 2104 section 4).
    fn mac_key(&mut self, what: &str, key: &[u8; 32]) {
        // FIPS 180-4 section 5.3.3.
        const INITIAL: [u32; 8] =
            [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];
        self.bytes(what, key);
        for (pad, which) in [(0x36, "inner"), (0x5c, "outer")] {
            let mut block = [pad; 64];
            block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
            self.bytes(&format!("{what}, {which} block"), block.first_chunk().unwrap());
            let mut state = INITIAL;
            compress256(&mut state, &[block]);
            let state = state.map(u32::to_be_bytes).concat().try_into().unwrap();
            self.bytes(&format!("{what}, {which} state"), &state);
        }
    }

    /// The keys that XAES-256-GCM derives for the messages with these nonces, by the specification's formulas.
    fn derived_keys(&mut self, nonces: &str) {
        for nonce in nonces.split_ascii_whitespace() {
            self.derived_key(&u128::from_str_radix(&nonce[..24], 16).unwrap().to_be_bytes()[4..]);
        }
    }

    fn derived_key(&mut self, nonce: &[u8]) {
        let aes = |block: u128| {
            let mut block = block.to_be_bytes().into();
            self.xaes.encrypt_block(&mut block);
            u128::from_be_bytes(block.into())
        };
        let l = aes(0);
        let k1 = (l << 1) ^ ((l >> 127) * 0b1000_0111);
        let half = |counter: u8| {
            let m = [&[0, counter, b'X', 0][..], nonce].concat();
            aes(u128::from_be_bytes(m.try_into().unwrap()) ^ k1)
        };
        let key = [half(1), half(2)].map(u128::to_be_bytes).concat();
        self.bytes("a derived key", &key.try_into().unwrap());
        self.add("K1 of suite 1", &k1.to_be_bytes());
    }
}

/// All texts that `Key` reads as this key.
fn texts(key: &[u8; 32]) -> [String; 6] {
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let [standard, url] = [&STANDARD, &URL_SAFE].map(|engine| engine.encode(key));
    let [standard_bare, url_bare] = [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD].map(|engine| engine.encode(key));
    [hex.to_uppercase(), hex, standard, url, standard_bare, url_bare]
}

/// What sealing and opening leave on stacks, below all living frames, until later calls write over it: the crates
/// below move the states of a MAC, and a derived key. Never the key itself, nor what an unused layer derived.
const LEFT_ON_STACKS: [&str; 2] = ["session key of suite 2, ", "a derived key"];

/// A process that keeps keys, at one of its steps.
struct Keeping {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

/// What was found, where, and how often.
type Found = BTreeMap<(String, String), usize>;

impl Keeping {
    fn new(source: &str, until: &str, files: &[&KeyFile], variables: &[(&str, &str)]) -> Keeping {
        let mut child = Command::new(env!("CARGO_BIN_EXE_keeping"))
            .args([source, until])
            .args(files.iter().map(|file| &file.0))
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Keeping { child, stdin, stdout }
    }

    /// Lets it go on from step to step until all is dropped, and looks at each: its name, and what it says there.
    fn walk(mut self, mut look: impl FnMut(&Keeping, &str, &str)) {
        loop {
            let mut line = String::new();
            self.stdout.read_line(&mut line).unwrap();
            let line = line.trim_end();
            let (step, said) = line.split_once(' ').unwrap_or((line, ""));
            look(&self, step, said);
            self.stdin.write_all(b"\n").unwrap();
            if step == "dropped" {
                break;
            }
        }
        assert!(self.child.wait().unwrap().success());
    }

    /// All memory that it can write to, each part under its name in `maps`.
    fn memory(&self) -> Vec<(String, Vec<u8>)> {
        let id = self.child.id();
        let memory = File::open(format!("/proc/{id}/mem")).unwrap();
        let maps = fs::read_to_string(format!("/proc/{id}/maps")).unwrap();
        let part = |line: &str| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let (start, end) = fields[0].split_once('-').unwrap();
            let [start, end] = [start, end].map(|at| u64::from_str_radix(at, 16).unwrap());
            let mut bytes = vec![0; (end - start) as usize];
            let name = fields.get(5).unwrap_or(&"mapped").to_string();
            fields[1].starts_with("rw").then(|| {
                memory.read_exact_at(&mut bytes, start).unwrap();
                (name, bytes)
            })
        };
        maps.lines().filter_map(part).collect()
    }

    fn find(&self, secrets: &Secrets) -> Found {
        let mut found = Found::new();
        for (name, bytes) in self.memory() {
            for (at, start) in bytes.windows(2).enumerate() {
                let begins = secrets.starts[usize::from(u16::from_ne_bytes([start[0], start[1]]))];
                let piece = bytes.get(at..at + 16).filter(|_| begins);
                if let Some(what) = piece.and_then(|piece| secrets.pieces.get(piece)) {
                    *found.entry((what.clone(), name.clone())).or_default() += 1;
                }
            }
        }
        found
    }

    fn assert_lives(&self, secrets: &Secrets, step: &str) {
        let found = self.find(secrets);
        let mut expected = vec!["the key"];
        if step != "made" {
            expected.push("session key of suite 2, outer state, as words");
            if round_keys_are_plain() {
                expected.push("session key of suite 1");
            }
        }
        for what in expected {
            assert!(
                found.contains_key(&(what.to_owned(), "[heap]".to_owned())),
                "{what}, {step}: {found:#?}"
            );
        }
    }

    /// What should not be there any more.
    fn left(&self, secrets: &Secrets) -> Found {
        let known = |what: &str| LEFT_ON_STACKS.iter().any(|known| what.starts_with(known));
        let mut found = self.find(secrets);
        found.retain(|(what, place), _| place == "[heap]" || !known(what));
        found
    }

    /// The key with this id, from its memory.
    fn key(&self, id: &str) -> [u8; 32] {
        let has_id = |key: &&[u8; 32]| {
            let mut found = [0; 4];
            let info = b"\x11\0\0\0cookie-session/v1\x06\0\0\0key-id";
            Hkdf::<Sha256>::new(None, &key[..]).expand(info, &mut found).unwrap();
            format!("{:08x}", u32::from_be_bytes(found)) == id
        };
        let memory = self.memory();
        let (_, heap) = memory.iter().find(|(name, _)| name == "[heap]").unwrap();
        let mut places = heap.windows(32).step_by(8).map(|place| place.first_chunk().unwrap());
        *places.by_ref().filter(|place| **place != [0; 32]).find(has_id).expect("the living key")
    }
}

/// Whether AES keeps its round keys as the standard writes them, which it does where the processor knows AES.
fn round_keys_are_plain() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

fn random_key() -> [u8; 32] {
    let mut key = [0; 32];
    File::open("/dev/urandom").unwrap().read_exact(&mut key).unwrap();
    key
}

/// With so many blanks before it that what is allocated next does not come to lie over it once it was freed.
fn far_inside(text: &str) -> String {
    " ".repeat(10_000) + text
}

/// A file with a text for `keeping`, which goes away with the test.
struct KeyFile(PathBuf);

impl KeyFile {
    fn new(name: &str, text: &str) -> KeyFile {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::write(&path, text).unwrap();
        KeyFile(path)
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// From the source to each of its steps, and then the end of it.
fn leaves_nothing(
    source: &str,
    untils: &[&str],
    files: &[&KeyFile],
    variables: &[(&str, &str)],
    keys: &[[u8; 32]],
) {
    for until in untils {
        let mut secrets: Vec<Secrets> = keys.iter().map(Secrets::of).collect();
        Keeping::new(source, until, files, variables).walk(|keeping, step, said| {
            if step == "made" && secrets.is_empty() {
                secrets.push(Secrets::of(&keeping.key(said)));
            }
            for secrets in &mut secrets {
                if step == "used" {
                    secrets.derived_keys(said);
                }
                if step == "dropped" {
                    assert_eq!(keeping.left(secrets), Found::new(), "{source}, until {until}");
                } else {
                    keeping.assert_lives(secrets, step);
                }
            }
        });
    }
}

#[test]
fn a_key_from_text_leaves_nothing() {
    let key = random_key();
    for (i, text) in texts(&key).iter().enumerate() {
        let file = KeyFile::new(&format!("text-{i}"), text);
        leaves_nothing("text", &["made", "cloned", "built", "used"], &[&file], &[], &[key]);
    }
}

#[test]
fn a_generated_key_leaves_nothing() {
    leaves_nothing("generated", &["made", "cloned", "built", "used"], &[], &[], &[]);
}

#[test]
fn keys_in_files_that_the_environment_names_leave_nothing() {
    let keys = [random_key(), random_key()];
    let files = [("primary", &keys[0]), ("fallback", &keys[1])]
        .map(|(name, key)| KeyFile::new(name, &far_inside(&texts(key)[2])));
    let [primary, fallbacks] = files.each_ref().map(|file| file.0.to_str().unwrap());
    let variables = [("KEEPING_FILE", primary), ("KEEPING_FALLBACKS_FILE", fallbacks)];
    leaves_nothing("environment", &["built", "used"], &[], &variables, &keys);
}

#[test]
fn a_key_in_a_variable_stays_in_the_environment_and_nowhere_else() {
    let key = random_key();
    let [text, ..] = texts(&key);
    for until in ["built", "used"] {
        Keeping::new("environment", until, &[], &[("KEEPING", &text)]).walk(|keeping, step, _| {
            let secrets = Secrets::of(&key);
            if step == "dropped" {
                // The environment lies at the beginning of the first stack: four pieces of a text of 64 characters.
                let text = ("the key's text".to_owned(), "[stack]".to_owned());
                assert_eq!(keeping.left(&secrets), Found::from([(text, 4)]), "until {until}");
            } else {
                keeping.assert_lives(&secrets, step);
            }
        });
    }
}

#[test]
fn keys_of_a_configuration_leave_nothing() {
    let keys = [random_key(), random_key()];
    let [primary, fallback] = keys.each_ref().map(|key| far_inside(&texts(key)[2]));
    let config = format!(
        r#"{{ "accept_mode": "signed", "keys": {{ "primary": "{primary}", "fallbacks": ["{fallback}"] }} }}"#
    );
    let file = KeyFile::new("config", &config);
    leaves_nothing("config", &["built", "used"], &[&file], &[], &keys);
}

#[test]
fn a_replaced_ring_leaves_nothing() {
    let keys = [random_key(), random_key()];
    let [old_file, new_file] =
        [("old", &keys[0]), ("new", &keys[1])].map(|(name, key)| KeyFile::new(name, &texts(key)[0]));
    for until in ["built", "used"] {
        let [mut old, new] = keys.each_ref().map(Secrets::of);
        Keeping::new("replaced", until, &[&old_file, &new_file], &[]).walk(|keeping, step, said| {
            match step {
                "replaced" => keeping.assert_lives(&new, step),
                "dropped" => assert_eq!(keeping.left(&new), Found::new(), "new, until {until}"),
                _ => {
                    old.derived_keys(said);
                    return keeping.assert_lives(&old, step);
                }
            }
            assert_eq!(keeping.left(&old), Found::new(), "old, until {until}");
        });
    }
}
