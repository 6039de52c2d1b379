//! From a request's input to what is frozen with its order: the input as resolved, what the provider is sent, and the price's terms.
//!
//! Invariant: nothing is dropped, rounded or taken for something near; what a model does not take is a violation with its path, and
//! all of them are found at once. What the price depends on is sent, never left to the provider's default.

mod facts;
mod media;
mod parameters;

pub(crate) use facts::role_in_rows;

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::model::{Model, Owner};
use crate::price::{Terms, terms};
use crate::schema::escape;
use crate::setting_name::SettingName;
use crate::settings::{Open, Setting};
use crate::{Asset, File, Input, Order, Resolved, Violation};

/// So many violations are told.
pub const MAX_VIOLATIONS: usize = 50;

/// Before a duration in frames comes its rate.
const ORDER: [SettingName; 10] = [
    SettingName::Fps,
    SettingName::Prompt,
    SettingName::NegativePrompt,
    SettingName::Seed,
    SettingName::Duration,
    SettingName::AspectRatio,
    SettingName::Resolution,
    SettingName::Size,
    SettingName::Audio,
    SettingName::Outputs,
];

impl Model {
    /// What an input becomes.
    ///
    /// `seed` is taken where the model takes a seed and the input has none. `lookup` finds the assets that [`Model::asset_names`]
    /// tells; those of `media` are in the input.
    ///
    /// # Errors
    /// Everything that is wrong with the input, at most [`MAX_VIOLATIONS`].
    pub fn resolve(
        &self,
        input: &Input,
        seed: i64,
        lookup: &dyn Fn(&str) -> Option<Asset>,
    ) -> Result<Resolved, Vec<Violation>> {
        let mut resolving = Resolving::new(self, input);
        resolving.settings(seed);
        resolving.media();
        resolving.parameters(lookup);
        resolving.defaults();
        resolving.check();
        resolving.end()
    }
}

/// A request while it is resolved.
struct Resolving<'a> {
    model: &'a Model,
    input: Input,
    /// The provider's input, with an address in the place of each file.
    sent: Map<String, Value>,
    files: Vec<File>,
    /// Fields of `sent` that the entry fixes, and that of a seed that was drawn.
    unasked: BTreeSet<String>,
    violations: Vec<Violation>,
    /// Fields of the provider of which something has been said.
    said: BTreeSet<String>,
}

impl<'a> Resolving<'a> {
    fn new(model: &'a Model, input: &Input) -> Self {
        let sent = model.fixed.clone();
        let unasked = sent.keys().cloned().collect();
        let (files, violations, said) = (Vec::new(), Vec::new(), BTreeSet::new());
        Self { model, input: input.clone(), sent, files, unasked, violations, said }
    }

    fn violate(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.violations.push(Violation { field: field.into(), message: message.into() });
    }

    /// The frames a second that the input says, or the model's.
    fn fps(&self) -> Option<f64> {
        let default = || self.model.setting(SettingName::Fps)?.default.as_ref()?.parse().ok();
        self.input.settings.fps.or_else(default)
    }

    /// The typed settings, each against what its field may be.
    fn settings(&mut self, seed: i64) {
        for name in ORDER {
            let model = self.model;
            match (model.setting(name), name.text_in(&self.input)) {
                (Some(setting), Some(text)) => {
                    let fields = self.set(setting, &text);
                    self.unasked.retain(|field| !fields.contains(field));
                }
                (Some(setting), None) if name == SettingName::Seed => {
                    let text = within(setting, seed);
                    name.put(&text, &mut self.input);
                    let fields = self.set(setting, &text);
                    self.unasked.extend(fields);
                }
                // One is what every model makes.
                (None, Some(text)) if name == SettingName::Outputs && text == "1" => {}
                (None, Some(_)) => {
                    self.violate(name.path(), format!("must be left out: {} has no such setting", model.name()));
                }
                (_, None) => {}
            }
        }
        let settings = &self.input.settings;
        if settings.size.is_some() && (settings.aspect_ratio.is_some() || settings.resolution.is_some()) {
            self.violate(SettingName::Size.path(), "must be left out where aspect_ratio or resolution is given");
        }
    }

