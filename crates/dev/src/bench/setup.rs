//! What to measure, and what it is measured on.

use std::path::PathBuf;

use super::database::BenchDatabase;
use super::seed::{FEWEST, Plan, Seeded};
use super::services::Services;
use super::{chain, services};

/// How many generations and rounds a quick look has.
const QUICK: (u64, u32) = (50_000, 3);

/// What to measure, and on how much data.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// A look of a few minutes: 50,000 generations and 3 rounds.
    #[arg(long, conflicts_with_all = ["generations", "rounds"])]
    quick: bool,
    /// How many generations to seed; the goals are meant for 1,000,000 or more.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(FEWEST..=100_000_000))]
    pub(super) generations: u64,
    /// What the seeded data is drawn from; the same seed gives the same data.
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// How often ours and the baseline take turns in each row.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(super) rounds: u32,
    /// Measure these parts only, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(super) only: Vec<Part>,
    /// Also write the rows and their curves to this file, as an HTML page.
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
    /// Use the programs that lie beside this one, whatever they were built with.
    #[arg(long, hide = true)]
    pub(super) built: bool,
    #[command(subcommand)]
    pub(super) baseline: Option<chain::Role>,
}

impl Options {
    /// The same with what `--quick` stands for.
    pub(super) fn resolved(self) -> Self {
        if self.quick { Self { generations: QUICK.0, rounds: QUICK.1, ..self } } else { self }
    }

    /// Whether so little is measured on that what takes long by itself is cut short too.
    pub(super) fn is_quick(&self) -> bool {
        self.generations <= QUICK.0
    }
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Part {
    /// Services that nobody uses: memory, CPU, the time until one is ready, and the sizes of their programs.
    Idle,
    /// A dashboard that no cache has, against a hand-written statement and against three queries over history.
    Cold,
    /// The same account with few and with many generations a scene.
    Depth,
    /// Dashboard and status from the cache, through both hops, against a bare chain.
    Warm,
    /// Many callers of one key that is not cached, at one replica and at two.
    Misses,
    /// A committed change of status, against a plain update.
    Change,
    /// A thumbnail of a large picture.
    Thumbnail,
    /// Reads of a status while pictures are decoded.
    Decoding,
    /// Five hundred people at once, while replicas restart.
    Users,
    /// Four replicas behind one name.
    Replicas,
    /// Watches of dashboards, by the thousand.
    Watches,
    /// What the coherent cache's protocol costs.
    Cache,
}

impl Part {
    /// The services that it is measured on.
    pub(super) fn needs(self) -> &'static [&'static str] {
        match self {
            Self::Idle | Self::Decoding => &services::USUAL,
            Self::Cold | Self::Depth | Self::Misses => &["dashboard"],
            Self::Warm => &["dashboard", "generation-status", "gateway"],
            Self::Change => &["generation-status"],
            Self::Thumbnail => &["thumbnail-worker"],
            Self::Users => &["dashboard", "generation-status"],
            Self::Replicas | Self::Watches => &["dashboard", "gateway"],
            Self::Cache => &[],
        }
    }
}

/// What every part measures on.
pub(super) struct Bench {
    pub(super) options: Options,
    pub(super) plan: Plan,
    pub(super) seeded: Seeded,
    // Ended before what they are connected to.
    pub(super) services: Services,
    pub(super) database: BenchDatabase,
}
