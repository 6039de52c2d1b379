//! What providers say of our keys and models, asked without ordering anything: at the start, and whenever an operator asks.
//!
//! Invariant: a check changes nothing. A model that fails it is served all the same: only an order that is refused holds others
//! back, since a provider may refuse to be asked and take orders.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use tokio::time::timeout;

use crate::events;
use crate::model::{CallOutcome, Finding, ModelCheck, Trouble};
use crate::providers::Registry;

/// How long one provider may take to answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// How many are asked at one time.
const AT_ONCE: usize = 4;

/// Asks the provider of each model of the catalogue.
pub(crate) async fn check_models(providers: &Registry) -> Vec<ModelCheck> {
    let missing = providers.unserved().map(|(model, provider)| ModelCheck {
        model: model.to_owned(),
        provider,
        finding: Finding::KeyMissing,
        detail: "there is no key for its provider here".to_owned(),
    });
    let mut checks: Vec<ModelCheck> = missing.collect();
    let served = stream::iter(providers.models()).map(|model| check_model(providers, model));
    checks.extend(served.buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect::<Vec<_>>().await);
    checks.sort_by(|one, other| one.model.cmp(&other.model));
    checks
}

async fn check_model(providers: &Registry, model: String) -> Option<ModelCheck> {
    let provider = providers.of_model(&model)?;
    let answer = timeout(PROBE_TIMEOUT, provider.probe()).await;
    let answer = answer.unwrap_or_else(|_| Err(Trouble::new(CallOutcome::Lost, "the provider did not answer in time")));
    let (finding, detail) = match answer {
        Ok(()) => (Finding::Served, String::new()),
        Err(trouble) => {
            let finding = match trouble.outcome {
                CallOutcome::AccountRefused => Finding::KeyRefused,
                CallOutcome::ModelRefused => Finding::ModelUnknown,
                _ => Finding::Unreachable,
            };
            let said = trouble.evidence.status.map_or_else(String::new, |status| format!(" {status}:"));
            (finding, format!("{};{said} {}", trouble.detail, trouble.evidence.excerpt))
        }
    };
    Some(ModelCheck { model, provider: provider.name(), finding, detail })
}

/// Checks all models once, and logs each that is not as it should be.
pub(crate) async fn report(providers: Registry) {
    for check in check_models(&providers).await {
        events::model_checked(&check);
    }
}
