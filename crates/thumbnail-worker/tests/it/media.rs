//! Videos and sounds by their bytes: which type a file is of, what it says of itself, and a sentence for each that is not taken.

use std::time::Duration;

use thumbnail_worker::media::{Error, Facts, Limits, Refused, Type, has_c2pa, probe};
use thumbnail_worker::pictures::Format;

use crate::film::{Film, RATE, SOUND, atom, sound_file, words};
use crate::paint::{fixture, png, quarters, webp};
use crate::profiles::chunk;
use crate::sounds::{Webm, coding, counted_mp3, id3, mp3, mp3_frame, riff_chunk, wav, wav_of};

fn probed(file: &[u8]) -> Result<Facts, Refused> {
    let media_type = Type::sniff(&file[..file.len().min(Type::SNIFFED)]).ok_or(Refused::UnknownFormat)?;
    match probe(&file, media_type) {
        Ok(facts) => Ok(facts),
        Err(Error::Refused(refused)) => Err(refused),
        Err(Error::Io(error)) => panic!("bytes in memory can be read: {error}"),
    }
}

fn film() -> Film {
    Film::new(64, 48).shoot(36, |n, x, y| [(n * 5) as u8, (x * 4) as u8, (y * 5) as u8])
}

#[test]
fn every_type_says_what_it_is() {
    let mut mp4 = film();
    mp4.sound = SOUND * 2;
    let mut mov = film();
    mov.brand = *b"qt  ";
    let mut old = mov.file_with_index_last();
    old.drain(..32);
    let live = Webm { is_live: true, has_sound: false, ..Webm::plain() };
    let video = |media_type, size: (u32, u32), millis, frame_rate, audio| {
        let duration = Duration::from_millis(millis);
        Facts { media_type, width: size.0, height: size.1, duration, frame_rate, audio }
    };
    let sound = |media_type, millis| video(media_type, (0, 0), millis, 0.0, true);
    let rate = f64::from(RATE);
    for (what, file, wanted) in [
        ("MP4 with sound", mp4.file(), video(Type::Mp4, (64, 48), 1_500, rate, true)),
        ("MP4 whose index is last", film().file_with_index_last(), video(Type::Mp4, (64, 48), 1_500, rate, false)),
        ("fragmented MP4", fixture("fragmented.mp4"), video(Type::Mp4, (320, 180), 2_000, 0.0, false)),
        ("MOV", mov.file(), video(Type::Mov, (64, 48), 1_500, rate, false)),
        ("WebM", Webm::plain().file(), video(Type::Webm, (640, 360), 2_000, 1e9 / 33_333_333.0, true)),
        ("live WebM", live.file(), video(Type::Webm, (640, 360), 1_999, 1e9 / 33_333_333.0, false)),
        ("M4A", sound_file(*b"M4A ", SOUND * 3), sound(Type::M4a, 3_000)),
        ("MP4 of sound alone", sound_file(*b"isom", SOUND * 3), sound(Type::M4a, 3_000)),
        ("WAV", wav(96_000), sound(Type::Wav, 500)),
        (
            "WAV of a stream",
            wav_of(&coding(3, 1, 8_000, 32), &riff_chunk(b"LIST", &[1; 7]), u32::MAX, 64_000),
            sound(Type::Wav, 2_000),
        ),
        ("MP3", mp3(100), sound(Type::Mp3, 2_612)),
        ("MP3 with a count and a tag", [id3(&[0; 3_000]), counted_mp3(99, 99)].concat(), sound(Type::Mp3, 2_586)),
        (
            "MP3 with tags behind",
            [mp3(100), [b"TAG".to_vec(), vec![32; 125]].concat()].concat(),
            sound(Type::Mp3, 2_612),
        ),
        ("MP3 with padding behind", [mp3(100), vec![0; 5_000]].concat(), sound(Type::Mp3, 2_612)),
        ("MP3 with junk within", [mp3(50), vec![1; 300], mp3(50)].concat(), sound(Type::Mp3, 2_612)),
    ] {
        let mut facts = probed(&file).unwrap_or_else(|refused| panic!("{what}: {refused}"));
        facts.duration = Duration::from_millis(facts.duration.as_millis() as u64);
        assert_eq!(facts, wanted, "{what}");
    }
    // Without the box that says what it is, as the oldest ones are: known by what comes first.
    assert_eq!(Type::sniff(&old), Some(Type::Mov));
}

