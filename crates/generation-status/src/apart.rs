//! Work that is long where there is much of it, kept away from the threads that answer everybody's calls.

use crate::error::Error;

/// How many generations are made of rows or encoded by a thread that answers calls as well: as many as a page has. More take a thread of
/// their own.
const AT_ONCE: usize = 100;

/// Does `work`, which is on so many generations.
pub(crate) async fn apart<T, W>(generations: usize, work: W) -> Result<T, Error>
where
    T: Send + 'static,
    W: FnOnce() -> T + Send + 'static,
{
    if generations <= AT_ONCE {
        return Ok(work());
    }
    // It does not come back only where the process ends.
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Draining)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn much_is_done_by_another_thread_and_little_at_once() {
        let here = thread::current().id();
        let done_by = async |generations| apart(generations, || thread::current().id()).await.unwrap();
        assert_eq!(done_by(AT_ONCE).await, here);
        assert_ne!(done_by(AT_ONCE + 1).await, here);
    }
}
