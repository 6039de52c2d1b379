//! OpenRouter's prices of video models as rules.
//!
//! Its `pricing_skus` put conditions into the names of keys (`duration_seconds_with_audio_4k`), mix dollars and cents, and do not say
//! which key wins where several hold. Here the one with more conditions wins, and of two that differ in them the dearer one: a quote
//! is then never below the bill. A dollar is a credit.

use std::collections::{BTreeMap, BTreeSet};

use super::{Decimal, Per, Row, Rule};
use crate::Role;

/// Why a price of OpenRouter's is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSku {
    /// The key is not known.
    #[error("the price `{0}` is of no known kind")]
    Key(String),
    /// The price is no number.
    #[error("the price `{0}` {1}")]
    Price(String, super::NotDecimal),
    /// There is no price to which a minimum could belong.
    #[error("the price `{0}` is a minimum without a price")]
    Minimum(String),
}

/// A condition: the name of a setting, role or parameter, and its value.
type Conditions = BTreeSet<(&'static str, String)>;

/// What one key says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sku {
    per: Per,
    of: Option<Role>,
    conditions: Conditions,
    /// What the number is multiplied by to be credits for one.
    factor: Decimal,
    /// Whether it is the least that is charged.
    minimum: bool,
}

/// The rules that a model's `pricing_skus` come to. `resolutions` are the model's own spellings (`4K`), which rows then have.
///
/// # Errors
/// [`NotSku`], naming the key.
pub fn rules(skus: &BTreeMap<String, String>, resolutions: &[String]) -> Result<Vec<Rule>, NotSku> {
    let mut rules: Vec<(Rule, Vec<(Conditions, Decimal)>)> = Vec::new();
    let mut minimum = None;
    for (key, price) in skus {
        let sku = sku(key, resolutions).ok_or_else(|| NotSku::Key(key.clone()))?;
        let price: Decimal = price.parse().map_err(|error| NotSku::Price(key.clone(), error))?;
        let credits = price.checked_mul(sku.factor).ok_or_else(|| NotSku::Price(key.clone(), super::NotDecimal))?;
        if sku.minimum {
            minimum = Some((key, credits));
            continue;
        }
        match rules.iter_mut().find(|(rule, _)| rule.per == sku.per && rule.of == sku.of) {
            Some((_, rates)) => rates.push((sku.conditions, credits)),
            None => rules.push((rule(&sku), vec![(sku.conditions, credits)])),
        }
    }
    let mut rules: Vec<Rule> = rules.into_iter().map(|(rule, rates)| Rule { rows: rows(&rates), ..rule }).collect();
    if let Some((key, credits)) = minimum {
        let of_outputs = rules.iter_mut().find(|rule| rule.per.is_of_outputs());
        of_outputs.ok_or_else(|| NotSku::Minimum(key.clone()))?.minimum = Some(credits);
    }
    // What is made comes before what it is made from, as people read a bill.
    rules.sort_by_key(|rule| !rule.per.is_of_outputs());
    Ok(rules)
}

/// The rule of a key, without its rows. Tokens are those of Seedance, at 24 frames a second and one beside them, as it was billed.
fn rule(sku: &Sku) -> Rule {
    let (fps, extra_frames) = match sku.per {
        // Megapixels times seconds are the pixels of a video of one frame a second.
        Per::VideoMegapixel => (Some(Decimal::ONE), 0),
        Per::Kilotoken => (Some(Decimal::whole(24)), 1),
        _ => (None, 0),
    };
    Rule { per: sku.per, rows: Vec::new(), step: None, minimum: None, of: sku.of, max_seconds: None, fps, extra_frames }
}

/// The bases of keys: what is counted, and whether the number is in cents or for a single token.
const BASES: [(&str, Per, Factor); 9] = [
    ("cents_per_second_video_continuation", Per::Second, Factor::Cents),
    ("cents_per_video_output_second", Per::Second, Factor::Cents),
    ("cents_per_second_output", Per::Second, Factor::Cents),
    ("cents_per_megapixel_second", Per::VideoMegapixel, Factor::Cents),
    ("minimum_cents_per_generation", Per::Second, Factor::Cents),
    ("cents_per_image_input", Per::InputImage, Factor::Cents),
    ("reference_images", Per::InputImage, Factor::Dollars),
    ("duration_seconds", Per::Second, Factor::Dollars),
    ("video_tokens", Per::Kilotoken, Factor::Tokens),
];

#[derive(Clone, Copy)]
enum Factor {
    Dollars,
    Cents,
    Tokens,
}

