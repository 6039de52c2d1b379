//! fal's documents: the OpenAPI of a model's queue, alone or as its list of models wraps it.

use domain::provider::Provider;
use serde_json::Value;

use super::normalise::Normaliser;
use super::{Document, Error, at};

const EXPECTED: &str = "an OpenAPI document of fal's queue";
const BODY: [&str; 5] = ["post", "requestBody", "content", "application/json", "schema"];
const RESULT: [&str; 6] = ["get", "responses", "200", "content", "application/json", "schema"];

pub(super) fn read(published: &Value, model: Option<&str>) -> Result<Document, Error> {
    let wrapped = one_of(published, model)?;
    let document = wrapped.and_then(|entry| entry.get("openapi")).unwrap_or(published);
    if let Some(error) = document.get("error") {
        let words = error.get("message").and_then(Value::as_str).unwrap_or("it says no more");
        return Err(Error::Absent(words.chars().take(200).collect()));
    }
    let about = document.pointer("/info/x-fal-metadata");
    let text = |of: Option<&Value>, key: &str| of.and_then(|of| of.get(key)).and_then(Value::as_str).map(str::to_owned);
    let paths = at(document, &["paths"], EXPECTED)?;
    let posts = paths.as_object().into_iter().flatten().filter(|(_, path)| path.get("post").is_some());
    let endpoint = text(wrapped, "endpoint_id").or_else(|| text(about, "endpointId"));
    let (path, post) = match posts.clone().find(|(path, _)| Some(path.trim_start_matches('/')) == endpoint.as_deref()) {
        Some(found) => found,
        None => posts.min_by_key(|(path, _)| path.len()).ok_or_else(|| missing("paths.*.post"))?,
    };
    let id = endpoint.unwrap_or_else(|| path.trim_start_matches('/').to_owned());
    if model.is_some_and(|model| model != id) {
        return Err(Error::Other(model.unwrap_or_default().to_owned()));
    }
    let (input, gaps) = Normaliser::new(document).input(at(post, &BODY, EXPECTED)?)?;
    let result = paths.get(format!("{path}/requests/{{request_id}}")).map(|path| at(path, &RESULT, EXPECTED));
    let output = result.transpose()?.map(|schema| Normaliser::new(document).output(schema)).transpose()?;
    let metadata = wrapped.and_then(|entry| entry.get("metadata"));
    Ok(Document {
        provider: Provider::Fal,
        category: text(metadata, "category").or_else(|| text(about, "category")),
        model: id,
        input,
        output,
        gaps,
        prices: Vec::new(),
        unit_price: None,
        notes: Vec::new(),
    })
}

fn missing(what: &str) -> Error {
    Error::Form { expected: EXPECTED, missing: what.to_owned() }
}

/// The one that is meant where models are wrapped: an entry of `models`, or one by itself.
fn one_of<'a>(published: &'a Value, model: Option<&str>) -> Result<Option<&'a Value>, Error> {
    let Some(Value::Array(entries)) = published.get("models") else {
        return Ok(published.get("openapi").filter(|openapi| openapi.is_object()).map(|_| published));
    };
    let id = |entry: &'a Value| entry.get("endpoint_id").and_then(Value::as_str);
    match (entries.as_slice(), model) {
        ([one], None) => Ok(Some(one)),
        (_, Some(model)) => {
            let found = entries.iter().find(|entry| id(entry) == Some(model));
            found.map(Some).ok_or_else(|| Error::Other(model.to_owned()))
        }
        (_, None) => Err(Error::Several(entries.iter().take(20).filter_map(id).collect::<Vec<_>>().join(", "))),
    }
}
