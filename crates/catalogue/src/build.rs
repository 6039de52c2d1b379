//! From an entry and its schema to a model, checked whole: what cannot be mapped or priced does not load.

mod checks;
mod prices;
mod sample;

use std::collections::{BTreeMap, BTreeSet};

use domain::provider::Provider;
use serde_json::{Map, json};
use sha2::{Digest as _, Sha256};

use crate::entry::{Cost, Entry, Mapping, MediaEntry, PLAIN_PROMPT_CHARACTERS};
use crate::model::{CrossRule, Model};
use crate::price::{Decimal, Per, Row, Rule, Terms};
use crate::schema::{Schema, compile};
use crate::setting_name::SettingName;
use crate::settings::{Setting, derive};
use crate::slot::{Item, Slot, type_is_known};
use crate::tree::Report;
use crate::{Input, Kind, MediaKind, Role};

/// So many files a list takes where neither its schema nor the entry says how many.
const MAX_LIST: u32 = 10;

/// The schema of a model without one: a prompt, and a seed if it takes one.
pub(crate) fn plain(entry: &mut Entry) -> Result<Schema, String> {
    let characters = entry.prompt_characters.unwrap_or(PLAIN_PROMPT_CHARACTERS);
    let mut properties = json!({"prompt": {"type": "string", "minLength": 1, "maxLength": characters}});
    let mut names = vec![(SettingName::Prompt, "prompt")];
    if entry.seed != Some(false) {
        properties["seed"] = json!({"type": "integer"});
        names.push((SettingName::Seed, "seed"));
    }
    let to = |name: &str| Mapping { to: Some(name.to_owned()), ..Mapping::default() };
    entry.map = names.into_iter().map(|(setting, name)| (setting, to(name))).collect();
    entry.kind = entry.kind.or(Some(Kind::TextToVideo));
    Schema::new(json!({"type": "object", "properties": properties, "required": ["prompt"]}))
}

/// The model, if it has no fault.
pub(crate) fn build(mut entry: Entry, schema: Schema, report: &mut Report<'_, '_>) -> Option<Model> {
    let before = report.count();
    let settings = settings(&entry, &schema, report);
    let slots = slots(&entry, &schema, report);
    let rules = rules(&entry, report);
    let prices = price(&mut entry, report);
    let cost = cost(&mut entry, &prices);
    let kind = entry.kind.unwrap_or(Kind::TextToVideo);
    if entry.kind.is_none() {
        report.fault("kind", "must be given, such as text-to-video or image-to-video");
    }
    let local = entry.provider == Provider::Local;
    let model = Model {
        remote_name: if local { entry.id.clone() } else { entry.remote_name.clone() },
        entry_sha256: entry_sha256(&entry, &schema),
        id: entry.id.clone(),
        aliases: entry.aliases.clone(),
        label: entry.label.clone(),
        kind,
        provider: entry.provider,
        source: entry.source.clone(),
        checked: entry.checked,
        retire: entry.retire,
        max_attempts: entry.max_attempts,
        start_deadline: entry.start_deadline,
        total_deadline: entry.total_deadline,
        prices,
        cost,
        markup: entry.markup,
        output_kinds: if entry.output.kinds.is_empty() { vec![made_by(kind)] } else { entry.output.kinds.clone() },
        slots,
        settings,
        schema,
        refusals: entry.refusals.clone(),
        moderation: entry.moderation.clone(),
        output: entry.output.at.clone(),
        max_run: entry.max_run,
        fixed: entry.fixed.clone(),
        hidden: entry.hide.iter().cloned().collect::<BTreeSet<_>>(),
        files: entry.files.clone(),
        rules,
        sizes: entry.sizes.clone(),
        default_terms: Terms::default(),
        sample: Input::default(),
    };
    checks::check(&model, report);
    prices::check(&model, report);
    // What is wrong in itself would be wrong of its sample as well.
    if report.count() > before {
        return None;
    }
    sample::with_sample(model, report)
}

