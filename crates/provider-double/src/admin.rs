//! What a test or a laboratory changes while the double runs: `/double/faults` and `/double/outages`.
//!
//! Invariant: what is not understood changes nothing, and is answered with 422 and a sentence.

use http::Method;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::faults::Faults;
use crate::orders::Orders;
use crate::outages::Outage;
use crate::refusals;
use crate::server::{ApiRequest, Reply};

/// Answers a request below `/double`: `GET` and `POST faults`, all probabilities at once; `POST outages`, one outage or a list.
pub(crate) fn reply(orders: &Orders, request: &ApiRequest) -> Reply {
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    match (&request.method, path.as_slice()) {
        (&Method::GET, ["faults"]) => Reply::Json(200, json!(orders.chance().faults())),
        (&Method::POST, ["faults"]) => read::<Faults>(request).map_or_else(refused, |faults| {
            orders.chance().set_faults(faults);
            Reply::Json(200, json!(faults))
        }),
        (&Method::POST, ["outages"]) => {
            let begun = if request.body.is_array() {
                read::<Vec<Outage>>(request)
            } else {
                read::<Outage>(request).map(|outage| vec![outage])
            };
            begun.map_or_else(refused, |outages| {
                outages.iter().for_each(|outage| orders.outages().begin(*outage));
                Reply::Json(200, json!(outages))
            })
        }
        _ => refusals::no_path(),
    }
}

fn read<T: DeserializeOwned>(request: &ApiRequest) -> Result<T, serde_json::Error> {
    T::deserialize(&request.body)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_or_else` gives")]
fn refused(error: serde_json::Error) -> Reply {
    Reply::Json(422, json!({"detail": error.to_string()}))
}
