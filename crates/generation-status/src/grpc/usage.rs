//! The handlers of UsageService.

use chassis::fields::Fields;
use domain::id::AccountId;
use domain::money::Micros;
use domain::page::Cursor;
use proto::credits::v1 as api;
use proto::credits::v1::usage_service_server::UsageService;
use time::{Date, Month};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::fields::{MAX_END_USER_CHARACTERS, parse_model};
use super::request::authenticated;
use crate::model::{EndUser, GroupBy, Period, UsagePage, UsageQuery, UsageRow};
use crate::pages::Pages;
use crate::presenter::{model_name, timestamp};
use crate::usage::Usages;

/// The listing that page tokens of end users belong to.
const END_USERS: &str = "endUsers";
/// How many rows of usage are returned when the caller does not say, and at most.
const USAGE_ROWS: i64 = 100;
const MAX_USAGE_ROWS: i64 = 1_000;
/// How many days one query may be over.
const MAX_DAYS: i64 = 366;

/// The service over its rules.
#[derive(Clone)]
pub(crate) struct UsageApi {
    pub(crate) usages: Usages,
    pub(crate) pages: Pages,
}

#[tonic::async_trait]
impl UsageService for UsageApi {
    async fn get_usage(
        &self,
        request: Request<api::GetUsageRequest>,
    ) -> Result<Response<api::GetUsageResponse>, Status> {
        let (account, request) = authenticated(request)?;
        let mut fields = Fields::default();
        let query = parse_query(&self.pages, &mut fields, account, &request.query.unwrap_or_default());
        let (query, listing) = fields.done(query)?;
        let page = self.usages.usage(account, &query).await?;
        let next_page_token = self.pages.token(account, &listing, next_page(&query, &page));
        Ok(Response::new(api::GetUsageResponse {
            rows: page.rows.iter().map(usage_to_proto).collect(),
            total: Some(usage_to_proto(&page.total)),
            next_page_token,
        }))
    }

    async fn get_account_usage(
        &self,
        request: Request<api::GetAccountUsageRequest>,
    ) -> Result<Response<api::GetAccountUsageResponse>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::default();
        let account = fields.take("account", AccountId::from_name(&request.account));
        let asked = request.query.unwrap_or_default();
        let query = parse_query(&self.pages, &mut fields, account.unwrap_or(AccountId(Uuid::nil())), &asked);
        let (account, (query, listing)) = fields.done(account.zip(query))?;
        let page = self.usages.usage(account, &query).await?;
        let next_page_token = self.pages.token(account, &listing, next_page(&query, &page));
        Ok(Response::new(api::GetAccountUsageResponse {
            rows: page.rows.iter().map(account_usage_to_proto).collect(),
            total: Some(account_usage_to_proto(&page.total)),
            next_page_token,
        }))
    }

    async fn set_end_user_limit(
        &self,
        request: Request<api::SetEndUserLimitRequest>,
    ) -> Result<Response<api::EndUser>, Status> {
        let (account, request) = authenticated(request)?;
        let mut fields = Fields::default();
        let name = fields.line("end_user", request.end_user.clone(), MAX_END_USER_CHARACTERS);
        if request.limit_micros.is_some_and(|limit| limit < 0) {
            fields.wrong("limit_micros", "must be 0 or more, or unset for no limit");
        }
        let period = match api::end_user::Period::try_from(request.period) {
            Ok(api::end_user::Period::Day) => Some(Period::Day),
            Ok(api::end_user::Period::Month) => Some(Period::Month),
            Ok(api::end_user::Period::Total | api::end_user::Period::Unspecified) => Some(Period::Total),
            Err(_) => None,
        };
        if period.is_none() {
            fields.wrong("period", "must be DAY, MONTH, TOTAL, or unset");
        }
        let (name, period) = fields.done(name.zip(period))?;
        let limit = request.limit_micros.map(Micros::new);
        Ok(Response::new(end_user_to_proto(self.usages.set_limit(account, &name, limit, period).await?)))
    }

    async fn get_end_user(&self, request: Request<api::GetEndUserRequest>) -> Result<Response<api::EndUser>, Status> {
        let (account, request) = authenticated(request)?;
        let mut fields = Fields::default();
        let name = fields.line("end_user", request.end_user, MAX_END_USER_CHARACTERS);
        Ok(Response::new(end_user_to_proto(self.usages.end_user(account, fields.done(name)?).await?)))
    }

    async fn list_end_users(
        &self,
        request: Request<api::ListEndUsersRequest>,
    ) -> Result<Response<api::ListEndUsersResponse>, Status> {
        let (account, request) = authenticated(request)?;
        let mut fields = Fields::default();
        let page = self.pages.parse(&mut fields, account, END_USERS, request.page_size, &request.page_token);
        let (end_users, next) = self.usages.end_users(account, fields.done(page)?).await?;
        Ok(Response::new(api::ListEndUsersResponse {
            end_users: end_users.into_iter().map(end_user_to_proto).collect(),
            next_page_token: self.pages.token(account, END_USERS, next),
        }))
    }
}

