//! The vectors of the wire format's page: each opens to the class that it says, and is what sealing makes.
//!
//! They come from another construction than this crate's, so they check sealing as well as opening.

use cookie_session::{
    Incoming, Key, KeyRing, KeyRingHandle, Lifetime, Mode, RejectedKind, SessionBuilder, SessionLayer,
    SessionMap, internal,
};
use http::{HeaderMap, HeaderValue, header::COOKIE};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned, de::Error as _};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    num::NonZeroU64,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const PAGE: &str = include_str!("../src/docs/wire_format.md");

/// Every field that a file of cookies may have.
const FIELDS: [&str; 27] = [
    "expect", "key", "purpose", "name", "context", "mode", "accepts", "schema", "shape", "reads", "idle",
    "absolute", "max-own", "now", "marker", "refuses", "nonce", "flags", "form", "id", "created", "renewed",
    "issued", "own", "payload", "time", "comment",
];

struct Vector {
    /// The name from the folder on, without its end.
    name: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Vector {
    fn all(&self, field: &str) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(move |(key, _)| key == field).map(|(_, text)| text.as_str())
    }

    fn get(&self, field: &str) -> Option<&str> {
        self.all(field).next()
    }

    fn text(&self, field: &str) -> &str {
        self.get(field).unwrap_or_else(|| panic!("{}: no {field}", self.name))
    }

    fn number(&self, field: &str) -> u64 {
        self.text(field).parse().unwrap_or_else(|_| panic!("{}: {field} is no number", self.name))
    }

    fn bytes(&self, field: &str) -> Vec<u8> {
        unhex(self.text(field))
    }

    fn time(&self, field: &str) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.number(field))
    }

    fn is_header(&self) -> bool {
        self.name.starts_with("headers/")
    }

    /// A schema and a shape.
    fn form(text: &str) -> (u16, Vec<u8>) {
        let (schema, shape) = text.split_once(' ').expect("a schema and a shape");
        (schema.parse().expect("a schema"), unhex(shape))
    }
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2) && !text.contains(char::is_uppercase), "{text}");
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).expect("ASCII"), 16).expect("hexadecimal"))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All files below the folder.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the vectors") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

fn vectors() -> Vec<Vector> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut found = Vec::new();
    files(&root, &mut found);
    found.sort();
    let vectors = found.iter().filter(|path| !path.ends_with("vectors/README.md")).map(|path| {
        let name = path.strip_prefix(&root).expect("inside").to_str().expect("UTF-8").replace('\\', "/");
        let name = name.strip_suffix(".txt").unwrap_or_else(|| panic!("{name}: what is this?")).to_owned();
        read(name, fs::read(path).expect("readable"))
    });
    vectors.collect()
}

fn read(name: String, bytes: Vec<u8>) -> Vector {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n").expect("an empty line");
    let body = bytes[end + 2..].strip_suffix(b"\n").expect("a last line that ends").to_vec();
    let known: &[&str] = match name.split_once('/') {
        None | Some(("headers", _)) => &FIELDS,
        Some(("shape", _)) => &["type", "encoding", "shape", "comment"],
        Some((folder, _)) => panic!("{folder}: what is this?"),
    };
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in str::from_utf8(&bytes[..end]).expect("UTF-8").lines() {
        let (key, text) = line.split_once(": ").unwrap_or_else(|| panic!("{name}: {line}"));
        assert!(known.contains(&key), "{name}: {key} is unknown");
        let repeats = ["key", "reads"].contains(&key);
        assert!(repeats || fields.iter().all(|(earlier, _)| earlier != key), "{name}: {key} twice");
        fields.push((key.to_owned(), text.to_owned()));
    }
    Vector { name, fields, body }
}

