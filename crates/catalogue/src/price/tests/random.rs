//! Rules and orders at random: a capture is never more than its quote, sums are exact, and more never costs less.

use std::collections::BTreeMap;

use super::super::{Decimal, Facts, Made, MadeOutput, Per, Row, Rule, Terms, terms, unpriced};
use crate::{MediaKind, Role};

const PERS: [Per; 10] = [
    Per::Generation,
    Per::Output,
    Per::Second,
    Per::InputSecond,
    Per::InputImage,
    Per::Megapixel,
    Per::VideoMegapixel,
    Per::Kilotoken,
    Per::GpuSecond,
    Per::Character,
];

fn decimal(random: &mut fastrand::Rng, whole: u64, places: u32) -> Decimal {
    let whole = random.u64(..whole);
    let places: String = (0..places).map(|_| random.digit(10)).collect();
    format!("{whole}.{places}").parse().expect("a decimal number")
}

fn maybe<T>(random: &mut fastrand::Rng, one_in: u32, make: impl FnOnce(&mut fastrand::Rng) -> T) -> Option<T> {
    (random.u32(..one_in) == 0).then(|| make(random))
}

fn random_values(random: &mut fastrand::Rng, some: bool) -> BTreeMap<String, Vec<String>> {
    let mut values = BTreeMap::new();
    for (name, of) in [
        ("resolution", ["480p", "720p", "1080p"].as_slice()),
        ("audio", &["true", "false"]),
        ("first_frame", &["present", "absent"]),
    ] {
        let mut few: Vec<String> =
            of.iter().filter(|_| !some || random.bool()).map(|value| (*value).to_owned()).collect();
        if few.is_empty() {
            few.push(of[0].to_owned());
        }
        values.insert(name.to_owned(), few);
    }
    values
}

fn random_rule(random: &mut fastrand::Rng) -> Rule {
    let rows = (0..random.usize(1..5))
        .map(|_| Row {
            when: random_values(random, true).into_iter().filter(|_| random.bool()).collect(),
            credits: decimal(random, 3, 7),
        })
        .collect();
    Rule {
        per: PERS[random.usize(..PERS.len())],
        rows,
        step: maybe(random, 3, |random| {
            [Decimal::ONE, "0.5".parse().expect("a number"), "1000".parse().expect("a number")][random.usize(..3)]
        }),
        minimum: maybe(random, 4, |random| decimal(random, 2, 3)),
        of: maybe(random, 3, |random| [Role::FirstFrame, Role::Source, Role::Audio][random.usize(..3)]),
        max_seconds: Some(Decimal::whole(random.u64(1..900))),
        fps: Some(["23.976", "24", "25", "29.97", "1"][random.usize(..5)].parse().expect("a number")),
        extra_frames: random.u32(..2),
    }
}

fn random_order(random: &mut fastrand::Rng) -> Facts {
    Facts {
        values: random_values(random, true),
        seconds: Some(Decimal::thousandths(random.u64(500..20_000))),
        size: Some((random.u32(16..4_000), random.u32(16..4_000))),
        fps: maybe(random, 2, |random| Decimal::whole(random.u64(1..61))),
        outputs: random.u32(..5),
        media: [Role::FirstFrame, Role::Source, Role::Audio]
            .into_iter()
            .filter_map(|role| {
                let files = (random.u32(..4), Decimal::thousandths(random.u64(..60_000)));
                random.bool().then_some((role, files))
            })
            .collect(),
        characters: random.u32(..5_000),
    }
}

fn random_output(random: &mut fastrand::Rng) -> MadeOutput {
    let number = |random: &mut fastrand::Rng, to: u32| match random.u32(..10) {
        0 => 0,
        1 => u32::MAX,
        _ => random.u32(..to),
    };
    MadeOutput {
        kind: [MediaKind::Video, MediaKind::Image, MediaKind::Audio][random.usize(..3)],
        width: number(random, 5_000),
        height: number(random, 5_000),
        duration_ms: if random.u32(..20) == 0 { u64::MAX } else { number(random, 30_000).into() },
    }
}

