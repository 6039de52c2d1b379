//! `rushes dashboard`, once or whenever it changes.

use std::fmt::Write as _;

use anyhow::Result;
use proto::dashboard::v1::dashboard_service_client::DashboardServiceClient;
use proto::dashboard::v1::watch_dashboard_response::Event;
use proto::dashboard::v1::{Dashboard, GetDashboardRequest, ProjectCard, SceneCard, Section, WatchDashboardRequest};
use tonic::Code;

use crate::client::patience::Patience;
use crate::client::session::Session;
use crate::failure::Exit;
use crate::{json, out, show};

/// The full name of a dashboard's message.
const DASHBOARD: &str = "rushes.dashboard.v1.Dashboard";

/// Shows the dashboard.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// How many projects, at most 100.
    #[arg(long, default_value_t = 20)]
    page_size: i32,
    /// Where the page before ended.
    #[arg(long, default_value = "")]
    page_token: String,
    /// Show it again whenever it changes, until Ctrl-C; always the first page.
    #[arg(long, conflicts_with_all = ["page_size", "page_token"])]
    watch: bool,
    /// When it cannot be read now, show how it was at most a minute ago.
    #[arg(long, conflicts_with_all = ["page_size", "page_token", "watch"])]
    allow_stale: bool,
}

impl Show {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit> {
        if self.watch {
            return watch(session).await;
        }
        let request = GetDashboardRequest { page_size: self.page_size, page_token: self.page_token };
        let mut client = DashboardServiceClient::new(session.gateway()?);
        let request = session.lenient(request, self.allow_stale)?;
        let answer = client.get_dashboard(request).await.map_err(|status| session.failed(&status))?;
        session.warn_of_age(answer.metadata());
        session.show(DASHBOARD, answer.get_ref(), text)
    }
}

/// Shows each version once, in order, whatever becomes of the servers.
async fn watch(session: &Session) -> Result<Exit> {
    let mut client = DashboardServiceClient::new(session.gateway()?);
    let mut request = WatchDashboardRequest::default();
    let mut patience = Patience::new();
    loop {
        let ended = match client.watch_dashboard(session.stream(request.clone())?).await {
            Err(status) => Err(status),
            Ok(answer) => {
                let mut events = answer.into_inner();
                loop {
                    let event = match events.message().await {
                        Ok(Some(event)) => event,
                        Ok(None) => break Ok(()),
                        Err(status) => break Err(status),
                    };
                    patience.heard();
                    request.resume_token = event.resume_token;
                    match event.event {
                        Some(Event::Dashboard(dashboard)) if session.json() => json::print_line(DASHBOARD, &dashboard)?,
                        Some(Event::Dashboard(dashboard)) => out::print(format_args!("{}\n", text(&dashboard)))?,
                        Some(Event::Heartbeat(_) | Event::Moved(_)) | None => {}
                    }
                }
            }
        };
        match ended {
            // The end of a stream's age, or of the process that held it.
            Ok(()) => patience.pause().await,
            Err(status) if status.code() == Code::OutOfRange && !request.resume_token.is_empty() => {
                request.resume_token.clear();
            }
            Err(status) if patience.again(&status).await => {}
            Err(status) => return Err(session.failed(&status)),
        }
    }
}

fn text(dashboard: &Dashboard) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut out, dashboard);
    out
}

fn write(out: &mut String, dashboard: &Dashboard) -> std::fmt::Result {
    if let Some(profile) = &dashboard.profile {
        writeln!(out, "{} <{}>", profile.display_name, profile.email)?;
    }
    if let Some(credits) = &dashboard.credits {
        let (free, held) = (show::credits(credits.available_micros), show::credits(credits.held_micros));
        writeln!(out, "credits: {free} free, {held} held")?;
    }
    for notice in &dashboard.notices {
        writeln!(out, "! {} {}", notice.title, notice.body)?;
    }
    for project in &dashboard.projects {
        writeln!(out)?;
        write_project(out, project)?;
    }
    if !dashboard.recent_generations.is_empty() {
        writeln!(out, "\nlatest generations")?;
    }
    for recent in &dashboard.recent_generations {
        let prompt = show::short(&recent.prompt, 60);
        writeln!(out, "  {:<10} {:>3} %  {}  {prompt}", show::state(recent.state), recent.percent, recent.name)?;
    }
    for section in &dashboard.unreachable {
        let name = Section::try_from(*section).unwrap_or_default().as_str_name();
        writeln!(out, "\n{name} could not be read this time")?;
    }
    if !dashboard.next_page_token.is_empty() {
        writeln!(out, "\nmore: rushes dashboard --page-token {}", dashboard.next_page_token)?;
    }
    Ok(())
}

fn write_project(out: &mut String, project: &ProjectCard) -> std::fmt::Result {
    let cost = show::credits(project.completed_cost_micros);
    let (scenes, completed) = (project.scene_count, project.completed_count);
    writeln!(out, "{}  ({})", project.title, project.name)?;
    writeln!(out, "  {scenes} scenes, {completed} completed generations, {cost} credits")?;
    for scene in &project.scenes {
        write_scene(out, scene)?;
    }
    let more = usize::try_from(project.scene_count).unwrap_or(0).saturating_sub(project.scenes.len());
    if more > 0 {
        writeln!(out, "  and {more} more: rushes scenes list --project {}", project.name)?;
    }
    Ok(())
}

fn write_scene(out: &mut String, scene: &SceneCard) -> std::fmt::Result {
    let title = show::short(&scene.title, 28);
    write!(out, "  {:>2}. {title:<28}  ", scene.position + 1)?;
    match &scene.latest {
        None => writeln!(out, "-           {}", scene.name),
        Some(latest) => {
            write!(out, "{:<10} {:>3} %", show::state(latest.state), latest.percent)?;
            let news = if latest.thumbnail_url.is_empty() { &latest.stage } else { &latest.thumbnail_url };
            writeln!(out, "  {news}")
        }
    }
}
