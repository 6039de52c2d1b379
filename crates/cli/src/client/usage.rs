//! `rushes usage` and `rushes end-users`: what was used, and what end users may spend.

use std::fmt::Write as _;

use anyhow::Result;
use clap::Subcommand;
use proto::credits::v1::end_user::Period;
use proto::credits::v1::usage_query::Dimension;
use proto::credits::v1::usage_service_client::UsageServiceClient;
use proto::credits::v1::{
    AccountUsage, EndUser, GetAccountUsageRequest, GetAccountUsageResponse, GetEndUserRequest, GetUsageRequest,
    GetUsageResponse, ListEndUsersRequest, SetEndUserLimitRequest, Usage as Row, UsageQuery,
};

use crate::client::internal::Internal;
use crate::client::operator::micros;
use crate::client::session::Session;
use crate::failure::Exit;
use crate::{out, show};

/// The most rows that one page has.
const PAGE: i32 = 1_000;
const END_USER: &str = "rushes.credits.v1.EndUser";

/// Sums usage.
#[derive(Debug, clap::Args)]
pub struct Usage {
    /// The first day (UTC), such as 2026-11-01; without days, the last 30.
    #[arg(long, value_name = "DAY", default_value = "", requires = "to")]
    from: String,
    /// The last day, itself included.
    #[arg(long, value_name = "DAY", default_value = "", requires = "from")]
    to: String,
    /// By what it is grouped: day, model, end-user; several with commas.
    #[arg(long, value_delimiter = ',', value_parser = ["day", "model", "end-user"], default_value = "day")]
    by: Vec<String>,
    /// Only of this model: models/….
    #[arg(long, default_value = "")]
    model: String,
    /// Only of this end user.
    #[arg(long, default_value = "")]
    end_user: String,
    /// Print comma-separated values, with a line of names.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// For operators: of this account, accounts/…, with what providers charged (on the internal network).
    #[arg(long)]
    account: Option<String>,
    #[command(flatten)]
    internal: Internal,
}

/// What can be done with end users.
#[derive(Debug, Subcommand)]
pub enum EndUsers {
    /// List end users, the newest first.
    List {
        /// How many, at most 100.
        #[arg(long, default_value_t = 20)]
        page_size: i32,
        /// Where the page before ended.
        #[arg(long, default_value = "")]
        page_token: String,
    },
    /// Show one.
    Get {
        /// As it was given with the generation.
        end_user: String,
    },
    /// Limit what one may spend, or remove the limit.
    Limit {
        /// As it is given with the generation.
        end_user: String,
        /// How many, such as 12.5.
        #[arg(long, value_parser = micros, required_unless_present = "none")]
        credits: Option<i64>,
        /// No limit any more.
        #[arg(long, conflicts_with = "credits")]
        none: bool,
        /// day, month (both of UTC) or total.
        #[arg(long, value_parser = ["day", "month", "total"], default_value = "total")]
        period: String,
    },
}

impl Usage {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit> {
        let group_by: Vec<Dimension> = self.by.iter().map(|name| dimension(name)).collect();
        let query = UsageQuery {
            first_day: self.from.clone(),
            last_day: self.to.clone(),
            group_by: group_by.iter().map(|one| (*one).into()).collect(),
            model: self.model.clone(),
            end_user: self.end_user.clone(),
            page_size: PAGE,
            page_token: String::new(),
        };
        if let Some(account) = &self.account {
            let all = account_pages(session, &self.internal, account, query).await?;
            if self.csv {
                out::print(csv(&group_by, &all.rows, true))?;
                return Ok(Exit::Done);
            }
            return session.show("rushes.credits.v1.GetAccountUsageResponse", &all, |all| {
                table(&group_by, &all.rows, all.total.as_ref(), true)
            });
        }
        let all = pages(session, query).await?;
        let rows = |rows: &[Row]| rows.iter().map(|row| seen(Some(row))).collect::<Vec<_>>();
        if self.csv {
            out::print(csv(&group_by, &rows(&all.rows), false))?;
            return Ok(Exit::Done);
        }
        session.show("rushes.credits.v1.GetUsageResponse", &all, |all| {
            table(&group_by, &rows(&all.rows), Some(&seen(all.total.as_ref())), false)
        })
    }
}

