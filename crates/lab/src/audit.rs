//! The join: the provider's bill, the ledger, the jobs, the calls, and what the gateway tells the customer.
//!
//! Each thing that is wrong is a sentence that names its generation, so that it can be looked into. Invariant: every order on the
//! bill is explained by a call that was intended, and an order beside another only by the other's end before it, at no charge.

mod paid;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use anyhow::Result;
use proto::generations::v1::State;
use provider_double::{Event, FAL_COST_MICROS, Line, OPENROUTER_COST_MICROS, Protocol};
use sqlx::PgPool;

use self::paid::{Facts, PaidUndelivered};
use crate::customer::Customer;
use crate::notifications::Notifications;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// Accepted, and neither over nor where it should be; or over, and not what was bought.
    pub(crate) lost: Vec<String>,
    /// Ordered beside an order that may be at work, after one that was paid for, or without an intent.
    pub(crate) double_submissions: Vec<String>,
    /// Charged more than once, or for what did not complete.
    pub(crate) double_charges: Vec<String>,
    /// A charge reported to the customer that the bill contradicts.
    pub(crate) contradicted_charges: Vec<String>,
    /// The sum of all entries of the ledger.
    pub(crate) ledger_sum: i64,
    /// Entries that do not sum to zero, and what is held although all is over.
    pub(crate) ledger: Vec<String>,
    /// Generations whose submission was unconfirmed at some time.
    pub(crate) unconfirmed: usize,
    /// Those of them, by what explains it.
    pub(crate) explained: BTreeMap<&'static str, usize>,
    /// How all generations ended.
    pub(crate) ends: BTreeMap<String, usize>,
    /// Orders, and made ones that nobody got, since their reference never came.
    pub(crate) orders: usize,
    pub(crate) given_up: usize,
    /// Orders that were paid for and not delivered.
    pub(crate) paid_undelivered: PaidUndelivered,
    /// What customers were notified of.
    pub(crate) notifications: Notifications,
}

#[derive(sqlx::FromRow)]
struct Row {
    name: String,
    state: i16,
    provider_charge: i16,
    /// SHA-256 of each output.
    assets: Vec<String>,
    reason: Option<String>,
    spent: i64,
    captures: i64,
    captured: i64,
    job: Option<String>,
    /// Intended calls without a reference, and the references of the others.
    unknown: i64,
    references: Vec<String>,
    unconfirmed: bool,
    /// Whether its user asked for an end.
    cancelled: bool,
    remote: bool,
    model: String,
    prompt: String,
    /// What its provider said that it cost, in millionths.
    cost: Option<i64>,
}

/// Whether an order on the bill is a generation's: by the job that the provider was told, or by its words where it is told of none.
/// No two generations of a run have the same words.
pub(crate) fn is_of(line: &Line, generation: &str, prompt: &str) -> bool {
    match &line.job {
        Some(job) => generation.trim_start_matches("generations/") == job,
        None => line.input.as_ref().is_some_and(|input| input["prompt"] == prompt),
    }
}

/// The lines of the bill by the generation that they are of, and those that are of none, by what the provider calls the job.
fn by_generation<'l>(bill: &'l [Line], rows: &[Row]) -> HashMap<String, Vec<&'l Line>> {
    let mut owners: HashMap<&str, &str> = HashMap::new();
    for row in rows {
        owners.extend(row.references.iter().map(|reference| (reference.as_str(), row.name.as_str())));
    }
    let by_words: HashMap<&str, &str> = rows.iter().map(|row| (row.prompt.as_str(), row.name.as_str())).collect();
    let mut lines: HashMap<String, Vec<&Line>> = HashMap::new();
    for line in bill {
        let words = line.input.as_ref().and_then(|input| input["prompt"].as_str());
        if let (None, Some(name)) = (&line.job, words.and_then(|words| by_words.get(words))) {
            owners.entry(line.order.as_str()).or_insert(name);
        }
        let owner = match &line.job {
            Some(job) => format!("generations/{job}"),
            None => owners.get(line.order.as_str()).copied().unwrap_or_default().to_owned(),
        };
        lines.entry(owner).or_default().push(line);
    }
    lines
}

