//! Signing in and out: what a cookie and its copies are worth, also after a restart.

mod common;

use browser_tests::TempDir;
use common::{PASSWORD, Site, USER};
use secure_app::{
    denylist::Denylist,
    store::{Change, Store},
};
use std::{
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

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

#[test]
fn of_a_sign_out_here_and_an_earlier_one_elsewhere_at_the_same_time_the_later_one_is_on_disk() {
    let (folder, runtime) = (TempDir::new(), tokio::runtime::Runtime::new().unwrap());
    for round in 0..10 {
        let (store, writer, _) = Store::open(folder.path()).unwrap();
        let denylist = Denylist::new(Vec::new(), store, None, Arc::new(SystemTime::now));
        let user = |name: String| Change::User { name, epoch: 5, until: 4_000_000_000_000 };
        let others = (0..2000).map(|number| user(format!("user {round} {number}")));
        let elsewhere: Vec<_> = others.chain([user(USER.to_owned())]).collect();
        thread::scope(|scope| {
            scope.spawn(|| drop(denylist.merge(elsewhere)));
            // Waits until that has begun, and then for its end.
            while denylist.sizes() == (0, 0) {}
            runtime.block_on(denylist.sign_out_everywhere(USER, 0)).unwrap();
        });
        let here = denylist.epoch(USER);
        drop((denylist, writer));
        let (_, _writer, stored) = Store::open(folder.path()).unwrap();
        let is_here = |change: &Change| matches!(change, Change::User { name, epoch, .. } if name == USER && *epoch == here);
        assert!(stored.signed_out.iter().any(is_here), "round {round}");
    }
}
