//! What ffmpeg says of a video before its frames are asked for: size, shape of pixels, and what the colours mean.
//!
//! Invariant: only the one line that ffmpeg writes of its own output is read, never what the file says of itself in words.

use crate::videos::{ColourDescription, UNKNOWN, display_size};

/// A video's frames as ffmpeg decodes them, upright.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    /// The size at which they are to be seen.
    pub(super) display: (u32, u32),
    /// The height of the stored frame, which says what colours mean that say nothing themselves.
    pub(super) height: u32,
    /// What the colours mean.
    pub(super) colour: ColourDescription,
}

impl Probe {
    /// Reads what `ffmpeg -loglevel info -frames:v 1 -f null` wrote.
    pub(super) fn read(log: &str) -> Option<Self> {
        let line =
            log.lines().rev().find(|line| line.trim_start().starts_with("Stream #0:0") && line.contains(FRAMES))?;
        let rest = line.split_once(FRAMES)?.1;
        let (format, rest) = rest.split_at(rest.find(['(', ','])?);
        let (inside, rest) = match rest.strip_prefix('(') {
            Some(rest) => rest.split_once(')')?,
            None => ("", rest),
        };
        let (width, height) = rest.split([',', ' ']).find_map(read_size)?;
        let aspect = rest.split_once("SAR ").and_then(|(_, sar)| {
            let (across, down) = sar.split(' ').next()?.split_once(':')?;
            Some((across.parse().ok()?, down.trim_end_matches([',', ']']).parse().ok()?))
        });
        let colour = read_colour(inside, format.starts_with("rgb") || format.starts_with("gbr"));
        Some(Self { display: display_size(width, height, aspect), height, colour })
    }

    /// Whether ffmpeg has to be told that the colours are BT.709's: it takes those that say nothing for BT.601's, which players
    /// do below 720 lines only.
    pub(super) fn is_bt709_unsaid(&self) -> bool {
        self.colour.matrix == UNKNOWN && self.height >= 720
    }
}

/// What stands before the description of frames that go nowhere.
const FRAMES: &str = "Video: wrapped_avframe, ";

fn read_size(word: &str) -> Option<(u32, u32)> {
    let (width, height) = word.split_once('x')?;
    Some((width.parse().ok()?, height.parse().ok()?)).filter(|size| *size != (0, 0))
}

/// Matrix, primaries and transfer as ffmpeg names them: one name where all three are the same.
fn read_colour(inside: &str, is_rgb: bool) -> ColourDescription {
    let named = |word: &&str| word.contains('/') || NAMES.iter().any(|(name, _)| name == word);
    let word = inside.split(", ").find(named).unwrap_or("unknown");
    let mut names = word.split('/').map(|word| NAMES.iter().find(|(name, _)| *name == word).map_or(0, |(_, n)| *n));
    let matrix = names.next().unwrap_or(UNKNOWN);
    let primaries = names.next().unwrap_or(matrix);
    let transfer = names.next().unwrap_or(primaries);
    ColourDescription { primaries, transfer, matrix: if is_rgb { 0 } else { matrix }, full_range: true }
}

/// Names that matter here, and their numbers by ITU-T H.273; every other one is read as 0.
const NAMES: [(&str, u8); 11] = [
    ("unknown", UNKNOWN),
    ("bt709", 1),
    ("bt470bg", 5),
    ("smpte170m", 6),
    ("bt2020nc", 9),
    ("bt2020c", 10),
    ("bt2020", 9),
    ("smpte432", 12),
    ("bt2020-10", 14),
    ("smpte2084", 16),
    ("arib-std-b67", 18),
];

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "Input #0, mov,mp4, from 'x':\n  Metadata:\n    title : Stream #0:0: Video: wrapped_avframe, gray, 9x9\n\
        \x20 Stream #0:0[0x1](und): Video: hevc (Main 10), yuv420p10le(tv, bt2020nc/bt2020/smpte2084), 1920x1080, 25 fps\n\
        Output #0, null, to 'pipe:':\n  Stream #0:0(und): Video: wrapped_avframe, ";

    fn read(line: &str) -> Probe {
        Probe::read(&format!("{LOG}{line}\n    Metadata:\n")).unwrap()
    }

    #[test]
    fn the_line_of_the_output_is_read() {
        let hdr = read(
            "yuv420p10le(tv, bt2020nc/bt2020/smpte2084, progressive), 1080x1920 [SAR 1:1 DAR 9:16], q=2-31, 25 fps",
        );
        assert_eq!(hdr.display, (1080, 1920));
        let Probe { colour, .. } = hdr;
        assert_eq!((colour.matrix, colour.primaries, colour.transfer), (9, 9, 16));
        let plain = read("yuv420p(progressive), 1440x1080 [SAR 4:3 DAR 16:9], q=2-31, 25 fps");
        assert_eq!((plain.display, plain.height, plain.is_bt709_unsaid()), ((1920, 1080), 1080, true));
        assert!(!read("yuv420p(tv, bt709, progressive), 1280x720, q=2-31").is_bt709_unsaid());
        assert!(!read("yuv420p, 640x480, q=2-31").is_bt709_unsaid());
        assert!(!read("gbrp(pc, gbr/unknown/unknown), 1280x720, q=2-31").is_bt709_unsaid());
        assert_eq!(Probe::read("pipe: Invalid data found when processing input\n"), None);
    }
}
