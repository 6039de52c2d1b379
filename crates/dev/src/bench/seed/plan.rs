//! How many accounts of which shape, and how many generations ("takes") each scene has, so that the sum is exact.

use std::fmt;

use anyhow::{Context, Result};

/// The fewest generations that leave room for every shape.
pub(in crate::bench) const FEWEST: u64 = 20_000;
/// From here on the plan has the size that the goals are meant for.
const FULL: u64 = 1_000_000;

/// What an account looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bench) enum Shape {
    /// 2 projects of 2 scenes: most accounts.
    Small,
    /// 8 projects of 6 scenes, 4 to 16 takes each.
    Studio,
    /// 30 projects of 6 scenes, 4 to 16 takes each.
    Wide,
    /// 300 projects of 4 scenes, 2 takes each.
    Large,
    /// A studio with 10 takes a scene.
    Shallow,
    /// A studio with 2,000 takes a scene.
    Deep,
}

impl Shape {
    /// Projects of the account, and scenes of each.
    pub(super) fn size(self) -> (usize, usize) {
        match self {
            Self::Small => (2, 2),
            Self::Studio | Self::Shallow | Self::Deep => (8, 6),
            Self::Wide => (30, 6),
            Self::Large => (300, 4),
        }
    }

    fn scenes(self) -> usize {
        let (projects, scenes) = self.size();
        projects * scenes
    }
}

/// The shapes of a run's accounts.
#[derive(Debug, Clone, Copy)]
pub(in crate::bench) struct Plan {
    seed: u64,
    generations: u64,
    small: usize,
    studio: usize,
    wide: usize,
    large: usize,
    deep: usize,
    /// Takes of each scene of a deep account.
    takes: usize,
    /// Generations of all small accounts together.
    rest: usize,
}

impl Plan {
    /// The plan for as many generations: one account for 50 of them, one in twenty a studio, one in a thousand wide, and one large.
    pub(in crate::bench) fn of(generations: u64, seed: u64) -> Result<Self> {
        let wanted = usize::try_from(generations)?;
        let accounts = wanted / 50;
        let (studio, wide, deep) = (accounts / 20, (accounts / 1_000).max(1), 2);
        let large = wide;
        let takes = usize::try_from((2_000 * generations / FULL).min(2_000))?;
        let small = accounts - studio - wide - large - 2 * deep;
        let plan = Self { seed, generations, small, studio, wide, large, deep, takes, rest: 0 };
        let fixed: usize = plan.fixed().map(|shape| plan.takes_of(shape).iter().sum::<usize>()).sum();
        let rest = wanted.checked_sub(fixed).with_context(|| format!("at least {FEWEST} generations are needed"))?;
        Ok(Self { rest, ..plan })
    }

    /// Every account: its shape, and the takes of each of its scenes, project by project.
    pub(super) fn accounts(&self) -> impl Iterator<Item = (Shape, Vec<usize>)> + '_ {
        let small = (0..self.small).map(|number| {
            let takes = share(self.rest, self.small, number);
            (Shape::Small, (0..Shape::Small.scenes()).map(|scene| share(takes, Shape::Small.scenes(), scene)).collect())
        });
        self.fixed().map(|shape| (shape, self.takes_of(shape))).chain(small)
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn generations(&self) -> u64 {
        self.generations
    }

    /// Takes of each scene of a deep account.
    pub(in crate::bench) fn takes(&self) -> usize {
        self.takes
    }

    /// Projects of the largest account.
    pub(super) fn max_projects() -> usize {
        Shape::Large.size().0
    }

    /// All accounts but the small ones.
    fn fixed(&self) -> impl Iterator<Item = Shape> + use<> {
        let of = |shape, count| std::iter::repeat_n(shape, count);
        of(Shape::Studio, self.studio)
            .chain(of(Shape::Wide, self.wide))
            .chain(of(Shape::Deep, self.deep))
            .chain(of(Shape::Shallow, self.deep))
            .chain(of(Shape::Large, self.large))
    }

    fn takes_of(&self, shape: Shape) -> Vec<usize> {
        let takes = |scene: usize| match shape {
            // 4 to 16, no two neighbours alike.
            Shape::Studio | Shape::Wide => 4 + scene * 7 % 13,
            Shape::Shallow => 10,
            Shape::Deep => self.takes,
            Shape::Large => 2,
            Shape::Small => 0,
        };
        (0..shape.scenes()).map(takes).collect()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let accounts = self.small + self.studio + self.wide + self.large + 2 * self.deep;
        write!(
            f,
            "{} generations in {accounts} accounts, {} with {} projects, {} scenes with {} generations each; seed {}",
            self.generations,
            self.large,
            Shape::Large.size().0,
            self.deep * Shape::Deep.scenes(),
            self.takes,
            self.seed
        )
    }
}

/// The part of `whole` that falls to one of `parts`, so that all parts sum up to it.
fn share(whole: usize, parts: usize, part: usize) -> usize {
    whole / parts + usize::from(part < whole % parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_has_exactly_the_generations_asked_for() {
        for generations in [FEWEST, 20_001, 77_777, FULL, 3_000_000] {
            let plan = Plan::of(generations, 1).unwrap();
            let sum: usize = plan.accounts().flat_map(|(_, takes)| takes).sum();
            assert_eq!(sum as u64, generations);
        }
        assert!(Plan::of(5_000, 1).is_err());
    }

    #[test]
    fn the_full_plan_is_as_promised() {
        let plan = Plan::of(FULL, 1).unwrap();
        let accounts: Vec<_> = plan.accounts().collect();
        assert_eq!(accounts.len(), 20_000);
        assert!(accounts.iter().any(|(shape, _)| shape.size().0 == 300));
        assert!(accounts.iter().any(|(_, takes)| takes.iter().all(|takes| *takes == 2_000)));
    }
}
