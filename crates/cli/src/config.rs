//! The environment beyond what `clap` reads for an option.

/// Whether colour and cursor movement are unwelcome (`NO_COLOR`, or a dumb terminal).
pub(crate) fn plain() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_none_or(|value| value == "dumb")
}