    /// Puts a setting into what is sent, and returns the fields that have it there.
    fn set(&mut self, setting: &Setting, text: &str) -> Vec<String> {
        match setting.encode(text, self.fps()) {
            Ok(values) => {
                let fields = values.iter().map(|(field, _)| field.clone()).collect();
                self.sent.extend(values);
                fields
            }
            Err(message) => {
                self.violate(setting.name.path(), message);
                self.said.extend(setting.fields.iter().cloned());
                Vec::new()
            }
        }
    }

    /// What was left out and has to be sent: what the price depends on, what the provider requires, and what the entry hides.
    fn defaults(&mut self) {
        let model = self.model;
        for name in ORDER {
            let Some(setting) = model.setting(name) else { continue };
            if name.text_in(&self.input).is_some() || setting.fields.iter().any(|field| self.said.contains(field)) {
                continue;
            }
            let wanted =
                setting.required || name == SettingName::Outputs || (model.is_priced(name) && self.needs(name));
            if !wanted {
                continue;
            }
            let default = setting.default.clone().or_else(|| model.default_frames(setting, self.fps()));
            if let Some(text) = default {
                name.put(&text, &mut self.input);
                self.set(setting, &text);
            } else {
                let why = if setting.required { "" } else { ", since the price depends on it" };
                self.violate(name.path(), format!("must be given{why}: {}", setting.allowed(self.fps())));
                self.said.extend(setting.fields.iter().cloned());
            }
        }
        for field in model.schema.names() {
            let hidden = model.hidden.contains(field) && model.schema.requires(field);
            let parameter = model.owner(field).is_none();
            let priced = parameter && (model.prices_ask_for(field) || model.schema.requires(field));
            if (hidden || priced) && !self.sent.contains_key(field) && !self.said.contains(field) {
                let Some(default) = model.schema.property(field).and_then(|property| property.default()) else {
                    if priced && !model.schema.requires(field) {
                        self.violate(
                            format!("input.parameters.{field}"),
                            "must be given, since the price depends on it",
                        );
                        self.said.insert(field.to_owned());
                    }
                    continue;
                };
                self.sent.insert(field.to_owned(), default.clone());
                if parameter {
                    self.input.parameters.insert(field.to_owned(), default.clone());
                }
            }
        }
    }

    /// A size says what an aspect ratio and a resolution say.
    fn needs(&self, name: SettingName) -> bool {
        let settings = &self.input.settings;
        match name {
            SettingName::AspectRatio | SettingName::Resolution => settings.size.is_none(),
            SettingName::Size => settings.aspect_ratio.is_none() && settings.resolution.is_none(),
            _ => true,
        }
    }

    /// The provider's input against the provider's own schema, and the rules of the entry.
    fn check(&mut self) {
        let sent = Value::Object(self.sent.clone());
        for (pointer, message) in self.model.schema.validate(&sent) {
            let mut parts = pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~"));
            let field = parts.next().unwrap_or_default();
            if self.said.contains(&field) {
                continue;
            }
            match self.model.owner(&field) {
                Some(Owner::Setting(name)) => {
                    let fps = self.fps();
                    let allowed = self.model.setting(name).map(|setting| setting.allowed(fps)).unwrap_or_default();
                    let given = self.sent.contains_key(&field);
                    let message =
                        if given { format!("must be {allowed}") } else { format!("must be given: {allowed}") };
                    self.violate(name.path(), message);
                    self.said.insert(field);
                }
                Some(Owner::Slot(_)) => self.violate("input.media", message),
                Some(Owner::Entry) => self.violate("input", format!("cannot be sent: {field} {message}")),
                None => {
                    let path = parts.fold(format!("input.parameters.{field}"), |path, part| {
                        if part.bytes().all(|byte| byte.is_ascii_digit()) {
                            format!("{path}[{part}]")
                        } else {
                            format!("{path}.{part}")
                        }
                    });
                    self.violate(path, message);
                }
            }
        }
        for rule in &self.model.rules {
            if !rule.validator.is_valid(&sent) {
                self.violate(rule.field.clone(), rule.message.clone());
            }
        }
    }

