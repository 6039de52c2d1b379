//! The poster frame of an H.264 video in MP4, decoded in process.
//!
//! Invariant: every parameter set is read and measured before the decoder gets it, and all must have the size that was admitted,
//! so a stream cannot grow once it has been let in. When no frame within the limits is good, the best one is the poster: a film
//! that is dark throughout still has a picture. A frame that the edit list skips is decoded and not shown.

use std::ops::Range;

use openh264::OpenH264API;
use openh264::decoder::{DecodedYUV, Decoder, DecoderConfig, Flush};
use openh264::formats::YUVSource;

use super::appearance::Appearance;
use super::brightness::{Brightness, to_full_range};
use super::chooser::Chooser;
use super::colour::{ColourDescription, Planes};
use super::container_of;
use super::light::ToSrgb;
use super::missing::Missing;
use super::mp4::{self, Avc, Shown, Track};
use super::shape::display_size;
use super::sps::Sps;
use super::units::{self, SPS, unit_type};
use crate::formats::{Container, Index};
use crate::pictures::{Orientation, Pixels, fit};
use crate::source::Source;
use crate::stop::Stop;

/// Bounds of the search for a poster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The highest number of pixels of one frame.
    pub frame_pixels: u64,
    /// How many frames are decoded before the best one so far is taken.
    pub frames: usize,
    /// How many pixels are decoded in all before the best frame so far is taken.
    pub pixels: u64,
}

impl Default for Limits {
    /// 36,864 macroblocks a frame (H.264 level 5.2), 300 frames, and 600 megapixels in all.
    fn default() -> Self {
        Self { frame_pixels: 36_864 * 256, frames: 300, pixels: 600_000_000 }
    }
}

/// A video whose frames can be decoded here, its sizes checked.
pub struct Video<'a> {
    file: Box<dyn Source + 'a>,
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
    open_track(mp4::video_track(bytes)?, Box::new(bytes), limits)
}

/// Opens a video in a file, whose index has been read, without decoding anything.
///
/// # Errors
/// [`Missing`] as [`open`] does.
pub(crate) fn open_file<'a>(index: &'a Index, file: &'a dyn Source, limits: &Limits) -> Result<Video<'a>, Missing> {
    match container_of(file) {
        Some(Container::Mp4 | Container::Mov) => {}
        Some(Container::Webm) => return Err(Missing::OtherContainer("WebM")),
        None => return Err(Missing::NotAVideo),
    }
    let movie = index.movie.as_deref().ok_or_else(|| Missing::Damaged("it has no index (moov)".to_owned()))?;
    open_track(mp4::video_track_in(movie, &index.fragments)?, Box::new(file), limits)
}

fn open_track<'a>(track: Track<'a>, file: Box<dyn Source + 'a>, limits: &Limits) -> Result<Video<'a>, Missing> {
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
    Ok(Video { file, track, avc, sps, colour, limits: *limits })
}

impl Video<'_> {
    /// The memory, in bytes, that finding the poster holds at one time at the highest: the decoder's, and copies of the frames that
    /// wait for their neighbours.
    #[must_use]
    pub fn weight(&self) -> u64 {
        let copies = u64::from(self.sps.width) * u64::from(self.sps.height) * 3 / 2 * (2 * REACH as u64 + 2);
        // A sample as it is in the file, and as the decoder gets it.
        self.sps.weight() + copies + 2 * self.file.length().min(MAX_SAMPLE)
    }

    /// The size at which the frames are to be seen, before turning.
    #[must_use]
    pub fn display(&self) -> (u32, u32) {
        display_size(self.track.width, self.track.height, self.pixel_aspect())
    }

    fn pixel_aspect(&self) -> Option<(u32, u32)> {
        self.track.pixel_aspect.or(self.sps.pixel_aspect)
    }

    /// Finds the best frame of the first third; where none there is good, it goes on to the first that is.
    ///
    /// # Errors
    /// [`Missing`] when no frame can be decoded, or the work is told to stop.
    pub fn poster(&self, stop: &Stop) -> Result<Poster, Missing> {
        let failed = |error: openh264::Error| Missing::Undecoded(error.to_string());
        let mut search = Search { video: self, decoded: 0, chooser: Chooser::new(REACH), failure: None };
        for run in self.plan() {
            let config = DecoderConfig::new().flush_after_decode(Flush::NoFlush);
            let mut decoder = Decoder::with_api_config(OpenH264API::from_source(), config).map_err(failed)?;
            search.decode(&mut decoder, &run, stop)?;
            search.chooser.cut();
        }
        search.finish()
    }

    /// The samples to decode, in stretches that each begin with a key frame: all from the first presented one on where so many may
    /// be, else a few behind each of some key frames of the first third.
    fn plan(&self) -> Vec<Run> {
        let per_frame = u64::from(self.sps.width) * u64::from(self.sps.height);
        let affordable = usize::try_from(self.limits.pixels / per_frame.max(1)).unwrap_or(usize::MAX);
        let count = self.limits.frames.min(affordable);
        let presented = self.track.timing.presented();
        let third = self.track.timing.ticks(self.track.duration / 3).max(1);
        let (mut key, mut start, mut keys, mut within) = (0, None, Vec::new(), 0);
        for Shown { sample, at, key: is_key } in self.track.timing.shown() {
            if is_key {
                key = sample;
            }
            if presented.contains(&at) {
                start = start.or(Some(key));
                if at >= third {
                    break;
                }
                within += 1;
                if is_key {
                    keys.push(sample);
                }
            }
        }
        // An edit list that shows nothing, or a table of times that is missing, is taken for none.
        let Some(start) = start else {
            return vec![Run { start: 0, times: vec![0; count], presented: 0..i64::MAX, third: 0 }];
        };
        let run = |start: usize, count: usize| {
            let mut times: Vec<i64> = self.track.timing.shown().skip(start).take(count).map(|shown| shown.at).collect();
            times.sort_unstable();
            Run { start, times, presented: presented.clone(), third }
        };
        let stretches = count / STRETCH;
        if within <= count || keys.len() < 2 || stretches < 2 {
            return vec![run(start, count)];
        }
        let chosen = keys.iter().step_by(keys.len().div_ceil(stretches));
        chosen.map(|key| run(*key, STRETCH)).collect()
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
    /// The time up to which the best frame is searched for; behind it the first good one does.
    third: i64,
}

