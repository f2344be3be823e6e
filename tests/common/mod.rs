//! What several of the tests need: one request without a runtime, and a clock that a test drives.

#![allow(dead_code)] // each test uses its part

use cookie_session::{Session, SessionLayer};
use http::{HeaderMap, Request, Response};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    convert::Infallible,
    future::ready,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tower::{Layer as _, ServiceExt as _, service_fn};

/// One request through the layer. Nothing in it waits, so no runtime is needed.
pub fn serve<T, R>(
    layer: &SessionLayer<T>,
    headers: &HeaderMap,
    handler: impl FnOnce(Session<T>) -> R,
) -> (Response<()>, R)
where
    T: Default + Serialize + DeserializeOwned + Send + 'static,
{
    let (mut handler, mut result) = (Some(handler), None);
    let service = service_fn(|request: Request<()>| {
        let session = Session::from_parts(&request.into_parts().0).unwrap();
        result = Some(handler.take().unwrap()(session));
        ready(Ok::<_, Infallible>(Response::new(())))
    });
    let mut request = Request::new(());
    *request.headers_mut() = headers.clone();
    let response = {
        let mut future = pin!(layer.layer(service).oneshot(request));
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(response)) => response,
            Poll::Pending => panic!("nothing here waits"),
        }
    };
    (response, result.unwrap())
}

/// A clock that stands still until it is set.
#[derive(Clone)]
pub struct Clock(Arc<AtomicU64>);

impl Clock {
    pub fn at(now: SystemTime) -> Self {
        let clock = Clock(Arc::default());
        clock.set(now);
        clock
    }

    pub fn set(&self, now: SystemTime) {
        self.0.store(now.duration_since(UNIX_EPOCH).unwrap().as_millis() as u64, SeqCst);
    }

    pub fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0.load(SeqCst))
    }
}