#[test]
fn what_is_not_taken_says_why() {
    let mut cut = film().file();
    cut.truncate(cut.len() - 10);
    let mut lying = film().file_with_index_last();
    let at = lying.windows(4).position(|name| name == b"stco").unwrap() + 12;
    lying[at..at + 4].copy_from_slice(&1_000_000_u32.to_be_bytes());
    let mut fragmented = fixture("fragmented.mp4");
    fragmented.truncate(fragmented.len() - 200);
    let mut elsewhere = film();
    elsewhere.elsewhere = true;
    let mut mov = film();
    mov.brand = *b"qt  ";
    let webm = Webm::plain().file();
    let without_index = [&film().file()[..32], &atom(b"mdat", |body| body.extend([7; 90]))[..]].concat();
    let tiny = [&film().file()[..32], &[0, 0, 0, 3], b"mdat"].concat();
    let mut wrong_wav = coding(1, 2, 48_000, 16);
    wrong_wav[12] = 3;
    let adpcm = coding(2, 2, 48_000, 16);
    let silent = {
        let mut film = film();
        film.brand = *b"M4A ";
        film.file()
    };
    for (what, file, sentence) in [
        (
            "a text",
            b"a text that calls itself clip.mp4".to_vec(),
            "the content is none of JPEG, PNG, WebP, MP4, WebM, MOV, WAV, MP3 and M4A",
        ),
        ("AVIF", b"\0\0\0\x1Cftypavif\0\0\0\0avifmif1miaf".to_vec(), "the content is none of"),
        ("UTF-16", b"\xFF\xFEa\0 \0t\0e\0x\0t\0".to_vec(), "the content is none of"),
        ("cut MP4", cut, "the MP4 file ends before its video does"),
        ("lying MP4", lying, "the MP4 file ends before its video does"),
        ("cut fragmented MP4", fragmented, "the MP4 file ends before its video does"),
        ("MP4 without index", without_index, "the MP4 file is damaged: it has no index (moov)"),
        ("MP4 with a box that is too short", tiny, "the MP4 file is damaged: the box at byte 32 is 3 bytes long"),
        (
            "MP4 of elsewhere",
            elsewhere.file(),
            "this kind of MP4 is not taken: its frames or its sound lie in another file",
        ),
        ("M4A of frames alone", silent, "this kind of M4A is not taken: it has no sound"),
        ("MOV of sound alone", sound_file(*b"qt  ", 20), "this kind of MOV is not taken: it has no video track"),
        ("cut MOV", mov.file()[..900].to_vec(), "the MOV file ends before its video does"),
        ("cut M4A", sound_file(*b"M4A ", 90)[..700].to_vec(), "the M4A file ends before its sound does"),
        ("cut WebM", webm[..webm.len() - 10].to_vec(), "the WebM file ends before its video does"),
        (
            "WebM of sound alone",
            Webm { has_video: false, ..Webm::plain() }.file(),
            "this kind of WebM is not taken: it has no video track",
        ),
        (
            "Matroska",
            Webm { kind: b"matroska", ..Webm::plain() }.file(),
            "this kind of WebM is not taken: it is another Matroska",
        ),
        (
            "WebM without size",
            Webm { size: (0, 0), ..Webm::plain() }.file(),
            "the WebM file is damaged: it does not say how large its frames are",
        ),
        ("cut WAV", wav_of(&coding(1, 2, 48_000, 16), &[], 96_000, 95_000), "the WAV file ends before its sound does"),
        ("WAV without sound", wav(96_000)[..36].to_vec(), "the WAV file ends before its sound does"),
        ("empty WAV", wav(0), "the WAV file is damaged: there is no sound in it"),
        ("coded WAV", wav_of(&adpcm, &[], 8, 8), "this kind of WAV is not taken: its sound is coded as 0x0002"),
        (
            "wrong WAV",
            wav_of(&wrong_wav, &[], 8, 8),
            "the WAV file is damaged: what it says of how its sound is coded contradicts itself",
        ),
        (
            "WAV without coding",
            [&b"RIFF\0\0\0\0WAVE"[..], &riff_chunk(b"data", &[0; 8])].concat(),
            "the WAV file is damaged: nothing says how its sound is coded",
        ),
        ("cut MP3", mp3(100)[..41_000].to_vec(), "the MP3 file ends before its sound does"),
        ("MP3 cut between frames", counted_mp3(99, 50), "the MP3 file ends before its sound does"),
        ("MP3 cut in its tag", id3(&[0; 3_000])[..1_000].to_vec(), "the MP3 file ends before its sound does"),
        (
            "a tag and no MP3",
            [id3(&[0; 30]), b"fLaC".to_vec(), vec![0; 900]].concat(),
            "this kind of MP3 is not taken: there is no sound of MPEG layer III in it",
        ),
        (
            "half an MP3",
            [mp3(50), vec![1; 70_000]].concat(),
            "the MP3 file is damaged: there is no sound behind byte 20850",
        ),
    ] {
        let refused = probed(&file).expect_err(what).to_string();
        assert!(refused.starts_with(sentence), "{what}: {refused}");
    }
}

#[test]
fn limits_are_held() {
    let limits = Limits { video_bytes: 1_000, sound_bytes: 100, duration: Duration::from_secs(2), side: 640 };
    let of = |media_type, width, height, millis| {
        let duration = Duration::from_millis(millis);
        Facts { media_type, width, height, duration, frame_rate: 0.0, audio: true }
    };
    assert_eq!(limits.check(&of(Type::Mp4, 640, 360, 2_000), 1_000), Ok(()));
    for (facts, bytes, sentence, reason) in [
        (of(Type::Mov, 64, 36, 200), 1_001, "the video has 1001 bytes, at most 1000 are taken", "INPUT_TOO_LARGE"),
        (of(Type::M4a, 0, 0, 200), 101, "the sound has 101 bytes, at most 100 are taken", "INPUT_TOO_LARGE"),
        (of(Type::Mp3, 0, 0, 2_001), 9, "the sound plays 2.001 seconds, at most 2 are taken", "MEDIA_LIMIT_EXCEEDED"),
        (
            of(Type::Webm, 360, 641, 9),
            9,
            "the video is 360 x 641 pixels, at most 640 a side are taken",
            "MEDIA_LIMIT_EXCEEDED",
        ),
    ] {
        let refused = limits.check(&facts, bytes).unwrap_err();
        assert_eq!((refused.to_string().as_str(), refused.reason()), (sentence, reason));
    }
}

