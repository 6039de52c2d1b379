//! The table of outcomes as `docs/work.md` shows it, made from the rules.
//!
//! `RUSHES_WRITE_PAGES=1` writes the page instead of comparing it.

use std::fmt::Write as _;
use std::path::Path;

use super::*;

/// What stands before and after the table in the page.
const BEGIN: &str = "<!-- the table of outcomes begins -->\n";
const END: &str = "<!-- the table of outcomes ends -->";

/// What came, as the page says it.
fn describe(outcome: CallOutcome) -> &'static str {
    match outcome {
        CallOutcome::NotSent => "no byte left",
        CallOutcome::Lost => "cut, or out of time",
        CallOutcome::AccountRefused => "401, 402, 403: key or account",
        CallOutcome::Throttled => "429",
        CallOutcome::ModelRefused => "the model, or a field that no user filled, is refused",
        CallOutcome::InputRefused => "the user's input is refused",
        CallOutcome::SafetyRefused => "refused for safety",
        CallOutcome::NotFound => "the order is not known",
        CallOutcome::Unavailable => "408, 425, 5xx",
        CallOutcome::Unreadable => "an answer that is not documented",
        CallOutcome::Failed(Charge::NotCharged) => "failed, documented as not charged",
        CallOutcome::Failed(Charge::Charged) => "failed, charged",
        CallOutcome::Failed(Charge::Unknown) => "failed",
        CallOutcome::TimedOut(Charge::NotCharged) => "timed out, documented as not charged",
        CallOutcome::TimedOut(Charge::Charged) => "timed out, charged",
        CallOutcome::TimedOut(Charge::Unknown) => "timed out",
        CallOutcome::Stopped(Charge::NotCharged) => "stopped, documented as not charged",
        CallOutcome::Stopped(Charge::Charged) => "stopped, charged",
        CallOutcome::Stopped(Charge::Unknown) => "stopped",
        CallOutcome::OutputMissing => "made, and names no output",
        CallOutcome::ResultUnavailable => "over, and its result is an error that its status does not have",
        CallOutcome::FileRefused => "the file is refused: 4xx, an address that is not public",
        CallOutcome::FileUnavailable => "the file's server is out of order",
        CallOutcome::FileSlow => "the file drips",
        CallOutcome::FileCut => "the file is not whole",
        CallOutcome::FileTooLarge => "the file is too large",
        CallOutcome::FileUnusable => "the file is nothing that was ordered",
        CallOutcome::StorageUnavailable => "our storage does not answer",
    }
}

/// A decision, as the page says it.
fn show(decision: Decision) -> String {
    let ends = |reason: Reason, charge: Charge| format!("ends: `{}`, {}", reason.as_str(), charge.as_str());
    let minutes = |within: Duration| match within.as_secs() / 60 {
        minutes if minutes < 120 => format!("{minutes} min"),
        minutes => format!("{} h", minutes / 60),
    };
    match decision {
        Decision::Confirm => "at once again under its key, or searched for".to_owned(),
        Decision::Unconfirmed => "unconfirmed".to_owned(),
        Decision::Requeue(Hold::Throttled) => "queued, uncounted; the pool takes less".to_owned(),
        Decision::Requeue(Hold::Unavailable(Condition::Misconfigured)) => {
            "queued, uncounted; the model is paused".to_owned()
        }
        Decision::Requeue(Hold::Storage) => "queued, uncounted".to_owned(),
        Decision::Requeue(Hold::Unavailable(_)) => "queued, uncounted; the provider is paused".to_owned(),
        Decision::Retry(reason) => format!("another attempt (`{}`)", reason.as_str()),
        Decision::Again { within, reason, charge, .. } => {
            format!("asked again for {}, then {}", minutes(within), ends(reason, charge))
        }
        Decision::End(reason, charge) => ends(reason, charge),
        Decision::StopAgain => "asked to stop again with the next poll".to_owned(),
    }
}

/// The outcomes that can come in a phase. What cannot come has a decision too, by the tests; the page leaves it out.
fn comes(phase: Phase, outcome: CallOutcome) -> bool {
    let call = !matches!(outcome, CallOutcome::StorageUnavailable) && !outcome.as_str().starts_with("file_");
    match phase {
        // What is refused is refused for the file, and what is missing is ours.
        Phase::Upload => {
            use CallOutcome as Came;
            let of_call = matches!(
                outcome,
                Came::NotSent
                    | Came::Lost
                    | Came::AccountRefused
                    | Came::Throttled
                    | Came::InputRefused
                    | Came::Unavailable
                    | Came::Unreadable
            );
            of_call || matches!(outcome, Came::FileRefused | Came::NotFound | Came::StorageUnavailable)
        }
        Phase::Submit => {
            let of_order =
                matches!(outcome, CallOutcome::Failed(_) | CallOutcome::TimedOut(_) | CallOutcome::Stopped(_));
            use CallOutcome as Came;
            call && !of_order && !matches!(outcome, Came::OutputMissing | Came::ResultUnavailable | Came::NotFound)
        }
        Phase::Repeat => comes(Phase::Submit, outcome),
        Phase::Poll => call,
        Phase::Fetch => !call,
        Phase::Store => matches!(outcome, CallOutcome::StorageUnavailable | CallOutcome::FileUnusable),
        Phase::Cancel => false,
    }
}

fn table() -> String {
    let mut context = Context {
        abilities: Abilities {
            idempotent_submit: false,
            find_by_key: false,
            cancel: true,
            progress: false,
            queue_position: false,
            webhook: true,
            in_process: false,
        },
        cancel: false,
    };
    let mut page = String::from(
        "| call | what came | what follows | where the key costs once | to be cancelled |\n|---|---|---|---|---|\n",
    );
    for phase in Phase::ALL {
        for outcome in CallOutcome::ALL.into_iter().filter(|outcome| comes(phase, *outcome)) {
            let what = match (phase, outcome) {
                (Phase::Upload, CallOutcome::FileRefused) => {
                    "the provider takes it in none of the forms that it may have"
                }
                (Phase::Upload, CallOutcome::NotFound) => "the file is not in our storage",
                (Phase::Upload, CallOutcome::InputRefused) => "the file is refused",
                _ => describe(outcome),
            };
            let mut decided = |keyed: bool, cancel: bool| {
                context.abilities.idempotent_submit = keyed;
                context.cancel = cancel;
                show(decide(phase, outcome, &context))
            };
            let plain = decided(false, false);
            // A repetition is only made where the key costs once, and nothing is submitted that is to be cancelled.
            let keyed = Some(decided(true, false)).filter(|other| *other != plain).unwrap_or_default();
            let cancelled = Some(decided(false, true)).filter(|other| *other != plain).unwrap_or_default();
            let _ = writeln!(page, "| {} | {} | {plain} | {keyed} | {cancelled} |", phase.as_str(), what);
        }
    }
    page
}

#[test]
fn the_page_shows_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/work.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has a place for the table");
    let (shown, after) = rest.split_once(END).expect("the table ends");
    let table = table();
    if std::env::var_os("RUSHES_WRITE_PAGES").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(shown, table, "RUSHES_WRITE_PAGES=1 writes it anew");
}
