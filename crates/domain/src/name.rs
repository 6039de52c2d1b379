//! Resource names: `projects/{p}/scenes/{s}` and the like, parsed and written in one place. The account is never part of a
//! public name; it comes from the credential.

use std::fmt;

use uuid::Uuid;

use crate::id::{
    AccountId, ApiKeyId, GenerationId, NoticeId, ProjectId, SceneId, WebhookDeliveryId, WebhookEndpointId,
};

/// Why a text is not the name that was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must have the form `{expected}`, {parts}")]
pub struct Malformed {
    /// The form that was expected.
    pub expected: &'static str,
    /// What the parts in braces are.
    pub parts: &'static str,
}

impl Malformed {
    /// A name made of collections and ids.
    const fn ids(expected: &'static str) -> Self {
        Self { expected, parts: "each id a UUID" }
    }
}

/// A name's collections and ids in turn: `[("projects", p), ("scenes", s)]`.
fn ids<const N: usize>(text: &str, collections: [&str; N]) -> Option<[Uuid; N]> {
    let mut parts = text.split('/');
    let mut found = [Uuid::nil(); N];
    for (at, collection) in collections.into_iter().enumerate() {
        if parts.next()? != collection {
            return None;
        }
        found[at] = uuid(parts.next()?)?;
    }
    parts.next().is_none().then_some(found)
}

/// A UUID in its one canonical form: a name has one spelling.
fn uuid(text: &str) -> Option<Uuid> {
    let id = Uuid::try_parse(text).ok()?;
    (id.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == text).then_some(id)
}

/// A scene's name: the project is part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SceneName {
    /// The project that it belongs to.
    pub project: ProjectId,
    /// The scene.
    pub scene: SceneId,
}

impl SceneName {
    /// Reads `projects/{project}/scenes/{scene}`.
    ///
    /// # Errors
    /// [`Malformed`] when it has another form.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let [project, scene] =
            ids(text, ["projects", "scenes"]).ok_or(Malformed::ids("projects/{project}/scenes/{scene}"))?;
        Ok(Self { project: ProjectId(project), scene: SceneId(scene) })
    }
}

impl fmt::Display for SceneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "projects/{}/scenes/{}", self.project, self.scene)
    }
}

macro_rules! named {
    ($($id:ident, $collection:literal, $form:literal;)+) => {$(
        impl $id {
            #[doc = concat!("Reads `", $form, "`.")]
            ///
            /// # Errors
            /// [`Malformed`] when it has another form.
            pub fn from_name(text: &str) -> Result<Self, Malformed> {
                let [id] = ids(text, [$collection]).ok_or(Malformed::ids($form))?;
                Ok(Self(id))
            }

            #[doc = concat!("Writes `", $form, "`.")]
            #[must_use]
            pub fn name(self) -> String {
                format!(concat!($collection, "/{}"), self)
            }
        }
    )+};
}

named! {
    AccountId, "accounts", "accounts/{account}";
    ProjectId, "projects", "projects/{project}";
    GenerationId, "generations", "generations/{generation}";
    NoticeId, "notices", "notices/{notice}";
    WebhookEndpointId, "webhookEndpoints", "webhookEndpoints/{endpoint}";
}

/// An API key's name: the account is part of it, since only operators use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ApiKeyName {
    /// Whose key it is.
    pub account: AccountId,
    /// The key.
    pub key: ApiKeyId,
}

impl ApiKeyName {
    /// Reads `accounts/{account}/apiKeys/{key}`.
    ///
    /// # Errors
    /// [`Malformed`] when it has another form.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let [account, key] =
            ids(text, ["accounts", "apiKeys"]).ok_or(Malformed::ids("accounts/{account}/apiKeys/{key}"))?;
        Ok(Self { account: AccountId(account), key: ApiKeyId(key) })
    }
}

impl fmt::Display for ApiKeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "accounts/{}/apiKeys/{}", self.account, self.key)
    }
}

/// A delivery's name: the endpoint is part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeliveryName {
    /// Where it goes.
    pub endpoint: WebhookEndpointId,
    /// The delivery.
    pub delivery: WebhookDeliveryId,
}

