//! `rushes queue …` and `rushes resolve`: for operators, past the gateway, with the services' keys.

use std::fmt::Write as _;

use anyhow::Result;
use clap::Subcommand;
use proto::generations::v1::ResolveGenerationRequest;
use proto::generations::v1::charge::ProviderCharge;
use proto::generations::v1::generation_service_client::GenerationServiceClient;
use proto::generations::v1::resolve_generation_request::Resolution;
use proto::queues::v1::queue_service_client::QueueServiceClient;
use proto::queues::v1::{
    DeadLetter, GetQueueStatsRequest, GetQueueStatsResponse, ListDeadLettersRequest, Pause, PauseQueueRequest,
    RequeueDeadLetterRequest, ResumeQueueRequest, SetAccountRunningLimitRequest, SetAccountWeightRequest,
};
use uuid::Uuid;

use crate::client::generations::{GENERATION, text};
use crate::client::internal::Internal;
use crate::client::many::{RequeueMany, ResolveMany};
use crate::client::session::Session;
use crate::failure::Exit;

const SERVICE: &str = "generation-status";

/// What can be done with the queue of generations.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Count what waits and what runs, by model and by account.
    Stats {
        /// How many accounts, those with the most waiting first; at most 100.
        #[arg(long, default_value_t = 20)]
        accounts: i32,
        #[command(flatten)]
        internal: Internal,
    },
    /// Stop work from being given out; what runs goes on.
    Pause {
        /// models/…; without it, all.
        #[arg(long, default_value = "")]
        model: String,
        /// Who, and why.
        #[arg(long)]
        note: String,
        #[command(flatten)]
        internal: Internal,
    },
    /// End a pause.
    Resume {
        /// models/…; without it, the pause of all.
        #[arg(long, default_value = "")]
        model: String,
        #[command(flatten)]
        internal: Internal,
    },
    /// List jobs that were given up, newest first.
    Dead {
        /// How many, at most 100.
        #[arg(long, default_value_t = 20)]
        page_size: i32,
        /// Where the page before ended.
        #[arg(long, default_value = "")]
        page_token: String,
        #[command(flatten)]
        internal: Internal,
    },
    /// Start the generation of a dead letter anew; its price is held again.
    Requeue {
        /// generations/….
        generation: String,
        /// Who, and why.
        #[arg(long)]
        note: String,
        /// A UUID that makes a repetition safe; without it, a new one.
        #[arg(long)]
        request_id: Option<Uuid>,
        #[command(flatten)]
        internal: Internal,
    },
    /// Start the generations of many dead letters anew, as `requeue` does with one.
    RequeueMany(Box<RequeueMany>),
    /// Settle many generations that wait at their provider in trouble, as `rushes resolve` does with one.
    ResolveMany(Box<ResolveMany>),
    /// Set an account's share of the turns.
    Weight {
        /// accounts/….
        #[arg(long)]
        account: String,
        /// 0.01 to 100; with 2, two turns where another account gets one.
        #[arg(long)]
        weight: f64,
        #[command(flatten)]
        internal: Internal,
    },
    /// Set how many generations of an account may run at once.
    Limit {
        /// accounts/….
        #[arg(long)]
        account: String,
        /// How many; 0: none. Without it, as many as of any other account.
        #[arg(long)]
        running: Option<i32>,
        #[command(flatten)]
        internal: Internal,
    },
}

/// Settles a generation that waits as SUBMISSION_UNCONFIRMED.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("found").required(true))]
pub struct Resolve {
    /// generations/….
    name: String,
    /// accounts/… whose generation it is.
    #[arg(long)]
    account: String,
    /// Who, and why.
    #[arg(long)]
    note: String,
    /// The provider has the order under this reference: go on with it.
    #[arg(long, group = "found", value_name = "TEXT")]
    reference: Option<String>,
    /// End it as failed; what the provider did: charged, not-charged or unknown.
    #[arg(long, group = "found", value_parser = ["charged", "not-charged", "unknown"])]
    failed: Option<String>,
    /// The provider has no such order: order it again.
    #[arg(long, group = "found")]
    requeue: bool,
    #[command(flatten)]
    internal: Internal,
}

