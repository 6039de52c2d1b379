//! The gRPC handlers: parse, call the rules, convert. Each request names every one of its wrong fields at once.

mod accounts;
mod dashboards;
mod projects;
mod scenes;

use chassis::caller::Caller;
use chassis::encoded::Ready;
use chassis::status::Failure;
use domain::id::AccountId;
use proto::accounts::v1::account_service_server::AccountServiceServer;
use proto::dashboard::v1::dashboard_service_server::DashboardServiceServer;
use proto::projects::v1::project_service_server::ProjectServiceServer;
use tonic::Request;
use tonic::codec::CompressionEncoding::Gzip;
use tonic::service::Routes;

pub(crate) use accounts::AccountsApi;
pub(crate) use dashboards::DashboardsApi;
pub(crate) use projects::ProjectsApi;

/// The methods that stream, which have no deadline of their own.
pub(crate) const STREAMING: [&str; 1] = ["/rushes.dashboard.v1.DashboardService/WatchDashboard"];

/// All services; what is cached encoded is answered as it is.
pub(crate) fn routes(projects: ProjectsApi, dashboards: DashboardsApi, accounts: AccountsApi) -> Routes {
    let get_dashboard = {
        let api = dashboards.clone();
        move |request| {
            let api = api.clone();
            async move { api.encoded(request).await }
        }
    };
    let authenticate = {
        let api = accounts.clone();
        move |request| {
            let api = api.clone();
            async move { api.encoded(request).await }
        }
    };
    let projects = ProjectServiceServer::new(projects).accept_compressed(Gzip).send_compressed(Gzip);
    let dashboards = DashboardServiceServer::new(dashboards).accept_compressed(Gzip).send_compressed(Gzip);
    Routes::new(projects)
        .add_service(Ready::new(dashboards::GET_DASHBOARD, get_dashboard, dashboards))
        .add_service(Ready::new(accounts::AUTHENTICATE, authenticate, AccountServiceServer::new(accounts)))
}

/// Who asks, and what.
fn split<T>(request: Request<T>) -> Result<(AccountId, T), Failure> {
    let caller = Caller::of(&request)?;
    Ok((AccountId(caller.account), request.into_inner()))
}
