//! Addresses of assets: `{public}/assets/{sha256}.{extension}?a={account}&e={day}&k={key}&s={mac}`, which is in every answer that
//! tells of one. `a` is the account's id and `s` the MAC, both in URL-safe Base64; `e` is a day since 1970.
//!
//! Invariant: an address is good for whole days, and more of them than any answer is cached for; so the encoded answers of one
//! day are equal, and none of them outlives its addresses. A file's hash alone opens nothing, and says not whether there is one.

use std::fmt::Display;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use url::form_urlencoded;
use uuid::Uuid;

use super::{Refused, seconds};
use crate::blobs::Name;
use crate::keyring::{InternalKeys, Keyring};
use crate::settings::{Error, Source};

/// The path that every asset's address begins with.
pub const ASSETS: &str = "/assets/";
const DAY: u64 = 86_400;
/// How many whole days an address is good for.
const DEFAULT_DAYS: u64 = 7;
/// What the keys are derived for.
const PURPOSE: &str = "addresses of assets";
const MODE: &str = "RUSHES_ASSET_URLS";
const DAYS: &str = "RUSHES_ASSET_URL_DAYS";

/// Makes the addresses of assets.
#[derive(Clone, Debug)]
pub struct AssetUrls {
    /// `{public}/assets/`.
    prefix: String,
    signing: Option<Signing>,
}

#[derive(Clone, Debug)]
struct Signing {
    keys: Keyring,
    days: u64,
}

/// What the gateway asks of an asset's address.
#[derive(Clone, Debug)]
pub enum AssetAccess {
    /// Nothing: whoever knows the hash may have the bytes.
    Public,
    /// A MAC by one of these keys.
    Signed(Keyring),
}

fn is_public(source: &Source) -> Result<bool, Error> {
    let what = "`signed` (the default) or `public`: whoever knows an asset's hash may have its bytes";
    match source.optional::<String>(MODE, what)?.as_deref() {
        None | Some("signed") => Ok(false),
        Some("public") => Ok(true),
        Some(_) => Err(Error::wrong(MODE, what)),
    }
}

impl AssetUrls {
    /// Addresses below `public_url` that are good for ever, for everybody.
    #[must_use]
    pub fn public(public_url: &str) -> Self {
        Self { prefix: format!("{}{ASSETS}", public_url.trim_end_matches('/')), signing: None }
    }

    /// Addresses that are signed and good for at least `days` days.
    #[must_use]
    pub fn signed(public_url: &str, keys: &InternalKeys, days: u64) -> Self {
        Self { signing: Some(Signing { keys: keys.of(PURPOSE), days }), ..Self::public(public_url) }
    }

    /// Reads `RUSHES_PUBLIC_URL`, `RUSHES_ASSET_URLS`, and where they are signed `RUSHES_INTERNAL_KEYS` and `RUSHES_ASSET_URL_DAYS`.
    ///
    /// # Errors
    /// When one is missing or cannot be used.
    pub fn read(source: &Source) -> Result<Self, Error> {
        let what = "the gateway's address as clients see it, a URL such as https://rushes.example.com";
        let public_url: url::Url = source.required("RUSHES_PUBLIC_URL", what)?;
        if public_url.host().is_none() {
            return Err(Error::wrong("RUSHES_PUBLIC_URL", what));
        }
        if is_public(source)? {
            return Ok(Self::public(public_url.as_str()));
        }
        let keys = InternalKeys::required(source)?;
        let what = "a number of days, from 2 to 365: an address outlives every answer that has it";
        let days = source.optional(DAYS, what)?.unwrap_or(DEFAULT_DAYS);
        if !(2..=365).contains(&days) {
            return Err(Error::wrong(DAYS, what));
        }
        Ok(Self::signed(public_url.as_str(), &keys, days))
    }

    /// The address of an object that an account has.
    #[must_use]
    pub fn url(&self, account: Uuid, object: impl Display) -> String {
        self.url_at(account, object, SystemTime::now())
    }

    fn url_at(&self, account: Uuid, object: impl Display, now: SystemTime) -> String {
        let Self { prefix, signing } = self;
        let Some(Signing { keys, days }) = signing else { return format!("{prefix}{object}") };
        let object = object.to_string();
        let account = URL_SAFE_NO_PAD.encode(account);
        // The day that has begun is not counted.
        let day = seconds(now) / DAY + days + 1;
        let mac = URL_SAFE_NO_PAD.encode(keys.sign(&parts(&object, &account, &day.to_string())));
        let id = keys.id();
        format!("{prefix}{object}?a={account}&e={day}&k={id}&s={mac}")
    }
}

impl AssetAccess {
    /// A MAC by one of these keys.
    #[must_use]
    pub fn signed(keys: &InternalKeys) -> Self {
        Self::Signed(keys.of(PURPOSE))
    }

    /// Reads `RUSHES_ASSET_URLS` and, where they are signed, `RUSHES_INTERNAL_KEYS`.
    ///
    /// # Errors
    /// When one is missing or cannot be used.
    pub fn read(source: &Source) -> Result<Self, Error> {
        if is_public(source)? {
            return Ok(Self::Public);
        }
        InternalKeys::required(source).map(|keys| Self::signed(&keys))
    }

