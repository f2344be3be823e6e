use cookie_session::*;
use std::panic::{RefUnwindSafe, UnwindSafe};
fn u<T: UnwindSafe + RefUnwindSafe>() {}
#[test]
fn x() {
    u::<KeyRingHandle>();
    u::<Session<u32>>();
    u::<SessionLayer<u32>>();
    u::<SessionCodec<u32>>();
    u::<SessionBuilder<u32>>();
    u::<SessionConfig>();
    u::<Key>();
    u::<KeyRing>();
    u::<Opened<u32>>();
    u::<Removals>();
    u::<SetCookie>();
    u::<Identity>();
    u::<SessionMap>();
    u::<SessionService<(), u32>>();
    u::<ResponseFuture<(), u32>>();
}