impl Audit {
    /// Whether every promise held.
    pub(crate) fn holds(&self) -> bool {
        self.is_safe() && self.wrong().next().is_none()
    }

    /// Whether nothing was lost, nothing was ordered or charged twice, and the books agree: what no machine is too slow for.
    pub(crate) fn is_safe(&self) -> bool {
        let wrong =
            [&self.lost, &self.double_submissions, &self.double_charges, &self.contradicted_charges, &self.ledger];
        wrong.into_iter().all(Vec::is_empty) && self.ledger_sum == 0
    }

    /// Everything that is wrong, in words.
    pub(crate) fn wrong(&self) -> impl Iterator<Item = &String> {
        let wrong =
            [&self.lost, &self.double_submissions, &self.double_charges, &self.contradicted_charges, &self.ledger];
        wrong.into_iter().chain([&self.paid_undelivered.ours, &self.notifications.wrong]).flatten()
    }
}

/// Joins everything. `accepted` are the generations that customers were answered.
pub(crate) async fn audit(
    pool: &PgPool,
    bill: &Path,
    customers: &[Customer],
    accepted: &[Vec<String>],
) -> Result<Audit> {
    let mut audit = Audit::default();
    let bill = provider_double::read_bill(bill)?;
    let rows = rows(pool).await?;
    let mut orders = by_generation(&bill, &rows);
    let known: HashMap<&str, &Row> = rows.iter().map(|row| (row.name.as_str(), row)).collect();
    for (customer, names) in customers.iter().zip(accepted) {
        for name in names.iter().filter(|name| !known.contains_key(name.as_str())) {
            audit.lost.push(format!("{name} was accepted and is not in the database"));
        }
        for seen in customer.get(names).await? {
            if known.get(seen.name.as_str()).is_some_and(|row| i32::from(row.state) != seen.state) {
                audit.lost.push(format!("{} is shown as {:?}, and is not", seen.name, seen.state()));
            }
        }
    }
    for row in &rows {
        let lines = orders.remove(&row.name).unwrap_or_default();
        audit.generation(row, &lines);
    }
    for (job, lines) in orders {
        audit.double_submissions.push(format!("{} lines for {job:?}, which is no generation", lines.len()));
    }
    audit.books(pool).await?;
    Ok(audit)
}

impl Audit {
    fn generation(&mut self, row: &Row, lines: &[&Line]) {
        let name = &row.name;
        let state = State::try_from(i32::from(row.state)).unwrap_or_default();
        *self.ends.entry(format!("{state:?}")).or_default() += 1;
        let over = state >= State::Completed;
        if !over {
            self.lost.push(format!("{name} has not ended: {state:?}, its job is {:?}", row.job));
        } else if row.job.as_deref().is_some_and(|job| ["queued", "leased", "waiting"].contains(&job)) {
            self.lost.push(format!("{name} is {state:?}, and its job is {:?}", row.job));
        }
        let charged = |line: &&&Line| line.event == Event::Charged;
        if state == State::Completed && row.remote {
            let assets = &row.assets;
            if !lines.iter().filter(charged).any(|line| line.outputs() == *assets) {
                self.lost.push(format!("{name} is COMPLETED with {assets:?}, which the provider did not make for it"));
            }
        }
        let due = if state == State::Completed { row.captured } else { 0 };
        if row.captures > 1 || row.spent != due {
            self.double_charges.push(format!("{name} was captured {} times, {} in all", row.captures, row.spent));
        }
        let paid_for = |line: &&Line| line.event == Event::Charged && line.protocol != Protocol::Cog;
        if row.provider_charge == 1 && lines.iter().any(paid_for) {
            self.contradicted_charges.push(format!("{name} says NOT_CHARGED, and is on the bill"));
        }
        let asks = match row.model.as_str() {
            "by-fal" => Some(FAL_COST_MICROS),
            "by-openrouter" => Some(OPENROUTER_COST_MICROS),
            _ => None,
        };
        // A cost that could not be read is none; it is never another.
        if row.cost.is_some() && row.cost != asks {
            self.ledger.push(format!("{name} cost {:?} at its provider, which asks {asks:?}", row.cost));
        }
        // A setting that the provider does not have is one that a user asked for and does not get.
        for line in lines.iter().filter(|line| !line.dropped.is_empty()) {
            self.lost.push(format!("{name} was ordered with {:?}, which the provider dropped", line.dropped));
        }
        self.orders(row, lines);
        let reason = row.reason.as_deref().map(|reason| format!(", {reason}")).unwrap_or_default();
        let facts = Facts {
            name,
            delivered: if state == State::Completed { &row.assets } else { &[] },
            cancelled: row.cancelled,
            end: &format!("{state:?}{reason}"),
            references: &row.references,
        };
        let paid: Vec<&Line> = lines.iter().copied().filter(|line| line.protocol != Protocol::Cog).collect();
        self.paid_undelivered.add(&facts, &paid);
    }