fn entry_sha256(entry: &Entry, schema: &Schema) -> [u8; 32] {
    Sha256::new().chain_update(entry.sent.to_string()).chain_update(schema.root().to_string()).finalize().into()
}

/// What a kind makes.
const fn made_by(kind: Kind) -> MediaKind {
    match kind {
        Kind::TextToImage | Kind::ImageToImage => MediaKind::Image,
        Kind::Speech => MediaKind::Audio,
        Kind::TextToVideo | Kind::ImageToVideo | Kind::VideoToVideo | Kind::LipSync | Kind::Upscale => MediaKind::Video,
    }
}

fn settings(entry: &Entry, schema: &Schema, report: &mut Report<'_, '_>) -> BTreeMap<SettingName, Setting> {
    let mut all: BTreeMap<SettingName, Setting> = BTreeMap::new();
    let has_fps = entry.map.contains_key(&SettingName::Fps);
    for (name, mapping) in &entry.map {
        let field = format!("map.{}", name.as_str());
        match derive(*name, mapping, schema, entry.prompt_characters, has_fps) {
            Ok(setting) => {
                let same = all.values().find(|other| other.fields.iter().any(|own| setting.fields.contains(own)));
                if let Some(other) = same {
                    report.fault(&field, format!("names a field that {} names as well", other.name.as_str()));
                }
                all.insert(*name, setting);
            }
            Err(("", message)) => report.fault(&field, message),
            Err((part, message)) => report.fault(&format!("{field}.{part}"), message),
        }
    }
    all
}

fn slots(entry: &Entry, schema: &Schema, report: &mut Report<'_, '_>) -> Vec<Slot> {
    let mut all: Vec<Slot> = Vec::new();
    for (n, media) in entry.media.iter().enumerate() {
        let Some(slot) = slot(media, n, schema, report) else { continue };
        for other in &all {
            if other.field == slot.field && (other.item.is_none() || slot.item.is_none()) {
                report.fault(&format!("media[{n}].to"), format!("names {:?}, as another one does", slot.field));
            } else if other.role == slot.role && other.types.iter().any(|one| slot.types.contains(one)) {
                let message = "has the role and a type of another one, so that a file would have two places";
                report.fault(&format!("media[{n}].role"), message);
            }
        }
        all.push(slot);
    }
    all
}

fn slot(media: &MediaEntry, n: usize, schema: &Schema, report: &mut Report<'_, '_>) -> Option<Slot> {
    let to = &media.to;
    let Some(property) = schema.property(to) else {
        report.fault(&format!("media[{n}].to"), format!("names {to:?}, which the schema does not have"));
        return None;
    };
    let list = property.has_type("array");
    let item = media.item.as_ref().map(Item::parse);
    if let Some(parsed) = &item {
        if parsed.is_none() {
            report.fault(
                &format!("media[{n}].item"),
                "must be a table with one place for the file's address, \"{file}\"",
            );
        } else if !list {
            report.fault(&format!("media[{n}].item"), format!("must be left out, since {to:?} is no list"));
        }
    }
    let item = item.flatten();
    let text =
        if list { property.items().is_some_and(|of| of.has_type("string")) } else { property.has_type("string") };
    if !text && item.is_none() {
        report.fault(&format!("media[{n}].to"), format!("names {to:?}, which is neither a text nor a list of texts"));
        return None;
    }
    let largest = property.max_items().and_then(|max| u32::try_from(max).ok());
    let max = media.max.unwrap_or_else(|| if list && item.is_none() { largest.unwrap_or(MAX_LIST) } else { 1 });
    if !list && max > 1 {
        report.fault(&format!("media[{n}].max"), format!("must be 1, since {to:?} takes one file and no list"));
    }
    if list && largest.is_some_and(|largest| max > largest) {
        let largest = largest.unwrap_or_default();
        report.fault(&format!("media[{n}].max"), format!("must be at most {largest}, which is what {to:?} takes"));
    }
    let min = media.min.unwrap_or_else(|| u32::from(schema.requires(to) && item.is_none()));
    if min > max || max == 0 {
        report.fault(&format!("media[{n}].max"), "must be at least 1, and no less than min");
    }
    for one in media.types.iter().filter(|one| !type_is_known(one)) {
        report
            .fault(&format!("media[{n}].types"), format!("has {one:?}, and takes image, video, audio or their types"));
    }
    let types = Slot::types(&media.types, media.role, to);
    let (forms, limits) = (media.forms.clone(), media.limits.clone());
    Some(Slot { role: media.role, field: to.clone(), list, item, min, max, types, forms, limits })
}

