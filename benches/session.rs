//! Seal, open and the layer: `cargo bench`. Each case asserts what it measures first.

use cookie_session::{Incoming, Key, KeyRing, Mode, Session, SessionLayer};
use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, Request, Response, header::COOKIE, header::SET_COOKIE};
use std::{
    convert::Infallible,
    hint::black_box,
    time::{Duration, SystemTime},
};
use tower::{Layer as _, Service as _, service_fn};

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Shop {
    user: Option<u64>,
    roles: Vec<String>,
    token: String,
    notes: Vec<String>,
}

fn shop(notes: usize) -> Shop {
    Shop {
        user: Some(4_000_000_000),
        roles: vec!["customer".to_owned(), "reviewer".to_owned()],
        token: "0123456789abcdef0123456789abcdef".to_owned(),
        notes: (0..notes).map(|note| format!("note number {note:03}")).collect(),
    }
}

const MODES: [(Mode, &str); 2] = [(Mode::Encrypted, "encrypted"), (Mode::Signed, "signed")];

fn layer(mode: Mode, keys: KeyRing) -> SessionLayer<Shop> {
    SessionLayer::builder(keys).mode(mode).build().expect("good settings")
}

fn codec(c: &mut Criterion) {
    for (mode, name) in MODES {
        let (old, new) = (Key::generate().expect("randomness"), Key::generate().expect("randomness"));
        let layer_of = |primary: &Key, fallbacks: &[&Key]| {
            let fallbacks = fallbacks.iter().map(|key| (*key).clone());
            layer(mode, KeyRing::new(primary.clone(), fallbacks).expect("two keys"))
        };
        let (ours, rotated, foreign) = (layer_of(&old, &[]), layer_of(&new, &[&old]), layer_of(&new, &[]));
        let now = SystemTime::now();
        for notes in [0, 20, 90] {
            let value = shop(notes);
            let cookie = ours.codec().seal(&value, None, None, now).expect("it fits");
            let request = HeaderMap::from_iter([(COOKIE, cookie.request_header())]);
            let mut group = c.benchmark_group(format!("{name}/{notes} notes"));
            group.bench_function("seal", |b| {
                b.iter(|| ours.codec().seal(black_box(&value), None, None, now).expect("it fits"));
            });
            for (case, layer, opens) in [
                ("open", &ours, true),
                ("open by a fallback", &rotated, true),
                ("unknown key", &foreign, false),
            ] {
                let opened = layer.codec().open(&request, now);
                assert_eq!(opened.value(), opens.then_some(&value));
                group.bench_function(case, |b| b.iter(|| layer.codec().open(black_box(&request), now)));
            }
        }
    }
}

fn service(c: &mut Criterion) {
    type Handler = fn(Session<Shop>);
    let cases: [(&str, Option<Handler>); 3] = [
        ("untouched", None),
        ("read", Some(|session| session.read(|shop| assert!(shop.user.is_some())))),
        ("read and write", Some(|session| session.update(|shop| shop.user = Some(7)).expect("it fits"))),
    ];
    for (mode, name) in MODES {
        let layer = layer(mode, KeyRing::new(Key::generate().expect("randomness"), []).expect("one key"));
        let cookie = layer.codec().seal(&shop(0), None, None, SystemTime::now()).expect("it fits");
        let mut group = c.benchmark_group(format!("layer/{name}"));
        for (case, handler) in cases {
            let mut service = layer.layer(service_fn(move |request: Request<()>| {
                let parts = request.into_parts().0;
                if let Some(handler) = handler {
                    handler(Session::from_parts(&parts).expect("the layer is there"));
                }
                std::future::ready(Ok::<_, Infallible>(Response::new(())))
            }));
            let mut call = || {
                let request = Request::builder().header(COOKIE, cookie.request_header()).body(());
                let response = service.call(request.expect("a good request"));
                // The service above is ready at once, so one poll does.
                let mut response = std::pin::pin!(response);
                match response.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
                    std::task::Poll::Ready(Ok(response)) => response,
                    _ => unreachable!("the service is ready at once"),
                }
            };
            assert_eq!(call().headers().contains_key(SET_COOKIE), case == "read and write");
            group.bench_function(case, |b| b.iter(&mut call));
        }
    }
    let fresh =
        layer(Mode::Encrypted, KeyRing::new(Key::generate().expect("randomness"), []).expect("one key"));
    assert_eq!(fresh.codec().open(&HeaderMap::new(), SystemTime::now()).incoming(), Incoming::Absent);
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    targets = codec, service
}
criterion_main!(benches);
