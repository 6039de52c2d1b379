//! What a file says of its picture beside the pixels.

use super::orientation::Orientation;
use super::profile::Profile;

/// How the pixels lie, and what their colours mean where it is not sRGB.
#[derive(Debug, Default)]
pub(super) struct Marks {
    pub(super) orientation: Orientation,
    pub(super) profile: Option<Profile>,
}