    fn end(mut self) -> Result<Resolved, Vec<Violation>> {
        let terms = if self.violations.is_empty() { self.terms() } else { None };
        let Some(terms) = terms else {
            self.violations.truncate(MAX_VIOLATIONS);
            return Err(self.violations);
        };
        let model = self.model;
        let max_outputs = self.input.settings.outputs.unwrap_or(1);
        let mut sent = Value::Object(self.sent);
        for file in &self.files {
            if let Some(place) = sent.pointer_mut(&file.pointer) {
                *place = Value::Null;
            }
        }
        let Value::Object(input) = sent else { return Err(Vec::new()) };
        let max_run = model.max_run.and_then(|time| u64::try_from(time.as_millis()).ok());
        let order = Order {
            provider: model.provider,
            model: model.remote_name.clone(),
            input,
            files: self.files,
            output: model.output.clone(),
            refusals: model.refusals.clone(),
            moderation: model.moderation.clone(),
            unasked: self.unasked.into_iter().collect(),
            output_kinds: model.output_kinds.clone(),
            max_outputs,
            max_run_ms: max_run.or_else(|| terms.max_run_ms()),
        };
        Ok(Resolved { input: self.input, order, terms })
    }

    fn terms(&mut self) -> Option<Terms> {
        let facts = self.facts();
        let priced = terms(&self.model.prices, &facts);
        let priced = priced.and_then(|terms| match self.model.markup {
            Some(factor) => terms.with_margin(factor),
            None => Ok(terms),
        });
        // An order whose cost cannot be told is charged all the same, and not compared.
        let expected = match self.model.cost.as_slice() {
            [] => Vec::new(),
            rules => terms(rules, &facts).map(|terms| terms.parts).unwrap_or_default(),
        };
        match priced {
            Ok(terms) => Some(Terms { cost: expected, ..terms }),
            Err(error) => {
                self.violate("input", format!("has no price: {error}"));
                None
            }
        }
    }

    /// Puts a file into its place: an address, as long as it is checked by the schema.
    fn place(&mut self, pointer: String, asset: Asset, forms: &[String]) -> Value {
        let address =
            format!("https://files.invalid/{}.{}", asset.name.rsplit('/').next().unwrap_or_default(), asset.extension);
        self.files.push(File { pointer, asset, forms: forms.to_vec() });
        Value::String(address)
    }
}

/// The text of a seed that the model takes, made of any: nobody can be told that one is wrong that they did not give.
fn within(setting: &Setting, seed: i64) -> String {
    let count = i64::try_from(setting.choices.len()).unwrap_or_default();
    if let Some(at) = seed.checked_rem_euclid(count).and_then(|at| usize::try_from(at).ok()) {
        return setting.choices[at].text.clone();
    }
    let Some(Open::Number { limits, .. }) = &setting.open else { return seed.to_string() };
    let step = limits.step.filter(|step| step.fract() == 0.0).map_or(1, |step| (step as i64).max(1));
    // In steps, so that every whole number between them is a seed.
    let min = limits.min.map_or(0, |min| (min / step as f64).ceil() as i64);
    let max = limits.max.map_or(i64::from(i32::MAX), |max| (max / step as f64).floor() as i64);
    if step == 1 && (min..=max).contains(&seed) {
        return seed.to_string();
    }
    // A schema that names no minimum means none below nothing.
    let first = if max < 0 { min } else { min.max(0) };
    let count = max.saturating_sub(first).saturating_add(1).max(1);
    first.saturating_add(seed.rem_euclid(count)).saturating_mul(step).to_string()
}

/// A JSON pointer to a part of a field.
fn pointer(parts: &[&str]) -> String {
    parts.iter().map(|part| format!("/{}", escape(part))).collect()
}
