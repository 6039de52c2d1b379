//! Corrupt files: truncated, flipped and stretched by a seeded fuzzer. Nothing panics, nothing runs for long, and what is
//! allocated follows from what was admitted.

use std::time::{Duration, Instant};

use thumbnail_worker::media::{self, Type};
use thumbnail_worker::model::Spec;
use thumbnail_worker::pictures::{Header, Limits, render};
use thumbnail_worker::stop::Stop;
use thumbnail_worker::videos::{self, frames, mp4};

use crate::film::{Film, sound_file};
use crate::media::{jpeg_with, manifest, manifest_box};
use crate::paint::{fixture, png, quarters, webp};
use crate::profiles::{self, P3, icc};
use crate::sounds::{Webm, counted_mp3, id3, mp3, riff_chunk, wav};

/// SplitMix64: the same corruptions every time.
struct Fuzzer(u64);

impl Fuzzer {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// A file with some bytes changed, taken out, doubled or cut off, most of them near its beginning.
    fn corrupt(&mut self, file: &[u8]) -> Vec<u8> {
        let mut file = file.to_vec();
        for _ in 0..=self.below(6) {
            let reach = if self.below(3) == 0 { file.len() } else { file.len().min(1_200) };
            let at = self.below(reach.max(1)).min(file.len().saturating_sub(1));
            match self.below(6) {
                0 => file[at] ^= 1 << self.below(8),
                1 => file[at] = self.next() as u8,
                2 => {
                    let end = (at + 4).min(file.len());
                    file[at..end].fill(0xFF);
                }
                3 => {
                    let end = (at + self.below(40)).min(file.len());
                    file.drain(at..end);
                }
                4 => {
                    let end = (at + self.below(400)).min(file.len());
                    let part = file[at..end].to_vec();
                    file.splice(at..at, part);
                }
                _ if self.below(4) == 0 => file.truncate(at.max(1)),
                _ => {}
            }
            if file.is_empty() {
                file.push(0);
            }
        }
        file
    }
}

#[test]
fn no_picture_panics_or_runs_for_long() {
    let rgb = quarters(96, 80);
    let files = [
        fixture("baseline.jpg"),
        fixture("progressive.jpg"),
        fixture("restarts.jpg"),
        fixture("cmyk.jpg"),
        fixture("palette.png"),
        png(96, 80, &rgb),
        webp(96, 80, &rgb, false),
        webp(96, 80, &rgb, true),
        fixture("animated.webp"),
    ];
    let with_profile = profiles::files([200, 60, 50], &icc(P3, false)).into_iter().map(|(_, file)| file);
    let files: Vec<Vec<u8>> = files.into_iter().chain(with_profile).collect();
    // Small limits keep the test quick; that they hold is what is tested.
    let limits = Limits { pixels: 1_000_000, ..Limits::default() };
    let spec = Spec { width: 32, height: 32, quality: 80 };
    let mut fuzzer = Fuzzer(7);
    let mut slowest = Duration::ZERO;
    let (mut whole, mut refused) = (0, 0);
    for round in 0..100 {
        for (n, file) in files.iter().enumerate() {
            let corrupt = fuzzer.corrupt(file);
            let started = Instant::now();
            let result = Header::read(&corrupt, &limits).and_then(|header| {
                assert!(header.weight(&spec) < 64 << 20, "round {round}, file {n}: {header:?}");
                render(&corrupt, &header, &spec, &Stop::default())
            });
            if result.is_ok() {
                whole += 1;
            } else {
                refused += 1;
            }
            slowest = slowest.max(started.elapsed());
        }
    }
    assert!(whole > 20 && refused > 200, "the fuzzer corrupts: {whole} whole, {refused} refused");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}

#[test]
fn no_video_panics_or_runs_for_long() {
    let files =
        ["fade-baseline.mp4", "fade-high-bframes.mp4", "rotated.mp4", "dark.mp4", "high10.mp4", "fragmented.mp4"];
    let files = files.map(fixture);
    let limits = videos::Limits { frames: 40, frame_pixels: 1_000_000, pixels: 20_000_000 };
    let mut fuzzer = Fuzzer(11);
    let mut slowest = Duration::ZERO;
    let (mut whole, mut refused) = (0, 0);
    for _ in 0..60 {
        for file in &files {
            let corrupt = fuzzer.corrupt(file);
            let started = Instant::now();
            let poster = frames::open(&corrupt, &limits).and_then(|video| video.poster(&Stop::default()));
            if poster.is_ok() {
                whole += 1;
            } else {
                refused += 1;
            }
            let _ = videos::facts(&corrupt);
            slowest = slowest.max(started.elapsed());
        }
    }
    assert!(whole > 20 && refused > 40, "the fuzzer corrupts: {whole} whole, {refused} refused");
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
}

