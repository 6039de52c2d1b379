//! Progress of the benchmark on standard error, since standard output is for its table.

/// Says what is being done.
pub(super) fn say(what: &str) {
    eprintln!("bench: {what}");
}
