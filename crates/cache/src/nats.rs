//! NATS: the relay's messages, the hints of writers, and the questions for the clock and of the observer. No message is relied on to
//! arrive.

pub(crate) mod clock;
mod message;
pub(crate) mod probe;
mod subscriber;

pub(crate) use message::{Hint, MAX_TRACES, Message};
pub(crate) use subscriber::listen;

/// The relay's messages.
pub(crate) fn invalidations(space: &str) -> String {
    format!("{space}.cache.inv.0")
}

/// The hints that writers publish right after their commit.
pub(crate) fn hints(space: &str) -> String {
    format!("{space}.cache.hint")
}

/// The questions for PostgreSQL's clock of processes without a database.
pub(crate) fn clock_questions(space: &str) -> String {
    format!("{space}.cache.clock")
}

/// The observer's questions of what every process would serve.
pub(crate) fn probe_questions(space: &str) -> String {
    format!("{space}.cache.probe")
}

/// Whether the client believes that it is connected. While it is not, what is published queues up and arrives late.
pub(crate) fn is_up(client: &async_nats::Client) -> bool {
    client.connection_state() == async_nats::connection::State::Connected
}
