//! `rushes projects …`.

use std::fmt::Write as _;

use anyhow::Result;
use clap::Subcommand;
use proto::projects::v1::project_service_client::ProjectServiceClient;
use proto::projects::v1::{
    CreateProjectRequest, DeleteProjectRequest, GetProjectRequest, ListProjectsRequest, Project, UpdateProjectRequest,
};
use uuid::Uuid;

use crate::client::labels::{self, Labels, NewLabels};
use crate::client::mask;
use crate::client::session::Session;
use crate::failure::Exit;
use crate::{json, out, show};

const PROJECT: &str = "rushes.projects.v1.Project";

/// What can be done with projects.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a project.
    Create {
        /// 1 to 200 characters.
        #[arg(long)]
        title: String,
        /// At most 2,000 characters.
        #[arg(long, default_value = "")]
        description: String,
        #[command(flatten)]
        labels: Labels,
    },
    /// Show one project.
    Get {
        /// projects/….
        name: String,
    },
    /// List projects, newest first.
    List {
        /// How many, at most 100.
        #[arg(long, default_value_t = 20)]
        page_size: i32,
        /// Where the page before ended.
        #[arg(long, default_value = "")]
        page_token: String,
    },
    /// Change a project's title, description or labels.
    Update {
        /// projects/….
        name: String,
        /// The new title.
        #[arg(long)]
        title: Option<String>,
        /// The new description.
        #[arg(long)]
        description: Option<String>,
        #[command(flatten)]
        labels: NewLabels,
        /// Change it only in this version.
        #[arg(long, default_value = "")]
        etag: String,
    },
    /// Delete a project with its scenes.
    Delete {
        /// projects/….
        name: String,
        /// Delete it only in this version.
        #[arg(long, default_value = "")]
        etag: String,
    },
}

impl Command {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit> {
        let mut client = ProjectServiceClient::new(session.gateway()?);
        let failed = |status: tonic::Status| session.failed(&status);
        match self {
            Self::Create { title, description, labels } => {
                let project = Some(Project { title, description, labels: labels.into_map(), ..Project::default() });
                let request = CreateProjectRequest { project, request_id: Uuid::now_v7().to_string() };
                let answer = client.create_project(session.request(request)?).await.map_err(failed)?;
                session.show(PROJECT, answer.get_ref(), text)
            }
            Self::Get { name } => {
                let request = session.request(GetProjectRequest { name })?;
                let answer = client.get_project(request).await.map_err(failed)?;
                session.show(PROJECT, answer.get_ref(), text)
            }
            Self::List { page_size, page_token } => {
                let request = session.request(ListProjectsRequest { page_size, page_token })?;
                let answer = client.list_projects(request).await.map_err(failed)?;
                session.show("rushes.projects.v1.ListProjectsResponse", answer.get_ref(), |page| {
                    let mut out: String = page.projects.iter().map(line).collect();
                    if !page.next_page_token.is_empty() {
                        let _ = writeln!(out, "more: rushes projects list --page-token {}", page.next_page_token);
                    }
                    out
                })
            }
            Self::Update { name, title, description, labels, etag } => {
                let update_mask = Some(mask::of(&[
                    ("title", "--title", title.is_some()),
                    ("description", "--description", description.is_some()),
                    ("labels", "--label", labels.is_given()),
                ])?);
                let project = Project {
                    name,
                    etag,
                    title: title.unwrap_or_default(),
                    description: description.unwrap_or_default(),
                    labels: labels.into_map(),
                    ..Project::default()
                };
                let request = UpdateProjectRequest { project: Some(project), update_mask };
                let answer = client.update_project(session.request(request)?).await.map_err(failed)?;
                session.show(PROJECT, answer.get_ref(), text)
            }
            Self::Delete { name, etag } => {
                let request = session.request(DeleteProjectRequest { name: name.clone(), etag })?;
                client.delete_project(request).await.map_err(failed)?;
                deleted(session, &name)
            }
        }
    }
}

/// Says that `name` is gone.
pub(crate) fn deleted(session: &Session, name: &str) -> Result<Exit> {
    if session.json() {
        json::print_value(&serde_json::json!({"deleted": name}))?;
    } else {
        out::print(format_args!("deleted {name}\n"))?;
    }
    Ok(Exit::Done)
}

fn text(project: &Project) -> String {
    let cost = show::credits(project.completed_cost_micros);
    let (scenes, completed) = (project.scene_count, project.completed_count);
    let mut out = format!("{}\n  {}\n", project.name, project.title);
    if !project.description.is_empty() {
        let _ = writeln!(out, "  {}", project.description);
    }
    let _ = writeln!(out, "  {scenes} scenes, {completed} completed generations, {cost} credits");
    labels::write_line(&mut out, "  ", &project.labels);
    let _ = writeln!(out, "  etag {}", project.etag);
    out
}

fn line(project: &Project) -> String {
    let title = show::short(&project.title, 40);
    format!("{}  {title:<40}  {:>4} scenes\n", project.name, project.scene_count)
}
