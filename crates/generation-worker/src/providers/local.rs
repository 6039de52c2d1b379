//! The built-in provider: it draws a short film of the prompt, without a network and without any model.
//!
//! It lets a machine without any provider show everything around one; a sketch says so in its own picture. Invariant: the same
//! prompt, seed and references give the same bytes. Orders live in this process only, so after a restart a reference is
//! [`CallOutcome::NotFound`], and since submitting is idempotent and free the worker orders again.

mod film;
mod font;
mod mp4;
mod sketch;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chassis::telemetry::attributes;
use domain::provider::Provider;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::info_span;
use uuid::Uuid;

use self::film::Film;
use self::sketch::Sketch;
use crate::model::{
    Abilities, CallOutcome, Charge, Evidence, Input, Made, Order, OrderStatus, Reference, Stopping, Trouble, Usage,
};
use crate::provider::{self, Pieces};

/// Its name.
const NAME: &str = Provider::Local.as_str();

/// Draws sketches.
#[derive(Debug)]
pub struct Local {
    pace: Duration,
    orders: Mutex<HashMap<Reference, Drawing>>,
    /// How many draw at one time; a film takes and returns a slot with every batch of frames, so that none waits for a whole one.
    slots: Arc<Semaphore>,
}

/// An order that is drawn or was. Its task ends when the order is forgotten.
#[derive(Debug)]
struct Drawing {
    state: Arc<Mutex<State>>,
    task: AbortHandle,
}

impl Drop for Drawing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone, Debug)]
enum State {
    Working { percent: u8, stage: &'static str },
    Done(Bytes),
    Failed(String),
    Cancelled,
}

impl Local {
    /// A provider that takes at least `pace` for a film, so that progress can be watched, and draws on `threads` threads.
    #[must_use]
    pub fn new(pace: Duration, threads: usize) -> Self {
        Self { pace, orders: Mutex::default(), slots: Arc::new(Semaphore::new(threads.max(1))) }
    }

    fn orders(&self) -> MutexGuard<'_, HashMap<Reference, Drawing>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self, reference: &Reference) -> Option<State> {
        self.orders().get(reference).map(|drawing| read(&drawing.state))
    }
}

impl provider::Provider for Local {
    fn name(&self) -> &'static str {
        NAME
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            idempotent_submit: true,
            find_by_key: true,
            cancel: true,
            progress: true,
            queue_position: false,
            webhook: false,
            in_process: true,
        }
    }

    fn submit<'a>(&'a self, order: &'a Order, input: &'a Input) -> BoxFuture<'a, Result<Reference, Trouble>> {
        async move {
            let _span =
                info_span!("submit", otel.name = format!("submit {NAME}"), { attributes::PROVIDER } = NAME).entered();
            let reference = reference(order.key);
            let mut orders = self.orders();
            if !orders.contains_key(&reference) {
                let state = Arc::new(Mutex::new(State::Working { percent: 0, stage: "composing" }));
                let drawing =
                    draw(SketchInput::of(order, input), self.pace, Arc::clone(&self.slots), Arc::clone(&state));
                let task = tokio::spawn(drawing).abort_handle();
                orders.insert(reference.clone(), Drawing { state, task });
            }
            Ok(reference)
        }
        .boxed()
    }

    fn find<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Option<Reference>, Trouble>> {
        async move { Ok(Some(reference(order.key)).filter(|reference| self.orders().contains_key(reference))) }.boxed()
    }

    fn poll<'a>(&'a self, _: &'a Order, reference: &'a Reference) -> BoxFuture<'a, Result<OrderStatus, Trouble>> {
        async move {
            match self.state(reference) {
                None => Err(Trouble::new(CallOutcome::NotFound, "the sketch is not in this process")),
                Some(State::Working { percent, stage }) => Ok(OrderStatus::Working { percent, stage }),
                Some(State::Done(_)) => {
                    Ok(OrderStatus::Done(Made { addresses: vec![String::new()], usage: Usage::default() }))
                }
                Some(State::Failed(cause)) => {
                    let trouble =
                        Trouble::new(CallOutcome::Failed(Charge::NotCharged), "the sketch could not be drawn");
                    Err(trouble.with_evidence(Evidence::cause(cause)))
                }
                Some(State::Cancelled) => {
                    Err(Trouble::new(CallOutcome::Stopped(Charge::NotCharged), "the sketch was stopped"))
                }
            }
        }
        .boxed()
    }

    fn fetch<'a>(&'a self, reference: &'a Reference, _: &'a str) -> BoxFuture<'a, Result<Pieces<'a>, Trouble>> {
        async move {
            let _span = info_span!("fetch output", { attributes::PROVIDER } = NAME).entered();
            let Some(State::Done(bytes)) = self.state(reference) else {
                let detail = "the sketch is not finished, or was forgotten";
                return Err(Trouble::new(CallOutcome::NotFound, detail));
            };
            Ok(futures::stream::once(async move { Ok(bytes) }).boxed())
        }
        .boxed()
    }

    fn cancel<'a>(&'a self, _: &'a Order, reference: &'a Reference) -> BoxFuture<'a, Result<Stopping, Trouble>> {
        async move {
            let _span =
                info_span!("cancel", otel.name = format!("cancel {NAME}"), { attributes::PROVIDER } = NAME).entered();
            if let Some(drawing) = self.orders().get(reference) {
                let mut state = drawing.state.lock().unwrap_or_else(PoisonError::into_inner);
                if matches!(*state, State::Working { .. }) {
                    *state = State::Cancelled;
                    drawing.task.abort();
                }
            }
            Ok(Stopping::Asked)
        }
        .boxed()
    }

    fn poll_interval(&self) -> Duration {
        (self.pace / 20).clamp(Duration::from_millis(20), Duration::from_millis(250))
    }

    fn forget(&self, reference: &Reference) {
        self.orders().remove(reference);
    }
}

