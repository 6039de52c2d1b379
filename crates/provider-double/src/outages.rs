//! Windows of time in which a provider is away: planned by the settings, or begun while the double runs.
//!
//! Invariant: during an outage nothing is ordered, asked or stopped. Files, and the double's own paths, stay; only a double that
//! refuses connections refuses all of them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::order::Protocol;

/// A window of time in which a provider is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// How it is away.
    pub kind: OutageKind,
    /// When it begins, in milliseconds from the start of the double, or from when it was asked for.
    #[serde(default)]
    pub after_ms: u64,
    /// How long it lasts, in milliseconds.
    pub for_ms: u64,
    /// Which provider; `None`: both. Refused connections are refused for both.
    #[serde(default)]
    pub protocol: Option<Protocol>,
    /// For which token, by its place: 0 is `token` in the settings, 1 the first of `more_tokens`; `None`: for all.
    #[serde(default)]
    pub token: Option<usize>,
}

/// How a provider is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutageKind {
    /// Every call is answered with a 5xx.
    Errors,
    /// No connection comes about, and those that are there are cut.
    Refused,
    /// Every order is refused, since the account is locked.
    Locked,
    /// Every order is refused, since the key is not known any more, and so is every poll.
    Revoked,
    /// Every order is refused with 429.
    Throttled,
}

/// All windows of one double.
#[derive(Debug)]
pub(crate) struct Outages {
    windows: Mutex<Vec<(Instant, Instant, Outage)>>,
    /// How many outages refuse connections now.
    refusing: watch::Sender<usize>,
}

impl Outages {
    /// Those that are planned.
    pub(crate) fn new(planned: &[Outage]) -> Self {
        let outages = Self { windows: Mutex::default(), refusing: watch::channel(0).0 };
        for outage in planned {
            outages.begin(*outage);
        }
        outages
    }

    /// Begins one, now or when its time has come.
    pub(crate) fn begin(&self, outage: Outage) {
        let (after, lasting) = (Duration::from_millis(outage.after_ms), Duration::from_millis(outage.for_ms));
        if outage.kind == OutageKind::Refused {
            let refusing = self.refusing.clone();
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                refusing.send_modify(|count| *count += 1);
                tokio::time::sleep(lasting).await;
                refusing.send_modify(|count| *count -= 1);
            });
        } else {
            let begin = Instant::now() + after;
            self.windows.lock().unwrap_or_else(PoisonError::into_inner).push((begin, begin + lasting, outage));
        }
    }

    /// How a provider is away at the moment for a request with the token at this place, if it is.
    pub(crate) fn now(&self, protocol: Protocol, token: Option<usize>) -> Option<OutageKind> {
        let now = Instant::now();
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.retain(|(_, end, _)| now < *end);
        let mut open = windows.iter().filter(|(begin, ..)| *begin <= now).map(|(.., outage)| outage);
        open.find(|outage| {
            outage.protocol.is_none_or(|of| of == protocol) && (outage.token.is_none() || outage.token == token)
        })
        .map(|outage| outage.kind)
    }

    /// How many outages refuse connections.
    pub(crate) fn refusing(&self) -> watch::Receiver<usize> {
        self.refusing.subscribe()
    }
}
