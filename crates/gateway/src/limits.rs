//! Limits by account and by key: how many calls of each class come in a second, and how many calls and uploads run at a time.
//!
//! Invariants: a call is refused here before anything is asked of a service; one key of an account has only a part of what the account
//! may ask for, so that no key takes it from all others; and each gateway takes its share of the whole. What an operator sets for an
//! account comes with the answers about its keys, so that no call asks for it.

mod bucket;
mod gateways;
mod places;
mod settings;

use std::{
    num::NonZeroU32,
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::ArcSwap;
use chassis::drain::Drain;
use moka::future::Cache;
use proto::{Class, Method, Scope, limits::v1 as api};
use uuid::Uuid;

use self::{
    bucket::Bucket,
    gateways::Gateways,
    places::{Place, Running},
};
use crate::metrics;
use crate::model::{Exceeded, Limit, Owner, PlaceUse, RateUse, Report, Uses};

pub(crate) use self::places::Places;
pub use settings::{Bounds, Rate, Settings};

/// As how many calls one that may change something counts: it costs the database, and so others, several times what a read does.
const CHANGE: NonZeroU32 = NonZeroU32::new(5).unwrap();
/// The method whose calls each make a delivery to somebody else's server.
const TEST_ENDPOINT: &str = "/rushes.webhooks.v1.WebhookService/TestEndpoint";
/// After what time a call may come again that found no place.
const CALL_RETRY_AFTER: Duration = Duration::from_millis(250);
/// After what time an upload may come again that found no place.
const UPLOAD_RETRY_AFTER: Duration = Duration::from_secs(2);
/// How long the use of an account or key is remembered after its last call: longer than any call lasts and any bucket fills.
const REMEMBERED: Duration = Duration::from_secs(3_600);
/// How many accounts, and how many keys, are remembered.
const MAX_OWNERS: u64 = 200_000;

/// A call that is within its limits.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// What it takes up until its answer has ended.
    pub(crate) places: Places,
    /// What its caller is told.
    pub(crate) report: Report,
}

/// Who a call is counted for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller<'a> {
    /// `accounts/{account}/apiKeys/{key}`.
    pub(crate) key: &'a str,
    pub(crate) account: Uuid,
    pub(crate) own: &'a OwnLimits,
    /// Where the use of both is kept from the first call on.
    pub(crate) owners: &'a OnceLock<Owners>,
}

/// What operators have set for an account in place of the limits that are every account's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OwnLimits {
    pub(crate) limits: Option<api::Limits>,
    /// Rises with every change, so that an answer that is older than another is known as such.
    pub(crate) version: i64,
}

/// The use of one account or key, with the bounds of the newest answer about it.
type Shared = Arc<ArcSwap<Usage>>;

/// The use of a key and of its account.
#[derive(Clone, Debug)]
pub(crate) struct Owners {
    // The key comes first: what it sends above its own limit takes nothing from the account's other keys.
    both: [(Owner, Shared); 2],
}

/// The use of one account or key.
#[derive(Debug)]
struct Usage {
    bounds: Bounds,
    /// Of which state of its account the bounds are.
    version: i64,
    people: Bucket,
    polls: Bucket,
    background: Bucket,
    endpoint_tests: Bucket,
    calls: Running,
    uploads: Running,
}

impl Usage {
    fn new(bounds: Bounds, version: i64) -> Self {
        Self {
            bounds,
            version,
            people: Bucket::new(bounds.people),
            polls: Bucket::new(bounds.polls),
            background: Bucket::new(bounds.background),
            endpoint_tests: Bucket::new(bounds.endpoint_tests),
            calls: Running::default(),
            uploads: Running::default(),
        }
    }

    /// Whether these bounds were set after those. An answer about a key may be older than one about another of the same account: if
    /// that set the bounds back, each change back and forth would give a new burst.
    fn is_before(&self, bounds: &Bounds, version: i64) -> bool {
        self.version < version && self.bounds != *bounds
    }

    /// The same with other bounds: its buckets are full, and what runs goes on being counted.
    fn rebound(&self, bounds: Bounds, version: i64) -> Self {
        Self { calls: self.calls.clone(), uploads: self.uploads.clone(), ..Self::new(bounds, version) }
    }

    fn bucket(&self, limit: Limit) -> Option<&Bucket> {
        match limit {
            Limit::People => Some(&self.people),
            Limit::Polls => Some(&self.polls),
            Limit::Background => Some(&self.background),
            Limit::EndpointTests => Some(&self.endpoint_tests),
            Limit::Calls | Limit::Uploads => None,
        }
    }

    /// What runs, and how much of it one of `gateways` lets run at a time.
    fn running(&self, limit: Limit, gateways: NonZeroU32) -> (&Running, u32) {
        let (running, max) = match limit {
            Limit::Uploads => (&self.uploads, self.bounds.uploads),
            _ => (&self.calls, self.bounds.calls),
        };
        (running, (max.get() / gateways).max(1))
    }

    fn place(&self, limit: Limit, gateways: NonZeroU32) -> Option<Place> {
        let (running, max) = self.running(limit, gateways);
        running.take(max)
    }
}

/// The limits of all accounts and keys at this gateway; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    settings: Settings,
    gateways: Gateways,
    accounts: Cache<Uuid, Shared>,
    keys: Cache<String, Shared>,
    /// Where gateways tell each other that they are there.
    heartbeats: Option<(async_nats::Client, String)>,
}