/// Rules that price each order, and an order: whatever the seed.
fn priced(random: &mut fastrand::Rng) -> (Vec<Rule>, Facts, Terms) {
    let all = random_values(random, false);
    loop {
        let rules: Vec<Rule> = (0..random.usize(1..4)).map(|_| random_rule(random)).collect();
        let facts = random_order(random);
        if unpriced(&rules, &all).is_none() {
            let terms = terms(&rules, &facts).expect("rules that price each order price this one");
            return (rules, facts, terms);
        }
    }
}

/// A non-negative fraction.
#[derive(Clone, Copy, Debug)]
struct Ratio(i128, i128);

impl Ratio {
    fn of(decimal: Decimal) -> Self {
        Self(decimal.units(), 1_000_000_000_000).reduced()
    }

    fn reduced(self) -> Self {
        let (mut a, mut b) = (self.0, self.1);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        Self(self.0 / a.max(1), self.1 / a.max(1))
    }

    fn times(self, other: Self) -> Self {
        // Reduced crosswise first, so that the products stay small.
        let (one, two) = (Self(self.0, other.1).reduced(), Self(other.0, self.1).reduced());
        Self(one.0 * two.0, two.1 * one.1)
    }

    /// In units of 10⁻¹², rounded up.
    fn units_up(self) -> i128 {
        let Self(whole, rest) = Self(self.0 / self.1, self.0 % self.1);
        whole * 1_000_000_000_000 + (rest * 1_000_000_000_000 + self.1 - 1) / self.1
    }
}

#[test]
fn a_capture_is_never_more_than_its_quote() {
    let mut smaller = 0;
    for seed in 0..2_000 {
        let random = &mut fastrand::Rng::with_seed(seed);
        let (rules, facts, terms) = priced(random);
        // As for an account with a margin, that of half of them less than 1.
        let margin = decimal(random, 2, 12).checked_add(Decimal::thousandths(1)).expect("a margin");
        let margin = if random.bool() { margin.share(10) } else { margin };
        let terms = terms.with_margin(margin).expect("terms");
        let quote = terms.quote();
        let made = Made {
            outputs: (0..random.usize(..6)).map(|_| random_output(random)).collect(),
            run_ms: maybe(random, 2, |random| random.u64(..2_000_000)),
        };
        let capture = terms.capture(&made);
        assert!(capture.total <= quote.total, "seed {seed}: {rules:?} {facts:?} {made:?}");
        assert!(made.outputs.is_empty() <= (capture.total.get() == 0), "seed {seed}: nothing was made");
        smaller += u32::from(capture.total < quote.total);
        for price in [&quote, &capture] {
            let sum: i128 = price.lines.iter().map(|line| line.credits.units()).sum();
            assert_eq!(
                i128::from(price.total.get()),
                (sum + 999_999) / 1_000_000,
                "seed {seed}: the lines' sum, rounded up once"
            );
        }
    }
    assert!(smaller > 500, "only {smaller} captures differ from their quote");
}

#[test]
fn lines_are_the_exact_products() {
    for seed in 0..2_000 {
        let random = &mut fastrand::Rng::with_seed(seed);
        let (_, _, terms) = priced(random);
        let factor = decimal(random, 2, 4).checked_add(Decimal::ONE).expect("a factor");
        let dearer = terms.with_margin(factor).expect("terms");
        for terms in [&terms, &dearer] {
            let parts = terms.parts.iter().filter(|part| !part.max_quantity.is_zero());
            for (part, line) in parts.zip(&terms.quote().lines) {
                let exact = Ratio::of(part.rate).times(Ratio::of(line.quantity)).units_up();
                assert_eq!(line.credits.units(), exact.max(part.minimum.unwrap_or_default().units()), "seed {seed}");
            }
        }
        for (part, dearer) in terms.parts.iter().zip(&dearer.parts) {
            assert_eq!(dearer.rate.units(), Ratio::of(part.rate).times(Ratio::of(factor)).units_up(), "seed {seed}");
        }
    }
}

