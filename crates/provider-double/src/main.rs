//! The process: reads its settings from the JSON file that is its only argument, and serves until it is ended.

use anyhow::{Context, Result};
use provider_double::{Double, Settings};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let path = std::env::args_os().nth(1).filter(|path| !path.as_encoded_bytes().starts_with(b"-"));
    let path = path.context(
        "the one argument is a JSON file of settings; {} is one, and all that can stand in it is in settings.rs",
    )?;
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let settings: Settings = serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
    let double = Double::start(settings).await?;
    println!("listening at {}", double.address());
    std::future::pending().await
}
