//! Links by which a model's provider fetches an input: `{public}/fetch/{expires}/{key}/{mac}/{sha256}.{extension}`.

use std::time::{Duration, SystemTime};

use url::Url;

use super::{Refused, seconds};
use crate::blobs::Name;
use crate::keyring::{InternalKeys, Keyring};
use crate::settings::{Error, Source};

/// The path that every link begins with.
pub const FETCH: &str = "/fetch/";

/// What the keys are derived for.
const PURPOSE: &str = "links to inputs";

/// Makes links.
#[derive(Clone, Debug)]
pub struct FetchLinks {
    keys: Keyring,
    public_url: Url,
}

impl FetchLinks {
    /// Makes links below `public_url`, which is the gateway's.
    #[must_use]
    pub fn new(keys: &InternalKeys, public_url: Url) -> Self {
        Self { keys: keys.of(PURPOSE), public_url }
    }

    /// Reads `RUSHES_INTERNAL_KEYS` and `RUSHES_PUBLIC_URL`; nothing where there are no keys, or where no provider could fetch from that
    /// address: it is not https.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn read(source: &Source) -> Result<Option<Self>, Error> {
        let what = "the gateway as the internet sees it, https://…";
        let public_url: Option<Url> = source.optional("RUSHES_PUBLIC_URL", what)?;
        let public_url = public_url.filter(|url| url.scheme() == "https" && url.host().is_some());
        Ok(InternalKeys::read(source)?.zip(public_url).map(|(keys, public_url)| Self::new(&keys, public_url)))
    }

    /// A link to an object, for so long from `now` on.
    #[must_use]
    pub fn link(&self, name: &Name, lasts: Duration, now: SystemTime) -> Url {
        let (expires, name) = ((seconds(now) + lasts.as_secs()).to_string(), name.to_string());
        let mac = hex::encode(self.keys.sign(&[expires.as_bytes(), name.as_bytes()]));
        let id = self.keys.id();
        let mut url = self.public_url.clone();
        url.set_path(&format!("{}{FETCH}{expires}/{id}/{mac}/{name}", self.public_url.path().trim_end_matches('/')));
        url
    }
}

/// The object that a path behind [`FETCH`] leads to.
///
/// # Errors
/// [`Refused`].
pub fn verify_fetch(keys: &InternalKeys, path: &str, now: SystemTime) -> Result<Name, Refused> {
    let mut parts = path.split('/');
    let (Some(expires), Some(id), Some(mac), Some(name), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refused::Forged);
    };
    let mac = hex::decode(mac).map_err(|_| Refused::Forged)?;
    if !keys.of(PURPOSE).verify_by(id, &[expires.as_bytes(), name.as_bytes()], &mac) {
        return Err(Refused::Forged);
    }
    let (Ok(expires), Ok(name)) = (expires.parse::<u64>(), name.parse::<Name>()) else {
        return Err(Refused::Forged);
    };
    if seconds(now) > expires { Err(Refused::Expired) } else { Ok(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const KEYS: &str = "0123456789abcdef0123456789abcdef";

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_link_leads_to_its_object_until_it_runs_out_and_nothing_else_can_be_made_of_it() {
        let keys = InternalKeys::parse(KEYS).unwrap();
        let name = Name::of(b"still", "png");
        let url = FetchLinks::new(&keys, Url::parse("https://rushes.test/").unwrap()).link(&name, DAY, at(1_000));
        let path = url.path().strip_prefix(FETCH).unwrap();
        assert_eq!(verify_fetch(&keys, path, at(1_000)), Ok(name.clone()));
        assert_eq!(verify_fetch(&keys, path, at(87_400)), Ok(name.clone()));
        assert_eq!(verify_fetch(&keys, path, at(87_401)), Err(Refused::Expired));
        let others = InternalKeys::parse("another-secret-of-32-characters-xxx").unwrap();
        assert_eq!(verify_fetch(&others, path, at(1_000)), Err(Refused::Forged));
        let other = Name::of(b"another", "png");
        for forged in [
            path.replace("87400", "87401"),
            path.replace(&name.to_string(), &other.to_string()),
            path.replace("png", "jpg"),
            path.replacen('/', "/b", 1),
            format!("{path}/"),
            format!("87400/b//{name}"),
            String::new(),
        ] {
            assert_eq!(verify_fetch(&keys, &forged, at(1_000)), Err(Refused::Forged), "{forged}");
        }
    }

    #[test]
    fn links_need_keys_and_an_address_that_providers_fetch_from() {
        let keys = ("RUSHES_INTERNAL_KEYS", KEYS);
        let read = |set: &[(&str, &str)]| FetchLinks::read(&Source::of(set)).map_err(|error| error.to_string());
        assert!(read(&[]).unwrap().is_none());
        assert!(read(&[("RUSHES_PUBLIC_URL", "https://rushes.test")]).unwrap().is_none());
        assert!(read(&[keys]).unwrap().is_none());
        assert!(read(&[keys, ("RUSHES_PUBLIC_URL", "http://rushes.test")]).unwrap().is_none());
        assert!(read(&[("RUSHES_INTERNAL_KEYS", "short")]).unwrap_err().starts_with("RUSHES_INTERNAL_KEYS"));
        let links = read(&[keys, ("RUSHES_PUBLIC_URL", "https://rushes.test/api/")]).unwrap().unwrap();
        let url = links.link(&Name::of(b"still", "png"), DAY, at(0)).to_string();
        assert!(url.starts_with("https://rushes.test/api/fetch/86400/"), "{url}");
        assert!(!format!("{links:?}").contains("0123456789abcdef"));
    }
}
