//! The steps of the walk: what goes wrong, what a generation shows meanwhile, and how it goes on.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use proto::generations::v1::{Generation, State, WaitReason};
use provider_double::{Outage, OutageKind};
use sqlx::PgPool;
use testkit::Process;

use super::shown::{command, length, warnings};
use crate::cluster::Cluster;
use crate::customer::{Ask, Customer};
use crate::provider::{MODELS, Provider};

/// How long a generation may take to show what goes wrong.
const SHOWS: Duration = Duration::from_secs(120);
/// How long it may take to go on once the cause is gone: a provider is tried again once a minute at least.
const GOES_ON: Duration = Duration::from_secs(240);
/// How often the page is written until it says all that it should: which keys a worker has may be known for a minute after its end.
const TRIES: usize = 90;
/// How long an outage lasts here. What waits is told that it was an hour.
const OUTAGE: Duration = Duration::from_secs(40);

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cause {
    Nothing,
    /// generation-worker runs with another value of a setting.
    Setting(&'static str, &'static str),
    /// The catalogue names a model that its provider does not know.
    ModelGone,
    /// The provider is away in this way, for [`OUTAGE`].
    Away(OutageKind),
    StorageGone,
    /// The file of the video comes a byte a second, for ever.
    Drips,
    /// The entry of fal's model says another cost than fal asks.
    Bill,
}

/// One mistake or mishap.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) title: &'static str,
    cause: Cause,
    /// What a generation that is started then shows.
    shows: (State, WaitReason),
    /// Parts of what the page then says.
    says: &'static [&'static str],
    /// What follows, in a sentence.
    then: &'static str,
}

const KEY: &str = "RUSHES_REPLICATE_TOKEN";
const WAITS: (State, WaitReason) = (State::Queued, WaitReason::ProviderUnavailable);

/// All steps, in order.
pub(super) const ALL: &[Step] = &[
    Step {
        title: "Nothing is wrong",
        cause: Cause::Nothing,
        shows: (State::Completed, WaitReason::Unspecified),
        says: &["served"],
        then: "",
    },
    Step {
        title: "No key",
        cause: Cause::Setting(KEY, ""),
        shows: (State::Queued, WaitReason::Capacity),
        says: &["NO KEY", "no worker serves it"],
        then: "With the key, workers serve the model, and what waits is made.",
    },
    Step {
        title: "A wrong key",
        cause: Cause::Setting(KEY, "not-the-key"),
        shows: WAITS,
        says: &["KEY REFUSED", "provider unavailable", "refuses the installation's account"],
        then: "With the right key, the next probe is taken, and what waits is made. No attempt counted.",
    },
    Step {
        title: "A key that is revoked at noon",
        cause: Cause::Away(OutageKind::Revoked),
        shows: WAITS,
        says: &["KEY REFUSED", "provider unavailable"],
        then: "Once the provider takes the key again, what was under way is polled to its end, and what waits is made.",
    },
    Step {
        title: "A model that is gone",
        cause: Cause::ModelGone,
        shows: WAITS,
        says: &["UNKNOWN THERE", "provider unavailable", "refuses it as it is set up here"],
        then: "With the entry mended, new orders are taken at once. Those of the wrong one keep it: each is tried once more, and ends \
               as `MODEL_MISCONFIGURED`, at no charge. Other models of the provider went on.",
    },
    Step {
        title: "An outage of an hour",
        cause: Cause::Away(OutageKind::Refused),
        shows: WAITS,
        says: &["NOT REACHED", "provider unavailable", "does not answer"],
        then: "Nothing is lost and nothing is ordered twice: what was under way is polled to its end, and what waits is made little by \
               little, without anybody's doing.",
    },
    Step {
        title: "Storage that is gone",
        cause: Cause::StorageGone,
        shows: (State::Finalizing, WaitReason::OutputDelayed),
        says: &["served"],
        then: "Once there is storage, the video is fetched again and delivered. It is not made again.",
    },
    Step {
        title: "A download that drips",
        cause: Cause::Drips,
        shows: (State::Finalizing, WaitReason::OutputDelayed),
        says: &["served"],
        then: "It is fetched again for an hour, in a slot of its own, and then ends: `OUTPUT_UNAVAILABLE`, charged by the provider and \
               not by us. Whoever does not want to wait ends all of them:",
    },
    Step {
        title: "A provider that asks more than it did",
        cause: Cause::Bill,
        shows: (State::Completed, WaitReason::Unspecified),
        says: &["COSTS 40 % MORE", "provider cost drifted"],
        then: "Nobody was charged other than before: the price is the catalogue's. With the entry's `cost`, and its price, as the provider \
               has them now, both are as before within a day.",
    },
];

/// How many orders show that a cost has drifted.
const COSTED: usize = 5;