/// The longest sample that is decoded, in bytes: more than a frame of the highest level takes.
const MAX_SAMPLE: u64 = 8 << 20;
/// How many frames lie between one and those that it is compared with: a twelfth of a second.
const REACH: usize = 2;
/// Frames of a stretch where not all can be decoded.
const STRETCH: usize = 12;

/// The search over the frames as the decoder gives them: colours are computed of the chosen one only.
struct Search<'a> {
    video: &'a Video<'a>,
    /// Frames that the decoder gave of the run at hand.
    decoded: usize,
    chooser: Chooser<Kept>,
    failure: Option<openh264::Error>,
}

/// A copy of a frame, since the decoder uses its own again.
struct Kept {
    size: (usize, usize),
    planes: [Vec<u8>; 3],
    strides: [usize; 3],
}

impl Search<'_> {
    fn decode(&mut self, decoder: &mut Decoder, run: &Run, stop: &Stop) -> Result<(), Missing> {
        let video = self.video;
        let (mut packet, mut sample) = (Vec::new(), Vec::new());
        for unit in &video.avc.parameter_sets {
            units::append(&mut packet, unit)?;
        }
        self.decoded = 0;
        for place in video.track.samples().skip(run.start).take(run.times.len()) {
            if stop.is_set() {
                return Err(Missing::Stopped);
            }
            // The file ends early.
            if place.end > video.file.length() {
                break;
            }
            let length = place.end - place.start;
            if length > MAX_SAMPLE {
                return Err(Missing::Undecoded(format!("a frame has {length} bytes")));
            }
            sample.resize(length as usize, 0);
            let read = video.file.read_at(place.start, &mut sample);
            read.map_err(|error| Missing::Undecoded(error.to_string()))?;
            video.append_sample(&mut packet, &sample)?;
            match decoder.decode(&packet) {
                Ok(Some(frame)) => {
                    if self.offer(&frame, run) {
                        return Ok(());
                    }
                }
                Ok(None) => {}
                // A broken frame is passed over: later ones may be whole.
                Err(error) => self.failure = Some(error),
            }
            packet.clear();
        }
        // Frames that were held back for reordering.
        for frame in decoder.flush_remaining().map_err(|error| Missing::Undecoded(error.to_string()))? {
            if self.offer(&frame, run) {
                break;
            }
        }
        Ok(())
    }

    /// Takes the next frame in playing order; true when no later one is needed.
    fn offer(&mut self, frame: &DecodedYUV<'_>, run: &Run) -> bool {
        let at = run.times.get(self.decoded).copied().unwrap_or_default();
        self.decoded += 1;
        if !run.presented.contains(&at) {
            return false;
        }
        let (width, height) = frame.dimensions();
        let (y, u, v) = frame.strides();
        let planes = Planes { width, height, planes: [frame.y(), frame.u(), frame.v()], strides: [y, u, v] };
        let full_range = self.video.colour.full_range;
        let appearance = Appearance::at(width, height, |x, row| {
            let luma = planes.luma(row).and_then(|row| row.get(x)).copied().unwrap_or_default();
            if full_range { luma } else { to_full_range(luma) }
        });
        let copies = planes.planes.map(<[u8]>::to_vec);
        self.chooser.offer(appearance, Kept { size: (width, height), planes: copies, strides: planes.strides });
        at >= run.third && self.chooser.has_good()
    }

    fn finish(self) -> Result<Poster, Missing> {
        let failure = self.failure;
        let chosen = self.chooser.finish().ok_or_else(|| {
            let detail = failure.map_or_else(|| "it holds no frame".to_owned(), |error| error.to_string());
            Missing::Undecoded(detail)
        })?;
        let kept = chosen.frame;
        let [y, u, v] = &kept.planes;
        let (width, height) = kept.size;
        let planes = Planes { width, height, planes: [y, u, v], strides: kept.strides };
        let description = self.video.colour;
        let pixels = planes.to_rgb(description).ok_or_else(|| Missing::Undecoded("a frame is not whole".to_owned()))?;
        let pixels = match ToSrgb::of(description) {
            Some(to_srgb) => to_srgb.frame(pixels),
            None => pixels,
        };
        let (width, height) = display_size(pixels.width, pixels.height, self.video.pixel_aspect());
        let pixels = fit::stretch(pixels, width, height);
        let orientation = self.video.track.orientation;
        Ok(Poster { pixels, orientation, brightness: chosen.brightness, frame: chosen.number })
    }
}
