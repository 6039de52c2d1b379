//! What an audit found, for people: the lines that the crash-point run and nemesis have in common.

use std::fmt::Write as _;
use std::time::Duration;

use crate::audit::Audit;
use crate::rescue::percentile;

/// What an audit found, for people.
pub(crate) fn summary(audit: &Audit, what: &str, rescued: &[Duration]) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = writeln!(
        text,
        "{what}: {} lost, {} double submissions, {} double charges, ledger sum {}, {} unconfirmed",
        audit.lost.len(),
        audit.double_submissions.len(),
        audit.double_charges.len(),
        audit.ledger_sum,
        audit.unconfirmed
    );
    for (why, count) in &audit.explained {
        let _ = writeln!(text, "  {count:>6} unconfirmed: {why}");
    }
    for (end, count) in &audit.ends {
        let _ = writeln!(text, "  {count:>6} {end}");
    }
    let _ = writeln!(text, "  {:>6} orders on the bill, {} made and never claimed", audit.orders, audit.given_up);
    let paid = &audit.paid_undelivered;
    let _ = writeln!(
        text,
        "  {:>6} orders paid for and not delivered, {} of them although the provider failed nothing",
        paid.count(),
        paid.ours.len()
    );
    for (cause, count) in &paid.causes {
        let _ = writeln!(text, "  {count:>6} paid for and not delivered, {cause}");
    }
    let _ = writeln!(
        text,
        "  {:>6} jobs of dead workers back: half within {:.1} s, nine in ten within {:.1} s, the last after {:.1} s",
        rescued.len(),
        percentile(rescued, 0.5).as_secs_f64(),
        percentile(rescued, 0.9).as_secs_f64(),
        rescued.last().copied().unwrap_or_default().as_secs_f64()
    );
    text
}
