//! Keys and forms change one server at a time, forward and back, and nobody notices.

use crate::*;
use fleet_tests::{DAY, Data, HOUR, Jar, Keys, MINUTE, Report, SECOND, Schema, Settings};
use std::collections::BTreeSet;

/// As far apart as is tolerated.
const AHEAD: [u64; 3] = [0, MINUTE / 2, MINUTE];

/// Which server moves next, so that three servers between two stages meet each mixture, and from each of them
/// every move there is: a closed walk over the edges of a cube, each once in each direction.
fn walk() -> Vec<usize> {
    let mut unused: BTreeSet<(u8, usize)> = (0..8).flat_map(|at| (0..3).map(move |bit| (at, bit))).collect();
    // Hierholzer's way: a walk is stuck only where it began, and takes in the rest on its way back.
    let (mut stack, mut moves) = (vec![(0, None)], Vec::new());
    while let Some(&(at, by)) = stack.last() {
        match (0..3).find(|&bit| unused.remove(&(at, bit))) {
            Some(bit) => stack.push((at ^ 1 << bit, Some(bit))),
            None => {
                stack.pop();
                moves.extend(by);
            }
        }
    }
    moves.reverse();
    moves
}

#[test]
fn the_walk_meets_every_mixture_and_makes_every_move() {
    let mut at = 0_u8;
    let made: BTreeSet<_> = walk()
        .into_iter()
        .map(|server| {
            let from = at;
            at ^= 1 << server;
            (from, at)
        })
        .collect();
    assert_eq!((walk().len(), made.len(), at), (24, 24, 0));
}

/// A browser whose session lives through it all, and what must be in it.
struct Veteran {
    jar: Jar,
    data: Data,
}

struct Site {
    fleet: Fleet,
    veterans: Vec<Veteran>,
    step: usize,
}

impl Site {
    fn open(keys: Keys, schema: Schema) -> Site {
        let fleet = Fleet::with(SERVER, AHEAD.map(|ahead| Settings { keys, schema, ahead }));
        let mut site = Site { fleet, veterans: Vec::new(), step: 0 };
        for at in 0..3 {
            let user = Some(format!("veteran-{at}"));
            let mut jar = Jar::default();
            site.fleet.post(at, &mut jar, &format!("/sign-in/veteran-{at}"));
            site.veterans.push(Veteran { jar, data: Data { user, ..Data::default() } });
        }
        site
    }

    fn stages(&self) -> String {
        format!("step {}: {:?}", self.step, self.fleet.settings.map(|its| (its.keys, its.schema)))
    }

    /// Moves a server, and looks at everything.
    fn step(&mut self, at: usize, change: impl FnOnce(&mut Settings)) {
        self.step += 1;
        self.fleet.now += SECOND;
        self.fleet.replace(at, change);
        self.sessions_open_everywhere_whoever_wrote_them();
        self.a_sign_out_holds_everywhere();
    }

    fn sessions_open_everywhere_whoever_wrote_them(&mut self) {
        let (fleet, stages) = (&self.fleet, format!("step {}: {:?}", self.step, self.fleet.settings));
        for writer in 0..3 {
            let mut jar = Jar::default();
            assert_eq!(fleet.post(writer, &mut jar, "/count").incoming, ABSENT, "{stages}");
            for next in 0..3 {
                for reader in 0..3 {
                    let reply = fleet.ask(reader, &mut jar, "GET", "/read");
                    let seen = (reply.report.incoming.as_str(), reply.report.data.count, reply.set_cookies);
                    assert_eq!(seen, (ACCEPTED, 1 + next, 0), "{writer} {next} {reader}, {stages}");
                }
                assert_eq!(fleet.post(next as usize, &mut jar, "/count").incoming, ACCEPTED, "{stages}");
            }
        }
        for (nth, veteran) in self.veterans.iter_mut().enumerate() {
            veteran.data.count += 1;
            let writer = (nth + self.step) % 3;
            assert_eq!(fleet.post(writer, &mut veteran.jar, "/count").data, veteran.data, "{stages}");
            for reader in 0..3 {
                let reply = fleet.ask(reader, &mut veteran.jar, "GET", "/read");
                let seen = (reply.report.incoming.as_str(), &reply.report.data, reply.set_cookies);
                assert_eq!(seen, (ACCEPTED, &veteran.data, 0), "{stages}");
            }
        }
    }

