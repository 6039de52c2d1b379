//! DashboardService. GetDashboard answers with encoded bytes, from the cache where it can; a watch reads the same ones.

use std::pin::Pin;

use bytes::{BufMut as _, Bytes, BytesMut};
use cache::remote::{self, Ask};
use chassis::encoded::{Derived, Frames};
use chassis::fields::Fields;
use chassis::frames::{PREFIX, framed};
use domain::id::{AccountId, NoticeId};
use domain::page::Page;
use futures::{Stream, StreamExt as _};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use proto::dashboard::v1::dashboard_service_server::DashboardService;
use proto::dashboard::v1::watch_dashboard_response as event;
use proto::dashboard::v1::{
    AcknowledgeNoticesRequest, AcknowledgeNoticesResponse, Dashboard, GetDashboardRequest, WatchDashboardRequest,
    WatchDashboardResponse,
};
use tonic::{Request, Response, Status};

use super::request::unpack;
use crate::cache::CachedDashboards;
use crate::error::{Error, Noun};
use crate::model::DASHBOARD_LISTING;
use crate::notices::{MAX_ACKNOWLEDGED, Notices};
use crate::pages::Pages;
use crate::watches::{Event, Watches};

/// The paths of the methods that are answered with encoded bytes.
pub(super) const GET_DASHBOARD: &str = "/rushes.dashboard.v1.DashboardService/GetDashboard";
pub(super) const WATCH_DASHBOARD: &str = "/rushes.dashboard.v1.DashboardService/WatchDashboard";
/// The field numbers of `WatchDashboardResponse`.
const DASHBOARD_FIELD: u32 = 1;
const RESUME_TOKEN_FIELD: u32 = 4;
/// How much the encoded events of dashboards that several watch take up in all.
pub(crate) const MAX_EVENTS: u64 = 16 << 20;

/// The service over its rules.
#[derive(Clone)]
pub(crate) struct DashboardsApi {
    pub(crate) dashboards: CachedDashboards,
    pub(crate) notices: Notices,
    pub(crate) watches: Watches,
    /// The events of dashboards that several watch.
    pub(crate) events: Derived,
    pub(crate) pages: Pages,
}

impl DashboardsApi {
    /// The encoded dashboard.
    pub(super) async fn encoded(&self, request: Request<GetDashboardRequest>) -> Result<Response<Bytes>, Status> {
        let ask = Ask::of(request.metadata());
        let (account, request) = unpack(request)?;
        let page = parse_get(&self.pages, account, &request)?;
        match ask.filter(|_| page.is_usual()) {
            None => Ok(Response::new(self.dashboards.read(account, page).await?)),
            Some(Ask::Load) => match self.dashboards.load_first(account).await? {
                Ok(loaded) => remote::reply(&loaded, loaded.body.clone(), Error::NotFound(Noun::Account)),
                Err(partial) => Ok(Response::new(partial)),
            },
            Some(Ask::Answer) => {
                let (body, version) = self.dashboards.read_first(account).await?;
                let mut response = Response::new(body);
                if let Some(version) = version {
                    remote::write_version(version, response.metadata_mut());
                }
                Ok(response)
            }
        }
    }

    /// The encoded events of a watch. A dashboard that all watchers of an account are sent is encoded for the first of them.
    pub(super) async fn watched(&self, request: Request<WatchDashboardRequest>) -> Result<Frames, Status> {
        let (account, request) = unpack(request)?;
        let events = self.watches.watch(account, &request.resume_token).await?;
        let shared = self.events.clone();
        let frames = events.then(move |(event, resume_token)| {
            let shared = shared.clone();
            async move {
                Ok(match event {
                    // Its version is the resume token's, so the token is everybody's too.
                    Event::Dashboard { body, whole: true } => {
                        shared.of(&body, |body| dashboard_frame(body, &resume_token)).await
                    }
                    Event::Dashboard { body, whole: false } => dashboard_frame(&body, &resume_token),
                    Event::Heartbeat => event_frame(event::Event::Heartbeat(event::Heartbeat {}), resume_token),
                    Event::Moved => event_frame(event::Event::Moved(event::Moved {}), resume_token),
                })
            }
        });
        Ok(frames.boxed())
    }
}

