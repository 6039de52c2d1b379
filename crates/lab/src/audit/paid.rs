//! Orders that the platform paid for and that nobody got: the bill says that they were charged, and their video was not delivered.
//!
//! Invariants: each has one cause, the first of those that apply; and what a provider did wrong is a cause only where, however well
//! it is asked, the video cannot be had.

use std::collections::BTreeMap;

use provider_double::{Event, Line, Protocol};

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct PaidUndelivered {
    /// How many, by cause.
    pub(crate) causes: BTreeMap<String, usize>,
    /// Those of them for which the provider failed nothing and the user asked for nothing, in words.
    pub(crate) ours: Vec<String>,
}

/// What the books say of a generation.
pub(super) struct Facts<'a> {
    pub(super) name: &'a str,
    /// SHA-256 of each video that was delivered; none where nothing was.
    pub(super) delivered: &'a [String],
    /// Whether its user asked for an end.
    pub(super) cancelled: bool,
    /// How it ended.
    pub(super) end: &'a str,
    /// The references of its orders that are known.
    pub(super) references: &'a [String],
}

/// Why an order that was paid for was not delivered.
#[derive(Debug, PartialEq, Eq)]
enum Cause {
    User,
    Provider(String),
    Ours(String),
}

impl PaidUndelivered {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.causes.values().sum()
    }

    /// Adds the orders of a generation.
    pub(super) fn add(&mut self, facts: &Facts<'_>, lines: &[&Line]) {
        for (at, charge) in lines.iter().enumerate().filter(|(_, line)| line.event == Event::Charged) {
            let order = &charge.order;
            if !facts.delivered.is_empty() && charge.outputs() == facts.delivered {
                continue;
            }
            let text = match cause(facts, lines, at) {
                Cause::User => "cancelled by its user".to_owned(),
                Cause::Provider(what) => format!("its provider's: {what}"),
                Cause::Ours(what) => {
                    self.ours.push(format!("{} was paid for as {order} and not delivered: {what}", facts.name));
                    format!("ours: {what}")
                }
            };
            *self.causes.entry(text).or_default() += 1;
        }
    }
}