impl DeliveryName {
    /// Reads `webhookEndpoints/{endpoint}/deliveries/{delivery}`.
    ///
    /// # Errors
    /// [`Malformed`] when it has another form.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let [endpoint, delivery] = ids(text, ["webhookEndpoints", "deliveries"])
            .ok_or(Malformed::ids("webhookEndpoints/{endpoint}/deliveries/{delivery}"))?;
        Ok(Self { endpoint: WebhookEndpointId(endpoint), delivery: WebhookDeliveryId(delivery) })
    }
}

impl fmt::Display for DeliveryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "webhookEndpoints/{}/deliveries/{}", self.endpoint, self.delivery)
    }
}

/// What a listing of generations is restricted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GenerationParent {
    /// All of the account's.
    Account,
    /// A project's.
    Project(ProjectId),
    /// A scene's.
    Scene(SceneName),
}

impl GenerationParent {
    /// Reads a scene's name, a project's name, or nothing.
    ///
    /// # Errors
    /// [`Malformed`] when it is none of them.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if text.is_empty() {
            return Ok(Self::Account);
        }
        SceneName::parse(text)
            .map(Self::Scene)
            .or_else(|_| ProjectId::from_name(text).map(Self::Project))
            .map_err(|_| Malformed::ids("projects/{project}/scenes/{scene}, projects/{project} or nothing"))
    }
}

/// Reads `assets/{sha256}`: 64 lower-case hexadecimal digits.
///
/// # Errors
/// [`Malformed`] when it has another form.
pub fn asset(text: &str) -> Result<[u8; 32], Malformed> {
    let malformed = Malformed { expected: "assets/{sha256}", parts: "the SHA-256 in 64 lower-case hexadecimal digits" };
    let digits = text.strip_prefix("assets/").ok_or_else(|| malformed.clone())?;
    let canonical = digits.len() == 64 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !canonical {
        return Err(malformed);
    }
    let mut sha256 = [0; 32];
    for (byte, pair) in sha256.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let text = std::str::from_utf8(pair).map_err(|_| malformed.clone())?;
        *byte = u8::from_str_radix(text, 16).map_err(|_| malformed.clone())?;
    }
    Ok(sha256)
}

/// Writes `assets/{sha256}`.
#[must_use]
pub fn asset_name(sha256: &[u8; 32]) -> String {
    use fmt::Write as _;
    let mut name = String::with_capacity(71);
    name.push_str("assets/");
    for byte in sha256 {
        // Writing to a String cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_survives_its_text() {
        let scene = SceneName { project: ProjectId::new(), scene: SceneId::new() };
        assert_eq!(SceneName::parse(&scene.to_string()), Ok(scene));
        assert_eq!(GenerationParent::parse(&scene.to_string()), Ok(GenerationParent::Scene(scene)));
        let delivery = DeliveryName { endpoint: WebhookEndpointId::new(), delivery: WebhookDeliveryId::new() };
        assert_eq!(DeliveryName::parse(&delivery.to_string()), Ok(delivery));
        let project = ProjectId::new();
        assert_eq!(ProjectId::from_name(&project.name()), Ok(project));
        let sha256 = [0xAB; 32];
        assert_eq!(asset(&asset_name(&sha256)), Ok(sha256));
    }

    #[test]
    fn a_name_has_one_spelling() {
        let id = Uuid::now_v7();
        for wrong in [
            String::new(),
            id.to_string(),
            format!("projects/{}", id.to_string().to_uppercase()),
            format!("projects/{}", id.simple()),
            format!("projects/{id}/"),
            format!("/projects/{id}"),
            format!("projects/{id}/scenes"),
            format!("generations/{id}"),
        ] {
            assert!(ProjectId::from_name(&wrong).is_err(), "{wrong}");
        }
        for wrong in ["assets/", "assets/ab", &format!("assets/{}", "AB".repeat(32)), &"ab".repeat(32)] {
            assert!(asset(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_refusal_says_what_the_parts_of_the_form_are() {
        let refusal = ProjectId::from_name("projects/zz").unwrap_err().to_string();
        assert_eq!(refusal, "must have the form `projects/{project}`, each id a UUID");
        let refusal = asset("assets/zz").unwrap_err().to_string();
        assert_eq!(refusal, "must have the form `assets/{sha256}`, the SHA-256 in 64 lower-case hexadecimal digits");
    }
}
