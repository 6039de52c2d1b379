//! Whether every order has a price: each combination of the values that a row asks for has a row.

use std::collections::BTreeMap;

use crate::model::Model;
use crate::price::{Rule, unpriced};
use crate::resolve::role_in_rows;
use crate::schema::shown;
use crate::setting_name::{AUTO, SettingName};
use crate::tree::Report;

pub(super) fn check(model: &Model, report: &mut Report<'_, '_>) {
    check_rules(model, "price", &model.prices, report);
    // Once is enough for rules that are the same.
    if model.cost != model.prices {
        check_rules(model, "cost", &model.cost, report);
    }
    let duration = model.setting(SettingName::Duration).filter(|_| model.is_priced(SettingName::Duration));
    if duration.is_some_and(|duration| duration.can_be_auto() && duration.longest(Some(1.0)).is_none()) {
        report.fault("price", "depends on the duration, which the model may choose without a maximum");
    }
}

fn check_rules(model: &Model, field: &str, rules: &[Rule], report: &mut Report<'_, '_>) {
    let mut allowed = BTreeMap::new();
    let mut sound = true;
    for (n, rule) in rules.iter().enumerate() {
        for (m, row) in rule.rows.iter().enumerate() {
            let place = format!("{field}[{n}].rows[{m}].when");
            for (name, asked) in &row.when {
                let Some(values) = values_of(model, name) else {
                    report.fault(
                        &place,
                        format!("asks for {name:?}, which is no setting, role or parameter with listed values"),
                    );
                    sound = false;
                    continue;
                };
                for value in asked.iter().filter(|value| !values.contains(value) && *value != AUTO) {
                    let has = values.join(", ");
                    report.fault(&place, format!("asks for {name} {value:?}, which it cannot be: it has {has}"));
                    sound = false;
                }
                allowed.insert(name.clone(), values);
            }
        }
    }
    if !sound {
        return;
    }
    if model.setting(SettingName::Fps).is_some()
        || model.setting(SettingName::Duration).is_some_and(|duration| duration.in_frames().is_some())
    {
        allowed.entry(SettingName::Fps.as_str().to_owned()).or_default();
    }
    for (n, rule) in rules.iter().enumerate() {
        if let Some(why) = unpriced(std::slice::from_ref(rule), &allowed) {
            let why = why.strip_prefix("rule 1 ").unwrap_or(&why).to_owned();
            report.fault(&format!("{field}[{n}]"), why);
        }
    }
}

/// All values that an order may have of what a row asks for.
fn values_of(model: &Model, name: &str) -> Option<Vec<String>> {
    if let Some(setting) = SettingName::parse(name).and_then(|name| model.setting(name)) {
        let mut values = setting.finite_texts()?;
        if setting.can_be_auto() && model.prices_ask_for_value(name, AUTO) {
            values.push(AUTO.to_owned());
        }
        return Some(values);
    }
    if let Some(slot) = model.slots.iter().find(|slot| role_in_rows(slot.role) == name) {
        let values: &[&str] = if slot.min > 0 { &["present"] } else { &["present", "absent"] };
        return Some(values.iter().map(|value| (*value).to_owned()).collect());
    }
    if model.owner(name).is_some() {
        return None;
    }
    let values = model.schema.property(name)?.values()?;
    Some(values.iter().map(shown).collect())
}
