//! What providers' refusals mean: whether it is the user's input that is refused, the model's entry in the catalogue, or whether
//! it is for safety. No provider has codes for all of this, so their words and shapes are read.

use serde_json::Value;

use crate::model::CallOutcome;

/// The field that its user always fills.
const OF_USER: [&str; 1] = ["prompt"];
/// In the type of a refusal: the model does not have the field, or wants one that was not sent. What was sent was held against the
/// model's schema before, so that then the catalogue's is an old one.
const STRANGE_TYPES: [&str; 5] = ["extra", "missing", "additional_property", "required", "unexpected"];
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

/// What a refusal of an order's input means: the user's input, fields of the catalogue's making, of which `unasked` are some, or the
/// provider's safety rules.
pub(super) fn parse_input_refusal(body: &Value, unasked: &[String]) -> CallOutcome {
    if is_safety(body, &[]) {
        return CallOutcome::SafetyRefused;
    }
    let fields = refused_fields(body);
    let of_catalogue = |field: &Refused| {
        let unasked = unasked.iter().any(|name| name.eq_ignore_ascii_case(&field.name));
        unasked || (field.strange && !OF_USER.contains(&field.name.as_str()))
    };
    if !fields.is_empty() && fields.iter().all(of_catalogue) {
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

/// A field that a refusal names.
struct Refused {
    name: String,
    /// The model does not have it, or misses it.
    strange: bool,
}

/// The fields that a refusal names: by `loc`, as fal has it, by `invalid_fields`, or in its sentences.
fn refused_fields(body: &Value) -> Vec<Refused> {
    let strange = |kind: &Value| {
        let kind = kind.as_str().unwrap_or_default();
        STRANGE_TYPES.iter().any(|strange| kind.contains(strange))
    };
    let refused = |name: &str, kind: &Value| Refused { name: name.to_owned(), strange: strange(kind) };
    let details = body["detail"].as_array().into_iter().flatten();
    // The last name in a place: behind it there may be the number of an item.
    let located = details.filter_map(|detail| {
        let name = detail["loc"].as_array()?.iter().rev().find_map(Value::as_str)?;
        Some(refused(name, &detail["type"]))
    });
    let invalid = body["invalid_fields"].as_array().into_iter().flatten();
    let invalid =
        invalid.filter_map(|field| Some(refused(field["field"].as_str()?.rsplit('.').next()?, &field["type"])));
    let mut fields: Vec<Refused> = located.chain(invalid).collect();
    for line in text(&body["detail"]).to_lowercase().lines() {
        // `- input: seed is required`
        if let Some(name) = line.strip_prefix("- input: ").and_then(|rest| rest.strip_suffix(" is required")) {
            fields.push(Refused { name: name.to_owned(), strange: true });
        }
        for words in FIELD_WORDS {
            if let Some(at) = line.find(words) {
                let name = first_name(&line[at + words.len()..]);
                fields.push(Refused { name, strange: words != "input." });
            }
        }
    }
    fields.retain(|field| !field.name.is_empty() && field.name != "input");
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
            // What was sent, and is not as the model wants it: a picture that is too small, a length beside a shape.
            (located("image_url", "image_too_small"), InputRefused),
            (located("image_url", "file_download_error"), InputRefused),
            (
                json!({"detail": [{"loc": ["body", "image_urls", 1], "msg": "no", "type": "image_too_large"}]}),
                InputRefused,
            ),
            (json!({"detail": "- input.duration: Must be one of 5, 10\n"}), InputRefused),
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
            assert_eq!(parse_input_refusal(&body, &[]), outcome, "{body}");
        }
        assert!(is_safety(&json!("The harbour is closed"), &["Harbour is closed".to_owned()]));
        assert!(!is_safety(&json!("The harbour is closed"), &[]));
    }

    /// A seed that was drawn and is too large for the model used to be told to the user as a fault of their input.
    #[test]
    fn a_value_that_no_user_asked_for_is_the_catalogues() {
        use CallOutcome::{InputRefused, ModelRefused, SafetyRefused};
        let located = |fields: &[&str]| {
            let detail = |field: &&str| json!({"loc": ["body", field], "msg": "no", "type": "less_than_equal"});
            json!({"detail": fields.iter().map(detail).collect::<Vec<_>>()})
        };
        let worded = json!({"detail": "- input.seed: Must be less than or equal to 65535\n"});
        let field = json!({"detail": "x", "invalid_fields": [{"field": "input.seed", "type": "number_too_large"}]});
        let of_user = json!({"detail": "- input.seed: no\n- input.prompt: String length must be at most 500\n"});
        let unasked = ["seed".to_owned(), "Guidance".to_owned()];
        for (body, drawn, given) in [
            (located(&["seed"]), ModelRefused, InputRefused),
            (located(&["seed", "Guidance"]), ModelRefused, InputRefused),
            (worded, ModelRefused, InputRefused),
            (field, ModelRefused, InputRefused),
            // What the user did fill is refused beside it.
            (located(&["seed", "duration"]), InputRefused, InputRefused),
            (of_user, InputRefused, InputRefused),
            (json!({"detail": "seed: flagged by our content policy"}), SafetyRefused, SafetyRefused),
        ] {
            assert_eq!(parse_input_refusal(&body, &unasked), drawn, "{body}");
            assert_eq!(parse_input_refusal(&body, &[]), given, "{body}");
        }
    }
}
