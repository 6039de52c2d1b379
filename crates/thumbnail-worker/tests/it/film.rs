//! Films for tests: frames that a closure paints, coded as H.264 by OpenH264, in an MP4 whose boxes say what a test wants them to.

use openh264::encoder::{
    Complexity, Encoder, EncoderConfig, FrameRate, FrameType, IntraFramePeriod, Profile, QpRange, RateControlMode,
};
use openh264::formats::YUVSlices;
use openh264::{OpenH264API, Timestamp};

/// Frames a second, which are the ticks of a track too.
pub(crate) const RATE: u32 = 24;

/// A film in the making, and what its boxes are to say.
pub(crate) struct Film {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Luma's weights of red and blue by which frames are painted: BT.709's or BT.601's.
    pub(crate) weights: (f64, f64),
    /// Frames from one key frame to the next.
    pub(crate) keys: u32,
    /// `pasp`.
    pub(crate) pixel_aspect: Option<(u32, u32)>,
    /// `elst`: how long, in frames, and from which frame.
    pub(crate) edits: Vec<(u32, i32)>,
    /// The first four entries of the track's matrix.
    pub(crate) matrix: [i32; 4],
    /// `colr`: primaries, transfer, matrix.
    pub(crate) colour: Option<[u16; 3]>,
    /// The brand that its first box names.
    pub(crate) brand: [u8; 4],
    /// Frames of sound beside it, of which [`SOUND`] are a second.
    pub(crate) sound: u32,
    /// Whether its frames are said to lie in another file.
    pub(crate) elsewhere: bool,
    samples: Vec<(bool, Vec<u8>)>,
    parameters: [Vec<u8>; 2],
}

/// Frames of sound a second.
pub(crate) const SOUND: u32 = 50;
/// Bytes of a frame of sound.
const SOUND_BYTES: u32 = 24;

/// BT.709's and BT.601's weights of red and blue.
pub(crate) const BT709: (f64, f64) = (0.2126, 0.0722);
pub(crate) const BT601: (f64, f64) = (0.299, 0.114);

