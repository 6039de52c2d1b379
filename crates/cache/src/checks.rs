//! The observer's checks: a share of the hits is compared with the truth afterwards (`shadow_read`), and for a share of the changes
//! every process and Redis are asked later what they would serve (`replica_probe`).

pub(crate) mod replica_probe;
mod servable;
pub(crate) mod shadow_read;
