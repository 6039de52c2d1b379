//! The gRPC handlers: parse, call the rules, present. A refusal names every one of the request's wrong fields at once.

mod accounts;
mod audit;
mod dashboards;
mod limits;
mod projects;
mod request;
mod scenes;

use std::sync::Arc;

use chassis::encoded::Encoded;
use proto::accounts::v1::account_service_server::AccountServiceServer;
use proto::audit::v1::audit_service_server::AuditServiceServer;
use proto::dashboard::v1::dashboard_service_server::DashboardServiceServer;
use proto::projects::v1::project_service_server::ProjectServiceServer;
use tonic::codec::CompressionEncoding::Gzip;
use tonic::service::Routes;

pub(crate) use accounts::AccountsApi;
pub(crate) use audit::AuditApi;
pub(crate) use dashboards::{DashboardsApi, MAX_EVENTS};
pub(crate) use projects::ProjectsApi;

/// The methods that stream, which have no deadline of their own.
pub(crate) const STREAMING: [&str; 1] = [dashboards::WATCH_DASHBOARD];

/// All services. The methods whose answers are cached encoded, and the watch of one, are answered with those bytes, past the generated
/// code, which would decode and encode them again.
pub(crate) fn routes(
    projects: ProjectsApi,
    dashboards: DashboardsApi,
    accounts: AccountsApi,
    audit: AuditApi,
) -> Routes {
    let get_dashboard = {
        let api = Arc::new(dashboards.clone());
        move |request| {
            let api = Arc::clone(&api);
            async move { api.encoded(request).await }
        }
    };
    let watch_dashboard = {
        let api = Arc::new(dashboards.clone());
        move |request| {
            let api = Arc::clone(&api);
            async move { api.watched(request).await }
        }
    };
    let authenticate = {
        let api = Arc::new(accounts.clone());
        move |request| {
            let api = Arc::clone(&api);
            async move { api.encoded(request).await }
        }
    };
    let projects = ProjectServiceServer::new(projects).accept_compressed(Gzip).send_compressed(Gzip);
    let dashboards = DashboardServiceServer::new(dashboards).accept_compressed(Gzip).send_compressed(Gzip);
    Routes::new(projects)
        .add_service(Encoded::unary(
            dashboards::GET_DASHBOARD,
            get_dashboard,
            Encoded::streaming(dashboards::WATCH_DASHBOARD, watch_dashboard, dashboards),
        ))
        .add_service(AuditServiceServer::new(audit).accept_compressed(Gzip).send_compressed(Gzip))
        .add_service(Encoded::unary(accounts::AUTHENTICATE, authenticate, AccountServiceServer::new(accounts)))
}