impl Film {
    pub(crate) fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            weights: if height < 720 { BT601 } else { BT709 },
            keys: RATE,
            pixel_aspect: None,
            edits: Vec::new(),
            matrix: [1, 0, 0, 1],
            colour: None,
            brand: *b"isom",
            sound: 0,
            elsewhere: false,
            samples: Vec::new(),
            parameters: [Vec::new(), Vec::new()],
        }
    }

    /// Adds frames painted by `paint`, which is given the frame's number and a place.
    pub(crate) fn shoot(mut self, frames: usize, paint: impl Fn(usize, usize, usize) -> [u8; 3]) -> Self {
        let config = EncoderConfig::new()
            .profile(Profile::Baseline)
            .complexity(Complexity::Low)
            .rate_control_mode(RateControlMode::Off)
            .qp(QpRange::new(16, 24))
            .max_frame_rate(FrameRate::from_hz(RATE as f32))
            .intra_frame_period(IntraFramePeriod::from_num_frames(self.keys))
            .skip_frames(false)
            .scene_change_detect(false)
            .num_threads(1);
        let mut encoder = Encoder::with_api_config(OpenH264API::from_source(), config).unwrap();
        for number in 0..frames {
            let planes = self.planes(&|x, y| paint(number, x, y));
            let (w, h) = (self.width, self.height);
            let source = YUVSlices::new((&planes[0], &planes[1], &planes[2]), (w, h), (w, w / 2, w / 2));
            let time = Timestamp::from_millis((number as u64) * 1_000 / u64::from(RATE));
            let stream = encoder.encode_at(&source, time).unwrap();
            let mut sample = (stream.frame_type() == FrameType::IDR, Vec::new());
            for layer in (0..stream.num_layers()).filter_map(|n| stream.layer(n)) {
                for unit in (0..layer.nal_count()).filter_map(|n| layer.nal_unit(n)) {
                    let start = [&[0, 0, 0, 1][..], &[0, 0, 1]];
                    let unit = start.iter().find_map(|code| unit.strip_prefix(*code)).unwrap_or(unit);
                    match unit[0] & 0x1F {
                        7 => unit.clone_into(&mut self.parameters[0]),
                        8 => unit.clone_into(&mut self.parameters[1]),
                        _ => {
                            words(&mut sample.1, &[unit.len() as u32]);
                            sample.1.extend_from_slice(unit);
                        }
                    }
                }
            }
            self.samples.push(sample);
        }
        self
    }

    /// Luma and two chroma planes of half the size, from 16 to 235.
    fn planes(&self, paint: &dyn Fn(usize, usize) -> [u8; 3]) -> [Vec<u8>; 3] {
        let (kr, kb) = self.weights;
        let (w, h) = (self.width, self.height);
        let mut planes = [vec![0; w * h], vec![0; w * h / 4], vec![0; w * h / 4]];
        for y in 0..h {
            for x in 0..w {
                let [r, g, b] = paint(x, y).map(|sample| f64::from(sample) / 255.0);
                let luma = kr * r + (1.0 - kr - kb) * g + kb * b;
                planes[0][y * w + x] = (16.0 + 219.0 * luma).round() as u8;
                if x % 2 == 0 && y % 2 == 0 {
                    let at = y / 2 * (w / 2) + x / 2;
                    planes[1][at] = (128.0 + 224.0 * (b - luma) / (2.0 - 2.0 * kb)).round() as u8;
                    planes[2][at] = (128.0 + 224.0 * (r - luma) / (2.0 - 2.0 * kr)).round() as u8;
                }
            }
        }
        planes
    }

    /// The finished file.
    pub(crate) fn file(&self) -> Vec<u8> {
        let mut file = brand(self.brand);
        let first = file.len() + self.movie(0).len() + 8;
        file.extend(self.movie(first as u32));
        file.extend(self.data());
        file
    }

    /// The finished file with its index at its end.
    pub(crate) fn file_with_index_last(&self) -> Vec<u8> {
        let mut file = brand(self.brand);
        let first = file.len() + 8;
        file.extend(self.data());
        file.extend(self.movie(first as u32));
        file
    }

    fn data(&self) -> Vec<u8> {
        atom(b"mdat", |body| {
            self.samples.iter().for_each(|sample| body.extend_from_slice(&sample.1));
            body.extend(vec![7; (self.sound * SOUND_BYTES) as usize]);
        })
    }

    /// The parameter sets.
    pub(crate) fn sps(&self) -> &[u8] {
        &self.parameters[0]
    }

    /// Puts a unit before the others of a frame.
    pub(crate) fn insert_unit(&mut self, frame: usize, unit: &[u8]) {
        let mut before = Vec::new();
        words(&mut before, &[unit.len() as u32]);
        before.extend_from_slice(unit);
        self.samples[frame].1.splice(0..0, before);
    }

    fn movie(&self, first: u32) -> Vec<u8> {
        let length = self.samples.len() as u32;
        let plays = if self.edits.is_empty() { length } else { self.edits.iter().map(|edit| edit.0).sum() };
        let fixed = |n: usize| (self.matrix[n] * 0x1_0000).cast_unsigned();
        atom(b"moov", |body| {
            body.extend(atom(b"mvhd", |body| {
                words(body, &[0, 0, 0, RATE, plays, 0x1_0000, 0x0100_0000, 0, 0]);
                words(body, &[0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000, 0, 0, 0, 0, 0, 0, 2]);
            }));
            body.extend(atom(b"trak", |body| {
                body.extend(atom(b"tkhd", |body| {
                    words(body, &[7, 0, 0, 1, 0, plays, 0, 0, 0, 0]);
                    words(body, &[fixed(0), fixed(1), 0, fixed(2), fixed(3), 0, 0, 0, 0x4000_0000]);
                    words(body, &[(self.width as u32) << 16, (self.height as u32) << 16]);
                }));
                if !self.edits.is_empty() {
                    body.extend(atom(b"edts", |body| {
                        body.extend(atom(b"elst", |body| {
                            words(body, &[0, self.edits.len() as u32]);
                            for (length, from) in &self.edits {
                                words(body, &[*length, from.cast_unsigned(), 0x1_0000]);
                            }
                        }));
                    }));
                }
                body.extend(atom(b"mdia", |body| {
                    body.extend(atom(b"mdhd", |body| words(body, &[0, 0, 0, RATE, length, 0x55C4_0000])));
                    body.extend(atom(b"hdlr", |body| {
                        words(body, &[0, 0]);
                        body.extend_from_slice(b"vide\0\0\0\0\0\0\0\0\0\0\0\0film\0");
                    }));
                    body.extend(atom(b"minf", |body| {
                        body.extend(atom(b"vmhd", |body| words(body, &[1, 0, 0])));
                        body.extend(atom(b"dinf", |body| {
                            body.extend(atom(b"dref", |body| {
                                words(body, &[0, 1]);
                                body.extend(atom(b"url ", |body| words(body, &[u32::from(!self.elsewhere)])));
                            }));
                        }));
                        body.extend(self.table(first));
                    }));
                }));
            }));
            if self.sound > 0 {
                let frames: u32 = self.samples.iter().map(|sample| sample.1.len() as u32).sum();
                body.extend(sound_track(self.sound, first + frames));
            }
        })
    }

    fn table(&self, first: u32) -> Vec<u8> {
        let count = self.samples.len() as u32;
        atom(b"stbl", |body| {
            body.extend(atom(b"stsd", |body| {
                words(body, &[0, 1]);
                body.extend(self.entry());
            }));
            body.extend(atom(b"stts", |body| words(body, &[0, 1, count, 1])));
            let keys: Vec<u32> = (1..).zip(&self.samples).filter(|(_, sample)| sample.0).map(|(n, _)| n).collect();
            body.extend(atom(b"stss", |body| {
                words(body, &[0, keys.len() as u32]);
                words(body, &keys);
            }));
            body.extend(atom(b"stsc", |body| words(body, &[0, 1, 1, count, 1])));
            body.extend(atom(b"stsz", |body| {
                words(body, &[0, 0, count]);
                self.samples.iter().for_each(|sample| words(body, &[sample.1.len() as u32]));
            }));
            body.extend(atom(b"stco", |body| words(body, &[0, 1, first])));
        })
    }

    fn entry(&self) -> Vec<u8> {
        let [sps, pps] = &self.parameters;
        atom(b"avc1", |body| {
            words(body, &[0, 1, 0, 0, 0, 0, (self.width as u32) << 16 | self.height as u32, 0x48_0000, 0x48_0000, 0]);
            body.extend_from_slice(&[0, 1]);
            body.extend_from_slice(&[0; 32]);
            words(body, &[0x18_FFFF]);
            body.extend(atom(b"avcC", |body| {
                body.extend_from_slice(&[1, sps[1], sps[2], sps[3], 0xFF, 0xE1]);
                body.extend_from_slice(&(sps.len() as u16).to_be_bytes());
                body.extend_from_slice(sps);
                body.push(1);
                body.extend_from_slice(&(pps.len() as u16).to_be_bytes());
                body.extend_from_slice(pps);
            }));
            if let Some((across, down)) = self.pixel_aspect {
                body.extend(atom(b"pasp", |body| words(body, &[across, down])));
            }
            if let Some(colour) = self.colour {
                body.extend(atom(b"colr", |body| {
                    body.extend_from_slice(b"nclx");
                    colour.iter().for_each(|number| body.extend_from_slice(&number.to_be_bytes()));
                    body.push(0);
                }));
            }
        })
    }
}

