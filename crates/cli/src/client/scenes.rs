//! `rushes scenes …`.

use std::fmt::Write as _;

use anyhow::Result;
use clap::Subcommand;
use proto::generations::v1::SetTakeRequest;
use proto::generations::v1::generation_service_client::GenerationServiceClient;
use proto::projects::v1::project_service_client::ProjectServiceClient;
use proto::projects::v1::{
    CreateSceneRequest, DeleteSceneRequest, GetSceneRequest, ListScenesRequest, ReorderScenesRequest, Scene,
    UpdateSceneRequest,
};
use uuid::Uuid;

use crate::client::labels::{self, Labels, NewLabels};
use crate::client::mask;
use crate::client::projects::deleted;
use crate::client::session::Session;
use crate::failure::Exit;
use crate::show;

const SCENE: &str = "rushes.projects.v1.Scene";

/// What can be done with scenes.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a scene at the end of a project.
    Create {
        /// projects/….
        #[arg(long)]
        project: String,
        /// 1 to 200 characters.
        #[arg(long)]
        title: String,
        /// What the scene shows; at most 2,000 characters.
        #[arg(long, default_value = "")]
        script: String,
        #[command(flatten)]
        labels: Labels,
    },
    /// Show one scene.
    Get {
        /// projects/…/scenes/….
        name: String,
    },
    /// List the scenes of a project by position.
    List {
        /// projects/….
        #[arg(long)]
        project: String,
        /// How many, at most 100.
        #[arg(long, default_value_t = 20)]
        page_size: i32,
        /// Where the page before ended.
        #[arg(long, default_value = "")]
        page_token: String,
    },
    /// Change a scene's title, script or labels.
    Update {
        /// projects/…/scenes/….
        name: String,
        /// The new title.
        #[arg(long)]
        title: Option<String>,
        /// The new script.
        #[arg(long)]
        script: Option<String>,
        #[command(flatten)]
        labels: NewLabels,
        /// Change it only in this version.
        #[arg(long, default_value = "")]
        etag: String,
    },
    /// Delete a scene.
    Delete {
        /// projects/…/scenes/….
        name: String,
        /// Delete it only in this version.
        #[arg(long, default_value = "")]
        etag: String,
    },
    /// Choose the take of a scene: the generation that stands for it, whatever is generated after it.
    Take {
        /// projects/…/scenes/….
        name: String,
        /// generations/… of the scene, COMPLETED.
        #[arg(required_unless_present = "none")]
        generation: Option<String>,
        /// Take the choice back.
        #[arg(long, conflicts_with = "generation")]
        none: bool,
    },
    /// Put all scenes of a project into the order given.
    Reorder {
        /// projects/….
        #[arg(long)]
        project: String,
        /// projects/…/scenes/…, each scene once, first to last.
        #[arg(required = true)]
        scenes: Vec<String>,
    },
}

impl Command {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit> {
        let mut client = ProjectServiceClient::new(session.gateway()?);
        let failed = |status: tonic::Status| session.failed(&status);
        match self {
            Self::Create { project, title, script, labels } => {
                let request = CreateSceneRequest {
                    parent: project,
                    scene: Some(Scene { title, script, labels: labels.into_map(), ..Scene::default() }),
                    request_id: Uuid::now_v7().to_string(),
                };
                let answer = client.create_scene(session.request(request)?).await.map_err(failed)?;
                session.show(SCENE, answer.get_ref(), text)
            }
            Self::Get { name } => {
                let answer = client.get_scene(session.request(GetSceneRequest { name })?).await.map_err(failed)?;
                session.show(SCENE, answer.get_ref(), text)
            }
            Self::List { project, page_size, page_token } => {
                let request = ListScenesRequest { parent: project.clone(), page_size, page_token };
                let answer = client.list_scenes(session.request(request)?).await.map_err(failed)?;
                session.show("rushes.projects.v1.ListScenesResponse", answer.get_ref(), |page| {
                    let mut out: String = page.scenes.iter().map(line).collect();
                    let token = &page.next_page_token;
                    if !token.is_empty() {
                        let _ = writeln!(out, "more: rushes scenes list --project {project} --page-token {token}");
                    }
                    out
                })
            }
            Self::Update { name, title, script, labels, etag } => {
                let update_mask = Some(mask::of(&[
                    ("title", "--title", title.is_some()),
                    ("script", "--script", script.is_some()),
                    ("labels", "--label", labels.is_given()),
                ])?);
                let scene = Scene {
                    name,
                    etag,
                    title: title.unwrap_or_default(),
                    script: script.unwrap_or_default(),
                    labels: labels.into_map(),
                    ..Scene::default()
                };
                let request = UpdateSceneRequest { scene: Some(scene), update_mask };
                let answer = client.update_scene(session.request(request)?).await.map_err(failed)?;
                session.show(SCENE, answer.get_ref(), text)
            }
            Self::Delete { name, etag } => {
                let request = session.request(DeleteSceneRequest { name: name.clone(), etag })?;
                client.delete_scene(request).await.map_err(failed)?;
                deleted(session, &name)
            }
            Self::Take { name, generation, none: _ } => {
                let request = SetTakeRequest { scene: name, generation: generation.unwrap_or_default() };
                let mut client = GenerationServiceClient::new(session.gateway()?);
                let answer = client.set_take(session.request(request)?).await.map_err(failed)?;
                session.show("rushes.generations.v1.Take", answer.get_ref(), |take| {
                    let chosen = if take.generation.is_empty() { "none" } else { take.generation.as_str() };
                    format!("{}\n  take {chosen}\n", take.scene)
                })
            }
            Self::Reorder { project, scenes } => {
                let request = session.request(ReorderScenesRequest { parent: project, scenes })?;
                let answer = client.reorder_scenes(request).await.map_err(failed)?;
                session.show("rushes.projects.v1.ReorderScenesResponse", answer.get_ref(), |page| {
                    page.scenes.iter().map(line).collect()
                })
            }
        }
    }
}

fn text(scene: &Scene) -> String {
    let mut out = format!("{}\n  {}. {}\n", scene.name, scene.position + 1, scene.title);
    if !scene.script.is_empty() {
        let _ = writeln!(out, "  {}", scene.script);
    }
    if !scene.latest_generation.is_empty() {
        let _ = writeln!(out, "  latest {}", scene.latest_generation);
    }
    if !scene.take.is_empty() {
        let _ = writeln!(out, "  take {}", scene.take);
    }
    labels::write_line(&mut out, "  ", &scene.labels);
    let _ = writeln!(out, "  etag {}", scene.etag);
    out
}

fn line(scene: &Scene) -> String {
    format!("{:>3}. {:<40}  {}\n", scene.position + 1, show::short(&scene.title, 40), scene.name)
}
