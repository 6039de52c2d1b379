//! The model's own settings, and the files that stand in them.

use serde_json::Value;

use super::media::role_name;
use super::{Resolving, pointer};
use crate::model::{Model, Owner};
use crate::schema::escape;
use crate::{Asset, Input};

/// `assets/` and the SHA-256 in hexadecimal.
fn is_asset_name(text: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.strip_prefix("assets/").is_some_and(|hash| hash.len() == 64 && hash.bytes().all(hex))
}

/// Whether a pointer is one of a pattern such as `/elements/*/image_url`.
fn matches(pattern: &str, pointer: &str) -> bool {
    let mut parts = pointer.split('/');
    let all = pattern.split('/').all(|wanted| parts.next().is_some_and(|part| wanted == "*" || wanted == part));
    all && parts.next().is_none()
}

impl Model {
    /// The assets that an input names in its parameters, for whoever has to look them up before it is resolved.
    #[must_use]
    pub fn asset_names(&self, input: &Input) -> Vec<String> {
        let mut names = Vec::new();
        for (name, value) in &input.parameters {
            self.find_assets(value, &format!("/{}", escape(name)), &mut names);
        }
        names.sort();
        names.dedup();
        names
    }

    fn find_assets(&self, value: &Value, at: &str, into: &mut Vec<String>) {
        match value {
            Value::String(text) if is_asset_name(text) && self.takes_file(at) => into.push(text.clone()),
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(n, item)| self.find_assets(item, &format!("{at}/{n}"), into));
            }
            Value::Object(fields) => {
                for (name, field) in fields {
                    self.find_assets(field, &format!("{at}/{}", escape(name)), into);
                }
            }
            _ => {}
        }
    }

    fn takes_file(&self, at: &str) -> bool {
        self.files.iter().any(|pattern| matches(pattern, at))
    }
}

impl Resolving<'_> {
    /// Each key is the model's own, and no other way to say what a typed field says.
    pub(super) fn parameters(&mut self, lookup: &dyn Fn(&str) -> Option<Asset>) {
        let model = self.model;
        for (name, value) in self.input.parameters.clone() {
            let path = format!("input.parameters.{name}");
            let known = model.schema.property(&name).is_some();
            match model.owner(&name) {
                Some(Owner::Setting(owner)) => self.violate(path, format!("must be left out: it is {}", owner.path())),
                Some(Owner::Slot(role)) => {
                    let role = role_name(role);
                    self.violate(path, format!("must be left out: it is in input.media, with the role {role}"));
                }
                None if known => {
                    let value = model.schema.with_integers(&name, &value);
                    self.input.parameters.insert(name.clone(), value.clone());
                    let value = self.with_files(value, pointer(&[&name]), path, lookup);
                    self.sent.insert(name, value);
                }
                None | Some(Owner::Entry) => {
                    let all: Vec<&str> = model.parameters().collect();
                    let has = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
                    self.violate(path, format!("is no parameter of {}, which has {has}", model.name()));
                }
            }
        }
    }

    /// The value with an address in the place of each asset.
    fn with_files(&mut self, value: Value, at: String, path: String, lookup: &dyn Fn(&str) -> Option<Asset>) -> Value {
        match value {
            Value::String(text) if self.model.takes_file(&at) => match lookup(&text).filter(|_| is_asset_name(&text)) {
                Some(asset) => self.place(at, asset, &[]),
                None => {
                    let message = if is_asset_name(&text) {
                        "is no asset of the account"
                    } else {
                        "must be an asset, as assets/{sha256}"
                    };
                    self.violate(path, message);
                    Value::String(text)
                }
            },
            Value::String(text) if is_asset_name(&text) => {
                self.violate(path, "must be no asset: the model takes no file here");
                Value::String(text)
            }
            Value::Array(items) => {
                let items = items.into_iter().enumerate();
                items
                    .map(|(n, item)| self.with_files(item, format!("{at}/{n}"), format!("{path}[{n}]"), lookup))
                    .collect()
            }
            Value::Object(fields) => fields
                .into_iter()
                .map(|(name, field)| {
                    let (at, path) = (format!("{at}/{}", escape(&name)), format!("{path}.{name}"));
                    let field = self.with_files(field, at, path, lookup);
                    (name, field)
                })
                .collect(),
            other => other,
        }
    }
}