/// All pages in one.
async fn pages(session: &Session, mut query: UsageQuery) -> Result<GetUsageResponse> {
    let mut client = UsageServiceClient::new(session.gateway()?);
    let mut all = GetUsageResponse::default();
    loop {
        let request = session.request(GetUsageRequest { query: Some(query.clone()) })?;
        let page = client.get_usage(request).await.map_err(|status| session.failed(&status))?.into_inner();
        all.rows.extend(page.rows);
        all.total = page.total;
        query.page_token = page.next_page_token;
        if query.page_token.is_empty() {
            return Ok(all);
        }
    }
}

/// All pages of an account's in one.
async fn account_pages(
    session: &Session,
    internal: &Internal,
    account: &str,
    mut query: UsageQuery,
) -> Result<GetAccountUsageResponse> {
    let mut client = UsageServiceClient::new(session.internal("generation-status", internal)?);
    let mut all = GetAccountUsageResponse::default();
    loop {
        let request = GetAccountUsageRequest { account: account.to_owned(), query: Some(query.clone()) };
        let answer = client.get_account_usage(session.internal_request(request)?).await;
        let page = answer.map_err(|status| session.failed(&status))?.into_inner();
        all.rows.extend(page.rows);
        all.total = page.total;
        query.page_token = page.next_page_token;
        if query.page_token.is_empty() {
            return Ok(all);
        }
    }
}

impl EndUsers {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit> {
        let failed = |status: tonic::Status| session.failed(&status);
        let mut client = UsageServiceClient::new(session.gateway()?);
        match self {
            Self::List { page_size, page_token } => {
                let request = session.request(ListEndUsersRequest { page_size, page_token })?;
                let answer = client.list_end_users(request).await.map_err(failed)?;
                session.show("rushes.credits.v1.ListEndUsersResponse", answer.get_ref(), |page| {
                    let mut out: String = page.end_users.iter().map(line).collect();
                    if !page.next_page_token.is_empty() {
                        let _ = writeln!(out, "more: rushes end-users list --page-token {}", page.next_page_token);
                    }
                    out
                })
            }
            Self::Get { end_user } => {
                let request = session.request(GetEndUserRequest { end_user })?;
                let answer = client.get_end_user(request).await.map_err(failed)?;
                session.show(END_USER, answer.get_ref(), line)
            }
            Self::Limit { end_user, credits, none: _, period } => {
                let period = match period.as_str() {
                    "day" => Period::Day,
                    "month" => Period::Month,
                    _ => Period::Total,
                };
                let request = SetEndUserLimitRequest { end_user, limit_micros: credits, period: period.into() };
                let answer = client.set_end_user_limit(session.request(request)?).await.map_err(failed)?;
                session.show(END_USER, answer.get_ref(), line)
            }
        }
    }
}

fn dimension(name: &str) -> Dimension {
    match name {
        "model" => Dimension::Model,
        "end-user" => Dimension::EndUser,
        _ => Dimension::Day,
    }
}

/// A row as the account itself sees it.
fn seen(usage: Option<&Row>) -> AccountUsage {
    AccountUsage { usage: usage.cloned(), provider_cost_micros: 0 }
}

fn line(end_user: &EndUser) -> String {
    let limit = match end_user.limit_micros {
        Some(limit) => {
            let period = match end_user.period() {
                Period::Day => " a day",
                Period::Month => " a month",
                Period::Unspecified | Period::Total => "",
            };
            format!("of {}{period}", show::credits(limit))
        }
        None => "without a limit".to_owned(),
    };
    let (spent, held) = (show::credits(end_user.spent_micros), show::credits(end_user.held_micros));
    let total = show::credits(end_user.total_micros);
    format!("{}  {spent} spent {limit}, {held} held, {total} in all\n", end_user.end_user)
}

/// The names of the columns by which rows are grouped, and a row's values in them.
fn keys(group_by: &[Dimension], row: &Row) -> Vec<(&'static str, String)> {
    let all = [
        (Dimension::Day, "day", &row.day),
        (Dimension::Model, "model", &row.model),
        (Dimension::EndUser, "end_user", &row.end_user),
    ];
    all.into_iter().filter(|(of, ..)| group_by.contains(of)).map(|(_, name, value)| (name, value.clone())).collect()
}

