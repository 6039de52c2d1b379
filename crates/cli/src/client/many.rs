//! `rushes queue requeue-many` and `resolve-many`: what operators do about many generations at once, page by page.
//!
//! Invariant: one run touches nothing that became so while it runs: each page names the time that the first was answered with.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use proto::generations::v1::charge::ProviderCharge;
use proto::queues::v1::bulk_resolve_generations_request::Resolution;
use proto::queues::v1::bulk_result::Outcome;
use proto::queues::v1::queue_service_client::QueueServiceClient;
use proto::queues::v1::{
    BulkFilter, BulkRequeueDeadLettersRequest, BulkRequeueDeadLettersResponse, BulkResolveGenerationsRequest,
    BulkResolveGenerationsResponse, BulkResult,
};

use crate::client::internal::Internal;
use crate::client::session::Session;
use crate::failure::Exit;

const SERVICE: &str = "generation-status";
/// How many are done in one call.
const PAGE_SIZE: u32 = 50;

/// Which generations, and how many at most.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("condition").required(true).multiple(true))]
struct Many {
    /// Of this model, models/….
    #[arg(long, group = "condition", default_value = "", hide_default_value = true)]
    model: String,
    /// Of this provider, such as replicate.
    #[arg(long, group = "condition", default_value = "", hide_default_value = true)]
    provider: String,
    /// Of this account, accounts/….
    #[arg(long, group = "condition", default_value = "", hide_default_value = true)]
    account: String,
    /// For this reason.
    #[arg(long, group = "condition", default_value = "", hide_default_value = true)]
    reason: String,
    /// So for at least this long, such as 90s, 10m, 2h or 3d.
    #[arg(long, group = "condition", value_parser = parse_age, value_name = "AGE")]
    older_than: Option<Duration>,
    /// How many at most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    max: u32,
    /// Who, and why; kept in the history of each.
    #[arg(long, required_unless_present = "dry_run", default_value = "", hide_default_value = true)]
    note: String,
    /// List what would be touched, and change nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    internal: Internal,
}

/// Starts the generations of many dead letters anew.
#[derive(Debug, clap::Args)]
pub struct RequeueMany {
    #[command(flatten)]
    many: Many,
}

/// Settles many generations that wait at their provider for SUBMISSION_UNCONFIRMED (unless a reason is given),
/// PROVIDER_UNAVAILABLE or OUTPUT_DELAYED.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("found").required(true))]
pub struct ResolveMany {
    #[command(flatten)]
    many: Many,
    /// End them as failed; what the provider did: charged, not-charged or unknown.
    #[arg(long, group = "found", value_parser = ["charged", "not-charged", "unknown"])]
    failed: Option<String>,
    /// The provider has no such orders: order them again. Of SUBMISSION_UNCONFIRMED only.
    #[arg(long, group = "found")]
    requeue: bool,
}

impl Many {
    fn filter(&self) -> BulkFilter {
        BulkFilter {
            model: self.model.clone(),
            provider: self.provider.clone(),
            account: self.account.clone(),
            reason: self.reason.clone(),
            min_age: self.older_than.and_then(|age| prost_types::Duration::try_from(age).ok()),
            before_time: None,
        }
    }

    /// The size of the next page, when so many are done.
    fn page_size(&self, done: usize) -> i32 {
        let left = self.max.saturating_sub(u32::try_from(done).unwrap_or(u32::MAX));
        i32::try_from(left.min(PAGE_SIZE)).unwrap_or(i32::MAX)
    }

    fn text(&self, results: &[BulkResult], next_page_token: &str) -> String {
        let mut out: String = results.iter().map(line).collect();
        let failed = results.iter().filter(|result| matches!(result.outcome, Some(Outcome::Error(_)))).count();
        let _ = match (results.len(), self.dry_run) {
            (0, _) => writeln!(out, "nothing meets these conditions"),
            (count, true) => writeln!(out, "{count} would be touched; nothing was changed"),
            (count, false) => writeln!(out, "{} done, {failed} left as they were", count - failed),
        };
        if !next_page_token.is_empty() {
            let _ = writeln!(out, "more meet these conditions; --max takes up to 10000");
        }
        out
    }
}

