//! Standard output, which its reader may close (`rushes list | head`) and a terminal may take away: never a panic.

use std::fmt::Display;
use std::io::Write;

use anyhow::Result;

/// Prints what was asked for. That nobody reads it any more is an error, which [`is_unread`] knows and `main` forgives.
pub fn print(text: impl Display) -> Result<()> {
    let mut out = std::io::stdout().lock();
    write!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

/// Prints a line, to whoever is there.
pub fn tell(line: impl Display) {
    let mut out = std::io::stdout().lock();
    // Whoever closed the terminal still wants everything to end in order.
    let _ = writeln!(out, "{line}");
}

/// Prints a line of error output, to whoever is there.
pub fn warn(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Whether `error` says that the reader of our output has gone.
pub fn is_unread(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
