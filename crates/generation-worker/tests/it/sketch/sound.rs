//! The sound of a film: FLAC in the MP4, read back by a decoder that is not its own.

use std::process::Command;

use serde_json::json;

use super::film::{boxes, within, words};
use super::{draw, film};

/// The samples of a file's sound, from -1 to 1.
fn sound(file: &[u8]) -> Vec<f64> {
    let movie = within(file, &[b"moov"]);
    let tracks: Vec<_> = boxes(movie).filter(|(name, _)| name == b"trak").map(|(_, body)| body).collect();
    let [_, track] = tracks[..] else { panic!("{} tracks", tracks.len()) };
    let media = within(track, &[b"mdia"]);
    assert_eq!(within(media, &[b"hdlr"])[8..12], *b"soun");
    assert_eq!(words(within(media, &[b"mdhd"]))[3], 48_000);
    let table = within(media, &[b"minf", b"stbl"]);
    let entry = within(&within(table, &[b"stsd"])[8..], &[b"fLaC"]);
    assert_eq!(entry[16..20], [0, 1, 0, 16], "one channel of 16 bits");
    let description = within(&entry[28..], &[b"dfLa"]);
    assert_eq!(words(description)[..2], [0, 0x8000_0022], "the last and only block is STREAMINFO");

    let sizes = &words(within(table, &[b"stsz"]))[3..];
    let chunks = &words(within(table, &[b"stco"]))[2..];
    let runs: Vec<[u32; 3]> =
        words(within(table, &[b"stsc"]))[2..].chunks(3).map(|run| run.try_into().unwrap()).collect();
    let times = words(within(table, &[b"stts"]));
    let stated: u32 = times[2..].chunks(2).map(|run| run[0] * run[1]).sum();

    // The stream as a file of its own.
    let mut stream = b"fLaC".to_vec();
    stream.extend_from_slice(&description[4..]);
    let mut sizes = sizes.iter();
    for (n, offset) in (1..).zip(chunks) {
        let count = runs.iter().rev().find(|run| run[0] <= n).unwrap()[1];
        let length: u32 = sizes.by_ref().take(count as usize).sum();
        stream.extend_from_slice(&file[*offset as usize..][..length as usize]);
    }
    assert_eq!(sizes.len(), 0, "every sample lies in a chunk");
    let mut reader = claxon::FlacReader::new(&stream[..]).unwrap();
    assert_eq!(reader.streaminfo().samples, Some(u64::from(stated)));
    let samples: Vec<f64> = reader.samples().map(|sample| f64::from(sample.unwrap()) / 32_768.0).collect();
    assert_eq!(samples.len(), stated as usize);
    samples
}

#[test]
fn a_film_with_sound_has_a_quiet_tune_of_its_length() {
    for (rate, seconds) in [(6, 1.0), (24, 3.0), (25, 1.5), (30, 11.0)] {
        let input = json!({"resolution": "144p", "fps": rate, "duration": seconds, "audio": true});
        let frames = film(input.clone()).frames.len();
        let samples = sound(&draw(input)[0].bytes);
        assert_eq!(samples.len(), frames * 48_000 / rate, "{rate} {seconds}");
        let loudest = samples.iter().fold(0.0, |loudest: f64, sample| loudest.max(sample.abs()));
        assert!((0.03..0.35).contains(&loudest), "the loudest sample is {loudest}");
        let loudness = (samples.iter().map(|sample| sample * sample).sum::<f64>() / samples.len() as f64).sqrt();
        assert!((0.01..0.1).contains(&loudness), "it is {loudness} loud");
        assert!(samples[0].abs() < 0.001 && samples[samples.len() - 1].abs() < 0.001, "it begins and ends at nothing");
        // No clicks: at these pitches a sample is never far from the one before.
        let step = samples.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f64::max);
        assert!(step < 0.1, "a step of {step}");
    }
}

#[test]
fn a_tune_follows_from_prompt_and_seed() {
    let tune = |prompt: &str, seed: i64| {
        let input =
            json!({"prompt": prompt, "seed": seed, "resolution": "144p", "fps": 6, "duration": 2, "audio": true});
        sound(&draw(input)[0].bytes)
    };
    assert!(tune("Dunes", 1) == tune("Dunes", 1));
    assert!(tune("Dunes", 1) != tune("Dunes", 2));
    assert!(tune("Dunes", 1) != tune("Hills", 1));
}

#[test]
fn without_sound_there_is_one_track_and_the_same_picture() {
    let [silent, loud] = [false, true].map(|audio| draw(json!({"resolution": "144p", "duration": 2, "audio": audio})));
    let tracks = |file: &[u8]| boxes(within(file, &[b"moov"])).filter(|(name, _)| name == b"trak").count();
    assert_eq!((tracks(&silent[0].bytes), tracks(&loud[0].bytes)), (1, 2));
    let frames = |file: &[u8]| super::film::Film::decode(file).frames;
    assert!(frames(&silent[0].bytes) == frames(&loud[0].bytes));
}

#[test]
fn ffmpeg_plays_picture_and_sound() {
    let Ok(program) = testkit::find_binary("ffmpeg") else {
        eprintln!("skipped: there is no ffmpeg here, and the product needs none");
        return;
    };
    let file = std::env::temp_dir().join(format!("rushes-sketch-{}.mp4", uuid::Uuid::now_v7()));
    std::fs::write(&file, &draw(json!({"duration": 2.5, "fps": 12, "audio": true}))[0].bytes).unwrap();
    let played = Command::new(program)
        .args(["-v", "error", "-xerror", "-stats", "-i"])
        .arg(&file)
        .args(["-map", "0:v:0", "-map", "0:a:0", "-f", "null", "-"])
        .output()
        .unwrap();
    std::fs::remove_file(&file).unwrap();
    let said = String::from_utf8_lossy(&played.stderr);
    assert!(played.status.success(), "{said}");
    assert!(said.contains("frame=   30") && said.contains("time=00:00:02.50"), "{said}");
}
