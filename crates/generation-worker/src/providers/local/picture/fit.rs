//! From decoded pixels to those that are shown: cut, resized, turned upright, on black.
//!
//! Invariant: the result has exactly the size that is asked for, filled to its edges.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::pixels::{Layout, Pixels};
use crate::providers::local::size::Size;

/// Red, green and blue bytes in this size, upright.
pub(super) fn fit(pixels: Pixels, size: Size) -> Result<Vec<u8>, String> {
    let (orientation, layout) = (pixels.orientation, pixels.layout);
    let (width, height) = orientation.turned(size.width as u32, size.height as u32);
    let resized = resize(pixels, width, height).map_err(|error| format!("it cannot be resized: {error}"))?;
    // What is clear lies on black.
    let over = |part: u8, alpha: u8| (u16::from(part) * u16::from(alpha) / 255) as u8;
    let rgb = match layout {
        Layout::Rgb => resized,
        Layout::Grey => resized.iter().flat_map(|grey| [*grey; 3]).collect(),
        Layout::GreyAlpha => resized.chunks_exact(2).flat_map(|pixel| [over(pixel[0], pixel[1]); 3]).collect(),
        Layout::Rgba => resized.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]].map(|part| over(part, p[3]))).collect(),
        Layout::Cmyk => {
            let pixels = resized.chunks_exact(4);
            pixels.flat_map(|p| [p[0], p[1], p[2]].map(|ink| over(255 - ink, 255 - p[3]))).collect()
        }
    };
    // Turning comes after resizing: it copies pixel by pixel, and by then there are few.
    Ok(orientation.apply(rgb, size.width, size.height))
}

fn resize(pixels: Pixels, width: u32, height: u32) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    if (pixels.width, pixels.height) == (width, height) {
        return Ok(pixels.bytes);
    }
    let kind = match pixels.layout {
        Layout::Grey => PixelType::U8,
        Layout::GreyAlpha => PixelType::U8x2,
        Layout::Rgb => PixelType::U8x3,
        Layout::Rgba | Layout::Cmyk => PixelType::U8x4,
    };
    let mut target = Image::new(width, height, kind);
    let source = ImageRef::new(pixels.width, pixels.height, &pixels.bytes, kind)?;
    let options = ResizeOptions::new()
        .fit_into_destination(None)
        .resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3))
        .use_alpha(pixels.layout != Layout::Cmyk);
    Resizer::new().resize(&source, &mut target, &options)?;
    Ok(target.into_vec())
}
