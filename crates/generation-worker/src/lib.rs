//! generation-worker: takes leases of work from generation-status, asks a provider for the video, brings the bytes home.
//!
//! `worker` is the loop, `orders` one piece of work, `providers` who makes videos, `outputs` the way home, `status` what is told
//! to generation-status. Invariant: everything that is said about a piece of work carries the fence of its lease; once the
//! lease is another's, the worker lets go without a word.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod config;
pub mod crash_points;
pub mod hooks;
pub mod orders;
pub mod outputs;
pub mod providers;
pub mod status;
pub mod worker;

use chassis::drain::Drain;
use chassis::{blobs, client, server};
use proto::work::v1::hook_service_server::HookServiceServer;
use tonic::service::Routes;

use crate::config::Settings;
use crate::hooks::Hooks;
use crate::orders::Orders;
use crate::outputs::Outputs;
use crate::providers::Registry;
use crate::status::Client;
use crate::worker::Worker;

/// The service that hears providers' webhooks for `providers`.
#[must_use]
pub fn hooks(settings: &Settings, providers: Registry) -> Hooks {
    Hooks::new(providers, Client::new(client::connect("generation-status", &settings.generation_status)))
}

/// Builds a worker called `name` that has its videos made by `providers`. Nothing needs to be reachable yet.
///
/// # Errors
/// When the object storage cannot be opened.
pub fn build(settings: &Settings, providers: Registry, name: String) -> Result<Worker, blobs::Error> {
    let status = Client::new(client::connect("generation-status", &settings.generation_status));
    let thumbnail_worker = client::connect("thumbnail-worker", &settings.thumbnail_worker);
    let outputs = Outputs::new(blobs::Store::open(&settings.blobs)?, thumbnail_worker, settings.video_bytes);
    let orders = Orders { providers, status, outputs, limit: settings.order_limit };
    Ok(Worker::new(orders, name, settings.slots, settings.heartbeat))
}

/// Works, and takes webhooks on the ports that are bound, until `drain` and to the end of what is under way then.
///
/// # Errors
/// When a port cannot be served.
pub async fn serve(worker: Worker, bound: server::Bound, hooks: Hooks, drain: Drain) -> Result<(), server::Error> {
    let routes = Routes::new(HookServiceServer::new(hooks));
    let mut working = Box::pin(worker.run(drain.clone()));
    tokio::select! {
        () = &mut working => Ok(()),
        served = bound.serve(routes, drain) => {
            served?;
            // Ports that nobody calls end as soon as the drain begins; what is under way has its grace period still.
            working.await;
            Ok(())
        }
    }
}
