//! MP3: frames that follow one another, each with its own header; what stands before and behind them are tags.
//!
//! Invariant: every frame is stepped over from the first to the last, so a length is counted and not believed.

use std::time::Duration;

use super::facts::{Facts, sound};
use crate::formats::{Error, Frame, Refused, Type, damaged};
use crate::source::{Source, Window};

/// How far the next frame is searched for where there is something else.
const MAX_GAP: u64 = 64 << 10;
/// How many bytes of something else there may be in all.
const MAX_GAPS: u64 = 256 << 10;
/// The highest number of tags before the sound.
const MAX_TAGS: usize = 16;
/// The part of a frame in which a count of frames is searched.
const COUNT_WITHIN: usize = 192;

pub(super) fn probe(source: &dyn Source) -> Result<Facts, Error> {
    let media_type = Type::Mp3;
    let mut window = Window::new(source);
    let end = window.length();
    let mut at = skip_tags(&mut window)?;
    let none = || Refused::Unsupported { media_type, detail: "there is no sound of MPEG layer III in it".into() };
    at = find_frame(&mut window, at, None)?.ok_or_else(none)?;
    let first = Frame::read(window.get(at, 4)?).ok_or_else(none)?;
    let stated = first.stated_count(window.get(at, COUNT_WITHIN)?);
    if stated.is_some() {
        at += first.length;
    }
    let (mut count, mut gaps) = (0_u64, 0);
    while at < end {
        match Frame::read(window.get(at, 4)?).filter(|frame| frame.common == first.common) {
            Some(frame) if at + frame.length > end => return Err(Refused::Truncated { media_type }.into()),
            Some(frame) => {
                count += 1;
                at += frame.length;
            }
            None if is_tag(window.get(at, 11)?) => break,
            None => match find_frame(&mut window, at, Some(first.common))? {
                Some(next) => {
                    gaps += next - at;
                    if gaps > MAX_GAPS {
                        return Err(damaged(media_type, format!("{gaps} bytes between its frames are no sound")).into());
                    }
                    at = next;
                }
                // What is left is padding, or it is much.
                None if end - at <= MAX_GAP => break,
                None => return Err(damaged(media_type, format!("there is no sound behind byte {at}")).into()),
            },
        }
    }
    // Some count the frame that has the number too.
    if u64::from(stated.unwrap_or_default()) > count + 1 {
        return Err(Refused::Truncated { media_type }.into());
    }
    let micros = u128::from(count) * u128::from(first.samples) * 1_000_000 / u128::from(first.rate);
    Ok(sound(media_type, Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))))
}

/// Where the tags before the sound end. Their lengths have seven bits in each byte.
fn skip_tags(window: &mut Window<'_>) -> Result<u64, Error> {
    let mut at = 0;
    for _ in 0..MAX_TAGS {
        let &[b'I', b'D', b'3', _, _, flags, a, b, c, d] = window.get(at, 10)? else { return Ok(at) };
        let length = [a, b, c, d].iter().fold(0_u64, |sum, byte| sum << 7 | u64::from(byte & 0x7F));
        let footer = if flags & 0x10 == 0 { 0 } else { 10 };
        at += 10 + length + footer;
        if at > window.length() {
            return Err(Refused::Truncated { media_type: Type::Mp3 }.into());
        }
    }
    Ok(at)
}

/// The next place at which a frame stands that is followed by another, or by the file's end.
fn find_frame(window: &mut Window<'_>, from: u64, common: Option<[u8; 2]>) -> Result<Option<u64>, Error> {
    let end = window.length();
    for at in from..from.saturating_add(MAX_GAP).min(end) {
        let Some(frame) = Frame::read(window.get(at, 4)?) else { continue };
        if common.is_some_and(|common| common != frame.common) {
            continue;
        }
        let next = at + frame.length;
        let follows = Frame::read(window.get(next, 4)?).is_some_and(|next| next.common == frame.common);
        if follows || next == end || is_tag(window.get(next, 11)?) {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// Whether a tag begins that stands behind the sound.
fn is_tag(bytes: &[u8]) -> bool {
    [&b"TAG"[..], b"APETAGEX", b"LYRICSBEGIN", b"ID3", b"3DI"].iter().any(|name| bytes.starts_with(name))
}
