//! `cargo rushes torture`, `crash-points` and `nemesis`: what the laboratory runs is installed and built, then it runs, until a
//! signal comes.
//!
//! Invariant: progress goes to standard error, and the result alone to standard output.

use anyhow::Result;
use cli::failure::Exit;
use lab::{crash_points, nemesis, siege, torture, walk};

use crate::up::build;
use crate::up::install::{self, Server};
use crate::up::say::Say;
use crate::up::signals::unless_ended;
use crate::workspace;

/// Tortures two of each service.
pub(crate) async fn torture(options: &torture::Options, json: bool) -> Result<Exit> {
    unless_ended(async {
        let say = prepare(false).await?;
        torture::run(options, json, &|what| say.step(what)).await
    })
    .await
}

/// Attacks from some accounts, and looks at what another feels.
pub(crate) async fn siege(options: &siege::Options, json: bool) -> Result<Exit> {
    unless_ended(async {
        let say = prepare(false).await?;
        siege::run(options, json, &|what| say.step(what)).await
    })
    .await
}

/// Makes a process abort at each crash point in turn.
pub(crate) async fn crash_points(options: &crash_points::Options, json: bool) -> Result<Exit> {
    unless_ended(async {
        let say = prepare(true).await?;
        crash_points::run(options, json, &|what| say.step(what)).await
    })
    .await
}

/// Kills everything at random.
pub(crate) async fn nemesis(options: &nemesis::Options, json: bool) -> Result<Exit> {
    unless_ended(async {
        let say = prepare(true).await?;
        nemesis::run(options, json, &|what| say.step(what)).await
    })
    .await
}

/// Shows what operators see of each mishap.
pub(crate) async fn walk(options: &walk::Options) -> Result<Exit> {
    unless_ended(async {
        let say = prepare(true).await?;
        walk::run(options, &|what| say.step(what)).await
    })
    .await
}

/// Makes sure of the servers' programs and builds the services, with the simulated provider if it has a part.
async fn prepare(with_provider: bool) -> Result<Say> {
    let say = Say::new();
    let root = workspace::root()?;
    install::ensure(&Server::ALL, true, &say).await?;
    if with_provider {
        say.step("building the services and the simulated provider");
        build::services(&root, &build::Profile::own()?).await?;
        build::provider(&root).await?;
    } else {
        say.step("building the services");
        build::services(&root, &build::Profile::own()?).await?;
    }
    Ok(say)
}
