//! The built-in provider's films, read back by a parser and a decoder that are not its own.

use std::time::Duration;

use futures::TryStreamExt as _;
use generation_worker::model::{CallOutcome, Charge, Order, OrderStatus, Reference};
use generation_worker::provider::Provider;
use generation_worker::providers::local::Local;
use openh264::decoder::Decoder;
use openh264::formats::YUVSource;

use crate::fake_provider::{self, input};

fn order(prompt: &str, seed: i64) -> Order {
    let mut order = fake_provider::order("local", "sketch", prompt);
    order.input.insert("seed".to_owned(), seed.into());
    order
}

/// Polls until the order is over; returns every progress seen, too.
async fn settled(
    local: &Local,
    order: &Order,
    reference: &Reference,
) -> (Result<OrderStatus, CallOutcome>, Vec<(u8, &'static str)>) {
    let mut seen = Vec::new();
    let end = async {
        loop {
            match local.poll(order, reference).await.map_err(|trouble| trouble.outcome) {
                Ok(OrderStatus::Working { percent, stage: doing }) => {
                    if seen.last() != Some(&(percent, doing)) {
                        seen.push((percent, doing));
                    }
                    tokio::time::sleep(local.poll_interval()).await;
                }
                end => return end,
            }
        }
    };
    let end = tokio::time::timeout(Duration::from_secs(60), end).await.expect("the sketch comes to an end");
    (end, seen)
}

async fn film(prompt: &str, seed: i64) -> Vec<u8> {
    let local = Local::new(Duration::ZERO, 2);
    let order = order(prompt, seed);
    let reference = local.submit(&order, &input(&order)).await.unwrap();
    assert!(matches!(settled(&local, &order, &reference).await.0, Ok(OrderStatus::Done(_))));
    let pieces: Vec<_> = local.fetch(&reference, "").await.unwrap().try_collect().await.unwrap();
    pieces.concat()
}

/// Mean luma of every frame, by decoding the file as a player would.
fn lumas(bytes: &[u8]) -> Vec<f64> {
    let mp4 = re_mp4::Mp4::read_bytes(bytes).unwrap();
    let track = mp4.tracks().values().find(|track| track.kind == Some(re_mp4::TrackKind::Video)).unwrap();
    assert_eq!((track.width, track.height), (640, 360));
    assert_eq!(track.timescale, 24);
    let re_mp4::StsdBoxContent::Avc1(avc) = &track.trak(&mp4).mdia.minf.stbl.stsd.contents else {
        panic!("the track is H.264");
    };
    assert_eq!(avc.avcc.avc_profile_indication, 66, "baseline");
    let mut packet = Vec::new();
    for set in avc.avcc.sequence_parameter_sets.iter().chain(&avc.avcc.picture_parameter_sets) {
        packet.extend_from_slice(&[0, 0, 0, 1]);
        packet.extend_from_slice(&set.bytes);
    }
    let mut decoder = Decoder::new().unwrap();
    let mut lumas = Vec::new();
    for sample in &track.samples {
        let mut rest = &bytes[sample.offset as usize..][..sample.size as usize];
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let (unit, next) = after.split_at(u32::from_be_bytes(*length) as usize);
            packet.extend_from_slice(&[0, 0, 0, 1]);
            packet.extend_from_slice(unit);
            rest = next;
        }
        let frame = decoder.decode(&packet).unwrap().expect("baseline has no reordering");
        assert_eq!(frame.dimensions(), (640, 360));
        let (stride, ..) = frame.strides();
        let sum: u64 = frame.y().chunks(stride).flat_map(|row| &row[..640]).map(|luma| u64::from(*luma)).sum();
        lumas.push(sum as f64 / (640.0 * 360.0));
        packet.clear();
    }
    lumas
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sketch_is_three_seconds_of_h264_that_open_on_black() {
    let bytes = film("A lighthouse in a storm, waves breaking", 7).await;
    let index = bytes.windows(4).position(|name| name == b"moov").unwrap();
    let frames = bytes.windows(4).position(|name| name == b"mdat").unwrap();
    assert!(index < frames, "the index comes first");
    let lumas = lumas(&bytes);
    assert_eq!(lumas.len(), 72);
    assert!(lumas[0] < 17.0 && lumas[2] < 17.0, "opens on black: {lumas:?}");
    assert!(lumas[36] > 50.0, "is lit in the middle: {lumas:?}");
    assert!(bytes.len() < 2 << 20, "{} bytes", bytes.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_order_gives_the_same_bytes_and_another_others() {
    let (first, again, other_seed, other_prompt) = tokio::join!(
        film("Dunes at dawn", 1),
        film("Dunes at dawn", 1),
        film("Dunes at dawn", 2),
        film("Dunes at dusk", 1)
    );
    assert!(first == again, "equal orders differ");
    assert!(first != other_seed, "the seed changes nothing");
    assert!(first != other_prompt, "the prompt changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_prompt_is_drawn() {
    for prompt in ["x", "ÄÖÜ éñ 漢字 🎬", &"word ".repeat(400), &"w".repeat(2000), "\u{0}\n\t"] {
        assert_eq!(lumas(&film(prompt, i64::MIN).await).len(), 72, "{prompt:.20}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_taken_once_and_found_by_its_key() {
    let local = Local::new(Duration::ZERO, 1);
    let order = order("One", 1);
    assert_eq!(local.find(&order).await.unwrap(), None);
    let reference = local.submit(&order, &input(&order)).await.unwrap();
    assert_eq!(local.submit(&order, &input(&order)).await.unwrap(), reference);
    assert_eq!(local.find(&order).await.unwrap(), Some(reference.clone()));
    assert!(settled(&local, &order, &reference).await.0.is_ok());
    local.forget(&reference);
    assert_eq!(local.poll(&order, &reference).await.unwrap_err().outcome, CallOutcome::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_rises_through_stages_at_the_set_pace() {
    let pace = Duration::from_millis(900);
    let local = Local::new(pace, 2);
    let started = std::time::Instant::now();
    let order = order("A slow pan", 3);
    let reference = local.submit(&order, &input(&order)).await.unwrap();
    let (end, seen) = settled(&local, &order, &reference).await;
    assert!(matches!(end, Ok(OrderStatus::Done(_))));
    assert!(started.elapsed() >= pace);
    assert!(seen.len() >= 4, "{seen:?}");
    assert!(seen.is_sorted_by_key(|(percent, _)| *percent), "{seen:?}");
    assert!(seen.iter().any(|(_, stage)| *stage == "rendering"), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_sketch_stops_and_stays_cancelled() {
    let local = Local::new(Duration::from_secs(60), 1);
    let order = order("Never seen", 4);
    let reference = local.submit(&order, &input(&order)).await.unwrap();
    local.cancel(&order, &reference).await.unwrap();
    assert_eq!(settled(&local, &order, &reference).await.0, Err(CallOutcome::Stopped(Charge::NotCharged)));
    assert!(local.fetch(&reference, "").await.is_err());
}
