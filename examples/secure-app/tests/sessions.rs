//! Signing in and out: what a cookie and its copies are worth, also after a restart.

mod common;

use common::{PASSWORD, Site, USER};
use std::time::Duration;

#[test]
fn a_signed_out_session_is_over_in_every_copy_also_after_a_restart() {
    let mut site = Site::start("");
    let cookie = site.signed_in();
    assert_eq!(site.user(&cookie).as_deref(), Some(USER));
    let other = site.signed_in();
    assert_eq!(site.post("/logout", &cookie, "").status, 303);
    assert_eq!(site.user(&cookie), None);
    assert_eq!(site.user(&other).as_deref(), Some(USER));
    site.restart();
    assert_eq!(site.user(&cookie), None);
    assert_eq!(site.user(&other).as_deref(), Some(USER));
}

#[test]
fn signing_out_everywhere_ends_all_sessions_of_the_user_and_not_later_ones() {
    let mut site = Site::start("");
    let (one, two) = (site.signed_in(), site.signed_in());
    assert_eq!(site.post("/logout/everywhere", &one, "").status, 303);
    // Also by a clock that was set back meanwhile.
    site.turn_back(Duration::from_secs(30));
    let later = site.signed_in();
    for _ in 0..2 {
        assert_eq!(site.user(&one), None);
        assert_eq!(site.user(&two), None);
        assert_eq!(site.user(&later).as_deref(), Some(USER));
        site.restart();
    }
    // And the next time, all those that were signed in since.
    let other = site.signed_in();
    assert_eq!(site.post("/logout/everywhere", &other, "").status, 303);
    assert_eq!((site.user(&later), site.user(&other)), (None, None));
}

#[test]
fn signing_in_again_ends_the_session_before() {
    let site = Site::start("");
    let before = site.signed_in();
    let reply = site.log_in(&before, USER, PASSWORD);
    assert_eq!(site.user(&reply.cookies()).as_deref(), Some(USER));
    assert_eq!(site.user(&before), None);
}
