//! `rushes generate` and `rushes watch`: start, then follow the stream until all is over.
//!
//! A watch that breaks is taken up again with its resume token, so that a server that dies or is replaced is not noticed.

mod input;
mod parameters;

use std::collections::BTreeMap;

use anyhow::Result;
use proto::generations::v1::generation_service_client::GenerationServiceClient;
use proto::generations::v1::start_generation_request::Priority;
use proto::generations::v1::watch_generations_response::Event;
use proto::generations::v1::{Generation, StartGenerationRequest, WatchGenerationsRequest};
use tonic::Code;
use uuid::Uuid;

use crate::client::backoff::Backoff;
use crate::client::bar::Bar;
use crate::client::generations::{self, GENERATION};
use crate::client::labels::Labels;
use crate::client::models;
use crate::client::session::Session;
use crate::failure::{Exit, Failure};
use crate::{json, out, show};

use input::Inputs;

/// Generates a video.
#[derive(Debug, clap::Args)]
pub struct Generate {
    /// projects/…/scenes/….
    #[arg(long)]
    scene: String,
    /// models/…; without it, the built-in one.
    #[arg(long, default_value = "")]
    model: String,
    /// A UUID that makes a repetition safe; without it, a new one.
    #[arg(long)]
    request_id: Option<Uuid>,
    /// Let all that is ordinary go first, of any account.
    #[arg(long)]
    background: bool,
    /// Only check the request and say its price. Files among its media are uploaded all the same.
    #[arg(long)]
    validate_only: bool,
    /// Start it and do not watch.
    #[arg(long)]
    detach: bool,
    /// Refuse it if it would hold more than so many credits.
    #[arg(long, value_name = "CREDITS")]
    max_price: Option<String>,
    #[command(flatten)]
    labels: Labels,
    /// For whom it is made.
    #[arg(long, default_value = "", hide_default_value = true)]
    end_user: String,
    #[command(flatten)]
    inputs: Inputs,
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
        let max_price_micros = self.max_price.as_deref().map(parse_credits).transpose()?;
        let model = match self.inputs.has_own() {
            true => Some(models::get(session, &self.model).await?),
            false => None,
        };
        let request = StartGenerationRequest {
            scene: self.scene,
            model: self.model,
            input: Some(self.inputs.into_input(session, model.as_ref()).await?),
            request_id: self.request_id.unwrap_or_else(Uuid::now_v7).to_string(),
            validate_only: true,
            priority: if self.background { Priority::Background } else { Priority::Normal }.into(),
            max_price_micros,
            labels: self.labels.into_map(),
            end_user: self.end_user,
        };
        if self.validate_only {
            let quote = start(session, request).await?;
            return session.show(GENERATION, &quote, |quote| format!("it would cost {}", price(quote)));
        }
        if !session.json() {
            out::warn(format_args!("it costs {}", price(&start(session, request.clone()).await?).trim_end()));
        }
        let generation = start(session, StartGenerationRequest { validate_only: false, ..request }).await?;
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

/// What a quote holds at most, and what that is made up of.
fn price(quote: &Generation) -> String {
    let charge = quote.charge.clone().unwrap_or_default();
    let mut text = format!("up to {} credits\n", show::credits(charge.held_micros));
    charge.lines.iter().for_each(|line| text += &generations::price_line(line));
    text
}

fn parse_credits(text: &str) -> Result<i64> {
    let wrong =
        || Failure::new(format!("--max-price {text} is no price")).todo("write credits: 1.50").exit(Exit::Usage);
    let (whole, places) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(places) || places.len() > 6 {
        return Err(wrong().into());
    }
    format!("{whole}{places:0<6}").parse().map_err(|_| wrong().into())
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
            let percent = generation.progress.as_ref().map_or(0, |progress| progress.percent);
            let (state, step) = (show::state(generation.state), generations::step(generation));
            out::print(format_args!("{state:<10} {percent:>3} %  {}  {step}\n", generation.name))
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
