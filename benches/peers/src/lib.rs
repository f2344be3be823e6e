//! One application for each peer, case and size: what `cargo bench` measures and `count` counts.

pub mod floor;
pub mod ours;
pub mod parts;
pub mod peers;
pub mod plot;
pub mod shop;