#[test]
fn counts_are_the_exact_quotients() {
    let rate = |per| Rule {
        per,
        rows: vec![Row { when: BTreeMap::new(), credits: Decimal::ONE }],
        ..random_rule(&mut fastrand::Rng::with_seed(1))
    };
    for seed in 0..2_000 {
        let facts = random_order(&mut fastrand::Rng::with_seed(seed));
        for (per, divisor) in [(Per::VideoMegapixel, 1_000_000), (Per::Kilotoken, 1_024_000)] {
            let rule = Rule { step: None, ..rate(per) };
            let terms = terms(std::slice::from_ref(&rule), &facts).expect("a price");
            let (width, height) = facts.size.expect("a size");
            let fps = facts.fps.or(rule.fps).expect("frames");
            // Of thousandths by thousandths, so that it fits.
            let frames = fps.units() / 1_000_000_000 * (facts.seconds.expect("a length").units() / 1_000_000_000)
                + i128::from(rule.extra_frames) * 1_000_000;
            let exact = Ratio(i128::from(width) * i128::from(height) * frames, 1_000_000 * divisor).reduced();
            assert_eq!(
                terms.parts[0].max_quantity.units(),
                exact.units_up() * i128::from(facts.outputs.max(1)),
                "seed {seed}"
            );
        }
    }
}

#[test]
fn more_never_costs_less() {
    for seed in 0..2_000 {
        let random = &mut fastrand::Rng::with_seed(seed);
        let (rules, facts, terms_of_less) = priced(random);
        let mut more = facts.clone();
        match random.u32(..5) {
            0 => more.outputs = facts.outputs.max(1) + 1,
            1 => more.seconds = facts.seconds.and_then(|seconds| seconds.checked_add(decimal(random, 5, 3))),
            2 => more.size = facts.size.map(|(width, height)| (width + random.u32(..100), height)),
            3 => more.characters += random.u32(..1_000),
            _ => {
                more.media.entry(Role::Source).or_default().0 += 1;
            }
        }
        let terms_of_more = terms(&rules, &more).expect("a price");
        assert!(terms_of_more.quote().total >= terms_of_less.quote().total, "seed {seed}");

        let output = random_output(random);
        let longer = MadeOutput { duration_ms: output.duration_ms.saturating_add(random.u64(..500)), ..output };
        let larger = MadeOutput { width: output.width.saturating_add(random.u32(..50)), ..output };
        let capture =
            |output: MadeOutput| terms_of_less.capture(&Made { outputs: vec![output], run_ms: Some(5) }).total;
        // A file that does not tell counts as ordered, so that only those that tell are compared.
        if output.duration_ms > 0 && output.width > 0 && output.height > 0 {
            assert!(capture(longer) >= capture(output), "seed {seed}: {output:?}");
            assert!(capture(larger) >= capture(output), "seed {seed}: {output:?}");
        }
    }
}

#[test]
fn no_number_makes_it_panic() {
    for seed in 0..2_000 {
        let random = &mut fastrand::Rng::with_seed(seed);
        let huge = |random: &mut fastrand::Rng| decimal(random, 999_999_999_999_999, 12);
        let mut rule = random_rule(random);
        rule.rows = vec![Row { when: BTreeMap::new(), credits: huge(random) }];
        rule.max_seconds = Some(huge(random));
        let mut facts = random_order(random);
        (facts.seconds, facts.size, facts.outputs) = (Some(huge(random)), Some((u32::MAX, u32::MAX)), u32::MAX);
        if let Ok(terms) = terms(&[rule], &facts) {
            let made = Made { outputs: vec![random_output(random); 3], run_ms: Some(u64::MAX) };
            assert!(terms.capture(&made).total <= terms.quote().total, "seed {seed}");
        }
    }
}
