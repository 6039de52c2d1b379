//! A film as a player has it: its boxes, and its frames, decoded.

use openh264::decoder::Decoder;
use openh264::formats::YUVSource;

/// The decoded frames of a file.
pub(crate) struct Film {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Frames a second.
    pub(crate) rate: u64,
    pub(crate) frames: Vec<Frame>,
}

/// Luma and the two planes of chroma, without padding.
pub(crate) type Frame = [Vec<u8>; 3];

impl Film {
    /// Decodes every frame of the video track.
    #[track_caller]
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let mp4 = re_mp4::Mp4::read_bytes(bytes).unwrap();
        let track = mp4.tracks().values().find(|track| track.kind == Some(re_mp4::TrackKind::Video)).unwrap();
        let re_mp4::StsdBoxContent::Avc1(avc) = &track.trak(&mp4).mdia.minf.stbl.stsd.contents else {
            panic!("the track is H.264");
        };
        assert_eq!(avc.avcc.avc_profile_indication, 66, "baseline");
        let (width, height) = (usize::from(track.width), usize::from(track.height));
        let mut packet = Vec::new();
        for set in avc.avcc.sequence_parameter_sets.iter().chain(&avc.avcc.picture_parameter_sets) {
            packet.extend_from_slice(&[0, 0, 0, 1]);
            packet.extend_from_slice(&set.bytes);
        }
        let mut decoder = Decoder::new().unwrap();
        let mut frames = Vec::new();
        for sample in &track.samples {
            let mut rest = &bytes[sample.offset as usize..][..sample.size as usize];
            while let Some((length, after)) = rest.split_first_chunk::<4>() {
                let (unit, next) = after.split_at(u32::from_be_bytes(*length) as usize);
                packet.extend_from_slice(&[0, 0, 0, 1]);
                packet.extend_from_slice(unit);
                rest = next;
            }
            let frame = decoder.decode(&packet).unwrap().expect("baseline has no reordering");
            assert_eq!(frame.dimensions(), (width, height));
            let (y, u, v) = frame.strides();
            let plane = |samples: &[u8], stride: usize, width: usize| -> Vec<u8> {
                samples.chunks(stride).flat_map(|row| &row[..width]).copied().collect()
            };
            let half = width / 2;
            frames.push([plane(frame.y(), y, width), plane(frame.u(), u, half), plane(frame.v(), v, half)]);
            packet.clear();
        }
        Self { width, height, rate: track.timescale, frames }
    }

    /// Mean luma of every frame.
    pub(crate) fn lumas(&self) -> Vec<f64> {
        let mean = |[luma, ..]: &Frame| luma.iter().map(|sample| f64::from(*sample)).sum::<f64>() / luma.len() as f64;
        self.frames.iter().map(mean).collect()
    }

    /// Red, green and blue at a place of a frame, from 0 to 255.
    pub(crate) fn pixel(&self, frame: usize, x: usize, y: usize) -> [f64; 3] {
        let [luma, blues, reds] = &self.frames[frame];
        let half = y / 2 * (self.width / 2) + x / 2;
        to_rgb(luma[y * self.width + x], blues[half], reds[half])
    }

    /// How far a frame is from what `paint` says of each place, as the mean of all samples of red, green and blue.
    pub(crate) fn difference(&self, frame: usize, paint: impl Fn(usize, usize) -> [u8; 3]) -> f64 {
        let places = (0..self.height).flat_map(|y| (0..self.width).map(move |x| (x, y)));
        let far = |(x, y)| -> f64 {
            let seen = self.pixel(frame, x, y);
            seen.iter().zip(paint(x, y)).map(|(seen, wanted)| (seen - f64::from(wanted)).abs()).sum()
        };
        places.map(far).sum::<f64>() / (self.width * self.height * 3) as f64
    }
}

/// BT.709 from 16 to 235, as the file says of itself.
fn to_rgb(luma: u8, blue: u8, red: u8) -> [f64; 3] {
    let luma = (f64::from(luma) - 16.0) / 219.0;
    let (blue, red) = ((f64::from(blue) - 128.0) / 224.0, (f64::from(red) - 128.0) / 224.0);
    let (red, blue) = (luma + 1.5748 * red, luma + 1.8556 * blue);
    let green = (luma - 0.2126 * red - 0.0722 * blue) / 0.7152;
    [red, green, blue].map(|part| (part * 255.0).clamp(0.0, 255.0))
}

/// The body of the first box of each name in turn, each within the one before.
pub(crate) fn within<'a>(bytes: &'a [u8], path: &[&[u8; 4]]) -> &'a [u8] {
    path.iter().fold(bytes, |body, name| {
        let found = boxes(body).find(|(found, _)| found == *name);
        found.unwrap_or_else(|| panic!("no {}", String::from_utf8_lossy(*name))).1
    })
}

/// The boxes in a body.
pub(crate) fn boxes(mut rest: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (name, _) = after.split_first_chunk::<4>()?;
        let (whole, next) = rest.split_at(u32::from_be_bytes(*length) as usize);
        rest = next;
        Some((*name, &whole[8..]))
    })
}

/// Numbers of four bytes.
pub(crate) fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect()
}
