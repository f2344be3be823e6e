//! What the tests are made of: real clients, and a server whose application can be replaced.
//!
//! A missing part is a failure with a sentence that says what to install, never a skipped test.

mod browser;
mod curl;
mod server;

pub use browser::{Browser, StoredCookie};
pub use curl::{Curl, JarCookie};
pub use server::{Exchange, Gate, Gates, Server};

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{self, Child, Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

/// How long anything may take that the tests wait for. Nothing takes so long unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What a client got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub body: String,
}

impl Reply {
    /// The body of a 200.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        self.body
    }
}

/// Starts a program that must be on the machine.
#[track_caller]
pub fn spawn(command: &mut Command, install: &str) -> Child {
    command.spawn().unwrap_or_else(|error| missing(command, install, &error))
}

/// Runs a program that must be on the machine.
#[track_caller]
pub fn output(command: &mut Command, install: &str) -> Output {
    command.output().unwrap_or_else(|error| missing(command, install, &error))
}

#[track_caller]
fn missing(command: &Command, install: &str, error: &io::Error) -> ! {
    let program = command.get_program().to_string_lossy();
    panic!("cannot start `{program}`: {error}; these tests need it: {install}")
}

/// Waits for a condition, for a bounded time.
#[track_caller]
pub fn wait_for<R>(what: &str, mut condition: impl FnMut() -> Option<R>) -> R {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(result) = condition() {
            return result;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A fresh folder, removed on drop.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> TempDir {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            // Short: a socket's path inside has at most 107 bytes.
            let path = std::env::temp_dir().join(format!("cookie-session-{}-{number}", process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return TempDir(path),
                // Left behind by another process that had this id.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => panic!("no temporary folder at {}: {error}", path.display()),
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for TempDir {
    fn default() -> Self {
        TempDir::new()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A browser that is on its way out may still write a file or two.
        for _ in 0..100 {
            match fs::remove_dir_all(&self.0) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    thread::sleep(Duration::from_millis(20))
                }
                _ => return,
            }
        }
    }
}
