//! No nonce and no new session id repeats: over many threads, and over processes that were forked from one that had
//! sealed before.
//!
//! `COOKIE_SESSION_SEALS` says how many times each test seals. By hand, in 32 s on two cores, with nothing repeated:
//!
//! ```sh
//! COOKIE_SESSION_SEALS=10000000 cargo test --release -p processes-tests --test nonces
//! ```

use processes_tests::Round;
use std::{
    io::Read as _,
    process::{Command, Stdio},
    thread,
};

const THREADS: usize = 16;
const CHILDREN: usize = 7;

fn rounds() -> usize {
    let seals = std::env::var("COOKIE_SESSION_SEALS").map_or(100_000, |text| text.parse().expect("a number"));
    seals / Round::NONCES
}

#[test]
fn no_nonce_and_no_session_id_repeats_across_threads() {
    let layer = processes_tests::layer().unwrap();
    let share = rounds() / THREADS;
    let rounds = thread::scope(|scope| {
        let seal = || (0..share).map(|_| Round::new(&layer)).collect::<Vec<_>>();
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(seal)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    nothing_repeats(rounds, THREADS * share);
}

#[test]
fn no_nonce_and_no_session_id_repeats_across_forked_processes() {
    let count = rounds();
    let mut parent = Command::new(env!("CARGO_BIN_EXE_forking"))
        .args([count.to_string(), CHILDREN.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // To the end: until the last of the processes has closed it.
    let mut pipe = parent.stdout.take().unwrap();
    let (mut rounds, mut bytes) = (Vec::new(), [0; Round::BYTES]);
    while pipe.read_exact(&mut bytes).is_ok() {
        rounds.push(Round::from_bytes(&bytes));
    }
    assert!(parent.wait().unwrap().success());
    nothing_repeats(rounds, count);
}

#[test]
fn a_process_that_is_forked_between_the_write_and_the_head_repeats_no_nonce() {
    let output = Command::new(env!("CARGO_BIN_EXE_midway")).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let mut nonces: Vec<&str> = text.lines().collect();
    assert_eq!(nonces.len(), 2, "parent and child: {text}");
    nonces.dedup();
    assert_eq!(nonces.len(), 2, "one nonce, two sessions: {text}");
}

fn nothing_repeats(rounds: Vec<Round>, expected: usize) {
    assert_eq!(rounds.len(), expected);
    let repeated = |mut all: Vec<&[u8]>| {
        all.sort_unstable();
        all.windows(2).filter(|pair| pair[0] == pair[1]).count()
    };
    let nonces = repeated(rounds.iter().flat_map(|round| &round.nonces).map(|nonce| &nonce[..]).collect());
    let ids = repeated(rounds.iter().flat_map(|round| &round.ids).map(|id| &id[..]).collect());
    assert_eq!((nonces, ids), (0, 0), "repeated nonces and ids of {expected} rounds");
}