    fn a_sign_out_holds_everywhere(&mut self) {
        let [first, second, third] = [0, 1, 2].map(|nth| (self.step + nth) % 3);
        let (fleet, stages) = (&self.fleet, self.stages());
        let mut jar = Jar::default();
        fleet.post(first, &mut jar, "/sign-in/ada");
        let mut slow = fleet.send(second, &jar, "POST", "/renew", None);
        let head = slow.head().expect("a whole header block");
        assert_eq!(fleet.post(third, &mut jar, "/sign-out").came_in.as_deref(), Some("ada"), "{stages}");
        fleet.receive(&mut jar, &head);
        for reader in 0..3 {
            assert_eq!(fleet.read(reader, &mut jar).incoming, SIGNED_OUT, "{reader}, {stages}");
        }
        // And a sign-in after it holds as well.
        fleet.post(second, &mut jar, "/sign-in/bob");
        for reader in 0..3 {
            let Report { incoming, came_in, .. } = fleet.read(reader, &mut jar);
            let seen = (incoming.as_str(), came_in.as_deref());
            assert_eq!(seen, (ACCEPTED, Some("bob")), "{reader}, {stages}");
        }
    }

    /// The longest lifetime passes, and the veterans come twice a day and sign in again once a week, so that
    /// they never expire.
    fn wait_for_the_longest_lifetime(&mut self) {
        let stages = self.stages();
        for half_day in 0..28 {
            self.fleet.now += 12 * HOUR;
            for (nth, veteran) in self.veterans.iter_mut().enumerate() {
                let at = (nth + half_day) % 3;
                let report = match half_day {
                    7 | 21 => self.fleet.post(at, &mut veteran.jar, &format!("/sign-in/veteran-{nth}")),
                    _ => self.fleet.read(at, &mut veteran.jar),
                };
                assert_eq!((report.incoming.as_str(), &report.data), (ACCEPTED, &veteran.data), "{stages}");
            }
        }
    }
}

#[test]
fn keys_rotate_one_server_at_a_time_forward_and_back_and_nobody_is_signed_out() {
    let mut site = Site::open(Keys::OldAlone, Schema::V1);
    for pair in Keys::ALL.windows(2) {
        let [before, after] = *pair else { unreachable!() };
        if after == Keys::NewAlone {
            site.wait_for_the_longest_lifetime();
        }
        // All mixtures, and at last all three at the stage after.
        for at in walk().into_iter().chain(0..3) {
            site.step(at, |its| its.keys = if its.keys == before { after } else { before });
        }
    }
    // All the way back, in another order.
    for pair in Keys::ALL.windows(2).rev() {
        if pair[0] == Keys::OldAlone {
            site.wait_for_the_longest_lifetime();
        }
        for at in [1, 2, 0] {
            site.step(at, |its| its.keys = pair[0]);
        }
    }
    assert_eq!(site.step, 3 * (24 + 3) + 9);
}

#[test]
fn forms_change_one_server_at_a_time_forward_and_back_and_nobody_is_signed_out() {
    let mut site = Site::open(Keys::OldAlone, Schema::V1);
    for pair in Schema::ALL.windows(2) {
        let [before, after] = *pair else { unreachable!() };
        for at in walk().into_iter().chain(0..3) {
            site.step(at, |its| its.schema = if its.schema == before { after } else { before });
        }
    }
    // Back, to the stage that reads both.
    for at in [1, 2, 0] {
        site.step(at, |its| its.schema = Schema::V2WritesV1);
    }
    assert_eq!(site.step, 2 * (24 + 3) + 3);
}

