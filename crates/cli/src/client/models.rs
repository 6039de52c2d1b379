//! `rushes models`: what can be asked for a video.

use std::fmt::Write as _;

use anyhow::Result;
use proto::models::v1::model_service_client::ModelServiceClient;
use proto::models::v1::{ListModelsRequest, Model};

use crate::client::session::Session;
use crate::failure::Exit;
use crate::show;

/// Lists models.
#[derive(Debug, clap::Args)]
pub struct List {
    /// How many, at most 100.
    #[arg(long, default_value_t = 100)]
    page_size: i32,
    /// Where the page before ended.
    #[arg(long, default_value = "")]
    page_token: String,
}

impl List {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit> {
        let Self { page_size, page_token } = self;
        let mut client = ModelServiceClient::new(session.gateway()?);
        let request = session.request(ListModelsRequest { page_size, page_token })?;
        let answer = client.list_models(request).await.map_err(|status| session.failed(&status))?;
        session.show("rushes.models.v1.ListModelsResponse", answer.get_ref(), |page| {
            let mut out: String = page.models.iter().map(line).collect();
            if !page.next_page_token.is_empty() {
                let _ = writeln!(out, "more: rushes models --page-token {}", page.next_page_token);
            }
            out
        })
    }
}

fn line(model: &Model) -> String {
    let limits = model.input_limits.unwrap_or_default();
    let pace = model.pace.as_ref().map_or_else(String::new, |pace| {
        let seconds = |time: Option<prost_types::Duration>| time.map_or(0, |time| time.seconds);
        format!(", half within {} s, four in five within {} s", seconds(pace.p50), seconds(pace.p80))
    });
    format!(
        "{:<32} {:>10} credits  by {}; {} characters, {} pictures{pace}\n",
        model.name,
        show::credits(model.price_micros),
        model.provider,
        limits.prompt_characters,
        limits.reference_assets,
    )
}
