//! Orders and what becomes of them: drawn when an order is taken, from the seed and the order's number, or written in its prompt.
//!
//! Invariant: an order that is over stays as it is; whether it costs is decided once, under the lock that ends it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use fastrand::Rng;
use sha2::{Digest as _, Sha256};
use url::Url;
use uuid::Uuid;

use crate::bill::{self, Bill, Event, Line, Protocol};
use crate::hooks::{self, Parcel};
use crate::settings::{Faults, Settings};
use crate::signing::Signer;

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Waiting,
    Working,
    Made,
    Failed,
    /// It broke the provider's rules.
    Unsafe,
    Stopped,
}

impl State {
    pub(crate) fn is_over(self) -> bool {
        !matches!(self, Self::Waiting | Self::Working)
    }
}

/// One order.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) protocol: Protocol,
    pub(crate) state: State,
    pub(crate) begun: bool,
    pub(crate) forgotten: bool,
    pub(crate) fate: Fate,
    pub(crate) hook: Option<Url>,
    key: Option<String>,
}

/// What was decided about an order when it was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fate {
    wait: Duration,
    render: Duration,
    end: Option<State>,
    forgotten: bool,
    stubborn: bool,
    pub(crate) unknown_word: bool,
    pub(crate) hook_lost: bool,
    pub(crate) hook_twice: bool,
    pub(crate) hook_late: Duration,
    pub(crate) hook_forged: bool,
    pub(crate) hook_reordered: bool,
}

/// What becomes of a request for an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reception {
    Fine,
    CutBefore,
    CutAfter,
    ErrorAfter,
    Late(Duration),
    Throttled,
}

/// All that the double knows.
#[derive(Debug)]
pub(crate) struct Orders {
    pub(crate) settings: Settings,
    pub(crate) signer: Signer,
    pub(crate) client: reqwest::Client,
    pub(crate) address: SocketAddr,
    bill: Bill,
    known: Mutex<HashMap<String, Order>>,
    chance: Mutex<Rng>,
}

