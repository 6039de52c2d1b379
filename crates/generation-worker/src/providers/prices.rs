//! What fal asks for one billed unit of a model, so that what an order cost can be told.
//!
//! Invariant: a price that cannot be had is a cost that is not known, and delays no delivery by more than a moment.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::Method;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::api::{Api, Operation};

/// How long a price is believed.
const LASTS: Duration = Duration::from_secs(3_600);
/// How long it is not asked again for one that could not be had.
const RETRY_INTERVAL: Duration = Duration::from_secs(300);
/// How long one call may take: a finished order waits for it, within a lease.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// Prices by model.
#[derive(Debug)]
pub(super) struct Prices {
    api: Api,
    known: Mutex<HashMap<String, (Option<f64>, Instant)>>,
}

impl Prices {
    pub(super) fn new(api: Api) -> Self {
        Self { api, known: Mutex::default() }
    }

    /// What so many units of a model cost, in millionths of the provider's currency.
    pub(super) async fn cost_micros(&self, model: &str, units: &str) -> Option<i64> {
        let units: f64 = units.parse().ok()?;
        let price = match self.known(model) {
            Some(price) => price,
            None => {
                let price = timeout(CALL_TIMEOUT, self.fetch(model)).await.ok().flatten();
                let lasts = if price.is_some() { LASTS } else { RETRY_INTERVAL };
                let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                known.insert(model.to_owned(), (price, Instant::now() + lasts));
                price
            }
        };
        let micros = (units * price? * 1e6).round();
        (0.0..=1e15).contains(&micros).then_some(micros as i64)
    }

    fn known(&self, model: &str) -> Option<Option<f64>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(model).filter(|(_, until)| Instant::now() < *until).map(|(price, _)| *price)
    }

    async fn fetch(&self, model: &str) -> Option<f64> {
        let mut url = self.api.url(["models", "pricing"]);
        url.query_pairs_mut().append_pair("endpoint_id", model);
        let answer = self.api.call(Operation::FetchPrice, Method::GET, url, None).await.ok()?;
        parse_price(&answer.json(), model).filter(|_| answer.status.is_success())
    }
}

/// The unit price of a model in an answer that lists prices, or is one.
fn parse_price(answer: &Value, model: &str) -> Option<f64> {
    let of_model = |price: &&Value| price["endpoint_id"].as_str().is_none_or(|id| id == model);
    let price = match answer["prices"].as_array() {
        Some(prices) => prices.iter().find(of_model)?,
        None => Some(answer).filter(of_model)?,
    };
    let unit_price = &price["unit_price"];
    unit_price.as_f64().or_else(|| unit_price.as_str()?.parse().ok()).filter(|price| price.is_finite() && *price >= 0.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_price_is_that_of_the_model() {
        let one = |id: &str, price: Value| json!({"endpoint_id": id, "unit_price": price, "unit": "video", "currency": "USD"});
        let listed = json!({"prices": [one("fal-ai/other", json!(1.0)), one("fal-ai/video", json!(0.14))]});
        assert_eq!(parse_price(&listed, "fal-ai/video"), Some(0.14));
        assert_eq!(parse_price(&listed, "fal-ai/none"), None);
        assert_eq!(parse_price(&one("fal-ai/video", json!("0.14")), "fal-ai/video"), Some(0.14));
        for none in [json!({}), json!([]), json!({"prices": []}), one("fal-ai/video", json!(-1)), Value::Null] {
            assert_eq!(parse_price(&none, "fal-ai/video"), None, "{none}");
        }
    }
}
