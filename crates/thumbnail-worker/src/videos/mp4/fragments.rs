//! Fragmented MP4: how long it plays, from its movie fragments.
//!
//! Invariant: runs are summed by their stated counts without walking one sample more than their bytes hold.

use super::boxes::{Boxes, child, u32_at, u64_at};

/// Ticks that the track of this number plays, by the length that the file states for all fragments, else by the fragments.
pub(super) fn length(file: &[u8], movie: &[u8], track: u32, scales: (u32, u32)) -> u64 {
    let extends = child(movie, b"mvex");
    let (scale, movie_scale) = scales;
    let header = extends.and_then(|body| child(body, b"mehd"));
    let stated = header.and_then(|body| match body.first() {
        Some(1) => u64_at(body, 4),
        _ => u32_at(body, 4).map(u64::from),
    });
    if let Some(stated) = stated.filter(|stated| *stated > 0) {
        let ticks = u128::from(stated) * u128::from(scale) / u128::from(movie_scale.max(1));
        return u64::try_from(ticks).unwrap_or(u64::MAX);
    }
    let defaults = extends.into_iter().flat_map(|body| Boxes(body).filter(|(name, _)| name == b"trex"));
    let default =
        defaults.map(|(_, body)| body).find(|body| u32_at(body, 4) == Some(track)).and_then(|body| u32_at(body, 12));
    Boxes(file)
        .filter(|(name, _)| name == b"moof")
        .flat_map(|(_, fragment)| Boxes(fragment).filter(|(name, _)| name == b"traf"))
        .filter_map(|(_, part)| end_of(part, track, default.unwrap_or_default()))
        .fold(0, |length: u64, end| match end {
            End::At(end) => length.max(end),
            End::After(more) => length.saturating_add(more),
        })
}

/// Where a fragment ends.
enum End {
    /// At this time, since it states when it begins.
    At(u64),
    /// So long after the one before.
    After(u64),
}

fn end_of(part: &[u8], track: u32, default: u32) -> Option<End> {
    let header = child(part, b"tfhd")?;
    if u32_at(header, 4)? != track {
        return None;
    }
    let flags = u32_at(header, 0)?;
    // What stands before the default length: a base offset, and the number of a sample description.
    let at = 8 + if flags & 1 == 0 { 0 } else { 8 } + if flags & 2 == 0 { 0 } else { 4 };
    let default = if flags & 8 == 0 { default } else { u32_at(header, at)? };
    let runs = Boxes(part).filter(|(name, _)| name == b"trun");
    let length = runs.fold(0_u64, |sum, (_, run)| sum.saturating_add(length_of_run(run, default).unwrap_or_default()));
    let begins = child(part, b"tfdt").and_then(|body| match body.first() {
        Some(1) => u64_at(body, 4),
        _ => u32_at(body, 4).map(u64::from),
    });
    Some(match begins {
        Some(begins) => End::At(begins.saturating_add(length)),
        None => End::After(length),
    })
}

fn length_of_run(run: &[u8], default: u32) -> Option<u64> {
    let (flags, count) = (u32_at(run, 0)?, u32_at(run, 4)?);
    if flags & 0x100 == 0 {
        return Some(u64::from(count) * u64::from(default));
    }
    let before = 8 + if flags & 1 == 0 { 0 } else { 4 } + if flags & 4 == 0 { 0 } else { 4 };
    // Length, size, flags and composition offset, each where its flag is set; the length is the first.
    let width = 4 * (flags >> 8 & 15).count_ones() as usize;
    let entries = run.get(before..)?.chunks_exact(width).take(count as usize);
    Some(entries.filter_map(|entry| u32_at(entry, 0)).fold(0, |sum, length| sum.saturating_add(u64::from(length))))
}
