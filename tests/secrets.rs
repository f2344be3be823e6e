//! A key at a wrong place never reaches an error, nor the `Debug` of settings.

#[path = "common/fields.rs"]
mod fields;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};
use config::{Config, Environment, File, FileFormat};
use cookie_session::{Identity, Key, KeyRing, SessionBuilder, SessionConfig, SessionLayer};
use fields::{FIELDS, IDENTITY_FIELDS, KEY_FIELDS};
use proptest::prelude::*;
use serde::{
    Deserialize,
    de::value::{
        self, BytesDeserializer, CharDeserializer, F64Deserializer, I128Deserializer, UnitDeserializer,
    },
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    error::Error,
    ffi::OsString,
    path::PathBuf,
    process::{Command, Stdio},
    sync::LazyLock,
};

/// A key whose base64 has characters of both alphabets.
const KEY: &str = "j+84Zx/6pRk0mD7uVbQ3sTyHc1NwLf9GaXi5EeO2KqY=";
/// A key whose hexadecimal digits are all decimal.
const DIGITS: &str = "1029384756473829108264519037281946507382916455463728190192837465";
const OTHER: &str = "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How people write a key, and what stands around it when it is pasted.
fn spellings() -> Vec<String> {
    let bytes = STANDARD.decode(KEY).unwrap();
    let mut spellings = vec![
        KEY.to_owned(),
        STANDARD_NO_PAD.encode(&bytes),
        URL_SAFE.encode(&bytes),
        URL_SAFE_NO_PAD.encode(&bytes),
        hex(&bytes),
        hex(&bytes).to_uppercase(),
        DIGITS.to_owned(),
    ];
    for key in [KEY.to_owned(), hex(&bytes)] {
        spellings.extend([
            format!("{key}\n"),
            format!(" {key} "),
            format!("\"{key}\""),
            format!("SESSION_KEY={key}"),
            format!("base64:{key}"),
            format!("/{key}"),
            format!("{key};"),
            format!("{key}x"),
            key[1..].to_owned(),
            key[..key.len() - 2].to_owned(),
            format!("{key},{key}"),
            format!("{OTHER}\n{key}"),
        ]);
    }
    // In groups, and broken over lines.
    let grouped = |key: &str, size: usize, between: &str| {
        let groups: Vec<_> =
            key.as_bytes().chunks(size).map(|group| str::from_utf8(group).unwrap()).collect();
        groups.join(between)
    };
    spellings.extend([
        grouped(&hex(&bytes), 2, ":"),
        grouped(&hex(&bytes), 8, " "),
        grouped(KEY, 22, "\n"),
        grouped(KEY, 4, " "),
    ]);
    spellings
}

/// Every piece of twelve characters of the keys of the tests, as base64 and as hexadecimal, without
/// regard to case: loaders change that of names.
static PIECES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let bytes = STANDARD.decode(KEY).unwrap();
    let secrets =
        [STANDARD.encode(&bytes), URL_SAFE.encode(&bytes), hex(&bytes), DIGITS.to_owned(), OTHER.to_owned()];
    let pieces = |secret: &String| -> Vec<String> {
        (0..=secret.len() - 12).map(|at| secret[at..at + 12].to_lowercase()).collect()
    };
    secrets.iter().flat_map(pieces).collect()
});

fn assert_keeps_secret(text: &str, what: &dyn std::fmt::Debug) {
    let text = text.to_lowercase();
    let joined: String =
        text.replace("\\n", "").chars().filter(|c| !c.is_whitespace() && *c != ':').collect();
    let piece = PIECES.iter().find(|piece| text.contains(piece.as_str()) || joined.contains(piece.as_str()));
    assert!(piece.is_none(), "{piece:?} of the key in {text}\nwith {what:?}");
}

/// All that an error shows, with all of its sources.
fn all_of(error: &dyn Error) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        text += &format!("{error}\n{error:?}\n");
        next = error.source();
    }
    text
}

/// Builds, and looks at all that the error shows; whether it built.
fn build(builder: SessionBuilder<String>, what: &dyn std::fmt::Debug) -> bool {
    match builder.build() {
        Ok(_) => true,
        Err(error) => {
            let text = all_of(&error);
            assert!(!text.is_empty());
            assert_keeps_secret(&text, what);
            false
        }
    }
}