#[test]
fn no_video_or_sound_panics_or_reads_for_long() {
    let mut film = Film::new(64, 48).shoot(12, |n, x, y| [(n * 5) as u8, x as u8, y as u8]);
    film.sound = 100;
    let files = [
        [film.file(), manifest_box(b"manifest\0")].concat(),
        film.file_with_index_last(),
        fixture("fragmented.mp4"),
        fixture("vp9.webm"),
        Webm::plain().file(),
        Webm { is_live: true, ..Webm::plain() }.file(),
        sound_file(*b"M4A ", 200),
        [wav(4_800), riff_chunk(b"C2PA", &[0; 40])].concat(),
        mp3(60),
        [id3(&[0; 300]), counted_mp3(40, 40)].concat(),
        jpeg_with(0xEB, &[b"JP\0\x01\0\0\0\x01", &manifest()[..]].concat()),
    ];
    let mut fuzzer = Fuzzer(13);
    let mut slowest = Duration::ZERO;
    let (mut whole, mut refused) = (0, 0);
    for _ in 0..400 {
        for file in &files {
            let corrupt = fuzzer.corrupt(file);
            let Some(media_type) = Type::sniff(&corrupt) else { continue };
            let started = Instant::now();
            if media::probe(&&corrupt[..], media_type).is_ok() {
                whole += 1;
            } else {
                refused += 1;
            }
            let _ = media::has_c2pa(&&corrupt[..], media_type);
            let _ = media::describe(&&corrupt[..], media_type, 20 << 20);
            slowest = slowest.max(started.elapsed());
        }
    }
    assert!(whole > 200 && refused > 200, "the fuzzer corrupts: {whole} whole, {refused} refused");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
}

#[test]
fn a_file_of_nothing_but_headers_costs_what_its_bytes_cost() {
    let mut mp4 = b"\0\0\0\x10ftypisom\0\0\0\0".to_vec();
    mp4.extend(b"\0\0\0\x08free".repeat(2 << 20));
    let mut webm = b"\x1A\x45\xDF\xA3\x80\x18\x53\x80\x67\xFF".to_vec();
    webm.extend(b"\xEC\x80".repeat(8 << 20));
    let mut wav = b"RIFF\0\0\0\0WAVE".to_vec();
    wav.extend(b"junk\0\0\0\0".repeat(2 << 20));
    // Each of these looks like a frame that nothing follows.
    let mp3 = [b"ID3\x03\0\0\0\0\0\0".to_vec(), b"\xFF\xFB\x90\x00".repeat(4 << 20)].concat();
    for (file, sentence) in [
        (mp4, "more than 250000 boxes"),
        (webm, "more elements than"),
        (wav, "ends before its sound"),
        (mp3, "no sound of MPEG layer III"),
    ] {
        let started = Instant::now();
        let media_type = Type::sniff(&file).unwrap();
        let refused = media::probe(&&file[..], media_type).unwrap_err().to_string();
        assert!(refused.contains(sentence), "{media_type}: {refused}");
        assert!(!media::has_c2pa(&&file[..], media_type).unwrap());
        assert!(started.elapsed() < Duration::from_secs(20), "{media_type}: {:?}", started.elapsed());
    }
}

/// Finds a box by its name and gives the place of its body.
fn body(file: &[u8], name: &[u8; 4]) -> usize {
    file.windows(4).position(|window| window == name).unwrap() + 4
}

#[test]
fn a_claim_of_four_thousand_million_samples_costs_what_its_bytes_cost() {
    let mut file = fixture("fade-baseline.mp4");
    let at = body(&file, b"stsz");
    // One size of zero bytes for 2^32 - 1 samples, each in a run that never ends.
    file[at + 4..at + 8].copy_from_slice(&1_u32.to_be_bytes());
    file[at + 8..at + 12].fill(0xFF);
    let started = Instant::now();
    let track = mp4::video_track(&file).unwrap();
    let places = track.samples().take_while(|place| place.end <= file.len() as u64).count();
    assert!(places <= file.len(), "{places}");
    assert!(started.elapsed() < Duration::from_secs(2));
    assert!(frames::open(&file, &videos::Limits::default()).unwrap().poster(&Stop::default()).is_err());
}

#[test]
fn a_stream_that_grows_after_it_was_let_in_is_stopped() {
    // The parameters of one film in the samples of another: a set within a frame that states another size.
    let mut file = fixture("fade-baseline.mp4");
    let sps = {
        let other = fixture("dark.mp4");
        let at = body(&other, b"avcC");
        let length = usize::from(u16::from_be_bytes([other[at + 6], other[at + 7]]));
        other[at + 8..at + 8 + length].to_vec()
    };
    let track = mp4::video_track(&file).unwrap();
    let first = track.samples().next().unwrap();
    let (at, length) = (first.start as usize, (first.end - first.start) as usize);
    let mut unit = u32::try_from(sps.len()).unwrap().to_be_bytes().to_vec();
    unit.extend(&sps);
    // The width in macroblocks follows variable-length numbers, so the size is changed by breaking the set altogether.
    unit[5..].fill(0xFF);
    unit.truncate(length);
    file[at..at + unit.len()].copy_from_slice(&unit);
    let result = frames::open(&file, &videos::Limits::default()).unwrap().poster(&Stop::default());
    assert!(result.unwrap_err().to_string().contains("change their size"));
}
