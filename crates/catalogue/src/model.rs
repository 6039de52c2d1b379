//! A model of the catalogue: who makes what, what it takes, and at what price. Made from an entry and checked whole.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::provider::Provider;
use jsonschema::Validator;
use serde_json::{Map, Value};

use crate::entry::{Date, Sizes};
use crate::price::{Decimal, Per, Rule, Terms};
use crate::schema::Schema;
use crate::setting_name::SettingName;
use crate::settings::{Rate, Setting};
use crate::slot::Slot;
use crate::{Input, Kind, MediaKind, ModerationRule, Role};

/// A model.
#[derive(Debug)]
pub struct Model {
    /// The last part of `models/{model}`; also the queue of its jobs.
    pub id: String,
    /// A hash of all of its entry and schema that decides what its provider is sent: not of its price, nor of what it is called here.
    pub entry_sha256: [u8; 32],
    /// Other ids by which it can be ordered.
    pub aliases: Vec<String>,
    /// What people call it; empty where the entry has no label.
    pub label: String,
    /// What it does.
    pub kind: Kind,
    /// Who makes its outputs.
    pub provider: Provider,
    /// What the provider calls it; the id for a model that is built in.
    pub remote_name: String,
    /// Where its input and its price are documented.
    pub source: String,
    /// When that was last compared.
    pub checked: Option<Date>,
    /// The day from which it takes no new orders.
    pub retire: Option<Date>,
    /// How many attempts may fail.
    pub max_attempts: i32,
    /// How long a generation may wait for a worker before it expires.
    pub start_deadline: Duration,
    /// How long after its start a generation that has not ended is stopped.
    pub total_deadline: Duration,
    /// The parts of its price.
    pub prices: Vec<Rule>,
    /// The parts of what its provider asks for an order, in the provider's currency; none where the entry does not say.
    pub cost: Vec<Rule>,
    /// What its price is multiplied by.
    pub markup: Option<Decimal>,
    /// What it makes.
    pub output_kinds: Vec<MediaKind>,
    /// The places for files in its input.
    pub slots: Vec<Slot>,
    /// The common fields that it takes.
    pub settings: BTreeMap<SettingName, Setting>,
    /// The provider's input.
    pub schema: Schema,
    /// Substrings of the provider's error by which it refuses for safety.
    pub(crate) refusals: Vec<String>,
    /// Where an answer says what the provider's moderation thought of the outputs.
    pub(crate) moderation: Vec<ModerationRule>,
    /// Where in a result the outputs lie.
    pub(crate) output: Option<String>,
    pub(crate) max_run: Option<Duration>,
    /// Fields of the provider that are always sent so.
    pub(crate) fixed: Map<String, Value>,
    /// Fields of the provider that nobody is offered.
    pub(crate) hidden: BTreeSet<String>,
    /// Where in the parameters files may stand: `/elements/*/image_url`.
    pub(crate) files: Vec<String>,
    pub(crate) rules: Vec<CrossRule>,
    pub(crate) sizes: BTreeMap<String, Sizes>,
    /// What an order with every setting left out costs.
    pub(crate) default_terms: Terms,
    /// The input of such an order.
    pub(crate) sample: Input,
}

/// A rule across fields of the provider's input.
#[derive(Debug)]
pub(crate) struct CrossRule {
    pub(crate) field: String,
    pub(crate) message: String,
    pub(crate) validator: Validator,
}

