//! The simulated provider as a process of its own, and the settings of the services that lead to it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use provider_double::{Outage, Settings};
use testkit::Process;

use crate::http;

/// The models that it makes, one by each protocol.
pub(crate) const MODELS: [&str; 2] = ["models/by-replicate", "models/by-fal"];

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
        let (bill, models) = (folder.join("bill.jsonl"), folder.join("models.json"));
        let listen = SocketAddr::from(([127, 0, 0, 1], testkit::free_port()));
        let mut settings = Settings { listen, ..Settings::new(&bill) };
        change(&mut settings);
        let model = |id: &str, provider: &str, model: &str, start: u64, total: u64| {
            serde_json::json!({
                "id": id.trim_start_matches("models/"), "provider": provider, "model": model, "price_micros": 100_000,
                "max_attempts": 5, "start_deadline": format!("{start}ms"), "total_deadline": format!("{total}ms"),
            })
        };
        let ms = u64::try_from(deadline.as_millis())?;
        let catalogue = serde_json::json!({"models": [
            model(MODELS[0], "replicate", "acme/video", ms, ms),
            model(MODELS[1], "fal", "fal-ai/video/text-to-video", ms, ms),
        ]});
        std::fs::write(&models, catalogue.to_string()).context("writing the catalogue")?;
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
            ("RUSHES_REPLICATE_WEBHOOK_SECRETS", settings.secret.clone()),
            ("RUSHES_FAL_KEY", settings.token),
            ("RUSHES_FAL_URL", at("/fal")),
            ("RUSHES_FAL_JWKS_URL", at("/fal-keys")),
        ];
        Ok(Self { bill, address: listen, _process: process, environment })
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
