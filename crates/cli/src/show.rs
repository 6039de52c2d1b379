//! Money, times and states as people read them.

use chassis::text;
use proto::generations::v1::State;

/// Micro-credits as credits, without trailing zeros beyond the second place: `0.40`, `12.00`, `0.000125`.
pub fn credits(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    let micros = micros.unsigned_abs();
    let fraction = format!("{:06}", micros % 1_000_000);
    let kept = fraction.trim_end_matches('0').len().max(2);
    format!("{sign}{}.{}", micros / 1_000_000, &fraction[..kept])
}

/// A state's name.
pub fn state(number: i32) -> &'static str {
    State::try_from(number).unwrap_or_default().as_str_name()
}

/// Whether a generation in this state never changes again.
pub fn is_terminal(number: i32) -> bool {
    matches!(State::try_from(number), Ok(State::Completed | State::Failed | State::Cancelled | State::Expired))
}

/// A size in bytes, rounded.
pub fn bytes(size: i64) -> String {
    match u64::try_from(size).unwrap_or(0) {
        size @ 0..1_024 => format!("{size} bytes"),
        size @ 1_024..1_048_576 => format!("{}.{} KiB", size / 1_024, size % 1_024 * 10 / 1_024),
        size => format!("{}.{} MiB", size / 1_048_576, size % 1_048_576 * 10 / 1_048_576),
    }
}

/// The flag of a setting or a parameter: `--cfg-scale`.
pub fn flag(name: &str) -> String {
    format!("--{}", name.replace('_', "-"))
}

/// The first `max` characters of a line, with a sign that there was more.
pub fn short(text: &str, max: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= max {
        return line.to_owned();
    }
    format!("{}…", text::cut(line, max.saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_keeps_every_digit_that_counts() {
        for (micros, text) in
            [(0, "0.00"), (400_000, "0.40"), (12_000_000, "12.00"), (125, "0.000125"), (-1_500_000, "-1.50")]
        {
            assert_eq!(credits(micros), text);
        }
    }

    #[test]
    fn sizes_are_rounded_down() {
        for (size, text) in [(-1, "0 bytes"), (1_023, "1023 bytes"), (1_536, "1.5 KiB"), (5_000_000, "4.7 MiB")] {
            assert_eq!(bytes(size), text);
        }
    }

    #[test]
    fn long_lines_are_cut_by_characters() {
        assert_eq!(short("día de sol\nmore", 20), "día de sol");
        assert_eq!(short("día de sol", 5), "día …");
        assert_eq!(short("día 🇩🇪🇫🇷 de sol", 8), "día 🇩🇪…");
    }
}
