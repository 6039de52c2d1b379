//! The bill: one JSON line for each thing that happened to an order, only ever added to.
//!
//! Invariant: a line is in the file before whoever wrote it goes on. A reader leaves out a last line that is not whole.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::order::{Given, Order, Protocol, State};
use crate::video::{self, Format};

/// What happened to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// It was taken.
    Ordered,
    /// It costs: it was made, whether or not it can be fetched, or it failed and costs all the same.
    Charged,
    /// It failed; it costs nothing unless it is charged after that.
    Failed,
    /// It was stopped.
    Stopped,
    /// The provider does not know it any more.
    Forgotten,
    /// The provider did something wrong with it, for the first time.
    Faulted,
    /// A webhook about it was accepted.
    Notified,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The double's clock, in milliseconds.
    pub at: u64,
    /// What happened.
    pub event: Event,
    /// By which protocol.
    pub protocol: Protocol,
    /// The provider's name for the order.
    pub order: String,
    /// The job that its webhook's address names.
    pub job: Option<String>,
    /// The idempotency key that came with it.
    pub key: Option<String>,
    /// The place of the token that it was made with: 0 is `token` in the settings.
    #[serde(default, skip_serializing_if = "is_first")]
    pub token: usize,
    /// SHA-256 of the first output, where one was made.
    pub sha256: Option<String>,
    /// SHA-256 of the others, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<String>,
    /// The input that it was ordered with, without the bytes of files; on the line that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// The fields of the input that the model does not have, and that were dropped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<String>,
    /// The files of the input, as they came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub given: Vec<Given>,
    /// The word of what was done wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// Whether that is so for good: however often and well it is asked for, the video cannot be had.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hopeless: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "it is what serde calls it with")]
fn is_first(token: &usize) -> bool {
    *token == 0
}

impl Line {
    /// SHA-256 of every output, in their order; none where nothing was made.
    #[must_use]
    pub fn outputs(&self) -> Vec<&str> {
        self.sha256.iter().chain(&self.more).map(String::as_str).collect()
    }

    /// A line about an order as it is now.
    pub(crate) fn of(order: &Order, event: Event) -> Self {
        // Beside the job, an address may have what it is authenticated by.
        let is_job = |segment: &&str| uuid::Uuid::try_parse(segment).is_ok();
        let named = order.webhook.as_ref().and_then(|webhook| {
            let segments = webhook.path_segments()?.collect::<Vec<_>>();
            segments.iter().copied().find(is_job).or(segments.last().copied()).map(str::to_owned)
        });
        // A box is told the job's name instead.
        let job = named.or_else(|| order.key.clone().filter(|_| order.protocol == Protocol::Cog));
        let format = Format::of(order);
        let made = event == Event::Charged && order.state == State::Made && format.is_of(order.kind);
        let hashes = (0..order.outputs).filter(|_| made);
        let mut hashes = hashes.map(|at| hex::encode(Sha256::digest(video::bytes(&video::file_id(order, at), format))));
        let ordered = event == Event::Ordered;
        Self {
            at: now(),
            event,
            protocol: order.protocol,
            order: order.id.clone(),
            token: order.token,
            job,
            key: order.key.clone(),
            sha256: hashes.next(),
            more: hashes.collect(),
            input: ordered.then(|| order.input.clone()),
            dropped: if ordered { order.dropped.clone() } else { Vec::new() },
            given: if ordered { order.given.clone() } else { Vec::new() },
            fault: None,
            hopeless: false,
        }
    }
}

/// The bill's file, open for writing.
#[derive(Debug)]
pub(crate) struct Bill(Mutex<File>);

impl Bill {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(path);
        Ok(Self(Mutex::new(file.with_context(|| format!("opening the bill {}", path.display()))?)))
    }

    /// Adds a line, whole.
    pub(crate) fn add(&self, line: &Line) {
        let mut text = serde_json::to_string(line).unwrap_or_default();
        text.push('\n');
        let written = self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(text.as_bytes());
        // What is not on the bill must not have happened: a double that cannot write ends rather than lie.
        written.expect("the bill can be written");
    }
}

/// All lines of a bill, in order; none where there is no file.
///
/// # Errors
/// When a line is no line of a bill.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.with_context(|| format!("reading the bill {}", path.display()))?,
    };
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let line = |line: &str| serde_json::from_str(line).with_context(|| format!("not a line of a bill: {line}"));
    whole.lines().map(line).collect()
}

/// The time, in milliseconds.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