fn cookies() -> impl Iterator<Item = Vector> {
    vectors().into_iter().filter(|vector| !vector.name.starts_with("shape/"))
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Shop {
    user: Option<u64>,
    cart: Vec<u32>,
}

/// An earlier form of [`Shop`].
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Cart {
    cart: Vec<u32>,
}

/// The types of the vectors.
trait Form: Default + Serialize + DeserializeOwned + Send + 'static {
    fn reads(builder: SessionBuilder<Self>, schema: u16) -> SessionBuilder<Self>;
    /// The payload in this form of one in an older form.
    fn converted(payload: &[u8]) -> Vec<u8>;
}

impl Form for Shop {
    fn reads(builder: SessionBuilder<Shop>, schema: u16) -> SessionBuilder<Shop> {
        builder.migrate_from(schema, |Cart { cart }| Shop { user: None, cart })
    }
    fn converted(payload: &[u8]) -> Vec<u8> {
        [&[0], payload].concat() // no user
    }
}

impl Form for () {
    fn reads(_: SessionBuilder<()>, _: u16) -> SessionBuilder<()> {
        panic!("nothing is older")
    }
    fn converted(_: &[u8]) -> Vec<u8> {
        panic!("nothing is older")
    }
}

fn mode(text: &str) -> Mode {
    match text {
        "encrypted" => Mode::Encrypted,
        "signed" => Mode::Signed,
        other => panic!("no mode is called {other}"),
    }
}

/// A key of the vectors, which no application may use.
fn published(key: &str) -> Key {
    assert!(key.parse::<Key>().is_err(), "{key} is printed here");
    internal::key(unhex(key).try_into().expect("32 octets"))
}

fn layer<T: Form>(vector: &Vector, keys: &[&str], writes: Mode) -> SessionLayer<T> {
    let mut keys = keys.iter().map(|key| published(key));
    let ring = KeyRing::new(keys.next().expect("a key"), keys).expect("different keys");
    let millis = |field| Duration::from_millis(vector.number(field));
    let schema = vector.number("schema").try_into().expect("a schema");
    let mut builder = SessionLayer::<T>::builder(ring)
        .name(vector.text("name"))
        .context(vector.get("context").unwrap_or_default())
        .mode(writes)
        .schema(schema)
        .idle_timeout(millis("idle"))
        .absolute_timeout(millis("absolute"))
        .max_own_lifetime(millis("max-own"));
    if let Some(accepts) = vector.get("accepts") {
        builder = builder.accept_mode(mode(accepts));
    }
    for (schema, shape) in vector.all("reads").map(Vector::form) {
        assert_eq!(internal::shape_encoding::<Cart>().expect("a shape").1.to_bytes()[..], shape);
        builder = T::reads(builder, schema);
    }
    if let Some(id) = vector.get("refuses").map(str::to_owned) {
        builder = builder.accept_if(move |meta, _| meta.id().to_string() != id);
    }
    let layer = builder.build().expect("good settings");
    assert_eq!(layer.shape().to_bytes()[..], vector.bytes("shape"), "{}", vector.name);
    layer
}

fn headers(vector: &Vector) -> HeaderMap {
    let name = vector.text("name").as_bytes();
    let mut headers = HeaderMap::new();
    let mut add = |header: &[u8]| {
        headers.append(COOKIE, HeaderValue::from_bytes(header).expect("a header"));
    };
    match vector.text("purpose") {
        _ if vector.is_header() => vector.body.split(|&byte| byte == b'\n').for_each(add),
        "session" => add(&[name, b"=", &vector.body].concat()),
        "sign-out" => add(&[name, b"-out=", &vector.body].concat()),
        other => panic!("no purpose is called {other}"),
    }
    if let Some(marker) = vector.get("marker") {
        let cookie = [name, b"-out=", marker.as_bytes()].concat();
        headers.append(COOKIE, HeaderValue::from_bytes(&cookie).expect("a header"));
    }
    headers
}