impl Limits {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            gateways: Gateways::stated(settings.gateways),
            accounts: Cache::builder().max_capacity(MAX_OWNERS).time_to_idle(REMEMBERED).build(),
            keys: Cache::builder().max_capacity(MAX_OWNERS).time_to_idle(REMEMBERED).build(),
            heartbeats: None,
        }
    }

    /// The same, which share with the gateways that say over NATS that they are there; `space` is the first part of the subject.
    pub(crate) fn shared_over(self, client: async_nats::Client, space: &str) -> Self {
        Self { heartbeats: Some((client, format!("{space}.gateways"))), ..self }
    }

    /// The same, from now on counting and counted, until `drain` begins.
    pub(crate) fn until(mut self, drain: Drain) -> Self {
        if let Some((client, subject)) = self.heartbeats.take() {
            self.gateways.count_over(client, subject, drain);
        }
        self
    }

    /// Counts a call, and refuses it if it is one too many.
    pub(crate) async fn admit(&self, caller: Caller<'_>, method: &Method) -> Result<Admitted, Exceeded> {
        let owners = match caller.owners.get() {
            Some(owners) => owners,
            None => {
                let owners = self.owners(caller).await;
                caller.owners.get_or_init(|| owners)
            }
        };
        self.take(owners, method)
    }

    fn take(&self, owners: &Owners, method: &Method) -> Result<Admitted, Exceeded> {
        let gateways = self.gateways.count();
        let owners = owners.both.each_ref().map(|(owner, usage)| (*owner, usage.load()));
        let class = match method.class {
            Class::People => Limit::People,
            Class::Polls => Limit::Polls,
            Class::Background => Limit::Background,
        };
        let refused = |limit: Limit, owner: Owner, retry_after, report| {
            metrics::LIMITS_EXCEEDED.with([limit.as_str(), owner.as_str()]).increment(1);
            Exceeded { limit, owner, retry_after, report }
        };
        let mut report = Report::default();
        let is_test = method.path == TEST_ENDPOINT;
        let calls = if method.scope == Some(Scope::Read) { NonZeroU32::MIN } else { CHANGE };
        let test = is_test.then_some((Limit::EndpointTests, NonZeroU32::MIN));
        for (limit, calls) in std::iter::once((class, calls)).chain(test) {
            for (owner, usage) in &owners {
                let Some(bucket) = usage.bucket(limit) else { continue };
                match bucket.take(calls, gateways) {
                    Ok(level) => report.note(limit, *owner, level),
                    Err((level, wait)) => {
                        report.note(limit, *owner, level);
                        return Err(refused(limit, *owner, wait, report));
                    }
                }
            }
        }
        let is_watch = method.max_timeout.is_none();
        let is_upload = method.client_streaming;
        let running = (!is_watch)
            .then_some((Limit::Calls, CALL_RETRY_AFTER))
            .into_iter()
            .chain(is_upload.then_some((Limit::Uploads, UPLOAD_RETRY_AFTER)));
        let mut places = Places::default();
        for (limit, wait) in running {
            for (owner, usage) in &owners {
                match usage.place(limit, gateways) {
                    Some(place) => places.0.push(place),
                    None => return Err(refused(limit, *owner, wait, report)),
                }
            }
        }
        Ok(Admitted { places, report })
    }

    /// What the account and the key of a call may ask for, and what is left of it here.
    pub(crate) async fn uses(&self, caller: Caller<'_>) -> Uses {
        let gateways = self.gateways.count();
        let owners = self.owners(caller).await;
        let mut uses = Uses { gateways: gateways.get(), ..Uses::default() };
        for (owner, usage) in owners.both.iter().rev() {
            let usage = usage.load();
            for limit in [Limit::People, Limit::Polls, Limit::Background, Limit::EndpointTests] {
                let Some(bucket) = usage.bucket(limit) else { continue };
                let Rate { per_second, burst } = bucket.rate();
                let (per_second, burst) = (per_second.get(), burst.get());
                uses.rates.push(RateUse { limit, owner: *owner, per_second, burst, level: bucket.left(gateways) });
            }
            for limit in [Limit::Calls, Limit::Uploads] {
                let (running, max) = usage.running(limit, gateways);
                uses.places.push(PlaceUse { limit, owner: *owner, max, in_use: running.count() });
            }
        }
        uses
    }

    async fn owners(&self, caller: Caller<'_>) -> Owners {
        Owners { both: [(Owner::Key, self.key(caller).await), (Owner::Account, self.account(caller).await)] }
    }

    async fn account(&self, caller: Caller<'_>) -> Shared {
        let OwnLimits { limits, version } = *caller.own;
        let bounds = self.settings.account.with(limits);
        let usage = self.accounts.get_with(caller.account, async { shared(bounds, version) }).await;
        rebind(&usage, bounds, version);
        usage
    }

    async fn key(&self, caller: Caller<'_>) -> Shared {
        let OwnLimits { limits, version } = *caller.own;
        let bounds = self.settings.account.with(limits).percent(self.settings.key_percent);
        let usage = self.keys.get_with_by_ref(caller.key, async { shared(bounds, version) }).await;
        rebind(&usage, bounds, version);
        usage
    }
}

fn shared(bounds: Bounds, version: i64) -> Shared {
    Arc::new(ArcSwap::from_pointee(Usage::new(bounds, version)))
}

/// Sets these bounds, unless newer ones are set.
fn rebind(usage: &ArcSwap<Usage>, bounds: Bounds, version: i64) {
    usage.rcu(|usage| match usage.is_before(&bounds, version) {
        true => Arc::new(usage.rebound(bounds, version)),
        false => Arc::clone(usage),
    });
}
