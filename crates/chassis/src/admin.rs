//! The admin port: `/metrics` for Prometheus, `/healthz` (the process runs), `/readyz` (it takes new requests), and `/profile` (where its
//! CPU time goes). It is never the public port.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Router,
    extract::{Query, rejection::QueryRejection},
    http::{StatusCode, header::CONTENT_TYPE},
    routing::get,
};
use serde::Deserialize;
use tokio::net::TcpListener;

use crate::{drain::Drain, postgres, profile, telemetry};

/// A bound admin port that does not answer yet.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    addr: SocketAddr,
}

impl Admin {
    /// Binds `addr`; port 0 picks a free one.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub async fn bind(addr: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        Ok(Self { listener, addr })
    }

    /// The bound address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers until the grace period of `drain` has passed; `/readyz` says 503 as soon as the drain begins, and while the database
    /// of this process takes no writes. A database that is silent is no reason: reads that may be stale are answered still.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(self, drain: Drain) -> std::io::Result<()> {
        let state = drain.clone();
        let ready = async move || {
            let why = if state.begun() { Some("draining") } else { postgres::not_ready() };
            match why {
                Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
                None => (StatusCode::OK, "ready\n".to_owned()),
            }
        };
        let text = "text/plain; version=0.0.4; charset=utf-8";
        let routes = Router::new()
            .route("/metrics", get(async move || ([(CONTENT_TYPE, text)], telemetry::page())))
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(ready))
            .route("/profile", get(profiled));
        tokio::select! {
            result = axum::serve(self.listener, routes) => result,
            () = drain.expired() => Ok(()),
        }
    }
}

/// How long a profile is to be taken.
#[derive(Debug, Deserialize)]
struct Profiled {
    #[serde(default = "usual")]
    seconds: u64,
}

fn usual() -> u64 {
    10
}

/// Answers with folded stacks once the time is over.
async fn profiled(asked: Result<Query<Profiled>, QueryRejection>) -> (StatusCode, String) {
    let seconds = match asked {
        Ok(Query(Profiled { seconds })) if (1..=profile::MAX_SECONDS).contains(&seconds) => seconds,
        _ => return (StatusCode::BAD_REQUEST, format!("seconds: must be from 1 to {}\n", profile::MAX_SECONDS)),
    };
    tracing::info!(seconds, "a profile of the CPU is taken");
    match profile::cpu(Duration::from_secs(seconds)).await {
        Ok(stacks) => (StatusCode::OK, stacks),
        Err(error @ profile::Error::Busy) => (StatusCode::CONFLICT, format!("{error}\n")),
        Err(error) => {
            tracing::error!(%error, "no profile was taken");
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))
        }
    }
}
