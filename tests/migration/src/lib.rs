//! cookie-session beside the cookie-session of Express, whose users move over: what both are told, both as servers,
//! a browser, and a switch that stands for both.

#![forbid(unsafe_code)]

mod browser;
mod express;
mod ours;
mod settings;
mod switch;

pub use browser::{Browser, Reply, Report, UnderWay, now};
pub use express::{Express, judge};
pub use ours::{Data, Json, Ours, Shop, builder, key};
pub use settings::{Digest, Encoding, Settings};
pub use switch::{Switch, USER, place};
