//! From decoded pixels to the finished WebP: crop, resize, turn upright, encode.
//!
//! Invariant: the result has exactly the size that the spec asks for, filled to its edges, whatever shape the picture has.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::orientation::Orientation;
use super::pixels::{Layout, Pixels};
use crate::model::Spec;

/// Renders decoded `pixels`, which lie as `orientation` says, as a WebP file of `spec`.
#[must_use]
pub fn render_webp(pixels: Pixels, orientation: Orientation, spec: &Spec) -> Vec<u8> {
    encode(&fit(pixels, orientation, spec), spec.quality)
}

/// Cuts and resizes decoded `pixels`, which lie as `orientation` says, to the size of `spec`, and turns them upright.
#[must_use]
pub(super) fn fit(pixels: Pixels, orientation: Orientation, spec: &Spec) -> Pixels {
    let (width, height) = orientation.turned(spec.width, spec.height);
    // Turning comes after resizing: it copies pixel by pixel, and by then there are few.
    orientation.apply(resize(pixels, width, height))
}

/// Resizes `pixels`, which lie as `orientation` says, so that their longer side is at most `side`, and turns them upright. Smaller
/// ones keep their size.
#[must_use]
pub(crate) fn within(pixels: Pixels, orientation: Orientation, side: u32) -> Pixels {
    let longer = pixels.width.max(pixels.height);
    if longer <= side {
        return orientation.apply(pixels);
    }
    let shrunk = |length: u32| {
        let (length, side, longer) = (u64::from(length), u64::from(side), u64::from(longer));
        ((length * side + longer / 2) / longer).max(1) as u32
    };
    let (width, height) = (shrunk(pixels.width), shrunk(pixels.height));
    orientation.apply(stretch(pixels, width, height))
}

/// Resizes `pixels` to exactly this size, whatever that does to their shape.
#[must_use]
pub(crate) fn stretch(pixels: Pixels, width: u32, height: u32) -> Pixels {
    resize_with(pixels, width, height, ResizeOptions::new())
}

/// Cuts `pixels` evenly to the shape of the target and resizes with a Lanczos filter.
fn resize(pixels: Pixels, width: u32, height: u32) -> Pixels {
    resize_with(pixels, width, height, ResizeOptions::new().fit_into_destination(None))
}

fn resize_with(pixels: Pixels, width: u32, height: u32, options: ResizeOptions) -> Pixels {
    if (pixels.width, pixels.height) == (width, height) {
        return pixels;
    }
    let kind = match pixels.layout {
        Layout::Rgb => PixelType::U8x3,
        Layout::Rgba => PixelType::U8x4,
    };
    let mut target = Image::new(width, height, kind);
    let options = options.resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3));
    let source = ImageRef::new(pixels.width, pixels.height, &pixels.bytes, kind)
        .expect("a decoder gave as many bytes as its width, height and layout say");
    Resizer::new()
        .resize(&source, &mut target, &options)
        .expect("source and target have the same layout and no side is empty");
    Pixels { width, height, layout: pixels.layout, bytes: target.into_vec() }
}

/// Encodes as lossy WebP.
#[must_use]
pub(crate) fn encode(pixels: &Pixels, quality: u8) -> Vec<u8> {
    let layout = match pixels.layout {
        Layout::Rgb => webp::PixelLayout::Rgb,
        Layout::Rgba => webp::PixelLayout::Rgba,
    };
    webp::Encoder::new(&pixels.bytes, layout, pixels.width, pixels.height)
        .encode_simple(false, f32::from(quality))
        .expect("a side from 16 to 1,024 and a quality from 1 to 100 always encode, short of memory")
        .to_vec()
}
