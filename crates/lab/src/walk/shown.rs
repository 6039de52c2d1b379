//! What an operator sees: what commands print, and the lines of the logs that ask for attention.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};
use serde_json::{Map, Value};
use tokio::process::Command;

use crate::cluster::Cluster;

/// Fields of a log line that every line has, or that say where and not what.
const PLAIN: [&str; 12] = [
    "timestamp",
    "level",
    "target",
    "message",
    "service",
    "trace_id",
    "span_id",
    "generation",
    "job",
    "account",
    "scene",
    "attempt",
];

/// A command and what it printed, as a page shows them.
pub(super) async fn command(cluster: &Cluster, key: &str, arguments: &[&str]) -> Result<String> {
    let address = |service: &str| format!("http://{}", cluster.node(0, service).address());
    let inside = |service: &str| format!("http://{}", cluster.node(0, service).internal());
    let program = std::env::current_exe().context("finding this program")?.with_file_name("rushes-dev");
    let output = Command::new(program)
        .args(arguments)
        .env("RUSHES_ADDRESS", address("gateway"))
        .env("RUSHES_API_KEY", key)
        .env("RUSHES_INTERNAL_KEYS", testkit::INTERNAL_KEYS)
        .env("RUSHES_GENERATION_WORKER_INTERNAL_URL", inside("generation-worker"))
        .env("RUSHES_GENERATION_STATUS_INTERNAL_URL", inside("generation-status"))
        .env("RUSHES_GENERATION_STATUS_URL", address("generation-status"))
        .stdin(Stdio::null())
        .output()
        .await
        .with_context(|| format!("running rushes {}", arguments.join(" ")))?;
    let printed = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    let quoted: Vec<_> =
        arguments.iter().map(|one| if one.contains(' ') { format!("\"{one}\"") } else { (*one).to_owned() }).collect();
    Ok(anonymous(&format!("$ rushes {}\n{}\n", quoted.join(" "), printed.trim_end())))
}

/// How long a log is now.
pub(super) fn length(log: &Path) -> u64 {
    std::fs::metadata(log).map_or(0, |metadata| metadata.len())
}

/// The warnings and errors of a log after its first `from` bytes, each once.
pub(super) fn warnings(service: &str, log: &Path, from: u64) -> Vec<String> {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(text.get(usize::try_from(from).unwrap_or_default()..).unwrap_or_default());
    let mut seen: Vec<String> = Vec::new();
    for line in text.lines().filter_map(|line| serde_json::from_str::<Map<String, Value>>(line).ok()) {
        let word = |name: &str| line.get(name).and_then(Value::as_str).unwrap_or_default();
        // What a machine with too much to do says besides is no part of it.
        if !["WARN", "ERROR"].contains(&word("level")) || !word("target").ends_with("::events") {
            continue;
        }
        let mut shown = format!("{} {service}: {}", word("level"), word("message"));
        for (name, value) in line.iter().filter(|(name, _)| !PLAIN.contains(&name.as_str())) {
            match value.as_str() {
                Some(text) => shown.push_str(&format!(" {name}={text:?}")),
                None => shown.push_str(&format!(" {name}={value}")),
            }
        }
        let shown = anonymous(&shown);
        if !seen.contains(&shown) {
            seen.push(shown);
        }
    }
    seen
}

/// A text without what differs from run to run: ids, ports and times.
pub(super) fn anonymous(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|letter: char| !(letter.is_ascii_alphanumeric() || "-:._".contains(letter)));
        let (word, after) = rest.split_at(word.unwrap_or(rest.len()));
        if word.is_empty() {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (name, end) = word.split_at(word.trim_end_matches([':', '.']).len());
        let (name, extension) = name.split_at(name.find('.').filter(|at| is_id(&name[..*at])).unwrap_or(name.len()));
        out.push_str(if varies(name) { "…" } else { name });
        out.push_str(extension);
        out.push_str(end);
        rest = after;
    }
    let out = without_numbers(&without_numbers(&out, " (seed ", ")"), ", half within ", " s, four in five within ");
    without_signatures(&out)
}

/// A text whose addresses of assets do not show who may fetch them, until when.
fn without_signatures(text: &str) -> String {
    let mut parts = text.split("?a=");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str("?…");
        out.push_str(part.find(char::is_whitespace).map_or("", |end| &part[end..]));
    }
    out
}

fn is_id(word: &str) -> bool {
    word.len() >= 32 && word.chars().all(|letter| letter.is_ascii_hexdigit() || letter == '-')
}

/// Whether a word is an id, an address or a time.
fn varies(word: &str) -> bool {
    let time = word.len() >= 20 && word.starts_with("20") && word.contains('T') && word.ends_with('Z');
    is_id(word) || time || word.starts_with("127.0.0.1:")
}

/// A text without each passage from `begin` to `end`, and the number of seconds that may follow it.
fn without_numbers(text: &str, begin: &str, end: &str) -> String {
    let mut parts = text.split(begin);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let after = part.split_once(end).map_or(part, |(_, after)| after);
        let number = after.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(after.len());
        out.push_str(if number > 0 { after[number..].trim_start_matches(" s") } else { after });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_run_to_run_is_left_out() {
        let text = "generations/01a22214-4fbe-758e-a94c-022e559dce8d at http://127.0.0.1:8080/x since 2026-11-28T13:00:00.5Z: 403.";
        assert_eq!(anonymous(text), "generations/… at http://…/x since …: 403.");
        let text =
            "assets/9f46c53b77e88a4df112c371aa03f80f49c9e44e906a78b39d92d0a9860988c2.mp4  a harbour (seed 39616432)";
        assert_eq!(anonymous(text), "assets/….mp4  a harbour");
        let text = "http://gateway.test/assets/x.mp4?a=AaIj6NzU&e=20793&k=68812cd9&s=Gty_EdL-JdId  (video/mp4)";
        assert_eq!(anonymous(text), "http://gateway.test/assets/x.mp4?…  (video/mp4)");
        let text = "0 pictures, half within 4 s, four in five within 24 s; UNAVAILABLE";
        assert_eq!(anonymous(text), "0 pictures; UNAVAILABLE");
        assert_eq!(
            anonymous("models/by-replicate  0.10 credits; ten-per-cent"),
            "models/by-replicate  0.10 credits; ten-per-cent"
        );
    }
}
