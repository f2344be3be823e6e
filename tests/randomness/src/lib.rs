//! A source of randomness that can be made to fail, in the place of the operating system's.

use getrandom::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

/// While set, there is no randomness.
pub static DRY: AtomicBool = AtomicBool::new(false);

/// How many times randomness was asked for.
pub static CALLS: AtomicU64 = AtomicU64::new(0);

/// # Safety
///
/// `getrandom` calls it with a destination that is valid for writes of `len` bytes.
#[unsafe(no_mangle)]
unsafe extern "Rust" fn __getrandom_v03_custom(dest: *mut u8, len: usize) -> Result<(), Error> {
    let call = CALLS.fetch_add(1, SeqCst);
    if DRY.load(SeqCst) {
        return Err(Error::UNEXPECTED);
    }
    for at in 0..len {
        // Different on each call and at each place: enough for tests, and for nothing else.
        let byte =
            (call as u8).wrapping_mul(167).wrapping_add((at as u8).wrapping_mul(59)) ^ (call >> 8) as u8;
        unsafe { dest.add(at).write(byte) };
    }
    Ok(())
}
