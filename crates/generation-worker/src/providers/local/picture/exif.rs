//! EXIF orientation, which says how a camera was held.
//!
//! Invariant: a damaged EXIF block means "upright", never an error.

/// How stored pixels are brought upright: first mirrored along the main diagonal, then left to right, then top to bottom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Orientation {
    pub(super) transposed: bool,
    pub(super) mirrored: bool,
    pub(super) flipped: bool,
}

impl Orientation {
    /// Reads the orientation out of a TIFF block, as EXIF has it; upright where there is none.
    pub(super) fn of_tiff(tiff: &[u8]) -> Self {
        let number = read_tag(tiff.strip_prefix(b"Exif\0\0").unwrap_or(tiff), 0x0112).unwrap_or(1);
        let [transposed, mirrored, flipped] = match number {
            2 => [false, true, false],
            3 => [false, true, true],
            4 => [false, false, true],
            5 => [true, false, false],
            6 => [true, true, false],
            7 => [true, true, true],
            8 => [true, false, true],
            _ => [false; 3],
        };
        Self { transposed, mirrored, flipped }
    }

    /// A size before or after turning.
    pub(super) fn turned<T>(self, width: T, height: T) -> (T, T) {
        if self.transposed { (height, width) } else { (width, height) }
    }

    /// Brings pixels of three bytes upright; `width` and `height` are those that they have then.
    pub(super) fn apply(self, pixels: Vec<u8>, width: usize, height: usize) -> Vec<u8> {
        if self == Self::default() {
            return pixels;
        }
        let stored_width = self.turned(width, height).0;
        let mut upright = Vec::with_capacity(pixels.len());
        for y in 0..height {
            for x in 0..width {
                let x = if self.mirrored { width - 1 - x } else { x };
                let y = if self.flipped { height - 1 - y } else { y };
                let (x, y) = self.turned(x, y);
                upright.extend_from_slice(&pixels[(y * stored_width + x) * 3..][..3]);
            }
        }
        upright
    }
}

/// The first value of a tag of the type SHORT in the first directory of a TIFF block.
fn read_tag(tiff: &[u8], wanted: u16) -> Option<u16> {
    let little = match tiff.get(..4)? {
        [b'I', b'I', 42, 0] => true,
        [b'M', b'M', 0, 42] => false,
        _ => return None,
    };
    let u16_at = |at: usize| {
        let raw = tiff.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if little { u16::from_le_bytes(raw) } else { u16::from_be_bytes(raw) })
    };
    let high = u16_at(if little { 6 } else { 4 })?;
    let low = u16_at(if little { 4 } else { 6 })?;
    let directory = usize::from(high) << 16 | usize::from(low);
    let entries = usize::from(u16_at(directory)?);
    let mut places = (0..entries).map(|n| directory + 2 + n * 12);
    let entry = places.find(|at| u16_at(*at) == Some(wanted))?;
    if u16_at(entry + 2)? == 3 { u16_at(entry + 8) } else { None }
}
