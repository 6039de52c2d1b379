//! From frames to a video that every browser plays: H.264 baseline, 4:2:0, in an MP4 whose index comes first.
//!
//! Invariant: one thread encodes, so that equal frames give equal bytes; colours are labelled as what they are, BT.709.

use openh264::encoder::{
    Complexity, Encoder, EncoderConfig, FrameRate, FrameType, IntraFramePeriod, Profile, RateControlMode, VuiConfig,
};
use openh264::formats::YUVSlices;
use openh264::{OpenH264API, Timestamp};

use super::canvas::Planes;
use super::flac::Stream;
use super::mp4::{self, Media, Sample, Track};
use super::size::Size;

/// The longest film, in bytes of its frames: four times what thirty seconds at 1680 x 720 come to that begin and end with noise.
const MAX_BYTES: usize = 32 << 20;

/// A film while it is made.
pub(super) struct Film {
    encoder: Encoder,
    size: Size,
    /// Frames a second.
    rate: usize,
    parameters: [Vec<u8>; 2],
    samples: Vec<Sample>,
    bytes: usize,
}

impl Film {
    pub(super) fn new(size: Size, rate: usize) -> Result<Self, openh264::Error> {
        let config = EncoderConfig::new()
            .profile(Profile::Baseline)
            .complexity(Complexity::Low)
            .rate_control_mode(RateControlMode::Off)
            .max_frame_rate(FrameRate::from_hz(rate as f32))
            .intra_frame_period(IntraFramePeriod::from_num_frames(rate as u32))
            .skip_frames(false)
            .scene_change_detect(false)
            .num_threads(1)
            .vui(VuiConfig::bt709());
        let encoder = Encoder::with_api_config(OpenH264API::from_source(), config)?;
        Ok(Self { encoder, size, rate, parameters: [Vec::new(), Vec::new()], samples: Vec::new(), bytes: 0 })
    }

    /// Adds a frame with halved chroma.
    pub(super) fn add(&mut self, frame: &Planes) -> Result<(), String> {
        let Size { width, height } = self.size;
        let (y, chroma) = frame.bytes.split_at(width * height);
        let (u, v) = chroma.split_at(width * height / 4);
        let source = YUVSlices::new((y, u, v), (width, height), (width, width / 2, width / 2));
        let time = Timestamp::from_millis((self.samples.len() * 1_000 / self.rate) as u64);
        let stream = self.encoder.encode_at(&source, time).map_err(|error| error.to_string())?;
        let mut sample = Sample { key: stream.frame_type() == FrameType::IDR, bytes: Vec::new() };
        for layer in (0..stream.num_layers()).filter_map(|n| stream.layer(n)) {
            for unit in (0..layer.nal_count()).filter_map(|n| layer.nal_unit(n)) {
                let unit = without_start_code(unit);
                match unit.first().map(|header| header & 0x1F) {
                    Some(7) => unit.clone_into(&mut self.parameters[0]),
                    Some(8) => unit.clone_into(&mut self.parameters[1]),
                    _ => {
                        sample.bytes.extend_from_slice(&(unit.len() as u32).to_be_bytes());
                        sample.bytes.extend_from_slice(unit);
                    }
                }
            }
        }
        self.bytes += sample.bytes.len();
        if self.bytes > MAX_BYTES {
            return Err(format!("the film is longer than {MAX_BYTES} bytes"));
        }
        self.samples.push(sample);
        Ok(())
    }

    /// The finished file, with this sound.
    pub(super) fn finish(self, sound: Option<&Stream>) -> Result<Vec<u8>, String> {
        let [sps, pps] = &self.parameters;
        if sps.len() < 4 || pps.is_empty() || self.samples.iter().any(|sample| sample.bytes.is_empty()) {
            return Err("the encoder left out a frame or its parameters".to_owned());
        }
        let picture = Track {
            scale: self.rate as u32,
            length: self.samples.len() as u32,
            step: 1,
            samples: &self.samples,
            media: Media::H264 { width: self.size.width as u16, height: self.size.height as u16, sps, pps },
        };
        let sound = sound.map(|sound| Track {
            scale: sound.rate(),
            length: sound.length(),
            step: sound.block(),
            samples: sound.frames(),
            media: Media::Flac { info: sound.info() },
        });
        Ok(mp4::file(&[Some(picture), sound].into_iter().flatten().collect::<Vec<_>>()))
    }
}

fn without_start_code(unit: &[u8]) -> &[u8] {
    unit.strip_prefix(&[0, 0, 0, 1]).or_else(|| unit.strip_prefix(&[0, 0, 1])).unwrap_or(unit)
}
