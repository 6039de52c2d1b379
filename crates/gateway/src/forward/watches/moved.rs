//! The event that ends a watch, made of the event before it.

use prost::Message as _;
use proto::dashboard::v1::{WatchDashboardResponse, watch_dashboard_response as dashboard};
use proto::generations::v1::{WatchGenerationsResponse, watch_generations_response as generations};

/// Makes the encoded `moved` of a watch that follows an encoded event; without a resume token when that cannot be read.
pub(super) type Make = fn(&[u8]) -> Vec<u8>;

/// How the watch at a path ends, if it is one.
pub(super) fn of(path: &str) -> Option<Make> {
    match path {
        "/rushes.generations.v1.GenerationService/WatchGenerations" => Some(|event| {
            let resume_token = WatchGenerationsResponse::decode(event).unwrap_or_default().resume_token;
            let event = Some(generations::Event::Moved(generations::Moved {}));
            WatchGenerationsResponse { event, resume_token }.encode_to_vec()
        }),
        "/rushes.dashboard.v1.DashboardService/WatchDashboard" => Some(|event| {
            let resume_token = WatchDashboardResponse::decode(event).unwrap_or_default().resume_token;
            let event = Some(dashboard::Event::Moved(dashboard::Moved {}));
            WatchDashboardResponse { event, resume_token }.encode_to_vec()
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_public_watch_can_end() {
        let endless = proto::METHODS.iter().filter(|method| method.scope.is_some() && method.max_timeout.is_none());
        let paths: Vec<_> = endless.map(|method| method.path).collect();
        assert!(paths.len() >= 2 && paths.iter().all(|path| of(path).is_some()), "{paths:?}");
    }

    #[test]
    fn the_token_is_that_of_the_event_before() {
        let heartbeat = Some(dashboard::Event::Heartbeat(dashboard::Heartbeat {}));
        let before = WatchDashboardResponse { event: heartbeat, resume_token: "token".to_owned() };
        let make = of("/rushes.dashboard.v1.DashboardService/WatchDashboard").unwrap();
        let moved = Some(dashboard::Event::Moved(dashboard::Moved {}));
        for (event, resume_token) in [(before.encode_to_vec(), "token"), (Vec::new(), ""), (vec![0xff], "")] {
            let expected = WatchDashboardResponse { event: moved.clone(), resume_token: resume_token.to_owned() };
            assert_eq!(WatchDashboardResponse::decode(&*make(&event)), Ok(expected));
        }
    }
}