fn open<T: Form>(vector: &Vector) {
    let name = &vector.name;
    let keys: Vec<_> = vector.all("key").collect();
    let layer = layer::<T>(vector, &keys, mode(vector.text("mode")));
    let opened = layer.codec().open(&headers(vector), vector.time("now"));
    if vector.text("purpose") == "sign-out" {
        assert_eq!(vector.text("expect"), "accepted", "{name}: a marker that is not good has no class");
        assert_eq!(opened.marker(), Some(vector.time("time")), "{name}");
        return;
    }
    assert_eq!(opened.incoming().to_string(), vector.text("expect"), "{name}");
    if opened.incoming() != Incoming::Accepted {
        return;
    }
    let meta = opened.meta().expect("accepted");
    assert_eq!(hex(&meta.id().to_bytes()), vector.text("id"), "{name}");
    let times = [meta.created_at(), meta.renewed_at(), meta.issued_at()];
    assert_eq!(times, ["created", "renewed", "issued"].map(|field| vector.time(field)), "{name}");
    let lifetime = match (vector.text("flags"), vector.number("own")) {
        ("00", 0) => Lifetime::Timeouts,
        ("01", 0) => Lifetime::Browser,
        ("00", own) => Lifetime::Own(Duration::from_secs(own)),
        other => panic!("{name}: {other:?} is accepted"),
    };
    assert_eq!(meta.lifetime(), lifetime, "{name}");
    let (schema, _) = Vector::form(vector.text("form"));
    assert_eq!(meta.schema(), schema, "{name}");
    let payload = payload(vector);
    let expected = if schema == vector.number("schema") as u16 { payload } else { T::converted(&payload) };
    let encoded = |value: &T| postcard::to_extend(value, Vec::new()).expect("encoded");
    let value = encoded(opened.value().expect("accepted"));
    // One value may be written in more than one way; only one of them is what an encoder writes.
    assert_eq!(value, encoded(&postcard::from_bytes(&expected).expect("decoded")), "{name}");
    assert!(value == expected || name == "payload_number_with_zeros_behind", "{name}");
}

fn payload(vector: &Vector) -> Vec<u8> {
    match vector.text("payload") {
        "-" => Vec::new(),
        payload => unhex(payload),
    }
}

/// Whether it says what stands in the cookie.
fn seal<T: Form>(vector: &Vector) -> bool {
    let marker = vector.text("purpose") == "sign-out";
    let plaintext = if marker {
        vector.number("time").to_le_bytes().to_vec()
    } else if vector.get("form").is_some() {
        let (schema, shape) = Vector::form(vector.text("form"));
        let six = |field| vector.number(field).to_le_bytes()[..6].to_vec();
        let own = u32::try_from(vector.number("own")).expect("32 bits").to_le_bytes();
        [
            vector.bytes("flags"),
            schema.to_le_bytes().to_vec(),
            shape,
            vector.bytes("id"),
            six("created"),
            six("renewed"),
            six("issued"),
            own.to_vec(),
            payload(vector),
        ]
        .concat()
    } else {
        assert_ne!(vector.text("expect"), "accepted", "{}: what stands in it?", vector.name);
        return false;
    };
    // A nonce stands there if, and only if, the cookie is encrypted.
    let nonce = vector.get("nonce").map(unhex);
    let writes = if nonce.is_some() { Mode::Encrypted } else { Mode::Signed };
    let nonce = nonce.map_or([0; 24], |nonce| nonce.try_into().expect("24 octets"));
    let sealed = vector.all("key").map(|key| {
        let layer = layer::<T>(vector, &[key], writes);
        let seal = if marker { internal::seal_marker } else { internal::seal_session };
        seal(layer.codec(), &nonce, &plaintext).expect("sealed").into_bytes()
    });
    let matches = sealed.filter(|sealed| {
        if vector.is_header() {
            vector.body.windows(sealed.len()).any(|part| part == sealed)
        } else {
            vector.body == *sealed
        }
    });
    assert_eq!(matches.count(), 1, "{}: sealing makes another value", vector.name);
    true
}

/// Calls the function for the type whose shape the vector's reader has.
macro_rules! for_its_type {
    ($function:ident, $vector:expr) => {
        match $vector.text("shape") {
            "15966813" => $function::<Shop>($vector),
            "432e396c" => $function::<()>($vector),
            other => panic!("{}: no type here has the shape {other}", $vector.name),
        }
    };
}

