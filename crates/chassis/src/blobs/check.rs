//! The check of the storage when a service starts.
//!
//! Invariant: a fault that only somebody who changes a setting, a bucket or a right can mend stops the start with one sentence; a
//! storage that does not answer stops nothing.

use std::time::Duration;

use bytes::Bytes;
use object_store::{ObjectStoreExt as _, PutPayload, path::Path};

use super::{Error, Store};

/// How long a start waits for it at most.
const LIMIT: Duration = Duration::from_secs(5);

/// What is written: always the same under the same name, so that processes that start at once do not disturb one another.
const BYTES: &[u8] = b"This is written and read whenever a service starts.\n";

/// What a service does with the storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It reads only.
    Read,
    /// It reads what it writes.
    Write,
}

impl Store {
    /// Tries what the service will do: writes a small object and reads it, or only reads it.
    ///
    /// # Errors
    /// One sentence about what has to be changed.
    pub async fn check(&self, access: Access) -> Result<(), Error> {
        match tokio::time::timeout(LIMIT, self.attempt(access)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => self.judge(&error),
            Err(_) => {
                tracing::warn!("the object storage did not answer within {LIMIT:?}: it is used as soon as it does");
                Ok(())
            }
        }
    }

    async fn attempt(&self, access: Access) -> Result<(), object_store::Error> {
        let path = Path::from("start-check");
        if access == Access::Write {
            self.inner.put(&path, PutPayload::from_bytes(Bytes::from_static(BYTES))).await?;
        }
        match self.inner.get(&path).await {
            Ok(read) => read.bytes().await.map(drop),
            // Nobody who writes has started yet. A bucket that is missing says so by its code.
            Err(object_store::Error::NotFound { source, .. })
                if access == Access::Read && !source.to_string().contains("NoSuchBucket") =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn judge(&self, error: &object_store::Error) -> Result<(), Error> {
        use object_store::Error as E;
        let what = match error {
            E::NotFound { .. } => "there is no such bucket, make it first",
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => {
                "these credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) may not read and write there"
            }
            // A directory answers at once, and will not answer otherwise.
            _ if !self.typed => "the directory cannot be written to and read from",
            _ => {
                tracing::warn!(
                    error = error as &dyn std::error::Error,
                    "the object storage does not answer: it is used as soon as it does"
                );
                return Ok(());
            }
        };
        Err(Error::Settings(format!("{what} ({error})")))
    }
}