impl Orders {
    pub(crate) fn new(settings: Settings, address: SocketAddr) -> Result<Self> {
        Ok(Self {
            signer: Signer::new(&settings.secret, settings.seed)?,
            client: reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?,
            address,
            bill: Bill::open(&settings.bill)?,
            known: Mutex::default(),
            chance: Mutex::new(Rng::with_seed(settings.seed)),
            settings,
        })
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Order>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws once.
    fn draw<T>(&self, draw: impl FnOnce(&mut Rng, &Faults) -> T) -> T {
        draw(&mut self.chance.lock().unwrap_or_else(PoisonError::into_inner), &self.settings.faults)
    }

    /// Whether this look, cancel or download goes wrong.
    pub(crate) fn blind(&self) -> bool {
        self.draw(|rng, faults| rng.f64() < faults.blind)
    }

    pub(crate) fn cut(&self) -> bool {
        self.draw(|rng, _| rng.bool())
    }

    /// How a request for an order with this prompt is received. `[word]`s in the prompt decide what would be chance.
    pub(crate) fn reception(&self, prompt: &str) -> Reception {
        let said = |word: &str| prompt.contains(&format!("[{word}]"));
        self.draw(|rng, faults| {
            let mut left = rng.f64();
            let late = Duration::from_millis(rng.u64(100..2_000));
            for (word, share, reception) in [
                ("cut-before", faults.cut_before, Reception::CutBefore),
                ("cut-after", faults.cut_after, Reception::CutAfter),
                ("error-after", faults.error_after, Reception::ErrorAfter),
                ("late", faults.late, Reception::Late(late)),
                ("throttled", faults.throttled, Reception::Throttled),
            ] {
                if said(word) || (0.0..share).contains(&left) {
                    return reception;
                }
                left -= share;
            }
            Reception::Fine
        })
    }

    fn fate(&self, prompt: &str) -> Fate {
        let said = |word: &str| prompt.contains(&format!("[{word}]"));
        let (waits, renders) = (self.settings.waits, self.settings.renders);
        self.draw(|rng, faults| {
            let mut is = |word: &str, share: f64| rng.f64() < share || said(word);
            let (failed, endless) = (is("failed", faults.failed), is("endless", faults.endless));
            let fate = Fate {
                wait: Duration::ZERO,
                render: Duration::ZERO,
                end: match (endless, failed, said("unsafe")) {
                    (true, ..) => None,
                    (_, true, _) => Some(State::Failed),
                    (.., true) => Some(State::Unsafe),
                    _ => Some(State::Made),
                },
                forgotten: is("forgotten", faults.forgotten),
                // One that never ends has to end by a cancel.
                stubborn: is("stubborn", faults.stubborn) && !endless,
                unknown_word: is("unknown-word", faults.unknown_word),
                hook_lost: is("hook-lost", faults.hook_lost),
                hook_twice: is("hook-twice", faults.hook_twice),
                hook_forged: is("hook-forged", faults.hook_forged),
                hook_reordered: is("hook-reordered", faults.hook_reordered),
                hook_late: Duration::ZERO,
            };
            let hook_late = if is("hook-late", faults.hook_late) { rng.u64(200..3_000) } else { 0 };
            Fate {
                wait: Duration::from_millis(rng.u64(waits.0..=waits.1)),
                render: Duration::from_millis(if said("slow") { 3_000 } else { rng.u64(renders.0..=renders.1) }),
                hook_late: Duration::from_millis(hook_late),
                ..fate
            }
        })
    }

    /// Takes an order; the same key leads to the same order where keys are honoured.
    pub(crate) fn take(
        self: &Arc<Self>,
        protocol: Protocol,
        prompt: &str,
        hook: Option<Url>,
        key: Option<String>,
    ) -> Order {
        let mut known = self.known();
        if self.settings.keys
            && key.is_some()
            && let Some(order) = known.values().find(|order| order.key == key && order.protocol == protocol)
        {
            return order.clone();
        }
        let id = match protocol {
            Protocol::Replicate => Uuid::now_v7().simple().to_string(),
            Protocol::Fal => Uuid::now_v7().to_string(),
        };
        let fate = self.fate(prompt);
        let order = Order { id, protocol, state: State::Waiting, begun: false, forgotten: false, fate, hook, key };
        self.note(&order, Event::Ordered);
        known.insert(order.id.clone(), order.clone());
        tokio::spawn(Arc::clone(self).live(order.clone()));
        order
    }

    /// An order that is still known.
    pub(crate) fn find(&self, protocol: Protocol, id: &str) -> Option<Order> {
        self.known().get(id).filter(|order| order.protocol == protocol && !order.forgotten).cloned()
    }

    /// Asks an order to stop; gives it as it stood before.
    pub(crate) fn stop(self: &Arc<Self>, protocol: Protocol, id: &str) -> Option<Order> {
        let order = self.find(protocol, id)?;
        if !order.state.is_over() && !order.fate.stubborn {
            self.end(id, State::Stopped);
        }
        Some(order)
    }

    /// The life of an order, from its being taken to its end.
    async fn live(self: Arc<Self>, order: Order) {
        tokio::time::sleep(order.fate.wait).await;
        let begun = {
            let mut known = self.known();
            let Some(order) = known.get_mut(&order.id).filter(|order| !order.state.is_over()) else { return };
            (order.state, order.begun) = (State::Working, true);
            order.clone()
        };
        if begun.protocol == Protocol::Replicate && !begun.fate.hook_reordered {
            hooks::send(&self, Parcel::begun(&begun));
        }
        tokio::time::sleep(order.fate.render).await;
        if let Some(end) = order.fate.end {
            self.end(&order.id, end);
        }
    }

    /// Ends an order, once; what comes later changes nothing.
    fn end(self: &Arc<Self>, id: &str, state: State) {
        let ended = {
            let mut known = self.known();
            let Some(order) = known.get_mut(id).filter(|order| !order.state.is_over()) else { return };
            order.state = state;
            let event = match state {
                State::Made => Event::Charged,
                State::Stopped => Event::Stopped,
                _ => Event::Failed,
            };
            self.note(order, event);
            if order.fate.forgotten {
                order.forgotten = true;
                self.note(order, Event::Forgotten);
            }
            order.clone()
        };
        hooks::send(self, Parcel::ended(&ended));
        if ended.protocol == Protocol::Replicate && ended.fate.hook_reordered && ended.begun {
            hooks::send(self, Parcel::begun(&ended));
        }
    }

    /// The video of an order: a film, and behind it a box that no player looks into, so that each is another file.
    pub(crate) fn video(&self, id: &str) -> Bytes {
        let mut video = crate::VIDEO.to_vec();
        video.extend_from_slice(&u32::try_from(8 + id.len()).unwrap_or(8).to_be_bytes());
        video.extend_from_slice(b"free");
        video.extend_from_slice(id.as_bytes());
        video.into()
    }

    pub(crate) fn video_address(&self, id: &str) -> String {
        format!("http://{}/videos/{id}.mp4", self.address)
    }

    fn note(&self, order: &Order, event: Event) {
        let job = order.hook.as_ref().and_then(|hook| Some(hook.path_segments()?.next_back()?.to_owned()));
        let sha256 = (event == Event::Charged).then(|| hex::encode(Sha256::digest(self.video(&order.id))));
        self.bill.add(&Line {
            at: bill::now(),
            event,
            protocol: order.protocol,
            order: order.id.clone(),
            job,
            key: order.key.clone(),
            sha256,
        });
    }
}
