//! What is decoded, by a decoder of others, is what was encoded.

use super::{BLOCK, Stream, frame};

#[track_caller]
fn check(what: &str, samples: &[i16]) {
    let mut stream = Stream::at_48_kilohertz();
    samples.iter().for_each(|sample| stream.add(*sample));
    stream.finish();
    check_file(what, &stream, samples);
}

#[track_caller]
fn check_file(what: &str, stream: &Stream, samples: &[i16]) {
    let mut file = b"fLaC\x80\0\0\x22".to_vec();
    file.extend(stream.info());
    stream.frames().iter().for_each(|frame| file.extend_from_slice(&frame.bytes));
    let mut reader = claxon::FlacReader::new(&file[..]).unwrap();
    let info = reader.streaminfo();
    let stated = (info.sample_rate, info.channels, info.bits_per_sample, info.samples);
    assert_eq!(stated, (48_000, 1, 16, Some(samples.len() as u64)), "{what}");
    let decoded: Vec<i32> = reader.samples().map(|sample| sample.unwrap()).collect();
    assert!(decoded.iter().copied().eq(samples.iter().copied().map(i32::from)), "{what} comes out otherwise");
}

#[test]
fn every_sound_comes_back_as_it_was() {
    let noise = |length: usize| {
        let mut state = 7_u32;
        let next = move |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16).cast_signed() as i16
        };
        (0..length).map(next).collect::<Vec<_>>()
    };
    for length in [1, 2, 3, 4, 5, 17, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 100] {
        check(&format!("noise of {length}"), &noise(length));
        check(&format!("quiet of {length}"), &vec![0; length]);
    }
    let extremes: Vec<i16> = [i16::MIN, i16::MAX].repeat(BLOCK);
    check("the highest beside the lowest", &extremes);
    check("one tone", &(0..9_000).map(|n| ((f64::from(n) * 0.05).sin() * 30_000.0) as i16).collect::<Vec<_>>());
    let mut click = vec![0; BLOCK];
    click[1_000] = i16::MAX;
    check("one click", &click);
    // The numbers of frames take one byte, two, or three.
    let numbers = [0, 0x7F, 0x80, 0x7FF, 0x800, 0xFFFF];
    let samples = noise(BLOCK * numbers.len());
    let mut stream = Stream::at_48_kilohertz();
    samples.iter().for_each(|sample| stream.add(*sample));
    for ((sample, block), number) in stream.frames.iter_mut().zip(samples.chunks(BLOCK)).zip(numbers) {
        sample.bytes = frame(number, block);
    }
    check_file("frames of any number", &stream, &samples);
}

#[test]
fn a_tone_takes_less_room_than_its_samples() {
    let mut stream = Stream::at_48_kilohertz();
    (0..48_000).for_each(|n| stream.add(((f64::from(n) * 0.02).sin() * 3_000.0) as i16));
    stream.finish();
    let bytes: usize = stream.frames().iter().map(|frame| frame.bytes.len()).sum();
    assert!(bytes < 48_000, "{bytes} bytes for 96,000");
}
