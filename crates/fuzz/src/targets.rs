//! The targets, each with what must hold of it besides that it comes back.

mod grpc_web;
mod tokens;
mod webhooks;

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use catalogue::{Catalogue, Format, Schema};
use chassis::frames::FrameReader;
use chassis::identity::Identities;
use chassis::keyring::InternalKeys;
use domain::api_key;
use domain::name::{self, ApiKeyName, DeliveryName, GenerationParent, SceneName};
use domain::network::Network;
use generation_worker::hook_addresses::HookAddresses;
use http::HeaderValue;
use thumbnail_worker::media::{self, Type};
use thumbnail_worker::model::Spec;
use thumbnail_worker::pictures::{self, Header};
use thumbnail_worker::stop::Stop;
use thumbnail_worker::videos::{self, frames};
use url::Url;

pub(crate) use self::grpc_web::grpc_web;
pub(crate) use self::tokens::{page_tokens, resume_tokens};
pub(crate) use self::webhooks::webhook_signatures;

/// What one input may weigh to be decoded: a fuzzer learns nothing of larger ones.
const MAX_WEIGHT: u64 = 24 << 20;
/// When decoding stops by itself.
const TIME: Duration = Duration::from_secs(5);

/// Signs what a fuzzer cannot make up.
static KEYS: LazyLock<Option<InternalKeys>> =
    LazyLock::new(|| InternalKeys::parse("a key of 32 or more characters that no input has"));

/// A picture is refused, or becomes a thumbnail of the size that was asked for.
pub(crate) fn pictures(bytes: &[u8]) {
    let spec = Spec { width: 64, height: 64, ..Spec::default() };
    let Ok(header) = Header::read(bytes, &pictures::Limits::default()) else { return };
    if header.weight(&spec) <= MAX_WEIGHT
        && let Ok(thumbnail) = pictures::render(bytes, &header, &spec, &Stop::after(TIME))
    {
        assert!(thumbnail.starts_with(b"RIFF"), "a thumbnail is no WebP");
    }
}

/// A video is refused, or has a poster in the bounds of its stated size.
pub(crate) fn videos(bytes: &[u8]) {
    let facts = videos::facts(bytes);
    let Ok(video) = frames::open(bytes, &videos::Limits::default()) else { return };
    assert!(facts.is_some(), "what can be opened has facts");
    if video.weight() <= MAX_WEIGHT {
        // Most have none; what is tried is that looking for one ends.
        let _ = video.poster(&Stop::after(TIME));
    }
}

/// What a file is, and what it says of itself.
pub(crate) fn media(bytes: &[u8]) {
    let Some(media_type) = Type::sniff(bytes) else { return };
    let described = media::describe(&bytes, media_type, 1 << 20);
    if let Ok(probed) = media::probe(&bytes, media_type) {
        assert!(probed.duration <= Duration::from_secs(u64::from(u32::MAX) * 1_000), "{described:?}");
    }
    let _ = media::has_c2pa(&bytes, media_type);
}

/// Nothing that was made up is believed to be signed.
pub(crate) fn identities(bytes: &[u8]) {
    let Some(keys) = &*KEYS else { return };
    if let Ok(token) = HeaderValue::from_bytes(bytes) {
        let believed = Identities::new(keys).verify(&token, "dashboard", SystemTime::UNIX_EPOCH).is_ok();
        assert!(!believed, "a token that nobody signed");
    }
    if let (Ok(text), Ok(url)) = (std::str::from_utf8(bytes), Url::parse("https://rushes.test/hooks")) {
        assert_eq!(HookAddresses::new(url, keys).job("fal", text), None, "an address that nobody was given");
    }
}

/// However a body is cut into pieces, the same messages are counted or the same is refused.
pub(crate) fn grpc_frames(bytes: &[u8]) {
    let Some((cut, body)) = bytes.split_first() else { return };
    let new = || FrameReader::new(1_000, 5_000);
    let (mut whole, mut pieces) = (new(), new());
    let at_once = whole.read(body);
    let in_pieces = body.chunks(usize::from(*cut).max(1)).try_for_each(|piece| pieces.read(piece));
    assert_eq!(at_once, in_pieces);
    if at_once.is_ok() {
        assert_eq!(whole.messages(), pieces.messages());
    }
}

/// A name that is taken is written as it was given.
pub(crate) fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = (SceneName::parse(text), ApiKeyName::parse(text), DeliveryName::parse(text), GenerationParent::parse(text));
    if let Ok(sha256) = name::asset(text) {
        assert_eq!(name::asset_name(&sha256), text);
    }
    if let Ok(network) = text.parse::<Network>() {
        assert_eq!(network.to_string().parse::<Network>().ok(), Some(network));
    }
    if api_key::is_well_formed(text) {
        assert!(text.starts_with("rsk_") && text.is_ascii());
    }
}

/// A catalogue has faults, each with a sentence, or models.
pub(crate) fn catalogue(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let schema =
        r#"{"type":"object","properties":{"prompt":{"type":"string"},"seconds":{"type":"integer","enum":[4,8]}}}"#;
    let read =
        |path: &str| if path.ends_with("there.json") { Ok(schema.to_owned()) } else { Err("is not there".to_owned()) };
    if let Err(faults) = Catalogue::parse(Format::Toml, text, &read) {
        assert!(faults.iter().all(|fault| !fault.to_string().is_empty()));
    }
}

/// A schema is refused with a sentence, or says of every input what is wrong with it. A zero byte ends the schema and begins the input.
pub(crate) fn schemas(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (schema, input) = text.split_once('\0').unwrap_or((text, "{}"));
    let Ok(schema) = Schema::parse(schema) else { return };
    if let Ok(input) = serde_json::from_str(input) {
        let _ = schema.validate(&input);
    }
}
