//! Objects that are found by looking through the storage, and removed.
//!
//! Invariant: what has no object's name is neither listed nor removed, whoever put it there.

use std::time::SystemTime;

use futures::{Stream, StreamExt as _};
use object_store::{ObjectStore as _, ObjectStoreExt as _, path::Path};

use super::{Error, Name, Store, measured, path};

/// An object as a listing has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its name.
    pub name: Name,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was stored.
    pub stored: SystemTime,
}

impl Store {
    /// The objects whose names begin with this byte, in any order, as the storage gives them: a page of a bucket at a time.
    pub fn list(&self, first: u8) -> impl Stream<Item = Result<Object, Error>> + Send + Unpin + use<> {
        let listed = self.inner.list(Some(&Path::from(format!("{first:02x}"))));
        let object = async |found: Result<object_store::ObjectMeta, object_store::Error>| match found {
            Ok(meta) => {
                let name = meta.location.filename()?.parse::<Name>().ok()?;
                // One that lies elsewhere is not what a name leads to.
                let own = path(&name) == meta.location;
                own.then(|| Ok(Object { name, bytes: meta.size, stored: meta.last_modified.into() }))
            }
            // A directory without objects, or an object that was removed while it was listed.
            Err(object_store::Error::NotFound { .. }) => None,
            Err(error) => Some(Err(Error::Storage(error))),
        };
        Box::pin(listed.filter_map(object))
    }

    /// Removes an object. That there is none is no error.
    ///
    /// # Errors
    /// When the storage fails; then it may be removed or not.
    pub async fn remove(&self, name: &Name) -> Result<(), Error> {
        let work = async {
            match self.inner.delete(&path(name)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(Error::Storage(error)),
            }
        };
        measured("remove", work).await
    }
}
