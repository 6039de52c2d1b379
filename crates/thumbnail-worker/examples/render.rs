//! Renders the default thumbnail of a picture or the poster of a video and says how long it took on one core, in this process and in a
//! decoder that gets the file as the service gives it.
//!
//! `cargo run --release -p thumbnail-worker --example render -- FILE [REPEATS] [OUT.webp]` prints one line of JSON: the median
//! and the fastest of the repeats in milliseconds, both ways, and the size of the result in bytes.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thumbnail_worker::decode_pool::{DecodePool, Input, Settings};
use thumbnail_worker::model::Spec;
use thumbnail_worker::pictures::{self, Header, Limits, fit};
use thumbnail_worker::stop::Stop;
use thumbnail_worker::videos::{self, frames};

fn main() -> ExitCode {
    if let Some(code) = thumbnail_worker::run_as_child() {
        return code;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("FILE is missing")?;
    let repeats: usize = arguments.next().map_or(Ok(9), |text| text.parse())?;
    let bytes = std::fs::read(&file)?;
    let is_video = videos::Container::sniff(&bytes).is_some();
    let spec = Spec::default();
    let mut webp = Vec::new();
    let mut here = Vec::new();
    for _ in 0..repeats.max(1) {
        let started = Instant::now();
        webp = if is_video {
            let poster = frames::open(&bytes, &videos::Limits::default())?.poster(&Stop::default())?;
            fit::render_webp(poster.pixels, poster.orientation, &spec)
        } else {
            let header = Header::read(&bytes, &Limits::default())?;
            pictures::render(&bytes, &header, &spec, &Stop::default())?
        };
        here.push(started.elapsed());
    }
    let pool = DecodePool::new(Settings {
        program: "/proc/self/exe".into(),
        processes: 1,
        bytes: 1 << 30,
        waiting: 1,
        timeout: Duration::from_secs(60),
        pictures: Limits::default(),
        videos: videos::Limits::default(),
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let input = Input::File(Arc::new(std::fs::File::open(&file)?), bytes.len() as u64);
    let mut in_decoder = Vec::new();
    for round in 0..=repeats.max(1) {
        let started = Instant::now();
        let made = if is_video {
            runtime.block_on(pool.render_video(&input, spec))??
        } else {
            runtime.block_on(pool.render_picture(&input, spec))??
        };
        if made != webp {
            return Err("both ways give another thumbnail".into());
        }
        // The first one starts the decoder.
        if round > 0 {
            in_decoder.push(started.elapsed());
        }
    }
    let [(here, fastest), (in_decoder, fastest_in_decoder)] = [here, in_decoder].map(|mut took| {
        took.sort();
        (took[took.len() / 2].as_secs_f64() * 1e3, took[0].as_secs_f64() * 1e3)
    });
    println!(
        "{{\"file\":{file:?},\"median_ms\":{here:.2},\"fastest_ms\":{fastest:.2},\"decoder_median_ms\":{in_decoder:.2},\
         \"decoder_fastest_ms\":{fastest_in_decoder:.2},\"webp_bytes\":{}}}",
        webp.len()
    );
    if let Some(out) = arguments.next() {
        std::fs::write(out, webp)?;
    }
    Ok(())
}
