//! DashboardService. GetDashboard answers with encoded bytes, from the cache where it can; a watch reads the same ones.

use chassis::fields::Fields;
use std::pin::Pin;

use bytes::Bytes;
use cache::remote::{self, Ask};
use domain::id::{AccountId, NoticeId};
use domain::page::Page;
use futures::{Stream, StreamExt as _};
use prost::Message as _;
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

/// The path of the method that is answered with encoded bytes.
pub(super) const GET_DASHBOARD: &str = "/rushes.dashboard.v1.DashboardService/GetDashboard";

/// The service over its rules.
#[derive(Clone)]
pub(crate) struct DashboardsApi {
    pub(crate) dashboards: CachedDashboards,
    pub(crate) notices: Notices,
    pub(crate) watches: Watches,
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
}

#[tonic::async_trait]
impl DashboardService for DashboardsApi {
    /// [`DashboardsApi::encoded`] answers before this is reached; this is for a server without it.
    async fn get_dashboard(&self, request: Request<GetDashboardRequest>) -> Result<Response<Dashboard>, Status> {
        let encoded = self.encoded(request).await?.into_inner();
        Ok(Response::new(decode(encoded)?))
    }

    type WatchDashboardStream = Pin<Box<dyn Stream<Item = Result<WatchDashboardResponse, Status>> + Send>>;

    async fn watch_dashboard(
        &self,
        request: Request<WatchDashboardRequest>,
    ) -> Result<Response<Self::WatchDashboardStream>, Status> {
        let (account, request) = unpack(request)?;
        let events = self.watches.watch(account, &request.resume_token).await?;
        let responses = events.map(|(event, resume_token)| {
            let event = match event {
                Event::Dashboard(encoded) => event::Event::Dashboard(decode(encoded)?),
                Event::Heartbeat => event::Event::Heartbeat(event::Heartbeat {}),
                Event::Moved => event::Event::Moved(event::Moved {}),
            };
            Ok(WatchDashboardResponse { event: Some(event), resume_token })
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
