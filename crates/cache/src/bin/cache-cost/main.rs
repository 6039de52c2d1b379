//! `cache-cost`: what the cache's protocol costs. `cargo rushes bench` starts its servers and reads what it prints: a line
//! for each round, of `name=value`.
//!
//! A program of this crate and not a part of the command: it measures what a service is built from, and nothing besides.

mod propagation;
mod reads;
mod replica;
mod result;
mod shares;

use chassis::settings::Source;
use chassis::telemetry::{self, Telemetry};
use result::Result;

// As the rest of the workspace names it.
extern crate rushes_cache as cache;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, rounds] = &arguments[..] else { return Err("usage: cache-cost reads|propagation|shares ROUNDS".into()) };
    let rounds: usize = rounds.parse()?;
    let source = Source::process();
    // Counters cost what they cost in a service.
    let telemetry = Telemetry::start("cache-cost", &telemetry::Settings::read(&source)?);
    let measured = match &what[..] {
        "reads" => reads::measure(&source, rounds).await,
        "propagation" => propagation::measure(&source, rounds).await,
        "shares" => shares::measure(&source, rounds).await,
        _ => Err("measures reads, propagation or shares".into()),
    };
    telemetry.shutdown();
    measured
}
