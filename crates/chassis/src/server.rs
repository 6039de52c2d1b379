//! The server that every service uses: a gRPC port, or a public and an internal one, with spans, deadlines, metrics, load shedding and
//! panics turned into `INTERNAL`, with health and reflection beside the service's own routes, and an admin port.
//!
//! Invariants: a method that is not declared as streaming never runs longer than the cap; an expired deadline is always
//! `DEADLINE_EXCEEDED`; every reply and every error says which trace it belongs to, in `x-trace-id`.

mod accept;
mod connection;
mod descriptors;
mod door;
mod guard;
mod layer;
mod messages;
mod methods;
mod probes;

use std::{
    collections::HashMap,
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use futures::future::OptionFuture;
use http::{Request, Response};
use tokio::net::TcpListener;
use tonic::{body::Body, service::Routes};
use tower::Service;

use crate::{
    admin::Admin,
    drain::Drain,
    identity::Identities,
    keyring::InternalKeys,
    settings::{self, Source},
};
use connection::Connections;
use descriptors::Descriptors;
use guard::Guard;
use layer::Policy;
use methods::{Access, Methods};
use probes::Probes;

pub use crate::admission::{Admission, ByAddress, Full, Place, Share, Shares, Slot};
pub use connection::{Client, Stream};
pub use door::Door;
pub use layer::Rpc;
pub use methods::Timeouts;
pub use probes::Beside;

/// The addresses of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where it serves gRPC; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Where it serves its internal methods, if it has any and [guards](Server::guarded) them; port 0 picks a free one.
    pub internal: SocketAddr,
    /// Where it serves metrics and health over HTTP; port 0 picks a free one.
    pub admin: SocketAddr,
}

impl Settings {
    /// Free ports on the loopback.
    pub const FREE: Self = {
        let free = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        Self { listen: free, internal: free, admin: free }
    };

