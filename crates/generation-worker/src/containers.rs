//! What a provider's file is by its bytes, and whether it is whole: enough to tell a video, a picture and a sound from a page and
//! from a file that ended too soon, without decoding anything.
//!
//! Invariant: each part is looked at once and nothing is allocated, so that the work is bounded by the file's length.

mod kinds;
mod pictures;
mod sounds;

pub(crate) use self::kinds::{Container, Flawed};

/// The container of a whole file.
pub(crate) fn check(bytes: &[u8]) -> Result<Container, Flawed> {
    if bytes.is_empty() {
        return Err(Flawed::NoOutput("the output is empty"));
    }
    if bytes.starts_with(&[0x1a, 0x45, 0xdf, 0xa3]) {
        return check_webm(bytes);
    }
    if let Some(checked) = pictures::check(bytes).or_else(|| sounds::check(bytes)) {
        return checked;
    }
    // Old QuickTime files begin without `ftyp`.
    match bytes.get(4..8) {
        Some(b"ftyp") => {
            let tracks = check_boxes(bytes)?;
            Ok(match bytes.get(8..12) {
                Some(b"M4A " | b"M4B ") => Container::M4a,
                _ if tracks.sound && !tracks.video => Container::M4a,
                Some(b"qt  ") => Container::QuickTime,
                _ => Container::Mp4,
            })
        }
        Some(b"moov" | b"mdat" | b"wide" | b"free") => check_boxes(bytes).map(|_| Container::QuickTime),
        _ => Err(Flawed::NoOutput("the output is no video, picture or sound of a kind that is delivered")),
    }
}

/// What the handlers of a file's tracks say of them.
#[derive(Clone, Copy, Debug, Default)]
struct Tracks {
    video: bool,
    sound: bool,
}

impl Tracks {
    /// The tracks below an index.
    fn of(mut bytes: &[u8], depth: u32) -> Self {
        let mut tracks = Self::default();
        while let Some(atom) = take_atom(&mut bytes) {
            match &atom.kind {
                b"trak" | b"mdia" if depth < 2 => {
                    let below = Self::of(atom.content, depth + 1);
                    tracks = Self { video: tracks.video || below.video, sound: tracks.sound || below.sound };
                }
                b"hdlr" => match atom.content.get(8..12) {
                    Some(b"vide") => tracks.video = true,
                    Some(b"soun") => tracks.sound = true,
                    _ => {}
                },
                _ => {}
            }
        }
        tracks
    }
}

/// One box of an ISO file: its kind and its content.
struct Atom<'a> {
    kind: [u8; 4],
    content: &'a [u8],
}

/// Takes the first box off `bytes`; nothing where it is not whole.
fn take_atom<'a>(bytes: &mut &'a [u8]) -> Option<Atom<'a>> {
    let (head, kind) = (bytes.first_chunk::<8>()?, *bytes.get(4..8)?.first_chunk::<4>()?);
    let small = u32::from_be_bytes(*head.first_chunk::<4>()?);
    let (start, size) = match small {
        // To the end of the file.
        0 => (8, bytes.len()),
        1 => (16, usize::try_from(u64::from_be_bytes(*bytes.get(8..16)?.first_chunk::<8>()?)).ok()?),
        size => (8, usize::try_from(size).ok()?),
    };
    let content = bytes.get(start..size)?;
    *bytes = &bytes[size..];
    Some(Atom { kind, content })
}

/// Every top-level box is whole, there is an index, and what the index points at is in the file.
fn check_boxes(bytes: &[u8]) -> Result<Tracks, Flawed> {
    let (mut rest, mut index, mut media) = (bytes, None, false);
    while !rest.is_empty() {
        let Some(atom) = take_atom(&mut rest) else { return Err(Flawed::Cut("the output ends within a box")) };
        match &atom.kind {
            b"moov" => {
                index = Some(Tracks::of(atom.content, 0));
                if last_chunk(atom.content, 0) >= bytes.len() as u64 {
                    return Err(Flawed::Cut("the output's index points behind its end"));
                }
            }
            b"mdat" | b"moof" => media = true,
            _ => {}
        }
    }
    match (index, media) {
        (Some(tracks), true) => Ok(tracks),
        (None, _) => Err(Flawed::Cut("the output has no index")),
        (_, false) => Err(Flawed::Cut("the output has an index and no media")),
    }
}

