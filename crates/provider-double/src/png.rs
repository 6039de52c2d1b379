//! A picture in PNG, made by code: a grey square whose comment names the file, so that each is another; for outputs, and for whoever
//! needs an input.

/// The picture of the file with this name, `side` pixels wide and high. Its bytes are about as many as its pixels.
#[must_use]
pub fn picture(name: &str, side: u16) -> Vec<u8> {
    let edge = u32::from(side).to_be_bytes();
    let head = [&edge[..], &edge, &[8, 0, 0, 0, 0]].concat();
    // Each row begins with its filter, which is none.
    let row = [&[0][..], &vec![0x80; usize::from(side)]].concat();
    let comment = [b"Comment\0", name.as_bytes()].concat();
    [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        chunk(*b"IHDR", &head),
        chunk(*b"tEXt", &comment),
        chunk(*b"IDAT", &stored(&row.repeat(usize::from(side)))),
        chunk(*b"IEND", &[]),
    ]
    .concat()
}

fn chunk(kind: [u8; 4], content: &[u8]) -> Vec<u8> {
    let covered = [&kind[..], content].concat();
    let length = u32::try_from(content.len()).unwrap_or_default().to_be_bytes();
    [&length[..], &covered, &crc(&covered).to_be_bytes()].concat()
}

/// The checksum of a chunk, bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (0..8).fold(crc, |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 });
    !bytes.iter().fold(u32::MAX, |crc, byte| step(crc ^ u32::from(*byte)))
}

/// In zlib's form, in blocks that are stored as they are.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let (low, high) = bytes.iter().fold((1_u32, 0_u32), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    let mut blocks = bytes.chunks(usize::from(u16::MAX)).peekable();
    let mut stored = vec![0x78, 0x01];
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).unwrap_or_default();
        stored.push(u8::from(blocks.peek().is_none()));
        stored.extend([length.to_le_bytes(), (!length).to_le_bytes()].concat());
        stored.extend(block);
    }
    stored.extend(((high << 16) | low).to_be_bytes());
    stored
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard_and_each_picture_is_another() {
        // Of an empty IEND, as every PNG ends.
        assert_eq!(crc(b"IEND"), 0xAE42_6082);
        assert_ne!(picture("one", 64), picture("two", 64));
    }
}
