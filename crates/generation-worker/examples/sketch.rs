//! Draws what the built-in provider makes of an input: `cargo run --package generation-worker --example sketch -- "A prompt" out
//! [--FIELD VALUE]...`, and prints each file, what it took and how fast that was.
//!
//! The fields are those of the provider: `--seed 7 --duration 2.5 --aspect-ratio 9:16 --resolution 720p --fps 30 --audio true
//! --outputs 2 --negative-prompt fog --first-frame a.jpg --last-frame b.png --reference c.webp`, and for stills `--kind image
//! --size 1024x1024`. `--reference` may be there four times. Outputs are called `out.mp4`, `out-2.mp4` and so on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use generation_worker::providers::local::{SketchInput, draw};
use serde_json::{Map, Value};

/// Progress is printed this often.
const REPORTED: Duration = Duration::from_secs(2);

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let prompt = arguments.next().context("the prompt is missing")?;
    let name = arguments.next().context("the name of the files is missing")?;
    let mut input = Map::from_iter([("prompt".to_owned(), Value::from(prompt))]);
    let mut files = BTreeMap::new();
    let mut references = Vec::new();
    while let Some(flag) = arguments.next() {
        let field = flag.strip_prefix("--").with_context(|| format!("{flag} is no flag"))?.replace('-', "_");
        let value = arguments.next().with_context(|| format!("{flag} has no value"))?;
        match field.as_str() {
            "first_frame" | "last_frame" => {
                files.insert(format!("/{field}"), read(&value)?);
                input.insert(field, Value::Null);
            }
            "reference" => {
                files.insert(format!("/references/{}", references.len()), read(&value)?);
                references.push(Value::Null);
            }
            // Numbers and truth values are what they are, all else is a text.
            _ => drop(input.insert(field, serde_json::from_str(&value).unwrap_or(Value::String(value)))),
        }
    }
    if !references.is_empty() {
        input.insert("references".to_owned(), Value::Array(references));
    }
    let checked = match SketchInput::parse(&input) {
        Ok(checked) => checked,
        Err(wrong) => bail!("{wrong}"),
    };
    let started = Instant::now();
    let mut reported = started;
    let progress = |percent, doing: &str| {
        if reported.elapsed() > REPORTED {
            reported = Instant::now();
            println!("{percent} % {doing}");
        }
    };
    let outputs = draw(&checked, &files, progress, || false)?;
    let took = started.elapsed();
    for (n, output) in outputs.iter().enumerate() {
        let number = if n == 0 { String::new() } else { format!("-{}", n + 1) };
        let file = format!("{name}{number}.{}", output.extension);
        std::fs::write(&file, &output.bytes).with_context(|| format!("writing {file}"))?;
        println!("{file}: {}, {} bytes", output.mime_type, output.bytes.len());
    }
    println!("drawn in {:.2} s; the process held {} at its highest", took.as_secs_f64(), peak());
    Ok(())
}

fn read(file: &str) -> anyhow::Result<Bytes> {
    Ok(std::fs::read(file).with_context(|| format!("reading {file}"))?.into())
}

/// The memory of this process at its highest, where the system says it.
fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or_else(|| "an unknown amount of memory".to_owned(), |kilobytes| kilobytes.trim().to_owned())
}
