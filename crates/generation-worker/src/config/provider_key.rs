//! The keys of a provider, one or several in one setting, and the public name by which each is known.
//!
//! Invariant: a key's name follows from the key alone, so that an order finds its key again however the setting is written; and the
//! key does not follow from its name.

use chassis::settings::{Error, Source};
use domain::provider::Provider;
use http::HeaderValue;
use http::header::InvalidHeaderValue;
use sha2::{Digest as _, Sha256};

/// One of the keys of a provider, each of which has a health of its own.
#[derive(Clone, Debug)]
pub struct ProviderKey {
    /// Its public name, `{provider}/{hash}`: what logs, metrics and tables call it.
    pub name: String,
    /// The credential with its scheme, marked as sensitive.
    pub authorization: HeaderValue,
}

impl ProviderKey {
    /// The key of this provider whose credential goes with `scheme`.
    ///
    /// # Errors
    /// When the credential cannot be sent.
    pub fn new(provider: Provider, scheme: &str, credential: &str) -> Result<Self, InvalidHeaderValue> {
        let mut authorization = HeaderValue::from_str(&format!("{scheme} {credential}"))?;
        authorization.set_sensitive(true);
        // 32 bits of a hash tell keys apart, and tell nobody a key; the order in which they are set may change.
        let hash = Sha256::digest(format!("a provider's key\n{}\n{credential}", provider.as_str()));
        let name = format!("{}/{}", provider.as_str(), hex::encode(&hash[..4]));
        Ok(Self { name, authorization })
    }

    /// Those of a setting that has one or several, with commas between; none where it is not set.
    pub(super) fn read_all(
        source: &Source,
        setting: &str,
        provider: Provider,
        scheme: &str,
    ) -> Result<Vec<Self>, Error> {
        let expected = "a key, or several with commas between, each printable, in one line and named once";
        let Some(text) = source.optional::<String>(setting, expected)? else { return Ok(Vec::new()) };
        let credentials = text.split(',').map(str::trim).filter(|credential| !credential.is_empty());
        let keys = credentials.map(|credential| Self::new(provider, scheme, credential)).collect::<Result<Vec<_>, _>>();
        let keys = keys.map_err(|_| Error::wrong(setting, expected))?;
        let mut names: Vec<_> = keys.iter().map(|key| key.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        if keys.is_empty() || names.len() < keys.len() {
            return Err(Error::wrong(setting, expected));
        }
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(setting: &str) -> Result<Vec<ProviderKey>, Error> {
        ProviderKey::read_all(&Source::of(&[("RUSHES_FAL_KEY", setting)]), "RUSHES_FAL_KEY", Provider::Fal, "Key")
    }

    #[test]
    fn several_keys_have_public_names_that_do_not_depend_on_their_order() {
        let names = |setting: &str| {
            let keys = read(setting).unwrap();
            keys.into_iter().map(|key| key.name).collect::<Vec<_>>()
        };
        let (both, turned) = (names("one, two"), names("two,one,"));
        assert_eq!(both, [turned[1].clone(), turned[0].clone()]);
        assert!(both.iter().all(|name| name.len() == "fal/00000000".len() && name.starts_with("fal/")), "{both:?}");
        assert_eq!(names("one"), both[..1]);
        for wrong in [",", "one,one", "one,t\u{7f}o"] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.starts_with("RUSHES_FAL_KEY should be a key, or several"), "{error}");
        }
    }
}
