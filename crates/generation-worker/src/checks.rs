//! What providers say of our keys and models, asked without ordering anything: at the start, and whenever an operator asks.
//! generation-status says which models there are.
//!
//! Invariant: a check changes nothing. A model that fails it is served all the same: only an order that is refused holds others
//! back, since a provider may refuse to be asked and take orders.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use tokio::time::{sleep, timeout};

use crate::clients::WorkClient;
use crate::error::Error;
use crate::events;
use crate::model::{CallOutcome, Finding, ModelCheck, RemoteModel, Trouble};
use crate::provider::Provider;
use crate::providers::Registry;

/// How long one provider may take to answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long until generation-status is asked again which models there are.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// How many are asked at one time.
const AT_ONCE: usize = 4;

/// Asks the provider of each model that the catalogue has at one, with each of its keys.
///
/// # Errors
/// [`Error::Unavailable`] where generation-status does not say which those are.
pub(crate) async fn check_models(providers: &Registry, work: &WorkClient) -> Result<Vec<ModelCheck>, Error> {
    let models = work.list_remote_models().await?;
    let mut checks = Vec::new();
    for model in models {
        let each = providers.each_named(&model.provider);
        checks.extend(each.iter().map(|provider| check_model(Some(Arc::clone(provider)), model.clone())));
        if each.is_empty() {
            checks.push(check_model(None, model));
        }
    }
    let checks = stream::iter(checks);
    let mut checks: Vec<ModelCheck> = checks.buffer_unordered(AT_ONCE).collect().await;
    checks.sort_by(|one, other| (&one.model, &one.key).cmp(&(&other.model, &other.key)));
    Ok(checks)
}

/// Asks a model's provider with one key.
async fn check_model(asked: Option<Arc<dyn Provider>>, model: RemoteModel) -> ModelCheck {
    let RemoteModel { name, provider, model, cost } = model;
    let Some(asked) = asked else {
        let detail = "there is no key for its provider here".to_owned();
        return ModelCheck { model: name, provider, key: String::new(), finding: Finding::KeyMissing, detail, cost };
    };
    let key = asked.key().to_owned();
    let (finding, detail) = match ask(&*asked, &model).await {
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
    ModelCheck { model: name, provider, key, finding, detail, cost }
}

/// Asks a provider about a model, for a bounded time; nothing is ordered.
pub(crate) async fn ask(provider: &dyn Provider, model: &str) -> Result<(), Trouble> {
    let late = || Trouble::new(CallOutcome::Lost, "the provider did not answer in time");
    timeout(PROBE_TIMEOUT, provider.probe(model)).await.unwrap_or_else(|_| Err(late()))
}

/// Checks all models once, as soon as generation-status says which there are, and logs each that is not as it should be.
pub(crate) async fn report(providers: Registry, work: WorkClient) {
    let checks = loop {
        match check_models(&providers, &work).await {
            Ok(checks) => break checks,
            Err(error) => tracing::debug!(%error, "the models cannot be checked yet"),
        }
        sleep(RETRY_INTERVAL).await;
    };
    checks.iter().for_each(events::model_checked);
}