#[test]
fn each_vector_opens_to_the_class_that_it_says() {
    for vector in cookies() {
        for_its_type!(open, &vector);
    }
}

#[test]
fn sealing_what_stands_in_a_vector_makes_its_value() {
    let (sealed, others): (Vec<_>, Vec<_>) = cookies().partition(|vector| for_its_type!(seal, vector));
    // Both suites, both purposes, and not only what is accepted.
    for (nonce, purpose) in [(true, "session"), (false, "session"), (true, "sign-out"), (false, "sign-out")] {
        let of =
            |vector: &Vector| vector.get("nonce").is_some() == nonce && vector.text("purpose") == purpose;
        assert!(sealed.iter().any(of), "{nonce} {purpose}");
    }
    assert!(sealed.iter().any(|vector| vector.text("expect") == "expired"));
    assert!(!others.is_empty());
}

/// The counters name each kind, in its order.
fn kinds() -> Vec<RejectedKind> {
    let key = Key::generate().expect("randomness");
    let handle = KeyRingHandle::new(KeyRing::new(key, []).expect("one key"));
    handle.counters().rejected.into_iter().map(|(kind, _)| kind).collect()
}

#[test]
fn the_classes_of_the_page_are_those_of_the_crate_in_their_order() {
    let section = PAGE.split("\n# Failure classes\n").nth(1).and_then(|rest| rest.split("\n# ").next());
    let rows =
        section.expect("the section").lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    let classes: Vec<_> = rows.map(|row| row.split('`').nth(1).expect("a class").to_owned()).collect();
    assert_eq!(classes, kinds().iter().map(RejectedKind::to_string).collect::<Vec<_>>());
}

#[test]
fn each_class_has_a_vector() {
    let has: BTreeSet<_> = cookies().map(|vector| vector.text("expect").to_owned()).collect();
    let mut all: BTreeSet<_> = kinds().iter().map(RejectedKind::to_string).collect();
    all.extend(["accepted".to_owned(), "absent".to_owned()]);
    assert_eq!(has, all);
}

#[test]
fn the_pages_example_is_the_first_vector_with_the_values_on_the_way_to_it() {
    let block =
        PAGE.rsplit("```text\n").next().and_then(|rest| rest.split("```").next()).expect("the example");
    let mut values: BTreeMap<&str, String> = BTreeMap::new();
    let mut name = "";
    for line in block.lines() {
        let (label, value) = line.split_at(11);
        name = if label.trim().is_empty() { name } else { label.trim() };
        values.entry(name).or_default().push_str(value);
    }
    let bytes = |name: &str| unhex(&values[name]);

    let vector = cookies().find(|vector| vector.name == "encrypted").expect("the first");
    assert_eq!(values["key"], vector.text("key"));
    assert_eq!(values["value"].as_bytes(), vector.body);
    assert_eq!(bytes("nonce"), vector.bytes("nonce"));

    let (prk, hkdf) = hkdf::Hkdf::<sha2::Sha256>::extract(None, &bytes("key"));
    assert_eq!(prk[..], bytes("PRK"));
    let mut seal_key = [0; 32];
    hkdf.expand(&bytes("info"), &mut seal_key).expect("32 octets");
    assert_eq!(seal_key[..], bytes("seal-key"));
    assert_eq!(values["key-id"], published(&values["key"]).id().to_string());

    let (suite, key_id, body) = internal::frame_parse(&vector.body).expect("a frame");
    assert_eq!([&[suite], &key_id[..], &body].concat(), bytes("frame"));
    let nonce = bytes("nonce").try_into().expect("24 octets");
    let sealed = internal::xaes_seal(&seal_key, &nonce, &[], &bytes("plaintext"));
    assert_eq!(sealed, body[24..]);
    use aes_gcm::{Aes256Gcm, KeyInit as _, aead::Aead as _};
    let derived: [u8; 32] = bytes("Kx").try_into().expect("32 octets");
    let rest: [u8; 12] = nonce[12..].try_into().expect("12 octets");
    let by_hand = Aes256Gcm::new(&derived.into()).encrypt(&rest.into(), &bytes("plaintext")[..]);
    assert_eq!(by_hand.expect("sealed"), sealed);
}

