//! Cog's documents: `/openapi.json` of a box, and the same within Replicate's description of a model.

use domain::provider::Provider;
use serde_json::Value;

use super::normalise::Normaliser;
use super::{Document, Error, at};

const BOX: &str = "the /openapi.json of a Cog server";
const REPLICATE: &str = "Replicate's description of a model";

/// Replicate's answer to `GET /v1/models/{owner}/{name}`, or to the version's address beneath it.
pub(super) fn read_replicate(published: &Value, model: Option<&str>) -> Result<Document, Error> {
    let version = published.get("latest_version").filter(|version| version.is_object()).unwrap_or(published);
    let openapi = at(version, &["openapi_schema"], REPLICATE)?;
    let text = |key: &str| published.get(key).and_then(Value::as_str);
    let named = text("owner").zip(text("name")).map(|(owner, name)| format!("{owner}/{name}"));
    let asked = model.map(|model| model.split(':').next().unwrap_or(model));
    if let (Some(named), Some(asked)) = (&named, asked)
        && named != asked
    {
        return Err(Error::Other(asked.to_owned()));
    }
    let Some(name) = named.or_else(|| asked.map(str::to_owned)) else {
        return Err(Error::Form { expected: REPLICATE, missing: "owner".to_owned() });
    };
    // Only official models are called by name; the schema of any other is its version's.
    let official = published.get("is_official") != Some(&Value::Bool(false));
    let id = version.get("id").and_then(Value::as_str);
    let model = match (model.filter(|model| model.contains(':')), id) {
        (Some(versioned), _) => versioned.to_owned(),
        (None, Some(id)) if !official => format!("{name}:{id}"),
        (None, _) => name,
    };
    read(Provider::Replicate, openapi, model, REPLICATE)
}

/// What a box answers to `GET /openapi.json`.
pub(super) fn read_cog(published: &Value, model: Option<&str>) -> Result<Document, Error> {
    let title = published.pointer("/info/title").and_then(Value::as_str).filter(|title| !title.trim().is_empty());
    let model = model.or(title).unwrap_or("cog").to_owned();
    read(Provider::Cog, published, model, BOX)
}

fn read(provider: Provider, openapi: &Value, model: String, expected: &'static str) -> Result<Document, Error> {
    let schemas = at(openapi, &["components", "schemas"], expected)?;
    let (input, gaps) = Normaliser::new(openapi).input(at(schemas, &["Input"], expected)?)?;
    let output = schemas.get("Output").map(|schema| Normaliser::new(openapi).output(schema)).transpose()?;
    let category = None;
    Ok(Document {
        provider,
        model,
        category,
        input,
        output,
        gaps,
        prices: Vec::new(),
        unit_price: None,
        notes: Vec::new(),
    })
}
