//! A JPEG's marker segments, one after another.
//!
//! Invariant: every read is bounds-checked, and a segment never reaches beyond the file.

/// The next marker segment at `at`, without its length; moves `at` behind it.
pub(super) fn next_segment<'a>(bytes: &'a [u8], at: &mut usize) -> Option<(u8, &'a [u8])> {
    // Between segments any number of fill bytes may stand; stray bytes before a marker are skipped as all decoders do.
    while *bytes.get(*at)? != 0xFF {
        *at += 1;
    }
    while *bytes.get(*at)? == 0xFF {
        *at += 1;
    }
    let marker = bytes[*at];
    *at += 1;
    if matches!(marker, 0x00 | 0x01 | 0xD0..=0xD9) {
        return Some((marker, &[]));
    }
    let length = usize::from(u16::from_be_bytes(bytes.get(*at..*at + 2)?.try_into().ok()?));
    let body = bytes.get(*at + 2..*at + length.max(2))?;
    *at += length.max(2);
    Some((marker, body))
}
