//! Client-side sessions.
#![forbid(unsafe_code)]
#![warn(missing_docs, clippy::exhaustive_enums)]
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cache;
mod codec;
mod config;
mod cookie;
mod error;
#[cfg(feature = "axum")]
mod extract;
mod frame;
#[doc(hidden)]
pub mod internal;
mod key;
mod layer;
mod lifetime;
mod log;
mod map;
mod ring;
mod seal;
mod session;
mod shape;

// The public interface is:
pub use codec::{Mode, Opened, Removals, SessionCodec, SessionId, SessionMeta};
pub use config::{Identity, SessionBuilder, SessionConfig};
pub use cookie::{MAX_SET_COOKIE, SameSite, SetCookie};
pub use error::{
    ConfigError, Incoming, KeyError, MissingLayer, NotEncodable, RejectedKind, Shown, TooLarge, UpdateError,
    Weakness,
};
pub use key::{Key, KeyId, KeyRing};
pub use layer::{ResponseFuture, SessionLayer, SessionService};
pub use lifetime::{CLOCK_SKEW, Lifetime};
pub use map::{MapError, SessionMap};
pub use ring::{Counters, KeyRingHandle};
pub use session::Session;
pub use shape::Shape;
