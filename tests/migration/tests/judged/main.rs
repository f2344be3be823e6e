//! Cookies of all kinds, before the real cookie-session and before this crate: what that refuses is refused, and
//! what it takes is taken with an equal value, but for the differences that have a name.

mod cases;
mod differences;

use cases::Case;
use cookie_session::{Incoming, RejectedKind};
use differences::{Difference, RESERVED};
use http::{HeaderMap, HeaderValue, header::COOKIE};
use interop_tests::{Rng, hex, seeds};
use migration_tests::{builder, judge};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// For each seed.
const CASES: usize = 4000;

const NOW: Duration = Duration::from_secs(1_800_000_000);

/// A session as the judge writes it, whole and without the names that it does not load.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Judged {
    all: String,
    loaded: String,
}

impl Judged {
    /// What is no object is not refused here, but by the crate.
    fn of(mut session: Value) -> Option<Judged> {
        let all = text(&session);
        if let Value::Object(entries) = &mut session {
            entries.retain(|key, _| !RESERVED.contains(&key.as_str()));
        }
        Some(Judged { all, loaded: text(&session) })
    }
}

/// As in `node/judge.mjs`.
fn text(value: &Value) -> String {
    match value {
        Value::Number(number) => format!("#{:016x}", number.as_f64().expect("a double").to_bits()),
        Value::Array(values) => format!("[{}]", values.iter().map(text).collect::<Vec<_>>().join(",")),
        Value::Object(entries) => {
            let sorted: BTreeMap<_, _> = entries.iter().collect();
            let entry = |(key, value)| format!("{}:{}", json!(key), text(value));
            format!("{{{}}}", sorted.into_iter().map(entry).collect::<Vec<_>>().join(","))
        }
        value => value.to_string(),
    }
}

impl Case {
    fn request(&self) -> String {
        let mut request = self.settings.json();
        request["headers"] = self.headers.iter().map(|header| hex(header)).collect();
        request.to_string()
    }

    /// What our side makes of it; no reason where a layer does not build.
    fn ours(&self, now: SystemTime) -> Result<Judged, Option<RejectedKind>> {
        let mut import = self.settings.import().convert(Judged::of);
        if self.allows_short_keys {
            import = import.allow_short_keys();
        }
        let until = now + Duration::from_secs(1);
        let layer = builder::<Judged>().import(import, until).build().map_err(|_| None)?;
        let mut headers = HeaderMap::new();
        for header in &self.headers {
            headers.append(COOKIE, HeaderValue::from_bytes(header).expect("a header"));
        }
        let opened = layer.codec().open(&headers, now);
        match (opened.incoming(), opened.value()) {
            (Incoming::Imported, Some(Judged { all, loaded })) => {
                Ok(Judged { all: all.clone(), loaded: loaded.clone() })
            }
            (Incoming::Absent, None) => Err(None),
            (Incoming::Rejected(kind), None) => Err(Some(kind)),
            (incoming, value) => panic!("{incoming:?} with {value:?}"),
        }
    }
}

/// What both make of a case.
enum Agreed {
    Refused,
    /// Of several differences it does not show which of them counts.
    Taken(Option<Difference>),
    Differs(Option<Difference>),
}

/// Whether both say the same, or a difference has a name.
fn agreed(
    case: &Case,
    ours: &Result<Judged, Option<RejectedKind>>,
    answer: &Value,
) -> Result<Agreed, String> {
    if answer["status"] != 200 {
        return Err("the request did not come through".to_owned());
    }
    if answer["isNew"] == true {
        return if ours.is_err() { Ok(Agreed::Refused) } else { Err("only the real one refuses".to_owned()) };
    }
    let mut differences = Difference::of(case);
    let reserved = differences.remove(&Difference::ReservedName);
    let alone = differences.first().copied().filter(|_| differences.len() == 1);
    match ours {
        Err(_) if differences.is_empty() => Err("only the real one takes it".to_owned()),
        Err(reason) if alone.is_some_and(|its| !its.reasons().contains(reason)) => {
            Err(format!("{alone:?} is no reason for it"))
        }
        Err(_) => Ok(Agreed::Differs(alone)),
        Ok(_) if !differences.is_empty() => Err(format!("{differences:?}, and it is taken")),
        Ok(ours) if ours.loaded != *answer["session"].as_str().unwrap_or_default() => {
            Err("the values differ".to_owned())
        }
        Ok(Judged { all, loaded }) if (all != loaded) != reserved => {
            Err("a reserved name is an ordinary key".to_owned())
        }
        Ok(_) => Ok(Agreed::Taken(reserved.then_some(Difference::ReservedName))),
    }
}

#[test]
fn what_cookie_session_makes_of_a_cookie_this_crate_does_too() {
    let mut judge = judge();
    for seed in seeds("judged") {
        let cases: Vec<_> = (0..CASES).map(|case| Case::random(&mut Rng::new(seed, case))).collect();
        let tidied: Vec<_> = cases.iter().map(Case::tidied).collect();
        let requests: Vec<_> = cases.iter().chain(&tidied).map(Case::request).collect();
        let answers = judge.ask(&requests);
        let (answers, of_tidied) = answers.split_at(CASES);
        let (mut taken, mut refused, mut met) = (0, 0, BTreeSet::new());
        for (at, case) in cases.iter().enumerate() {
            let ours = case.ours(UNIX_EPOCH + NOW);
            let mut agreed = self::agreed(case, &ours, &answers[at]);
            if agreed.is_err() && case.headers != tidied[at].headers {
                agreed = self::agreed(&tidied[at], &ours, &of_tidied[at]);
                met.insert(Difference::BlanksAround);
            }
            match agreed {
                Ok(Agreed::Refused) => refused += 1,
                Ok(Agreed::Taken(difference)) => {
                    taken += 1;
                    met.extend(difference);
                }
                Ok(Agreed::Differs(difference)) => met.extend(difference),
                Err(why) => {
                    let headers: Vec<_> =
                        case.headers.iter().map(|header| header.escape_ascii().to_string()).collect();
                    let (request, real) = (&requests[at], &answers[at]);
                    panic!("{why}: {ours:?} and {real}, COOKIE_SESSION_SEED={seed}, {request}\n{headers:#?}");
                }
            }
        }
        let missed: Vec<_> = Difference::ALL.into_iter().filter(|its| !met.contains(its)).collect();
        assert_eq!(missed, [], "COOKIE_SESSION_SEED={seed}");
        assert!(taken.min(refused) > CASES / 8, "{taken} {refused}, COOKIE_SESSION_SEED={seed}");
    }
}
