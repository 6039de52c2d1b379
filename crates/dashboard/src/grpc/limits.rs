//! Limits that an operator sets for an account, as a request has them.

use chassis::fields::Fields;
use domain::id::AccountId;
use proto::accounts::v1::SetAccountLimitsRequest;
use proto::limits::v1 as api;

use crate::error::Error;
use crate::model::{Limits, Rate};

/// The largest number of calls, uploads or watches that is a limit.
const MAX: u32 = 1_000_000;

/// The account of a request, and its limits.
pub(super) fn parse_limits(request: &SetAccountLimitsRequest) -> Result<(AccountId, Limits), Error> {
    let mut fields = Fields::default();
    let account = fields.take("name", AccountId::from_name(&request.name));
    let asked = request.limits.unwrap_or_default();
    let limits = Limits {
        people: rate(&mut fields, "people", asked.people),
        polls: rate(&mut fields, "polls", asked.polls),
        background: rate(&mut fields, "background", asked.background),
        endpoint_tests: rate(&mut fields, "endpoint_tests", asked.endpoint_tests),
        calls: number(&mut fields, "limits.calls", asked.calls),
        uploads: number(&mut fields, "limits.uploads", asked.uploads),
        watches: number(&mut fields, "limits.watches", asked.watches),
        storage_bytes: quota(&mut fields, "limits.storage_bytes", asked.storage_bytes),
        assets: quota(&mut fields, "limits.assets", asked.assets),
    };
    let account = fields.done(account)?;
    Ok((account, limits))
}

fn quota(fields: &mut Fields, field: &str, asked: Option<u64>) -> Option<u64> {
    let asked = asked?;
    if i64::try_from(asked).is_err() {
        fields.wrong(field, format_args!("must be at most {}, or unset", i64::MAX));
    }
    Some(asked)
}

fn rate(fields: &mut Fields, name: &str, asked: Option<api::Rate>) -> Option<Rate> {
    let api::Rate { per_second, burst } = asked?;
    let per_second = number(fields, &format!("limits.{name}.per_second"), Some(per_second));
    let burst = number(fields, &format!("limits.{name}.burst"), Some(burst));
    per_second.zip(burst).map(|(per_second, burst)| Rate { per_second, burst })
}

fn number(fields: &mut Fields, field: &str, asked: Option<u32>) -> Option<u32> {
    let asked = asked?;
    if !(1..=MAX).contains(&asked) {
        fields.wrong(field, format_args!("must be 1 to {MAX}, or unset"));
    }
    Some(asked)
}