/// The highest offset that the tables of chunks below a box name; 0 where there is none.
fn last_chunk(mut bytes: &[u8], depth: u32) -> u64 {
    let mut last = 0;
    while let Some(atom) = take_atom(&mut bytes) {
        let found = match &atom.kind {
            b"trak" | b"mdia" | b"minf" | b"stbl" if depth < 4 => last_chunk(atom.content, depth + 1),
            b"stco" => {
                let entries = atom.content.get(8..).unwrap_or_default().as_chunks::<4>().0;
                entries.iter().map(|entry| u64::from(u32::from_be_bytes(*entry))).max().unwrap_or_default()
            }
            b"co64" => {
                let entries = atom.content.get(8..).unwrap_or_default().as_chunks::<8>().0;
                entries.iter().map(|entry| u64::from_be_bytes(*entry)).max().unwrap_or_default()
            }
            _ => 0,
        };
        last = last.max(found);
    }
    last
}

/// The id of a WebM element, its content's length (nothing: unknown), and where the content begins.
fn element(bytes: &[u8]) -> Option<(u32, Option<u64>, usize)> {
    let id_length = usize::try_from(bytes.first()?.leading_zeros()).ok()? + 1;
    if id_length > 4 {
        return None;
    }
    let id = bytes.get(..id_length)?.iter().fold(0, |id, byte| (id << 8) | u32::from(*byte));
    let first = *bytes.get(id_length)?;
    let length = usize::try_from(first.leading_zeros()).ok()? + 1;
    if length > 8 {
        return None;
    }
    let digits = bytes.get(id_length..id_length + length)?;
    let size = digits.iter().fold(0_u64, |size, byte| (size << 8) | u64::from(*byte));
    let mask = (1_u64 << (7 * length)) - 1;
    let size = size & mask;
    Some((id, (size != mask).then_some(size), id_length + length))
}

