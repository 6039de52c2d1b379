//! LimitService, which the gateway answers itself: parse, read, present. A call comes here as another goes to a service, after its key, its
//! scope and its limits.

use std::sync::Arc;

use chassis::status::Failure;
use proto::limits::v1::limit_service_server::{LimitService, LimitServiceServer};
use proto::limits::v1::{GetLimitsRequest, GetLimitsResponse, PlaceUse, Rate, RateUse};
use tonic::{Request, Response, Status};

use crate::keys::Key;
use crate::limits::Limits;
use crate::model::{Owner, Uses};

/// Who calls, in the extensions of a request that is answered here.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    pub(crate) key: Arc<Key>,
    /// How many watches the account may have open here, and how many it has.
    pub(crate) watches: (usize, usize),
}

/// A call came here past the way of all calls.
#[derive(Debug, thiserror::Error)]
#[error("a call without an asker")]
struct NoAsker;

/// The services that the gateway answers itself; cheap to clone.
pub(crate) type Own = LimitServiceServer<LimitsApi>;

/// The service over the limits.
#[derive(Clone, Debug)]
pub(crate) struct LimitsApi(Limits);

/// What answers the methods whose upstream is the gateway.
pub(crate) fn own(limits: Limits) -> Own {
    LimitServiceServer::new(LimitsApi(limits))
}

#[tonic::async_trait]
impl LimitService for LimitsApi {
    async fn get_limits(&self, request: Request<GetLimitsRequest>) -> Result<Response<GetLimitsResponse>, Status> {
        let asker = request.extensions().get::<Asker>().ok_or_else(|| Failure::internal(NoAsker))?;
        let mut answer = to_proto(&self.0.uses(asker.key.caller()).await);
        let (max, open) = asker.watches;
        let number = |count| u32::try_from(count).unwrap_or(u32::MAX);
        let of = Owner::Account.as_str().to_owned();
        answer.places.push(PlaceUse { limit: "watches".to_owned(), of, max: number(max), in_use: number(open) });
        Ok(Response::new(answer))
    }
}

fn to_proto(uses: &Uses) -> GetLimitsResponse {
    let rates = uses.rates.iter().map(|rate| RateUse {
        limit: rate.limit.as_str().to_owned(),
        of: rate.owner.as_str().to_owned(),
        rate: Some(Rate { per_second: rate.per_second, burst: rate.burst }),
        remaining: rate.level.remaining,
        reset_seconds: rate.level.reset,
    });
    let places = uses.places.iter().map(|place| PlaceUse {
        limit: place.limit.as_str().to_owned(),
        of: place.owner.as_str().to_owned(),
        max: place.max,
        in_use: place.in_use,
    });
    GetLimitsResponse { rates: rates.collect(), places: places.collect(), gateways: uses.gateways }
}
