//! The README says what is so.

use cookie_session::{Key, KeyRing, SessionLayer};
use std::time::SystemTime;

const README: &str = include_str!("../README.md");

fn first_block() -> &'static str {
    let (_, rest) = README.split_once("```rust,no_run\n").expect("a code block");
    rest.split_once("```").expect("its end").0
}

#[test]
fn the_first_code_block_is_the_counter_example() {
    assert_eq!(first_block(), include_str!("../examples/counter.rs"));
}

#[test]
fn the_stated_attributes_are_the_default_ones() {
    let keys = KeyRing::new(Key::generate().unwrap(), []).unwrap();
    let layer = SessionLayer::<u8>::builder(keys).build().unwrap();
    let cookie = layer.codec().seal(&1, None, None, SystemTime::now()).unwrap();
    let attributes = cookie.attributes().strip_suffix("; Max-Age=86400").unwrap();
    assert!(README.contains(&format!("`{}; {attributes}`", cookie.name())));
}

#[test]
fn the_stated_rust_version_is_the_manifests() {
    let manifest = include_str!("../Cargo.toml");
    let (_, rest) = manifest.split_once("rust-version = \"").unwrap();
    let version = rest.split_once('"').unwrap().0;
    assert!(README.contains(&format!("\n{version}. Raising it")));
}
