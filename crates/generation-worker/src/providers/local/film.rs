//! From frames to a video that every browser plays: H.264 baseline, 4:2:0, in an MP4 whose index comes first.
//!
//! Invariant: one thread encodes, so that equal frames give equal bytes; colours are labelled as what they are, BT.709.

use openh264::encoder::{
    Complexity, Encoder, EncoderConfig, FrameRate, FrameType, IntraFramePeriod, Profile, RateControlMode, VuiConfig,
};
use openh264::formats::YUVSlices;
use openh264::{OpenH264API, Timestamp};

use super::mp4::{self, Sample};
use super::sketch::{HEIGHT, RATE, WIDTH};

/// A film while it is made.
pub(super) struct Film {
    encoder: Encoder,
    parameters: [Vec<u8>; 2],
    samples: Vec<Sample>,
}

impl Film {
    pub(super) fn new() -> Result<Self, openh264::Error> {
        let config = EncoderConfig::new()
            .profile(Profile::Baseline)
            .complexity(Complexity::Low)
            .rate_control_mode(RateControlMode::Off)
            .max_frame_rate(FrameRate::from_hz(RATE as f32))
            .intra_frame_period(IntraFramePeriod::from_num_frames(RATE as u32))
            .skip_frames(false)
            .scene_change_detect(false)
            .num_threads(1)
            .vui(VuiConfig::bt709());
        let encoder = Encoder::with_api_config(OpenH264API::from_source(), config)?;
        Ok(Self { encoder, parameters: [Vec::new(), Vec::new()], samples: Vec::new() })
    }

    /// Adds a frame: luma, then the two chroma planes of half the size.
    pub(super) fn add(&mut self, planes: &[u8]) -> Result<(), openh264::Error> {
        let (y, chroma) = planes.split_at(WIDTH * HEIGHT);
        let (u, v) = chroma.split_at(WIDTH * HEIGHT / 4);
        let source = YUVSlices::new((y, u, v), (WIDTH, HEIGHT), (WIDTH, WIDTH / 2, WIDTH / 2));
        let time = Timestamp::from_millis((self.samples.len() * 1_000 / RATE) as u64);
        let stream = self.encoder.encode_at(&source, time)?;
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
        self.samples.push(sample);
        Ok(())
    }

    /// The finished file.
    pub(super) fn finish(self) -> Result<Vec<u8>, &'static str> {
        let [sps, pps] = &self.parameters;
        if sps.len() < 4 || pps.is_empty() || self.samples.iter().any(|sample| sample.bytes.is_empty()) {
            return Err("the encoder left out a frame or its parameters");
        }
        let video = mp4::Video {
            width: WIDTH as u16,
            height: HEIGHT as u16,
            rate: RATE as u32,
            sps,
            pps,
            samples: &self.samples,
        };
        Ok(video.file())
    }
}

fn without_start_code(unit: &[u8]) -> &[u8] {
    unit.strip_prefix(&[0, 0, 0, 1]).or_else(|| unit.strip_prefix(&[0, 0, 1])).unwrap_or(unit)
}
