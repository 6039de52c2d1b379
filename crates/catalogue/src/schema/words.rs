//! What a validator finds, in words for whoever wrote the input.

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use serde_json::Value;

use super::pointer::escape;

/// So many values are listed in a message.
const MAX_LISTED: usize = 40;

/// A value as a person would write it.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(double) if number.is_f64() => double.to_string(),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

/// `one of 4, 6, 8`, or the only one.
pub(crate) fn list(values: &[String]) -> String {
    match values {
        [one] => one.clone(),
        _ if values.len() > MAX_LISTED => {
            format!("one of {} and {} more", values[..MAX_LISTED].join(", "), values.len() - MAX_LISTED)
        }
        _ => format!("one of {}", values.join(", ")),
    }
}

/// Adds what an error says, with its place.
pub(super) fn describe(error: &ValidationError<'_>, into: &mut Vec<(String, String)>) {
    let at = error.instance_path().as_str();
    match error.kind() {
        Kind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            into.push((format!("{at}/{}", escape(name)), "must be given".to_owned()));
        }
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            into.extend(unexpected.iter().map(|name| (format!("{at}/{}", escape(name)), "is not known".to_owned())));
        }
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => alternatives(at, context, into),
        kind => into.push((at.to_owned(), message(kind))),
    }
}

/// Of alternatives that all fail: what is wrong by the one that was meant, if one was by its type; else each.
fn alternatives(at: &str, context: &[Vec<ValidationError<'static>>], into: &mut Vec<(String, String)>) {
    let of_other_type = |errors: &&Vec<ValidationError<'static>>| {
        !errors.iter().any(|error| matches!(error.kind(), Kind::Type { .. }) && error.instance_path().as_str() == at)
    };
    if let Some(meant) = context.iter().find(of_other_type) {
        for error in meant {
            describe(error, into);
        }
        return;
    }
    let mut types: Vec<String> = Vec::new();
    for error in context.iter().flatten() {
        if let Kind::Type { kind } = error.kind() {
            let name = type_name(kind);
            if !types.contains(&name) {
                types.push(name);
            }
        }
    }
    into.push((at.to_owned(), format!("must be {}", types.join(" or "))));
}

fn message(kind: &Kind) -> String {
    let entries = |n: u64| if n == 1 { "1 entry".to_owned() } else { format!("{n} entries") };
    let characters = |n: u64| if n == 1 { "1 character".to_owned() } else { format!("{n} characters") };
    match kind {
        Kind::Enum { options } => {
            let values: Vec<String> = options.as_array().into_iter().flatten().map(shown).collect();
            format!("must be {}", list(&values))
        }
        Kind::Constant { expected_value } => format!("must be {}", shown(expected_value)),
        Kind::Type { kind } => format!("must be {}", type_name(kind)),
        Kind::Minimum { limit } => format!("must be at least {}", shown(limit)),
        Kind::Maximum { limit } => format!("must be at most {}", shown(limit)),
        Kind::ExclusiveMinimum { limit } => format!("must be more than {}", shown(limit)),
        Kind::ExclusiveMaximum { limit } => format!("must be less than {}", shown(limit)),
        Kind::MultipleOf { multiple_of } => format!("must be a multiple of {multiple_of}"),
        Kind::MaxLength { limit } => format!("must have at most {}", characters(*limit)),
        Kind::MinLength { limit } => format!("must have at least {}", characters(*limit)),
        Kind::MaxItems { limit } => format!("must have at most {}", entries(*limit)),
        Kind::MinItems { limit } => format!("must have at least {}", entries(*limit)),
        Kind::UniqueItems => "must not have an entry twice".to_owned(),
        Kind::Pattern { pattern } => format!("must match the pattern {pattern}"),
        Kind::OneOfMultipleValid { .. } => "fits several alternatives, and must fit one only".to_owned(),
        other => format!("does not keep the rule {:?} of the model's schema", other.keyword()),
    }
}

fn type_name(kind: &TypeKind) -> String {
    let name = |text: &str| {
        match text {
            "integer" => "a whole number",
            "number" => "a number",
            "string" => "a text",
            "boolean" => "true or false",
            "array" => "a list",
            "object" => "an object",
            other => other,
        }
        .to_owned()
    };
    match kind {
        TypeKind::Single(one) => name(&one.to_string()),
        TypeKind::Multiple(several) => {
            let names: Vec<String> = several.iter().map(|one| name(&one.to_string())).collect();
            names.join(" or ")
        }
    }
}
