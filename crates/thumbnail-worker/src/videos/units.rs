//! H.264's units on their way to the decoder: which kinds it gets, and that each stays one unit there.
//!
//! Invariant: the decoder sees exactly the units that were measured. It finds units by their start codes, so a payload that holds
//! a start code would be two units for it and one for the measuring; no encoder writes such a payload, since 00 00 01 is
//! escaped within a unit.

use super::missing::Missing;

/// The type of a unit with a sequence parameter set.
pub(super) const SPS: u8 = 7;

/// Types that the decoder gets: slices, parameter sets and delimiters. What belongs to scalable and multi-view streams (14, 15,
/// 20) states sizes of its own, and nothing else is needed for a picture.
const PASSED: [u8; 5] = [1, 5, SPS, 8, 9];

/// The type of a unit.
pub(super) fn unit_type(unit: &[u8]) -> Option<u8> {
    unit.first().map(|header| header & 0x1F)
}

/// Appends a unit behind a start code, or leaves it out when its type is not passed.
///
/// # Errors
/// [`Missing::Damaged`] when its payload holds a start code.
pub(super) fn append(packet: &mut Vec<u8>, unit: &[u8]) -> Result<(), Missing> {
    if !unit_type(unit).is_some_and(|kind| PASSED.contains(&kind)) {
        return Ok(());
    }
    if unit.windows(3).any(|bytes| bytes == [0, 0, 1]) {
        return Err(Missing::Damaged("an H.264 unit holds a start code, and so another unit".to_owned()));
    }
    packet.extend_from_slice(&[0, 0, 0, 1]);
    packet.extend_from_slice(unit);
    Ok(())
}
