//! Why generations that wait in the queue are not given out, told when they are read: a pause or a full account concerns a
//! hundred thousand at once, and none of their rows is written for it.
//!
//! Invariant: only what stands as CAPACITY is told otherwise; a reason that was written for the generation itself stays.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use domain::generation::State;
use domain::id::AccountId;
use jobs::{BlockReason, QueueStatus};
use prost::Message as _;
use proto::generations::v1::{Generation, WaitReason};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::record::{Record, Wait};
use crate::store::Store;

/// How often it is looked what is held back.
const LOOK: Duration = Duration::from_secs(1);

/// The number of `Generation.wait_reason`.
const WAIT_REASON: u32 = 5;

/// What is held back, as it was a moment ago; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Holds(watch::Receiver<Arc<QueueStatus>>);

impl Holds {
    /// Nothing is held back until the first poll, which `keep_looking` takes.
    pub(crate) fn new() -> (Self, watch::Sender<Arc<QueueStatus>>) {
        let (told, held) = watch::channel(Arc::default());
        (Self(held), told)
    }

    /// Why this generation stands still, should it be for a reason that is not written on it.
    pub(crate) fn of(&self, record: &Record) -> Option<i16> {
        if record.state != State::Queued || record.wait_reason != Wait::Capacity as i16 {
            return None;
        }
        let standing = self.0.borrow().clone();
        standing.block_reason(record.account.0, &record.model).map(|hold| reason(hold) as i16)
    }

    /// An encoded generation of `account` with the reason why it stands still.
    pub(crate) fn retold(&self, account: AccountId, encoded: Bytes) -> Bytes {
        let standing = self.0.borrow().clone();
        if standing.is_free() {
            return encoded;
        }
        let Ok(shown) = Generation::decode(encoded.clone()) else { return encoded };
        if shown.state() != proto::generations::v1::State::Queued || shown.wait_reason() != WaitReason::Capacity {
            return encoded;
        }
        let model = shown.model.strip_prefix("models/").unwrap_or(&shown.model);
        let Some(hold) = standing.block_reason(account.0, model) else { return encoded };
        // Of a field that comes twice, the last one counts.
        let mut retold = BytesMut::from(encoded.as_ref());
        prost::encoding::int32::encode(WAIT_REASON, &(reason(hold) as i32), &mut retold);
        retold.freeze()
    }
}

const fn reason(hold: BlockReason) -> WaitReason {
    match hold {
        BlockReason::Paused => WaitReason::Paused,
        BlockReason::Account => WaitReason::AccountLimit,
        BlockReason::Pool => WaitReason::ProviderThrottled,
    }
}

/// Looks every so often, until `stop`. While the database is away, what was last known is told.
pub(crate) async fn keep_looking(told: watch::Sender<Arc<QueueStatus>>, store: Store, stop: CancellationToken) {
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        match store.standing().await {
            Ok(standing) => {
                told.send_if_modified(|known| {
                    let changed = **known != standing;
                    if changed {
                        *known = Arc::new(standing);
                    }
                    changed
                });
            }
            Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "what is held back is not known"),
        }
    }
}