impl RequeueMany {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit> {
        let many = self.many;
        let mut client = QueueServiceClient::new(session.operator(SERVICE, &many.internal)?);
        let mut filter = many.filter();
        let mut all = BulkRequeueDeadLettersResponse::default();
        loop {
            let request = BulkRequeueDeadLettersRequest {
                filter: Some(filter.clone()),
                note: many.note.clone(),
                validate_only: many.dry_run,
                page_size: many.page_size(all.results.len()),
                page_token: all.next_page_token,
            };
            let page = client.bulk_requeue_dead_letters(session.internal_request(request)?).await;
            let page = page.map_err(|status| session.failed(&status))?.into_inner();
            all.results.extend(page.results);
            (all.next_page_token, all.before_time) = (page.next_page_token, page.before_time);
            (filter.before_time, filter.min_age) = (page.before_time, None);
            if all.next_page_token.is_empty() || many.page_size(all.results.len()) == 0 {
                break;
            }
        }
        session.show("rushes.queues.v1.BulkRequeueDeadLettersResponse", &all, |all| {
            many.text(&all.results, &all.next_page_token)
        })
    }
}

impl ResolveMany {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit> {
        let resolution = match self.failed.as_deref() {
            Some("charged") => Resolution::Failed(ProviderCharge::Charged.into()),
            Some("not-charged") => Resolution::Failed(ProviderCharge::NotCharged.into()),
            Some(_) => Resolution::Failed(ProviderCharge::Unknown.into()),
            None => Resolution::Requeue(self.requeue),
        };
        let many = self.many;
        let mut client = QueueServiceClient::new(session.operator(SERVICE, &many.internal)?);
        let mut filter = many.filter();
        let mut all = BulkResolveGenerationsResponse::default();
        loop {
            let request = BulkResolveGenerationsRequest {
                filter: Some(filter.clone()),
                note: many.note.clone(),
                resolution: Some(resolution),
                validate_only: many.dry_run,
                page_size: many.page_size(all.results.len()),
                page_token: all.next_page_token,
            };
            let page = client.bulk_resolve_generations(session.internal_request(request)?).await;
            let page = page.map_err(|status| session.failed(&status))?.into_inner();
            all.results.extend(page.results);
            (all.next_page_token, all.before_time) = (page.next_page_token, page.before_time);
            (filter.before_time, filter.min_age) = (page.before_time, None);
            if all.next_page_token.is_empty() || many.page_size(all.results.len()) == 0 {
                break;
            }
        }
        session.show("rushes.queues.v1.BulkResolveGenerationsResponse", &all, |all| {
            many.text(&all.results, &all.next_page_token)
        })
    }
}

fn line(result: &BulkResult) -> String {
    let BulkResult { generation, account, model, provider, reason, .. } = result;
    let since = result.since_time.as_ref().map(|time| format!(" since {time}")).unwrap_or_default();
    let outcome = match &result.outcome {
        None => String::new(),
        Some(Outcome::Done(name)) if name == generation => ": settled".to_owned(),
        Some(Outcome::Done(name)) => format!(": {name} in its place"),
        Some(Outcome::Error(error)) => format!(": left, {}", error.message),
    };
    let provider = if provider.is_empty() { String::new() } else { format!(" ({provider})") };
    format!("{generation}  {account}  {model}{provider}  {reason}{since}{outcome}\n")
}

/// A time such as 90s, 10m, 2h or 3d.
fn parse_age(text: &str) -> Result<Duration, String> {
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        Some('d') => 86_400,
        _ => 0,
    };
    let number = text.strip_suffix(['s', 'm', 'h', 'd']).and_then(|number| number.parse::<u64>().ok());
    number
        .and_then(|number| number.checked_mul(unit))
        .map(Duration::from_secs)
        .ok_or_else(|| "must be a number and s, m, h or d, such as 10m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_a_number_and_its_unit() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("2h", 7_200), ("3d", 259_200), ("0s", 0)] {
            assert_eq!(parse_age(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "10", "m", "-1m", "1.5h", "1w", "99999999999999999999d", "10ms"] {
            assert!(parse_age(wrong).is_err(), "{wrong}");
        }
    }
}
