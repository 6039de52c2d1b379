//! The files of an input, each into its place.

use serde_json::Value;

use super::{Resolving, pointer};
use crate::{Asset, Medium, Role, Slot};

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
                let several = model.slots.iter().filter(|slot| slot.role == place.role).count() > 1;
                let of = if several { format!(" of {}", place.types.join(", ")) } else { String::new() };
                let message = format!("must be another: {} takes at most {} {role}{of}", model.name(), place.max);
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
            self.put(place, medium.asset);
        }
        for (slot, count) in model.slots.iter().zip(counts) {
            if count < slot.min && !self.said.contains(&slot.field) {
                let role = role_name(slot.role);
                self.violate("input.media", format!("must have at least {} with the role {role}", slot.min));
                self.said.insert(slot.field.clone());
            }
        }
    }

    /// Puts a file into its field, or at the end of its list.
    fn put(&mut self, slot: &Slot, asset: Asset) {
        if !slot.list {
            let address = self.place(pointer(&[&slot.field]), asset, &slot.forms);
            self.sent.insert(slot.field.clone(), address);
            return;
        }
        let index = self.sent.get(&slot.field).and_then(Value::as_array).map_or(0, Vec::len).to_string();
        let at = pointer(&[&slot.field, &index]);
        let item = match &slot.item {
            None => self.place(at, asset, &slot.forms),
            Some(item) => {
                let (mut whole, within) = item.empty();
                let address = self.place(format!("{at}{within}"), asset, &slot.forms);
                if let Some(place) = whole.pointer_mut(within) {
                    *place = address;
                }
                whole
            }
        };
        let list = self.sent.entry(slot.field.clone()).or_insert_with(|| Value::Array(Vec::new()));
        list.as_array_mut().into_iter().for_each(|list| list.push(item.clone()));
    }

    /// The place for a file: that of its role which takes its type.
    fn slot_of(&mut self, n: usize, medium: &Medium) -> Option<usize> {
        let model = self.model;
        let of_role: Vec<_> = model.slots.iter().enumerate().filter(|(_, slot)| slot.role == medium.role).collect();
        if of_role.is_empty() {
            let mut roles: Vec<String> = model.slots.iter().map(|slot| role_name(slot.role)).collect();
            roles.dedup();
            let takes = if roles.is_empty() { "no media".to_owned() } else { roles.join(", ") };
            self.violate(format!("input.media[{n}].role"), format!("must be left out: {} takes {takes}", model.name()));
            return None;
        }
        let mime_type = &medium.asset.mime_type;
        let found = of_role.iter().find(|(_, slot)| slot.types.contains(mime_type)).map(|(at, _)| *at);
        if found.is_none() {
            let types: Vec<&str> = of_role.iter().flat_map(|(_, slot)| &slot.types).map(String::as_str).collect();
            let message = format!("must be of {}, and is {mime_type}", types.join(", "));
            self.violate(format!("input.media[{n}].asset"), message);
            self.said.extend(of_role.iter().map(|(_, slot)| slot.field.clone()));
        }
        found
    }
}
