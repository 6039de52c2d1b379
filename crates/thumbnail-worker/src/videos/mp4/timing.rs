//! When the samples of a track are shown: decoding times, composition offsets, key frames, and the edit list.
//!
//! Invariant: times are in the track's own ticks. An edit list presents one stretch of the media; whatever lies before or behind
//! it is decoded where later frames need it and never shown.

use std::ops::Range;
use std::time::Duration;

use super::boxes::{child, i32_at, u32_at, u64_at};

/// The highest number of samples whose times are looked at: ten hours at 30 frames a second.
const MAX_SAMPLES: usize = 1 << 20;
/// What plays longer is not believed.
const MAX_SECONDS: u64 = 366 * 86_400;

/// A track's tables of times.
#[derive(Clone, Debug)]
pub(in crate::videos) struct Timing<'a> {
    /// Ticks of one second.
    scale: u32,
    /// Length of the media in ticks; zero when it is not stated.
    length: u64,
    /// Runs of equal decoding steps: count and step.
    steps: &'a [u8],
    /// Runs of equal composition offsets: count and offset.
    offsets: &'a [u8],
    /// Numbers of key frames, from 1; `None`: each sample is one.
    keys: Option<&'a [u8]>,
    /// The first edit that shows something, and how long the whole list plays in ticks.
    edit: Option<Edit>,
}

#[derive(Clone, Copy, Debug)]
struct Edit {
    /// Where in the media it begins.
    start: i64,
    /// How many ticks of the media it shows; zero: the rest.
    shown: i64,
    /// How long the list plays, its pauses included.
    plays: u64,
}

/// One sample's place and times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::videos) struct Shown {
    /// Its number in decoding order, from 0.
    pub(in crate::videos) sample: usize,
    /// When it is shown, in ticks from the first presented one.
    pub(in crate::videos) at: i64,
    /// Whether decoding can begin with it.
    pub(in crate::videos) key: bool,
}

impl<'a> Timing<'a> {
    /// Reads the tables of a track; `movie_scale` is the scale of its edit list's lengths.
    pub(super) fn read(track: &'a [u8], media: &'a [u8], table: &'a [u8], movie_scale: u32) -> Self {
        let header = child(media, b"mdhd").unwrap_or_default();
        let (scale, length) = match header.first() {
            Some(0) => (u32_at(header, 12), u32_at(header, 16).filter(|length| *length != u32::MAX).map(u64::from)),
            Some(1) => (u32_at(header, 20), u64_at(header, 24).filter(|length| *length != u64::MAX)),
            _ => (None, None),
        };
        let scale = scale.unwrap_or_default();
        let body = |name| child(table, name).and_then(|body| body.get(8..));
        let list = child(track, b"edts").and_then(|edits| child(edits, b"elst"));
        Self {
            scale,
            length: length.unwrap_or_default(),
            steps: body(b"stts").unwrap_or_default(),
            offsets: body(b"ctts").unwrap_or_default(),
            keys: body(b"stss"),
            edit: list.and_then(|list| read_edits(list, scale, movie_scale)),
        }
    }

    /// How long the track plays: by its edit list, else by its media.
    pub(super) fn duration(&self) -> Duration {
        let ticks = match self.edit {
            // An edit that shows the rest has no length of its own, as fragmented files have it.
            Some(Edit { start, shown: 0, plays }) => {
                plays + self.length.saturating_sub(u64::try_from(start).unwrap_or_default())
            }
            Some(edit) => edit.plays,
            None => self.length,
        };
        self.to_duration(ticks)
    }

    /// Frames a second, their mean where it changes; zero when no sample has a length.
    pub(super) fn rate(&self) -> f64 {
        let (mut count, mut ticks) = (0_u64, 0_u64);
        for run in self.steps.chunks_exact(8) {
            let (more, step) = (u32_at(run, 0).unwrap_or_default(), u32_at(run, 4).unwrap_or_default());
            count += u64::from(more);
            ticks = ticks.saturating_add(u64::from(more) * u64::from(step));
        }
        if ticks == 0 { 0.0 } else { count as f64 * f64::from(self.scale) / ticks as f64 }
    }

