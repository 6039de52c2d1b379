//! A connection that is opened by the first call which needs it.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use tokio::sync::Notify;

use super::{
    connection::{Broken, Connection},
    spread::Resolve,
};

type Opening = Shared<BoxFuture<'static, Result<Connection, Broken>>>;

/// A connection that is opened by the first call which needs it, and anew by the first one after it was lost. Calls that come meanwhile
/// wait for the same attempt.
pub(super) struct Lazy {
    resolve: Resolve,
    window: u32,
    last: Mutex<Option<Opening>>,
}

impl std::fmt::Debug for Lazy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lazy").finish_non_exhaustive()
    }
}

impl Lazy {
    /// To the first address of `resolve` that answers; `window` bytes of each call's answer wait unread.
    pub(super) fn new(resolve: Resolve, window: u32) -> Self {
        Self { resolve, window, last: Mutex::default() }
    }

    pub(super) async fn get(&self) -> Result<Connection, Broken> {
        let opening = {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            match last.as_ref().map(|opening| (opening, opening.peek())) {
                Some((_, Some(Ok(connection)))) if connection.is_open() => return Ok(connection.clone()),
                Some((opening, None)) => opening.clone(),
                _ => last.insert(self.open()).clone(),
            }
        };
        opening.await
    }

    fn open(&self) -> Opening {
        let (resolve, window) = (Arc::clone(&self.resolve), self.window);
        // In a task of its own: a caller that gives up takes the attempt from nobody else.
        let opening = tokio::spawn(async move {
            let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for address in resolve().await? {
                match Connection::open(address, window, Arc::new(Notify::new())).await {
                    Ok(connection) => return Ok(connection),
                    Err(error) => failed = error,
                }
            }
            Err(failed)
        });
        let outcome = async move {
            let opened = opening.await.map_err(io::Error::other).flatten();
            opened.map_err(|error| Broken::Connect(Arc::new(error)))
        };
        outcome.boxed().shared()
    }
}