#[test]
fn what_only_the_new_form_holds_stays_in_sessions_that_came_in_it() {
    let mut site = Site::open(Keys::OldAlone, Schema::V2WritesV1);
    let mut jar = Jar::default();
    for at in walk() {
        site.step(at, |its| {
            its.schema = if its.schema == Schema::V2 { Schema::V2WritesV1 } else { Schema::V2 };
        });
        let (fleet, stages) = (&site.fleet, site.stages());
        let Some(new) = (0..3).find(|&at| fleet.settings[at].schema == Schema::V2) else { continue };
        fleet.post(new, &mut jar, "/note/kept");
        for at in 0..3 {
            let written = fleet.post(at, &mut jar, "/count");
            assert_eq!((written.form, written.data.note.as_deref()), (Some(2), Some("kept")), "{stages}");
            let read = fleet.read((at + 1) % 3, &mut jar);
            assert_eq!((read.form, read.data.note.as_deref()), (Some(2), Some("kept")), "{stages}");
        }
    }
    // Nor does a re-issue at the stage that writes the old form convert it.
    for at in 0..3 {
        site.fleet.replace(at, |its| its.schema = Schema::V2WritesV1);
    }
    site.fleet.now += 12 * HOUR;
    let reissued = site.fleet.ask(0, &mut jar, "GET", "/read");
    assert_eq!((reissued.report.incoming.as_str(), reissued.set_cookies), (ACCEPTED, 1));
    let read = site.fleet.read(1, &mut jar);
    assert_eq!((read.form, read.data.note.as_deref()), (Some(2), Some("kept")));
}

#[test]
fn a_server_that_is_two_stages_behind_leaves_the_cookie_alone_and_it_opens_elsewhere() {
    for (keys, schema, kind) in [
        (Keys::NewAsPrimary, Schema::V1, "Rejected(UnknownKey)"),
        (Keys::OldAlone, Schema::V2, "Rejected(Schema)"),
    ] {
        let mut fleet = fleet(AHEAD);
        fleet.replace(1, |its| (its.keys, its.schema) = (keys, schema));
        let mut jar = Jar::default();
        fleet.post(1, &mut jar, "/sign-in/ada");
        let before = jar.clone();
        let reply = fleet.ask(0, &mut jar, "GET", "/read");
        assert_eq!((reply.report.incoming.as_str(), reply.set_cookies), (kind, 0));
        assert_eq!(reply.report.data, Data::default());
        assert_eq!(jar, before);
        let report = fleet.read(1, &mut jar);
        assert_eq!((report.incoming.as_str(), report.came_in.as_deref()), (ACCEPTED, Some("ada")));
    }
}

#[test]
fn whoever_has_not_come_back_is_not_lost_before_the_end_and_a_key_dropped_too_soon_can_be_put_back() {
    let mut site = Site::open(Keys::NewAsFallback, Schema::V1);
    let fleet = &mut site.fleet;
    // For two weeks, sealed with the old key at the last moment.
    let mut jar = Jar::default();
    fleet.post(0, &mut jar, "/remember/ada");
    for at in 0..3 {
        fleet.replace(at, |its| its.keys = Keys::NewAsPrimary);
    }
    // Too soon.
    fleet.replace(1, |its| its.keys = Keys::NewAlone);
    let before = jar.clone();
    assert_eq!(fleet.read(1, &mut jar).incoming, "Rejected(UnknownKey)");
    assert_eq!(jar, before);
    fleet.replace(1, |its| its.keys = Keys::NewAsPrimary);
    // At the last millisecond of her session on the server whose clock is ahead the most.
    fleet.now += 14 * DAY - MINUTE - 1;
    for at in 0..3 {
        let mut moved = jar.clone();
        let reply = fleet.ask(at, &mut moved, "GET", "/read");
        assert_eq!((reply.report.incoming.as_str(), reply.set_cookies), (ACCEPTED, 1));
        // Coming back was enough to move it to the new key.
        let other = (at + 1) % 3;
        fleet.replace(other, |its| its.keys = Keys::NewAlone);
        assert_eq!(fleet.read(other, &mut moved).incoming, ACCEPTED);
        assert_eq!(fleet.read(other, &mut jar).incoming, "Rejected(UnknownKey)");
        fleet.replace(other, |its| its.keys = Keys::NewAsPrimary);
    }
    // The old key goes when nothing is left that it would open, in whatever browser.
    fleet.now += MINUTE + 1;
    assert_eq!(jar.cookies(fleet.now), "");
    let kept = jar.cookies(fleet.now - 1);
    for at in 0..3 {
        let mut jar = Jar::default();
        jar.set(&format!("{kept}; Secure; HttpOnly; Path=/"), fleet.now);
        assert_eq!(fleet.read(at, &mut jar).incoming, "Rejected(Expired)");
    }
}

