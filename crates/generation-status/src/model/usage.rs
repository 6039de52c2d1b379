//! Usage by day, model and end user, and the spending of end users.

use domain::id::EndUserId;
use domain::money::Micros;
use time::{Date, OffsetDateTime};

/// How long a limit counts what was spent; the numbers of `rushes.credits.v1.EndUser.Period`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub(crate) enum Period {
    Day = 1,
    Month = 2,
    Total = 3,
}

/// Someone for whom an account has generations made.
#[derive(Clone, Debug)]
pub(crate) struct EndUser {
    /// `None` for one who had no generation and no limit yet.
    pub(crate) id: Option<EndUserId>,
    pub(crate) name: String,
    pub(crate) limit: Option<Micros>,
    /// The number of `rushes.credits.v1.EndUser.Period`.
    pub(crate) period: i16,
    pub(crate) held: Micros,
    /// In the period that is under way.
    pub(crate) spent: Micros,
    pub(crate) total: Micros,
    pub(crate) create_time: Option<OffsetDateTime>,
}

impl EndUser {
    /// The limit, and what of it is neither spent nor held, less than nothing where it was lowered since; `None` without a limit.
    pub(crate) fn limit_and_left(&self) -> Option<(Micros, Micros)> {
        let limit = self.limit?;
        let used = self.held.checked_add(self.spent);
        Some((limit, used.and_then(|used| limit.checked_sub(used)).unwrap_or(Micros::new(i64::MIN))))
    }
}

/// By what usage is grouped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupBy {
    pub(crate) day: bool,
    pub(crate) model: bool,
    pub(crate) end_user: bool,
}

/// What is asked of usage.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UsageQuery {
    /// The first and the last day; `None`: the last 30 days.
    pub(crate) days: Option<(Date, Date)>,
    pub(crate) group_by: GroupBy,
    pub(crate) model: Option<String>,
    pub(crate) end_user: Option<String>,
    /// How many rows of the pages before are passed over.
    pub(crate) offset: i64,
    pub(crate) limit: i64,
}

/// A row of usage; what is summed over is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct UsageRow {
    pub(crate) day: Option<Date>,
    pub(crate) model: Option<String>,
    pub(crate) end_user: Option<String>,
    pub(crate) started: i64,
    pub(crate) completed: i64,
    pub(crate) failed: i64,
    pub(crate) cancelled: i64,
    pub(crate) expired: i64,
    pub(crate) captured: Micros,
    /// In millionths of the provider's currency.
    pub(crate) provider_cost_micros: i64,
}

/// A page of usage.
#[derive(Clone, Debug, Default)]
pub(crate) struct UsagePage {
    pub(crate) rows: Vec<UsageRow>,
    /// Over all rows of all pages.
    pub(crate) total: UsageRow,
    /// Whether rows follow those of this page.
    pub(crate) more: bool,
}