    fn orders(&mut self, row: &Row, lines: &[&Line]) {
        let name = &row.name;
        let (mut live, mut paid, mut unknown) = (HashSet::new(), HashSet::new(), 0);
        for line in lines {
            let order = line.order.as_str();
            match line.event {
                Event::Ordered => {
                    self.orders += 1;
                    if !paid.is_empty() {
                        self.double_submissions.push(format!("{name} was ordered as {order} after {paid:?}, paid for"));
                    } else if !live.is_empty() {
                        self.double_submissions.push(format!("{name} was ordered as {order} beside {live:?}"));
                    }
                    live.insert(order);
                    if !row.references.contains(&line.order) {
                        unknown += 1;
                    }
                }
                // A box of one's own asks for nothing.
                Event::Charged if line.protocol == Protocol::Cog => {}
                // Whatever becomes of it after that.
                Event::Charged => {
                    paid.insert(order);
                }
                // What failed, was stopped or was forgotten, at no charge, may be ordered again.
                Event::Failed | Event::Stopped | Event::Forgotten => {
                    live.remove(order);
                }
                Event::Faulted | Event::Notified => {}
            }
        }
        if unknown > row.unknown {
            self.double_submissions.push(format!("{name} has {unknown} orders that no intent explains"));
        }
        let made = |line: &&Line| {
            line.event == Event::Charged && line.protocol != Protocol::Cog && !row.references.contains(&line.order)
        };
        self.given_up += lines.iter().filter(|line| made(line)).count();
        if row.unconfirmed {
            self.unconfirmed += 1;
            let ended_unknown = row.reason.as_deref() == Some("SUBMISSION_OUTCOME_UNKNOWN");
            let why = match (unknown > 0, lines.is_empty(), ended_unknown) {
                (true, _, true) => "taken, its answer and its webhook lost: ended as UNKNOWN",
                (true, _, false) => "taken, its answer lost: ended otherwise",
                (false, true, true) => "not taken, the connection cut: ended as UNKNOWN",
                (false, true, false) => "not taken, the connection cut: ended otherwise",
                (false, false, _) => "taken, its answer lost: settled",
            };
            *self.explained.entry(why).or_default() += 1;
        }
    }

    async fn books(&mut self, pool: &PgPool) -> Result<()> {
        self.ledger_sum =
            sqlx::query_scalar("select coalesce(sum(amount_micros), 0)::bigint from ledger").fetch_one(pool).await?;
        for (sql, wrong) in [
            (
                "select count(*) from (select from ledger group by account_id, generation_id, entry, request_id
                 having sum(amount_micros) <> 0) as entry",
                "entries of the ledger do not sum to zero",
            ),
            (
                "select coalesce(sum(held_micros), 0)::bigint from credit_accounts",
                "micro-credits are held although every generation has ended",
            ),
            (
                "select count(*) from credit_accounts c cross join lateral (
                     select coalesce(sum(amount_micros) filter (where book = 'available'), 0) as available,
                            coalesce(sum(amount_micros) filter (where book = 'spent'), 0) as spent
                     from ledger where account_id = c.account_id
                 ) l where (c.available_micros, c.spent_micros) is distinct from (l.available, l.spent)",
                "balances are not what the ledger says",
            ),
        ] {
            let found: i64 = sqlx::query_scalar(sql).fetch_one(pool).await?;
            if found != 0 {
                self.ledger.push(format!("{found} {wrong}"));
            }
        }
        Ok(())
    }
}

