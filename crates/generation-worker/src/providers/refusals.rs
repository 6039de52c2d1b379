//! What providers' refusals mean: whether it is the user's input that is refused, the model's entry in the catalogue, or whether
//! it is for safety. No provider has codes for all of this, so their words and shapes are read.

use serde_json::Value;

use crate::model::CallOutcome;

/// The fields of an order that its user fills.
const OF_USER: [&str; 1] = ["prompt"];
/// What precedes the name of a field that a model does not take.
const FIELD_WORDS: [&str; 8] = [
    "additional property ",
    "unexpected field ",
    "unexpected property ",
    "unexpected keyword argument ",
    "unrecognized field ",
    "unknown field ",
    "unknown parameter ",
    "input.",
];
/// Words of providers and models that refuse for safety, in lower case.
const SAFETY_WORDS: [&str; 16] = [
    "nsfw",
    "flagged as sensitive",
    "flagged by",
    "content policy",
    "content_policy",
    "content moderation",
    "moderated",
    "moderation",
    "safety filter",
    "safety system",
    "safety checker",
    "safety_violation",
    "prohibited content",
    "sensitive content",
    "responsible ai",
    "inappropriate content",
];

/// What a refusal of an order's input means: the user's input, fields of the catalogue's making, or the provider's safety rules.
pub(super) fn parse_input_refusal(body: &Value) -> CallOutcome {
    if is_safety(body, &[]) {
        return CallOutcome::SafetyRefused;
    }
    let fields = refused_fields(body);
    let of_user = |field: &String| OF_USER.contains(&field.as_str());
    if !fields.is_empty() && !fields.iter().any(of_user) {
        return CallOutcome::ModelRefused;
    }
    CallOutcome::InputRefused
}

/// Whether a refusal is one for safety, by what is known of providers and by the model's own `words`.
pub(super) fn is_safety(refusal: &Value, words: &[String]) -> bool {
    let text = text(refusal).to_lowercase();
    SAFETY_WORDS.iter().any(|words| text.contains(words))
        || words.iter().any(|words| text.contains(&words.to_lowercase()))
}

/// All texts in a value, whatever its shape. A field that echoes the user's input is left out: its words are not the provider's.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text}\n"),
        Value::Array(items) => items.iter().map(text).collect(),
        Value::Object(fields) => {
            let said = fields.iter().filter(|(name, _)| !matches!(name.as_str(), "input" | "ctx" | "logs" | "prompt"));
            said.map(|(_, value)| text(value)).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => String::new(),
    }
}

/// The fields that a refusal names: by `loc`, as fal has it, by `invalid_fields`, or in its sentences.
fn refused_fields(body: &Value) -> Vec<String> {
    let details = body["detail"].as_array().into_iter().flatten();
    let located = details.filter_map(|detail| detail["loc"].as_array()?.last()?.as_str());
    let invalid = body["invalid_fields"].as_array().into_iter().flatten();
    let invalid = invalid.filter_map(|field| field["field"].as_str()?.rsplit('.').next());
    let mut fields: Vec<String> = located.chain(invalid).map(str::to_owned).collect();
    for line in text(&body["detail"]).to_lowercase().lines() {
        // `- input: seed is required`
        if let Some(name) = line.strip_prefix("- input: ").and_then(|rest| rest.strip_suffix(" is required")) {
            fields.push(name.to_owned());
        }
        for words in FIELD_WORDS {
            if let Some(at) = line.find(words) {
                fields.push(first_name(&line[at + words.len()..]));
            }
        }
    }
    fields.retain(|field| !field.is_empty() && field != "input");
    fields
}

/// The name that a text begins with, quoted or not.
fn first_name(text: &str) -> String {
    let text = text.trim_start_matches(['\'', '"', '`', ' ']);
    text.chars().take_while(|char| char.is_ascii_alphanumeric() || *char == '_').collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_is_the_users_the_catalogues_or_for_safety() {
        use CallOutcome::{InputRefused, ModelRefused, SafetyRefused};
        let located =
            |field: &str, kind: &str| json!({"detail": [{"loc": ["body", field], "msg": "no", "type": kind}]});
        for (body, outcome) in [
            (json!({}), InputRefused),
            (Value::Null, InputRefused),
            (json!({"detail": "- input.prompt: String length must be less than or equal to 500\n"}), InputRefused),
            (located("prompt", "string_too_long"), InputRefused),
            (located("seed", "extra_forbidden"), ModelRefused),
            (located("image_url", "missing"), ModelRefused),
            (json!({"detail": "unexpected field seed"}), ModelRefused),
            (json!({"detail": "- input: Additional property seed is not allowed\n"}), ModelRefused),
            (json!({"detail": "- input: image is required\n"}), ModelRefused),
            (
                json!({"detail": "x", "invalid_fields": [{"field": "input.seed", "type": "additional_property_not_allowed"}]}),
                ModelRefused,
            ),
            (json!({"detail": "got an unexpected keyword argument 'seed'"}), ModelRefused),
            (located("prompt", "content_policy_violation"), SafetyRefused),
            (json!({"detail": ["Your request was moderated"]}), SafetyRefused),
            (json!({"error": {"code": 7, "message": "blocked by our safety system"}}), SafetyRefused),
            // What a user writes is no word of the provider's.
            (
                json!({"detail": [{"loc": ["body", "prompt"], "msg": "too long", "input": "an nsfw detector"}]}),
                InputRefused,
            ),
        ] {
            assert_eq!(parse_input_refusal(&body), outcome, "{body}");
        }
        assert!(is_safety(&json!("The harbour is closed"), &["Harbour is closed".to_owned()]));
        assert!(!is_safety(&json!("The harbour is closed"), &[]));
    }
}
