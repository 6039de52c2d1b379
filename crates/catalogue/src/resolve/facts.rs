//! What of a request its price depends on, each at its maximum where the request leaves it open.

use std::collections::BTreeMap;

use super::Resolving;
use crate::entry::Sizes;
use crate::price::{Decimal, Facts};
use crate::schema::shown;
use crate::setting_name::{AUTO, SettingName};
use crate::settings::{Setting, pixels};
use crate::{MediaKind, Role};

/// The sizes that fal calls by name.
const NAMED_SIZES: [(&str, (u32, u32)); 6] = [
    ("square_hd", (1024, 1024)),
    ("square", (512, 512)),
    ("portrait_4_3", (768, 1024)),
    ("portrait_16_9", (576, 1024)),
    ("landscape_4_3", (1024, 768)),
    ("landscape_16_9", (1024, 576)),
];

/// The short edge of a resolution that has a name.
fn short_edge(resolution: &str) -> Option<u32> {
    match resolution.to_lowercase().as_str() {
        "1k" => Some(1024),
        "2k" => Some(1440),
        "4k" => Some(2160),
        "8k" => Some(4320),
        other => other.strip_suffix('p')?.parse().ok().filter(|edge| (16..=10_000).contains(edge)),
    }
}

/// A role in a price's rows.
pub(crate) fn role_in_rows(role: Role) -> String {
    super::media::role_name(role).to_lowercase()
}