/// What is asked, and the listing that its page tokens belong to.
fn parse_query(
    pages: &Pages,
    fields: &mut Fields,
    account: AccountId,
    asked: &api::UsageQuery,
) -> Option<(UsageQuery, String)> {
    use api::usage_query::Dimension;
    let days = match (asked.first_day.as_str(), asked.last_day.as_str()) {
        ("", "") => Some(None),
        (first, last) => {
            let first = fields.take("query.first_day", parse_day(first));
            let last = fields.take("query.last_day", parse_day(last));
            let days = first.zip(last);
            if days.is_some_and(|(first, last)| !(0..MAX_DAYS).contains(&(last - first).whole_days())) {
                fields.wrong("query.last_day", format_args!("must be first_day or up to {} days later", MAX_DAYS - 1));
            }
            days.map(Some)
        }
    };
    let mut group_by = GroupBy::default();
    for (at, dimension) in fields.bounded("query.group_by", &asked.group_by, 8).iter().enumerate() {
        match Dimension::try_from(*dimension) {
            Ok(Dimension::Day) => group_by.day = true,
            Ok(Dimension::Model) => group_by.model = true,
            Ok(Dimension::EndUser) => group_by.end_user = true,
            Ok(Dimension::Unspecified) | Err(_) => {
                fields.wrong(format!("query.group_by[{at}]"), "must be DAY, MODEL or END_USER");
            }
        }
    }
    let model = match asked.model.as_str() {
        "" => Some(None),
        name => fields.take("query.model", parse_model(name)).map(Some),
    };
    let end_user = match asked.end_user.as_str() {
        "" => Some(None),
        name => fields.line("query.end_user", name.to_owned(), MAX_END_USER_CHARACTERS).map(Some),
    };
    let limit = match i64::from(asked.page_size) {
        size if size < 0 => {
            fields.wrong("query.page_size", format_args!("must not be negative; 0 means {USAGE_ROWS}"));
            None
        }
        0 => Some(USAGE_ROWS),
        size => Some(size.min(MAX_USAGE_ROWS)),
    };
    let listing = format!("usage/{days:?}/{group_by:?}/{model:?}/{end_user:?}");
    let token = pages.cursor(account, &listing, &asked.page_token);
    let cursor = token.map_err(|error| fields.wrong_because("query.page_token", "PAGE_TOKEN_INVALID", error)).ok();
    let ((((days, model), end_user), limit), cursor) = days.zip(model).zip(end_user).zip(limit).zip(cursor)?;
    // Rows of days that are over never change, so that a page goes on by their number.
    let offset = cursor.map_or(0, |cursor| i64::from(cursor.position));
    Some((UsageQuery { days, group_by, model, end_user, offset, limit }, listing))
}

/// A day such as `2026-11-28`.
fn parse_day(text: &str) -> Result<Date, &'static str> {
    let day = || {
        let mut parts = text.splitn(3, '-');
        let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
        let digits = [year, month, day].iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
        if (year.len(), month.len(), day.len()) != (4, 2, 2) || !digits {
            return None;
        }
        let month = Month::try_from(month.parse::<u8>().ok()?).ok()?;
        Date::from_calendar_date(year.parse().ok().filter(|year| *year >= 1970)?, month, day.parse().ok()?).ok()
    };
    day().ok_or("must be a day such as 2026-11-28, or be empty together with the other one")
}

fn next_page(query: &UsageQuery, page: &UsagePage) -> Option<Cursor> {
    let position = i32::try_from(query.offset + query.limit).ok().filter(|_| page.more)?;
    Some(Cursor { position, id: Uuid::nil() })
}

fn usage_to_proto(usage: &UsageRow) -> api::Usage {
    api::Usage {
        day: usage.day.map(|day| day.to_string()).unwrap_or_default(),
        model: usage.model.as_deref().map(model_name).unwrap_or_default(),
        end_user: usage.end_user.clone().unwrap_or_default(),
        started_count: usage.started,
        completed_count: usage.completed,
        failed_count: usage.failed,
        cancelled_count: usage.cancelled,
        expired_count: usage.expired,
        captured_micros: usage.captured.get(),
    }
}

fn account_usage_to_proto(usage: &UsageRow) -> api::AccountUsage {
    api::AccountUsage { usage: Some(usage_to_proto(usage)), provider_cost_micros: usage.provider_cost_micros }
}

fn end_user_to_proto(end_user: EndUser) -> api::EndUser {
    api::EndUser {
        end_user: end_user.name,
        limit_micros: end_user.limit.map(Micros::get),
        period: end_user.period.into(),
        held_micros: end_user.held.get(),
        spent_micros: end_user.spent.get(),
        total_micros: end_user.total.get(),
        create_time: end_user.create_time.map(timestamp),
    }
}

#[cfg(test)]
mod tests {
    use super::parse_day;

    #[test]
    fn a_day_is_one_of_the_calendar() {
        assert_eq!(parse_day("2028-02-29").unwrap().to_string(), "2028-02-29");
        for text in [
            "",
            "2026-02-29",
            "2026-13-01",
            "2026-1-01",
            "26-01-01",
            "2026-01-01T00:00:00Z",
            "2026-+1-01",
            "1969-12-31",
        ] {
            assert!(parse_day(text).is_err(), "{text}");
        }
    }
}
