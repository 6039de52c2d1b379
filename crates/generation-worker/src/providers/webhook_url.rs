//! Where a provider is to send the webhooks of a job.

use url::Url;
use uuid::Uuid;

/// `{hooks}/{provider}/{job}`, which the gateway reads the two from; nothing where no webhooks are asked for.
pub(super) fn webhook_url(hooks: Option<&Url>, provider: &str, job: Uuid) -> Option<Url> {
    let mut url = hooks?.clone();
    url.path_segments_mut().ok()?.pop_if_empty().extend([provider, &job.to_string()]);
    Some(url)
}
