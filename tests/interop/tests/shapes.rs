//! The shape of a type: what the crate traces is what both programs make of the tree.

use cookie_session::internal::shape_encoding;
use interop_tests::{Programs, Rng, hex, seeds};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
    net::Ipv4Addr,
    num::NonZeroU16,
    ops::RangeInclusive,
    time::Duration,
};

/// Random trees, for each seed.
const TREES: usize = 500;

#[allow(dead_code)] // Types for their shapes alone.
mod types {
    use super::*;

    #[derive(Deserialize)]
    pub struct Account {
        user: Option<(u64, String)>,
        #[serde(rename = "sprache\"\\\u{1f36a}")]
        language: [char; 2],
        #[serde(default)]
        seen: BTreeMap<u32, Vec<Visit>>,
        nothing: (),
    }
    #[derive(Deserialize)]
    pub struct Visit(i64, f32);
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum Step {
        AtRest,
        Moving { from: i16, to: i16 },
        Jump(u8),
        Both(bool, i128),
    }
    #[derive(Deserialize)]
    pub struct Page {
        title: String,
        children: Vec<Page>,
        step: Step,
    }
    #[derive(Deserialize)]
    pub enum Chain {
        End,
        More(Box<Link>),
    }
    #[derive(Deserialize)]
    pub struct Link {
        chain: Chain,
        weight: f64,
    }
}

fn traced<T: DeserializeOwned>() -> (String, String) {
    let (encoding, shape) = shape_encoding::<T>().expect("a type that postcard can read");
    (hex(&encoding), shape.to_string())
}

#[test]
fn a_type_has_one_shape_in_all_three() {
    use types::*;
    let account = r#"
struct "user" "sprache\"\\🍪" "seen" "nothing"
  option
    tuple 2
      u64
      string
  tuple 2
    char
    char
  map
    u32
    seq
      tuple 2
        i64
        f32
  unit"#;
    let step = r#"
enum "at-rest" "moving" "jump" "both"
  unit-variant
  struct-variant "from" "to"
    i16
    i16
  newtype-variant
    u8
  tuple-variant 2
    bool
    i128"#;
    let page = r#"
struct "title" "children" "step"
  string
  seq
    back 2
  enum "at-rest" "moving" "jump" "both"
    unit-variant
    struct-variant "from" "to"
      i16
      i16
    newtype-variant
      u8
    tuple-variant 2
      bool
      i128"#;
    let chain = r#"
enum "End" "More"
  unit-variant
  newtype-variant
    struct "chain" "weight"
      back 3
      f64"#;
    let result = r#"
enum "Ok" "Err"
  newtype-variant
    seq
      i8
  newtype-variant
    string"#;
    let range = "
struct \"start\" \"end\"
  u128
  u128";
    let cases = [
        (traced::<()>(), "\nunit"),
        (traced::<u64>(), "\nu64"),
        (traced::<Cow<'static, str>>(), "\nstring"),
        (traced::<NonZeroU16>(), "\nu16"),
        (traced::<Option<Option<i32>>>(), "\noption\n  option\n    i32"),
        (traced::<HashSet<char>>(), "\nseq\n  char"),
        (traced::<(u8,)>(), "\ntuple 1\n  u8"),
        (traced::<[bool; 3]>(), "\ntuple 3\n  bool\n  bool\n  bool"),
        (traced::<Ipv4Addr>(), "\ntuple 4\n  u8\n  u8\n  u8\n  u8"),
        (traced::<Duration>(), "\nstruct \"secs\" \"nanos\"\n  u64\n  u32"),
        (traced::<RangeInclusive<u128>>(), range),
        (traced::<Result<Vec<i8>, String>>(), result),
        (traced::<Account>(), account),
        (traced::<Step>(), step),
        (traced::<Page>(), page),
        (traced::<Chain>(), chain),
    ];
    let requests = cases.each_ref().map(|(_, tree)| json!({ "do": "shape", "tree": tree[1..] }));
    for ((traced, tree), answer) in cases.iter().zip(Programs::start().agree(&requests)) {
        let (encoding, shape) = traced;
        assert_eq!(answer, json!({ "encoding": encoding, "shape": shape }), "{tree}");
    }
}

/// A tree that the page allows.
fn tree(rng: &mut Rng, depth: usize, out: &mut String) {
    const LEAVES: [&str; 17] = [
        "unit", "bool", "i8", "i16", "i32", "i64", "i128", "u8", "u16", "u32", "u64", "u128", "f32", "f64",
        "char", "string", "bytes",
    ];
    line(rng, depth, out);
    let children = |rng: &mut Rng, most: usize, out: &mut String| {
        let refused = most > 0 && rng.once_in(8);
        let count = if refused { rng.below(most) } else { most };
        (0..count).for_each(|_| tree(rng, depth + 1, out));
    };
    match rng.below(if depth < 5 { 9 } else { 2 }) {
        0 => *out += &format!("{}\n", rng.pick(&LEAVES)),
        1 if depth > 0 => *out += &format!("back {}\n", 1 + rng.below(depth)),
        1 | 2 => *out += "nothing\n",
        3 => {
            *out += rng.pick(&["option\n", "seq\n"]);
            children(rng, 1, out);
        }
        4 => {
            *out += "map\n";
            children(rng, 2, out);
        }
        5 | 6 => {
            let length = rng.below(4);
            *out += &format!("tuple {length}\n");
            children(rng, length, out);
        }
        7 => {
            let fields = rng.below(4);
            *out += &format!("struct{}\n", names(rng, fields));
            children(rng, fields, out);
        }
        _ => {
            let variants = rng.below(5);
            *out += &format!("enum{}\n", names(rng, variants));
            for _ in 0..variants {
                line(rng, depth + 1, out);
                let fields = rng.below(3);
                let children = |rng: &mut Rng, count: usize, out: &mut String| {
                    (0..count).for_each(|_| tree(rng, depth + 2, out));
                };
                match rng.below(5) {
                    0 => *out += "nothing\n",
                    1 => *out += "unit-variant\n",
                    2 => {
                        *out += "newtype-variant\n";
                        children(rng, 1, out);
                    }
                    3 => {
                        *out += &format!("tuple-variant {fields}\n");
                        children(rng, fields, out);
                    }
                    _ => {
                        *out += &format!("struct-variant{}\n", names(rng, fields));
                        children(rng, fields, out);
                    }
                }
            }
        }
    }
}

/// The beginning of a node's line.
fn line(rng: &mut Rng, depth: usize, out: &mut String) {
    *out += &"  ".repeat(depth);
    if rng.once_in(10) {
        *out += "refused ";
    }
}

fn names(rng: &mut Rng, count: usize) -> String {
    (0..count).map(|_| format!(" {}", json!(rng.text()))).collect()
}

#[test]
fn a_tree_has_one_encoding_and_one_shape_in_both_programs() {
    let mut programs = Programs::start();
    for seed in seeds("trees") {
        let trees = (0..TREES).map(|case| {
            let mut text = String::new();
            tree(&mut Rng::new(seed, case), 0, &mut text);
            text.pop();
            text
        });
        let requests: Vec<_> = trees.map(|tree| json!({ "do": "shape", "tree": tree })).collect();
        let answers = programs.agree(&requests);
        let deep =
            answers.iter().filter(|answer| answer["encoding"].as_str().is_some_and(|hex| hex.len() > 200));
        assert!(deep.count() > TREES / 20, "COOKIE_SESSION_SEED={seed}");
    }
}
