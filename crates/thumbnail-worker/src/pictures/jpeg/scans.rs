//! The scans of a JPEG: how much work they are, and where the picture ends.
//!
//! Invariant: what decoding costs is bounded by the scans' own headers before any of them is decoded. A scan visits each of its
//! blocks whether or not there is a byte of data for it, so their number alone says little: a few kilobytes of headers can ask for
//! hours.

use super::frame::next_segment;
use crate::pictures::format::Format;
use crate::pictures::refused::Refused;

/// The highest number of scans: the encoders in use write about ten, the most ambitious a few dozen.
const MAX_SCANS: usize = 100;
/// The highest work of all scans for each block of the picture: those of the encoders in use come to about 15, and to 30 for those
/// that split a picture as finely as they can.
const MAX_WORK: u64 = 48;
/// Work that is always allowed, in blocks: a few hundredths of a second.
const SMALL: u64 = 1 << 21;

/// What a frame header says of one component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Component {
    pub(super) id: u8,
    /// Blocks in it, padded to whole units.
    pub(super) blocks: u64,
}

/// The scans of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scans {
    count: usize,
    /// Blocks visited, each as often as scans visit it, more where a visit costs more.
    work: u64,
    /// The length of the file up to its end-of-image marker, that included; nothing when the marker is missing.
    pub(super) end: Option<usize>,
    /// Whether nothing but that marker follows the first scan.
    pub(super) alone: bool,
    /// Whether the scans bring all coefficients of all components to their last bit, as far as their headers say.
    pub(super) complete: bool,
}

impl Scans {
    /// Walks the scans of `bytes` from the first one, whose header is `body` and whose data begins at `at`. Stops once there are
    /// too many.
    pub(super) fn read(bytes: &[u8], mut at: usize, body: &[u8], components: &[Component]) -> Self {
        let mut scans = Self { alone: true, ..Self::default() };
        let mut brought = vec![0_u64; components.len()];
        scans.add(body, components, &mut brought);
        skip_data(bytes, &mut at);
        while let Some((marker, body)) = next_segment(bytes, &mut at) {
            match marker {
                0xD9 => {
                    scans.end = Some(at);
                    break;
                }
                0xDA => {
                    scans.add(body, components, &mut brought);
                    if scans.count > MAX_SCANS {
                        break;
                    }
                    skip_data(bytes, &mut at);
                }
                _ => {}
            }
            scans.alone = false;
        }
        scans.complete = brought.iter().all(|coefficients| *coefficients == u64::MAX);
        scans
    }

    /// Adds a scan by its header; `brought` has a bit for each coefficient of each component that is there in full.
    fn add(&mut self, body: &[u8], components: &[Component], brought: &mut [u64]) {
        self.count += 1;
        let Some((count, rest)) = body.split_first() else { return };
        let (chosen, rest) = rest.split_at(rest.len().min(usize::from(*count) * 2));
        let [first, last, approximation, ..] = *rest else { return };
        for part in chosen.chunks_exact(2) {
            let Some(n) = components.iter().position(|component| component.id == part[0]) else { continue };
            // A refining visit goes through all coefficients that it refines.
            let eighths = if approximation >> 4 > 0 { 8 + u64::from(last.saturating_sub(first)) } else { 8 };
            self.work = self.work.saturating_add(components[n].blocks * eighths / 8);
            if approximation & 15 == 0 {
                brought[n] |= (first..=last.min(63)).fold(0, |bits, coefficient| bits | 1 << (coefficient & 63));
            }
        }
    }

    /// Refuses more work than any encoder makes of a picture with so many blocks.
    pub(super) fn refuse_slow(&self, blocks: u64) -> Result<(), Refused> {
        let detail = if self.count > MAX_SCANS {
            format!("it has more than {MAX_SCANS} scans")
        } else if self.work > (blocks * MAX_WORK).max(SMALL) {
            format!("its {} scans visit each part of it {} times", self.count, self.work / blocks.max(1))
        } else {
            return Ok(());
        };
        Err(Refused::TooMuchWork { format: Format::Jpeg, detail })
    }
}

/// Moves to the next marker that is none of those within coded data.
fn skip_data(bytes: &[u8], at: &mut usize) {
    while let Some(found) = bytes.get(*at..).and_then(|rest| rest.iter().position(|byte| *byte == 0xFF)) {
        *at += found;
        match bytes.get(*at + 1) {
            Some(0x00 | 0xD0..=0xD7) => *at += 2,
            Some(0xFF) => *at += 1,
            _ => return,
        }
    }
    *at = bytes.len();
}
