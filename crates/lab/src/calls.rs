//! Calls that are repeated until they are answered.
//!
//! Invariant: a refusal that another try would get as well ends it at once.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tonic::{Code, Request, Status};

/// How long one call may take.
pub(crate) const CALL: Duration = Duration::from_secs(5);
/// How long a call is repeated.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(90);

/// Calls until there is an answer that is one. `call` bounds its own time.
pub(crate) async fn until_answered<T>(what: &str, mut call: impl AsyncFnMut() -> Result<T, Status>) -> Result<T> {
    let until = Instant::now() + TIMEOUT;
    loop {
        match call().await {
            Ok(answer) => return Ok(answer),
            Err(status) if refused(&status) => bail!("{what} was refused: {status}"),
            Err(status) if Instant::now() >= until => bail!("{what} was not answered in {TIMEOUT:?}: {status}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// A request that may take [`CALL`].
pub(crate) fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL);
    request
}

/// Whether asking again would not help.
fn refused(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::NotFound
    )
}
