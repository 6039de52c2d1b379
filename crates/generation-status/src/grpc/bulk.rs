//! What the handlers of many at once read and present.

use std::time::Duration;

use chassis::fields::Fields;
use domain::id::AccountId;
use domain::page::Page;
use prost::Message as _;
use proto::google::rpc;
use proto::queues::v1 as api;
use time::OffsetDateTime;
use tonic::Status;
use uuid::Uuid;

use super::fields::{parse_model, parse_note};
use super::generations::parse_resolution;
use crate::bulk::BulkPage;
use crate::error::Error;
use crate::model::{BulkFilter, BulkOutcome, Chosen, Resolution, Stuck};
use crate::pages::Pages;
use crate::presenter::{model_name, timestamp};

/// Of a reason or a provider's name.
const MAX_WORD_CHARACTERS: usize = 100;
/// The longest that an age may be.
const MAX_AGE: Duration = Duration::from_secs(365 * 24 * 3_600);
/// These listings go across accounts.
const NO_ACCOUNT: AccountId = AccountId(Uuid::nil());

/// A request for many dead letters.
pub(super) struct RequeueMany {
    pub(super) filter: BulkFilter,
    /// Absent where only the letters are asked for.
    pub(super) note: Option<String>,
    pub(super) page: Page,
}

/// A request for many generations in trouble.
pub(super) struct ResolveMany {
    pub(super) filter: BulkFilter,
    pub(super) stuck: Stuck,
    /// Absent where only the generations are asked for.
    pub(super) resolution: Option<(Resolution, String)>,
    pub(super) page: Page,
}

pub(super) fn parse_requeue_many(
    pages: &Pages,
    request: &api::BulkRequeueDeadLettersRequest,
) -> Result<RequeueMany, Error> {
    let mut fields = Fields::default();
    let filter = parse_filter(&mut fields, request.filter.as_ref());
    let note = if request.validate_only { Some(None) } else { parse_note(&mut fields, &request.note).map(Some) };
    let listing = listing("deadLetters", filter.as_ref());
    let page = pages.parse(&mut fields, NO_ACCOUNT, &listing, request.page_size, &request.page_token);
    let ((filter, note), page) = fields.done(filter.zip(note).zip(page))?;
    Ok(RequeueMany { filter, note, page })
}

pub(super) fn parse_resolve_many(
    pages: &Pages,
    request: &api::BulkResolveGenerationsRequest,
) -> Result<ResolveMany, Error> {
    use api::bulk_resolve_generations_request::Resolution as Wanted;
    use proto::generations::v1::resolve_generation_request::Resolution as One;
    let mut fields = Fields::default();
    let filter = parse_filter(&mut fields, request.filter.as_ref());
    let reason = filter.as_ref().and_then(|filter| filter.reason.as_deref());
    let stuck = Stuck::ALL.into_iter().find(|stuck| reason.unwrap_or(Stuck::Unconfirmed.as_str()) == stuck.as_str());
    if stuck.is_none() {
        let known = Stuck::ALL.map(Stuck::as_str).join(", ");
        fields.wrong("filter.reason", format_args!("must be one of {known}, or empty for the first"));
    }
    let resolution = request.resolution.and_then(|wanted| {
        parse_resolution(match wanted {
            Wanted::Failed(charge) => One::Failed(charge),
            Wanted::Requeue(requeue) => One::Requeue(requeue),
        })
    });
    if matches!(resolution, Some(Resolution::Requeue)) && stuck.is_some_and(|stuck| stuck != Stuck::Unconfirmed) {
        fields.wrong("requeue", "must not be of orders that their provider has; only of SUBMISSION_UNCONFIRMED");
    }
    if resolution.is_none() && !request.validate_only {
        fields.wrong("resolution", "must be failed with a provider_charge, or requeue");
    }
    let resolution = if request.validate_only {
        Some(None)
    } else {
        resolution.zip(parse_note(&mut fields, &request.note)).map(Some)
    };
    let listing = listing("stuck", filter.as_ref());
    let page = pages.parse(&mut fields, NO_ACCOUNT, &listing, request.page_size, &request.page_token);
    let (((filter, stuck), resolution), page) = fields.done(filter.zip(stuck).zip(resolution).zip(page))?;
    Ok(ResolveMany { filter, stuck, resolution, page })
}

fn parse_filter(fields: &mut Fields, filter: Option<&api::BulkFilter>) -> Option<BulkFilter> {
    let given = filter.cloned().unwrap_or_default();
    let mut read = BulkFilter::default();
    if !given.model.is_empty() {
        read.model = Some(fields.take("filter.model", parse_model(&given.model))?);
    }
    if !given.account.is_empty() {
        read.account = Some(fields.take("filter.account", AccountId::from_name(&given.account))?);
    }
    for (field, text, value) in
        [("filter.provider", given.provider, &mut read.provider), ("filter.reason", given.reason, &mut read.reason)]
    {
        if !text.is_empty() {
            *value = Some(fields.line(field, text, MAX_WORD_CHARACTERS)?);
        }
    }
    if let Some(before) = given.before_time {
        read.before = Some(fields.take("filter.before_time", parse_time(before))?);
    }
    if let Some(age) = given.min_age {
        let age = Duration::try_from(age).ok().filter(|age| *age <= MAX_AGE && read.before.is_none());
        read.min_age =
            Some(fields.take("filter.min_age", age.ok_or("must be 0 to 365 days, and not beside before_time"))?);
    }
    if read == BulkFilter::default() {
        fields.wrong("filter", "must have at least one condition");
        return None;
    }
    Some(read)
}

fn parse_time(time: prost_types::Timestamp) -> Result<OffsetDateTime, &'static str> {
    let nanos = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(|_| "must be a time of the years 1 to 9999")
}

/// The listing that page tokens belong to: a token of another filter is refused. The time is left out: a next page names the one that
/// the first was answered with.
fn listing(name: &str, filter: Option<&BulkFilter>) -> String {
    let filter = filter.cloned().unwrap_or_default();
    format!("{name} {:?}", BulkFilter { before: None, min_age: None, ..filter })
}

/// The results, the token of the next page, and the time before which they were chosen.
pub(super) fn page_to_proto(
    pages: &Pages,
    name: &str,
    filter: &BulkFilter,
    page: BulkPage,
) -> (Vec<api::BulkResult>, String, prost_types::Timestamp) {
    let token = pages.token(NO_ACCOUNT, &listing(name, Some(filter)), page.next);
    let results = page.results.into_iter().map(|(chosen, outcome)| result_to_proto(chosen, outcome)).collect();
    (results, token, timestamp(page.before))
}

fn result_to_proto(chosen: Chosen, outcome: BulkOutcome<Error>) -> api::BulkResult {
    use api::bulk_result::Outcome;
    api::BulkResult {
        generation: chosen.id.name(),
        account: chosen.account.name(),
        model: model_name(&chosen.model),
        provider: chosen.provider,
        reason: chosen.reason,
        since_time: Some(timestamp(chosen.since)),
        outcome: outcome.map(|outcome| match outcome {
            Ok(generation) => Outcome::Done(generation.id.name()),
            Err(error) => Outcome::Error(status_to_proto(&error.into())),
        }),
    }
}

fn status_to_proto(status: &Status) -> rpc::Status {
    let plain =
        || rpc::Status { code: status.code() as i32, message: status.message().to_owned(), ..rpc::Status::default() };
    rpc::Status::decode(status.details()).ok().filter(|status| status.code != 0).unwrap_or_else(plain)
}
