//! The messages of WorkService, read and written: work and its order, and what is reported of them.
//!
//! Invariant: an order of which a part is not understood is read as none, since what is left out of an order is another order.

use std::time::Duration;

use domain::id::AccountId;
use proto::generations::v1::charge::ProviderCharge;
use proto::generations::v1::{Output, output};
use proto::work::v1 as wire;
use uuid::Uuid;

use crate::model::{
    Charge, Class, Clock, Clocks, Condition, Failure, Form, InputFile, Lease, MediaKind, ModerationRule, Order, Reason,
    Reference, StoredFile, Usage, Work,
};

/// The outputs that a result may have.
const MAX_OUTPUTS: usize = 16;

/// Work that came with something that this worker cannot read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unreadable {
    /// The lease that it came under.
    pub(crate) lease: Lease,
    /// To be reported of it.
    pub(crate) failure: Failure,
}

pub(super) fn to_proto(lease: Lease) -> wire::Lease {
    wire::Lease { job: lease.job.to_string(), fence: lease.fence }
}

pub(super) fn class_to_proto(class: Class) -> wire::FailureClass {
    match class {
        Class::Internal => wire::FailureClass::Internal,
        Class::Throttled => wire::FailureClass::Throttled,
        Class::Unavailable => wire::FailureClass::Unavailable,
        Class::InvalidInput => wire::FailureClass::InvalidInput,
        Class::Safety => wire::FailureClass::Safety,
        Class::Final => wire::FailureClass::Final,
        Class::Cancelled => wire::FailureClass::Cancelled,
    }
}

pub(super) fn trouble_to_proto(clock: Clock) -> wire::Trouble {
    match clock {
        Clock::Poll => wire::Trouble::Poll,
        Clock::Order => wire::Trouble::Order,
        Clock::Output => wire::Trouble::Output,
        Clock::Storage => wire::Trouble::Storage,
    }
}

pub(super) fn condition_to_proto(condition: Option<Condition>) -> wire::ProviderCondition {
    match condition {
        None => wire::ProviderCondition::Unspecified,
        Some(Condition::AccountRefused) => wire::ProviderCondition::AccountRefused,
        Some(Condition::Outage) => wire::ProviderCondition::Outage,
        Some(Condition::Misconfigured) => wire::ProviderCondition::Misconfigured,
    }
}

/// What operators read of a failure: what it was, and what the provider said.
pub(super) fn failure_detail(failure: &Failure) -> String {
    let Failure { detail, evidence, .. } = failure;
    match evidence.status {
        Some(status) => format!("{detail}; {status}: {}", evidence.excerpt),
        None if evidence.excerpt.is_empty() => detail.clone(),
        None => format!("{detail}: {}", evidence.excerpt),
    }
}

pub(super) fn charge_to_proto(charge: Charge) -> ProviderCharge {
    match charge {
        Charge::NotCharged => ProviderCharge::NotCharged,
        Charge::Charged => ProviderCharge::Charged,
        Charge::Unknown => ProviderCharge::Unspecified,
    }
}

pub(super) fn output_to_proto(file: StoredFile) -> wire::MadeOutput {
    let output = Output {
        asset: file.asset,
        size_bytes: file.size_bytes,
        mime_type: file.mime_type,
        width: file.width,
        height: file.height,
        duration: file.duration.and_then(|duration| duration.try_into().ok()),
        url: file.url,
        poster: file.poster,
        poster_url: file.poster_url,
        poster_missing_reason: file.poster_missing_reason,
        moderation: file.moderation.map(|(provider, said)| output::Moderation {
            provider,
            flagged: said.flagged,
            categories: said.categories,
            effect: said.effect,
        }),
        // generation-status knows them from the asset.
        pictures: None,
    };
    wire::MadeOutput { output: Some(output), extension: file.extension }
}

pub(super) fn usage_to_proto(usage: Usage) -> wire::Usage {
    wire::Usage {
        run_time: usage.run_time.and_then(|time| time.try_into().ok()),
        provider_cost_micros: usage.cost_micros,
        provider_units: usage.units,
    }
}

