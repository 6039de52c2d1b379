//! Sizes in pixels, and what a shape and a resolution come to.
//!
//! Invariant: the size of a film has even edges, as its chroma is half as wide and half as high.

/// The shapes that can be asked for, width before height.
pub(super) const SHAPES: [(&str, [usize; 2]); 6] =
    [("16:9", [16, 9]), ("9:16", [9, 16]), ("1:1", [1, 1]), ("4:3", [4, 3]), ("3:4", [3, 4]), ("21:9", [21, 9])];

/// The resolutions of stills, each with its short edge in pixels.
pub(super) const STILLS: [(&str, usize); 6] =
    [("144p", 144), ("240p", 240), ("360p", 360), ("480p", 480), ("720p", 720), ("1080p", 1_080)];

/// The resolutions of films: all but the largest.
pub(super) const FILMS: &[(&str, usize)] = STILLS.split_at(5).0;

/// A size in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) width: usize,
    pub(super) height: usize,
}

impl Size {
    /// A shape whose short edge has `short` pixels, an even number; the long one is rounded to the next even number.
    pub(super) fn of_shape([across, down]: [usize; 2], short: usize) -> Self {
        let long = |more: usize, less: usize| 2 * ((short * more + less) / (2 * less));
        if across >= down {
            Self { width: long(across, down), height: short }
        } else {
            Self { width: short, height: long(down, across) }
        }
    }

    /// The short edge.
    pub(super) fn short(self) -> usize {
        self.width.min(self.height)
    }

    pub(super) fn pixels(self) -> usize {
        self.width * self.height
    }
}