/// A file of nothing but sound, of which [`SOUND`] frames are a second.
pub(crate) fn sound_file(name: [u8; 4], frames: u32) -> Vec<u8> {
    let movie = |first| {
        atom(b"moov", |body| {
            body.extend(atom(b"mvhd", |body| {
                words(body, &[0, 0, 0, SOUND, frames, 0x1_0000, 0x0100_0000, 0, 0]);
                words(body, &[0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000, 0, 0, 0, 0, 0, 0, 2]);
            }));
            body.extend(sound_track(frames, first));
        })
    };
    let mut file = brand(name);
    let first = file.len() + movie(0).len() + 8;
    file.extend(movie(first as u32));
    file.extend(atom(b"mdat", |body| body.extend(vec![7; (frames * SOUND_BYTES) as usize])));
    file
}

fn brand(name: [u8; 4]) -> Vec<u8> {
    atom(b"ftyp", |body| {
        body.extend(name);
        body.extend_from_slice(b"\0\0\x02\0isomiso2avc1mp41");
    })
}

/// A track of sound whose frames lie one behind another.
fn sound_track(frames: u32, first: u32) -> Vec<u8> {
    atom(b"trak", |body| {
        body.extend(atom(b"tkhd", |body| {
            words(body, &[7, 0, 0, 2, 0, frames, 0, 0, 0, 0x0100_0000]);
            words(body, &[0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000, 0, 0]);
        }));
        body.extend(atom(b"mdia", |body| {
            body.extend(atom(b"mdhd", |body| words(body, &[0, 0, 0, SOUND, frames, 0x55C4_0000])));
            body.extend(atom(b"hdlr", |body| {
                words(body, &[0, 0]);
                body.extend_from_slice(b"soun\0\0\0\0\0\0\0\0\0\0\0\0film\0");
            }));
            body.extend(atom(b"minf", |body| {
                body.extend(atom(b"smhd", |body| words(body, &[0, 0])));
                body.extend(atom(b"stbl", |body| {
                    body.extend(atom(b"stsd", |body| {
                        words(body, &[0, 1]);
                        body.extend(atom(b"mp4a", |body| words(body, &[0, 1, 0, 0, 0x2_0010, 0, 48_000 << 16])));
                    }));
                    body.extend(atom(b"stts", |body| words(body, &[0, 1, frames, 1])));
                    body.extend(atom(b"stsc", |body| words(body, &[0, 1, 1, frames, 1])));
                    body.extend(atom(b"stsz", |body| words(body, &[0, SOUND_BYTES, frames])));
                    body.extend(atom(b"stco", |body| words(body, &[0, 1, first])));
                }));
            }));
        }));
    })
}

pub(crate) fn words(body: &mut Vec<u8>, words: &[u32]) {
    words.iter().for_each(|word| body.extend_from_slice(&word.to_be_bytes()));
}

pub(crate) fn atom(name: &[u8; 4], fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut whole = vec![0; 4];
    whole.extend_from_slice(name);
    fill(&mut whole);
    let length = (whole.len() as u32).to_be_bytes();
    whole[..4].copy_from_slice(&length);
    whole
}