impl Model {
    /// `models/{model}`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("models/{}", self.id)
    }

    /// What an order costs whose settings are all left out, and which has what it must have.
    #[must_use]
    pub const fn default_terms(&self) -> &Terms {
        &self.default_terms
    }

    /// An input that the model takes, with as little in it as may be; its files exist nowhere.
    #[must_use]
    pub const fn sample(&self) -> &Input {
        &self.sample
    }

    /// The parts of its price as an account with this margin pays them: the rates of its orders' lines.
    #[must_use]
    pub fn prices_at(&self, margin: Decimal) -> Vec<Rule> {
        let marked_up = |rule: &Rule| self.markup.map_or_else(|| rule.clone(), |markup| rule.with_margin(markup));
        self.prices.iter().map(|rule| marked_up(rule).with_margin(margin)).collect()
    }

    /// Whether its day has come.
    #[must_use]
    pub fn is_retired(&self, unix_seconds: i64) -> bool {
        self.retire.is_some_and(|day| day.unix_seconds() <= unix_seconds)
    }

    /// How a common field is taken, if it is.
    #[must_use]
    pub fn setting(&self, name: SettingName) -> Option<&Setting> {
        self.settings.get(&name)
    }

    /// The longest prompt in characters; 0 for a model that takes none.
    #[must_use]
    pub fn prompt_characters(&self) -> u32 {
        self.setting(SettingName::Prompt).map_or(0, Setting::max_characters)
    }

    /// How many files with this role it takes.
    #[must_use]
    pub fn max_media(&self, role: Role) -> u32 {
        self.slots.iter().filter(|slot| slot.role == role).map(|slot| slot.max).sum()
    }

    /// The provider's fields that are left to `Input.parameters`.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.schema.names().filter(|name| self.owner(name).is_none())
    }

    /// Whose a field of the provider is; `None`: a parameter.
    pub(crate) fn owner(&self, field: &str) -> Option<Owner> {
        let mapped = self.settings.values().find(|setting| setting.fields.iter().any(|own| own == field));
        if let Some(setting) = mapped {
            return Some(Owner::Setting(setting.name));
        }
        if let Some(slot) = self.slots.iter().find(|slot| slot.field == field) {
            return Some(Owner::Slot(slot.role));
        }
        (self.fixed.contains_key(field) || self.hidden.contains(field)).then_some(Owner::Entry)
    }

    /// The length of the default number of frames at a rate.
    pub(crate) fn default_frames(&self, setting: &Setting, fps: Option<f64>) -> Option<String> {
        setting.in_frames()?;
        let field = setting.fields.first()?;
        let default = self.schema.property(field)?.default()?.clone();
        setting.decode(&Map::from_iter([(field.clone(), default)]), fps)
    }

    /// The rules of the price and of the cost.
    fn rules_of_both(&self) -> impl Iterator<Item = &Rule> {
        self.prices.iter().chain(&self.cost)
    }

    /// Whether the price, or the cost, depends on a setting.
    pub(crate) fn is_priced(&self, name: SettingName) -> bool {
        let asked = self.rules_of_both().any(|rule| rule.rows.iter().any(|row| row.when.contains_key(name.as_str())));
        asked || self.rules_of_both().any(|rule| counts(rule.per, name)) || self.sets_rate(name)
    }

    /// The frames a second count where a duration is sent as frames.
    fn sets_rate(&self, name: SettingName) -> bool {
        let frames = self.setting(SettingName::Duration).and_then(Setting::in_frames);
        name == SettingName::Fps && frames.is_some_and(|frames| frames.rate == Rate::Setting)
    }

    /// Whether a price's row asks for a value of its own.
    pub(crate) fn prices_ask_for_value(&self, name: &str, value: &str) -> bool {
        let mut rows = self.rules_of_both().flat_map(|rule| &rule.rows);
        rows.any(|row| row.when.get(name).is_some_and(|values| values.iter().any(|one| one == value)))
    }

    /// Whether a row of the price or of the cost asks for a parameter.
    pub(crate) fn prices_ask_for(&self, parameter: &str) -> bool {
        self.rules_of_both().any(|rule| rule.rows.iter().any(|row| row.when.contains_key(parameter)))
    }
}

/// Whether what is counted depends on a setting.
const fn counts(per: Per, name: SettingName) -> bool {
    let of_length = matches!(per, Per::Second | Per::VideoMegapixel | Per::Kilotoken);
    let of_pixels = matches!(per, Per::Megapixel | Per::VideoMegapixel | Per::Kilotoken);
    match name {
        SettingName::Duration => of_length,
        SettingName::AspectRatio | SettingName::Resolution | SettingName::Size => of_pixels,
        SettingName::Fps => of_length && of_pixels,
        SettingName::Outputs => of_length || of_pixels || matches!(per, Per::Output),
        SettingName::Prompt | SettingName::NegativePrompt | SettingName::Seed | SettingName::Audio => false,
    }
}

/// Whose a field of the provider is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Setting(SettingName),
    Slot(Role),
    /// The entry's: fixed or hidden.
    Entry,
}