/// The encoding of a tree that is written as the page says.
fn encoding(tree: &str) -> Vec<u8> {
    fn number(number: usize) -> [u8; 4] {
        u32::try_from(number).expect("32 bits").to_le_bytes()
    }
    fn node(lines: &mut std::iter::Peekable<std::str::Lines<'_>>, depth: usize) -> Vec<u8> {
        let line = lines.next().expect("a line").trim_start();
        let (mut out, line) = match line.strip_prefix("refused ") {
            Some(line) => (vec![0xff], line),
            None => (Vec::new(), line),
        };
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        const LEAVES: [&str; 17] = [
            "unit", "bool", "i8", "i16", "i32", "i64", "i128", "u8", "u16", "u32", "u64", "u128", "f32",
            "f64", "char", "string", "bytes",
        ];
        out.push(match kind {
            "nothing" => 0x00,
            "back" => 0x1f,
            "option" => 0x20,
            "seq" => 0x21,
            "map" => 0x22,
            "tuple" => 0x23,
            "struct" => 0x24,
            "enum" => 0x25,
            "unit-variant" => 0x28,
            "newtype-variant" => 0x29,
            "tuple-variant" => 0x2a,
            "struct-variant" => 0x2b,
            leaf => 1 + LEAVES.iter().position(|name| *name == leaf).expect("a leaf") as u8,
        });
        match kind {
            "back" | "tuple" | "tuple-variant" => out.extend(number(rest.parse().expect("a number"))),
            "struct" | "enum" | "struct-variant" => {
                let names = serde_json::Deserializer::from_str(rest).into_iter::<String>();
                let names: Vec<_> = names.map(|name| name.expect("a JSON string")).collect();
                out.extend(number(names.len()));
                for name in names {
                    out.extend(number(name.len()));
                    out.extend(name.as_bytes());
                }
            }
            _ => assert!(rest.is_empty(), "{line}"),
        }
        let mut children = Vec::new();
        let indent = "  ".repeat(depth + 1);
        while lines.peek().is_some_and(|line| line.starts_with(&indent)) {
            children.push(node(lines, depth + 1));
        }
        out.extend(number(children.len()));
        out.extend(children.concat());
        out
    }
    let mut lines = tree.lines().peekable();
    let encoding = node(&mut lines, 0);
    assert_eq!(lines.next(), None, "a second root");
    encoding
}

#[allow(dead_code)] // Types for their shapes alone.
mod types {
    use super::*;

