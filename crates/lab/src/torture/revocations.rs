//! Keys that are revoked while everything breaks: how long a gateway goes on taking one after its revocation was answered.
//!
//! Invariant: what counts is a call that began after the answer to the revocation, by the client's clock, and was taken. Limits are asked
//! for, which the gateway answers by itself: nothing but the key can refuse them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use proto::accounts::v1::account_service_client::AccountServiceClient;
use proto::accounts::v1::{CreateApiKeyRequest, RevokeApiKeyRequest};
use proto::limits::v1::GetLimitsRequest;
use proto::limits::v1::limit_service_client::LimitServiceClient;
use serde_json::json;
use tokio::task::JoinHandle;
use tonic::{Code, Request};

use super::workload::{TIMEOUT, Workload, with};

/// The longest while a gateway cannot ask: the last answer holds for 30 s, was 2 s old at most, and is acted on for one more.
const MAX_HELD: Duration = Duration::from_secs(34);
/// The longest while nothing is wrong: an answer is acted on for 1 s and may be 1 s old, and a call takes its time.
const MAX_QUIET: Duration = Duration::from_secs(3);
/// How many keys are revoked once all faults have ended.
const QUIET_ROUNDS: usize = 5;
/// How often a revoked key is tried at each gateway.
const INTERVAL: Duration = Duration::from_millis(50);

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Revocations {
    /// How many keys were revoked.
    pub(super) keys: u64,
    /// The latest begin of a call that was taken, after the revocation.
    pub(super) worst: Duration,
    /// The same of those that were revoked when nothing was wrong.
    pub(super) worst_quiet: Duration,
    pub(super) violations: Vec<String>,
}

impl Revocations {
    pub(super) fn object(&self) -> serde_json::Value {
        json!({
            "keys": self.keys,
            "worst_ms": self.worst.as_millis(),
            "worst_quiet_ms": self.worst_quiet.as_millis(),
        })
    }
}

impl std::fmt::Display for Revocations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (worst, quiet) = (self.worst.as_millis(), self.worst_quiet.as_millis());
        write!(
            f,
            "{} keys revoked; taken for {worst} ms more at worst, for {quiet} ms when nothing was wrong",
            self.keys
        )
    }
}

/// Revokes one key after the other until the run stops, and then some more while nothing is wrong.
pub(super) async fn begin(workload: &Arc<Workload>) -> Result<JoinHandle<Result<Revocations>>> {
    let (account, _) = workload.cluster.account("Whose keys end".to_owned(), 1).await.context("making an account")?;
    let workload = Arc::clone(workload);
    Ok(tokio::spawn(async move {
        let mut found = Revocations::default();
        let mut replica = 0;
        while !workload.stop.load(Ordering::Relaxed) {
            replica = 1 - replica;
            // Where everything is cut there may be no key to revoke; the next round tries again.
            if let Some(taken) = workload.revoke_one(&account, replica, MAX_HELD).await {
                found.note(taken, MAX_HELD);
            }
            tokio::time::sleep(INTERVAL).await;
        }
        Ok(found)
    }))
}

/// The same while nothing is wrong.
pub(super) async fn finish(workload: &Workload, found: &mut Revocations) -> Result<()> {
    let account = &workload.owners.first().context("an account")?.account;
    for round in 0..QUIET_ROUNDS {
        match workload.revoke_one(account, round % 2, MAX_QUIET).await {
            Some(taken) => {
                found.worst_quiet = found.worst_quiet.max(taken);
                found.note(taken, MAX_QUIET);
            }
            None => found.violations.push("nothing was wrong, and a key could not be made, used or revoked".to_owned()),
        }
    }
    Ok(())
}

impl Revocations {
    fn note(&mut self, taken: Duration, max: Duration) {
        self.keys += 1;
        self.worst = self.worst.max(taken);
        if taken > max {
            let violation = format!("a key was taken {} ms after its revocation was answered", taken.as_millis());
            self.violations.push(violation);
        }
    }
}

impl Workload {
    /// Makes a key, uses it at both gateways, revokes it at this replica of dashboard, and returns how long after the answer a gateway
    /// still took a call that began then. Nothing where one of the steps before could not be done.
    async fn revoke_one(&self, account: &str, replica: usize, max: Duration) -> Option<Duration> {
        let mut accounts = AccountServiceClient::new(self.cluster.doors(replica, "dashboard"));
        let request = CreateApiKeyRequest { parent: account.to_owned(), ..CreateApiKeyRequest::default() };
        let made = accounts.create_api_key(timed(request)).await.ok()?.into_inner();
        let name = made.api_key?.name;
        let used = [self.takes(0, &made.secret).await, self.takes(1, &made.secret).await];
        if used != [Some(true), Some(true)] && max == MAX_QUIET {
            return None;
        }
        // A revocation whose answer did not come is asked for again: it is done once.
        let asked = Instant::now();
        while accounts.revoke_api_key(timed(RevokeApiKeyRequest { name: name.clone() })).await.is_err() {
            if asked.elapsed() > MAX_HELD {
                return None;
            }
            tokio::time::sleep(INTERVAL).await;
        }
        let answered = Instant::now();
        let [one, two] = [0, 1].map(|gateway| self.taken_after(gateway, &made.secret, answered, max));
        let (one, two) = tokio::join!(one, two);
        Some(one.max(two))
    }

    /// How long after `answered` a call began that this gateway took.
    async fn taken_after(&self, gateway: usize, key: &str, answered: Instant, max: Duration) -> Duration {
        let mut last = Duration::ZERO;
        loop {
            let begun = answered.elapsed();
            match self.takes(gateway, key).await {
                Some(true) => last = begun,
                Some(false) => return last,
                // Nobody has said anything of the key.
                None => {}
            }
            if begun > max + TIMEOUT {
                return last;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Whether a gateway takes a call with this key; nothing where it does not say.
    async fn takes(&self, gateway: usize, key: &str) -> Option<bool> {
        let request = with(key, GetLimitsRequest {});
        match LimitServiceClient::new(self.gateways[gateway].clone()).get_limits(request).await {
            Ok(_) => Some(true),
            Err(status) if status.code() == Code::Unauthenticated => Some(false),
            Err(_) => None,
        }
    }
}

/// `message` with the time that a call may take.
fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(TIMEOUT);
    request
}
