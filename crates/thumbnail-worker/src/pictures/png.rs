//! PNG: header from fixed places, pixels row by row.
//!
//! Invariant: a picture that is not interlaced is averaged down while it is read, so its memory is that of a few rows and of
//! the result, whatever its height. Text and animation chunks are never inflated, a colour profile only up to a limit.

use std::io::{Cursor, ErrorKind};

use png::{BitDepth, ColorType, Decoder, DecodingError, InterlaceInfo, Limits as Allowed, Transformations};

use super::format::Format;
use super::header::Marks;
use super::orientation::Orientation;
use super::pixels::{Layout, Pixels};
use super::profile::{self, Profile};
use super::refused::Refused;
use crate::stop::Stop;

/// Size and interlacing, by which decoding is weighed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) width: u32,
    pub(super) height: u32,
    interlaced: bool,
}

impl Rows {
    /// How many stored pixels, along a side, are averaged into one: what is left still covers `cover` twice.
    fn step(&self, cover: (u32, u32)) -> u32 {
        let spare = |length: u32, wanted: u32| length / wanted.saturating_mul(2).max(1);
        if self.interlaced { 1 } else { spare(self.width, cover.0).min(spare(self.height, cover.1)).max(1) }
    }

    /// How many rows the seven passes of an interlaced picture have.
    fn interlaced_rows(&self) -> u32 {
        /// The first column and row of each pass, and the steps to the next.
        const PASSES: [[u32; 4]; 7] =
            [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]];
        PASSES
            .iter()
            .filter(|[column, ..]| *column < self.width)
            .map(|[_, row, _, step]| self.height.saturating_sub(*row).div_ceil(*step))
            .sum()
    }

    pub(super) fn weight(&self, cover: (u32, u32)) -> u64 {
        let step = u64::from(self.step(cover));
        let (width, height) = (u64::from(self.width), u64::from(self.height));
        let whole = (width / step + 1) * (height / step + 1) * 4;
        // The decoder holds two raw rows and one finished row of up to 8 bytes a pixel, the average one of 16.
        let rows = width * (3 * 8 + 16) + (64 << 10);
        if self.interlaced { whole * 2 + rows } else { whole + rows }
    }
}

/// Reads the IHDR, and from the chunks that stand before the pixels how they lie and what their colours mean.
pub(super) fn read_header(bytes: &[u8]) -> Result<(Rows, Marks), Refused> {
    let truncated = || Refused::Truncated { format: Format::Png };
    let word = |at: usize| {
        let raw: [u8; 4] = bytes.get(at..at + 4).and_then(|raw| raw.try_into().ok()).ok_or_else(truncated)?;
        Ok::<_, Refused>(u32::from_be_bytes(raw))
    };
    if bytes.get(12..16).ok_or_else(truncated)? != b"IHDR" {
        return Err(damaged("its first chunk is not IHDR"));
    }
    let (width, height) = (word(16)?, word(20)?);
    let interlaced = *bytes.get(28).ok_or_else(truncated)? != 0;
    let mut orientation = Orientation::Upright;
    let (mut coded, mut icc, mut is_srgb) = (None, None, false);
    let mut at = 8_usize;
    while let (Ok(length), Some(name)) = (word(at), bytes.get(at + 4..at + 8)) {
        let end = at.saturating_add(8).saturating_add(length as usize);
        match name {
            b"IDAT" | b"IEND" => break,
            b"eXIf" => orientation = bytes.get(at + 8..end).map_or(Orientation::Upright, Orientation::of_tiff),
            b"cICP" => coded = bytes.get(at + 8..end),
            b"sRGB" => is_srgb = true,
            b"iCCP" if icc.is_none() => icc = bytes.get(at + 8..end),
            _ => {}
        }
        at = end.saturating_add(4);
        if at >= bytes.len() {
            break;
        }
    }
    let profile = match (coded, icc) {
        (Some([primaries, transfer, ..]), _) => Some(Profile::Coded { primaries: *primaries, transfer: *transfer }),
        (_, Some(body)) if !is_srgb => inflate_profile(body),
        _ => None,
    };
    Ok((Rows { width, height, interlaced }, Marks { orientation, profile }))
}

/// The profile of an `iCCP` chunk: its name, a zero, the number of the compression, and the compressed profile.
fn inflate_profile(body: &[u8]) -> Option<Profile> {
    let end = body.iter().take(80).position(|byte| *byte == 0)?;
    let packed = body.get(end + 1..)?.strip_prefix(&[0])?;
    Profile::icc(fdeflate::decompress_to_vec_bounded(packed, profile::MAX_BYTES).ok()?)
}

