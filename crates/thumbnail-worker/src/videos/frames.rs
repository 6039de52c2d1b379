//! The poster frame of an H.264 video in MP4, decoded in process.
//!
//! Invariant: every parameter set is read and measured before the decoder gets it, and all must have the size that was admitted,
//! so a stream cannot grow once it has been let in. When no frame within the limits is bright enough, the brightest one is
//! the poster: a film that is dark throughout still has a picture. A frame that the edit list skips is decoded and not shown.

use std::ops::Range;

use openh264::OpenH264API;
use openh264::decoder::{DecodedYUV, Decoder, DecoderConfig, Flush};
use openh264::formats::YUVSource;

use super::brightness::Brightness;
use super::colour::{ColourDescription, Planes};
use super::light::ToSrgb;
use super::missing::Missing;
use super::mp4::{self, Avc, Shown, Track};
use super::sps::Sps;
use super::units::{self, SPS, unit_type};
use crate::pictures::{Orientation, Pixels, fit};

/// Bounds of the search for a poster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The highest number of pixels of one frame.
    pub frame_pixels: u64,
    /// How many frames are decoded before the brightest one so far is taken.
    pub frames: usize,
    /// How many pixels are decoded in all before the brightest frame so far is taken.
    pub pixels: u64,
}

impl Default for Limits {
    /// 36,864 macroblocks a frame (H.264 level 5.2), 300 frames, and 600 megapixels in all.
    fn default() -> Self {
        Self { frame_pixels: 36_864 * 256, frames: 300, pixels: 600_000_000 }
    }
}

/// A video whose frames can be decoded here, its sizes checked.
#[derive(Debug)]
pub struct Video<'a> {
    track: Track<'a>,
    avc: Avc<'a>,
    sps: Sps,
    colour: ColourDescription,
    limits: Limits,
}

/// The frame that stands for a video.
#[derive(Clone, Debug, PartialEq)]
pub struct Poster {
    /// The frame at its display size, in sRGB, before turning.
    pub pixels: Pixels,
    /// How it is to be turned.
    pub orientation: Orientation,
    /// Its brightness.
    pub brightness: Brightness,
    /// Which frame it is, from 0, in playing order, of those that are presented.
    pub frame: usize,
}

/// Opens a video without decoding anything.
///
/// # Errors
/// [`Missing`] when the file is not H.264 in MP4, is damaged, or its frames are too large.
pub fn open<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Video<'a>, Missing> {
    let track = mp4::video_track(bytes)?;
    if track.fragmented {
        return Err(Missing::OtherContainer("fragmented MP4"));
    }
    let name = || String::from_utf8_lossy(&track.codec).trim().to_owned();
    let avc = track.avc.clone().ok_or_else(|| Missing::OtherCodec(name()))?;
    let mut admitted: Option<Sps> = None;
    for unit in avc.parameter_sets.iter().filter(|unit| unit_type(unit) == Some(SPS)) {
        let sps = Sps::read(unit).ok_or_else(|| Missing::Damaged("its H.264 parameters cannot be read".to_owned()))?;
        if u64::from(sps.width) * u64::from(sps.height) > limits.frame_pixels {
            return Err(Missing::TooLarge { width: sps.width, height: sps.height, limit: limits.frame_pixels });
        }
        if admitted.is_some_and(|first| (first.width, first.height) != (sps.width, sps.height)) {
            return Err(Missing::Damaged("its H.264 parameters state two sizes".to_owned()));
        }
        // The heaviest is what is weighed; that one alone is not plain makes the stream one for another decoder.
        admitted = Some(match admitted {
            Some(first) if first.references >= sps.references && sps.plain => first,
            Some(first) => Sps { plain: first.plain && sps.plain, ..sps },
            None => sps,
        });
    }
    // Parameters only within the stream (avc3), or a profile beyond 8-bit 4:2:0: for another decoder.
    let sps = admitted.ok_or_else(|| Missing::OtherCodec(format!("{} without parameters", name())))?;
    if !sps.plain {
        return Err(Missing::OtherCodec(format!("{} beyond progressive 8-bit 4:2:0", name())));
    }
    let colour = sps.colour.or(track.colour);
    Ok(Video { track, avc, sps, colour, limits: *limits })
}

