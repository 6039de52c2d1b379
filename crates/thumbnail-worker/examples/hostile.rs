//! Gives decoders files that were mutated from real ones of every format, and says what came of it.
//!
//! `cargo run -p thumbnail-worker --example hostile -- [--count N] [--first N] [--seed N] [--ceiling BYTES]` prints one line of JSON: how many were
//! whole and refused, how many crashed their decoder, passed its time or its memory, the longest time of one, and the peak of memory
//! of this process and all of its decoders together, as the kernel counts it. The same seed makes the same files.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use thumbnail_worker::config::decode_bytes;
use thumbnail_worker::decode_pool::{DecodePool, Error, Input, Settings};
use thumbnail_worker::media::{Class, Type};
use thumbnail_worker::model::Spec;
use thumbnail_worker::{pictures, videos};

/// How long one piece of work may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What came of the files.
#[derive(Default)]
struct Found {
    whole: u64,
    refused: u64,
    crashes: u64,
    over_time: u64,
    over_memory: u64,
    too_heavy: u64,
    slowest: Duration,
}

fn main() -> std::process::ExitCode {
    if let Some(code) = thumbnail_worker::run_as_child() {
        return code;
    }
    let run = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Into::into);
    match run.and_then(|runtime| runtime.block_on(run_all())) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn run_all() -> Result<(), Box<dyn std::error::Error>> {
    let (mut count, mut first, mut seed, mut ceiling) = (2_000_u64, 0_u64, 1_u64, 256_u64 << 20);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a number"))?.parse()?;
        match name.as_str() {
            "--count" => count = value,
            "--first" => first = value,
            "--seed" => seed = value,
            "--ceiling" => ceiling = value,
            _ => return Err(format!("{name} is not known; --count, --first, --seed and --ceiling are").into()),
        }
    }
    let originals = originals()?;
    let mut settings = Settings {
        program: "/proc/self/exe".into(),
        processes: 2,
        bytes: 0,
        waiting: 64,
        timeout: TIMEOUT,
        pictures: pictures::Limits::default(),
        videos: videos::Limits::default(),
    };
    settings.bytes = decode_bytes(ceiling, &settings).ok_or("so low a ceiling leaves nothing to decode with")?;
    let pool = DecodePool::new(settings);
    let (peak, is_done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let watching = std::thread::spawn({
        let (peak, is_done) = (Arc::clone(&peak), Arc::clone(&is_done));
        move || {
            while !is_done.load(Ordering::Relaxed) {
                peak.fetch_max(resident_in_all(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });
    let started = Instant::now();
    let files = |offset: u64| (first + offset..first + count).step_by(2);
    let (even, odd) =
        tokio::join!(try_files(&pool, &originals, seed, files(0)), try_files(&pool, &originals, seed, files(1)),);
    is_done.store(true, Ordering::Relaxed);
    watching.join().map_err(|_| "the watch of memory failed")?;
    let sum = |part: fn(&Found) -> u64| part(&even) + part(&odd);
    println!(
        "{{\"files\":{count},\"seed\":{seed},\"whole\":{},\"refused\":{},\"crashes\":{},\"over_time\":{},\"over_memory\":{},\
         \"too_heavy\":{},\"slowest_ms\":{},\"peak_mb\":{:.1},\"ceiling_mb\":{:.1},\"seconds\":{:.1}}}",
        sum(|found| found.whole),
        sum(|found| found.refused),
        sum(|found| found.crashes),
        sum(|found| found.over_time),
        sum(|found| found.over_memory),
        sum(|found| found.too_heavy),
        even.slowest.max(odd.slowest).as_millis(),
        peak.load(Ordering::Relaxed) as f64 / f64::from(1 << 20),
        ceiling as f64 / f64::from(1 << 20),
        started.elapsed().as_secs_f64(),
    );
    Ok(())
}

/// Tries the files of these numbers.
async fn try_files(pool: &DecodePool, originals: &[Vec<u8>], seed: u64, numbers: impl Iterator<Item = u64>) -> Found {
    let mut found = Found::default();
    for number in numbers {
        let mut mutation = Mutation(seed.wrapping_mul(0x2545_F491_4F6C_DD1D).wrapping_add(number));
        let original = &originals[mutation.below(originals.len())];
        let other = &originals[mutation.below(originals.len())];
        let file = mutation.corrupt(original, other);
        let started = Instant::now();
        match decode(pool, file).await {
            Ok(true) => found.whole += 1,
            Ok(false) => found.refused += 1,
            Err(Error::TooHeavy { .. }) => found.too_heavy += 1,
            Err(Error::OutOfMemory) => {
                eprintln!("file {number} of seed {seed} needs more memory than it weighs");
                found.over_memory += 1;
            }
            Err(Error::TooSlow(_)) => {
                eprintln!("file {number} of seed {seed} takes too long");
                found.over_time += 1;
            }
            Err(error) => {
                eprintln!("file {number} of seed {seed}: {error}");
                found.crashes += 1;
            }
        }
        found.slowest = found.slowest.max(started.elapsed());
    }
    found
}

/// Everything that the service does with a file of its type; says whether it was whole.
async fn decode(pool: &DecodePool, file: Vec<u8>) -> Result<bool, Error> {
    let Some(media_type) = Type::sniff(&file) else { return Ok(false) };
    let input = Input::Bytes(file.into());
    pool.describe(&input, media_type).await.map(drop)?;
    let spec = Spec { width: 1_024, height: 1_024, ..Spec::default() };
    Ok(match media_type.class() {
        Class::Picture => pool.check_picture(&input).await?.is_ok() & pool.render_picture(&input, spec).await?.is_ok(),
        Class::Video => {
            pool.probe(&input, media_type).await?.is_ok() & pool.render_video(&input, Spec::default()).await?.is_ok()
        }
        Class::Sound => pool.probe(&input, media_type).await?.is_ok(),
    })
}

/// The real files that the tests have.
fn originals() -> Result<Vec<Vec<u8>>, Box<dyn std::error::Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut paths: Vec<_> = std::fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let files: Result<Vec<_>, _> = paths.iter().map(std::fs::read).collect();
    let mut files = files?;
    // The formats that are made and not kept: sounds, and WebP without loss.
    let rgb: Vec<u8> = (0..160 * 120_u32).flat_map(|n| [(n % 160) as u8, (n / 160) as u8, (n * 7) as u8]).collect();
    for lossless in [false, true] {
        let encoder = webp::Encoder::from_rgb(&rgb, 160, 120);
        files.push(encoder.encode_simple(lossless, 80.0).map_err(|error| format!("{error:?}"))?.to_vec());
    }
    let rgba: Vec<u8> = rgb.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], p[2]]).collect();
    let with_alpha = webp::Encoder::from_rgba(&rgba, 160, 120).encode_simple(false, 80.0);
    files.push(with_alpha.map_err(|error| format!("{error:?}"))?.to_vec());
    let mut wav =
        b"RIFF\x24\x10\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\0\x10\0\0".to_vec();
    wav.extend(std::iter::repeat_n([0_u8, 1], 2_048).flatten());
    files.push(wav);
    files.push([&b"\xFF\xFB\x90\x00"[..], &[0; 413]].concat().repeat(20));
    Ok(files)
}

