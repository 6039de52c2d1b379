//! NATS: the relay's messages, the hints of writers, and the questions for the clock and of the observer. Nothing here is trusted to arrive.

pub(crate) mod clock;
mod message;
pub(crate) mod peek;
mod subscriber;

pub(crate) use message::{Hint, Message, TRACES};
pub(crate) use subscriber::listen;

/// The relay's messages.
pub(crate) fn invalidations(space: &str) -> String {
    format!("{space}.cache.inv.0")
}

/// What writers say right after their commit.
pub(crate) fn hints(space: &str) -> String {
    format!("{space}.cache.hint")
}

/// Where a process without a database asks for PostgreSQL's clock.
pub(crate) fn clock_questions(space: &str) -> String {
    format!("{space}.cache.clock")
}

/// Where the observer asks every process what it would serve.
pub(crate) fn peek_questions(space: &str) -> String {
    format!("{space}.cache.peek")
}

/// Whether the client believes that it is connected. While it is not, what is published piles up and arrives late.
pub(crate) fn is_up(client: &async_nats::Client) -> bool {
    client.connection_state() == async_nats::connection::State::Connected
}
