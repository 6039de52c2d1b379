//! The server that every service uses: one gRPC port with spans, deadlines, metrics, load shedding and panics turned
//! into `INTERNAL`, with health and reflection beside the service's own routes, and an admin port.
//!
//! Invariant: a method that is not declared as streaming never runs longer than the cap, and an expired deadline is
//! always `DEADLINE_EXCEEDED`.

mod accept;
mod layer;

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use http::{Request, Response};
use tokio::net::TcpListener;
use tonic::{body::Body, service::Routes};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::Service;

use crate::{
    admin::Admin,
    drain::Drain,
    settings::{self, Source},
};

pub use layer::{Beside, Rpc};

/// The two addresses of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where it serves gRPC; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Where it serves metrics and health over HTTP; port 0 picks a free one.
    pub admin: SocketAddr,
}

impl Settings {
    /// Reads `RUSHES_LISTEN` and `RUSHES_ADMIN_LISTEN`; unset, both are free ports on the loopback.
    ///
    /// # Errors
    /// When one is not a socket address.
    pub fn read(source: &Source) -> Result<Self, settings::Error> {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let what = "an address such as 127.0.0.1:8080";
        Ok(Self {
            listen: source.or("RUSHES_LISTEN", free, what)?,
            admin: source.or("RUSHES_ADMIN_LISTEN", free, what)?,
        })
    }
}

