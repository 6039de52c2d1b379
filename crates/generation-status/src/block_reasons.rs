//! Why generations that wait in the queue are not given out, found when they are read: a pause or a full account concerns a
//! hundred thousand at once, and none of their rows is written for it.
//!
//! Invariant: only the wait reason CAPACITY is replaced; a reason that was written for the generation itself stays.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use catalogue::Model;
use domain::generation::State;
use domain::id::AccountId;
use domain::provider::Provider;
use jobs::{BlockReason, Breaker, QueueStatus, Scope};
use prost::Message as _;
use proto::generations::v1 as api;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::model::{Generation, WaitReason, provider_of};
use crate::store::Store;

/// How often the queue's status is read.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);
/// The field number of `Generation.wait_reason`.
const WAIT_REASON_FIELD: u32 = 5;

/// The queue's status as it was at most a moment ago; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct BlockReasons(watch::Receiver<Arc<QueueStatus>>);

/// Publishes the queue's status to all [`BlockReasons`].
pub(crate) struct Refresher {
    status: watch::Sender<Arc<QueueStatus>>,
    store: Store,
}

impl BlockReasons {
    /// Nothing is blocked until the refresher, which the caller runs, has read the status once.
    pub(crate) fn new(store: Store) -> (Self, Refresher) {
        let (sender, receiver) = watch::channel(Arc::default());
        (Self(receiver), Refresher { status: sender, store })
    }

    /// The number of the wait reason to show in place of CAPACITY.
    pub(crate) fn of(&self, generation: &Generation) -> Option<i16> {
        if generation.state != State::Queued || generation.wait_reason != WaitReason::Capacity as i16 {
            return None;
        }
        let status = self.0.borrow().clone();
        status.block_reason(generation.account.0, &generation.model).map(|reason| to_proto(reason) as i16)
    }

    /// The open breaker of a model, or of its provider.
    pub(crate) fn breaker(&self, model: &Model) -> Option<Breaker> {
        let status = self.0.borrow().clone();
        status
            .breakers
            .iter()
            .find(|breaker| match breaker.scope {
                Scope::Pool => breaker.target == model.provider.as_str(),
                // The others go on; where there is none, the provider's own is open too.
                Scope::Key => false,
                Scope::Queue => breaker.target == model.id,
            })
            .cloned()
    }

    /// Whether a worker with these keys could order nothing at a provider: each that it has there is refused, and is not to be probed
    /// now. Where no worker has another, the provider's own breaker is open, and decides alone.
    pub(crate) fn rests(&self, provider: Provider, keys: &[String]) -> bool {
        let status = self.0.borrow().clone();
        let name = provider.as_str();
        let mut own = keys.iter().filter(|key| provider_of(key) == name).peekable();
        let paused = |breaker: &Breaker| breaker.scope == Scope::Pool && breaker.target == name;
        own.peek().is_some() && own.all(|key| status.resting_keys.contains(key)) && !status.breakers.iter().any(paused)
    }

    /// Whether some worker serves a model, as far as was seen within the last minute.
    pub(crate) fn is_served(&self, model: &Model) -> bool {
        self.0.borrow().served_queues.contains(&model.id)
    }

    /// An encoded generation of `account` with the reason why it is blocked.
    pub(crate) fn patch(&self, account: AccountId, encoded: Bytes) -> Bytes {
        let status = self.0.borrow().clone();
        if status.is_free() {
            return encoded;
        }
        let Ok(shown) = Waiting::decode(encoded.clone()) else { return encoded };
        if !shown.may_be_blocked() {
            return encoded;
        }
        let model = shown.model.strip_prefix("models/").unwrap_or(&shown.model);
        let Some(reason) = status.block_reason(account.0, model) else { return encoded };
        overridden(&encoded, to_proto(reason) as i32)
    }
}

/// An encoded generation with another wait reason.
pub(crate) fn overridden(encoded: &[u8], wait_reason: i32) -> Bytes {
    // Protobuf takes the last occurrence of a scalar field.
    let mut overridden = BytesMut::from(encoded);
    prost::encoding::int32::encode(WAIT_REASON_FIELD, &wait_reason, &mut overridden);
    overridden.freeze()
}

/// What an encoded [`api::Generation`] says of its wait; all that it has besides is passed over.
#[derive(Clone, PartialEq, prost::Message)]
struct Waiting {
    #[prost(enumeration = "api::State", tag = "4")]
    state: i32,
    #[prost(enumeration = "api::WaitReason", tag = "5")]
    wait_reason: i32,
    #[prost(string, tag = "7")]
    model: String,
}

impl Waiting {
    fn may_be_blocked(&self) -> bool {
        self.state() == api::State::Queued && self.wait_reason() == api::WaitReason::Capacity
    }
}

const fn to_proto(reason: BlockReason) -> api::WaitReason {
    match reason {
        BlockReason::Paused => api::WaitReason::Paused,
        BlockReason::Account => api::WaitReason::AccountLimit,
        BlockReason::Pool => api::WaitReason::ProviderThrottled,
        BlockReason::Unavailable => api::WaitReason::ProviderUnavailable,
    }
}

impl Refresher {
    /// Reads the status at an interval, until `stop`. While the database is away, the last known status is shown.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(REFRESH_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            match self.store.queue_status().await {
                Ok(status) => {
                    metrics::providers_unavailable(&self.status.borrow().breakers, &status.breakers);
                    self.status.send_if_modified(|known| {
                        let changed = **known != status;
                        if changed {
                            *known = Arc::new(status);
                        }
                        changed
                    });
                }
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "the queue's status could not be read");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_generation_its_wait_is_read() {
        let generation = api::Generation {
            name: "generations/1".to_owned(),
            version: 3,
            state: api::State::Queued.into(),
            wait_reason: api::WaitReason::Capacity.into(),
            scene: "projects/1/scenes/2".to_owned(),
            model: "models/veo-3".to_owned(),
            ..api::Generation::default()
        };
        let waiting = Waiting::decode(generation.encode_to_vec().as_slice()).unwrap();
        assert!(waiting.may_be_blocked());
        assert_eq!(waiting.model, generation.model);
        for other in [
            api::Generation { state: api::State::Processing.into(), ..generation.clone() },
            api::Generation { wait_reason: api::WaitReason::ProviderThrottled.into(), ..generation },
        ] {
            assert!(!Waiting::decode(other.encode_to_vec().as_slice()).unwrap().may_be_blocked());
        }
    }
}
