//! `rushes dashboard`.

use std::fmt::Write as _;

use anyhow::Result;
use proto::dashboard::v1::dashboard_service_client::DashboardServiceClient;
use proto::dashboard::v1::{Dashboard, GetDashboardRequest, ProjectCard, SceneCard, Section};

use crate::client::session::Session;
use crate::failure::Exit;
use crate::show;

/// Shows the dashboard.
#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// How many projects, at most 100.
    #[arg(long, default_value_t = 20)]
    page_size: i32,
    /// Where the page before ended.
    #[arg(long, default_value = "")]
    page_token: String,
}

impl Show {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit> {
        let request = GetDashboardRequest { page_size: self.page_size, page_token: self.page_token };
        let mut client = DashboardServiceClient::new(session.gateway()?);
        let answer = client.get_dashboard(session.request(request)?).await.map_err(|status| session.failed(&status))?;
        session.show("rushes.dashboard.v1.Dashboard", answer.get_ref(), text)
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