/// Memory in RAM of this process and all that it started, in bytes, as the kernel counts it.
fn resident_in_all() -> u64 {
    let own = std::process::id();
    let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
    let threads = std::fs::read_dir(format!("/proc/{own}/task")).into_iter().flatten().filter_map(Result::ok);
    let of_threads = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let mut pids: Vec<u32> = of_threads
        .chain([children])
        .flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect();
    pids.push(own);
    pids.sort_unstable();
    pids.dedup();
    pids.into_iter().filter_map(resident).sum()
}

/// What one process has in RAM, its share of what it has in common with others.
fn resident(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

/// SplitMix64: the same mutations every time.
struct Mutation(u64);

impl Mutation {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// A file with some bytes changed, taken out, doubled, cut off, or taken from another, most of them near its beginning, where
    /// sizes and counts are.
    fn corrupt(&mut self, file: &[u8], other: &[u8]) -> Vec<u8> {
        let mut file = file.to_vec();
        for _ in 0..=self.below(6) {
            let reach = if self.below(3) == 0 { file.len() } else { file.len().min(1_200) };
            let at = self.below(reach).min(file.len().saturating_sub(1));
            let end = |length: usize| (at + length).min(file.len());
            match self.below(8) {
                0 => file[at] ^= 1 << self.below(8),
                1 => file[at] = self.next() as u8,
                2 => {
                    let end = end(4);
                    file[at..end].fill(0xFF);
                }
                3 => {
                    let end = end(self.below(40));
                    file.drain(at..end);
                }
                4 => {
                    let end = end(self.below(400));
                    let part = file[at..end].to_vec();
                    file.splice(at..at, part);
                }
                // A number that is read as a size: large, but perhaps within the limits.
                5 => {
                    let number = (self.next() as u16 & 0x3FFF).to_be_bytes();
                    let end = end(2);
                    file[at..end].copy_from_slice(&number[..end - at]);
                }
                6 => {
                    let from = self.below(other.len());
                    let part = &other[from..(from + self.below(300)).min(other.len())];
                    let end = end(part.len());
                    file.splice(at..end, part.iter().copied());
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
