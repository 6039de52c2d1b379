//! The catalogue's file, of which a worker reads who makes which model's videos; generation-status checks the rest.

use serde::Deserialize;

use crate::model::{RemoteModel, RemoteProvider};

#[derive(Deserialize)]
struct Catalogue {
    models: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    provider: String,
    #[serde(default)]
    model: String,
}

/// The models in a catalogue that remote providers serve.
///
/// # Errors
/// One sentence about the first entry that is wrong.
pub(super) fn parse_models(json: &str) -> Result<Vec<RemoteModel>, String> {
    let Catalogue { models } = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let remote = models.into_iter().enumerate().filter(|(_, entry)| entry.provider != "local");
    remote.map(|(at, entry)| parse_model(at, entry)).collect()
}

fn parse_model(at: usize, Entry { id, provider, model }: Entry) -> Result<RemoteModel, String> {
    let all = [RemoteProvider::Replicate, RemoteProvider::Fal];
    let Some(provider) = all.into_iter().find(|one| one.as_str() == provider) else {
        return Err(format!("models[{at}].provider must be local, replicate or fal"));
    };
    let mut parts = model.split('/');
    if parts.clone().count() < 2 || parts.any(str::is_empty) {
        return Err(format!("models[{at}].model must be owner/model, owner/model:version or owner/app/endpoint"));
    }
    if id.is_empty() || id.contains('/') {
        return Err(format!("models[{at}].id must be a name without '/'"));
    }
    Ok(RemoteModel { name: format!("models/{id}"), provider, model, refusals: Vec::new(), output: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_models_of_remote_providers_come_from_the_catalogue() {
        let json = r#"{"models": [
            {"id": "local-sketch", "provider": "local", "price_micros": 1},
            {"id": "one", "provider": "replicate", "model": "acme/one:v1", "price_micros": 2},
            {"id": "two", "provider": "fal", "model": "fal-ai/two/text-to-video", "price_micros": 3}
        ]}"#;
        let models = parse_models(json).unwrap();
        assert_eq!(models.len(), 2);
        assert_eq!((models[0].name.as_str(), models[0].model.as_str()), ("models/one", "acme/one:v1"));
        assert_eq!((models[1].provider, models[1].model.as_str()), (RemoteProvider::Fal, "fal-ai/two/text-to-video"));
        for (wrong, right) in [
            ("fal-ai/two/text-to-video", "two"),
            ("acme/one:v1", "acme//one"),
            ("\"fal\"", "\"luma\""),
            ("two\",", "t/o\","),
        ] {
            let error = parse_models(&json.replace(wrong, right)).unwrap_err();
            assert!(error.starts_with("models["), "{error}");
        }
    }
}
