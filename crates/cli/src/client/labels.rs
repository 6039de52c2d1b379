//! Labels of one's own, as options and as text.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

/// The labels of a thing that is created.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Labels {
    /// A label of one's own; may be given several times.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse)]
    labels: Vec<(String, String)>,
}

/// The labels that a thing gets in place of those that it has.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct NewLabels {
    #[command(flatten)]
    new: Labels,
    /// Take all labels off.
    #[arg(long, conflicts_with = "labels")]
    no_labels: bool,
}

impl Labels {
    /// As a request takes them.
    pub(crate) fn into_map(self) -> HashMap<String, String> {
        self.labels.into_iter().collect()
    }
}

impl NewLabels {
    /// Whether labels are to be changed.
    pub(crate) fn is_given(&self) -> bool {
        self.no_labels || !self.new.labels.is_empty()
    }

    /// As a request takes them.
    pub(crate) fn into_map(self) -> HashMap<String, String> {
        self.new.into_map()
    }
}

/// Reads `KEY=VALUE`.
pub(crate) fn parse(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a label is KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Writes a line of labels by their keys, and none where there are none.
pub(crate) fn write_line(out: &mut String, indent: &str, labels: &HashMap<String, String>) {
    if labels.is_empty() {
        return;
    }
    let sorted: BTreeMap<_, _> = labels.iter().collect();
    let words: Vec<_> = sorted.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{indent}labels {}", words.join(", "));
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Args {
        #[command(flatten)]
        labels: NewLabels,
    }

    #[test]
    fn labels_are_given_taken_off_or_left_alone() {
        let read = |line: &[&str]| Args::try_parse_from(["update"].iter().chain(line)).map(|args| args.labels);
        assert!(!read(&[]).unwrap().is_given());
        let off = read(&["--no-labels"]).unwrap();
        assert!(off.is_given() && off.into_map().is_empty());
        let two = read(&["--label", "cut=b", "--label", "act=1=2"]).unwrap();
        assert!(two.is_given());
        let mut out = String::new();
        write_line(&mut out, "  ", &two.into_map());
        assert_eq!(out, "  labels act=1=2, cut=b\n");
        write_line(&mut out, "  ", &HashMap::new());
        assert_eq!(out.lines().count(), 1);
        assert!(read(&["--label", "cut"]).is_err() && read(&["--label", "cut=b", "--no-labels"]).is_err());
    }
}
