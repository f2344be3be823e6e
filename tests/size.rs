//! The 4093 bytes: what fits, what does not, and what is said about it.

mod common;

use common::{Clock, serve};
use cookie_session::{
    CLOCK_SKEW, ConfigError, Incoming, Key, KeyRing, Lifetime, MAX_SET_COOKIE, Mode, Session, SessionBuilder,
    SessionLayer, TooLarge, UpdateError,
};
use http::{
    HeaderMap, HeaderValue, Response,
    header::{COOKIE, SET_COOKIE},
};
use serde::{Deserialize, Serialize};
use std::{
    convert::Infallible,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const MODES: [Mode; 2] = [Mode::Encrypted, Mode::Signed];

/// Suite and key id, nonce, fixed-width fields, tag or MAC.
fn overhead(mode: Mode) -> usize {
    if mode == Mode::Encrypted { 5 + 24 + 45 + 16 } else { 5 + 45 + 32 }
}

fn base64_len(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

// The boundary, for every setting that has a say in it.

/// Settings of a cookie that change its length.
#[derive(Clone, Copy, Debug)]
struct Case {
    mode: Mode,
    name: &'static str,
    domain: Option<&'static str>,
    partitioned: bool,
    /// All lifetimes as long as they can be; otherwise the defaults.
    longest: bool,
    max: usize,
}

impl Case {
    fn all() -> Vec<Case> {
        let mut cases = Vec::new();
        for mode in MODES {
            for (name, domain) in [
                ("__Host-Http-session", None),
                ("s", None),
                ("__Secure-id", Some("example.com")),
                (
                    "__Secure-id",
                    Some("a.rather.long.domain.with.many.labels.of.some.length.each.example.com"),
                ),
            ] {
                for partitioned in [false, true] {
                    for longest in [false, true] {
                        for max in [MAX_SET_COOKIE, 4092, 4091, 4090, 2048, 500] {
                            cases.push(Case { mode, name, domain, partitioned, longest, max });
                        }
                    }
                }
            }
        }
        cases
    }

    fn build(&self) -> SessionLayer<Note> {
        let mut builder =
            builder(&Clock::at(noon())).mode(self.mode).name(self.name).max_set_cookie(self.max);
        if let Some(domain) = self.domain {
            builder = builder.domain(domain);
        }
        if self.partitioned {
            builder = builder.partitioned();
        }
        if self.longest {
            builder = builder
                .idle_timeout(400 * DAY)
                .absolute_timeout(400 * DAY)
                .max_own_lifetime(400 * DAY)
                .reissue_after(DAY);
        }
        builder.build().unwrap()
    }

    fn longest_own(&self) -> Duration {
        if self.longest { 400 * DAY } else { 14 * DAY }
    }

    fn lifetimes(&self) -> [Lifetime; 4] {
        let own = [self.longest_own(), Duration::from_secs(1)].map(Lifetime::Own);
        [Lifetime::Timeouts, own[0], own[1], Lifetime::Browser]
    }
}

#[test]
fn the_largest_session_that_is_accepted_fits_and_one_byte_more_does_not_pass() {
    for case in Case::all() {
        let layer = case.build();
        for lifetime in case.lifetimes() {
            let (response, (largest, error)) = serve(&layer, &HeaderMap::new(), |session| {
                session.set_lifetime(lifetime).unwrap();
                // An empty text takes one byte, a long one two more than its length.
                let largest = "x".repeat(session.remaining() + 1 - 2);
                session.set(note(&largest)).unwrap();
                assert_eq!(session.remaining(), 0);
                let error = session.update(|note| note.text.push('x')).unwrap_err();
                assert_eq!(session.remaining(), 0);
                (largest, too_large(error))
            });
            let sent = only_cookie(&response);
            assert!(sent.len() <= case.max, "{case:?} {lifetime:?}: {}", sent.len());
            assert!(error.needed() > case.max, "{case:?} {lifetime:?}");
            assert_eq!(error.payload(), error.max_payload() + 1);

            // What is sent is what was reckoned with, but for digits that this lifetime lacks.
            let (pair, attributes) = sent.split_once(';').unwrap();
            let missing = error.attributes() - (1 + attributes.len());
            let reckoned = error.name() + base64_len(error.max_payload() + error.overhead());
            assert_eq!(pair.len(), reckoned, "{case:?} {lifetime:?}");
            let digits = digits(case.longest_own());
            let expected = match lifetime {
                Lifetime::Own(own) => digits - self::digits(own),
                Lifetime::Browser => "; Max-Age=".len() + digits,
                _ if case.longest => 0,
                _ => digits - self::digits(DAY),
            };
            assert_eq!(missing, expected, "{case:?} {lifetime:?}");

            let opened = layer.codec().open(&jar(&sent), noon());
            assert_eq!(opened.value(), Some(&note(&largest)));
            assert_eq!(opened.meta().unwrap().lifetime(), lifetime);
        }
    }
}

#[test]
fn the_codec_draws_the_same_line() {
    for case in Case::all() {
        let codec_layer = case.build();
        let codec = codec_layer.codec();
        let error = too_large(codec.seal(&note(&"x".repeat(5000)), None, None, noon()).unwrap_err());
        let largest = error.max_payload() - 2;
        let cookie = codec.seal(&note(&"x".repeat(largest)), None, None, noon()).unwrap();
        assert!(cookie.header().len() <= case.max, "{case:?}");
        let error = too_large(codec.seal(&note(&"x".repeat(largest + 1)), None, None, noon()).unwrap_err());
        assert!(error.needed() > case.max, "{case:?}");
    }
}

#[test]
fn the_whole_set_cookie_is_4093_bytes_at_most() {
    assert_eq!(MAX_SET_COOKIE, 4093);
    let layer = builder(&Clock::at(noon())).build().unwrap();
    let (response, error) = serve(&layer, &HeaderMap::new(), |session| {
        session.set_lifetime(Lifetime::Own(14 * DAY)).unwrap();
        session.set(note(&"x".repeat(session.remaining() - 1))).unwrap();
        too_large(session.update(|note| note.text.push('x')).unwrap_err())
    });
    assert_eq!(error.max_set_cookie(), 4093);
    // Base64 grows in steps of one or two symbols.
    assert!((4092..=4093).contains(&only_cookie(&response).len()));
    assert!((4094..=4095).contains(&error.needed()));
}

/// A session may come from an instance whose clock is ahead, so that more is left of it than any
/// lifetime that is configured. Here that would take one digit more.
#[test]
fn a_clock_that_is_ahead_elsewhere_does_not_lengthen_the_cookie() {
    const NEARLY_SIX_DIGITS: Duration = Duration::from_secs(99_990);
    let clock = Clock::at(noon());
    for mode in MODES {
        for name in ["a", "ab", "abc"] {
            let layer = builder(&clock)
                .mode(mode)
                .name(name)
                .idle_timeout(NEARLY_SIX_DIGITS)
                .absolute_timeout(NEARLY_SIX_DIGITS)
                .build()
                .unwrap();
            let ahead = noon() + CLOCK_SKEW;
            let cookie = layer.codec().seal(&note("x"), None, None, ahead).unwrap();
            let cookies = HeaderMap::from_iter([(COOKIE, cookie.request_header())]);
            for lifetime in [Lifetime::Timeouts, Lifetime::Own(NEARLY_SIX_DIGITS)] {
                let (response, largest) = serve(&layer, &cookies, |session| {
                    assert_eq!(session.incoming(), Incoming::Accepted);
                    session.set_lifetime(lifetime).unwrap();
                    let max = session.remaining() + "x".len() + 1;
                    session.set(note(&"x".repeat(max - 2))).unwrap();
                    assert_eq!(session.remaining(), 0);
                    session.get()
                });
                let sent = only_cookie(&response);
                assert!(sent.len() <= MAX_SET_COOKIE, "{}: {}", sent.len(), &sent[sent.len() - 20..]);

                let opened = layer.codec().open(&cookies, noon());
                let cookie = layer.codec().seal(&largest, opened.meta(), None, noon()).unwrap();
                assert!(cookie.header().len() <= MAX_SET_COOKIE, "{}", cookie.header().len());
            }
        }
    }
}

// The error.

#[test]
fn too_large_adds_up() {
    for case in Case::all() {
        let layer = case.build();
        for len in [0, 1, 2, 3, 4, 5, 100, 5000, 100_000] {
            let (_, error) = serve(&layer, &HeaderMap::new(), |session| {
                session.set(note(&"x".repeat(session.remaining() + len))).unwrap_err()
            });
            let error = too_large(error);
            assert_eq!(error.overhead(), overhead(case.mode));
            assert_eq!(error.name(), case.name.len() + 1);
            assert_eq!(error.max_set_cookie(), case.max);
            assert_eq!(
                error.needed(),
                error.name() + base64_len(error.payload() + error.overhead()) + error.attributes(),
            );
            assert!(error.needed() > error.max_set_cookie());
            assert!(error.payload() > error.max_payload());
            // And the largest that fits does fit, by the same sum.
            let largest = base64_len(error.max_payload() + error.overhead());
            assert!(error.name() + largest + error.attributes() <= case.max);
            let next = base64_len(error.max_payload() + 1 + error.overhead());
            assert!(error.name() + next + error.attributes() > case.max);
        }
    }
}

#[test]
fn too_large_names_the_length_of_the_header_that_it_refused() {
    for case in Case::all().into_iter().filter(|case| case.max == 500) {
        let small = case.build();
        let large = Case { max: MAX_SET_COOKIE, ..case }.build();
        for len in 300..400 {
            let text = "x".repeat(len);
            let (_, error) =
                serve(&small, &HeaderMap::new(), |session| session.set(note(&text)).unwrap_err());
            let error = too_large(error);
            let (response, ()) = serve(&large, &HeaderMap::new(), |session| {
                session.set_lifetime(Lifetime::Own(case.longest_own())).unwrap();
                session.set(note(&text)).unwrap();
            });
            let sent = only_cookie(&response);
            assert_eq!(sent.len(), error.needed(), "{case:?}");
            let (pair, attributes) = sent.split_once(';').unwrap();
            assert_eq!(1 + attributes.len(), error.attributes(), "with `; ` before the first");
            assert_eq!(pair.find('=').map(|at| at + 1), Some(error.name()));
            assert_eq!(error.payload(), postcard::to_allocvec(&note(&text)).unwrap().len());
        }
    }
}

#[test]
fn too_large_says_its_numbers() {
    let layer = builder(&Clock::at(noon())).build().unwrap();
    let (_, error) =
        serve(&layer, &HeaderMap::new(), |session| session.set(note(&"x".repeat(9000))).unwrap_err());
    let said = error.to_string();
    let error = too_large(error);
    for number in [
        error.payload(),
        error.max_payload(),
        error.needed(),
        error.max_set_cookie(),
        error.name(),
        error.attributes(),
        error.overhead(),
    ] {
        assert!(said.contains(&number.to_string()), "{number}: {said}");
    }
}

// After the error.

/// All that a handler can see of a session.
fn view(session: &Session<Note>) -> impl PartialEq + std::fmt::Debug + use<> {
    let meta = session.meta();
    let flags = (session.is_new(), session.is_changed(), session.incoming());
    (session.get(), flags, session.remaining(), meta)
}

/// Every call that can make a session too large does, and nothing has changed.
fn outgrow(session: &Session<Note>) {
    let before = view(session);
    let huge = "y".repeat(10_000);
    too_large(session.set(note(&huge)).unwrap_err());
    assert_eq!(view(session), before);
    too_large(session.update(|note| note.text.push_str(&huge)).unwrap_err());
    assert_eq!(view(session), before);
    too_large(session.update(|note| std::mem::replace(&mut note.text, huge.clone())).unwrap_err());
    assert_eq!(view(session), before);
    let result = session.try_update(|note| {
        note.text = huge.clone();
        Ok::<_, Infallible>(())
    });
    too_large(result.unwrap_err());
    assert_eq!(view(session), before);
    assert!(session.read(|note| !note.text.contains('y')));
}

#[test]
fn after_too_large_a_fresh_session_is_fresh() {
    for mode in MODES {
        let layer = builder(&Clock::at(noon())).mode(mode).build().unwrap();
        let (response, ()) = serve(&layer, &HeaderMap::new(), |session| {
            outgrow(&session);
            assert_eq!(session.get(), Note::default());
            assert!(!session.is_changed());
            assert_eq!(session.meta(), None);
        });
        assert!(!response.headers().contains_key(SET_COOKIE));
    }
}

#[test]
fn after_too_large_a_session_that_came_in_is_as_it_came() {
    for mode in MODES {
        let layer = builder(&Clock::at(noon())).mode(mode).build().unwrap();
        let (response, ()) = serve(&layer, &sealed(&layer, "came in"), |session| {
            outgrow(&session);
            assert_eq!(session.get(), note("came in"));
            assert!(!session.is_changed());
        });
        assert!(!response.headers().contains_key(SET_COOKIE));
    }
}

#[test]
fn after_too_large_an_earlier_change_is_sent() {
    for mode in MODES {
        let layer = builder(&Clock::at(noon())).mode(mode).build().unwrap();
        for cookies in [HeaderMap::new(), sealed(&layer, "came in")] {
            let (response, meta) = serve(&layer, &cookies, |session| {
                session.set(note("changed")).unwrap();
                outgrow(&session);
                assert_eq!(session.get(), note("changed"));
                assert!(session.is_changed());
                session.meta().unwrap()
            });
            let opened = layer.codec().open(&jar(&only_cookie(&response)), noon());
            assert_eq!(opened.value(), Some(&note("changed")));
            assert_eq!(opened.meta(), Some(&meta));
        }
    }
}

#[test]
fn after_too_large_a_change_that_fits_is_sent() {
    for mode in MODES {
        let layer = builder(&Clock::at(noon())).mode(mode).build().unwrap();
        let (response, ()) = serve(&layer, &sealed(&layer, "came in"), |session| {
            outgrow(&session);
            session.update(|note| note.text.push_str(" and changed")).unwrap();
        });
        let opened = layer.codec().open(&jar(&only_cookie(&response)), noon());
        assert_eq!(opened.value(), Some(&note("came in and changed")));
    }
}

#[test]
fn after_too_large_a_renewal_is_kept() {
    let layer = builder(&Clock::at(noon())).build().unwrap();
    let cookies = sealed(&layer, "came in");
    let (response, id) = serve(&layer, &cookies, |session| {
        session.renew().unwrap();
        outgrow(&session);
        session.meta().unwrap().id()
    });
    let opened = layer.codec().open(&jar(&only_cookie(&response)), noon());
    assert_eq!(opened.value(), Some(&note("came in")));
    assert_eq!(opened.meta().unwrap().id(), id);
    assert_ne!(layer.codec().open(&cookies, noon()).meta().unwrap().id(), id);
}

// How much is left.

#[test]
fn remaining_is_exact() {
    for mode in MODES {
        let layer = builder(&Clock::at(noon())).mode(mode).max_set_cookie(600).build().unwrap();
        let (_, max) = serve(&layer, &HeaderMap::new(), |session| {
            assert_eq!(session.get(), Note::default());
            session.remaining() + 1
        });
        for len in 0..=max - 2 {
            let text = "x".repeat(len);
            let payload = postcard::to_allocvec(&note(&text)).unwrap().len();
            let (response, ()) = serve(&layer, &HeaderMap::new(), |session| {
                session.set(note(&text)).unwrap();
                assert_eq!(session.remaining(), max - payload);
                // Exactly so much may be added, if the length before the text grows no more.
                if len >= 128 {
                    let more = session.remaining();
                    session.update(|note| note.text.push_str(&"x".repeat(more))).unwrap();
                    assert_eq!(session.remaining(), 0);
                    assert!(session.update(|note| note.text.push('x')).is_err());
                    session.set(note(&text)).unwrap();
                    assert_eq!(session.remaining(), more);
                }
            });
            if len > 0 {
                let cookies = jar(&only_cookie(&response));
                serve(&layer, &cookies, |session| assert_eq!(session.remaining(), max - payload));
            }
        }
    }
}

#[test]
fn remaining_after_clear_is_that_of_a_new_session() {
    let layer = builder(&Clock::at(noon())).build().unwrap();
    let (_, fresh) = serve(&layer, &HeaderMap::new(), |session| session.remaining());
    serve(&layer, &sealed(&layer, "came in"), |session| {
        assert_eq!(session.remaining(), fresh - "came in".len());
        session.clear();
        assert_eq!(session.remaining(), fresh);
    });
}

#[test]
fn the_form_that_is_written_is_measured() {
    /// The older form, twice as long.
    #[derive(Serialize, Deserialize)]
    struct Doubled {
        twice: String,
    }
    for mode in MODES {
        let layer = builder(&Clock::at(noon()))
            .mode(mode)
            .schema(2)
            .migrate_from(1, |old: Doubled| note(&old.twice[..old.twice.len() / 2]))
            .write_as(1, |note| Doubled { twice: note.text.repeat(2) })
            .build()
            .unwrap();
        let (response, error) = serve(&layer, &HeaderMap::new(), |session| {
            let max = session.remaining() + 1;
            session.set(note(&"x".repeat(100))).unwrap();
            assert_eq!(session.remaining(), max - 202);
            let largest = (max - 2) / 2;
            session.set(note(&"x".repeat(largest))).unwrap();
            assert_eq!(session.remaining(), (max - 2) % 2);
            too_large(session.update(|note| note.text.push('x')).unwrap_err())
        });
        let sent = only_cookie(&response);
        assert!(sent.len() <= MAX_SET_COOKIE);
        let text = layer.codec().open(&jar(&sent), noon()).value().unwrap().text.len();
        assert_eq!(error.payload(), 2 * (text + 1) + 2);
    }
}

// Sessions that no longer fit.

/// A cookie that the former layer let pass, and a layer for which it is too large, which is due to
/// re-issue it.
struct Outgrown {
    layer: SessionLayer<Note>,
    cookies: HeaderMap,
    text: String,
}

impl Outgrown {
    fn all() -> Vec<Outgrown> {
        MODES
            .into_iter()
            .flat_map(|mode| [Outgrown::by_configuration(mode), Outgrown::by_migration(mode)])
            .collect()
    }

    fn by_configuration(mode: Mode) -> Self {
        let clock = Clock::at(noon());
        let text = "x".repeat(2000);
        let cookies = sealed(&builder(&clock).mode(mode).build().unwrap(), &text);
        let layer = builder(&clock).mode(mode).max_set_cookie(1000).build().unwrap();
        clock.set(noon() + THRESHOLD);
        Outgrown { layer, cookies, text }
    }

    fn by_migration(mode: Mode) -> Self {
        #[derive(Default, Serialize, Deserialize)]
        struct Terse {
            times: u16,
        }
        let clock = Clock::at(noon());
        let former = SessionLayer::<Terse>::builder(ring()).mode(mode).build().unwrap();
        let cookie = former.codec().seal(&Terse { times: 4000 }, None, None, noon()).unwrap();
        let layer = builder(&clock)
            .mode(mode)
            .schema(2)
            .migrate_from(1, |old: Terse| note(&"x".repeat(old.times.into())))
            .build()
            .unwrap();
        clock.set(noon() + THRESHOLD);
        let cookies = HeaderMap::from_iter([(COOKIE, cookie.request_header())]);
        Outgrown { layer, cookies, text: "x".repeat(4000) }
    }

    fn reissues_left_out(&self) -> u64 {
        self.layer.keys().counters().reissues_too_large
    }

    fn opens(&self, sent: &str) -> Note {
        let now = noon() + THRESHOLD;
        self.layer.codec().open(&jar(sent), now).value().unwrap().clone()
    }
}

#[test]
fn an_outgrown_session_is_read() {
    for outgrown in Outgrown::all() {
        serve(&outgrown.layer, &outgrown.cookies, |session| {
            assert_eq!(session.incoming(), Incoming::Accepted);
            assert_eq!(session.get(), note(&outgrown.text));
            assert_eq!(session.remaining(), 0);
            assert!(!session.is_changed());
        });
        let opened = outgrown.layer.codec().open(&outgrown.cookies, noon());
        assert_eq!(opened.value(), Some(&note(&outgrown.text)));
    }
}

#[test]
fn an_outgrown_session_is_not_reissued_and_that_is_counted() {
    for outgrown in Outgrown::all() {
        for times in 1..=3 {
            let (response, _) = serve(&outgrown.layer, &outgrown.cookies, |session| session.get());
            assert!(!response.headers().contains_key(SET_COOKIE));
            assert_eq!(outgrown.reissues_left_out(), times);
        }
    }
}

#[test]
fn a_session_that_fits_is_reissued_and_not_counted() {
    for mode in MODES {
        let clock = Clock::at(noon());
        let layer = builder(&clock).mode(mode).build().unwrap();
        let cookies = sealed(&layer, "fits");
        clock.set(noon() + THRESHOLD);
        let (response, _) = serve(&layer, &cookies, |session| session.get());
        assert!(only_cookie(&response).len() < MAX_SET_COOKIE);
        assert_eq!(layer.keys().counters().reissues_too_large, 0);
    }
}

#[test]
fn an_outgrown_session_is_not_counted_before_a_reissue_is_due() {
    let clock = Clock::at(noon());
    let cookies = sealed(&builder(&clock).build().unwrap(), &"x".repeat(2000));
    let layer = builder(&clock).max_set_cookie(1000).build().unwrap();
    clock.set(noon() + THRESHOLD - Duration::from_millis(1));
    let (response, _) = serve(&layer, &cookies, |session| session.get());
    assert!(!response.headers().contains_key(SET_COOKIE));
    assert_eq!(layer.keys().counters().reissues_too_large, 0);
}

#[test]
fn an_outgrown_session_can_shrink() {
    for outgrown in Outgrown::all() {
        let (response, ()) = serve(&outgrown.layer, &outgrown.cookies, |session| {
            session.update(|note| note.text.truncate(10)).unwrap();
            assert!(session.remaining() > 0);
        });
        assert_eq!(outgrown.opens(&only_cookie(&response)), note(&"x".repeat(10)));
        assert_eq!(outgrown.reissues_left_out(), 0);
    }
}

#[test]
fn an_outgrown_session_does_not_change_otherwise() {
    for outgrown in Outgrown::all() {
        let (response, ()) = serve(&outgrown.layer, &outgrown.cookies, |session| {
            too_large(session.update(|note| note.text.replace_range(..1, "y")).unwrap_err());
            too_large(session.update(|note| note.text.pop()).unwrap_err());
            too_large(session.update(|note| note.text.push('y')).unwrap_err());
            assert_eq!(session.get(), note(&outgrown.text));
            assert!(!session.is_changed());
        });
        assert!(!response.headers().contains_key(SET_COOKIE));
    }
}

#[test]
fn an_outgrown_session_is_neither_renewed_nor_given_another_lifetime() {
    for outgrown in Outgrown::all() {
        let (response, ()) = serve(&outgrown.layer, &outgrown.cookies, |session| {
            let before = session.meta();
            let payload = outgrown.text.len() + 2;
            assert_eq!(too_large(session.renew().unwrap_err()).payload(), payload);
            assert_eq!(session.meta(), before);
            for lifetime in [Lifetime::Browser, Lifetime::Own(DAY)] {
                assert_eq!(too_large(session.set_lifetime(lifetime).unwrap_err()).payload(), payload);
            }
            assert_eq!(session.meta(), before);
            assert!(!session.is_changed());
        });
        assert!(!response.headers().contains_key(SET_COOKIE));
    }
}

#[test]
fn an_outgrown_session_that_shrank_can_be_renewed() {
    for outgrown in Outgrown::all() {
        let (response, (old, new)) = serve(&outgrown.layer, &outgrown.cookies, |session| {
            session.set(note("small")).unwrap();
            let old = session.renew().unwrap().unwrap();
            (old, session.meta().unwrap().id())
        });
        assert_ne!(old, new);
        assert_eq!(outgrown.opens(&only_cookie(&response)), note("small"));
    }
}

#[test]
fn an_outgrown_session_can_be_cleared() {
    for outgrown in Outgrown::all() {
        let (response, cleared) = serve(&outgrown.layer, &outgrown.cookies, |session| session.clear());
        assert!(cleared);
        let sent: Vec<_> = response.headers().get_all(SET_COOKIE).iter().collect();
        let [removal, marker] = sent.try_into().unwrap();
        assert!(removal.to_str().unwrap().starts_with("__Host-Http-session=; "));
        assert!(marker.to_str().unwrap().starts_with("__Host-Http-session-out="));
    }
}

#[test]
fn a_longer_domain_can_outgrow_the_budget_too() {
    let clock = Clock::at(noon());
    let named = || builder(&clock).name("__Secure-id");
    let former = named().build().unwrap();
    let (response, ()) = serve(&former, &HeaderMap::new(), |session| {
        session.set(note(&"x".repeat(session.remaining() - 1))).unwrap();
    });
    let cookies = jar(&only_cookie(&response));
    let layer = named().domain("example.com").build().unwrap();
    clock.set(noon() + THRESHOLD);
    let (response, ()) = serve(&layer, &cookies, |session| {
        assert_eq!(session.incoming(), Incoming::Accepted);
        too_large(session.renew().unwrap_err());
    });
    assert!(!response.headers().contains_key(SET_COOKIE));
    assert_eq!(layer.keys().counters().reissues_too_large, 1);
}

// The least.

#[test]
fn a_budget_is_refused_that_has_no_room_for_the_default() {
    for case in Case::all().into_iter().filter(|case| case.max == 500) {
        let build = |max| {
            let mut builder = builder(&Clock::at(noon())).mode(case.mode).name(case.name).max_set_cookie(max);
            if let Some(domain) = case.domain {
                builder = builder.domain(domain);
            }
            builder.build()
        };
        let needed = match build(1) {
            Err(ConfigError::NoRoom { needed, max_set_cookie: 1 }) => needed,
            other => panic!("{other:?}"),
        };
        assert_eq!(build(needed - 1).err(), Some(ConfigError::NoRoom { needed, max_set_cookie: needed - 1 }));
        let layer = build(needed).unwrap();
        // What signs out fits into it as well.
        let cookie = layer.codec().seal(&Note::default(), None, None, noon()).unwrap();
        let cookies = HeaderMap::from_iter([(COOKIE, cookie.request_header())]);
        let opened = layer.codec().open(&cookies, noon());
        assert_eq!(opened.incoming(), Incoming::Accepted);
        let removals = layer.codec().removals(&opened, noon());
        assert_eq!(removals.cookies().len(), 2);
        for cookie in removals.cookies().iter().chain([&cookie]) {
            assert!(cookie.header().len() <= needed, "{case:?}: {cookie:?}");
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Note {
    text: String,
}

fn note(text: &str) -> Note {
    Note { text: text.to_owned() }
}

fn too_large(error: UpdateError) -> TooLarge {
    match error {
        UpdateError::TooLarge(error) => error,
        other => panic!("{other:?}"),
    }
}

fn digits(duration: Duration) -> usize {
    duration.as_secs().to_string().len()
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// A tenth of the default idle timeout.
const THRESHOLD: Duration = Duration::from_secs(24 * 60 * 6);

fn noon() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn ring() -> KeyRing {
    let key: Key = "iSKAamfAL6VMAXQwIHl90fVDUTAiNNSkHAzhe85NVQw=".parse().unwrap();
    KeyRing::new(key, []).unwrap()
}

fn builder(clock: &Clock) -> SessionBuilder<Note> {
    let clock = clock.clone();
    SessionLayer::builder(ring()).clock(move || clock.now())
}

/// A request's headers, with a session that was sealed at noon.
fn sealed(layer: &SessionLayer<Note>, text: &str) -> HeaderMap {
    let cookie = layer.codec().seal(&note(text), None, None, noon()).unwrap();
    HeaderMap::from_iter([(COOKIE, cookie.request_header())])
}

fn only_cookie(response: &Response<()>) -> String {
    let cookies: Vec<_> = response.headers().get_all(SET_COOKIE).iter().collect();
    let [cookie] = cookies.try_into().unwrap();
    cookie.to_str().unwrap().to_owned()
}

/// What a browser sends back.
fn jar(set_cookie: &str) -> HeaderMap {
    let pair = set_cookie.split(';').next().unwrap();
    HeaderMap::from_iter([(COOKIE, pair.parse::<HeaderValue>().unwrap())])
}