fn check(config: SessionConfig, what: &dyn std::fmt::Debug) -> bool {
    assert_keeps_secret(&format!("{config:?}\n{config:#?}"), what);
    build(SessionLayer::from_config(config), what)
}

/// The value in each format that can hold it, by each loader; deserialising must succeed in all.
fn check_everywhere(value: &Value) {
    let expected = check(serde_json::from_value(value.clone()).expect("JSON that parsed"), value);
    let text = value.to_string();
    assert_eq!(check(serde_json::from_str(&text).expect("JSON that parsed"), value), expected);
    if !value.is_object() {
        return;
    }
    let config = Config::builder().add_source(File::from_str(&text, FileFormat::Json)).build();
    if let Ok(config) = config {
        check(config.try_deserialize().expect("what the loader has read"), value);
    }
    if let Ok(toml) = toml::to_string(value) {
        assert_eq!(check(toml::from_str(&toml).expect("TOML that parsed"), value), expected);
        let config = Config::builder().add_source(File::from_str(&toml, FileFormat::Toml)).build();
        if let Ok(config) = config {
            check(config.try_deserialize().expect("what the loader has read"), value);
        }
    }
    let mut variables = HashMap::new();
    flatten("APP", value, &mut variables);
    for parse in [false, true] {
        let environment = Environment::with_prefix("APP")
            .prefix_separator("__")
            .separator("__")
            .try_parsing(parse)
            .source(Some(variables.clone()));
        if let Ok(config) = Config::builder().add_source(environment).build() {
            check(config.try_deserialize().expect("what the loader has read"), value);
        }
    }
}

/// Variables as a shell would have them: `APP__KEYS__PRIMARY`.
fn flatten(at: &str, value: &Value, variables: &mut HashMap<String, String>) {
    match value {
        Value::Object(table) => {
            for (name, value) in table {
                flatten(&format!("{at}__{name}"), value, variables);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                flatten(&format!("{at}__{index}"), value, variables);
            }
        }
        Value::String(text) => drop(variables.insert(at.to_owned(), text.clone())),
        // Nobody has a rounded key.
        Value::Number(number) if number.is_f64() => {}
        other => drop(variables.insert(at.to_owned(), other.to_string())),
    }
}

/// The key as a value, in everything that it can be wrapped in.
fn wrapped(key: &str) -> Vec<Value> {
    let mut values = vec![
        json!(key),
        json!([key]),
        json!([[key]]),
        json!([key, key]),
        json!([{ "key": key }]),
        json!({ "key": key }),
        json!({ key: key }),
        json!({ key: true }),
        json!({ key: { key: [key] } }),
        json!([{ key: key }, 5]),
    ];
    if key == DIGITS {
        values.push(serde_json::from_str(key).unwrap());
    }
    values
}

/// A key, and these values that hold it, at every wrong place.
fn misplaced(key: &str, values: Vec<Value>) -> Vec<Value> {
    let mut configs = Vec::new();
    for value in values {
        configs.push(value.clone());
        configs.push(json!({ key: value }));
        for field in FIELDS {
            configs.push(json!({ field: value }));
        }
        for field in KEY_FIELDS {
            configs.push(json!({ "keys": { field: value } }));
            // A level too high, a level too low, under a misspelt name.
            configs.push(json!({ field: value }));
            configs.push(json!({ "keys": { "keys": { field: value } } }));
            configs.push(json!({ "session": { "keys": { field: value } } }));
            configs.push(json!({ "key": { field: value } }));
            configs.push(json!({ "keys": [{ field: value }] }));
            configs.push(json!({ format!("keys.{field}"): value }));
        }
        for name in ["primry", "secret", "key", ""] {
            configs.push(json!({ "keys": { name: value } }));
            configs.push(json!({ name: value }));
        }
        configs.push(json!({ "keys": { key: value } }));
        for field in IDENTITY_FIELDS {
            configs.push(json!({ "formerly": [{ field: value }] }));
            configs.push(json!({ "formerly": { field: value } }));
        }
        configs.push(json!({ "formerly": [{ key: value }] }));
        configs.push(json!({ "formerly": [value] }));
    }
    configs
}

