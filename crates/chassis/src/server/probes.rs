//! Health and reflection, which every server answers beside its own service.
//!
//! Invariants: health answers for "" and for each service that the server advertises; reflection lists the same services, and
//! describes what these and the details of errors need.

use std::{
    convert::Infallible,
    net::IpAddr,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::Either;
use http::{Request, Response};
use tonic::{body::Body, service::Routes};
use tonic_health::{ServingStatus, server::HealthReporter};
use tonic_reflection::server::{Builder, Error};
use tower::Service;

use super::methods::Timeouts;
use crate::{
    admission::{ByAddress, Place},
    status::Failure,
};

/// The methods of reflection.
pub(super) const REFLECTION: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];
/// How long anybody from outside may ask for descriptions; our own processes have no limit.
pub(super) const REFLECTION_TIMEOUTS: Timeouts =
    Timeouts { default: Some(Duration::from_secs(30)), longest: Some(Duration::from_secs(30)) };

/// The methods here that stream.
pub(super) const STREAMING: [&str; 3] = ["/grpc.health.v1.Health/Watch", REFLECTION[0], REFLECTION[1]];

/// The one that does not.
pub(super) const CHECK: &str = "/grpc.health.v1.Health/Check";
/// It is answered from memory, so only its sender makes it last.
pub(super) const CHECK_TIMEOUTS: Timeouts =
    Timeouts { default: Some(Duration::from_secs(1)), longest: Some(Duration::from_secs(1)) };

/// After what time a probe that was refused may come again.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// What begins the path of every method here and of none of a service.
const PREFIX: &str = "/grpc.";

/// Health and reflection of one server.
#[derive(Debug)]
pub(super) struct Probes {
    routes: Routes,
    health: HealthReporter,
    /// The services that health answers for, "" for the server as a whole.
    services: Vec<String>,
}

impl Probes {
    /// Serves health for `services`, and reflection that lists these out of `descriptors`, an encoded `FileDescriptorSet`.
    pub(super) async fn new(services: &[String], descriptors: Option<&[u8]>) -> Result<Self, Error> {
        let (health, server) = tonic_health::server::health_reporter();
        let services: Vec<_> = std::iter::once(String::new()).chain(services.iter().cloned()).collect();
        for service in &services {
            health.set_service_status(service, ServingStatus::Serving).await;
        }
        let mut routes = Routes::new(server);
        if let Some(descriptors) = descriptors {
            // Half of the tools still ask in the older of the two versions.
            routes = routes.add_service(reflection(&services, descriptors).build_v1()?);
            routes = routes.add_service(reflection(&services, descriptors).build_v1alpha()?);
        }
        Ok(Self { routes: routes.prepare(), health, services })
    }

    /// Health and reflection, and beside them `service`.
    pub(super) fn beside<S>(&self, service: S) -> Beside<S> {
        Beside { probes: self.routes.clone(), service }
    }

    /// From now on health answers that nothing is served.
    pub(super) async fn stop_serving(&self) {
        for service in &self.services {
            self.health.set_service_status(service, ServingStatus::NotServing).await;
        }
    }
}

fn reflection<'a>(services: &[String], descriptors: &'a [u8]) -> Builder<'a> {
    let builder = Builder::configure()
        .register_encoded_file_descriptor_set(descriptors)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // The details of an error are messages of any type, which tools print in clear if they can ask what it is.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .with_service_name("grpc.health.v1.Health");
    services.iter().filter(|service| !service.is_empty()).fold(builder, Builder::with_service_name)
}

/// Health and reflection, and beside them the service itself.
#[derive(Clone, Debug)]
pub struct Beside<S> {
    probes: Routes,
    service: S,
}

/// Whether a path is one of health's or reflection's.
pub(super) fn is_probe(path: &str) -> bool {
    path.starts_with(PREFIX)
}

/// The places for probes of a server. A probe is asked by anybody, so it takes no call's place but one of these.
#[derive(Debug)]
pub(super) struct Places {
    checks: ByAddress,
    watches: ByAddress,
    reflection: ByAddress,
}

impl Places {
    /// From outside one address has a share of the places alone; inside, where an address says nothing, it may have all of them, and
    /// checks are as many as come.
    pub(super) fn new(public: bool) -> Self {
        let share = |max, share| if public { share } else { max };
        let checks = if public { 1_024 } else { usize::MAX };
        Self {
            checks: ByAddress::new("health_check", checks, share(checks, 256)),
            watches: ByAddress::new("health_watch", 64, share(64, 16)),
            reflection: ByAddress::new("reflection", 64, share(64, 8)),
        }
    }

    /// A place for the probe at `path`, asked from `address`.
    pub(super) fn take(&self, path: &str, address: IpAddr) -> Result<Place, Failure> {
        let places = match path {
            path if path.starts_with("/grpc.reflection.") => &self.reflection,
            "/grpc.health.v1.Health/Watch" => &self.watches,
            _ => &self.checks,
        };
        let place = places.try_take(address);
        place.map_err(|full| {
            let message = "too many probes at once";
            Failure::exhausted("OVERLOADED", message, RETRY_AFTER).and_metadata("limit", full.as_str())
        })
    }
}

impl<S> Service<Request<Body>> for Beside<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<<Routes as Service<Request<Body>>>::Future, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Routes are always ready.
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if is_probe(request.uri().path()) {
            Either::Left(self.probes.call(request))
        } else {
            Either::Right(self.service.call(request))
        }
    }
}