    /// Reads `RUSHES_LISTEN`, `RUSHES_INTERNAL_LISTEN` and `RUSHES_ADMIN_LISTEN`; unset, they are free ports on the loopback.
    ///
    /// # Errors
    /// When one is not a socket address.
    pub fn read(source: &Source) -> Result<Self, settings::Error> {
        let Self { listen, internal, admin } = Self::FREE;
        let what = "an address such as 127.0.0.1:8080";
        Ok(Self {
            listen: source.or("RUSHES_LISTEN", listen, what)?,
            internal: source.or("RUSHES_INTERNAL_LISTEN", internal, what)?,
            admin: source.or("RUSHES_ADMIN_LISTEN", admin, what)?,
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

/// A server that is being set up.
#[derive(Debug)]
pub struct Server {
    service: &'static str,
    settings: Settings,
    timeouts: Timeouts,
    own_timeouts: HashMap<String, Timeouts>,
    message_limits: HashMap<&'static str, u64>,
    places: HashMap<&'static str, u32>,
    limit: usize,
    /// The way in from the outside: what Rushes' own processes say to each other does not go out with the replies.
    door: Option<Arc<Door>>,
    /// Who may call what, if the service has two doors.
    doors: Option<Doors>,
    descriptors: Option<&'static [u8]>,
    advertised: Vec<&'static str>,
}

/// The methods behind each of a service's two doors.
#[derive(Debug)]
struct Doors {
    guard: Guard,
    public: HashMap<&'static str, Access>,
    internal: HashMap<&'static str, Access>,
}

impl Server {
    /// A server for the service called `service`, with a default deadline of 2 s, a cap of 10 s, and at most 1,024
    /// calls at a time.
    #[must_use]
    pub fn new(service: &'static str, settings: &Settings) -> Self {
        let server = Self {
            service,
            settings: *settings,
            timeouts: Timeouts::default(),
            own_timeouts: HashMap::new(),
            message_limits: HashMap::new(),
            places: HashMap::new(),
            limit: 1_024,
            door: None,
            doors: None,
            descriptors: None,
            advertised: Vec::new(),
        };
        server.streaming(probes::STREAMING).method(probes::CHECK, probes::CHECK_TIMEOUTS)
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
        self.own_timeouts.insert(path.to_owned(), timeouts);
        self
    }

    /// Sets the largest message of methods, as `/package.Service/Method`, in bytes, decompressed. Without it a server passes the
    /// messages of a method on as they are.
    #[must_use]
    pub fn message_limits(mut self, limits: impl IntoIterator<Item = (&'static str, u64)>) -> Self {
        self.message_limits.extend(limits);
        self
    }

    /// Sets how many hundredths of the [limited](Server::limit) places may be taken when a call of these methods comes,
    /// as `/package.Service/Method`; else all. A server that fills up sheds those with the fewest first.
    #[must_use]
    pub fn places(mut self, places: impl IntoIterator<Item = (&'static str, u32)>) -> Self {
        self.places.extend(places);
        self
    }

    /// Sets the deadlines of all methods that have none of their own.
    #[must_use]
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Sets how many calls may run at a time; one more is `RESOURCE_EXHAUSTED`, `OVERLOADED`, at once.
    #[must_use]
    pub fn limit(mut self, calls: usize) -> Self {
        self.limit = calls;
        self
    }

    /// Answers gRPC reflection from this encoded `FileDescriptorSet`, whose methods are known by name in spans and metrics.
    #[must_use]
    pub fn describe(mut self, descriptors: &'static [u8]) -> Self {
        self.descriptors = Some(descriptors);
        self
    }

    /// Has health answer for these services, as `package.Service`, and reflection list and describe only these; without it, all
    /// that are described.
    #[must_use]
    pub fn advertise(mut self, services: impl IntoIterator<Item = &'static str>) -> Self {
        self.advertised.extend(services);
        self
    }

    /// Makes this the way in from the outside, with what `door` grants: it takes HTTP/1.1 too, for gRPC-Web and plain HTTP, its
    /// replies carry no internal metadata, and each request has its [`Client`] in its extensions. A call takes one of the [limited](Server::limit) places only when the service behind takes it, with
    /// the [`Admission`] in the request's extensions, so that who is nobody takes none.
    #[must_use]
    pub fn public(mut self, door: &Door) -> Self {
        self.door = Some(Arc::new(door.clone()));
        // Whoever asks for descriptions asks in one go.
        if door.reflection { self.timed_reflection() } else { self }
    }

    /// Gives the service two doors, each with [places](Server::limit) of its own: at the public port methods that `scopes` has, for calls
    /// whose token has the method's scope; at the internal one methods that `callers` has, for the services that it names. What is
    /// at neither is unknown at both; a door without methods is not opened. Tokens are those of these keys, for this service.
    #[must_use]
    pub fn guarded(
        mut self,
        keys: &InternalKeys,
        scopes: impl IntoIterator<Item = (&'static str, &'static str)>,
        callers: impl IntoIterator<Item = (&'static str, &'static [&'static str])>,
    ) -> Self {
        self.doors = Some(Doors {
            guard: Guard::new(Identities::new(keys), self.service),
            public: scopes.into_iter().map(|(path, scope)| (path, Access::Scope(scope))).collect(),
            internal: callers.into_iter().map(|(path, names)| (path, Access::Services(names))).collect(),
        });
        self
    }

    fn timed_reflection(self) -> Self {
        probes::REFLECTION.into_iter().fold(self, |server, path| server.method(path, probes::REFLECTION_TIMEOUTS))
    }

    /// Binds its ports; nothing is answered until [`Bound::serve`].
    ///
    /// # Errors
    /// When an address is taken or not ours.
    pub async fn bind(self) -> Result<Bound, Error> {
        let Settings { listen, internal, admin } = self.settings;
        let has_public = self.doors.as_ref().is_none_or(|doors| !doors.public.is_empty());
        let has_internal = self.doors.as_ref().is_some_and(|doors| !doors.internal.is_empty());
        let public = if has_public { Some(Port::bind("RUSHES_LISTEN", listen).await?) } else { None };
        let internal = if has_internal { Some(Port::bind("RUSHES_INTERNAL_LISTEN", internal).await?) } else { None };
        let bind = |source| Error::Bind { variable: "RUSHES_ADMIN_LISTEN", addr: admin, source };
        let admin = Admin::bind(admin).await.map_err(bind)?;
        Ok(Bound { server: self, public, internal, admin })
    }
}

/// A bound gRPC port.
#[derive(Debug)]
struct Port {
    listener: TcpListener,
    addr: SocketAddr,
}

impl Port {
    async fn bind(variable: &'static str, addr: SocketAddr) -> Result<Self, Error> {
        let bind = |source| Error::Bind { variable, addr, source };
        let listener = TcpListener::bind(addr).await.map_err(bind)?;
        let addr = listener.local_addr().map_err(bind)?;
        Ok(Self { listener, addr })
    }
}

/// A server with its ports bound.
#[derive(Debug)]
pub struct Bound {
    server: Server,
    public: Option<Port>,
    internal: Option<Port>,
    admin: Admin,
}

impl Bound {
    /// The address of the gRPC port, the public one of two.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.public.as_ref().or(self.internal.as_ref()).map_or(self.server.settings.listen, |port| port.addr)
    }

    /// The address of the port for internal methods; that of the only port where there is one.
    #[must_use]
    pub fn internal_addr(&self) -> SocketAddr {
        self.internal.as_ref().map_or_else(|| self.addr(), |port| port.addr)
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
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        W: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
        W::Future: Send,
    {
        let (addr, internal_addr) = (self.addr(), self.internal_addr());
        let Self { server, public, internal, admin } = self;
        let mut descriptors =
            server.descriptors.map(Descriptors::read).transpose().map_err(tonic_reflection::server::Error::from)?;
        if let Some(descriptors) = descriptors.as_mut().filter(|_| !server.advertised.is_empty()) {
            descriptors.retain(&server.advertised);
        }
        let described: Vec<_> = descriptors.iter().flat_map(Descriptors::methods).collect();
        let mut services: Vec<_> = server.advertised.iter().map(|&service| service.to_owned()).collect();
        if services.is_empty() {
            services.extend(described.iter().map(|(service, _)| service.clone()));
            services.dedup();
        }
        let paths = described.iter().map(|(service, method)| format!("/{service}/{method}"));
        let methods = Methods::new(paths, server.timeouts, server.own_timeouts, &server.message_limits, &server.places);
        let reflects = server.door.as_ref().is_none_or(|door| door.reflection);
        let encoded = descriptors.as_ref().filter(|_| reflects).map(Descriptors::encode);
        let probes = Probes::new(&services, encoded.as_deref()).await?;
        let policy = |access: fn(&Doors) -> &HashMap<&'static str, Access>| match &server.doors {
            Some(doors) => {
                Policy::new(methods.behind(access(doors), probes::is_probe), server.limit, server.door.clone())
                    .guarded(doors.guard.clone())
            }
            None => Policy::new(methods.clone(), server.limit, server.door.clone()),
        };
        let end = drain.token();
        let inner = Rpc::new(probes.beside(service.clone()), policy(|doors| &doors.internal));
        let outer = wrap(Rpc::new(probes.beside(service), policy(|doors| &doors.public)));
        let connections = server.door.clone().map(|door| Arc::new(Connections::new(door)));
        let public = public.map(|port| accept::serve(port.listener, outer, connections, end.clone()));
        let internal = internal.map(|port| accept::serve(port.listener, inner, None, end.clone()));
        let calls = async {
            let report = async {
                end.cancelled().await;
                probes.stop_serving().await;
            };
            tokio::join!(OptionFuture::from(public), OptionFuture::from(internal), report);
        };
        tracing::info!(service = server.service, %addr, internal = %internal_addr, admin = %admin.addr(), "listening");
        // The admin port ends with the grace period, and with it what has not ended by itself.
        tokio::select! {
            () = calls => {}
            result = admin.serve(drain.clone()) => result.map_err(Error::Admin)?,
        }
        tracing::info!(service = server.service, "stopped");
        Ok(())
    }
}