#[test]
fn a_key_at_any_wrong_place_stays_out_of_every_error_in_every_format() {
    for key in [KEY, DIGITS] {
        for config in misplaced(key, wrapped(key)) {
            check_everywhere(&config);
        }
    }
}

#[test]
fn a_key_at_any_wrong_place_stays_out_of_every_error_however_it_is_written() {
    for key in spellings() {
        for config in misplaced(&key, vec![json!(key), json!({ &key: true })]) {
            check(serde_json::from_value(config.clone()).unwrap(), &config);
        }
    }
}

#[test]
fn a_key_at_its_right_place_stays_out_of_errors_about_other_things() {
    let faults = [
        json!({ "name": "a b" }),
        json!({ "nmae": "id" }),
        json!({ "idle_timeout": 5 }),
        json!({ "domain": "a;b", "name": "id", "path": "x", "max_set_cookie": 1_000_000 }),
        json!({ "formerly": [{ "name": "a b" }, {}] }),
        json!({ "max_set_cookie": 100 }),
    ];
    for fault in faults {
        for keys in [
            json!({ "primary": KEY }),
            json!({ "primary": DIGITS, "fallbacks": [KEY, OTHER] }),
            json!({ "primary": OTHER, "fallbacks": format!("{KEY},{DIGITS}") }),
            json!({ "primary": OTHER, "fallbacks": [KEY], "primary_file": KEY, "fallbacks_file": KEY }),
        ] {
            let mut config = fault.clone();
            config["keys"] = keys;
            assert!(!check(serde_json::from_value(config.clone()).unwrap(), &config), "{config}");
            check_everywhere(&config);
        }
    }
}

#[test]
fn keys_that_are_refused_stay_out_of_the_refusal() {
    let good = STANDARD.decode(KEY).unwrap();
    let same_twice = json!({ "primary": KEY, "fallbacks": [hex(&good)] });
    let mut refused = vec![same_twice];
    for broken in [
        &KEY[1..],
        &KEY[..40],
        &format!("{KEY}A"),
        &format!("{KEY} {OTHER}"),
        &format!("{KEY}{OTHER}"),
        "",
        " ",
    ] {
        refused.push(json!({ "primary": broken }));
        refused.push(json!({ "primary": OTHER, "fallbacks": [broken, KEY, DIGITS, KEY] }));
        // As a file's path.
        refused.push(json!({ "primary_file": broken }));
        refused.push(json!({ "primary": OTHER, "fallbacks_file": broken }));
    }
    for keys in refused {
        let config = json!({ "keys": keys });
        assert!(!check(serde_json::from_value(config.clone()).unwrap(), &config), "{config}");
        check_everywhere(&config);
    }
}

/// The key at each of the builder's setters.
fn misplaced_by_code(key: &str) -> Vec<SessionBuilder<String>> {
    let ring = KeyRing::new(OTHER.parse().unwrap(), []).unwrap();
    let new = || SessionLayer::<String>::builder(ring.clone());
    vec![
        new().name(key),
        new().name(format!("{key} ")),
        new().name(key).insecure_for_local_http(),
        new().context(key).name(""),
        new().domain(key),
        new().name("id").domain(key),
        new().name("id").domain(format!("{key}.")),
        new().path(key),
        new().path(format!("/{key}")),
        new().name("id").path(format!("{key};")),
        new().name("id").path(key).domain(key),
        new().formerly(Identity::named(key)).formerly(Identity::named(key)),
        new().formerly(Identity::named(key).domain(key).path(key)),
        new().formerly(Identity::current().domain(key)),
        new().name(key).formerly(Identity::current()),
    ]
}

#[test]
fn a_key_given_to_the_builders_setters_stays_out_of_their_errors() {
    for key in spellings() {
        for (nth, builder) in misplaced_by_code(&key).into_iter().enumerate() {
            build(builder, &(nth, &key));
        }
    }
}

#[test]
fn the_debug_of_settings_does_not_show_a_key_at_a_wrong_place() {
    for key in spellings() {
        for builder in misplaced_by_code(&key) {
            assert_keeps_secret(&format!("{builder:?}\n{builder:#?}"), &key);
        }
        for field in FIELDS {
            let config: SessionConfig = serde_json::from_value(json!({ field: key })).unwrap();
            let builder = SessionLayer::<String>::from_config(config);
            assert_keeps_secret(&format!("{builder:?}\n{builder:#?}"), &key);
        }
    }
}

