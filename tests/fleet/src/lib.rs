//! cookie-session on three servers over real sockets: what a server is told and what it says, the servers as
//! processes, and a client with a browser's jar whose responses the test delivers when it likes.

#![forbid(unsafe_code)]

mod client;
mod fleet;
mod jar;
mod proxy;

pub use client::{Broken, Connection, Head};
pub use fleet::{Fleet, Reply, Server};
pub use jar::Jar;
pub use proxy::Proxy;

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long anything may take that the tests wait for. Nothing takes so long unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The name that all servers answer to.
pub const HOST: &str = "shop.example";

pub const SECOND: u64 = 1000;
pub const MINUTE: u64 = 60 * SECOND;
pub const HOUR: u64 = 60 * MINUTE;
pub const DAY: u64 = 24 * HOUR;

/// The request's header that tells the server the time, in milliseconds since 1970. A server whose clock was
/// never told has the machine's.
pub const CLOCK: &str = "x-clock";
/// The request's header that names a gate: the handler runs, and the head waits there.
pub const HOLD: &str = "x-hold";

/// What a server is told when it starts, as JSON on its command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    pub keys: Keys,
    pub schema: Schema,
    /// How far its clock is ahead, in milliseconds.
    pub ahead: u64,
}

/// The stages of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Keys {
    OldAlone,
    NewAsFallback,
    NewAsPrimary,
    NewAlone,
}

impl Keys {
    pub const ALL: [Keys; 4] = [Keys::OldAlone, Keys::NewAsFallback, Keys::NewAsPrimary, Keys::NewAlone];
}

/// The stages of a deploy that changes the struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Schema {
    /// Knows the old form alone.
    V1,
    /// Reads both forms and writes the old one.
    V2WritesV1,
    V2,
}

impl Schema {
    pub const ALL: [Schema; 3] = [Schema::V1, Schema::V2WritesV1, Schema::V2];
}

/// What a session holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    pub user: Option<String>,
    pub count: u32,
    pub marks: Vec<u32>,
    /// Only the new form has it.
    pub note: Option<String>,
}

/// What a server says of the session, in the body of a response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// `Session::incoming`, in its `Debug` form.
    pub incoming: String,
    /// Who was signed in when the request came in.
    pub came_in: Option<String>,
    /// The number of the form in which the session came in.
    pub form: Option<u16>,
    /// The session as the handler left it.
    pub data: Data,
}

/// What a server says on its standard output, a line each.
pub mod says {
    /// The port follows.
    pub const LISTENING: &str = "listening ";
    /// A request has come to a gate, whose name follows.
    pub const HELD: &str = "held ";
    /// From now on no connection is accepted.
    pub const DRAINING: &str = "draining";
}

/// What a server is told on its standard input, a line each; at its end the process ends.
pub mod told {
    /// Open a gate; its name and the time follow.
    pub const OPEN: &str = "open ";
    /// Finish what is under way, and end.
    pub const DRAIN: &str = "drain";
}