/// An event with its prefix.
fn event_frame(event: event::Event, resume_token: String) -> Bytes {
    framed(&WatchDashboardResponse { event: Some(event), resume_token }.encode_to_vec())
}

/// The event of an encoded dashboard, with its prefix.
fn dashboard_frame(dashboard: &[u8], resume_token: &str) -> Bytes {
    let mut message = BytesMut::with_capacity(PREFIX + dashboard.len() + resume_token.len() + 16);
    message.put_bytes(0, PREFIX);
    encode_key(DASHBOARD_FIELD, WireType::LengthDelimited, &mut message);
    encode_varint(dashboard.len() as u64, &mut message);
    message.extend_from_slice(dashboard);
    encode_key(RESUME_TOKEN_FIELD, WireType::LengthDelimited, &mut message);
    encode_varint(resume_token.len() as u64, &mut message);
    message.extend_from_slice(resume_token.as_bytes());
    let length = u32::try_from(message.len() - PREFIX).unwrap_or(u32::MAX);
    message[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    message.freeze()
}

#[tonic::async_trait]
impl DashboardService for DashboardsApi {
    /// [`DashboardsApi::encoded`] answers before this is reached; this is for a server without it.
    async fn get_dashboard(&self, request: Request<GetDashboardRequest>) -> Result<Response<Dashboard>, Status> {
        let encoded = self.encoded(request).await?.into_inner();
        Ok(Response::new(decode(encoded)?))
    }

    /// As [`DashboardsApi::watched`], for a server without it.
    type WatchDashboardStream = Pin<Box<dyn Stream<Item = Result<WatchDashboardResponse, Status>> + Send>>;

    async fn watch_dashboard(
        &self,
        request: Request<WatchDashboardRequest>,
    ) -> Result<Response<Self::WatchDashboardStream>, Status> {
        let frames = self.watched(request).await?;
        let responses = frames.map(|frame| {
            let message = frame?.slice(PREFIX..);
            Ok(WatchDashboardResponse::decode(message).map_err(chassis::status::Failure::internal)?)
        });
        Ok(Response::new(Box::pin(responses)))
    }

    async fn acknowledge_notices(
        &self,
        request: Request<AcknowledgeNoticesRequest>,
    ) -> Result<Response<AcknowledgeNoticesResponse>, Status> {
        let (account, request) = unpack(request)?;
        let unread = self.notices.acknowledge(account, parse_acknowledge(&request)?).await?;
        let unread_notice_count = i32::try_from(unread).unwrap_or(i32::MAX);
        Ok(Response::new(AcknowledgeNoticesResponse { unread_notice_count }))
    }
}

fn decode(encoded: Bytes) -> Result<Dashboard, Status> {
    Ok(Dashboard::decode(encoded).map_err(chassis::status::Failure::internal)?)
}

fn parse_get(pages: &Pages, account: AccountId, request: &GetDashboardRequest) -> Result<Page, Error> {
    let mut fields = Fields::default();
    let page = pages.parse(&mut fields, account, DASHBOARD_LISTING, request.page_size, &request.page_token);
    Ok(fields.done(page)?)
}

fn parse_acknowledge(request: &AcknowledgeNoticesRequest) -> Result<Vec<NoticeId>, Error> {
    let mut fields = Fields::default();
    let notices = fields.each("names", &request.names, 1, MAX_ACKNOWLEDGED, |name| NoticeId::from_name(name));
    Ok(fields.done(notices)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_encoded_as_the_generated_code_would() {
        for version in [0, 7] {
            let dashboard = Dashboard { version, next_page_token: "next".repeat(100), ..Dashboard::default() };
            let frame = dashboard_frame(&dashboard.encode_to_vec(), "a token");
            assert_eq!(frame, event_frame(event::Event::Dashboard(dashboard), "a token".to_owned()));
        }
    }
}
