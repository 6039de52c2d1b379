//! `rushes dashboard`, once or whenever it changes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal as _;

use anyhow::Result;
use proto::dashboard::v1::dashboard_service_client::DashboardServiceClient;
use proto::dashboard::v1::watch_dashboard_response::Event;
use proto::dashboard::v1::{Dashboard, GetDashboardRequest, ProjectCard, SceneCard, Section, WatchDashboardRequest};
use proto::generations::v1::generation_service_client::GenerationServiceClient;
use proto::generations::v1::{BatchGetGenerationsRequest, State};
use tonic::Code;

use crate::client::backoff::Backoff;
use crate::client::labels;
use crate::client::session::Session;
use crate::failure::Exit;
use crate::{config, json, out, show};

/// The full name of a dashboard's message.
const DASHBOARD: &str = "rushes.dashboard.v1.Dashboard";
/// How many names one call may ask for.
const MAX_VIDEOS: usize = 100;

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
        let dashboard = answer.get_ref();
        let mut videos = Videos::default();
        if !session.json() {
            videos.learn(session, dashboard).await?;
        }
        session.show(DASHBOARD, dashboard, |dashboard| text(dashboard, &videos))
    }
}

/// Shows each version once, in order, whatever becomes of the servers.
async fn watch(session: &Session) -> Result<Exit> {
    let mut client = DashboardServiceClient::new(session.gateway()?);
    let mut request = WatchDashboardRequest::default();
    let mut backoff = Backoff::new();
    let mut videos = Videos::default();
    let on_terminal = std::io::stdout().is_terminal() && !config::plain();
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
                    backoff.heard();
                    request.resume_token = event.resume_token;
                    match event.event {
                        Some(Event::Dashboard(dashboard)) if session.json() => json::print_line(DASHBOARD, &dashboard)?,
                        Some(Event::Dashboard(dashboard)) => {
                            videos.learn(session, &dashboard).await?;
                            out::print(frame(&text(&dashboard, &videos), on_terminal))?;
                        }
                        Some(Event::Heartbeat(_) | Event::Moved(_)) | None => {}
                    }
                }
            }
        };
        match ended {
            // The end of a stream's age, or of the process that held it.
            Ok(()) => backoff.pause().await,
            Err(status) if status.code() == Code::OutOfRange && !request.resume_token.is_empty() => {
                request.resume_token.clear();
            }
            Err(status) if backoff.again(&status).await => {}
            Err(status) => return Err(session.failed(&status)),
        }
    }
}

/// A dashboard that takes the place of the one before on a terminal; elsewhere one more block of lines.
fn frame(text: &str, on_terminal: bool) -> String {
    if on_terminal {
        // From the top left corner, after everything was erased.
        return format!("\x1b[H\x1b[2J{text}");
    }
    format!("{text}\n")
}

/// Where videos are, by the names of their generations. A dashboard does not say it.
#[derive(Debug, Default)]
struct Videos(BTreeMap<String, String>);

impl Videos {
    /// Asks for the addresses of the completed generations on a dashboard that are not known yet, in one call.
    async fn learn(&mut self, session: &Session, dashboard: &Dashboard) -> Result<()> {
        let mut names = completed(dashboard);
        names.retain(|name| !self.0.contains_key(name));
        names.truncate(MAX_VIDEOS);
        if names.is_empty() {
            return Ok(());
        }
        let mut client = GenerationServiceClient::new(session.gateway()?);
        match client.batch_get_generations(session.request(BatchGetGenerationsRequest { names })?).await {
            Ok(answer) => {
                let found = answer.into_inner().generations.into_iter();
                self.0.extend(found.filter_map(|one| Some((one.name, one.outputs.into_iter().next()?.url))));
            }
            // The dashboard is shown all the same.
            Err(status) => out::warn(format_args!("the videos' addresses could not be read: {}", status.message())),
        }
        Ok(())
    }
}

/// The names of the completed generations on a dashboard, each once.
fn completed(dashboard: &Dashboard) -> Vec<String> {
    let scenes = || dashboard.projects.iter().flat_map(|project| &project.scenes);
    let latest = scenes().filter_map(|scene| scene.latest.as_ref()).map(|latest| (latest.state, &latest.name));
    let recent = dashboard.recent_generations.iter().map(|recent| (recent.state, &recent.name));
    let completed = latest.chain(recent).filter(|(state, _)| *state == State::Completed as i32);
    let takes = scenes().filter_map(|scene| scene.take.as_ref()).map(|take| &take.name);
    let names: std::collections::BTreeSet<_> = completed.map(|(_, name)| name).chain(takes).cloned().collect();
    names.into_iter().collect()
}

fn text(dashboard: &Dashboard, videos: &Videos) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut out, dashboard, videos);
    out
}

