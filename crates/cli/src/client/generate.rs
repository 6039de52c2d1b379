//! `rushes generate` and `rushes watch`: start, then follow the stream until all is over.
//!
//! A watch that breaks is taken up again with its resume token, so that a server that dies or is replaced is not noticed.

use std::collections::BTreeMap;

use anyhow::Result;
use proto::generations::v1::generation_service_client::GenerationServiceClient;
use proto::generations::v1::start_generation_request::Priority;
use proto::generations::v1::watch_generations_response::Event;
use proto::generations::v1::{Generation, Input, StartGenerationRequest, WatchGenerationsRequest};
use tonic::Code;
use uuid::Uuid;

use crate::client::backoff::Backoff;
use crate::client::bar::Bar;
use crate::client::generations::{self, GENERATION};
use crate::client::session::Session;
use crate::failure::Exit;
use crate::{json, out, show};

/// Generates a video.
#[derive(Debug, clap::Args)]
pub struct Generate {
    /// projects/…/scenes/….
    #[arg(long)]
    scene: String,
    /// What to show, 1 to 2,000 characters.
    #[arg(long)]
    prompt: String,
    /// Makes a repetition come out alike.
    #[arg(long)]
    seed: Option<i64>,
    /// models/…; without it, the built-in one.
    #[arg(long, default_value = "")]
    model: String,
    /// An uploaded picture to go by, assets/…; may be given several times.
    #[arg(long = "reference", value_name = "ASSET")]
    references: Vec<String>,
    /// A UUID that makes a repetition safe; without it, a new one.
    #[arg(long)]
    request_id: Option<Uuid>,
    /// Let all that is ordinary go first, of any account.
    #[arg(long)]
    background: bool,
    /// Only check the request and say its price.
    #[arg(long)]
    validate_only: bool,
    /// Start it and do not watch.
    #[arg(long)]
    detach: bool,
}

/// Watches generations.
#[derive(Debug, clap::Args)]
pub struct Watch {
    /// generations/…, one or more; without any, all of `--parent`.
    names: Vec<String>,
    /// projects/… or projects/…/scenes/…; without it and without names, the whole account's, until Ctrl-C.
    #[arg(long, default_value = "")]
    parent: String,
}

impl Generate {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit> {
        let request = StartGenerationRequest {
            scene: self.scene,
            model: self.model,
            input: Some(Input { prompt: self.prompt, seed: self.seed, reference_assets: self.references }),
            request_id: self.request_id.unwrap_or_else(Uuid::now_v7).to_string(),
            validate_only: self.validate_only,
            priority: if self.background { Priority::Background } else { Priority::Normal }.into(),
        };
        let generation = start(session, request).await?;
        if self.validate_only {
            return session.show(GENERATION, &generation, |generation| {
                let price = generation.charge.as_ref().map_or(0, |charge| charge.held_micros);
                format!("it would cost {} credits\n", show::credits(price))
            });
        }
        if self.detach {
            return session.show(GENERATION, &generation, generations::text);
        }
        let name = generation.name.clone();
        let mut bar = (!session.json()).then(Bar::new);
        if let Some(bar) = &mut bar {
            out::warn(&name);
            bar.show(&generation);
        }
        let request = WatchGenerationsRequest { names: vec![name], until_terminal: true, ..Default::default() };
        let watching = follow(session, request, |generation| {
            if let Some(bar) = &mut bar {
                bar.show(generation);
            }
            Ok(())
        });
        let ended = tokio::select! {
            ended = watching => Some(ended),
            pressed = tokio::signal::ctrl_c() => pressed.map(|()| None)?,
        };
        if let Some(bar) = &bar {
            bar.end();
        }
        let Some(ended) = ended else {
            let name = &generation.name;
            out::warn(format_args!(
                "the generation goes on; to watch it: rushes watch {name}\nto stop it: rushes cancel {name}"
            ));
            return Ok(Exit::Interrupted);
        };
        let ended = ended?;
        for generation in ended.values() {
            session.show(GENERATION, generation, generations::text)?;
        }
        Ok(generations::exit(ended.values()))
    }
}

impl Watch {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit> {
        let until_terminal = !self.names.is_empty();
        let request =
            WatchGenerationsRequest { names: self.names, parent: self.parent, until_terminal, ..Default::default() };
        let ended = follow(session, request, |generation| {
            if session.json() {
                return json::print_line(GENERATION, generation);
            }
            let progress = generation.progress.clone().unwrap_or_default();
            let (state, percent) = (show::state(generation.state), progress.percent);
            out::print(format_args!("{state:<10} {percent:>3} %  {}  {}\n", generation.name, progress.stage))
        })
        .await?;
        Ok(generations::exit(ended.values()))
    }
}

/// Starts a generation; tried again with the same request id when the answer was lost.
async fn start(session: &Session, request: StartGenerationRequest) -> Result<Generation> {
    let mut client = GenerationServiceClient::new(session.gateway()?);
    let mut backoff = Backoff::new();
    loop {
        match client.start_generation(session.request(request.clone())?).await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) if backoff.again(&status).await => {}
            Err(status) => return Err(session.failed(&status)),
        }
    }
}

/// Watches until the server has nothing more to tell, and gives the last that is known of each generation. `news` is told
/// of every version once, in order.
async fn follow(
    session: &Session,
    mut request: WatchGenerationsRequest,
    mut news: impl FnMut(&Generation) -> Result<()>,
) -> Result<BTreeMap<String, Generation>> {
    let mut client = GenerationServiceClient::new(session.gateway()?);
    let mut known = BTreeMap::<String, Generation>::new();
    let mut backoff = Backoff::new();
    loop {
        let watched = client.watch_generations(session.stream(request.clone())?).await;
        let ended = match watched {
            Err(status) => Err(status),
            Ok(answer) => {
                let mut events = answer.into_inner();
                loop {
                    let event = match events.message().await {
                        Ok(Some(event)) => event,
                        Ok(None) => break Ok(()),
                        Err(status) => break Err(status),
                    };
                    backoff.heard();
                    request.resume_token = event.resume_token;
                    let generations = match event.event {
                        Some(Event::Snapshot(snapshot)) => snapshot.generations,
                        Some(Event::Update(generation)) => vec![generation],
                        Some(Event::Gap(_) | Event::Heartbeat(_) | Event::Moved(_)) | None => Vec::new(),
                    };
                    for generation in generations {
                        let old = known.get(&generation.name).map_or(0, |old| old.version);
                        // A snapshot after a gap repeats what did not change.
                        if generation.version > old {
                            news(&generation)?;
                            known.insert(generation.name.clone(), generation);
                        }
                    }
                }
            }
        };
        let over = request.names.iter().all(|name| known.get(name).is_some_and(|it| show::is_terminal(it.state)));
        if request.until_terminal && over {
            return Ok(known);
        }
        match ended {
            // The end of a stream's age, or of the process that held it.
            Ok(()) => backoff.pause().await,
            Err(status) if status.code() == Code::OutOfRange && !request.resume_token.is_empty() => {
                request.resume_token.clear();
            }
            Err(status) if backoff.again(&status).await => {}
            Err(status) => return Err(session.failed(&status)),
        }
    }
}