/// SplitMix64: numbers from a seed, the same everywhere.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as usize % end
    }
}

/// A browser, and what its session must be.
#[derive(Default)]
struct Visitor {
    jar: Jar,
    session: Option<Expected>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Expected {
    data: Data,
    form: u16,
    /// When the absolute timeout began, on whatever clock.
    renewed: u64,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Read,
    Count,
    Note,
    SignIn,
    Renew,
    SignOut,
}

struct Walk {
    fleet: Fleet,
    visitors: Vec<Visitor>,
    numbers: Numbers,
    /// What a failure prints: how to do this again, and where it stood.
    seed: u64,
    moves: usize,
    /// There are sessions in the new form, so nobody goes back to where it is not known.
    new_form: bool,
}

impl Walk {
    fn begin(seed: u64) -> Walk {
        let mut numbers = Numbers(seed);
        let fleet = fleet([(); 3].map(|()| numbers.below(60_001) as u64));
        let visitors = (0..4).map(|_| Visitor::default()).collect();
        Walk { fleet, visitors, numbers, seed, moves: 0, new_form: false }
    }

    fn place(&self) -> String {
        format!("COOKIE_SESSION_SEED={} at move {}: {:?}", self.seed, self.moves, self.fleet.settings)
    }

    /// A visitor does something at one server, and finds it at another.
    fn visit(&mut self, nth: usize, action: Action) {
        let (at, then) = (self.numbers.below(3), self.numbers.below(3));
        let place = format!("visitor {nth}, {action:?} at {at}, read at {then}, {}", self.place());
        let Visitor { jar, session } = &mut self.visitors[nth];
        let (method, path) = match action {
            Action::Read => ("GET", "/read".to_owned()),
            Action::Count => ("POST", "/count".to_owned()),
            Action::Note => ("POST", format!("/note/{}", self.moves)),
            Action::SignIn => ("POST", format!("/sign-in/visitor-{nth}")),
            Action::Renew => ("POST", "/renew".to_owned()),
            Action::SignOut => ("POST", "/sign-out".to_owned()),
        };
        let reply = self.fleet.ask(at, jar, method, &path);
        let incoming = if session.is_some() { ACCEPTED } else { ABSENT };
        assert_eq!(reply.report.incoming, incoming, "{place}");
        assert_eq!(reply.report.form, session.as_ref().map(|session| session.form), "{place}");

        let now = self.fleet.now;
        let begin = || Expected { data: Data::default(), form: 1, renewed: now };
        match action {
            Action::Read => {}
            Action::Count => session.get_or_insert_with(begin).data.count += 1,
            // Where the old form is written a note alone is no change, and begins no session.
            Action::Note if session.is_none() && self.fleet.settings[at].schema < Schema::V2 => {}
            Action::Note => session.get_or_insert_with(begin).data.note = Some(self.moves.to_string()),
            Action::SignIn => {
                let session = session.get_or_insert_with(begin);
                session.data.user = Some(format!("visitor-{nth}"));
                session.renewed = now;
            }
            Action::Renew => session.iter_mut().for_each(|session| session.renewed = now),
            Action::SignOut => *session = None,
        }
        if let Some(session) = session.as_mut().filter(|_| reply.set_cookies > 0)
            && self.fleet.settings[at].schema == Schema::V2
        {
            session.form = 2;
        }
        if let Some(session) = session.as_mut().filter(|session| session.form == 1) {
            session.data.note = None;
        }
        // What this finds is not due, or moves as the one before did not.
        let before = session.clone();
        let reply = self.fleet.ask(then, jar, "GET", "/read");
        let found = (reply.report.incoming.as_str(), reply.report.form, reply.report.data);
        let expected = match before {
            Some(Expected { data, form, .. }) => (ACCEPTED, Some(form), data),
            None => (ABSENT, None, Data::default()),
        };
        assert_eq!(found, expected, "{place}");
        if let Some(session) = session.as_mut().filter(|_| reply.set_cookies > 0)
            && self.fleet.settings[then].schema == Schema::V2
        {
            session.form = 2;
        }
    }

