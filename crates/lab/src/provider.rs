//! The simulated provider as a process of its own, and the settings of the services that lead to it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use provider_double::{FAL_COST_MICROS, OPENROUTER_COST_MICROS, Outage, Settings};
use testkit::Process;

use crate::http;

/// The models that it makes, one by each protocol.
pub(crate) const MODELS: [&str; 4] = ["models/by-replicate", "models/by-fal", "models/by-openrouter", "models/by-cog"];
/// The same, with their providers, what those call them, and what they ask for an order in their currency, where they tell it.
const REMOTE_NAMES: [(&str, &str, &str, Option<i64>); 4] = [
    ("by-replicate", "replicate", "acme/video", None),
    ("by-fal", "fal", "fal-ai/video/text-to-video", Some(FAL_COST_MICROS)),
    ("by-openrouter", "openrouter", "acme/routed-video", Some(OPENROUTER_COST_MICROS)),
    ("by-cog", "cog", "gpu", None),
];

/// A running provider.
pub(crate) struct Provider {
    pub(crate) bill: PathBuf,
    address: SocketAddr,
    /// Keeps it alive.
    _process: Process,
    environment: Vec<(&'static str, String)>,
}

impl Provider {
    /// Starts one with its bill and the catalogue of its models in `folder`. A generation of one of its models is stopped
    /// `deadline` after its start.
    pub(crate) async fn start(folder: &Path, deadline: Duration, change: impl FnOnce(&mut Settings)) -> Result<Self> {
        let (bill, models) = (folder.join("bill.jsonl"), folder.join("models.toml"));
        let listen = SocketAddr::from(([127, 0, 0, 1], testkit::free_port()));
        let mut settings = Settings { listen, ..Settings::new(&bill) };
        let ms = u64::try_from(deadline.as_millis())?;
        let catalogue = REMOTE_NAMES.map(|(id, provider, model, cost)| entry((id, provider, model), cost, ms)).concat();
        std::fs::write(&models, catalogue).context("writing the catalogue")?;
        std::fs::write(folder.join("video.json"), schema().to_string()).context("writing the models' schema")?;
        settings.schemas = REMOTE_NAMES.map(|(_, _, model, _)| (model.to_owned(), schema())).into();
        change(&mut settings);
        let file = folder.join("provider.json");
        std::fs::write(&file, serde_json::to_string(&settings)?).context("writing the provider's settings")?;
        let program = std::env::current_exe().context("finding this program")?.with_file_name("provider-double");
        let mut command = Command::new(program);
        command.arg(file);
        let process = Process::spawn("provider-double", command, &folder.join("provider.log"))?;
        let question = async || tokio::net::TcpStream::connect(listen).await.ok().map(drop);
        testkit::eventually("the simulated provider listens", Duration::from_secs(20), question).await?;
        let at = |path: &str| format!("http://{listen}{path}");
        let environment = vec![
            ("RUSHES_MODELS", models.display().to_string()),
            ("RUSHES_REPLICATE_TOKEN", settings.token.clone()),
            ("RUSHES_REPLICATE_URL", at("/replicate/v1")),
            ("RUSHES_FAL_USER_ID", "user-of-the-double".to_owned()),
            ("RUSHES_REPLICATE_WEBHOOK_SECRETS", settings.secret.clone()),
            ("RUSHES_OPENROUTER_KEY", settings.token.clone()),
            ("RUSHES_OPENROUTER_URL", at("/openrouter/api/v1")),
            ("RUSHES_COG_TOKEN_GPU", settings.token.clone()),
            ("RUSHES_COG_URL_GPU", at("/cog/gpu")),
            ("RUSHES_FAL_KEY", settings.token),
            ("RUSHES_FAL_URL", at("/fal")),
            ("RUSHES_FAL_JWKS_URL", at("/fal-keys")),
            ("RUSHES_FAL_REST_URL", at("/fal-rest")),
            ("RUSHES_FAL_API_URL", at("/fal-api")),
        ];
        Ok(Self { bill, address: listen, _process: process, environment })
    }

    /// What the models are called at their providers.
    pub(crate) fn remote_names() -> Vec<String> {
        REMOTE_NAMES.iter().map(|(_, _, model, _)| (*model).to_owned()).collect()
    }

    /// Begins an outage; says whether the provider was there to hear of it.
    pub(crate) async fn begin_outage(&self, outage: &Outage) -> bool {
        let Ok(body) = serde_json::to_string(outage) else { return false };
        http::ask(self.address, "POST", "/double/outages", &body).await.is_some_and(|(is_well, _)| is_well)
    }

    /// The settings of the services that lead to it.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        self.environment.clone()
    }
}

/// The input that all models take: words, a picture to begin with, and how many videos are made.
fn schema() -> serde_json::Value {
    serde_json::json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["prompt"],
        "properties": {
            "prompt": {"type": "string", "minLength": 1, "maxLength": 2_000},
            "seed": {"type": "integer"},
            "image": {"type": "string", "format": "uri"},
            "num_outputs": {"type": "integer", "minimum": 1, "maximum": 4, "default": 1},
        },
    })
}

/// An entry of the catalogue.
fn entry((id, provider, model): (&str, &str, &str), cost: Option<i64>, ms: u64) -> String {
    let cost = cost.map_or_else(String::new, |micros| {
        let amount = cli::show::credits(micros);
        format!("cost = [{{ per = \"generation\", rows = [{{ credits = \"{amount}\" }}] }}]\n")
    });
    format!(
        r#"
[[model]]
id = "{id}"
provider = "{provider}"
model = "{model}"
kind = "image-to-video"
schema = "video.json"
max_attempts = 5
start_deadline = "{ms}ms"
total_deadline = "{ms}ms"
map = {{ prompt = "prompt", seed = "seed", outputs = "num_outputs" }}
media = [{{ role = "FIRST_FRAME", to = "image" }}]
price = [{{ per = "output", rows = [{{ credits = "0.1" }}] }}]
{cost}"#
    )
}
