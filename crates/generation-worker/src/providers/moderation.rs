//! What a finished answer says of its outputs by the provider's own moderation, at the places that the order names.
//!
//! Invariant: an answer that says nothing there says nothing: no output is taken for flagged, nor for looked at.

use serde_json::Value;

use crate::model::{Moderation, ModerationRule, Order};

/// How many categories one output has at most.
const MAX_CATEGORIES: usize = 16;
/// Of a category in the provider's own words.
const MAX_CHARACTERS: usize = 60;

/// What is said of each of so many outputs, in their order.
pub(super) fn said(answer: &Value, order: &Order, outputs: usize) -> Vec<Option<Moderation>> {
    let mut all = vec![None; outputs];
    for rule in &order.moderation {
        let Some(value) = answer.pointer(&rule.at) else { continue };
        for (at, said) in all.iter_mut().enumerate() {
            if let Some(categories) = read(rule, value, at) {
                note(said.get_or_insert_default(), rule, categories);
            }
        }
    }
    all
}

/// What the output at this place was flagged as: none where it was looked at and not flagged; `None` where nothing is said.
fn read(rule: &ModerationRule, value: &Value, at: usize) -> Option<Vec<String>> {
    let flagged = |is: bool| if is { vec![rule.category.clone()] } else { Vec::new() };
    if let Some(words) = &rule.contains {
        return value.as_str().filter(|text| text.contains(words)).map(|_| flagged(true));
    }
    match value {
        Value::Bool(is) => Some(flagged(*is)),
        // One word for each output.
        Value::Array(items) if items.iter().any(Value::is_boolean) => items.get(at)?.as_bool().map(flagged),
        Value::Array(items) => {
            let words: Vec<&str> = items.iter().filter_map(Value::as_str).filter(|word| !word.is_empty()).collect();
            let short = |word: &&str| word.chars().filter(|c| !c.is_control()).take(MAX_CHARACTERS).collect();
            (!words.is_empty()).then(|| words.iter().map(short).collect())
        }
        _ => None,
    }
}

fn note(said: &mut Moderation, rule: &ModerationRule, categories: Vec<String>) {
    if categories.is_empty() {
        return;
    }
    said.flagged = true;
    if said.effect.is_empty() {
        said.effect.clone_from(&rule.effect);
    }
    for category in categories {
        if !said.categories.contains(&category) && said.categories.len() < MAX_CATEGORIES {
            said.categories.push(category);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::MediaKind;

    fn rule(at: &str, contains: Option<&str>, effect: &str) -> ModerationRule {
        ModerationRule {
            at: at.to_owned(),
            contains: contains.map(str::to_owned),
            category: "nsfw".to_owned(),
            effect: effect.to_owned(),
        }
    }

    fn of(rules: Vec<ModerationRule>, answer: &Value, outputs: usize) -> Vec<Option<Moderation>> {
        let order = super::super::outputs::tests::order(MediaKind::Image, outputs, None);
        said(answer, &Order { moderation: rules, ..order }, outputs)
    }

    fn flagged(categories: &[&str], effect: &str) -> Option<Moderation> {
        let categories = categories.iter().map(|category| (*category).to_owned()).collect();
        Some(Moderation { flagged: true, categories, effect: effect.to_owned() })
    }

    #[test]
    fn each_form_is_read_and_what_is_not_said_is_nothing() {
        let clean = Some(Moderation::default());
        let list = || vec![rule("/has_nsfw_concepts", None, "replaced")];
        let answer = json!({"has_nsfw_concepts": [false, true], "images": []});
        assert_eq!(of(list(), &answer, 3), [clean.clone(), flagged(&["nsfw"], "replaced"), None]);
        for (value, said) in [
            (json!(true), flagged(&["nsfw"], "replaced")),
            (json!(false), clean),
            (json!(["violence", "gore"]), flagged(&["violence", "gore"], "replaced")),
            (json!([]), None),
            (json!(null), None),
            (json!("nsfw"), None),
            (json!(0.98), None),
            (json!([{"a": 1}]), None),
        ] {
            assert_eq!(of(list(), &json!({"has_nsfw_concepts": value}), 1), [said], "{value}");
        }
        assert_eq!(of(list(), &json!({}), 2), [None, None]);
        assert_eq!(of(Vec::new(), &json!({"has_nsfw_concepts": [true]}), 1), [None], "nobody asked");
    }

    #[test]
    fn logs_say_something_only_where_they_have_the_words() {
        let rules = || vec![rule("/logs", Some("NSFW content detected"), "blurred")];
        let said = of(rules(), &json!({"logs": "step 1\nNSFW content detected. Output 1 was blurred.\n"}), 1);
        assert_eq!(said, [flagged(&["nsfw"], "blurred")]);
        for silent in [json!({"logs": "step 1"}), json!({"logs": null}), json!({"logs": ["NSFW content detected"]})] {
            assert_eq!(of(rules(), &silent, 1), [None], "{silent}");
        }
    }

    #[test]
    fn several_places_are_one_statement_of_a_bounded_length() {
        let rules = vec![rule("/a", None, ""), rule("/b", None, "blurred"), rule("/c", None, "")];
        let many: Vec<String> = (0..40).map(|n| format!("{n}{}", "x".repeat(100))).collect();
        let said = of(rules, &json!({"a": [true], "b": [false], "c": many}), 1).remove(0).unwrap();
        assert_eq!((said.categories.len(), said.effect.as_str()), (MAX_CATEGORIES, ""));
        assert_eq!(said.categories[0], "nsfw");
        assert!(said.categories.iter().all(|category| category.chars().count() <= MAX_CHARACTERS));
    }
}
