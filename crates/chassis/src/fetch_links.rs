//! Links to single objects that run out: `{public}/fetch/{expires}/{mac}/{sha256}.{extension}`, for a model's provider that has to
//! fetch an input and gets no key of ours. Whoever makes one and the gateway share a key.
//!
//! Invariant: a link says which object until when and nothing else can be made of it: both are under one MAC, which is compared in
//! constant time. A link is a secret, and no part of a log line or an attribute.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::hmac;
use url::Url;

use crate::blobs::Name;
use crate::settings::{Error, Source};

/// The path that every link begins with.
pub const PREFIX: &str = "/fetch/";
/// The shortest key, in characters.
const MIN_KEY: usize = 32;
/// The setting of the key.
const KEY: &str = "RUSHES_FETCH_KEY";

/// What links are signed with, shared by the gateway and the workers.
#[derive(Clone)]
pub struct Key(hmac::Key);

/// Makes links.
#[derive(Clone, Debug)]
pub struct Links {
    key: Key,
    public_url: Url,
}

/// Why a link leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is none of ours.
    #[error("there is nothing here")]
    Forged,
    /// It was one of ours.
    #[error("the link has run out")]
    Expired,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Key")
    }
}

impl Key {
    /// A key of these bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// Reads `RUSHES_FETCH_KEY`; nothing where it is not set.
    ///
    /// # Errors
    /// When it is too short to be one.
    pub fn read(source: &Source) -> Result<Option<Self>, Error> {
        let what = "32 or more random characters, the same for the gateway and the workers";
        let Some(key) = source.optional::<String>(KEY, what)? else { return Ok(None) };
        if key.trim().len() < MIN_KEY {
            return Err(Error::wrong(KEY, what));
        }
        Ok(Some(Self::new(key.trim().as_bytes())))
    }

    /// The object that a path behind [`PREFIX`] leads to.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn verify(&self, path: &str, now: SystemTime) -> Result<Name, Refused> {
        let mut parts = path.split('/');
        let (Some(expires), Some(mac), Some(name), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refused::Forged);
        };
        let mac = hex::decode(mac).map_err(|_| Refused::Forged)?;
        hmac::verify(&self.0, signed(expires, name).as_bytes(), &mac).map_err(|_| Refused::Forged)?;
        let (Ok(expires), Ok(name)) = (expires.parse::<u64>(), name.parse::<Name>()) else {
            return Err(Refused::Forged);
        };
        if seconds(now) > expires { Err(Refused::Expired) } else { Ok(name) }
    }
}

impl Links {
    /// Makes links below `public_url`, which is the gateway's.
    #[must_use]
    pub fn new(key: Key, public_url: Url) -> Self {
        Self { key, public_url }
    }

    /// Reads `RUSHES_FETCH_KEY`, and `RUSHES_PUBLIC_URL` beside it; nothing where there is no key.
    ///
    /// # Errors
    /// When there is a key and no address that a provider could fetch from.
    pub fn read(source: &Source) -> Result<Option<Self>, Error> {
        let Some(key) = Key::read(source)? else { return Ok(None) };
        let (name, what) = (
            "RUSHES_PUBLIC_URL",
            "https://…, the gateway as the internet sees it, where RUSHES_FETCH_KEY is set: providers fetch from nothing else",
        );
        let public_url: Url = source.required(name, what)?;
        if public_url.scheme() != "https" || public_url.host().is_none() {
            return Err(Error::wrong(name, what));
        }
        Ok(Some(Self::new(key, public_url)))
    }

    /// A link to an object, for so long from `now` on.
    #[must_use]
    pub fn link(&self, name: &Name, lasts: Duration, now: SystemTime) -> Url {
        let (expires, name) = ((seconds(now) + lasts.as_secs()).to_string(), name.to_string());
        let mac = hex::encode(hmac::sign(&self.key.0, signed(&expires, &name).as_bytes()));
        let mut url = self.public_url.clone();
        url.set_path(&format!("{}{PREFIX}{expires}/{mac}/{name}", self.public_url.path().trim_end_matches('/')));
        url
    }
}

fn signed(expires: &str, name: &str) -> String {
    format!("rushes-fetch-1\n{expires}\n{name}")
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_link_leads_to_its_object_until_it_runs_out_and_nothing_else_can_be_made_of_it() {
        let key = Key::new(&[7; 32]);
        let name = Name::of(b"still", "png");
        let url = Links::new(key.clone(), Url::parse("https://rushes.test/").unwrap()).link(&name, DAY, at(1_000));
        let path = url.path().strip_prefix(PREFIX).unwrap();
        assert_eq!(key.verify(path, at(1_000)), Ok(name.clone()));
        assert_eq!(key.verify(path, at(87_400)), Ok(name.clone()));
        assert_eq!(key.verify(path, at(87_401)), Err(Refused::Expired));
        assert_eq!(Key::new(&[8; 32]).verify(path, at(1_000)), Err(Refused::Forged));
        let other = Name::of(b"another", "png");
        for forged in [
            path.replace("87400", "87401"),
            path.replace(&name.to_string(), &other.to_string()),
            path.replace("png", "jpg"),
            format!("{path}/"),
            format!("87400//{name}"),
            String::new(),
        ] {
            assert_eq!(key.verify(&forged, at(1_000)), Err(Refused::Forged), "{forged}");
        }
    }

    #[test]
    fn a_key_without_an_address_that_providers_fetch_from_stops_the_start() {
        let key = (KEY, "0123456789abcdef0123456789abcdef");
        let read = |set: &[(&str, &str)]| Links::read(&Source::of(set)).map_err(|error| error.to_string());
        assert!(read(&[]).unwrap().is_none());
        assert!(read(&[("RUSHES_PUBLIC_URL", "http://127.0.0.1")]).unwrap().is_none(), "without a key none are made");
        assert!(read(&[key]).unwrap_err().starts_with("RUSHES_PUBLIC_URL"));
        let plain = read(&[key, ("RUSHES_PUBLIC_URL", "http://rushes.test")]).unwrap_err();
        assert!(plain.contains("https"), "{plain}");
        assert!(read(&[(KEY, "short"), ("RUSHES_PUBLIC_URL", "https://rushes.test")]).unwrap_err().starts_with(KEY));
        let links = read(&[key, ("RUSHES_PUBLIC_URL", "https://rushes.test/api/")]).unwrap().unwrap();
        let url = links.link(&Name::of(b"still", "png"), DAY, at(0)).to_string();
        assert!(url.starts_with("https://rushes.test/api/fetch/86400/"), "{url}");
        assert!(!format!("{links:?}").contains("0123456789abcdef"));
    }
}
