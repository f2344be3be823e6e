//! The fuzz targets over their seeds, on stable: what was found once stays found.
//!
//! Those of `import` run with the features that import: `cargo test --all-features --test corpora`.
//!
//! `fuzz/corpus`, where cargo-fuzz keeps what it has found on this machine, is run too if it is there.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// A module for each target, and a test that runs its files.
macro_rules! targets {
    ($($(#[$when:meta])? $name:ident at $path:literal,)*) => {
        $(
            $(#[$when])?
            #[path = $path]
            mod $name;
        )*

        const TARGETS: &[&str] = &[$(stringify!($name)),*];

        mod seeds_hold {
            $(
                $(#[$when])?
                #[test]
                fn $name() {
                    super::run_all(stringify!($name), super::$name::run);
                }
            )*
        }
    };
}

targets! {
    config at "../fuzz/src/config.rs",
    cookie_header at "../fuzz/src/cookie_header.rs",
    frame at "../fuzz/src/frame.rs",
    #[cfg(all(feature = "express", feature = "jar"))]
    import at "../fuzz/src/import.rs",
    layer at "../fuzz/src/layer.rs",
    open at "../fuzz/src/open.rs",
    roundtrip at "../fuzz/src/roundtrip.rs",
}

fn run_all(target: &str, run: fn(&[u8])) {
    let seeds = files(&fuzz("seeds").join(target));
    assert!(!seeds.is_empty(), "no seeds for {target}");
    for file in seeds.into_iter().chain(files(&fuzz("corpus").join(target))) {
        let data = fs::read(&file).expect("a file");
        if let Err(panic) = std::panic::catch_unwind(|| run(&data)) {
            eprintln!("with {}", file.display());
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn every_target_is_everywhere() {
    let listed: BTreeSet<String> = TARGETS.iter().map(|name| (*name).to_owned()).collect();
    let stems = |folder| files(&fuzz(folder)).iter().map(|file| name(&file.with_extension(""))).collect();
    let bodies: BTreeSet<String> = stems("src");
    assert_eq!(bodies, listed, "fuzz/src");
    let harnesses: BTreeSet<String> = stems("fuzz_targets");
    assert_eq!(harnesses, listed, "fuzz/fuzz_targets");
    let folders: BTreeSet<String> = entries(&fuzz("seeds")).iter().map(|folder| name(folder)).collect();
    assert_eq!(folders, listed, "fuzz/seeds");

    let manifest = fs::read_to_string(fuzz("Cargo.toml")).expect("a manifest");
    let manifest: toml::Table = manifest.parse().expect("TOML");
    let bins: BTreeSet<String> = manifest["bin"]
        .as_array()
        .expect("[[bin]]")
        .iter()
        .map(|bin| {
            let name = bin["name"].as_str().expect("a name");
            assert_eq!(bin["path"].as_str(), Some(format!("fuzz_targets/{name}.rs").as_str()));
            let harness =
                fs::read_to_string(fuzz("fuzz_targets").join(format!("{name}.rs"))).expect("a file");
            assert!(harness.contains(&format!("\"../src/{name}.rs\"")), "{name}'s harness runs another body");
            name.to_owned()
        })
        .collect();
    assert_eq!(bins, listed, "fuzz/Cargo.toml");
}

fn fuzz(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder)
}

fn name(path: &Path) -> String {
    path.file_name().and_then(|name| name.to_str()).expect("a name in UTF-8").to_owned()
}

/// What is in a folder, in order; nothing, if there is no such folder.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    entries
}

fn files(folder: &Path) -> Vec<PathBuf> {
    entries(folder).into_iter().filter(|path| path.is_file()).collect()
}

/// The wire format's vectors are seeds too, as `vector_` and their name.
#[test]
fn every_vector_is_a_seed() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut expected = BTreeSet::new();
    let mut check = |target: &str, vector: &Path, seed: Vec<u8>| {
        let path = fuzz("seeds").join(target).join(format!("vector_{}", name(&vector.with_extension(""))));
        assert_eq!(fs::read(&path).ok().as_ref(), Some(&seed), "{}", path.display());
        expected.insert(path);
    };
    for vector in files(&vectors).iter().filter(|path| path.extension().is_some_and(|it| it == "txt")) {
        let (fields, value) = parts(vector);
        // The first byte is the target's: how it is sealed, and the type of the session.
        let mode = if fields.contains("\nmode: signed\n") { b"1" } else { b"0" };
        check("open", vector, [&mode[..], &value].concat());
        check("frame", vector, value);
    }
    for vector in files(&vectors.join("headers")) {
        let (fields, headers) = parts(&vector);
        let name = fields.lines().find_map(|field| field.strip_prefix("name: ")).expect("a name");
        check("cookie_header", &vector, [name.as_bytes(), b"\n", &headers].concat());
    }
    let seeds = TARGETS.iter().flat_map(|target| files(&fuzz("seeds").join(target)));
    let there: BTreeSet<PathBuf> = seeds.filter(|path| name(path).starts_with("vector_")).collect();
    assert_eq!(there, expected);
}

/// A vector's fields and body.
fn parts(vector: &Path) -> (String, Vec<u8>) {
    let bytes = fs::read(vector).expect("a file");
    let end = bytes.windows(2).position(|pair| pair == b"\n\n").expect("an empty line") + 1;
    let fields = str::from_utf8(&bytes[..end]).expect("UTF-8").to_owned();
    let body = bytes[end + 1..].strip_suffix(b"\n").expect("a line end").to_vec();
    (fields, body)
}
