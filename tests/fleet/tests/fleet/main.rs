//! A fleet of three servers, each a process of its own, and browsers that meet now one and now another.

#![forbid(unsafe_code)]

mod broken;
mod clocks;
mod jar;
mod parallel;
mod restart;
mod sign_out;
mod stages;

use fleet_tests::Fleet;

const SERVER: &str = env!("CARGO_BIN_EXE_fleet-server");
const NAME: &str = "__Host-Http-session";
const ACCEPTED: &str = "Accepted";
const ABSENT: &str = "Absent";
const SIGNED_OUT: &str = "Rejected(SignedOut)";

/// Three servers at the first stage, with clocks so many milliseconds ahead.
#[track_caller]
fn fleet(ahead: [u64; 3]) -> Fleet {
    Fleet::start(SERVER, ahead)
}
