//! Users of a Flask application stay signed in when this crate takes over: its signed cookies as an `OldFormat`. The part to
//! paste ends at the line; below it one request for each of two cookies that Flask 3.1.3 (itsdangerous 2.2.0) has set.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use cookie_session::{ConfigError, Identity, Imported, OldCookies, OldFormat, RejectedKind};
use hmac::{Hmac, KeyInit as _, Mac as _};
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;
use sha1::Sha1;
use std::time::{Duration, UNIX_EPOCH};

#[derive(Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Shop {
    pub user: Option<u64>,
    pub cart: Vec<u32>,
}

/// What `flask.session` held. What else is in it, such as `_permanent` and `_flashes`, is passed over. Python's tuples, dates
/// and bytes are objects of one key there: `{" t": [1, 2]}`.
#[derive(serde::Deserialize)]
struct FlaskShop {
    user_id: Option<u64>,
    #[serde(default)]
    cart: Vec<u32>,
}

/// The cookie `session`: `payload.time.mac`, each in base64url.
pub struct Flask {
    key: Vec<u8>,
    secret_len: usize,
}

impl Flask {
    /// `PERMANENT_SESSION_LIFETIME`, which Flask holds every session to.
    pub const LIFETIME: Duration = Duration::from_secs(31 * 24 * 60 * 60);
    /// What a compressed payload may grow to: many times what a session of ours has room for.
    const MOST: usize = 64 * 1024;

    /// With `SECRET_KEY`. For each of `SECRET_KEY_FALLBACKS`, call `import` with another of these.
    pub fn new(secret_key: &[u8]) -> Flask {
        let key = hmac(secret_key, b"cookie-session").finalize().into_bytes().to_vec();
        Flask { key, secret_len: secret_key.len() }
    }
}

fn hmac(key: &[u8], data: &[u8]) -> Hmac<Sha1> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length").chain_update(data)
}

impl OldFormat<Shop> for Flask {
    fn cookies(&self) -> Vec<Identity> {
        vec![Identity::named("session")] // SESSION_COOKIE_NAME, and .domain(…) if there is a SESSION_COOKIE_DOMAIN
    }

    fn open(&self, old: &OldCookies<'_>) -> Result<Imported<Shop>, RejectedKind> {
        let decode = |text: &[u8]| BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| RejectedKind::Malformed);
        let value = old.first("session").ok_or(RejectedKind::Malformed)?;
        let mut parts = value.rsplitn(3, |c| *c == b'.');
        let (Some(mac), Some(time), Some(payload)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(RejectedKind::Malformed);
        };
        let signed = &value[..value.len() - mac.len() - 1];
        hmac(&self.key, signed).verify_slice(&decode(mac)?).map_err(|_| RejectedKind::NotAuthentic)?;

        let issued = decode(time)?
            .iter()
            .try_fold(0_u64, |time, byte| time.checked_mul(256)?.checked_add(u64::from(*byte)));
        let issued = issued.ok_or(RejectedKind::FromTheFuture)?;
        let now = old.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        match now.checked_sub(issued) {
            None => return Err(RejectedKind::FromTheFuture),
            Some(age) if age > Flask::LIFETIME.as_secs() => return Err(RejectedKind::Expired),
            Some(_) => {}
        }

        // Flask compresses whatever gets shorter, so whoever refused that would sign out all with more than a few items.
        let json = match payload.strip_prefix(b".") {
            Some(packed) => decompress_to_vec_zlib_with_limit(&decode(packed)?, Flask::MOST)
                .map_err(|_| RejectedKind::Payload)?,
            None => decode(payload)?,
        };
        let FlaskShop { user_id, cart } = serde_json::from_slice(&json).map_err(|_| RejectedKind::Payload)?;
        Ok(Imported::new(Shop { user: user_id, cart }, signed, &self.key))
    }

    fn check(&self) -> Result<(), ConfigError> {
        const LEAST: usize = 16;
        match self.secret_len {
            bytes if bytes < LEAST => Err(ConfigError::OldKeyShort { bytes, least: LEAST }),
            _ => Ok(()),
        }
    }
}

// ---------------------------------------------------------------------------------------------

use cookie_session::{Incoming, Key, KeyRing, Session, SessionLayer};
use http::{
    Request, Response,
    header::{COOKIE, SET_COOKIE},
};
use std::error::Error;
use tower::{ServiceBuilder, ServiceExt, service_fn};

const SECRET_KEY: &[u8] = b"b1f6e6d1c1a8a0f5c1d5a7f9f3d0c2e4b7a9f8d6c5e3a2b1";

/// The second to which both were issued, and how many items are in the carts of 1000, 1001 and so on.
const ISSUED: u64 = 1_795_835_919;
const RECORDED: [(u32, &str); 2] = [
    (3, "eyJjYXJ0IjpbMTAwMCwxMDAxLDEwMDJdLCJ1c2VyX2lkIjo3fQ.awpIDw.SygztitSt772DqmGZExW6_Zlr6w"),
    (
        40,
        ".eJwVyzEOgkAARNG7bE2xMwMiXIUQY5CCFrUi3B1-87p3lOW9_8o4qdba3AgMgRY6eEAPT\
xhuxBBDDDHEEEMMMcQQwwwzzDDDDDPMMMMMM8III4wwwggjjDDCyDA35f9d99f2KWN_XnVQLXE.awpIDw.tbFN6OJw2GJrbS3blNvYsM-soUU",
    ),
];

async fn show(request: Request<String>) -> Result<Response<Incoming>, Box<dyn Error>> {
    let session = Session::<Shop>::from_parts(&request.into_parts().0)?;
    println!("{}: {:?}", session.incoming(), session.read(|shop| (shop.user, shop.cart.len())));
    Ok(Response::new(session.incoming()))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // In the last second of these cookies; the import ends on a date that is the operator's.
    let now = UNIX_EPOCH + Duration::from_secs(ISSUED) + Flask::LIFETIME;
    let sessions = SessionLayer::<Shop>::builder(KeyRing::new(Key::generate()?, [])?)
        .import(Flask::new(SECRET_KEY), now + Duration::from_secs(24 * 60 * 60))
        .clock(move || now)
        .build()?;
    let codec = sessions.codec();
    let service = ServiceBuilder::new().layer(sessions.clone()).service(service_fn(show));

    for (items, cookie) in RECORDED {
        let mut request = Request::new(String::new());
        request.headers_mut().insert(COOKIE, format!("session={cookie}").parse()?);
        let response = service.clone().oneshot(request).await?;
        assert_eq!(response.body(), &Incoming::Imported);

        // The session stands in a cookie of ours now, and Flask's is removed.
        let set: Vec<_> = response.headers().get_all(SET_COOKIE).iter().collect();
        let [ours, gone] = &set[..] else { return Err("two cookies are set".into()) };
        assert!(gone.to_str()?.starts_with("session=;") && gone.to_str()?.contains("Max-Age=0"));
        let pair = ours.to_str()?.split(';').next().unwrap_or_default();
        let opened = codec.open(&[(COOKIE, pair.parse()?)].into_iter().collect(), now);
        let shop = Shop { user: Some(7), cart: (1000..1000 + items).collect() };
        assert_eq!((opened.incoming(), opened.value()), (Incoming::Accepted, Some(&shop)));
    }
    Ok(())
}