    #[derive(Deserialize)]
    pub struct Outer {
        inner: Inner,
        #[serde(rename = "größe")]
        size: char,
    }
    #[derive(Deserialize)]
    struct Inner {
        a: u8,
        b: bool,
    }
    #[derive(Deserialize)]
    pub enum All {
        Unit,
        New(u8),
        Tuple(u8, bool),
        Struct { a: u16 },
        NoTuple(),
        NoStruct {},
    }
    #[derive(Deserialize)]
    pub struct Many {
        maybe: Option<Option<u8>>,
        list: Vec<String>,
        map: BTreeMap<String, Vec<i8>>,
    }
    #[derive(Deserialize)]
    pub struct Three((u8, bool), [u16; 2], Pair);
    #[derive(Deserialize)]
    struct Pair(i32, f64);
    #[rustfmt::skip]
    #[derive(Deserialize)]
    pub struct Leaves(
        (), bool, i8, i16, i32, i64, i128, u8, u16, u32, u64, u128, f32, f64, char, String, Bytes,
    );
    struct Bytes;
    impl<'de> Deserialize<'de> for Bytes {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
            struct Any;
            impl serde::de::Visitor<'_> for Any {
                type Value = Bytes;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("bytes")
                }
                fn visit_bytes<E>(self, _: &[u8]) -> Result<Bytes, E> {
                    Ok(Bytes)
                }
            }
            deserializer.deserialize_bytes(Any)
        }
    }
    #[derive(Deserialize)]
    pub enum Expr {
        Add(Box<Expr>, Box<Expr>, u8),
        Lit(i64),
    }
    #[derive(Deserialize)]
    pub struct List {
        value: u8,
        next: Option<Box<List>>,
        last: bool,
    }
    #[derive(Deserialize)]
    pub struct A {
        b: Option<Box<B>>,
    }
    #[derive(Deserialize)]
    struct B {
        a: Vec<A>,
        c: Option<Box<B>>,
        d: u8,
    }
    pub struct Never;
    impl<'de> Deserialize<'de> for Never {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Never, D::Error> {
            u64::deserialize(deserializer)?;
            Err(D::Error::custom("never"))
        }
    }
    #[derive(Deserialize)]
    pub struct Refused {
        a: u8,
        never: Never,
        b: u8,
    }
    #[derive(Deserialize)]
    pub struct Maybe {
        never: Option<Never>,
        b: u8,
    }
    #[derive(Deserialize)]
    pub enum Void {}
    #[derive(Deserialize)]
    pub enum Skips {
        One(u8),
        Two(Never, u8),
        Three,
    }
    #[derive(Deserialize)]
    pub struct Unit;
    #[derive(Deserialize)]
    pub struct Id(u64);
    #[derive(Deserialize)]
    pub struct Ids {
        first: Id,
        all: Vec<Id>,
    }
    #[derive(Deserialize)]
    pub struct Picky {
        count: NonZeroU64,
        #[serde(skip)]
        cache: u8,
        mode: Mode,
    }
    #[derive(Deserialize)]
    enum Mode {
        On,
        Off,
    }
}

#[test]
fn each_shape_vector_is_the_tree_the_encoding_and_the_hash_of_its_type() {
    let mut types: BTreeMap<&str, Option<(Vec<u8>, cookie_session::Shape)>> = BTreeMap::from([
        ("struct_of_two", internal::shape_encoding::<Shop>()),
        ("nested", internal::shape_encoding::<types::Outer>()),
        ("enum_of_all_kinds", internal::shape_encoding::<types::All>()),
        ("option_seq_map", internal::shape_encoding::<types::Many>()),
        ("tuples", internal::shape_encoding::<types::Three>()),
        ("leaves", internal::shape_encoding::<types::Leaves>()),
        ("recursive_enum", internal::shape_encoding::<types::Expr>()),
        ("recursive_struct", internal::shape_encoding::<types::List>()),
        ("recursive_by_two", internal::shape_encoding::<types::A>()),
        ("refused", internal::shape_encoding::<types::Refused>()),
        ("refused_in_option", internal::shape_encoding::<types::Maybe>()),
        ("empty_enum", internal::shape_encoding::<Option<types::Void>>()),
        ("variant_not_reached", internal::shape_encoding::<types::Skips>()),
        ("unit_struct", internal::shape_encoding::<types::Unit>()),
        ("newtype_struct", internal::shape_encoding::<types::Id>()),
        ("newtype_in_struct", internal::shape_encoding::<types::Ids>()),
        ("only_some_values", internal::shape_encoding::<types::Picky>()),
        ("session_map", internal::shape_encoding::<SessionMap>()),
    ]);
    for vector in vectors() {
        let Some(name) = vector.name.strip_prefix("shape/") else { continue };
        let traced = types.remove(name).unwrap_or_else(|| panic!("{name}: no type here belongs to it"));
        let (traced, shape) = traced.expect("a type that postcard can read");
        let tree = str::from_utf8(&vector.body).expect("UTF-8");
        assert_eq!(hex(&encoding(tree)), vector.text("encoding"), "{name}");
        assert_eq!(hex(&traced), vector.text("encoding"), "{name}");
        assert_eq!(hex(&shape.to_bytes()), vector.text("shape"), "{name}");
    }
    assert!(types.is_empty(), "no vectors for {:?}", types.keys());
}