/// The names of the columns that are counted, and a row's values in them.
fn values(row: &AccountUsage, costs: bool) -> Vec<(&'static str, String)> {
    let usage = row.usage.clone().unwrap_or_default();
    let mut values = vec![
        ("started", usage.started_count.to_string()),
        ("completed", usage.completed_count.to_string()),
        ("failed", usage.failed_count.to_string()),
        ("cancelled", usage.cancelled_count.to_string()),
        ("expired", usage.expired_count.to_string()),
        ("credits", show::credits(usage.captured_micros)),
    ];
    if costs {
        values.push(("provider_cost", show::credits(row.provider_cost_micros)));
    }
    values
}

/// A line of names, and a line for each row.
fn csv(group_by: &[Dimension], rows: &[AccountUsage], costs: bool) -> String {
    let columns = |row: &AccountUsage| {
        let mut columns = keys(group_by, &row.usage.clone().unwrap_or_default());
        columns.extend(values(row, costs));
        columns
    };
    let names: Vec<_> = columns(&AccountUsage::default()).into_iter().map(|(name, _)| name).collect();
    let mut out = format!("{}\n", names.join(","));
    for row in rows {
        let cells: Vec<_> = columns(row).into_iter().map(|(_, value)| cell(&value)).collect();
        let _ = writeln!(out, "{}", cells.join(","));
    }
    out
}

/// A value as RFC 4180 has it. What a spreadsheet would take for a formula begins with an apostrophe: end users choose their names.
fn cell(value: &str) -> String {
    let value = if value.starts_with(['=', '+', '-', '@']) { format!("'{value}") } else { value.to_owned() };
    if value.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", value.replace('"', "\"\"")) } else { value }
}

/// Rows for people, and their sum.
fn table(group_by: &[Dimension], rows: &[AccountUsage], total: Option<&AccountUsage>, costs: bool) -> String {
    let mut out = String::new();
    let mut add = |row: &AccountUsage, name: Option<&str>| {
        let keys = match name {
            Some(name) => name.to_owned(),
            None => {
                let keys = keys(group_by, &row.usage.clone().unwrap_or_default());
                let shown = keys.into_iter().map(|(_, value)| if value.is_empty() { "-".to_owned() } else { value });
                shown.collect::<Vec<_>>().join("  ")
            }
        };
        let counts: Vec<_> = values(row, costs)
            .into_iter()
            .filter(|(_, value)| value != "0")
            .map(|(name, value)| format!("{value} {name}"))
            .collect();
        let _ = writeln!(out, "{keys}  {}", counts.join(", "));
    };
    if !group_by.is_empty() {
        rows.iter().for_each(|row| add(row, None));
    }
    total.into_iter().for_each(|total| add(total, Some("total")));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(end_user: &str) -> AccountUsage {
        let usage = Row {
            day: "2026-11-28".to_owned(),
            end_user: end_user.to_owned(),
            started_count: 3,
            completed_count: 2,
            captured_micros: 1_120_000,
            ..Row::default()
        };
        AccountUsage { usage: Some(usage), provider_cost_micros: 900_000 }
    }

    #[test]
    fn comma_separated_values_keep_their_columns() {
        let by = [Dimension::Day, Dimension::EndUser];
        assert_eq!(
            csv(&by, &[row("Ada, \"the first\""), row("=1+1"), row("")], true),
            "day,end_user,started,completed,failed,cancelled,expired,credits,provider_cost\n\
             2026-11-28,\"Ada, \"\"the first\"\"\",3,2,0,0,0,1.12,0.90\n\
             2026-11-28,'=1+1,3,2,0,0,0,1.12,0.90\n\
             2026-11-28,,3,2,0,0,0,1.12,0.90\n"
        );
        assert_eq!(csv(&[Dimension::Model], &[], false), "model,started,completed,failed,cancelled,expired,credits\n");
    }

    #[test]
    fn a_table_ends_with_its_sum() {
        let shown = table(&[Dimension::EndUser], &[row("ada"), row("")], Some(&row("")), false);
        assert_eq!(
            shown,
            "ada  3 started, 2 completed, 1.12 credits\n-  3 started, 2 completed, 1.12 credits\ntotal  3 started, 2 completed, 1.12 credits\n"
        );
    }
}
