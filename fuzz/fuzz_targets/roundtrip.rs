#![no_main]

#[path = "../src/roundtrip.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
