//! What one client may take of what all share: connections, requests, password checks. A client is an IPv4 address, or an
//! IPv6 network of 64 bits ([`crate::client::network`]).

use std::{
    collections::HashMap,
    net::Ipv6Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub struct Shares {
    of_all: usize,
    of_one: usize,
    taken: Mutex<Taken>,
}

/// How much is taken.
pub struct Use {
    pub taken: usize,
    pub of_all: usize,
    /// How often there was no more: for anybody, and for one client.
    pub refused: [(&'static str, u64); 2],
}

#[derive(Default)]
struct Taken {
    all: usize,
    refused: [u64; 2],
    by: HashMap<Ipv6Addr, usize>,
}

/// Given back when it is dropped.
pub struct Share {
    shares: Arc<Shares>,
    client: Option<Ipv6Addr>,
}

impl Shares {
    pub fn new(of_all: usize, of_one: usize) -> Arc<Shares> {
        Arc::new(Shares { of_all, of_one, taken: Mutex::default() })
    }

    /// `None`: there is no more for this client, or for anybody. A client that is not given speaks for many.
    pub fn take(self: &Arc<Self>, client: Option<Ipv6Addr>) -> Option<Share> {
        let mut taken = self.taken();
        let taken = &mut *taken;
        if taken.all >= self.of_all {
            taken.refused[0] += 1;
            return None;
        }
        if let Some(client) = client {
            let count = taken.by.entry(client).or_default();
            if *count >= self.of_one {
                taken.refused[1] += 1;
                return None;
            }
            *count += 1;
        }
        taken.all += 1;
        Some(Share { shares: Arc::clone(self), client })
    }

    pub fn in_use(&self) -> Use {
        let taken = self.taken();
        let [all, one] = taken.refused;
        Use { taken: taken.all, of_all: self.of_all, refused: [("all", all), ("client", one)] }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.taken();
        taken.all -= 1;
        if let Some(client) = self.client
            && let Some(count) = taken.by.get_mut(&client)
        {
            *count -= 1;
            if *count == 0 {
                taken.by.remove(&client);
            }
        }
    }
}
