//! What readers wait on that join another reader's in-flight load.

use std::any::{Any, TypeId};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::Shared;
use tokio::sync::oneshot;

use coherence::read::Answer;

/// The result of a load: an answer, or the load's error, of the type that the handle names.
pub(crate) type Outcome = Result<Answer<Bytes>, Arc<dyn Any + Send + Sync>>;

/// What a reader waits on that joins a load.
#[derive(Clone)]
pub(crate) struct Handle {
    /// The type of the load's error: only a reader that can take this error may join.
    pub(crate) error: TypeId,
    pub(crate) outcome: Shared<oneshot::Receiver<Outcome>>,
}
