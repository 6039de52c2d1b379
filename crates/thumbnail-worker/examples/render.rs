//! Renders the default thumbnail of a picture or the poster of a video and says how long it took on one core.
//!
//! `cargo run --release -p thumbnail-worker --example render -- FILE [REPEATS] [OUT.webp]` prints one line of JSON: the median
//! and the fastest of the repeats in milliseconds, and the size of the result in bytes.

use std::time::Instant;

use thumbnail_worker::model::Spec;
use thumbnail_worker::pictures::{self, Header, Limits, fit};
use thumbnail_worker::stop::Stop;
use thumbnail_worker::videos::{self, frames};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("FILE is missing")?;
    let repeats: usize = arguments.next().map_or(Ok(9), |text| text.parse())?;
    let bytes = std::fs::read(&file)?;
    let spec = Spec::default();
    let mut webp = Vec::new();
    let mut took = Vec::new();
    for _ in 0..repeats.max(1) {
        let started = Instant::now();
        webp = if videos::Container::sniff(&bytes).is_some() {
            let poster = frames::open(&bytes, &videos::Limits::default())?.poster(&Stop::default())?;
            fit::render_webp(poster.pixels, poster.orientation, &spec)
        } else {
            let header = Header::read(&bytes, &Limits::default())?;
            pictures::render(&bytes, &header, &spec, &Stop::default())?
        };
        took.push(started.elapsed().as_secs_f64() * 1_000.0);
    }
    took.sort_by(f64::total_cmp);
    println!(
        "{{\"file\":{file:?},\"median_ms\":{:.2},\"fastest_ms\":{:.2},\"webp_bytes\":{}}}",
        took[took.len() / 2],
        took[0],
        webp.len()
    );
    if let Some(out) = arguments.next() {
        std::fs::write(out, webp)?;
    }
    Ok(())
}
