//! The layer of cookie-session, from its own sources, with the fastest seal there is in place of its suites: what the
//! layer would cost if the seal cost as little as that. A measure, not a product: 96-bit nonces under one key.

#![forbid(unsafe_code)]
#![allow(dead_code, missing_docs)]

#[path = "../../../../src/cache.rs"]
mod cache;
#[path = "../../../../src/codec.rs"]
mod codec;
#[path = "../../../../src/config.rs"]
mod config;
#[path = "../../../../src/cookie.rs"]
mod cookie;
#[path = "../../../../src/encode.rs"]
mod encode;
#[path = "../../../../src/error.rs"]
mod error;
#[path = "../../../../src/extract.rs"]
mod extract;
#[path = "../../../../src/frame.rs"]
mod frame;
#[path = "../../../../src/identity.rs"]
mod identity;
#[path = "../../../../src/import.rs"]
mod import;
#[path = "../../../../src/key.rs"]
mod key;
#[path = "../../../../src/layer.rs"]
mod layer;
#[path = "../../../../src/lifetime.rs"]
mod lifetime;
#[path = "../../../../src/log.rs"]
mod log;
#[path = "../../../../src/map.rs"]
mod map;
#[path = "../../../../src/ring.rs"]
mod ring;
mod seal;
#[path = "../../../../src/session.rs"]
mod session;
#[path = "../../../../src/shape.rs"]
mod shape;

pub use key::{Key, KeyRing};
pub use layer::SessionLayer;
pub use session::Session;
