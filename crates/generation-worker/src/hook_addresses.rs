//! Where providers send the webhooks of a job: `{hooks}/{provider}/{job}/{mac}`.
//!
//! Invariant: an address is one that this installation gave to that provider for that job. A signature says who sent a webhook, and
//! not to which address (Replicate's does not cover it, and fal's is by one key for all of its customers): the MAC does.

use chassis::keyring::{InternalKeys, Keyring};
use url::Url;
use uuid::Uuid;

/// What the keys of addresses are derived for.
const PURPOSE: &str = "hook addresses";

/// Makes addresses, and knows its own; clones are the same.
#[derive(Clone, Debug)]
pub struct HookAddresses {
    url: Url,
    keys: Keyring,
}

impl HookAddresses {
    /// Addresses below `url`, which is the gateway's `/hooks`.
    #[must_use]
    pub fn new(url: Url, keys: &InternalKeys) -> Self {
        Self { url, keys: keys.of(PURPOSE) }
    }

    /// The address for a provider's webhooks of a job; nothing where the gateway's address can have no path.
    #[must_use]
    pub fn address(&self, provider: &str, job: Uuid) -> Option<Url> {
        let mac = self.keys.sign(&[provider.as_bytes(), job.as_bytes()]);
        let mut url = self.url.clone();
        url.path_segments_mut().ok()?.pop_if_empty().extend([provider, &job.to_string(), &hex::encode(mac)]);
        Some(url)
    }

    /// The job of an address that was given to `provider`, by what follows the provider's name in it.
    #[must_use]
    pub fn job(&self, provider: &str, path: &str) -> Option<Uuid> {
        let (job, mac) = path.split_once('/')?;
        let job = Uuid::try_parse(job).ok()?;
        let mac = hex::decode(mac).ok()?;
        self.keys.verify(&[provider.as_bytes(), job.as_bytes()], &mac).then_some(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_of_one_job_at_one_provider() {
        let keys = InternalKeys::parse("test-test-test-test-test-test-test").unwrap();
        let others = InternalKeys::parse("else-else-else-else-else-else-else").unwrap();
        let url = Url::parse("https://rushes.test/hooks/").unwrap();
        let addresses = HookAddresses::new(url.clone(), &keys);
        let job = Uuid::now_v7();
        let address = addresses.address("fal", job).unwrap().to_string();
        let path = address.strip_prefix("https://rushes.test/hooks/fal/").unwrap();
        assert_eq!(addresses.job("fal", path), Some(job));
        assert_eq!(addresses.job("replicate", path), None, "another provider's");
        let other = path.replace(&job.to_string(), &Uuid::now_v7().to_string());
        assert_eq!(addresses.job("fal", &other), None, "another job");
        assert_eq!(HookAddresses::new(url, &others).job("fal", path), None, "another installation's");
        for forged in [job.to_string(), format!("{job}/"), format!("{job}/00"), format!("{path}/"), String::new()] {
            assert_eq!(addresses.job("fal", &forged), None, "{forged}");
        }
    }
}