impl Command {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit> {
        let failed = |status: tonic::Status| session.failed(&status);
        let client =
            |internal: &Internal| -> Result<_> { Ok(QueueServiceClient::new(session.operator(SERVICE, internal)?)) };
        match self {
            Self::Stats { accounts, internal } => {
                let request = session.internal_request(GetQueueStatsRequest { accounts })?;
                let answer = client(&internal)?.get_queue_stats(request).await.map_err(failed)?;
                session.show("rushes.queues.v1.GetQueueStatsResponse", answer.get_ref(), numbers)
            }
            Self::Pause { model, note, internal } => {
                let request = session.internal_request(PauseQueueRequest { model: model.clone(), note })?;
                let answer = client(&internal)?.pause_queue(request).await.map_err(failed)?;
                session.show("rushes.queues.v1.PauseQueueResponse", answer.get_ref(), |_| {
                    format!("paused {}; what runs goes on\n", which(&model))
                })
            }
            Self::Resume { model, internal } => {
                let request = session.internal_request(ResumeQueueRequest { model: model.clone() })?;
                let answer = client(&internal)?.resume_queue(request).await.map_err(failed)?;
                session.show("rushes.queues.v1.ResumeQueueResponse", answer.get_ref(), |answer| {
                    let how = if answer.resumed { "resumed" } else { "no pause of its own was on" };
                    format!("{how}: {}\n", which(&model))
                })
            }
            Self::Dead { page_size, page_token, internal } => {
                let request = session.internal_request(ListDeadLettersRequest { page_size, page_token })?;
                let answer = client(&internal)?.list_dead_letters(request).await.map_err(failed)?;
                session.show("rushes.queues.v1.ListDeadLettersResponse", answer.get_ref(), |page| {
                    let mut out: String = page.dead_letters.iter().map(letter).collect();
                    if !page.next_page_token.is_empty() {
                        let _ = writeln!(out, "more: rushes queue dead --page-token {}", page.next_page_token);
                    }
                    out
                })
            }
            Self::Requeue { generation, note, request_id, internal } => {
                let request_id = request_id.unwrap_or_else(Uuid::now_v7).to_string();
                let request = session.internal_request(RequeueDeadLetterRequest { generation, note, request_id })?;
                let answer = client(&internal)?.requeue_dead_letter(request).await.map_err(failed)?;
                session.show(GENERATION, answer.get_ref(), text)
            }
            Self::RequeueMany(many) => many.run(session).await,
            Self::ResolveMany(many) => many.run(session).await,
            Self::Weight { account, weight, internal } => {
                let request = SetAccountWeightRequest { account: account.clone(), weight };
                let answer = client(&internal)?.set_account_weight(session.internal_request(request)?).await;
                let answer = answer.map_err(failed)?;
                session.show("rushes.queues.v1.SetAccountWeightResponse", answer.get_ref(), |_| {
                    format!("{account} has weight {weight} from now on\n")
                })
            }
            Self::Limit { account, running, internal } => {
                let request = SetAccountRunningLimitRequest { account: account.clone(), limit: running };
                let answer = client(&internal)?.set_account_running_limit(session.internal_request(request)?).await;
                let answer = answer.map_err(failed)?;
                session.show("rushes.queues.v1.SetAccountRunningLimitResponse", answer.get_ref(), |_| {
                    let limit = running.map_or_else(|| "as many as any other".to_owned(), |limit| limit.to_string());
                    format!("{account} may run {limit} at once\n")
                })
            }
        }
    }
}

impl Resolve {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit> {
        let resolution = match (self.reference, self.failed.as_deref()) {
            (Some(reference), _) => Resolution::ProviderReference(reference),
            (None, Some("charged")) => Resolution::Failed(ProviderCharge::Charged.into()),
            (None, Some("not-charged")) => Resolution::Failed(ProviderCharge::NotCharged.into()),
            (None, Some(_)) => Resolution::Failed(ProviderCharge::Unknown.into()),
            (None, None) => Resolution::Requeue(self.requeue),
        };
        let Self { name, account, note, internal, .. } = self;
        let request = ResolveGenerationRequest { account, name, note, resolution: Some(resolution) };
        let channel = session.operator(SERVICE, &internal)?;
        let answer = GenerationServiceClient::new(channel).resolve_generation(session.internal_request(request)?).await;
        let answer = answer.map_err(|status| session.failed(&status))?;
        session.show(GENERATION, answer.get_ref(), text)
    }
}

fn which(model: &str) -> &str {
    if model.is_empty() { "everything" } else { model }
}

fn numbers(stats: &GetQueueStatsResponse) -> String {
    let mut out = String::new();
    if let Some(pause) = &stats.pause {
        let _ = writeln!(out, "EVERYTHING IS PAUSED{}", why(pause));
    }
    for queue in &stats.queues {
        let _ = write!(
            out,
            "{}: {} ready (oldest {}), {} delayed, {} leased, {} at the provider, {} dead",
            queue.model,
            queue.ready,
            age(queue.oldest.as_ref()),
            queue.delayed,
            queue.leased,
            queue.waiting,
            queue.dead
        );
        let _ = match &queue.pause {
            Some(pause) => writeln!(out, "; PAUSED{}", why(pause)),
            None => writeln!(out),
        };
    }
    for account in &stats.accounts {
        let _ = writeln!(
            out,
            "{}: {} queued (oldest {}), {} running, weight {}",
            account.account,
            account.queued,
            age(account.oldest.as_ref()),
            account.running,
            account.weight
        );
    }
    if out.is_empty() { "nothing was ever queued\n".to_owned() } else { out }
}

fn why(pause: &Pause) -> String {
    let since = pause.pause_time.as_ref().map(|time| format!(" since {time}")).unwrap_or_default();
    format!("{since}: {}", pause.note)
}

fn age(time: Option<&prost_types::Duration>) -> String {
    format!("{} s", time.map_or(0, |time| time.seconds))
}

fn letter(letter: &DeadLetter) -> String {
    let detail = if letter.detail.is_empty() { String::new() } else { format!(" ({})", letter.detail) };
    let DeadLetter { generation, account, model, cause, attempt_count, claim_count, .. } = letter;
    format!("{generation}  {account}  {model}  {cause}{detail}, {attempt_count} attempts, {claim_count} claims\n")
}
