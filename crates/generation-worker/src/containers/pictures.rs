//! Pictures: JPEG, PNG and WebP, each walked over its parts to its end.

use super::kinds::{Container, Flawed};

/// What a picture is; nothing for what is none.
pub(super) fn check(bytes: &[u8]) -> Option<Result<Container, Flawed>> {
    if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
        return Some(if ends_as_jpeg(bytes) { Ok(Container::Jpeg) } else { Err(CUT) });
    }
    if let Some(chunks) = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n") {
        return Some(if ends_as_png(chunks) { Ok(Container::Png) } else { Err(CUT) });
    }
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        let whole = bytes.get(4..8).and_then(<[u8]>::first_chunk).is_some_and(|size| {
            let size = u32::from_le_bytes(*size) as usize;
            size > 12 && size <= bytes.len() - 8
        });
        return Some(if whole { Ok(Container::Webp) } else { Err(CUT) });
    }
    None
}

const CUT: Flawed = Flawed::Cut("the picture ends too soon");

/// Segments up to the first scan, and an end behind it. A picture within a segment, such as a thumbnail, has an end of its own.
fn ends_as_jpeg(bytes: &[u8]) -> bool {
    let mut at = 2;
    loop {
        let (Some(0xff), Some(marker)) = (bytes.get(at), bytes.get(at + 1)) else { return false };
        match marker {
            // Fill bytes.
            0xff => at += 1,
            // The first scan.
            0xda => return bytes[at..].windows(2).any(|pair| pair == [0xff, 0xd9]),
            _ => {
                let Some(length) = bytes.get(at + 2..).and_then(<[u8]>::first_chunk) else { return false };
                let length = usize::from(u16::from_be_bytes(*length));
                if length < 2 {
                    return false;
                }
                at += 2 + length;
            }
        }
    }
}

/// Whole chunks up to `IEND`, one of them with pixels.
fn ends_as_png(mut chunks: &[u8]) -> bool {
    let mut pixels = false;
    loop {
        let (Some(length), Some(kind)) = (chunks.first_chunk::<4>(), chunks.get(4..8)) else { return false };
        let Some(end) = (u32::from_be_bytes(*length) as usize).checked_add(12) else { return false };
        let Some(rest) = chunks.get(end..) else { return false };
        match kind {
            b"IDAT" => pixels = true,
            b"IEND" => return pixels,
            _ => {}
        }
        chunks = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        [&u32::try_from(content.len()).unwrap().to_be_bytes()[..], kind, content, &[0; 4]].concat()
    }

    fn each_beginning_is_cut(whole: &[u8], container: Container) {
        assert_eq!(check(whole), Some(Ok(container)));
        for end in 12..whole.len() {
            assert!(matches!(check(&whole[..end]), Some(Err(Flawed::Cut(_)))), "{container:?} {end}");
        }
    }

    #[test]
    fn a_picture_is_whole_or_cut() {
        let png =
            [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &[0; 13]), chunk(b"IDAT", &[1; 9]), chunk(b"IEND", &[])];
        each_beginning_is_cut(&png.concat(), Container::Png);
        // The segment has a thumbnail with an end of its own.
        let jpeg = [&[0xff, 0xd8, 0xff, 0xe1, 0, 6, 0xff, 0xd9, 0, 0][..], &[0xff, 0xda, 0, 2, 1, 2, 3, 0xff, 0xd9]];
        each_beginning_is_cut(&jpeg.concat(), Container::Jpeg);
        let webp = [b"RIFF", &20_u32.to_le_bytes()[..], b"WEBPVP8 ", &8_u32.to_le_bytes(), &[0; 8]].concat();
        each_beginning_is_cut(&webp, Container::Webp);
        assert!(matches!(check(b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffIDAT"), Some(Err(Flawed::Cut(_)))));
    }
}