/// What a manifest begins with.
pub(crate) fn manifest() -> Vec<u8> {
    atom(b"jumb", |body| {
        body.extend(atom(b"jumd", |body| {
            body.extend(b"c2pa\x00\x11\x00\x10\x80\x00\x00\xAA\x00\x38\x9B\x71\x03c2pa\0");
        }));
    })
}

/// MP4's box of manifests for a purpose.
pub(crate) fn manifest_box(purpose: &[u8]) -> Vec<u8> {
    atom(b"uuid", |body| {
        body.extend(b"\xD8\xFE\xC3\xD6\x1B\x0E\x48\x3C\x92\x97\x58\x28\x87\x7E\xC4\x81");
        words(body, &[0]);
        body.extend(purpose);
        body.extend(manifest());
    })
}

/// A JPEG with a segment of this kind behind its beginning.
pub(crate) fn jpeg_with(marker: u8, body: &[u8]) -> Vec<u8> {
    let jpeg = fixture("baseline.jpg");
    let length = u16::try_from(body.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xFF, marker], &length, body, &jpeg[2..]].concat()
}

fn tagged(kind: &[u8]) -> Vec<u8> {
    let body = [b"\0", kind, b"\0c2pa\0\0", &manifest()].concat();
    let frame = [&b"GEOB"[..], &(body.len() as u32).to_be_bytes(), &[0, 0], &body].concat();
    [id3(&[b"TIT2\0\0\0\x02\0\0\0a".to_vec(), frame].concat()), mp3(20)].concat()
}

#[test]
fn a_manifest_is_found_where_it_belongs() {
    let plain = png(30, 20, &quarters(30, 20));
    let mut mov = film();
    mov.brand = *b"qt  ";
    let riff = |mut file: Vec<u8>, chunk: Vec<u8>| {
        file.extend(chunk);
        file
    };
    let wav = wav(9_600);
    for (what, file, found) in [
        ("JPEG", jpeg_with(0xEB, &[b"JP\0\x01\0\0\0\x01", &manifest()[..]].concat()), true),
        (
            "JPEG with another JUMBF",
            jpeg_with(0xEB, &[b"JP\0\x01\0\0\0\x01", &manifest()[..].to_ascii_uppercase()[..]].concat()),
            false,
        ),
        ("JPEG with another segment", jpeg_with(0xEA, &[b"JP\0\x01\0\0\0\x01", &manifest()[..]].concat()), false),
        ("plain JPEG", fixture("baseline.jpg"), false),
        ("PNG", [&plain[..33], &chunk(b"caBX", &manifest()), &plain[33..]].concat(), true),
        ("plain PNG", plain, false),
        ("WebP", riff(webp(30, 20, &quarters(30, 20), true), riff_chunk(b"C2PA", &manifest())), true),
        ("plain WebP", webp(30, 20, &quarters(30, 20), true), false),
        ("MP4", [film().file(), manifest_box(b"manifest\0")].concat(), true),
        ("MOV", [manifest_box(b"manifest\0"), mov.file_with_index_last()].concat(), true),
        ("MP4 with hashes alone", [film().file(), manifest_box(b"merkle\0")].concat(), false),
        ("MP4 with another box", [film().file(), atom(b"uuid", |body| body.extend([7; 40]))].concat(), false),
        ("M4A", [sound_file(*b"M4A ", 20), manifest_box(b"manifest\0")].concat(), true),
        ("WAV", riff(wav.clone(), riff_chunk(b"C2PA", &manifest())), true),
        ("plain WAV", wav, false),
        ("MP3", tagged(b"application/c2pa"), true),
        ("MP3 of an earlier version", tagged(b"application/x-c2pa-manifest-store"), true),
        ("MP3 with another object", tagged(b"application/pdf"), false),
        ("WebM", Webm::plain().file(), false),
    ] {
        let media_type = match what {
            "MOV" => Type::Mov,
            _ => Type::sniff(&file).unwrap(),
        };
        assert_eq!(has_c2pa(&&file[..], media_type).unwrap(), found, "{what}");
        // It changes nothing about the rest.
        if !matches!(media_type, Type::Picture(_)) && what != "MOV" {
            assert!(probed(&file).is_ok(), "{what}");
        }
    }
    assert_eq!(Type::sniff(&jpeg_with(0xEB, b"JP")), Some(Type::Picture(Format::Jpeg)));
    assert_eq!(mp3_frame(9).len(), 417);
}