/// Why a server could not start or went on no longer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An address is taken or not ours.
    #[error("{variable} is {addr}, which cannot be bound: {source}")]
    Bind {
        /// The setting that names the address.
        variable: &'static str,
        /// The address.
        addr: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The descriptor set for reflection is broken.
    #[error("the descriptor set cannot be read: {0}")]
    Descriptors(#[from] tonic_reflection::server::Error),
    /// The admin server failed.
    #[error("the admin server failed")]
    Admin(#[source] std::io::Error),
}

/// How long a method may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// The deadline of a call that brings none; `None`: it has none.
    pub default: Option<Duration>,
    /// The longest deadline that a call may have; `None`: whatever it brings.
    pub longest: Option<Duration>,
}

impl Timeouts {
    /// No deadline but the client's own, for streams that last as long as both sides want.
    pub const NONE: Self = Self { default: None, longest: None };
}

impl Default for Timeouts {
    /// 2 s, and at most 10 s.
    fn default() -> Self {
        Self { default: Some(Duration::from_secs(2)), longest: Some(Duration::from_secs(10)) }
    }
}

/// What all calls of one server share.
#[derive(Debug)]
struct Shared {
    timeouts: Timeouts,
    by_method: HashMap<String, Timeouts>,
    limit: usize,
    running: AtomicUsize,
    /// The door to the outside: what Rushes' own processes tell each other does not go out with the replies.
    public: bool,
}

/// A server that is being set up.
#[derive(Debug)]
pub struct Server {
    service: &'static str,
    settings: Settings,
    shared: Shared,
    descriptors: Option<&'static [u8]>,
    advertised: Vec<&'static str>,
}

impl Server {
    /// A server for the service called `service`, with a default deadline of 2 s, a cap of 10 s, and at most 1,024
    /// calls at a time.
    #[must_use]
    pub fn new(service: &'static str, settings: &Settings) -> Self {
        let shared = Shared {
            timeouts: Timeouts::default(),
            by_method: HashMap::new(),
            limit: 1_024,
            running: AtomicUsize::new(0),
            public: false,
        };
        let server = Self { service, settings: *settings, shared, descriptors: None, advertised: Vec::new() };
        server.streaming(["/grpc.health.v1.Health/Watch", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"])
    }

    /// Declares methods, as `/package.Service/Method`, that stream: they have no deadline but the client's own, which
    /// holds to the end of the stream, and they do not count to the limit.
    #[must_use]
    pub fn streaming<'a>(self, paths: impl IntoIterator<Item = &'a str>) -> Self {
        paths.into_iter().fold(self, |server, path| server.method(path, Timeouts::NONE))
    }

    /// Gives one method, as `/package.Service/Method`, its own deadlines.
    #[must_use]
    pub fn method(mut self, path: &str, timeouts: Timeouts) -> Self {
        self.shared.by_method.insert(path.to_owned(), timeouts);
        self
    }

    /// Sets the deadlines of all methods that have none of their own.
    #[must_use]
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.shared.timeouts = timeouts;
        self
    }

    /// Sets how many calls may run at a time; one more is `RESOURCE_EXHAUSTED`, `OVERLOADED`, at once.
    #[must_use]
    pub fn limit(mut self, calls: usize) -> Self {
        self.shared.limit = calls;
        self
    }

    /// Answers gRPC reflection from this encoded `FileDescriptorSet`.
    #[must_use]
    pub fn describe(mut self, descriptors: &'static [u8]) -> Self {
        self.descriptors = Some(descriptors);
        self
    }

    /// Has reflection list only these services, as `package.Service`, besides health; without it, all that are described.
    #[must_use]
    pub fn advertise(mut self, services: impl IntoIterator<Item = &'static str>) -> Self {
        self.advertised.extend(services);
        self
    }

    /// Makes this the door to the outside: it takes HTTP/1.1 too, for gRPC-Web and plain HTTP, and its replies carry
    /// no internal metadata.
    #[must_use]
    pub fn public(mut self) -> Self {
        self.shared.public = true;
        self
    }

    /// Binds both ports; nothing is answered until [`Bound::serve`].
    ///
    /// # Errors
    /// When an address is taken or not ours.
    pub async fn bind(self) -> Result<Bound, Error> {
        let bind = |variable, addr| move |source| Error::Bind { variable, addr, source };
        let Settings { listen, admin } = self.settings;
        let listener = TcpListener::bind(listen).await.map_err(bind("RUSHES_LISTEN", listen))?;
        let addr = listener.local_addr().map_err(bind("RUSHES_LISTEN", listen))?;
        let admin = Admin::bind(admin).await.map_err(bind("RUSHES_ADMIN_LISTEN", admin))?;
        Ok(Bound { server: self, listener, addr, admin })
    }
}

/// A server with its ports bound.
#[derive(Debug)]
pub struct Bound {
    server: Server,
    listener: TcpListener,
    addr: SocketAddr,
    admin: Admin,
}

impl Bound {
    /// The address of the gRPC port.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The address of the admin port.
    #[must_use]
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin.addr()
    }

    /// Serves `routes` until `drain` has begun and the running calls have ended or its grace period has passed.
    ///
    /// # Errors
    /// When one of the servers fails.
    pub async fn serve(self, routes: Routes, drain: Drain) -> Result<(), Error> {
        self.serve_around(routes.prepare(), |rpc| rpc, drain).await
    }

    /// Like [`Bound::serve`] for a `service` that answers any path, with `wrap` around the gRPC side for what comes
    /// before it: gRPC-Web, CORS, plain HTTP.
    ///
    /// # Errors
    /// When one of the servers fails.
    pub async fn serve_around<S, W>(
        self,
        service: S,
        wrap: impl FnOnce(Rpc<Beside<S>>) -> W,
        drain: Drain,
    ) -> Result<(), Error>
    where
        W: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
        W::Future: Send,
    {
        let Self { server, listener, addr, admin } = self;
        let (health, health_server) = tonic_health::server::health_reporter();
        let mut probes = Routes::new(health_server);
        if let Some(descriptors) = server.descriptors {
            let mut reflection = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(descriptors)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
            if !server.advertised.is_empty() {
                reflection = reflection.with_service_name("grpc.health.v1.Health");
            }
            for service in server.advertised {
                reflection = reflection.with_service_name(service);
            }
            probes = probes.add_service(reflection.build_v1()?);
        }
        let public = server.shared.public;
        let beside = Beside::new(probes.prepare(), service);
        let outer = wrap(Rpc::new(beside, Arc::new(server.shared)));
        let end = drain.token();
        let calls = async {
            let turn = async {
                end.cancelled().await;
                not_serving(&health).await;
            };
            tokio::join!(accept::serve(listener, outer, public, end.clone()), turn);
        };
        tracing::info!(service = server.service, %addr, admin = %admin.addr(), "listening");
        // The admin port ends with the grace period, and with it what has not ended by itself.
        tokio::select! {
            () = calls => {}
            result = admin.serve(drain.clone()) => result.map_err(Error::Admin)?,
        }
        tracing::info!(service = server.service, "stopped");
        Ok(())
    }
}

async fn not_serving(health: &HealthReporter) {
    health.set_service_status("", ServingStatus::NotServing).await;
}
