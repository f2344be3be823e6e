//! A browser's cookie jar: name, Domain, Path and Partitioned tell cookies apart, `Max-Age` of zero
//! or less removes, and the driven clock lets them expire (RFC 6265bis-22 section 5.7).

use crate::kit::{Clock, Data, request, respond};
use cookie_session::{Session, SessionLayer};
use http::{HeaderValue, Response, header::SET_COOKIE};

#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    name: String,
    domain: Option<String>,
    path: String,
    partitioned: bool,
}

#[derive(Clone, Debug)]
struct Kept {
    identity: Identity,
    value: String,
    /// In milliseconds; `None` ends with the browser.
    expires: Option<u64>,
}

/// Cookies in the order in which they were created.
#[derive(Clone, Debug)]
pub struct Browser {
    clock: Clock,
    kept: Vec<Kept>,
}

impl Browser {
    pub fn new(clock: &Clock) -> Browser {
        Browser { clock: clock.clone(), kept: Vec::new() }
    }

    /// A browser that has this cookie.
    pub fn with(clock: &Clock, set_cookie: &HeaderValue) -> Browser {
        let mut browser = Browser::new(clock);
        browser.receive_one(set_cookie);
        browser
    }

    /// What a request to `path` carries: longer paths first, then older cookies.
    pub fn cookies_at(&self, path: &str) -> String {
        let now = self.clock.millis();
        let applies = |kept: &&Kept| {
            let at = kept.identity.path.trim_end_matches('/');
            let inside = path.strip_prefix(at).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            inside && kept.expires.is_none_or(|expires| now < expires)
        };
        let mut sent: Vec<&Kept> = self.kept.iter().filter(applies).collect();
        sent.sort_by_key(|kept| std::cmp::Reverse(kept.identity.path.len()));
        let pairs: Vec<_> =
            sent.iter().map(|kept| format!("{}={}", kept.identity.name, kept.value)).collect();
        pairs.join("; ")
    }

    pub fn cookies(&self) -> String {
        self.cookies_at("/")
    }

    pub fn has(&self, name: &str) -> bool {
        self.cookies().split("; ").any(|pair| pair.split_once('=').is_some_and(|(its, _)| its == name))
    }

    /// How many cookies are kept under this name, whatever their other attributes.
    pub fn count(&self, name: &str) -> usize {
        self.kept.iter().filter(|kept| kept.identity.name == name).count()
    }

    pub fn receive<B>(&mut self, response: &Response<B>) {
        for set_cookie in response.headers().get_all(SET_COOKIE) {
            self.receive_one(set_cookie);
        }
    }

    fn receive_one(&mut self, set_cookie: &HeaderValue) {
        let text = set_cookie.to_str().expect("a cookie is ASCII");
        let cookie = cookie::Cookie::parse(text).expect("a cookie parses");
        let identity = Identity {
            name: cookie.name().to_owned(),
            domain: cookie.domain().map(str::to_ascii_lowercase),
            path: cookie.path().unwrap_or("/").to_owned(),
            partitioned: cookie.partitioned().unwrap_or(false),
        };
        let seconds = cookie.max_age().map(|max_age| max_age.whole_seconds());
        let at = self.kept.iter().position(|kept| kept.identity == identity);
        if seconds.is_some_and(|seconds| seconds <= 0) {
            if let Some(at) = at {
                self.kept.remove(at);
            }
            return;
        }
        let now = self.clock.millis();
        let expires = seconds.map(|seconds| now + u64::try_from(seconds).expect("positive") * 1000);
        let new = Kept { identity, value: cookie.value().to_owned(), expires };
        match at {
            // An overwritten cookie keeps its place.
            Some(at) => self.kept[at] = new,
            None => self.kept.push(new),
        }
    }

    /// Sends a request, and returns the response that is still under way.
    pub fn send<T: Data>(
        &self,
        layer: &SessionLayer<T>,
        handler: impl FnOnce(Session<T>) -> Response<()>,
    ) -> Response<()> {
        respond(layer, request(&self.cookies()), handler)
    }

    /// Sends a request that answers 200, and receives the response.
    pub fn visit<T: Data, R>(
        &mut self,
        layer: &SessionLayer<T>,
        handler: impl FnOnce(&Session<T>) -> R,
    ) -> R {
        let mut result = None;
        let response = self.send(layer, |session| {
            result = Some(handler(&session));
            Response::new(())
        });
        self.receive(&response);
        result.expect("the handler ran")
    }
}

/// What happens at a browser whose requests are under way at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The browser sends this request.
    Send(usize),
    /// The browser receives its response.
    Receive(usize),
}

/// All orders of `requests` sendings, in their order (which of them is which is the kinds' matter),
/// and as many receivings, each after its sending.
pub fn orders(requests: usize) -> Vec<Vec<Event>> {
    fn extend(requests: usize, order: &mut Vec<Event>, all: &mut Vec<Vec<Event>>) {
        let sent = order.iter().filter(|event| matches!(event, Event::Send(_))).count();
        if order.len() == 2 * requests {
            all.push(order.clone());
        }
        let under_way = (0..sent).filter(|at| !order.contains(&Event::Receive(*at))).map(Event::Receive);
        let next: Vec<_> =
            (sent < requests).then_some(Event::Send(sent)).into_iter().chain(under_way).collect();
        for event in next {
            order.push(event);
            extend(requests, order, all);
            order.pop();
        }
    }
    let mut all = Vec::new();
    extend(requests, &mut Vec::new(), &mut all);
    all
}

/// All ways to choose one of these for each request.
pub fn choices<T: Copy>(of: &[T], requests: usize) -> Vec<Vec<T>> {
    (0..requests).fold(vec![Vec::new()], |all, _| {
        all.iter().flat_map(|before| of.iter().map(|one| [before.as_slice(), &[*one]].concat())).collect()
    })
}