fn rules(entry: &Entry, report: &mut Report<'_, '_>) -> Vec<CrossRule> {
    let mut all = Vec::new();
    for (n, rule) in entry.rules.iter().enumerate() {
        let mut schema = Map::new();
        schema.insert("if".to_owned(), rule.condition.clone());
        let parts = [("then", &rule.then), ("else", &rule.otherwise)];
        schema.extend(parts.into_iter().filter_map(|(name, part)| Some((name.to_owned(), part.clone()?))));
        if schema.len() == 1 {
            report.fault(&format!("rule[{n}]"), "must have `then` or `else`");
        }
        if rule.field != "input" && !rule.field.starts_with("input.") {
            report.fault(&format!("rule[{n}].field"), "must be a path such as input.settings.duration");
        }
        match compile(&schema.into()) {
            Ok(validator) => {
                all.push(CrossRule { field: rule.field.clone(), message: rule.message.clone(), validator });
            }
            Err(message) => report.fault(&format!("rule[{n}]"), message),
        }
    }
    all
}

/// The parts of the price, or the one of an entry that has a single price.
fn price(entry: &mut Entry, report: &mut Report<'_, '_>) -> Vec<Rule> {
    let mut all = std::mem::take(&mut entry.price);
    match (entry.price_micros, all.is_empty()) {
        (None, true) => report.fault("price", "must be given: a model without a price would be free"),
        (None, false) => {}
        (Some(_), false) => report.fault("price_micros", "must be left out where `price` is given"),
        (Some(micros), true) => {
            let credits = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000).parse().unwrap_or_default();
            all.push(Rule {
                per: Per::Generation,
                rows: vec![Row { when: BTreeMap::new(), credits }],
                step: None,
                minimum: None,
                of: None,
                max_seconds: None,
                fps: None,
                extra_frames: 0,
            });
        }
    }
    limit_runs(entry, &mut all);
    if entry.markup.is_some_and(Decimal::is_zero) {
        report.fault("markup", "must be more than 0");
    }
    all
}

/// The parts of what the provider asks for an order.
fn cost(entry: &mut Entry, prices: &[Rule]) -> Vec<Rule> {
    match std::mem::take(&mut entry.cost) {
        Cost::Unknown => Vec::new(),
        Cost::Price => prices.to_vec(),
        Cost::Rules(mut all) => {
            limit_runs(entry, &mut all);
            all
        }
    }
}

/// A run that is paid for by its time is at most as long as the entry lets one be.
fn limit_runs(entry: &Entry, rules: &mut [Rule]) {
    let longest = entry.max_run.and_then(|time| u64::try_from(time.as_millis()).ok()).map(Decimal::thousandths);
    for rule in rules.iter_mut().filter(|rule| rule.per == Per::GpuSecond) {
        rule.max_seconds = rule.max_seconds.or(longest);
    }
}

/// What is left of the built-in model's places where an entry of today says how many pictures it takes.
pub(crate) fn limit_references(entry: &mut Entry) {
    let Some(count) = entry.reference_assets else { return };
    for media in entry.media.iter_mut().filter(|media| media.role == Role::Reference) {
        media.max = Some(count);
    }
    let none = |media: &MediaEntry| media.role == Role::Reference && count == 0;
    entry.hide.extend(entry.media.iter().filter(|media| none(media)).map(|media| media.to.clone()));
    entry.media.retain(|media| !none(media));
}