/// A segment with a cluster, in which no element of known length runs behind the end.
fn check_webm(bytes: &[u8]) -> Result<Container, Flawed> {
    const SEGMENT: u32 = 0x1853_8067;
    const CLUSTER: u32 = 0x1f43_b675;
    const CUT: Flawed = Flawed::Cut("the output ends within an element");
    let Some((_, Some(head), start)) = element(bytes) else { return Err(CUT) };
    let head_end = usize::try_from(head).ok().and_then(|head| head.checked_add(start)).ok_or(CUT)?;
    let header = bytes.get(start..head_end).ok_or(CUT)?;
    if !header.windows(4).any(|kind| kind == b"webm") && !header.windows(8).any(|kind| kind == b"matroska") {
        return Err(Flawed::NoOutput("the output is EBML and no WebM"));
    }
    let mut rest = &bytes[head_end..];
    let mut cluster = false;
    while !rest.is_empty() {
        let (id, size, start) = element(rest).ok_or(CUT)?;
        // Its children are walked in its place; a cluster of unknown length goes on to the next one, or to the end.
        if id == SEGMENT || size.is_none() {
            if size.is_some_and(|size| size > (rest.len() - start) as u64) {
                return Err(CUT);
            }
            cluster |= id == CLUSTER;
            rest = &rest[start..];
            continue;
        }
        cluster |= id == CLUSTER;
        let end = size.and_then(|size| usize::try_from(size).ok()?.checked_add(start)).ok_or(CUT)?;
        rest = rest.get(end..).ok_or(CUT)?;
    }
    if cluster { Ok(Container::Webm) } else { Err(Flawed::Cut("the output has no cluster")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MediaKind;

    fn atom(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let size = u32::try_from(8 + content.len()).unwrap().to_be_bytes();
        [&size[..], kind, content].concat()
    }

    /// A file whose index says that its last chunk is at `offset`.
    fn film(brand: &[u8; 4], offset: u32) -> Vec<u8> {
        let table = [&[0, 0, 0, 0, 0, 0, 0, 1][..], &offset.to_be_bytes()].concat();
        let tables = atom(b"stbl", &atom(b"stco", &table));
        let index = atom(b"moov", &atom(b"trak", &atom(b"mdia", &atom(b"minf", &tables))));
        [atom(b"ftyp", &[&brand[..], &[0; 8]].concat()), atom(b"mdat", &[7; 100]), index].concat()
    }

    #[test]
    fn a_whole_file_is_known_by_its_bytes() {
        assert_eq!(check(&film(b"isom", 40)), Ok(Container::Mp4));
        assert_eq!(check(&film(b"qt  ", 40)), Ok(Container::QuickTime));
        let large = [&1_u32.to_be_bytes()[..], b"mdat", &20_u64.to_be_bytes(), &[0; 4]].concat();
        assert_eq!(check(&[film(b"isom", 40), large].concat()), Ok(Container::Mp4));
        let open = [&0_u32.to_be_bytes()[..], b"free", &[0; 9]].concat();
        assert_eq!(check(&[film(b"isom", 40), open].concat()), Ok(Container::Mp4));
    }

    #[test]
    fn an_iso_file_with_sound_alone_is_a_sound() {
        let track = |handler: &[u8; 4]| {
            atom(b"trak", &atom(b"mdia", &atom(b"hdlr", &[&[0; 8][..], handler, &[0; 12]].concat())))
        };
        let file = |brand: &[u8; 4], tracks: &[u8]| {
            let head = atom(b"ftyp", &[&brand[..], &[0; 8]].concat());
            [head, atom(b"moov", tracks), atom(b"mdat", &[7; 100])].concat()
        };
        let (sound, both) = (track(b"soun"), [track(b"vide"), track(b"soun")].concat());
        assert_eq!(check(&file(b"isom", &sound)), Ok(Container::M4a));
        assert_eq!(check(&file(b"M4A ", &sound)), Ok(Container::M4a));
        assert_eq!(check(&file(b"isom", &both)), Ok(Container::Mp4));
        assert_eq!(Container::M4a.kind(), MediaKind::Audio);
    }

    #[test]
    fn a_file_that_ends_too_soon_is_cut_wherever_it_ends() {
        let film = film(b"isom", 40);
        for end in 12..film.len() {
            // Between two boxes it lacks its index.
            assert!(matches!(check(&film[..end]), Err(Flawed::Cut(_))), "{end}");
        }
        assert!(matches!(check(&self::film(b"isom", 4_000)), Err(Flawed::Cut(_))));
    }

    #[test]
    fn a_page_an_animation_and_nothing_are_no_output() {
        for bytes in [&b""[..], b"<!doctype html><html>", b"GIF89a\x01\x00", b"{}", b"RIFF\0\0\0\0AVI LIST"] {
            assert!(matches!(check(bytes), Err(Flawed::NoOutput(_))), "{bytes:?}");
        }
    }

    #[test]
    fn webm_is_walked_to_its_end() {
        let head = [&[0x1a, 0x45, 0xdf, 0xa3, 0x87][..], &[0x42, 0x82, 0x84], b"webm"].concat();
        let cluster = [&[0x1f, 0x43, 0xb6, 0x75, 0x84][..], &[1, 2, 3, 4]].concat();
        let segment = |size: u8, content: &[u8]| [&[0x18, 0x53, 0x80, 0x67, size][..], content].concat();
        let whole = [head.clone(), segment(0x80 | 9, &cluster)].concat();
        assert_eq!(check(&whole), Ok(Container::Webm));
        assert_eq!(check(&[head.clone(), segment(0xff, &cluster)].concat()), Ok(Container::Webm), "of unknown length");
        for end in head.len()..whole.len() {
            assert!(matches!(check(&whole[..end]), Err(Flawed::Cut(_))), "{end}");
        }
        assert!(matches!(check(&[0x1a, 0x45, 0xdf, 0xa3, 0x81, 0]), Err(Flawed::NoOutput(_))));
    }

    #[test]
    fn no_bytes_make_it_panic_or_go_on() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let mut bytes = if rng.bool() { film(b"isom", 40) } else { vec![0x1a, 0x45, 0xdf, 0xa3, 0x87, 0x42, 0x82] };
            for _ in 0..rng.usize(1..12) {
                let at = rng.usize(0..bytes.len());
                bytes[at] = rng.u8(..);
            }
            let _ = check(&bytes);
        }
    }
}