impl Resolving<'_> {
    pub(super) fn facts(&self) -> Facts {
        let outputs = self.input.settings.outputs.unwrap_or(1);
        let characters = u32::try_from(self.input.prompt.chars().count()).unwrap_or(u32::MAX);
        let (seconds, fps) = (self.seconds(), self.rate());
        Facts {
            values: self.values(),
            seconds,
            size: self.size(),
            fps,
            outputs,
            media: self.files_by_role(),
            characters,
        }
    }

    /// Each setting, role and parameter with its value, or those that the model may still choose of.
    fn values(&self) -> BTreeMap<String, Vec<String>> {
        let mut values = BTreeMap::new();
        for (name, setting) in &self.model.settings {
            let Some(text) = name.text_in(&self.input) else { continue };
            let asked = self.model.prices_ask_for_value(name.as_str(), AUTO);
            let open: Vec<String> = setting.texts().map(str::to_owned).collect();
            let all = if text == AUTO && !asked && !open.is_empty() { open } else { vec![text] };
            values.insert(name.as_str().to_owned(), all);
        }
        for slot in &self.model.slots {
            let present = self.input.media.iter().any(|medium| medium.role == slot.role);
            values.insert(role_in_rows(slot.role), vec![if present { "present" } else { "absent" }.to_owned()]);
        }
        for field in self.model.schema.names().filter(|field| self.model.prices_ask_for(field)) {
            if let Some(value) = self.sent.get(field) {
                values.entry(field.to_owned()).or_insert_with(|| vec![shown(value)]);
            }
        }
        values
    }

    fn seconds(&self) -> Option<Decimal> {
        let setting = self.model.setting(SettingName::Duration)?;
        let text = SettingName::Duration.text_in(&self.input)?;
        if text == AUTO {
            return setting.longest(self.fps()).and_then(up);
        }
        match setting.in_frames() {
            Some(frames) => {
                let count = frames.count(&text, self.fps())?.checked_sub(i64::from(frames.extra))?;
                up(count.max(0) as f64 / frames.fps(self.fps())?)
            }
            None => text.strip_suffix('s')?.parse().ok(),
        }
    }

    /// The frames a second that are sent, or that the entry knows.
    fn rate(&self) -> Option<Decimal> {
        let fixed = || self.model.setting(SettingName::Duration)?.in_frames()?.fps(None);
        self.input.settings.fps.or_else(fixed).and_then(Decimal::from_f64)
    }

    /// The frame's size: the largest where the shape is open.
    fn size(&self) -> Option<(u32, u32)> {
        let settings = &self.input.settings;
        if let Some(size) = &settings.size {
            let sizes = self.model.setting(SettingName::Size).into_iter().flat_map(Setting::texts);
            return match self.named_size(size) {
                None if size == AUTO => sizes.filter_map(|size| self.named_size(size)).max_by_key(area),
                known => known,
            };
        }
        let resolutions = self.possible(SettingName::Resolution, settings.resolution.as_ref());
        let ratios = self.possible(SettingName::AspectRatio, settings.aspect_ratio.as_ref());
        let by_both =
            resolutions.iter().flat_map(|resolution| ratios.iter().filter_map(|ratio| self.shape(resolution, ratio)));
        // Without a ratio that the entry knows the size of: the largest of that resolution.
        let largest = || resolutions.iter().filter_map(|resolution| self.largest(resolution)).max_by_key(area);
        by_both.max_by_key(area).or_else(largest)
    }

    /// The values that a setting has, or may have where it is left to the model.
    fn possible(&self, name: SettingName, given: Option<&String>) -> Vec<String> {
        match given {
            Some(text) if text != AUTO => vec![text.clone()],
            _ => self.model.setting(name).into_iter().flat_map(Setting::texts).map(str::to_owned).collect(),
        }
    }

    fn named_size(&self, size: &str) -> Option<(u32, u32)> {
        let own = || match self.model.sizes.get(size)? {
            Sizes::Named(size) => pixels(size),
            Sizes::ByRatio(_) => None,
        };
        let known = || NAMED_SIZES.iter().find(|(name, _)| *name == size).map(|(_, size)| *size);
        pixels(size).or_else(own).or_else(known)
    }

    fn shape(&self, resolution: &str, ratio: &str) -> Option<(u32, u32)> {
        let listed = || match self.model.sizes.get(resolution)? {
            Sizes::Named(size) => pixels(size),
            Sizes::ByRatio(sizes) => sizes.get(ratio).and_then(|size| pixels(size)),
        };
        let computed = || {
            // Where the entry lists the sizes of a resolution, the others are not as computed.
            if self.model.sizes.contains_key(resolution) {
                return self.largest(resolution);
            }
            let (width, height) = ratio.split_once(':')?;
            let (width, height): (f64, f64) = (width.parse().ok()?, height.parse().ok()?);
            let ratio = (width / height).max(height / width);
            let short = short_edge(resolution)?;
            let long = (f64::from(short) * ratio).ceil() as u32;
            Some(if width >= height { (long, short) } else { (short, long) })
        };
        listed().or_else(computed)
    }

    fn largest(&self, resolution: &str) -> Option<(u32, u32)> {
        match self.model.sizes.get(resolution)? {
            Sizes::Named(size) => pixels(size),
            Sizes::ByRatio(sizes) => sizes.values().filter_map(|size| pixels(size)).max_by_key(area),
        }
    }

    /// Pictures of each role, and the seconds that its other files play.
    fn files_by_role(&self) -> BTreeMap<Role, (u32, Decimal)> {
        let mut all = BTreeMap::new();
        for medium in &self.input.media {
            let (pictures, seconds) = all.entry(medium.role).or_insert((0, Decimal::ZERO));
            match medium.asset.kind() {
                Some(MediaKind::Image) => *pictures += 1,
                _ => *seconds = seconds.checked_add(Decimal::thousandths(medium.asset.duration_ms)).unwrap_or(*seconds),
            }
        }
        all
    }
}

fn area((width, height): &(u32, u32)) -> u64 {
    u64::from(*width) * u64::from(*height)
}

/// A number with at most six places, rounded up.
fn up(number: f64) -> Option<Decimal> {
    // A sum of doubles is a little off: what is within a billionth of a whole number of millionths is that number.
    let millionths = (number * 1e6 - 1e-3).ceil();
    Decimal::from_f64(millionths / 1e6)
}