    /// The object that an address leads to, given what is behind [`ASSETS`] and its query, and for how long it still does; `None`
    /// is for ever.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn verify(&self, name: &str, query: &str, now: SystemTime) -> Result<(Name, Option<Duration>), Refused> {
        let object = name.parse::<Name>().map_err(|_| Refused::Forged)?;
        let Self::Signed(keys) = self else { return Ok((object, None)) };
        let part = |wanted: &str| {
            form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == wanted).map(|(_, value)| value)
        };
        let (Some(account), Some(day), Some(id), Some(mac)) = (part("a"), part("e"), part("k"), part("s")) else {
            return Err(Refused::Forged);
        };
        let (Ok(day), Ok(mac)) = (day.parse::<u64>(), URL_SAFE_NO_PAD.decode(mac.as_bytes())) else {
            return Err(Refused::Forged);
        };
        if !keys.verify_by(&id, &parts(name, &account, &day.to_string()), &mac) {
            return Err(Refused::Forged);
        }
        let end = UNIX_EPOCH + Duration::from_secs(day.saturating_mul(DAY));
        end.duration_since(now).map(|left| (object, Some(left))).map_err(|_| Refused::Expired)
    }
}

fn parts<'a>(object: &'a str, account: &'a str, day: &'a str) -> [&'a [u8]; 3] {
    [object.as_bytes(), account.as_bytes(), day.as_bytes()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn keys() -> InternalKeys {
        InternalKeys::parse(SECRET).unwrap()
    }

    /// What the gateway gets of an address.
    fn split(url: &str) -> (String, String) {
        let url = url::Url::parse(url).unwrap();
        (url.path().strip_prefix(ASSETS).unwrap().to_owned(), url.query().unwrap_or_default().to_owned())
    }

    #[test]
    fn an_address_opens_its_object_for_whole_days_and_nothing_else() {
        let urls = AssetUrls::signed("https://rushes.test/", &keys(), 7);
        let access = AssetAccess::signed(&keys());
        let (account, object) = (Uuid::now_v7(), Name::of(b"still", "png"));
        let url = urls.url_at(account, &object, at(DAY + 5));
        assert_eq!(url, urls.url_at(account, &object, at(2 * DAY - 1)), "all of one day are equal");
        let (name, query) = split(&url);
        let end = 9 * DAY;
        assert_eq!(
            access.verify(&name, &query, at(DAY + 5)).unwrap(),
            (object.clone(), Some(Duration::from_secs(end - DAY - 5)))
        );
        assert!(access.verify(&name, &query, at(end)).is_ok());
        assert_eq!(access.verify(&name, &query, at(end + 1)), Err(Refused::Expired));
        let other = Name::of(b"another", "png").to_string();
        let stranger = split(&urls.url_at(Uuid::now_v7(), &object, at(0))).1;
        let part = |name: &str| query.split('&').find(|part| part.starts_with(name)).unwrap().to_owned();
        let mixed = [&stranger[..stranger.find("&e=").unwrap()], &part("e="), &part("k="), &part("s=")].join("&");
        for (name, query) in [
            (name.clone(), String::new()),
            (other, query.clone()),
            (name.clone(), query.replace("e=9", "e=10")),
            (name.clone(), query.replace("k=", "k=b")),
            (name.clone(), mixed),
            (name.clone(), query.replace("&s=", "&s=A")),
            ("x".to_owned(), query.clone()),
        ] {
            assert_eq!(access.verify(&name, &query, at(DAY)), Err(Refused::Forged), "{name}?{query}");
        }
    }

    #[test]
    fn a_public_address_has_no_end() {
        let object = Name::of(b"still", "png");
        let url = AssetUrls::public("https://rushes.test").url(Uuid::now_v7(), &object);
        assert_eq!(url, format!("https://rushes.test/assets/{object}"));
        assert_eq!(AssetAccess::Public.verify(&object.to_string(), "", at(0)), Ok((object, None)));
    }

    #[test]
    fn without_keys_only_public_addresses_are_made() {
        let public_url = ("RUSHES_PUBLIC_URL", "https://rushes.test");
        let read = |set: &[(&str, &str)]| AssetUrls::read(&Source::of(set)).map_err(|error| error.to_string());
        assert!(read(&[public_url]).unwrap_err().starts_with("RUSHES_INTERNAL_KEYS"));
        assert!(AssetAccess::read(&Source::of(&[])).unwrap_err().to_string().starts_with("RUSHES_INTERNAL_KEYS"));
        assert!(read(&[public_url, (MODE, "public")]).unwrap().signing.is_none());
        assert!(read(&[public_url, (MODE, "open")]).unwrap_err().starts_with(MODE));
        let keys = ("RUSHES_INTERNAL_KEYS", SECRET);
        assert_eq!(read(&[public_url, keys]).unwrap().signing.unwrap().days, 7);
        assert!(read(&[public_url, keys, (DAYS, "1")]).unwrap_err().starts_with(DAYS));
        assert!(read(&[keys]).unwrap_err().starts_with("RUSHES_PUBLIC_URL"));
    }
}
