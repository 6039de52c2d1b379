//! DashboardService. GetDashboard answers with encoded bytes, from the cache where it can; a watch reads the same ones.

use std::pin::Pin;

use bytes::Bytes;
use domain::id::NoticeId;
use futures::{Stream, StreamExt as _};
use prost::Message as _;
use proto::dashboard::v1::dashboard_service_server::DashboardService;
use proto::dashboard::v1::watch_dashboard_response as sent;
use proto::dashboard::v1::{
    AcknowledgeNoticesRequest, AcknowledgeNoticesResponse, Dashboard, GetDashboardRequest, WatchDashboardRequest,
    WatchDashboardResponse,
};
use tonic::{Request, Response, Status};

use super::split;
use crate::cache::Dashes;
use crate::error::Error;
use crate::fields::Fields;
use crate::notices::{MOST, Notices};
use crate::watches::{Event, Watches};
use crate::wire;

/// The path of the method that is answered with encoded bytes.
pub(super) const GET_DASHBOARD: &str = "/rushes.dashboard.v1.DashboardService/GetDashboard";

/// The service over its rules.
#[derive(Clone)]
pub(crate) struct DashboardsApi {
    pub(crate) dashes: Dashes,
    pub(crate) notices: Notices,
    pub(crate) watches: Watches,
}

impl DashboardsApi {
    /// The encoded dashboard.
    pub(super) async fn encoded(&self, request: Request<GetDashboardRequest>) -> Result<Response<Bytes>, Status> {
        let (account, request) = split(request)?;
        let mut fields = Fields::default();
        let page = fields.page(account, wire::DASHBOARD, request.page_size, &request.page_token);
        let page = fields.done(page)?;
        let dashboard =
            if page.is_usual() { self.dashes.read(account).await } else { self.dashes.load(account, page).await };
        Ok(Response::new(dashboard?))
    }
}

#[tonic::async_trait]
impl DashboardService for DashboardsApi {
    /// What [`DashboardsApi::encoded`] answers before this is reached, for a server that is put up without it.
    async fn get_dashboard(&self, request: Request<GetDashboardRequest>) -> Result<Response<Dashboard>, Status> {
        let encoded = self.encoded(request).await?.into_inner();
        Ok(Response::new(decoded(encoded)?))
    }

    type WatchDashboardStream = Pin<Box<dyn Stream<Item = Result<WatchDashboardResponse, Status>> + Send>>;

    async fn watch_dashboard(
        &self,
        request: Request<WatchDashboardRequest>,
    ) -> Result<Response<Self::WatchDashboardStream>, Status> {
        let (account, request) = split(request)?;
        let events = self.watches.watch(account, &request.resume_token).await?;
        let responses = events.map(|(event, resume_token)| {
            let event = match event {
                Event::Dashboard(encoded) => sent::Event::Dashboard(decoded(encoded)?),
                Event::Heartbeat => sent::Event::Heartbeat(sent::Heartbeat {}),
                Event::Moved => sent::Event::Moved(sent::Moved {}),
            };
            Ok(WatchDashboardResponse { event: Some(event), resume_token })
        });
        Ok(Response::new(Box::pin(responses)))
    }

    async fn acknowledge_notices(
        &self,
        request: Request<AcknowledgeNoticesRequest>,
    ) -> Result<Response<AcknowledgeNoticesResponse>, Status> {
        let (account, request) = split(request)?;
        let unread = self.notices.acknowledge(account, acknowledged(&request)?).await?;
        let unread_notice_count = i32::try_from(unread).unwrap_or(i32::MAX);
        Ok(Response::new(AcknowledgeNoticesResponse { unread_notice_count }))
    }
}

fn decoded(encoded: Bytes) -> Result<Dashboard, Status> {
    Ok(Dashboard::decode(encoded).map_err(chassis::status::Failure::internal)?)
}

fn acknowledged(request: &AcknowledgeNoticesRequest) -> Result<Vec<NoticeId>, Error> {
    let mut fields = Fields::default();
    if request.names.is_empty() || request.names.len() > MOST {
        fields.wrong("names", format_args!("must hold 1 to {MOST} names"));
    }
    let names = request.names.iter().enumerate();
    let read = names.filter_map(|(at, name)| fields.take(format!("names[{at}]"), NoticeId::from_name(name)));
    let notices = read.collect();
    fields.done(Some(notices))
}