    /// All of them do something, and sign in again before the absolute timeout strikes.
    fn all_visit(&mut self, actions: &[Action]) {
        for nth in 0..self.visitors.len() {
            let session = &self.visitors[nth].session;
            let old = session.as_ref().is_some_and(|its| self.fleet.now - its.renewed > 5 * DAY);
            let action = if old { Action::SignIn } else { actions[self.numbers.below(actions.len())] };
            self.visit(nth, action);
        }
    }

    fn wait_for_the_longest_lifetime(&mut self) {
        for _ in 0..28 {
            self.fleet.now += 12 * HOUR;
            self.all_visit(&[Action::Read]);
        }
    }

    /// A move of one server by one stage of keys or of forms, if it is one of the crate page's steps.
    fn move_one(&mut self) -> bool {
        let (at, forward, of_keys) =
            (self.numbers.below(3), self.numbers.below(2) == 1, self.numbers.below(2) == 1);
        let next = |stage: usize| if forward { Some(stage + 1) } else { stage.checked_sub(1) };
        let mut to = self.fleet.settings;
        if of_keys {
            let Some(keys) = next(to[at].keys as usize).and_then(|stage| Keys::ALL.get(stage)) else {
                return false;
            };
            to[at].keys = *keys;
        } else {
            let Some(schema) = next(to[at].schema as usize).and_then(|stage| Schema::ALL.get(stage)) else {
                return false;
            };
            to[at].schema = *schema;
        }
        let apart = |stages: [usize; 3]| stages.iter().max().unwrap() - stages.iter().min().unwrap();
        if apart(to.map(|its| its.keys as usize)) > 1
            || apart(to.map(|its| its.schema as usize)) > 1
            || self.new_form && to[at].schema == Schema::V1
        {
            return false;
        }
        // The first server that drops a key.
        let alone = |its: &Settings| matches!(its.keys, Keys::OldAlone | Keys::NewAlone);
        if alone(&to[at]) && !self.fleet.settings.iter().any(alone) {
            self.wait_for_the_longest_lifetime();
        }
        self.new_form |= to[at].schema == Schema::V2;
        self.moves += 1;
        // Another machine, with another clock.
        to[at].ahead = self.numbers.below(60_001) as u64;
        self.fleet.replace(at, |its| *its = to[at]);
        true
    }
}

#[test]
fn keys_and_forms_change_together_in_any_order_and_nothing_is_lost() {
    const MOVES: usize = 60;
    let seeds = match std::env::var("COOKIE_SESSION_SEED") {
        Ok(seed) => vec![seed.parse().expect("a number in COOKIE_SESSION_SEED")],
        Err(_) => (1..=12).collect(),
    };
    let mut met = BTreeSet::new();
    for &seed in &seeds {
        let mut walk = Walk::begin(seed);
        while walk.moves < MOVES {
            if walk.move_one() {
                met.extend(walk.fleet.settings.map(|its| (its.keys, its.schema)));
                walk.fleet.now += walk.numbers.below(2 * HOUR as usize) as u64;
                let actions = [
                    Action::Read,
                    Action::Count,
                    Action::Count,
                    Action::Note,
                    Action::SignIn,
                    Action::Renew,
                    Action::SignOut,
                ];
                walk.all_visit(&actions);
            }
        }
    }
    // The seeds that are always run meet each stage of keys beside each of forms.
    if seeds.len() > 1 {
        assert_eq!(met.len(), Keys::ALL.len() * Schema::ALL.len(), "{met:?}");
    }
}