    /// Ticks of one second.
    pub(super) fn scale(&self) -> u32 {
        self.scale
    }

    /// Ticks as a time; zero for what cannot be believed.
    pub(super) fn to_duration(&self, ticks: u64) -> Duration {
        let scale = u64::from(self.scale);
        match ticks.checked_div(scale) {
            Some(seconds) if seconds < MAX_SECONDS => Duration::from_millis(ticks.saturating_mul(1_000) / scale),
            _ => Duration::ZERO,
        }
    }

    /// A time in ticks.
    pub(in crate::videos) fn ticks(&self, time: Duration) -> i64 {
        i64::try_from(time.as_millis().saturating_mul(u128::from(self.scale)) / 1_000).unwrap_or(i64::MAX)
    }

    /// The ticks that are shown, counted from the first presented one.
    pub(in crate::videos) fn presented(&self) -> Range<i64> {
        match self.edit {
            Some(Edit { shown, .. }) if shown > 0 => 0..shown,
            _ => 0..i64::MAX,
        }
    }

    /// Every sample's times, in decoding order.
    pub(in crate::videos) fn shown(&self) -> impl Iterator<Item = Shown> + use<'a> {
        let start = self.edit.map_or(0, |edit| edit.start);
        let decoded = runs(self.steps).scan(0_i64, |now, step| {
            let at = *now;
            *now = now.saturating_add(i64::from(step));
            Some(at)
        });
        let offsets = runs(self.offsets).chain(std::iter::repeat(0));
        let mut keys = self.keys.map(|keys| keys.chunks_exact(4).filter_map(|key| u32_at(key, 0)).peekable());
        decoded.zip(offsets).take(MAX_SAMPLES).enumerate().map(move |(sample, (at, offset))| {
            let number = sample as u32 + 1;
            let key = keys.as_mut().is_none_or(|keys| {
                while keys.next_if(|key| *key < number).is_some() {}
                keys.peek() == Some(&number)
            });
            Shown { sample, at: at.saturating_add(i64::from(offset)).saturating_sub(start), key }
        })
    }
}

/// The values of a table of runs, each a count and a value.
fn runs(table: &[u8]) -> impl Iterator<Item = i32> + use<'_> {
    table.chunks_exact(8).flat_map(|run| {
        let count = u32_at(run, 0).unwrap_or_default() as usize;
        std::iter::repeat_n(i32_at(run, 4).unwrap_or_default(), count.min(MAX_SAMPLES))
    })
}

/// The edit list, as far as players follow it: pauses before the first edit, and the stretch that this one shows.
fn read_edits(list: &[u8], scale: u32, movie_scale: u32) -> Option<Edit> {
    let wide = list.first() == Some(&1);
    let entries = list.get(8..)?.chunks_exact(if wide { 20 } else { 12 });
    let to_media = |length: u64| {
        let ticks = u128::from(length) * u128::from(scale) / u128::from(movie_scale.max(1));
        u64::try_from(ticks).unwrap_or(u64::MAX)
    };
    let (mut first, mut plays) = (None, 0_u64);
    for entry in entries.take(1_024) {
        let (length, at) = if wide {
            (u64_at(entry, 0)?, u64_at(entry, 8)?.cast_signed())
        } else {
            (u64::from(u32_at(entry, 0)?), i64::from(i32_at(entry, 4)?))
        };
        let length = to_media(length);
        plays = plays.saturating_add(length);
        // A time of -1 is a pause.
        if at >= 0 && first.is_none() {
            first = Some((at, i64::try_from(length).ok()?));
        }
    }
    first.map(|(start, shown)| Edit { start, shown, plays })
}
