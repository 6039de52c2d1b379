//! Which row of a rule has the rate: the first whose conditions hold. Nothing is priced by a row whose conditions do not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::{Decimal, Per, Row, Rule};

/// The most combinations of values that one rule may tell apart; beyond, its entry is refused.
const MAX_COMBINATIONS: usize = 100_000;

/// Why a rule has no rate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    /// The conditions ask for what is not known.
    Unknown(String),
    /// No row is for these values.
    NoRow(String),
    /// Too many combinations to check.
    TooMany,
}

/// The dearest rate of a rule over the values that are possible.
pub(super) fn dearest(rule: &Rule, values: &BTreeMap<String, Vec<String>>) -> Result<Decimal, Gap> {
    let names: Vec<&str> = rule
        .rows
        .iter()
        .flat_map(|row| row.when.keys())
        .map(String::as_str)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let mut choices = Vec::with_capacity(names.len());
    let mut combinations = 1_usize;
    for name in &names {
        let values =
            values.get(*name).filter(|values| !values.is_empty()).ok_or_else(|| Gap::Unknown((*name).to_owned()))?;
        let values = representatives(rule, name, values);
        combinations = combinations.saturating_mul(values.len());
        choices.push(values);
    }
    if combinations > MAX_COMBINATIONS {
        return Err(Gap::TooMany);
    }
    let mut dearest = Decimal::ZERO;
    for number in 0..combinations {
        let chosen = combination(&names, &choices, number);
        let row = rule.rows.iter().find(|row| holds(row, &chosen)).ok_or_else(|| Gap::NoRow(words(&chosen)))?;
        dearest = dearest.max(row.credits);
    }
    Ok(dearest)
}

/// Of values that no row tells apart, the first: a length in seconds may have thirty values, of which the rows know two.
fn representatives<'a>(rule: &Rule, name: &str, values: &'a [String]) -> Vec<&'a str> {
    let mut known = BTreeSet::new();
    let is_new = |value: &&'a String| {
        let rows: Vec<bool> =
            rule.rows.iter().map(|row| row.when.get(name).is_none_or(|allowed| allowed.contains(*value))).collect();
        known.insert(rows)
    };
    values.iter().filter(is_new).map(String::as_str).collect()
}

/// The combination with this number, of the product of all choices; the first name's value changes slowest.
fn combination<'a>(names: &[&'a str], choices: &[Vec<&'a str>], mut number: usize) -> BTreeMap<&'a str, &'a str> {
    let mut chosen = BTreeMap::new();
    for (name, values) in names.iter().zip(choices).rev() {
        chosen.insert(*name, values[number % values.len()]);
        number /= values.len();
    }
    chosen
}

fn holds(row: &Row, chosen: &BTreeMap<&str, &str>) -> bool {
    row.when
        .iter()
        .all(|(name, allowed)| chosen.get(name.as_str()).is_some_and(|value| allowed.iter().any(|one| one == value)))
}

/// `audio true, resolution 1080p`.
fn words(chosen: &BTreeMap<&str, &str>) -> String {
    let mut words = String::new();
    for (name, value) in chosen {
        let comma = if words.is_empty() { "" } else { ", " };
        let _ = write!(words, "{comma}{name} {value}");
    }
    if words.is_empty() { "any order".to_owned() } else { words }
}

/// What keeps a model from being priced, whatever is ordered: the first fault of its rules, or the first combination of the allowed
/// values that no row is for, in words; `None` where each order has a price.
///
/// `allowed` has, by setting, role in lower case or parameter, all values that an order may have: of a role `present` and `absent`.
#[must_use]
pub fn unpriced(rules: &[Rule], allowed: &BTreeMap<String, Vec<String>>) -> Option<String> {
    if rules.is_empty() {
        return Some(
            "has no rule, so that an order would be free; for a model without a price write a row of 0 credits"
                .to_owned(),
        );
    }
    rules.iter().enumerate().find_map(|(index, rule)| {
        let fault = fault(rule, allowed).or_else(|| {
            dearest(rule, allowed).err().map(|gap| match gap {
                Gap::Unknown(name) => format!("asks for `{name}`, which no order has"),
                Gap::NoRow(values) => format!("has no row for {values}"),
                Gap::TooMany => "tells more combinations of values apart than can be checked".to_owned(),
            })
        })?;
        Some(format!("rule {} (per {}) {fault}", index + 1, rule.per.as_str()))
    })
}

/// What a rule lacks, whatever is ordered.
fn fault(rule: &Rule, allowed: &BTreeMap<String, Vec<String>>) -> Option<String> {
    if rule.step.is_some_and(Decimal::is_zero) {
        return Some("has a step of 0".to_owned());
    }
    if rule.fps.is_some_and(Decimal::is_zero) {
        return Some("has an fps of 0".to_owned());
    }
    match rule.per {
        Per::GpuSecond if rule.max_seconds.is_none_or(Decimal::is_zero) => {
            Some("needs `max_seconds`, the longest run that is paid for, in seconds".to_owned())
        }
        Per::VideoMegapixel | Per::Kilotoken if rule.fps.is_none() && !allowed.contains_key("fps") => {
            Some("counts frames, but neither it nor a setting says `fps`".to_owned())
        }
        _ => None,
    }
}
