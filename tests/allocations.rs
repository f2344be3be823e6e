//! What a request allocates because of the layer. Each allocation has its reason below: one more, or one less, is a
//! change to think about.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use cookie_session::{Key, KeyRing, Mode, Session, SessionBuilder, SessionLayer};
use http::{HeaderMap, HeaderValue, Request, Response, header::COOKIE};
use serde::{Deserialize, Serialize};
use std::{convert::Infallible, future::ready, pin::pin, task};
use tower::{Layer as _, ServiceExt as _, service_fn};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Shop {
    user: Option<u64>,
    notes: Vec<String>,
}

impl Shop {
    fn with_notes(notes: usize) -> Shop {
        Shop { user: Some(7), notes: (0..notes).map(|note| format!("note {note}")).collect() }
    }
}

fn builder(mode: Mode) -> SessionBuilder<Shop> {
    let key: Key = "iSKAamfAL6VMAXQwIHl90fVDUTAiNNSkHAzhe85NVQw=".parse().unwrap();
    SessionLayer::builder(KeyRing::new(key, []).unwrap()).mode(mode)
}

fn layer(mode: Mode) -> SessionLayer<Shop> {
    builder(mode).build().unwrap()
}

fn cookie(layer: &SessionLayer<Shop>, notes: usize) -> HeaderValue {
    let now = std::time::SystemTime::now();
    layer.codec().seal(&Shop::with_notes(notes), None, None, now).unwrap().request_header()
}

/// How many allocations a request makes with the layer and does not without.
fn allocations(
    layer: &SessionLayer<Shop>,
    cookie: Option<&HeaderValue>,
    handler: Option<fn(Session<Shop>)>,
) -> u64 {
    let respond = |layer: Option<&SessionLayer<Shop>>| {
        let mut request = Request::new(());
        request.headers_mut().extend(cookie.map(|cookie| (COOKIE, cookie.clone())));
        // What servers and handlers put there, so that both tables are.
        request.extensions_mut().insert("the server's");
        let mut response = Response::new(());
        response.headers_mut().insert("x-handler", HeaderValue::from_static("here"));
        let mut response = Some(response);
        let inner = service_fn(|request: Request<()>| {
            let parts = request.into_parts().0;
            if let (Some(_), Some(handler)) = (layer, handler) {
                handler(Session::from_parts(&parts).unwrap());
            }
            ready(Ok::<_, Infallible>(response.take().unwrap()))
        });
        let mut context = task::Context::from_waker(task::Waker::noop());
        let ready = match layer {
            Some(layer) => pin!(layer.layer(inner).oneshot(request)).poll(&mut context).is_ready(),
            None => pin!(inner.oneshot(request)).poll(&mut context).is_ready(),
        };
        assert!(ready);
    };
    // What is made once for a process, a thread or a batch of seals is made now.
    respond(Some(layer));
    let count = |layer| allocation_counter::measure(|| respond(layer)).count_total;
    count(Some(layer)) - count(None)
}

const MODES: [Mode; 2] = [Mode::Encrypted, Mode::Signed];

/// The session's own strings, and the list of them.
const STRINGS: u64 = 20 + 1;

/// In debug builds what is written is read again, and written again to compare.
const AGAIN: u64 = if cfg!(debug_assertions) { 1 } else { 0 };
const STRINGS_AGAIN: u64 = AGAIN * STRINGS;

#[test]
fn an_untouched_session_allocates_its_handle_and_its_place_in_the_request() {
    for mode in MODES {
        let layer = layer(mode);
        assert_eq!(allocations(&layer, None, None), 2);
        assert_eq!(allocations(&layer, Some(&cookie(&layer, 20)), None), 2);
    }
}

#[test]
fn a_read_allocates_one_buffer_more_and_what_the_value_is_made_of() {
    fn read(session: Session<Shop>) {
        session.read(|shop| assert!(shop.user.is_some()));
    }
    for mode in MODES {
        let layer = layer(mode);
        assert_eq!(allocations(&layer, Some(&cookie(&layer, 0)), Some(read)), 2 + 1);
        assert_eq!(allocations(&layer, Some(&cookie(&layer, 20)), Some(read)), 2 + 1 + STRINGS);
    }
}

#[test]
fn a_read_without_a_cookie_allocates_the_defaults_encoding() {
    fn read(session: Session<Shop>) {
        session.read(|shop| assert!(shop.user.is_none()));
    }
    for mode in MODES {
        assert_eq!(allocations(&layer(mode), None, Some(read)), 2 + 1);
    }
}

#[test]
fn a_reissue_allocates_the_header_more() {
    fn read(session: Session<Shop>) {
        session.read(|shop| assert!(shop.user.is_some()));
    }
    for mode in MODES {
        let layer = builder(mode).reissue_after(std::time::Duration::ZERO).build().unwrap();
        assert_eq!(allocations(&layer, Some(&cookie(&layer, 20)), Some(read)), 2 + 1 + 1 + STRINGS);
    }
}

#[test]
fn what_is_forged_leaves_nothing_behind() {
    let layer = layer(Mode::Encrypted);
    let good = cookie(&layer, 0);
    let now = std::time::SystemTime::now();
    let forged: Vec<HeaderMap> = (0..=255_u8)
        .map(|first| {
            // Another first octet of the nonce, which is where a derived key would be kept.
            let (name, value) = good.to_str().unwrap().split_once('=').unwrap();
            let mut frame = URL_SAFE_NO_PAD.decode(value).unwrap();
            (frame[5], frame[6]) = (first, !frame[6]);
            let text = format!("{name}={}", URL_SAFE_NO_PAD.encode(frame));
            HeaderMap::from_iter([(COOKIE, text.parse().unwrap())])
        })
        .collect();
    let left = |headers: &[HeaderMap]| {
        // The first clone of a header makes it one that is shared.
        drop(headers.to_vec());
        let open = || headers.iter().for_each(|headers| drop(layer.codec().open(headers, now)));
        allocation_counter::measure(open).bytes_current
    };
    assert_eq!(left(&forged[..1]), 0);
    assert_eq!(left(&forged), 0);
    // What another instance has sealed does leave its key, and once.
    let authentic: Vec<_> = (0..1000)
        .map(|_| HeaderMap::from_iter([(COOKIE, cookie(&self::layer(Mode::Encrypted), 0))]))
        .collect();
    let first = left(&authentic);
    assert!((100..512 * 1024).contains(&first), "{first} bytes");
    assert!(left(&authentic) < first / 10);
}

#[test]
fn a_write_allocates_another_encoding_and_the_header_more() {
    fn write(session: Session<Shop>) {
        session.update(|shop| shop.user = Some(8)).unwrap();
    }
    for mode in MODES {
        let layer = layer(mode);
        assert_eq!(allocations(&layer, Some(&cookie(&layer, 0)), Some(write)), 2 + 1 + 2 + AGAIN);
        let with_strings = allocations(&layer, Some(&cookie(&layer, 20)), Some(write));
        assert_eq!(with_strings, 2 + 1 + 2 + STRINGS + AGAIN + STRINGS_AGAIN);
    }
}

#[test]
fn a_first_write_allocates_two_encodings_and_the_header() {
    fn write(session: Session<Shop>) {
        session.update(|shop| shop.user = Some(8)).unwrap();
    }
    for mode in MODES {
        assert_eq!(allocations(&layer(mode), None, Some(write)), 2 + 2 + 1 + AGAIN);
    }
}
