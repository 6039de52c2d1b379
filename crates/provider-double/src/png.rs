//! A picture in PNG, made by code: a grey square whose comment names the file, so that each is another.

/// Width and height.
const SIDE: u32 = 64;

/// The picture of the file with this name.
pub(crate) fn picture(name: &str) -> Vec<u8> {
    let head = [&SIDE.to_be_bytes()[..], &SIDE.to_be_bytes(), &[8, 0, 0, 0, 0]].concat();
    // Each row begins with its filter, which is none.
    let row = [&[0][..], &[0x80; SIDE as usize]].concat();
    let comment = [b"Comment\0", name.as_bytes()].concat();
    [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        chunk(*b"IHDR", &head),
        chunk(*b"tEXt", &comment),
        chunk(*b"IDAT", &stored(&row.repeat(SIDE as usize))),
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

/// In zlib's form, in one block that is stored as it is.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or_default();
    let (low, high) = bytes.iter().fold((1_u32, 0_u32), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    [&[0x78, 0x01, 1][..], &length.to_le_bytes(), &(!length).to_le_bytes(), bytes, &((high << 16) | low).to_be_bytes()]
        .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard_and_each_picture_is_another() {
        // Of an empty IEND, as every PNG ends.
        assert_eq!(crc(b"IEND"), 0xAE42_6082);
        assert_ne!(picture("one"), picture("two"));
    }
}
