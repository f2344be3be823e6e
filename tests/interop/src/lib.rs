//! cookie-session against programs in Node and Python that were written from the wire format page.

mod programs;
mod reader;
mod rng;
mod sealed;

pub use programs::{Language, Program, Programs, flask, node, python};
pub use reader::{Reader, Settings, Under, context, key_id, name};
pub use rng::{Rng, seeds};
pub use sealed::{LATEST, Session, time};

use std::path::{Path, PathBuf};

/// The folder of the vectors.
pub fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors")
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// # Panics
///
/// If it is not hexadecimal.
pub fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "{text}");
    let pair = |pair| u8::from_str_radix(str::from_utf8(pair).expect("ASCII"), 16).expect("hexadecimal");
    text.as_bytes().chunks(2).map(pair).collect()
}
