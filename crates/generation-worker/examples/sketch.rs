//! Draws the film that the built-in provider makes of a prompt: `cargo run --example sketch -- "A prompt" out.mp4 [SEED]`.

use std::time::Duration;

use anyhow::Context as _;
use futures::TryStreamExt as _;
use generation_worker::model::{Input, MediaKind, Order, OrderStatus};
use generation_worker::provider::Provider as _;
use generation_worker::providers::local::Local;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let prompt = arguments.next().context("the prompt is missing")?;
    let file = arguments.next().context("the name of the MP4 file is missing")?;
    let seed: i64 = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let local = Local::new(Duration::ZERO, 1);
    let mut json = serde_json::Map::new();
    json.insert("prompt".to_owned(), prompt.into());
    json.insert("seed".to_owned(), seed.into());
    let order = Order {
        key: uuid::Uuid::now_v7(),
        provider: local.name().to_owned(),
        model: "sketch".to_owned(),
        input: json.clone(),
        files: Vec::new(),
        output: None,
        refusals: Vec::new(),
        output_kinds: vec![MediaKind::Video],
        max_outputs: 1,
        max_run_time: None,
    };
    let reference = local.submit(&order, &Input { json, files: Vec::new() }).await?;
    loop {
        match local.poll(&order, &reference).await? {
            OrderStatus::Done(_) => break,
            OrderStatus::Working { .. } | OrderStatus::Waiting { .. } => {
                tokio::time::sleep(local.poll_interval()).await;
            }
        }
    }
    let pieces: Vec<_> = local.fetch(&reference, "").await?.try_collect().await?;
    std::fs::write(&file, pieces.concat()).with_context(|| format!("writing {file}"))
}
