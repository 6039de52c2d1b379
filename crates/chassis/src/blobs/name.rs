//! The name of an object: the SHA-256 of its bytes in hex, a dot, and an extension that says its type.

use std::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256};

/// `{sha256 hex}.{extension}`; equal names mean equal bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    sha256: [u8; 32],
    extension: String,
}

/// The text is not the name of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an asset's name is 64 lower-case hex digits, a dot and an extension")]
pub struct NotAName;

impl Name {
    /// The name of `bytes`. Hashes them here and now: 1 GB takes about a second.
    #[must_use]
    pub fn of(bytes: &[u8], extension: &str) -> Self {
        Self::new(Sha256::digest(bytes).into(), extension)
    }

    /// The name for a hash that is known already; anything but letters and digits is left out of the extension.
    #[must_use]
    pub fn new(sha256: [u8; 32], extension: &str) -> Self {
        let letters = extension.chars().filter(char::is_ascii_alphanumeric).take(8);
        let mut extension: String = letters.map(|c| c.to_ascii_lowercase()).collect();
        if extension.is_empty() {
            extension.push_str("bin");
        }
        Self { sha256, extension }
    }

    /// The hash.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// The extension, without its dot.
    #[must_use]
    pub fn extension(&self) -> &str {
        &self.extension
    }

    /// The MIME type that the extension stands for; `application/octet-stream` when unknown.
    #[must_use]
    pub fn content_type(&self) -> &'static str {
        match self.extension.as_str() {
            "jpg" | "jpeg" => "image/jpeg",
            "png" => "image/png",
            "webp" => "image/webp",
            "avif" => "image/avif",
            "gif" => "image/gif",
            "mp4" => "video/mp4",
            "webm" => "video/webm",
            "mov" => "video/quicktime",
            "mp3" => "audio/mpeg",
            "wav" => "audio/wav",
            "m4a" => "audio/mp4",
            "json" => "application/json",
            "txt" => "text/plain; charset=utf-8",
            _ => "application/octet-stream",
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", hex::encode(self.sha256), self.extension)
    }
}

impl FromStr for Name {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let (digits, extension) = text.split_once('.').ok_or(NotAName)?;
        let mut sha256 = [0; 32];
        hex::decode_to_slice(digits, &mut sha256).map_err(|_| NotAName)?;
        let name = Self::new(sha256, extension);
        // Only the one canonical spelling is a name, so that a cache never holds two.
        if name.to_string() == text { Ok(name) } else { Err(NotAName) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back_and_only_in_its_one_spelling() {
        let name = Name::of(b"rushes", "WebP");
        assert_eq!(name.to_string().parse(), Ok(name.clone()));
        assert_eq!(name.content_type(), "image/webp");
        let hash = hex::encode(name.sha256());
        for wrong in [
            hash.clone(),
            format!("{hash}."),
            format!("{}.webp", hash.to_uppercase()),
            format!("{hash}.WEBP"),
            format!("{hash}.we/../x"),
            format!("{}.webp", &hash[2..]),
            "../../etc/passwd".to_owned(),
        ] {
            assert_eq!(wrong.parse::<Name>(), Err(NotAName), "{wrong}");
        }
    }
}