/// What a key says; `None` where any part of it is not understood, since a condition that is overlooked is a wrong price.
fn sku(key: &str, resolutions: &[String]) -> Option<Sku> {
    let mut conditions = Conditions::new();
    let mut rest = key;
    for (prefix, first_frame) in [("text_to_video_", "absent"), ("image_to_video_", "present")] {
        if let Some(after) = rest.strip_prefix(prefix) {
            conditions.insert(("first_frame", first_frame.to_owned()));
            rest = after;
        }
    }
    let (base, per, factor) = BASES.into_iter().find(|(base, ..)| rest.starts_with(base))?;
    if base == "cents_per_second_video_continuation" {
        conditions.insert(("source", "present".to_owned()));
    }
    let mut rest = rest.strip_prefix(base)?;
    while !rest.is_empty() {
        let (condition, after) = condition(rest, resolutions)?;
        if !conditions.insert(condition) {
            return None;
        }
        rest = after;
    }
    let names: BTreeSet<&str> = conditions.iter().map(|(name, _)| *name).collect();
    if names.len() < conditions.len() {
        return None;
    }
    Some(Sku {
        per,
        of: (base == "reference_images").then_some(Role::Reference),
        conditions,
        factor: match factor {
            Factor::Dollars => Decimal::ONE,
            Factor::Cents => Decimal::thousandths(10),
            Factor::Tokens => Decimal::whole(1000),
        },
        minimum: base == "minimum_cents_per_generation",
    })
}

/// The condition that a key's ending begins with, and what follows it.
fn condition<'a>(rest: &'a str, resolutions: &[String]) -> Option<((&'static str, String), &'a str)> {
    for (ending, name, value) in [
        ("_without_audio", "audio", "false"),
        ("_with_audio", "audio", "true"),
        ("_with_video_input", "source", "present"),
        ("_precise", "creativity", "0"),
        ("_creative", "creativity", "1"),
    ] {
        if let Some(after) = rest.strip_prefix(ending) {
            return Some(((name, value.to_owned()), after));
        }
    }
    let rest = rest.strip_prefix('_')?;
    let end = rest.find('_').unwrap_or(rest.len());
    let (resolution, after) = rest.split_at(end);
    let digits = resolution.strip_suffix(['p', 'k'])?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let own = resolutions.iter().find(|own| own.eq_ignore_ascii_case(resolution));
    Some((("resolution", own.map_or_else(|| resolution.to_owned(), Clone::clone)), after))
}

/// Ordered rows, of which the first that holds is the right one: each combination of conditions that may hold together has its own row,
/// before those of fewer conditions; rows that change nothing are left out.
fn rows(rates: &[(Conditions, Decimal)]) -> Vec<Row> {
    let mut combinations: BTreeSet<Conditions> = rates.iter().map(|(conditions, _)| conditions.clone()).collect();
    loop {
        let together: Vec<Conditions> = combinations
            .iter()
            .flat_map(|one| rates.iter().map(move |(other, _)| one.union(other).cloned().collect::<Conditions>()))
            .filter(|conditions| !contradictory(conditions) && !combinations.contains(conditions))
            .collect();
        if together.is_empty() {
            break;
        }
        combinations.extend(together);
    }
    // The fewest conditions first, so that each row knows what would be found without it.
    let mut ordered: Vec<Conditions> = combinations.into_iter().collect();
    ordered.sort_by_key(Conditions::len);
    let mut kept: Vec<(Conditions, Decimal)> = Vec::new();
    for conditions in ordered {
        let rate = winner(rates, &conditions);
        let without = kept.iter().rev().find(|(fewer, _)| fewer.is_subset(&conditions)).map(|(_, rate)| *rate);
        if without != Some(rate) {
            kept.push((conditions, rate));
        }
    }
    let row = |(conditions, credits): (Conditions, Decimal)| Row {
        when: conditions.into_iter().map(|(name, value)| (name.to_owned(), vec![value])).collect(),
        credits,
    };
    kept.into_iter().rev().map(row).collect()
}

fn contradictory(conditions: &Conditions) -> bool {
    conditions.iter().map(|(name, _)| name).collect::<BTreeSet<_>>().len() < conditions.len()
}

/// The rate where all these conditions hold: the dearest of those keys whose conditions are no part of another's.
fn winner(rates: &[(Conditions, Decimal)], all: &Conditions) -> Decimal {
    let matching = || rates.iter().filter(|(conditions, _)| conditions.is_subset(all));
    let outdone = |one: &Conditions| matching().any(|(other, _)| one != other && one.is_subset(other));
    matching().filter(|(conditions, _)| !outdone(conditions)).map(|(_, rate)| *rate).max().unwrap_or_default()
}
