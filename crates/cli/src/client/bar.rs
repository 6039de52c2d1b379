//! A progress bar on a terminal; elsewhere one line for each change of state or stage.

use std::io::{IsTerminal, Write};
use std::time::Instant;

use proto::generations::v1::Generation;

use crate::client::generations;
use crate::config;
use crate::out;
use crate::show;

const WIDTH: usize = 28;

/// Draws one generation's progress on standard error.
pub(crate) struct Bar {
    started: Instant,
    live: bool,
    last: String,
}

impl Bar {
    pub(crate) fn new() -> Self {
        let live = std::io::stderr().is_terminal() && !config::plain();
        Self { started: Instant::now(), live, last: String::new() }
    }

    /// Shows where `generation` is now.
    pub(crate) fn show(&mut self, generation: &Generation) {
        let progress = generation.progress.clone().unwrap_or_default();
        let percent = usize::try_from(progress.percent.clamp(0, 100)).unwrap_or(0);
        let state = show::state(generation.state);
        let step = generations::step(generation);
        let seconds = self.started.elapsed().as_secs_f64();
        let mut err = std::io::stderr().lock();
        if self.live {
            let full = percent * WIDTH / 100;
            let (full, empty) = ("█".repeat(full), "░".repeat(WIDTH - full));
            // Nothing depends on the bar: an error of the terminal is the terminal's.
            let _ = write!(err, "\r\x1b[K{full}{empty} {percent:>3} %  {state:<10}  {step}  {seconds:.1} s");
            let _ = err.flush();
        } else {
            let line = format!("{state} {step}");
            if line != self.last {
                let _ = writeln!(err, "{seconds:>6.1} s  {percent:>3} %  {}", line.trim_end());
                self.last = line;
            }
        }
    }

    /// Leaves the line, so that what follows begins on a new one.
    pub(crate) fn end(&self) {
        if self.live {
            out::warn("");
        }
    }
}
