//! The real cookie-session, in Node.

use crate::Settings;
use interop_tests::{Program, node};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const INSTALL: &str = "run `npm ci` in tests/migration/node";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("node")
}

fn package(file: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

/// What does not stand there as `package.json` asks for it.
fn missing() -> Option<String> {
    let asked = package(&folder().join("package.json")).expect("package.json");
    let asked = asked["dependencies"].as_object().expect("dependencies");
    let there = |name: &str| package(&folder().join("node_modules").join(name).join("package.json"));
    asked.iter().find_map(|(name, version)| {
        let missing = there(name).is_none_or(|package| package["version"] != *version);
        missing.then(|| format!("{name} {}", version.as_str().unwrap_or("")))
    })
}

fn program(script: &str, argument: Option<String>) -> Program {
    node().is_there().unwrap_or_else(|missing| panic!("{missing}"));
    if let Some(missing) = missing() {
        panic!("{missing} is not there: {INSTALL}");
    }
    let mut command = Command::new(node().interpreter);
    command.arg(folder().join(script)).args(argument).env("NODE_ENV", "production");
    Program::start(script, command)
}

/// What says of cookies what cookie-session makes of them.
///
/// # Panics
///
/// If Node or its packages are not there.
pub fn judge() -> Program {
    program("judge.mjs", None)
}

/// An Express app with the routes of [`Ours`](crate::Ours); it ends with this value.
pub struct Express {
    pub port: u16,
    _program: Program,
}

impl Express {
    /// # Panics
    ///
    /// If Node or its packages are not there.
    pub fn start(settings: &Settings) -> Express {
        let mut program = program("server.mjs", Some(settings.json().to_string()));
        Express { port: program.says().parse().expect("a port"), _program: program }
    }
}
