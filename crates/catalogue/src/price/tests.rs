//! Prices against bills that were recorded, every shape of price that was found, and rules and orders at random.

mod bills;
mod openrouter;
mod random;
mod shapes;

use std::collections::BTreeMap;

use super::{Decimal, Facts, MadeOutput, Per, Price, Row, Rule};
use crate::MediaKind;

fn d(text: &str) -> Decimal {
    text.parse().expect("a decimal number")
}

/// A row: `"audio=true resolution=720p|1080p"` and its rate.
fn row(when: &str, credits: &str) -> Row {
    let condition = |text: &str| {
        let (name, values) = text.split_once('=').expect("name=value");
        (name.to_owned(), values.split('|').map(str::to_owned).collect())
    };
    Row { when: when.split_whitespace().map(condition).collect(), credits: d(credits) }
}

fn rule(per: Per, rows: &[(&str, &str)]) -> Rule {
    let rows = rows.iter().map(|(when, credits)| row(when, credits)).collect();
    Rule { per, rows, step: None, minimum: None, of: None, max_seconds: None, fps: None, extra_frames: 0 }
}

/// What is known of an order: `"audio=true resolution=720p|1080p"`, of which several values are open.
fn values(text: &str) -> BTreeMap<String, Vec<String>> {
    row(text, "0").when
}

fn order(text: &str) -> Facts {
    Facts { values: values(text), outputs: 1, ..Facts::default() }
}

fn video(width: u32, height: u32, duration_ms: u64) -> MadeOutput {
    MadeOutput { kind: MediaKind::Video, width, height, duration_ms }
}

fn lines(price: &Price) -> Vec<String> {
    price
        .lines
        .iter()
        .map(|line| format!("{} {} x {} = {}", line.quantity, line.per.as_str(), line.unit_price, line.credits))
        .collect()
}