/// The walk.
pub(super) struct Walk<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) provider: &'a Provider,
    pub(super) pool: &'a PgPool,
    pub(super) customer: &'a Customer,
}

impl Walk<'_> {
    /// Takes a step, and gives what the page says of it.
    pub(super) async fn take(&self, step: &Step) -> Result<String> {
        let logs = ["generation-status", "generation-worker"]
            .map(|service| (service, self.cluster.folder.join(format!("{service}-0.log"))));
        let before = logs.each_ref().map(|(_, log)| length(log));
        // One that is under way when it begins.
        let early = self.customer.start(MODELS[0], "a harbour at dawn [slow]", Ask::default()).await?;
        self.until(&early, SHOWS, |shown| shown.state() == State::Processing).await?;
        self.begin(step.cause).await?;
        let prompt =
            if matches!(step.cause, Cause::Drips) { "a harbour [file-slow:ever]" } else { "a harbour at dawn" };
        let name = self.customer.start(MODELS[0], prompt, Ask::default()).await?;
        self.until(&name, SHOWS, |shown| (shown.state(), shown.wait_reason()) == step.shows).await?;
        let mut page = String::new();
        // What is shown of the queue is a second old.
        for _ in 0..TRIES {
            page = self.page(&name, &logs, before).await?;
            // In the midst of a probe it shows what the probe does.
            let waits = match step.shows.1 {
                WaitReason::Unspecified => String::new(),
                wait => format!("waits: {}", wait.as_str_name()),
            };
            if step.says.iter().all(|part| page.contains(part)) && page.contains(&waits) {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        for part in step.says {
            ensure!(page.contains(part), "it should say {part:?}:\n{page}");
        }
        if !step.then.is_empty() {
            let _ = writeln!(page, "\n{}", step.then);
        }
        self.end(step.cause).await?;
        if matches!(step.cause, Cause::ModelGone) {
            let new = self.customer.start(MODELS[0], prompt, Ask::default()).await?;
            self.until(&new, GOES_ON, |shown| shown.state() == State::Completed).await?;
            let old = self.until(&name, GOES_ON, |shown| shown.state() == State::Failed).await?;
            ensure!(old.charge.as_ref().is_some_and(|charge| charge.held_micros == 0), "its hold is released: {old:?}");
            let printed = command(self.cluster, self.customer.key(), &["get", &name]).await?;
            let _ = write!(page, "\n```\n{printed}```\n");
        } else if matches!(step.cause, Cause::Drips) {
            let end = [
                "queue",
                "resolve-many",
                "--reason",
                "OUTPUT_DELAYED",
                "--failed",
                "charged",
                "--note",
                "ada: too slow",
            ];
            let mut printed = String::new();
            // While a worker fetches the file, the command leaves it as it is.
            for _ in 0..TRIES {
                printed = command(self.cluster, self.customer.key(), &end).await?;
                if printed.contains("1 done") {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            ensure!(printed.contains("1 done"), "it should be settled:\n{printed}");
            let _ = write!(page, "\n```\n{printed}```\n");
            self.until(&name, GOES_ON, |shown| shown.state() == State::Failed).await?;
        } else {
            self.until(&name, GOES_ON, |shown| shown.state() == State::Completed).await?;
        }
        let early = self.until(&early, GOES_ON, |shown| shown.state() == State::Completed).await?;
        ensure!(early.attempt_count == 1, "what was under way was made once: {early:?}");
        ensure!(!page.contains("SUBMISSION_UNCONFIRMED"), "nothing waits for an operator:\n{page}");
        Ok(page)
    }

    /// What is seen now of a generation, and of the logs after the lengths in `before`.
    async fn page(&self, name: &str, logs: &[(&str, PathBuf); 2], before: [u64; 2]) -> Result<String> {
        let mut page = String::from("```\n");
        for arguments in [&["models", "check"][..], &["models"], &["get", name]] {
            page.push_str(&command(self.cluster, self.customer.key(), arguments).await?);
        }
        page.push_str("```\n\n");
        let mut lines = Vec::new();
        for ((service, log), from) in logs.iter().zip(before) {
            lines.extend(warnings(service, log, from));
        }
        if lines.is_empty() {
            page.push_str("The logs have no warning.\n");
        } else {
            let _ = writeln!(page, "The logs:\n\n```\n{}\n```", lines.join("\n"));
        }
        Ok(page)
    }

    /// Brings the cause about.
    async fn begin(&self, cause: Cause) -> Result<()> {
        match cause {
            Cause::Nothing | Cause::Drips => Ok(()),
            Cause::Bill => {
                let models = self.cluster.folder.join("models.toml");
                let cheaper = self.cluster.folder.join("cheaper.toml");
                std::fs::write(&cheaper, std::fs::read_to_string(models)?.replace("\"0.56\"", "\"0.40\""))?;
                let cheaper = cheaper.display().to_string();
                self.restart("generation-status", Some(("RUSHES_MODELS", &cheaper))).await?;
                for _ in 0..COSTED {
                    let name = self.customer.start(MODELS[1], "a harbour at dawn", Ask::default()).await?;
                    self.until(&name, SHOWS, |shown| shown.state() == State::Completed).await?;
                }
                Ok(())
            }
            Cause::Setting(name, value) => self.restart("generation-worker", Some((name, value))).await,
            Cause::ModelGone => {
                let models = self.cluster.folder.join("models.toml");
                let gone = self.cluster.folder.join("gone.toml");
                std::fs::write(&gone, std::fs::read_to_string(models)?.replace("acme/video", "acme/gone"))?;
                let gone = gone.display().to_string();
                self.restart("generation-status", Some(("RUSHES_MODELS", &gone))).await?;
                // It asks the providers about the models when it starts.
                self.restart("generation-worker", None).await
            }
            Cause::Away(kind) => {
                let for_ms = u64::try_from(OUTAGE.as_millis())?;
                let outage = Outage { kind, after_ms: 0, for_ms, protocol: None, token: None };
                ensure!(self.provider.begin_outage(&outage).await, "the provider hears of its outage");
                Ok(())
            }
            Cause::StorageGone => {
                let blobs = self.cluster.folder.join("blobs");
                std::fs::rename(&blobs, self.cluster.folder.join("blobs.away"))?;
                // A file in its place: a folder would be made anew.
                Ok(std::fs::write(blobs, "")?)
            }
        }
    }

    /// Ends the cause, as whoever mends it does.
    async fn end(&self, cause: Cause) -> Result<()> {
        match cause {
            Cause::Nothing | Cause::Drips => Ok(()),
            Cause::Setting(..) => self.restart("generation-worker", None).await,
            Cause::ModelGone => {
                self.restart("generation-status", None).await?;
                self.restart("generation-worker", None).await
            }
            Cause::Bill => self.restart("generation-status", None).await,
            // It ends by itself. Since it began an hour has passed, for all that counts time.
            Cause::Away(_) => {
                for statement in [
                    "update provider_calls set poll_trouble_time = poll_trouble_time - interval '1 hour'",
                    "update job_breakers set open_time = open_time - interval '1 hour', failures = failures + 50",
                ] {
                    sqlx::query(statement).execute(self.pool).await?;
                }
                Ok(())
            }
            Cause::StorageGone => {
                let blobs = self.cluster.folder.join("blobs");
                std::fs::remove_file(&blobs)?;
                Ok(std::fs::rename(self.cluster.folder.join("blobs.away"), blobs)?)
            }
        }
    }

    /// Ends a service in order and starts it again, perhaps with another value of a setting.
    async fn restart(&self, service: &str, setting: Option<(&str, &str)>) -> Result<()> {
        let at = self.cluster.at(0, service);
        let node = &self.cluster.nodes[at];
        node.with(Process::ask_to_end);
        let ended = async || node.with(|process| process.ended().is_some()).filter(|ended| *ended).map(drop);
        testkit::eventually(&format!("{service} ends"), SHOWS, ended).await?;
        self.cluster.kill(at);
        // Which models are served, and with which keys, is known for a minute.
        for age in [
            "update job_servers set seen_time = seen_time - interval '2 minutes'",
            "update job_keys set seen_time = seen_time - interval '2 minutes'",
        ] {
            sqlx::query(age).execute(self.pool).await?;
        }
        self.cluster.launch_with(at, setting)?;
        self.cluster.ready(at).await
    }

    async fn until(&self, name: &str, limit: Duration, wanted: impl Fn(&Generation) -> bool) -> Result<Generation> {
        let names = [name.to_owned()];
        let question = async || self.customer.get(&names).await.ok()?.pop().filter(&wanted);
        match testkit::eventually(&format!("{name} is as promised"), limit, question).await {
            Ok(shown) => Ok(shown),
            Err(error) => {
                let shown = self.customer.get(&names).await?.pop();
                Err(error.context(format!("it is {:?}", shown.map(|shown| (shown.state(), shown.wait_reason())))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_step_and_what_it_should_say() {
        let page = include_str!("../../../../docs/operating.md");
        let sections: Vec<_> = page.split("\n## ").skip(1).collect();
        let titles: Vec<_> = sections.iter().map(|section| section.lines().next().unwrap_or_default()).collect();
        assert_eq!(titles, ALL.iter().map(|step| step.title).collect::<Vec<_>>());
        for (step, section) in ALL.iter().zip(sections) {
            for part in step.says.iter().chain([&step.then]) {
                assert!(section.contains(part), "{}: {part}", step.title);
            }
        }
    }
}