impl Video<'_> {
    /// The memory, in bytes, that finding the poster holds at one time at the highest.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.sps.weight()
    }

    /// The size at which the frames are to be seen, before turning.
    #[must_use]
    pub fn display(&self) -> (u32, u32) {
        super::display_size(self.track.width, self.track.height, self.pixel_aspect())
    }

    fn pixel_aspect(&self) -> Option<(u32, u32)> {
        self.track.pixel_aspect.or(self.sps.pixel_aspect)
    }

    /// Finds the first presented frame that is not nearly black.
    ///
    /// # Errors
    /// [`Missing`] when no frame can be decoded.
    pub fn poster(&self) -> Result<Poster, Missing> {
        let failed = |error: openh264::Error| Missing::Undecoded(error.to_string());
        let run = self.presented_run();
        let config = DecoderConfig::new().flush_after_decode(Flush::NoFlush);
        let mut decoder = Decoder::with_api_config(OpenH264API::from_source(), config).map_err(failed)?;
        let mut search = Search { video: self, run: &run, decoded: 0, seen: 0, best: None };
        let mut packet = Vec::new();
        for unit in &self.avc.parameter_sets {
            units::append(&mut packet, unit)?;
        }
        let mut failure = None;
        for sample in self.track.samples().skip(run.start).take(run.times.len()) {
            self.append_sample(&mut packet, sample)?;
            match decoder.decode(&packet) {
                Ok(Some(frame)) => {
                    if search.offer(&frame) {
                        return search.finish(failure);
                    }
                }
                Ok(None) => {}
                // A broken frame is passed over: later ones may be whole.
                Err(error) => failure = Some(error),
            }
            packet.clear();
        }
        // Frames that were held back for reordering.
        for frame in decoder.flush_remaining().map_err(failed)? {
            if search.offer(&frame) {
                break;
            }
        }
        search.finish(failure)
    }

    /// The samples to decode: from the key frame that the first presented one needs, as many as the limits allow.
    fn presented_run(&self) -> Run {
        let per_frame = u64::from(self.sps.width) * u64::from(self.sps.height);
        let affordable = usize::try_from(self.limits.pixels / per_frame.max(1)).unwrap_or(usize::MAX);
        let count = self.limits.frames.min(affordable);
        let presented = self.track.timing.presented();
        let (mut key, mut start) = (0, None);
        for Shown { sample, at, key: is_key } in self.track.timing.shown() {
            if is_key {
                key = sample;
            }
            if presented.contains(&at) {
                start = Some(key);
                break;
            }
        }
        // An edit list that shows nothing, or a table of times that is missing, is taken for none.
        let Some(start) = start else { return Run { start: 0, times: vec![0; count], presented: 0..i64::MAX } };
        let run = self.track.timing.shown().skip(start).take(count);
        let mut times: Vec<i64> = run.map(|shown| shown.at).collect();
        times.sort_unstable();
        Run { start, times, presented }
    }

    /// Appends the units of one sample with start codes in place of lengths.
    fn append_sample(&self, packet: &mut Vec<u8>, mut sample: &[u8]) -> Result<(), Missing> {
        let width = self.avc.length_bytes;
        while let Some(length) = sample.get(..width) {
            let length = length.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
            let Some(unit) = sample.get(width..width.saturating_add(length)) else { break };
            if unit_type(unit) == Some(SPS) {
                let admitted = Sps::read(unit).is_some_and(|sps| {
                    let same = (sps.width, sps.height) == (self.sps.width, self.sps.height);
                    same && sps.plain && sps.references <= self.sps.references
                });
                if !admitted {
                    return Err(Missing::Damaged("its frames change their size".to_owned()));
                }
            }
            units::append(packet, unit)?;
            sample = &sample[width + length..];
        }
        Ok(())
    }
}

/// Samples that are decoded one after another.
struct Run {
    /// The first one, which decoding can begin with.
    start: usize,
    /// When their frames are shown, in playing order: that is the order in which the decoder gives them.
    times: Vec<i64>,
    /// The times that are presented.
    presented: Range<i64>,
}

/// The best frame so far, as the decoder gave it: colours are computed of the chosen one only.
struct Search<'a> {
    video: &'a Video<'a>,
    run: &'a Run,
    /// Frames that the decoder gave.
    decoded: usize,
    /// Those of them that are presented.
    seen: usize,
    best: Option<Kept>,
}

/// A copy of a frame, since the decoder uses its own again.
struct Kept {
    size: (usize, usize),
    planes: [Vec<u8>; 3],
    strides: [usize; 3],
    brightness: Brightness,
    frame: usize,
}

impl Search<'_> {
    /// Compares the next frame in playing order with the best one; true when it is the poster.
    fn offer(&mut self, frame: &DecodedYUV<'_>) -> bool {
        let at = self.run.times.get(self.decoded).copied().unwrap_or_default();
        self.decoded += 1;
        if !self.run.presented.contains(&at) {
            return false;
        }
        let (width, height) = frame.dimensions();
        let (y, u, v) = frame.strides();
        let planes = Planes { width, height, planes: [frame.y(), frame.u(), frame.v()], strides: [y, u, v] };
        let rows = (0..height).step_by(4).map_while(|row| planes.luma(row));
        let brightness = Brightness::measure(rows, self.video.colour.full_range);
        let lit = !brightness.is_nearly_black();
        if lit || self.best.as_ref().is_none_or(|best| brightness.mean > best.brightness.mean) {
            let copies = planes.planes.map(<[u8]>::to_vec);
            let strides = planes.strides;
            self.best = Some(Kept { size: (width, height), planes: copies, strides, brightness, frame: self.seen });
        }
        self.seen += 1;
        lit
    }

    fn finish(self, failure: Option<openh264::Error>) -> Result<Poster, Missing> {
        let kept = self.best.ok_or_else(|| {
            let detail = failure.map_or_else(|| "it holds no frame".to_owned(), |error| error.to_string());
            Missing::Undecoded(detail)
        })?;
        let [y, u, v] = &kept.planes;
        let (width, height) = kept.size;
        let planes = Planes { width, height, planes: [y, u, v], strides: kept.strides };
        let description = self.video.colour;
        let pixels = planes.to_rgb(description).ok_or_else(|| Missing::Undecoded("a frame is not whole".to_owned()))?;
        let pixels = match ToSrgb::of(description) {
            Some(to_srgb) => to_srgb.frame(pixels),
            None => pixels,
        };
        let (width, height) = super::display_size(pixels.width, pixels.height, self.video.pixel_aspect());
        let pixels = fit::stretch(pixels, width, height);
        Ok(Poster { pixels, orientation: self.video.track.orientation, brightness: kept.brightness, frame: kept.frame })
    }
}
