//! The files of an input, each into its place.

use serde_json::Value;

use super::{Resolving, pointer};
use crate::{Medium, Role};

/// `FIRST_FRAME`, as the API has it.
pub(crate) fn role_name(role: Role) -> String {
    serde_json::to_value(role).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

impl Resolving<'_> {
    /// Roles, counts, types and sizes.
    pub(super) fn media(&mut self) {
        let model = self.model;
        let mut counts = vec![0_u32; model.slots.len()];
        for (n, medium) in self.input.media.clone().into_iter().enumerate() {
            let Some(slot) = self.slot_of(n, &medium) else { continue };
            let (place, count) = (&model.slots[slot], counts[slot]);
            counts[slot] += 1;
            if count >= place.max {
                let role = role_name(place.role);
                let field = format!("input.media[{n}].role");
                let message = format!("must be another: {} takes at most {} {role}", model.name(), place.max);
                // One sentence for each file too many would say the same.
                if count == place.max {
                    self.violate(field, message);
                }
                continue;
            }
            if let Some(message) = place.refuses(&medium.asset) {
                self.violate(format!("input.media[{n}].asset"), message);
                self.said.insert(place.field.clone());
                continue;
            }
            let index = count.to_string();
            let parts: &[&str] = if place.list { &[&place.field, &index] } else { &[&place.field] };
            let address = self.place(pointer(parts), medium.asset, &place.forms);
            if place.list {
                let list = self.sent.entry(place.field.clone()).or_insert_with(|| Value::Array(Vec::new()));
                list.as_array_mut().into_iter().for_each(|list| list.push(address.clone()));
            } else {
                self.sent.insert(place.field.clone(), address);
            }
        }
        for (slot, count) in model.slots.iter().zip(counts) {
            if count < slot.min {
                let role = role_name(slot.role);
                self.violate("input.media", format!("must have at least {} with the role {role}", slot.min));
                self.said.insert(slot.field.clone());
            }
        }
    }

    /// The place for a file: that of its role which takes its type, else the first of its role.
    fn slot_of(&mut self, n: usize, medium: &Medium) -> Option<usize> {
        let model = self.model;
        let of_role = || model.slots.iter().enumerate().filter(|(_, slot)| slot.role == medium.role);
        let by_type = of_role().find(|(_, slot)| slot.types.contains(&medium.asset.mime_type));
        let found = by_type.or_else(|| of_role().next()).map(|(at, _)| at);
        if found.is_none() {
            let mut roles: Vec<String> = model.slots.iter().map(|slot| role_name(slot.role)).collect();
            roles.dedup();
            let takes = if roles.is_empty() { "no media".to_owned() } else { roles.join(", ") };
            self.violate(format!("input.media[{n}].role"), format!("must be left out: {} takes {takes}", model.name()));
        }
        found
    }
}
