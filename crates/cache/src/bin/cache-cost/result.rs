//! What can go wrong ends the program.

use std::error::Error;

/// The result of everything here.
pub(crate) type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;
