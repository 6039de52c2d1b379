//! Refusals for safety in the words and shapes that models of the two providers use.
//!
//! Neither documents one shape for all: at Replicate `error` is what the model wrote, and at fal not every model has the list
//! of <https://fal.ai/docs/documentation/model-apis/errors>.

use serde_json::{Value, json};

use crate::kinds::Safety;

/// The sentence of fal's documentation.
const FLAGGED: &str = "The content could not be processed because it contained material flagged by a content checker.";

/// `error` of a prediction.
pub(crate) fn replicate(kind: Safety) -> Value {
    match kind {
        Safety::Documented => json!("NSFW content detected"),
        Safety::List => {
            json!([
                "The input or output was flagged as sensitive. Please try again with different inputs. (E005) (8h2kS0)"
            ])
        }
        Safety::Object => json!({"code": "content_policy_violation", "message": FLAGGED}),
        Safety::Moderated => json!("Your request was moderated. Reasons: sexual. Please change the prompt."),
        Safety::Bare => Value::Null,
    }
}

/// The body of a result with status 422.
pub(crate) fn fal(kind: Safety) -> Value {
    let violation = |message: &str| {
        json!({
            "loc": ["body", "prompt"], "msg": message, "type": "content_policy_violation",
            "url": "https://docs.fal.ai/errors#content_policy_violation", "categories": ["model_moderated"],
        })
    };
    match kind {
        Safety::Documented => json!({"detail": [violation(FLAGGED)]}),
        Safety::List => {
            let other = json!({"loc": ["body", "seed"], "msg": "Ignored", "type": "value_error"});
            let untyped = json!({"loc": ["body", "prompt"], "msg": FLAGGED, "type": "value_error"});
            json!({"detail": [other, untyped]})
        }
        Safety::Object => json!({"detail": violation("Output video has sensitive content.")}),
        Safety::Moderated => json!({"detail": "Your request was moderated. Reasons: sexual."}),
        Safety::Bare => json!({"error": {"code": "moderation_blocked", "message": "The prompt was rejected."}}),
    }
}