#[test]
fn what_toml_has_beyond_json_is_a_fault_of_a_field_and_not_of_the_format() {
    for (value, field) in [
        ("1979-05-27T07:32:00Z", "idle_timeout"),
        ("1979-05-27", "name"),
        ("07:32:00", "max_set_cookie"),
        ("inf", "max_set_cookie"),
        ("nan", "path"),
        ("0xdeadbeef", "mode"),
    ] {
        let toml = format!("{field} = {value}\n[keys]\nprimary = \"{KEY}\"");
        let config: SessionConfig = toml::from_str(&toml).expect("TOML that parsed");
        let error = SessionLayer::<String>::from_config(config).build().unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
        assert_keeps_secret(&all_of(&error), &toml);
    }
}

#[test]
fn what_no_configuration_holds_deserialises_as_well() {
    type Failure = value::Error;
    let bytes = STANDARD.decode(KEY).unwrap();
    let configs = [
        SessionConfig::deserialize(BytesDeserializer::<Failure>::new(&bytes)),
        SessionConfig::deserialize(BytesDeserializer::<Failure>::new(KEY.as_bytes())),
        SessionConfig::deserialize(CharDeserializer::<Failure>::new('k')),
        SessionConfig::deserialize(I128Deserializer::<Failure>::new(i128::MIN)),
        SessionConfig::deserialize(value::U128Deserializer::<Failure>::new(u128::MAX)),
        SessionConfig::deserialize(value::I64Deserializer::<Failure>::new(-1)),
        SessionConfig::deserialize(F64Deserializer::<Failure>::new(f64::NAN)),
        SessionConfig::deserialize(UnitDeserializer::<Failure>::new()),
        SessionConfig::deserialize(value::StrDeserializer::<Failure>::new(KEY)),
        SessionConfig::deserialize(value::BorrowedBytesDeserializer::<Failure>::new(KEY.as_bytes())),
    ];
    for config in configs {
        let config = config.expect("it never fails");
        assert!(!check(config, &"a value of its own"));
    }
}

#[test]
fn keys_and_rings_show_ids_alone() {
    let ring = KeyRing::new(KEY.parse().unwrap(), [DIGITS.parse().unwrap(), OTHER.parse().unwrap()]).unwrap();
    let layer = SessionLayer::<String>::builder(ring.clone()).build().unwrap();
    let debug = format!(
        "{ring:?} {ring:#?} {layer:?} {:?} {:?} {:?}",
        layer.keys(),
        layer.codec(),
        KEY.parse::<Key>()
    );
    assert!(debug.contains(&KEY.parse::<Key>().unwrap().id().to_string()));
    assert_keeps_secret(&debug, &"");
}

/// Every piece of twelve characters of what came in, unless the refusal of something else has it too.
fn assert_not_quoted(input: &str, error: &dyn Error) {
    let text = all_of(error);
    let other = all_of(&"?".parse::<Key>().unwrap_err());
    let characters: Vec<char> = input.chars().collect();
    for piece in characters.windows(12).map(|piece| piece.iter().collect::<String>()) {
        assert!(!text.contains(&piece) || other.contains(&piece), "{piece:?} of {input:?} in {text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_refusal_of_a_key_quotes_nothing_of_it(
        text in "[A-Za-z0-9+/=_ -]{0,100}|[0-9a-f]{60,70}|\\PC{0,60}",
    ) {
        if let Err(error) = text.parse::<Key>() {
            assert_not_quoted(&text, &error);
        }
    }

    #[test]
    fn the_refusal_of_a_key_with_a_slip_in_it_quotes_nothing_of_it(
        at in 0..43_usize, slip in "\\PC|", insert in any::<bool>(),
    ) {
        let text = format!("{}{slip}{}", &KEY[..at], &KEY[at + usize::from(!insert)..]);
        if let Err(error) = text.parse::<Key>() {
            assert_keeps_secret(&all_of(&error), &text);
            assert_not_quoted(&text, &error);
        }
    }
}

/// Names that mean something, names that do not, and the key.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => proptest::sample::select(&FIELDS[..]).prop_map(str::to_owned),
        4 => proptest::sample::select(&KEY_FIELDS[..]).prop_map(str::to_owned),
        2 => proptest::sample::select(spellings()),
        1 => "[a-z_]{0,8}",
    ]
}

fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        4 => proptest::sample::select(spellings()).prop_map(Value::from),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<u64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => "\\PC{0,8}".prop_map(Value::from),
        2 => proptest::sample::select(vec!["30m", "lax", "signed", "true", "4093", "/", "id", "example.com"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            1 => proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            3 => proptest::collection::vec((name(), inner), 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_parses_deserialises_and_no_error_holds_the_key(value in tree()) {
        check_everywhere(&value);
    }

    #[test]
    fn a_tree_at_any_field_deserialises_and_no_error_holds_the_key(
        field in proptest::sample::select(&FIELDS[..]), inner in proptest::sample::select(&KEY_FIELDS[..]), value in tree(),
    ) {
        check_everywhere(&json!({ field: value }));
        check_everywhere(&json!({ "keys": { inner: value } }));
    }
}

mod environment {
    use super::*;

    const VAR: &str = "SECRET_OF_THE_TEST";
    const CHILD: &str = "environment::child_that_prints_its_error";

    /// Not a test of its own: the other one runs it in a process that has the environment it wants.
    #[test]
    #[ignore = "run by another test, with an environment of its making"]
    fn child_that_prints_its_error() {
        match KeyRing::from_env(VAR) {
            Ok(ring) => println!("\nring {ring:?}"),
            Err(error) => println!("\nerror\n{}", all_of(&error)),
        }
    }

    #[test]
    fn no_error_about_the_environment_holds_what_stands_there() {
        let folder =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("secrets-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = |name: &str, content: &str| -> OsString {
            let path = folder.join(name);
            std::fs::write(&path, content).unwrap();
            path.into()
        };
        let text = |text: &str| OsString::from(text);
        let mut cases: Vec<Vec<(&str, OsString)>> = vec![
            // Where a path should be.
            vec![("_FILE", text(KEY))],
            vec![("_FILE", text(DIGITS))],
            vec![("", text(OTHER)), ("_FALLBACKS_FILE", text(KEY))],
            // Both forms.
            vec![("", text(KEY)), ("_FILE", text(KEY))],
            vec![("", text(OTHER)), ("_FALLBACKS", text(KEY)), ("_FALLBACKS_FILE", text(KEY))],
            // A folder named like a key, and one that is not there.
            vec![("_FILE", folder.clone().into())],
            vec![("_FILE", folder.join(KEY).into())],
            // Twice.
            vec![("", text(KEY)), ("_FALLBACKS", text(KEY))],
            vec![("", text(OTHER)), ("_FALLBACKS", text(&format!("{KEY},{DIGITS},{KEY}")))],
            // No primary.
            vec![("_FALLBACKS", text(KEY))],
        ];
        for broken in [
            &KEY[1..],
            &KEY[..40],
            &format!("{KEY}A"),
            &format!("{KEY} {OTHER}"),
            &format!("\"{KEY}\""),
            &format!("export X={KEY}"),
        ] {
            cases.push(vec![("", text(broken))]);
            cases.push(vec![("_FILE", file("broken", broken))]);
            cases.push(vec![("", text(OTHER)), ("_FALLBACKS", text(&format!("{DIGITS},{broken}")))]);
            cases.push(vec![
                ("", text(OTHER)),
                ("_FALLBACKS_FILE", file("list", &format!("{DIGITS}\n{broken}"))),
            ]);
        }
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStringExt as _;
            let broken = || OsString::from_vec([KEY.as_bytes(), b"\xff"].concat());
            cases.push(vec![("", broken())]);
            cases.push(vec![("_FILE", broken())]);
            cases.push(vec![("", text(OTHER)), ("_FALLBACKS", broken())]);
        }
        for variables in cases {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", CHILD, "--ignored", "--nocapture"]).stdin(Stdio::null());
            for (suffix, value) in &variables {
                command.env(format!("{VAR}{suffix}"), value);
            }
            let output = command.output().unwrap();
            let stdout = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success() && stdout.contains("\nerror\n"), "{variables:?}: {stdout}");
            assert_keeps_secret(&stdout, &variables);
            assert_keeps_secret(&String::from_utf8_lossy(&output.stderr), &variables);
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
