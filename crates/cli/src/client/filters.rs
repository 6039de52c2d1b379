//! The options that restrict a listing of generations, and how they are written again for the next page.

use std::collections::HashMap;
use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use proto::generations::v1::{ListGenerationsRequest, State};

use crate::client::labels;

/// Which generations are listed; all restrictions hold.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Filters {
    /// queued, submitting, processing, finalizing, cancelling, completed, failed, cancelled or expired; may be given several times.
    #[arg(long = "state", value_name = "STATE", value_parser = state)]
    states: Vec<State>,
    /// models/….
    #[arg(long, default_value = "")]
    model: String,
    /// KEY=VALUE; may be given several times.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = labels::parse)]
    labels: Vec<(String, String)>,
    /// Of this end user.
    #[arg(long, default_value = "")]
    end_user: String,
    /// Started then or later: 2026-11-28 or 2026-11-28T09:30:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Started before.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Filters {
    /// The request with these restrictions.
    pub(crate) fn of(&self, request: ListGenerationsRequest) -> Result<ListGenerationsRequest> {
        let time = |text: &Option<String>| {
            let read =
                |text: &String| text.parse().with_context(|| format!("{text} is no time such as 2026-11-28T09:30:00Z"));
            text.as_ref().map(read).transpose()
        };
        Ok(ListGenerationsRequest {
            states: self.states.iter().map(|state| (*state).into()).collect(),
            model: self.model.clone(),
            create_time_from: time(&self.since)?,
            create_time_until: time(&self.until)?,
            labels: self.labels.iter().cloned().collect::<HashMap<_, _>>(),
            end_user: self.end_user.clone(),
            ..request
        })
    }

    /// The options as they were given, each after a space.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        for state in &self.states {
            let _ = write!(out, " --state {}", state.as_str_name().to_lowercase());
        }
        for (key, value) in &self.labels {
            let _ = write!(out, " --label {}", quoted(&format!("{key}={value}")));
        }
        let options = [
            ("model", Some(self.model.as_str())),
            ("end-user", Some(self.end_user.as_str())),
            ("since", self.since.as_deref()),
            ("until", self.until.as_deref()),
        ];
        for (name, value) in options {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                let _ = write!(out, " --{name} {}", quoted(value));
            }
        }
        out
    }
}

/// A word as a shell reads it.
fn quoted(text: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || "-_./:=@+".contains(char);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

fn state(text: &str) -> Result<State, String> {
    let state = State::from_str_name(&text.to_uppercase()).filter(|state| *state != State::Unspecified);
    state.ok_or_else(|| "a state is queued, processing, completed, failed and the like".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Args {
        #[command(flatten)]
        filters: Filters,
    }

    #[test]
    fn restrictions_are_sent_and_written_as_they_were_given() {
        let line = [
            "--state",
            "failed",
            "--state",
            "EXPIRED",
            "--label",
            "shot=12 b",
            "--model",
            "models/veo",
            "--end-user",
            "it's me",
            "--since",
            "2026-11-28",
            "--until",
            "2026-11-29T09:30:00Z",
        ];
        let filters = Args::try_parse_from(["list"].into_iter().chain(line)).unwrap().filters;
        let request = filters.of(ListGenerationsRequest::default()).unwrap();
        assert_eq!(request.states, [i32::from(State::Failed), i32::from(State::Expired)]);
        assert_eq!(request.labels["shot"], "12 b");
        assert_eq!(request.create_time_from.unwrap().seconds, 1_795_824_000);
        assert_eq!(
            filters.text(),
            r" --state failed --state expired --label 'shot=12 b' --model models/veo --end-user 'it'\''s me' --since 2026-11-28 --until 2026-11-29T09:30:00Z"
        );
        for wrong in [["--state", "done"], ["--label", "shot"]] {
            assert!(Args::try_parse_from(["list"].into_iter().chain(wrong)).is_err(), "{wrong:?}");
        }
        let wrong = Filters { since: Some("yesterday".to_owned()), ..Filters::default() };
        assert!(wrong.of(ListGenerationsRequest::default()).is_err());
    }
}
