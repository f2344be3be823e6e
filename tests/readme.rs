//! The README says what is so.

use cookie_session::{Key, KeyRing, SessionConfig, SessionLayer};
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

#[test]
fn the_tests_that_the_security_page_names_exist() {
    let page = include_str!("../src/docs/security.md");
    let (_, table) = page.split_once("| attack | what stops it | tests |").unwrap();
    let table = table.split("\n\n").next().unwrap();
    let mut files: Vec<_> =
        ["tests", "tests/rules"].into_iter().flat_map(|dir| std::fs::read_dir(dir).unwrap()).collect();
    let sources: String = files
        .drain(..)
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let named: Vec<_> = table
        .lines()
        .skip(2)
        .flat_map(|row| row.rsplit('|').nth(1).unwrap().split('`').skip(1).step_by(2))
        .collect();
    assert!(named.len() > 15);
    for name in named {
        let known = [format!("fn {name}("), format!("mod {name};")];
        assert!(known.iter().any(|known| sources.contains(known)), "{name}");
    }
}

#[test]
fn the_crate_page_lists_every_event() {
    let page = include_str!("../src/lib.rs");
    let mut found = 0;
    for file in std::fs::read_dir("src").unwrap() {
        let path = file.unwrap().path();
        let text = if path.is_file() { std::fs::read_to_string(&path).unwrap() } else { String::new() };
        for call in text.split("event!(").skip(1) {
            let Some(name) = call.split('"').nth(1).filter(|name| name.starts_with("session_")) else {
                continue;
            };
            found += 1;
            assert!(page.contains(&format!("`{name}`")), "{name}");
        }
    }
    assert!(found >= 10);
}

#[test]
fn the_configurations_on_the_page_about_moving_are_good() {
    let page = include_str!("../src/docs/moving.md");
    let blocks: Vec<_> =
        page.split("```toml\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        let config: SessionConfig = toml::from_str(block).unwrap();
        let keys = KeyRing::new(Key::generate().unwrap(), []).unwrap();
        SessionLayer::<u8>::from_config(config).keys(keys).build().unwrap();
    }
}