/// What a sketch is drawn of.
struct SketchInput {
    prompt: String,
    seed: i64,
    /// The names of the files.
    files: Vec<String>,
}

impl SketchInput {
    fn of(order: &Order, input: &Input) -> Self {
        Self {
            prompt: input.json.get("prompt").and_then(Value::as_str).unwrap_or_default().to_owned(),
            seed: input.json.get("seed").and_then(Value::as_i64).unwrap_or_default(),
            files: order.files.iter().map(|file| file.name.to_string()).collect(),
        }
    }
}

fn reference(key: Uuid) -> Reference {
    Reference(format!("local-{key}"))
}

fn read(state: &Mutex<State>) -> State {
    state.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Sets a state, unless the order is over already: the frame that was being drawn must not undo a cancel.
fn set(state: &Mutex<State>, next: State) {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    if matches!(*state, State::Working { .. }) {
        *state = next;
    }
}

/// Draws a film in batches of frames, never faster than its pace, and leaves the result in `state`.
async fn draw(input: SketchInput, pace: Duration, slots: Arc<Semaphore>, state: Arc<Mutex<State>>) {
    let started = Instant::now();
    let result = async {
        let sketch = Arc::new(Sketch::new(&input.prompt, input.seed, &input.files));
        let mut film = Film::new().map_err(|error| error.to_string())?;
        set(&state, State::Working { percent: 5, stage: "rendering" });
        for first in (0..sketch::FRAMES).step_by(sketch::RATE / 4) {
            let frames = first..(first + sketch::RATE / 4).min(sketch::FRAMES);
            let done = frames.end;
            let slot = slots.acquire().await.map_err(|error| error.to_string())?;
            let sketch = Arc::clone(&sketch);
            let drawn = tokio::task::spawn_blocking(move || {
                frames.into_iter().try_for_each(|frame| film.add(&sketch.frame(frame))).map(|()| film)
            });
            film = drawn.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
            drop(slot);
            let percent = 5 + 85 * done / sketch::FRAMES;
            set(&state, State::Working { percent: u8::try_from(percent).unwrap_or(90), stage: "rendering" });
            tokio::time::sleep_until(started + pace.mul_f64(0.9) * done as u32 / sketch::FRAMES as u32).await;
        }
        set(&state, State::Working { percent: 92, stage: "packaging" });
        tokio::time::sleep_until(started + pace).await;
        film.finish().map_err(str::to_owned)
    };
    match result.await {
        Ok(bytes) => set(&state, State::Done(bytes.into())),
        Err(error) => set(&state, State::Failed(error)),
    }
}
