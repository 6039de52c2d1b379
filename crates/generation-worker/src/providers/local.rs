//! The built-in provider: it draws a short film of the prompt, or a still, without a network and without any model.
//!
//! It lets a machine without any provider show everything around one; a sketch says so in its own picture. Invariant: the same
//! input and files give the same bytes. Orders live in this process only, so after a restart a reference is
//! [`CallOutcome::NotFound`], and since submitting is idempotent and free the worker orders again.

mod canvas;
mod cards;
mod dice;
mod drawing;
mod film;
mod flac;
mod font;
mod hill;
mod input;
mod mp4;
mod picture;
mod size;
mod sketch;
mod still;
mod stop;
mod title;
mod tune;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use chassis::telemetry::attributes;
use domain::provider::Provider;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use rustix::process::nice;
use serde_json::{Map, Value};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::info_span;
use uuid::Uuid;

pub use self::drawing::{DrawError, Drawing, Drawn, draw};
pub use self::input::SketchInput;
use crate::model::{
    Abilities, CallOutcome, Charge, Evidence, Input, Made, MediaKind, Order, OrderStatus, Reference, Stopping, Trouble,
};
use crate::provider::{self, Pieces};

/// Its name.
const NAME: &str = Provider::Local.as_str();
/// How much processors prefer others to what draws: three times, as to the thumbnail-worker's decoders.
const NICE: i32 = 5;

/// Draws sketches.
#[derive(Debug)]
pub struct Local {
    pace: Duration,
    orders: Mutex<HashMap<Reference, Running>>,
    /// How many draw at one time; a film takes and returns a slot with every batch of frames, so that none waits for a whole one.
    slots: Arc<Semaphore>,
}

/// An order that is drawn or was. Its task ends when the order is forgotten.
#[derive(Debug)]
struct Running {
    state: Arc<Mutex<State>>,
    task: AbortHandle,
    /// Ends what runs on a thread of its own, which a task that is aborted does not.
    stop: Arc<AtomicBool>,
}

impl Running {
    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.abort();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

#[derive(Clone, Debug)]
enum State {
    Working { percent: u8, stage: &'static str },
    Done(Vec<Bytes>),
    Failed(DrawError),
    Cancelled,
}

impl Local {
    /// A provider that takes at least `pace` for a film, so that progress can be watched, and draws on `threads` threads.
    #[must_use]
    pub fn new(pace: Duration, threads: usize) -> Self {
        Self { pace, orders: Mutex::default(), slots: Arc::new(Semaphore::new(threads.max(1))) }
    }

    fn orders(&self) -> MutexGuard<'_, HashMap<Reference, Running>> {
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
                let stop = Arc::new(AtomicBool::new(false));
                let work = Work { pace: self.pace, slots: Arc::clone(&self.slots), stop: Arc::clone(&stop) };
                let pointers = order.files.iter().map(|file| file.pointer.clone());
                let files = pointers.zip(input.files.iter().cloned()).collect();
                let input = SketchInput::parse(&fields_of(order, input)).map_err(refused)?;
                let task = tokio::spawn(work.run(input, files, Arc::clone(&state))).abort_handle();
                orders.insert(reference.clone(), Running { state, task, stop });
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
                Some(State::Done(outputs)) => {
                    let addresses = (0..outputs.len()).map(|at| at.to_string()).collect();
                    Ok(OrderStatus::Done(Made { addresses, ..Made::default() }))
                }
                Some(State::Failed(error @ DrawError::File { .. })) => Err(refused(error.to_string())),
                Some(State::Failed(error)) => {
                    let trouble =
                        Trouble::new(CallOutcome::Failed(Charge::NotCharged), "the sketch could not be drawn");
                    Err(trouble.with_evidence(Evidence::cause(error.to_string())))
                }
                Some(State::Cancelled) => {
                    Err(Trouble::new(CallOutcome::Stopped(Charge::NotCharged), "the sketch was stopped"))
                }
            }
        }
        .boxed()
    }

    /// An output's address is its number.
    fn fetch<'a>(&'a self, reference: &'a Reference, address: &'a str) -> BoxFuture<'a, Result<Pieces<'a>, Trouble>> {
        async move {
            let _span = info_span!("fetch output", { attributes::PROVIDER } = NAME).entered();
            let outputs = match self.state(reference) {
                Some(State::Done(outputs)) => outputs,
                _ => Vec::new(),
            };
            let output = address.parse().ok().and_then(|at: usize| outputs.get(at).cloned());
            let Some(bytes) = output else {
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
                    drawing.stop();
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

/// The fields of an order's input. What it makes says whether it is a film or a still, where the input does not.
fn fields_of(order: &Order, input: &Input) -> Map<String, Value> {
    let mut fields = input.json.clone();
    if order.output_kinds == [MediaKind::Image] {
        fields.entry("kind").or_insert_with(|| "image".into());
    }
    fields
}

fn refused(reason: String) -> Trouble {
    Trouble::new(CallOutcome::InputRefused, "the sketch does not take this input")
        .with_evidence(Evidence::cause(reason))
}

/// How an order is drawn.
struct Work {
    /// The shortest time that it takes.
    pace: Duration,
    slots: Arc<Semaphore>,
    stop: Arc<AtomicBool>,
}

impl Work {
    /// Draws an order step by step, and leaves the result in `state`.
    async fn run(self, input: SketchInput, files: BTreeMap<String, Bytes>, state: Arc<Mutex<State>>) {
        match self.draw(input, files, &state).await {
            Ok(outputs) => {
                set(&state, State::Done(outputs.into_iter().map(|output| output.bytes).collect()));
            }
            Err(error) => set(&state, State::Failed(error)),
        }
    }

    async fn draw(
        &self,
        input: SketchInput,
        files: BTreeMap<String, Bytes>,
        state: &Mutex<State>,
    ) -> Result<Vec<Drawn>, DrawError> {
        let started = Instant::now();
        let stop = Arc::clone(&self.stop);
        let read = move || Drawing::new(&input, &files, &|| stop.load(Ordering::Relaxed));
        let mut drawing = self.on_a_thread(read).await?;
        set(state, State::Working { percent: 5, stage: "rendering" });
        while !drawing.is_over() {
            drawing = self.on_a_thread(move || drawing.step().map(|()| drawing)).await?;
            let share = drawing.share();
            set(state, State::Working { percent: (5.0 + 85.0 * share) as u8, stage: "rendering" });
            tokio::time::sleep_until(started + self.pace.mul_f64(0.9 * share)).await;
        }
        set(state, State::Working { percent: 92, stage: "packaging" });
        tokio::time::sleep_until(started + self.pace).await;
        Ok(drawing.finish())
    }

    /// Does a part of the work on a thread of its own, as soon as a slot is free. Processors prefer what answers people to it.
    async fn on_a_thread<T: Send + 'static>(
        &self,
        part: impl FnOnce() -> Result<T, DrawError> + Send + 'static,
    ) -> Result<T, DrawError> {
        let failed = |error: &dyn std::fmt::Display| DrawError::Failed(error.to_string());
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(|error| failed(&error))?;
        // The slot goes along: it is taken for as long as the thread is, also when nobody waits for it any more.
        let (done, drawn) = oneshot::channel();
        let draw = move || {
            let _slot = slot;
            // On Linux it is the thread's. Where it is refused the work is done all the same.
            let _ = nice(NICE);
            // Nobody waits for it where the order was stopped.
            let _ = done.send(part());
        };
        thread::Builder::new().name("drawing".to_owned()).spawn(draw).map_err(|error| failed(&error))?;
        drawn.await.map_err(|error| failed(&error))?
    }
}