/// Decodes, averaging squares of stored pixels into one where `cover` leaves room for it.
pub(super) fn decode(bytes: &[u8], rows: &Rows, cover: (u32, u32), stop: &Stop) -> Result<Pixels, Refused> {
    let allowed = usize::try_from(rows.weight(cover)).unwrap_or(usize::MAX);
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Allowed { bytes: allowed });
    // Compressed text inflates to sizes that no header states; the profile has been read.
    decoder.set_ignore_text_chunk(true);
    // Checksums say that a file was changed, not that its picture is gone; browsers show it.
    decoder.ignore_checksums(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(to_refused)?;
    let (colour, depth) = reader.output_color_type();
    if depth != BitDepth::Eight {
        return Err(Refused::Unsupported { format: Format::Png, detail: format!("{depth:?} bits a channel") });
    }
    if (reader.info().width, reader.info().height) != (rows.width, rows.height) {
        return Err(damaged("it states two sizes"));
    }
    let step = rows.step(cover) as usize;
    let pixels = if rows.interlaced {
        let size = reader.output_buffer_size().ok_or_else(|| damaged("its size overflows"))?;
        let mut whole = vec![0; size];
        let row = rows.width as usize * colour.samples();
        // As below: exactly as many rows as there are.
        for _ in 0..rows.interlaced_rows() {
            let part =
                reader.next_interlaced_row().map_err(to_refused)?.ok_or(Refused::Truncated { format: Format::Png })?;
            if let InterlaceInfo::Adam7(place) = part.interlace() {
                png::expand_interlaced_row(&mut whole, row, part.data(), place, colour.samples() as u8 * 8);
            }
            if stop.is_set() {
                return Err(Refused::stopped(Format::Png));
            }
        }
        let mut averaged = Averaged::new(rows.width, rows.height, 1, colour);
        whole.chunks_exact(row).for_each(|row| averaged.take(row));
        averaged.finish()
    } else {
        let mut averaged = Averaged::new(rows.width, rows.height, step, colour);
        // Asked for exactly as many rows as there are, the decoder does not look for what follows them.
        for _ in 0..rows.height {
            let row = reader.next_row().map_err(to_refused)?.ok_or(Refused::Truncated { format: Format::Png })?;
            averaged.take(row.data());
            if stop.is_set() {
                return Err(Refused::stopped(Format::Png));
            }
        }
        averaged.finish()
    };
    // All rows have come: an end that is missing or damaged takes nothing from the picture.
    Ok(pixels)
}

/// Sums up squares of `step` by `step` pixels while rows come in.
struct Averaged {
    width: usize,
    height: usize,
    step: usize,
    colour: ColorType,
    layout: Layout,
    sums: Vec<[u32; 4]>,
    taken: usize,
    bytes: Vec<u8>,
}

impl Averaged {
    fn new(width: u32, height: u32, step: usize, colour: ColorType) -> Self {
        let layout = match colour {
            ColorType::Grayscale | ColorType::Rgb | ColorType::Indexed => Layout::Rgb,
            ColorType::GrayscaleAlpha | ColorType::Rgba => Layout::Rgba,
        };
        let (width, height) = (width as usize / step, height as usize / step);
        let sums = if step > 1 { vec![[0; 4]; width] } else { Vec::new() };
        Self {
            width,
            height,
            step,
            colour,
            layout,
            sums,
            taken: 0,
            bytes: Vec::with_capacity(width * height * layout.bytes()),
        }
    }

    /// Takes the next row of stored pixels; rows and columns that do not fill a square at the far edges are left out.
    fn take(&mut self, row: &[u8]) {
        if self.taken / self.step >= self.height {
            return;
        }
        let samples = self.colour.samples();
        let pixels = row.chunks_exact(samples);
        if self.step == 1 {
            match self.colour {
                ColorType::Grayscale | ColorType::Indexed => {
                    pixels.for_each(|p| self.bytes.extend_from_slice(&[p[0]; 3]));
                }
                ColorType::GrayscaleAlpha => {
                    pixels.for_each(|p| self.bytes.extend_from_slice(&[p[0], p[0], p[0], p[1]]));
                }
                ColorType::Rgb | ColorType::Rgba => self.bytes.extend_from_slice(row),
            }
            self.taken += 1;
            return;
        }
        for (sum, square) in self.sums.iter_mut().zip(row.chunks_exact(samples * self.step)) {
            for p in square.chunks_exact(samples) {
                let [red, green, blue, alpha] = match self.colour {
                    ColorType::Grayscale | ColorType::Indexed => [p[0], p[0], p[0], 255],
                    ColorType::GrayscaleAlpha => [p[0], p[0], p[0], p[1]],
                    ColorType::Rgb => [p[0], p[1], p[2], 255],
                    ColorType::Rgba => [p[0], p[1], p[2], p[3]],
                }
                .map(u32::from);
                // Weighted by opacity, so that the colour under a clear pixel does not bleed.
                sum[0] += red * alpha;
                sum[1] += green * alpha;
                sum[2] += blue * alpha;
                sum[3] += alpha;
            }
        }
        self.taken += 1;
        if self.taken.is_multiple_of(self.step) {
            let count = (self.step * self.step) as u32;
            for sum in &mut self.sums {
                let opacity = sum[3].max(1);
                let colour = [sum[0], sum[1], sum[2]].map(|sum| ((sum + opacity / 2) / opacity) as u8);
                self.bytes.extend_from_slice(&colour);
                if self.layout == Layout::Rgba {
                    self.bytes.push(((sum[3] + count / 2) / count) as u8);
                }
                *sum = [0; 4];
            }
        }
    }

    fn finish(mut self) -> Pixels {
        // A decoder that gave fewer rows than it stated has failed already; whoever reads the buffer counts on its length.
        self.bytes.resize(self.width * self.height * self.layout.bytes(), 0);
        Pixels { width: self.width as u32, height: self.height as u32, layout: self.layout, bytes: self.bytes }
    }
}

fn damaged(detail: &str) -> Refused {
    Refused::Damaged { format: Format::Png, detail: detail.to_owned() }
}

fn to_refused(error: DecodingError) -> Refused {
    match error {
        DecodingError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Refused::Truncated { format: Format::Png }
        }
        DecodingError::LimitsExceeded => Refused::TooMuchWork {
            format: Format::Png,
            detail: "it needs more memory than its size explains".to_owned(),
        },
        other => damaged(&other.to_string()),
    }
}