async fn rows(pool: &PgPool) -> Result<Vec<Row>> {
    Ok(sqlx::query_as(
        "select 'generations/' || g.id as name, g.state, g.provider_charge, array(
                    select substr(output ->> 'asset', 8) from jsonb_array_elements(coalesce(g.outputs::jsonb, '[]')) as output
                ) as assets,
                g.error_reason as reason, g.captured_micros as captured, j.state as job, g.model <> 'local-sketch' as remote,
                g.model, g.prompt, o.provider_cost_micros as cost,
                g.cancel_time is not null as cancelled,
                coalesce(l.spent, 0)::bigint as spent, coalesce(l.captures, 0) as captures,
                coalesce(p.unknown, 0) as unknown, coalesce(p.refs, '{}') as references,
                exists (select from job_events e where e.job_id = g.id and e.cause = 'SUBMISSION_UNCONFIRMED') as unconfirmed
         from generations g
         left join jobs j on j.id = g.id
         left join generation_orders o on o.generation_id = g.id
         left join lateral (
             select sum(amount_micros) filter (where book = 'spent') as spent,
                    count(*) filter (where entry = 'capture' and book = 'spent') as captures
             from ledger where generation_id = g.id
         ) l on true
         left join lateral (
             select count(*) filter (where reference is null) as unknown,
                    array_agg(reference) filter (where reference is not null) as refs
             from provider_calls where generation_id = g.id
         ) p on true",
    )
    .fetch_all(pool)
    .await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line((order, event): &(&str, Event)) -> Line {
        Line {
            at: 0,
            event: *event,
            protocol: Protocol::Replicate,
            order: (*order).to_owned(),
            job: None,
            key: None,
            token: 0,
            sha256: None,
            more: Vec::new(),
            input: None,
            dropped: Vec::new(),
            given: Vec::new(),
            fault: None,
            hopeless: false,
        }
    }

    /// What is wrong with the orders of a generation.
    fn double_submissions(lines: &[(&str, Event)]) -> Vec<String> {
        let row = Row {
            name: "generations/1".to_owned(),
            state: 7,
            provider_charge: 0,
            assets: Vec::new(),
            reason: None,
            spent: 0,
            captures: 0,
            captured: 0,
            job: None,
            unknown: 0,
            references: vec!["a".to_owned(), "b".to_owned()],
            unconfirmed: false,
            cancelled: false,
            remote: true,
            model: "by-replicate".to_owned(),
            prompt: String::new(),
            cost: None,
        };
        let (mut audit, lines) = (Audit::default(), lines.iter().map(line).collect::<Vec<_>>());
        audit.orders(&row, &lines.iter().collect::<Vec<_>>());
        audit.double_submissions
    }

    #[test]
    fn an_order_stands_beside_no_other_and_after_none_that_was_paid_for() {
        use Event::{Charged, Failed, Faulted, Forgotten, Ordered, Stopped};
        let again = ("b", Ordered);
        for free in [&[("a", Failed)][..], &[("a", Stopped)], &[("a", Failed), ("a", Forgotten)]] {
            let lines = [&[("a", Ordered), ("a", Faulted)], free, &[again]].concat();
            assert_eq!(double_submissions(&lines), [] as [String; 0], "{free:?}");
        }
        for (paid, word) in [
            (&[][..], "beside"),
            (&[("a", Faulted)], "beside"),
            (&[("a", Charged)], "after"),
            (&[("a", Charged), ("a", Forgotten)], "after"),
            (&[("a", Failed), ("a", Charged)], "after"),
        ] {
            let wrong = double_submissions(&[&[("a", Ordered)], paid, &[again]].concat());
            assert!(wrong.len() == 1 && wrong[0].contains(word), "{paid:?}: {wrong:?}");
        }
        assert!(double_submissions(&[("c", Ordered)])[0].contains("no intent"));
    }
}