fn write(out: &mut String, dashboard: &Dashboard, videos: &Videos) -> std::fmt::Result {
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
        write_project(out, project, videos)?;
    }
    if !dashboard.recent_generations.is_empty() {
        writeln!(out, "\nlatest generations")?;
    }
    for recent in &dashboard.recent_generations {
        let prompt = show::short(&recent.prompt, 60);
        writeln!(out, "  {:<10} {:>3} %  {}  {prompt}", show::state(recent.state), recent.percent, recent.name)?;
        if let Some(url) = videos.0.get(&recent.name) {
            writeln!(out, "    video   {url}")?;
        }
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

fn write_project(out: &mut String, project: &ProjectCard, videos: &Videos) -> std::fmt::Result {
    let cost = show::credits(project.completed_cost_micros);
    let (scenes, completed) = (project.scene_count, project.completed_count);
    writeln!(out, "{}  {}", project.title, project.name)?;
    writeln!(out, "  {scenes} scenes, {completed} completed generations, {cost} credits")?;
    labels::write_line(out, "  ", &project.labels);
    for scene in &project.scenes {
        write_scene(out, scene, videos)?;
    }
    let more = usize::try_from(project.scene_count).unwrap_or(0).saturating_sub(project.scenes.len());
    if more > 0 {
        writeln!(out, "  and {more} more: rushes scenes list --project {}", project.name)?;
    }
    Ok(())
}

fn write_scene(out: &mut String, scene: &SceneCard, videos: &Videos) -> std::fmt::Result {
    writeln!(out, "  {:>2}. {}", scene.position + 1, show::short(&scene.title, 60))?;
    writeln!(out, "      {}", scene.name)?;
    labels::write_line(out, "      ", &scene.labels);
    if let Some(take) = &scene.take {
        let is_latest = scene.latest.as_ref().is_some_and(|latest| latest.name == take.name);
        writeln!(out, "      take    {}{}", take.name, if is_latest { "  (the latest)" } else { "" })?;
        if !is_latest {
            write_pictures(out, videos, &take.name, &take.thumbnail_url)?;
        }
    }
    let Some(latest) = &scene.latest else { return Ok(()) };
    let step = if show::is_terminal(latest.state) { "" } else { latest.stage.as_str() };
    let line = format!("{:<10} {:>3} %  {}  {step}", show::state(latest.state), latest.percent, latest.name);
    writeln!(out, "      {}", line.trim_end())?;
    write_pictures(out, videos, &latest.name, &latest.thumbnail_url)
}

/// Where the video and the poster of a scene's generation are, as far as they are known.
fn write_pictures(out: &mut String, videos: &Videos, generation: &str, poster: &str) -> std::fmt::Result {
    if let Some(url) = videos.0.get(generation) {
        writeln!(out, "      video   {url}")?;
    }
    if !poster.is_empty() {
        writeln!(out, "      poster  {poster}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proto::dashboard::v1::{ChosenTake, LatestGeneration};

    use super::*;

    #[test]
    fn a_watched_dashboard_is_redrawn_on_a_terminal_only() {
        assert_eq!(frame("one\n", false) + &frame("two\n", false), "one\n\ntwo\n\n");
        assert!(frame("two\n", true).starts_with("\x1b[H\x1b[2J"));
    }

    #[test]
    fn names_are_whole_and_a_completed_video_has_its_address() {
        let scene = "projects/p1/scenes/s1".to_owned();
        let name = "generations/g1".to_owned();
        let latest =
            LatestGeneration { name: name.clone(), state: State::Completed.into(), percent: 100, ..Default::default() };
        let scenes = vec![SceneCard {
            name: scene.clone(),
            title: "Arrival".to_owned(),
            latest: Some(latest),
            ..Default::default()
        }];
        let projects =
            vec![ProjectCard { name: "projects/p1".to_owned(), scene_count: 1, scenes, ..Default::default() }];
        let dashboard = Dashboard { projects, ..Default::default() };
        assert_eq!(completed(&dashboard), std::slice::from_ref(&name));
        let videos = Videos(BTreeMap::from([(name.clone(), "http://gateway/assets/a1".to_owned())]));
        let shown = text(&dashboard, &videos);
        for word in ["projects/p1", &scene, &name, "http://gateway/assets/a1"] {
            assert!(shown.split_whitespace().any(|shown| shown == word), "{word}: {shown}");
        }
    }

    #[test]
    fn a_take_is_shown_with_its_video_beside_a_latest_that_is_another() {
        let mut scene = SceneCard {
            latest: Some(LatestGeneration { name: "generations/g2".to_owned(), ..Default::default() }),
            take: Some(ChosenTake {
                name: "generations/g1".to_owned(),
                thumbnail_url: "http://p1".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let videos = Videos(BTreeMap::from([("generations/g1".to_owned(), "http://v1".to_owned())]));
        let shown = |scene: &SceneCard| {
            let mut out = String::new();
            write_scene(&mut out, scene, &videos).unwrap();
            out
        };
        let text = shown(&scene);
        let at = |word: &str| text.find(word).unwrap_or_else(|| panic!("{word}: {text}"));
        assert!(at("take    generations/g1") < at("http://v1") && at("http://p1") < at("generations/g2"));
        let dashboard = Dashboard {
            projects: vec![ProjectCard { scenes: vec![scene.clone()], ..Default::default() }],
            ..Default::default()
        };
        assert_eq!(completed(&dashboard), ["generations/g1"]);
        scene.take = Some(ChosenTake { name: "generations/g2".to_owned(), ..Default::default() });
        assert!(shown(&scene).contains("generations/g2  (the latest)"), "{}", shown(&scene));
    }
}
