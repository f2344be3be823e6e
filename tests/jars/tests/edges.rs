//! Values and names at the edges of what axum-extra reads.

use cookie_session::{Identity, Incoming, RejectedKind};
use jars_tests::{KINDS, OLD, OldApp, Secret, builder, jar, layer, now, open};
use std::time::Duration;

fn fixed() -> Secret {
    Secret::Whole((100..164).collect())
}

/// In a jar one that does not open stands in no other's way.
#[test]
fn a_cookie_that_is_too_long_hides_no_good_one() {
    for kind in KINDS {
        let (old, new) = (OldApp::new(kind, &fixed()), layer(kind, &fixed()));
        let cookies = format!("{OLD}={}; {}", "x".repeat(4097), old.set(&[(OLD, "7")]));
        assert_eq!(old.read(cookies.as_bytes(), OLD).as_deref(), Some("7"));
        assert_eq!(open(&new, cookies.as_bytes()).incoming(), Incoming::Imported, "{kind:?}");
    }
}

/// A percent-encoded value is tried decoded and as it came, where `%3D` is no base64: the better reason is told.
#[test]
fn what_another_key_signed_is_not_authentic_as_axum_extra_encodes_it() {
    for kind in KINDS {
        let other = OldApp::new(kind, &Secret::Whole(vec![1; 64]));
        let new = layer(kind, &fixed());
        let cookies = other.set(&[(OLD, "1")]);
        assert!(cookies.contains('%'), "{cookies}");
        let rejected = Incoming::Rejected(RejectedKind::NotAuthentic);
        assert_eq!(open(&new, cookies.as_bytes()).incoming(), rejected, "{kind:?} {cookies}");
    }
}

/// axum-extra percent-encodes names too: the one that the browser shows is to be given.
#[test]
fn a_name_that_axum_extra_encodes_is_found() {
    for (kind, name) in
        KINDS.iter().flat_map(|kind| ["user|id", "user#id", "user%id"].map(|name| (*kind, name)))
    {
        let old = OldApp::new(kind, &fixed());
        let cookies = old.set(&[(name, "7")]);
        let (encoded, _) = cookies.split_once('=').expect("a pair");
        let opens = |name: &str| {
            let import = jar(kind, Identity::named(name), fixed().ours());
            let layer =
                builder().import(import, now() + Duration::from_secs(1)).build().expect("a good name");
            open(&layer, cookies.as_bytes()).incoming()
        };
        assert!(
            [name, encoded].map(opens).contains(&Incoming::Imported),
            "{kind:?} {cookies}: {:?}",
            [name, encoded].map(opens)
        );
    }
}
