//! The protocol without I/O: clocks, messages and answers go in, decisions come out.
//!
//! One file per rule. Nothing here reads a clock, takes a lock, allocates a task or touches a socket, so that a seeded
//! simulator can drive exactly the code that ships. Each guard (a condition that refuses something) says in one sentence
//! which history it stops; which guards are enforced is a type parameter of the rules, whose default enforces all.

pub mod asof;
pub mod clock;
pub mod entry;
pub mod guards;
pub mod in_flight;
pub mod lifetime;
pub mod read;
pub mod relay;
pub mod time;
pub mod token;
pub mod watermarks;
pub mod window;

use std::time::Duration;

/// The promise: no read is based on data older than this when it begins.
pub const BOUND: Duration = Duration::from_secs(1);

/// A disagreement between two readings of PostgreSQL's clock beyond which it was stepped, not slewed.
pub const STEP: Duration = Duration::from_millis(100);

/// How long a watermark lasts: after twice the bound every acceptable proof is younger than what raised it.
pub const WATERMARK_TTL: Duration = Duration::from_secs(2);

/// How long after its start a load may still fill a tier.
pub const FILL_DEADLINE: Duration = BOUND;
