//! What holds for every model and every input.

use std::collections::BTreeSet;

use fastrand::Rng;
use rushes_catalogue::{Catalogue, Input, Medium, Model, Order, Resolved, Role, SettingName};
use serde_json::{Value, json};

use crate::{asset, lines, random, resolve};

/// What an order must keep, whatever was asked for.
pub(crate) fn assert_in_order(model: &Model, input: &Input, resolved: &Resolved) {
    let mut sent = Value::Object(resolved.order.input.clone());
    for file in &resolved.order.files {
        let place = sent.pointer_mut(&file.pointer).unwrap_or_else(|| panic!("{}: no {}", model.id, file.pointer));
        assert_eq!(*place, Value::Null, "{}: {}", model.id, file.pointer);
        *place = json!(format!("https://example.com/{}", file.asset.extension));
    }
    assert_eq!(model.schema.validate(&sent), [], "{}: {sent}", model.id);
    let names: BTreeSet<&str> = model.schema.names().collect();
    for key in resolved.order.input.keys() {
        assert!(names.contains(key.as_str()), "{}: {key}", model.id);
    }
    // Nothing that was asked for is lost or another.
    let (asked, taken) = (&input.settings, &resolved.input.settings);
    assert!(asked.length.is_none() || asked.length == taken.length);
    assert!(asked.aspect_ratio.is_none() || asked.aspect_ratio == taken.aspect_ratio);
    assert!(asked.resolution.is_none() || asked.resolution == taken.resolution);
    assert!(asked.audio.is_none() || asked.audio == taken.audio);
    assert_eq!(input.media, resolved.input.media);
    for name in input.parameters.keys() {
        assert!(resolved.order.input.contains_key(name), "{}: {name}", model.id);
    }
    let files = input.media.len() + model.asset_names(input).len();
    assert!(resolved.order.files.len() >= files, "{}: {} of {files}", model.id, resolved.order.files.len());
    // The same once more: what was resolved is taken as it is, and its seed is now one that was asked for.
    let again = resolve(model, &resolved.input).unwrap_or_else(|all| panic!("{}: {}", model.id, lines(&all)));
    let unasked = resolved.order.unasked.iter().filter(|field| again.order.unasked.contains(field)).cloned().collect();
    assert_eq!(again.order, Order { unasked, ..resolved.order.clone() }, "{}", model.id);
    assert_eq!(again.terms, resolved.terms, "{}", model.id);
}

/// Every listed value of every setting can be ordered, and each is another value of the provider.
pub(crate) fn assert_reachable(model: &Model, may_refuse: &[&str]) -> usize {
    let mut reached = 0;
    for description in model.setting_descriptions() {
        let mut sent = BTreeSet::new();
        for text in &description.values {
            let mut input = model.sample().clone();
            random::put(&mut input, description.name, text);
            match resolve(model, &input) {
                Ok(resolved) => {
                    assert_in_order(model, &input, &resolved);
                    assert!(sent.insert(Value::Object(resolved.order.input).to_string()), "{}: {text}", model.id);
                    reached += 1;
                }
                Err(all) => {
                    let by_rule = all.iter().all(|one| may_refuse.contains(&one.field.as_str()));
                    assert!(by_rule, "{}: {} {text}: {}", model.id, description.name.as_str(), lines(&all));
                }
            }
        }
    }
    reached
}

/// What is no value, role, key or setting of the model is refused with its path.
pub(crate) fn assert_refuses(model: &Model, rng: &mut Rng) {
    let path_of = |input: &Input, field: &str| {
        let all = resolve(model, input).map(|resolved| resolved.order.input).unwrap_err();
        assert!(all.iter().any(|one| one.field == field), "{}: {field}: {}", model.id, lines(&all));
    };
    let with = |change: &dyn Fn(&mut Input)| {
        let mut input = model.sample().clone();
        change(&mut input);
        input
    };
    path_of(&with(&|input| drop(input.parameters.insert("no_such".to_owned(), json!(1)))), "input.parameters.no_such");
    for field in model.schema.names().filter(|field| !model.parameters().any(|own| own == *field)) {
        let input = with(&|input| drop(input.parameters.insert(field.to_owned(), json!("x"))));
        path_of(&input, &format!("input.parameters.{field}"));
    }
    for role in [Role::FirstFrame, Role::LastFrame, Role::Reference, Role::Source, Role::Audio, Role::Mask] {
        if model.max_media(role) == 0 {
            let input = with(&|input| input.media.push(Medium { role, asset: asset(1, "image/png") }));
            path_of(&input, &format!("input.media[{}].role", input.media.len() - 1));
        }
    }
    let seven: [(SettingName, &[&str]); 7] = [
        (SettingName::Duration, &["86399.123s", "0s"]),
        (SettingName::AspectRatio, &["16/9"]),
        (SettingName::Resolution, &["a resolution that no model of the whole world has"]),
        (SettingName::Size, &["0x0"]),
        (SettingName::Fps, &["-1", "NaN"]),
        (SettingName::Outputs, &["0", "4000000000"]),
        (SettingName::Seed, &[]),
    ];
    for (name, texts) in seven {
        let described = model.setting_descriptions().into_iter().find(|one| one.name == name);
        let unlimited = described.is_some_and(|one| one.values.is_empty() && one.max.is_none() && one.step.is_none());
        for text in texts.iter().filter(|text| !(unlimited && text.starts_with('8'))) {
            let input = with(&|input| random::put(input, name, text));
            path_of(&input, &name.path());
        }
    }
    for (name, text) in [(SettingName::Audio, "true"), (SettingName::NegativePrompt, "rain"), (SettingName::Seed, "3")]
    {
        if model.setting(name).is_none() {
            path_of(&with(&|input| random::put(input, name, text)), &name.path());
        }
    }
    for name in model.parameters().filter(|_| rng.bool()) {
        let input = with(&|input| drop(input.parameters.insert(name.to_owned(), json!({"no": {"such": []}}))));
        let all = resolve(model, &input).map(|resolved| resolved.order.input);
        let path = format!("input.parameters.{name}");
        // A table of anything may be that.
        let Err(all) = all else { continue };
        assert!(all.iter().any(|one| one.field.starts_with(&path)), "{}: {path}: {}", model.id, lines(&all));
    }
}

#[test]
fn every_order_that_is_taken_is_one_that_the_provider_takes() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let (mut taken, mut refused) = (0, 0);
    for model in Catalogue::built_in().all().iter().chain(Catalogue::shipped()) {
        let rules = ["input.media", "input.settings.aspect_ratio"];
        for _ in 0..200 {
            let input = random::input(model, &mut rng);
            match resolve(model, &input) {
                Ok(resolved) => {
                    assert_in_order(model, &input, &resolved);
                    taken += 1;
                }
                Err(all) => {
                    let by_rule = all.iter().all(|one| rules.contains(&one.field.as_str()));
                    assert!(by_rule, "{}: {}\n{input:?}", model.id, lines(&all));
                    refused += 1;
                }
            }
        }
        assert!(assert_reachable(model, &rules) > 0, "{}", model.id);
        assert_refuses(model, &mut rng);
    }
    println!("{taken} taken, {refused} refused by a rule of their entry");
    assert!(taken > refused);
}
