//! The built-in provider's films and stills, read back by parsers and decoders that are not its own.

mod film;
mod frames;
mod pictures;
mod settings;
mod sound;
mod stills;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use generation_worker::model::{CallOutcome, Charge, Order, OrderStatus, Reference};
use generation_worker::provider::Provider;
use generation_worker::providers::local::{self, DrawError, Drawn, Local, SketchInput};
use serde_json::{Value, json};

use crate::fake_provider::{self, input};
use film::Film;

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

async fn ordered(prompt: &str, seed: i64) -> Vec<u8> {
    let local = Local::new(Duration::ZERO, 2);
    let order = order(prompt, seed);
    let reference = local.submit(&order, &input(&order)).await.unwrap();
    assert!(matches!(settled(&local, &order, &reference).await.0, Ok(OrderStatus::Done(_))));
    let pieces: Vec<_> = local.fetch(&reference, "0").await.unwrap().try_collect().await.unwrap();
    pieces.concat()
}

/// Reads an input, with a prompt if it has none.
fn parse(mut input: Value) -> Result<SketchInput, String> {
    let fields = input.as_object_mut().unwrap();
    fields.entry("prompt").or_insert_with(|| "A lighthouse in a storm".into());
    SketchInput::parse(fields)
}

/// Why an input, as it is, is refused.
#[track_caller]
fn refusal(input: &Value) -> String {
    SketchInput::parse(input.as_object().unwrap()).unwrap_err()
}

#[track_caller]
fn try_draw(input: Value, files: &BTreeMap<String, Bytes>) -> Result<Vec<Drawn>, DrawError> {
    local::draw(&parse(input).unwrap(), files, |_, _| {}, || false)
}

#[track_caller]
fn draw_with(input: Value, files: &BTreeMap<String, Bytes>) -> Vec<Drawn> {
    try_draw(input, files).unwrap()
}

#[track_caller]
fn draw(input: Value) -> Vec<Drawn> {
    draw_with(input, &BTreeMap::new())
}

/// The film of an input.
#[track_caller]
fn film(input: Value) -> Film {
    Film::decode(&draw(input)[0].bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sketch_is_three_seconds_of_h264_that_open_on_black() {
    let bytes = ordered("A lighthouse in a storm, waves breaking", 7).await;
    let index = bytes.windows(4).position(|name| name == b"moov").unwrap();
    let frames = bytes.windows(4).position(|name| name == b"mdat").unwrap();
    assert!(index < frames, "the index comes first");
    let film = Film::decode(&bytes);
    assert_eq!((film.width, film.height, film.rate, film.frames.len()), (640, 360, 24, 72));
    let lumas = film.lumas();
    assert!(lumas[0] < 17.0 && lumas[2] < 17.0, "opens on black: {lumas:?}");
    assert!(lumas[36] > 50.0, "is lit in the middle: {lumas:?}");
    assert!(bytes.len() < 2 << 20, "{} bytes", bytes.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_order_gives_the_same_bytes_and_another_others() {
    let (first, again, other_seed, other_prompt) = tokio::join!(
        ordered("Dunes at dawn", 1),
        ordered("Dunes at dawn", 1),
        ordered("Dunes at dawn", 2),
        ordered("Dunes at dusk", 1)
    );
    assert!(first == again, "equal orders differ");
    assert!(first != other_seed, "the seed changes nothing");
    assert!(first != other_prompt, "the prompt changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_prompt_is_drawn() {
    for prompt in ["x", "ÄÖÜ éñ 漢字 🎬", &"word ".repeat(400), &"w".repeat(2000), "\u{0}\n\t"] {
        assert_eq!(Film::decode(&ordered(prompt, i64::MIN).await).frames.len(), 72, "{prompt:.20}");
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
    assert!(local.fetch(&reference, "0").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_no_sketch_takes_is_refused_for_its_input() {
    let (local, order) = (Local::new(Duration::ZERO, 1), order(&"x".repeat(20_001), 1));
    let refused = local.submit(&order, &input(&order)).await.unwrap_err();
    assert_eq!(refused.outcome, CallOutcome::InputRefused);
}

#[test]
fn drawing_reports_how_far_it_is_and_stops_when_it_is_cancelled() {
    let input = parse(json!({"resolution": "144p", "outputs": 2})).unwrap();
    let mut seen = Vec::new();
    local::draw(&input, &BTreeMap::new(), |percent, doing| seen.push((percent, doing)), || false).unwrap();
    assert_eq!(seen[0], (0, "composing"));
    assert_eq!(seen[seen.len() - 1], (90, "rendering"));
    assert!(seen.len() > 20 && seen.is_sorted_by_key(|(percent, _)| *percent), "{seen:?}");

    let count = std::cell::Cell::new(0);
    let cancelled = local::draw(&input, &BTreeMap::new(), |_, _| count.set(count.get() + 1), || count.get() == 5);
    assert_eq!(cancelled.unwrap_err(), DrawError::Cancelled);
    assert_eq!(count.get(), 5, "not a step further");
}