/// The work of a message; nothing without a lease that it could be spoken of under, which is then left to run out.
pub(super) fn parse_work(work: wire::Work) -> Option<Result<Work, Unreadable>> {
    let Some(lease) = work.lease.as_ref().and_then(parse_lease) else {
        tracing::error!(generation = work.generation, "work came without a lease that can be read");
        return None;
    };
    let unreadable = |what: &str| {
        // Nothing was ordered by this lease, so the charge is left to what earlier ones recorded.
        let detail = format!("the work's {what} cannot be read");
        let failure = Failure::new(Class::Final, Reason::ProviderInternal, Charge::Unknown, detail);
        Some(Err(Unreadable { lease, failure }))
    };
    let Ok(account) = AccountId::from_name(&work.account) else { return unreadable("account") };
    let Some(order) = work.order else {
        let begun = work.in_doubt || !work.provider_reference.is_empty();
        let charge = if begun { Charge::Unknown } else { Charge::NotCharged };
        let detail = format!("the work says nothing of what {} is to be sent", work.model);
        let failure = Failure::new(Class::Unavailable, Reason::ModelMisconfigured, charge, detail);
        let failure = Failure { condition: Some(Condition::Misconfigured), ..failure };
        return Some(Err(Unreadable { lease, failure }));
    };
    let Some(order) = parse_order(lease.job, order) else { return unreadable("order") };
    Some(Ok(Work {
        lease,
        generation: work.generation,
        account,
        model: work.model,
        order,
        key: work.provider_key,
        attempt: work.attempt,
        reference: (!work.provider_reference.is_empty()).then_some(Reference(work.provider_reference)),
        unconfirmed: work.in_doubt,
        poll: work.poll,
        polls: work.polls,
        clocks: work.troubles.iter().fold(Clocks::default(), parse_clock),
        ask_first: work.ask_first,
        cancel_requested: work.cancel_requested,
        traceparent: work.traceparent,
    }))
}

/// What is ordered; nothing where a part of it is not understood, since what is left out of an order is another order.
fn parse_order(key: Uuid, order: wire::Order) -> Option<Order> {
    Some(Order {
        key,
        provider: order.provider,
        model: order.model,
        input: serde_json::from_str(&order.input).ok()?,
        files: order.files.into_iter().map(parse_file).collect::<Option<_>>()?,
        output: (!order.output.is_empty()).then_some(order.output),
        refusals: order.refusals,
        moderation: order.moderation.into_iter().map(parse_moderation).collect(),
        unasked: order.unasked,
        output_kinds: order.output_kinds.iter().map(|kind| MediaKind::parse(kind)).collect::<Option<_>>()?,
        max_outputs: usize::try_from(order.max_outputs).ok()?.clamp(1, MAX_OUTPUTS),
        max_run_time: order.max_run_time.map(Duration::try_from).transpose().ok()?,
    })
}

fn parse_moderation(rule: wire::order::ModerationRule) -> ModerationRule {
    ModerationRule {
        at: rule.at,
        contains: (!rule.contains.is_empty()).then_some(rule.contains),
        category: rule.category,
        effect: rule.effect,
    }
}

fn parse_file(file: wire::order::File) -> Option<InputFile> {
    let name = format!("{}.{}", file.asset.strip_prefix("assets/")?, file.extension).parse().ok()?;
    Some(InputFile {
        pointer: file.pointer,
        name,
        mime_type: file.mime_type,
        size_bytes: u64::try_from(file.size_bytes).ok()?,
        forms: file.forms.iter().map(|form| Form::parse(form)).collect::<Option<_>>()?,
    })
}

fn parse_clock(mut clocks: Clocks, trouble: &wire::OrderTrouble) -> Clocks {
    let elapsed = trouble.elapsed.and_then(|elapsed| Duration::try_from(elapsed).ok());
    match trouble.trouble() {
        wire::Trouble::Poll => clocks.poll = elapsed,
        wire::Trouble::Order => clocks.order = elapsed,
        wire::Trouble::Output => clocks.output = elapsed,
        wire::Trouble::Storage => clocks.storage = elapsed,
        wire::Trouble::Unspecified => {}
    }
    clocks
}

fn parse_lease(lease: &wire::Lease) -> Option<Lease> {
    Some(Lease { job: Uuid::try_parse(&lease.job).ok()?, fence: lease.fence })
}