/// Why the order that is charged in the line `at` was not delivered.
fn cause(facts: &Facts<'_>, lines: &[&Line], at: usize) -> Cause {
    let order = &lines[at].order;
    let of_order = || lines.iter().filter(|line| line.order == *order);
    let happened = |event: Event| of_order().any(|line| line.event == event);
    let faulted = |word: &str| of_order().any(|line| line.fault.as_deref() == Some(word));
    let before = lines.iter().take_while(|line| line.order != *order || line.event != Event::Ordered);
    if before.into_iter().any(|line| line.event == Event::Charged) {
        return Cause::Ours("ordered after one that was paid for".to_owned());
    }
    if facts.cancelled {
        return Cause::User;
    }
    if happened(Event::Failed) {
        return Cause::Provider("failed or refused, and charged".to_owned());
    }
    if let Some(line) = of_order().find(|line| line.hopeless) {
        return Cause::Provider(line.fault.clone().unwrap_or_default());
    }
    if happened(Event::Forgotten) {
        return Cause::Provider("forgotten".to_owned());
    }
    if !facts.references.contains(order) {
        // Without a webhook that names it nobody can know of it; with one everybody has to.
        return if lines[at].protocol == Protocol::OpenRouter {
            Cause::Provider("unconfirmed, its answer lost, and it sends no webhooks".to_owned())
        } else if faulted("hook-lost") || faulted("hook-no-id") {
            Cause::Provider("unconfirmed, its answer and its webhook lost".to_owned())
        } else if happened(Event::Notified) {
            Cause::Ours("unconfirmed, although its webhook was accepted".to_owned())
        } else {
            Cause::Ours("unconfirmed, its webhook refused".to_owned())
        };
    }
    Cause::Ours(format!("known, and ended as {}", facts.end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(order: &str, event: Event) -> Line {
        Line {
            at: 0,
            event,
            protocol: Protocol::Fal,
            order: order.to_owned(),
            job: None,
            key: None,
            token: 0,
            sha256: (event == Event::Charged).then(|| format!("sha-of-{order}")),
            more: Vec::new(),
            input: None,
            dropped: Vec::new(),
            given: Vec::new(),
            fault: None,
            hopeless: false,
        }
    }

    fn fault(order: &str, word: &str, hopeless: bool) -> Line {
        Line { fault: Some(word.to_owned()), hopeless, ..line(order, Event::Faulted) }
    }

    fn facts<'a>(references: &'a [String], delivered: &'a [String]) -> Facts<'a> {
        Facts { name: "generations/1", delivered, cancelled: false, end: "Failed, TOTAL_DEADLINE", references }
    }

    /// What is found of one generation.
    fn found(facts: &Facts<'_>, lines: &[Line]) -> (Vec<(String, usize)>, usize) {
        let mut paid = PaidUndelivered::default();
        paid.add(facts, &lines.iter().collect::<Vec<_>>());
        (paid.causes.into_iter().collect(), paid.ours.len())
    }

    fn one(cause: &str, ours: usize) -> (Vec<(String, usize)>, usize) {
        (vec![(cause.to_owned(), 1)], ours)
    }

    #[test]
    fn what_is_delivered_or_not_charged_is_none_of_it() {
        let known = ["a".to_owned()];
        let made = [line("a", Event::Ordered), line("a", Event::Charged)];
        assert_eq!(found(&facts(&known, &["sha-of-a".to_owned()]), &made), (vec![], 0));
        let stopped = [line("a", Event::Ordered), line("a", Event::Stopped)];
        assert_eq!(found(&facts(&known, &[]), &stopped), (vec![], 0));
    }

    #[test]
    fn each_cause_is_its_users_its_providers_or_ours() {
        let known = ["a".to_owned()];
        let (ordered, charged) = (line("a", Event::Ordered), line("a", Event::Charged));
        for (more, references, cause, ours) in [
            (vec![], &known[..], "ours: known, and ended as Failed, TOTAL_DEADLINE", 1),
            (vec![fault("a", "file-gif", true)], &known, "its provider's: file-gif", 0),
            (vec![fault("a", "file-403", false)], &known, "ours: known, and ended as Failed, TOTAL_DEADLINE", 1),
            (vec![line("a", Event::Forgotten)], &known, "its provider's: forgotten", 0),
            (vec![fault("a", "cut-after", false)], &[], "ours: unconfirmed, its webhook refused", 1),
            (vec![line("a", Event::Notified)], &[], "ours: unconfirmed, although its webhook was accepted", 1),
            (
                vec![fault("a", "cut-after", false), fault("a", "hook-lost", false)],
                &[],
                "its provider's: unconfirmed, its answer and its webhook lost",
                0,
            ),
            (vec![fault("a", "hook-lost", false)], &known, "ours: known, and ended as Failed, TOTAL_DEADLINE", 1),
        ] {
            let lines = [vec![ordered.clone(), charged.clone()], more].concat();
            assert_eq!(found(&facts(references, &[]), &lines), one(cause, ours), "{lines:?}");
            let cancelled = Facts { cancelled: true, ..facts(references, &[]) };
            assert_eq!(found(&cancelled, &lines), one("cancelled by its user", 0));
        }
        let failed = [ordered, line("a", Event::Failed), charged];
        assert_eq!(found(&facts(&known, &[]), &failed), one("its provider's: failed or refused, and charged", 0));
    }

    #[test]
    fn one_that_is_ordered_after_one_that_was_paid_for_is_ours_whatever_the_provider_did() {
        let known = ["a".to_owned(), "b".to_owned()];
        let lines = [
            line("a", Event::Ordered),
            line("a", Event::Charged),
            fault("a", "file-gif", true),
            line("b", Event::Ordered),
            line("b", Event::Charged),
            fault("b", "file-gif", true),
        ];
        let (causes, ours) = found(&facts(&known, &[]), &lines);
        assert_eq!((causes.len(), ours), (2, 1), "{causes:?}");
        // The second came to its user: then it is the first that was paid for in vain.
        assert_eq!(found(&facts(&known, &["sha-of-b".to_owned()]), &lines), one("its provider's: file-gif", 0));
    }
}
