//! ProjectService: projects here, scenes in `scenes`.

use domain::id::ProjectId;
use domain::page;
use proto::projects::v1::project_service_server::ProjectService;
use proto::projects::v1::{
    CreateProjectRequest, CreateSceneRequest, DeleteProjectRequest, DeleteSceneRequest, GetProjectRequest,
    GetSceneRequest, ListProjectsRequest, ListProjectsResponse, ListScenesRequest, ListScenesResponse, Project,
    ReorderScenesRequest, ReorderScenesResponse, Scene, UpdateProjectRequest, UpdateSceneRequest,
};
use tonic::{Request, Response, Status};

use super::{scenes, split};
use crate::error::Error;
use crate::etag::Seen;
use crate::fields::{BODY, Fields, TITLE};
use crate::once::Once;
use crate::projects::{Change, Draft, Projects};
use crate::scenes::Scenes;
use crate::wire;

/// The service over its rules.
#[derive(Clone)]
pub(crate) struct ProjectsApi {
    pub(crate) projects: Projects,
    pub(crate) scenes: Scenes,
}

#[tonic::async_trait]
impl ProjectService for ProjectsApi {
    async fn create_project(&self, request: Request<CreateProjectRequest>) -> Result<Response<Project>, Status> {
        let (account, request) = split(request)?;
        let (draft, once) = created(request)?;
        let project = self.projects.create(account, draft, once).await?;
        Ok(Response::new(wire::project(project)))
    }

    async fn get_project(&self, request: Request<GetProjectRequest>) -> Result<Response<Project>, Status> {
        let (account, request) = split(request)?;
        let project = self.projects.get(account, named(&request.name)?).await?;
        Ok(Response::new(wire::project(project)))
    }

    async fn list_projects(
        &self,
        request: Request<ListProjectsRequest>,
    ) -> Result<Response<ListProjectsResponse>, Status> {
        let (account, request) = split(request)?;
        let mut fields = Fields::default();
        let page = fields.page(account, wire::PROJECTS, request.page_size, &request.page_token);
        let (projects, next) = self.projects.list(account, fields.done(page)?).await?;
        Ok(Response::new(ListProjectsResponse {
            projects: projects.into_iter().map(wire::project).collect(),
            next_page_token: next.map(|cursor| page::token(account, wire::PROJECTS, cursor)).unwrap_or_default(),
        }))
    }

    async fn update_project(&self, request: Request<UpdateProjectRequest>) -> Result<Response<Project>, Status> {
        let (account, request) = split(request)?;
        let (id, change, seen) = updated(request)?;
        let project = self.projects.update(account, id, change, seen).await?;
        Ok(Response::new(wire::project(project)))
    }

    async fn delete_project(&self, request: Request<DeleteProjectRequest>) -> Result<Response<()>, Status> {
        let (account, request) = split(request)?;
        let id = named(&request.name)?;
        self.projects.delete(account, id, Seen::read(&request.etag)).await?;
        Ok(Response::new(()))
    }

    async fn create_scene(&self, request: Request<CreateSceneRequest>) -> Result<Response<Scene>, Status> {
        let (account, request) = split(request)?;
        let (project, draft, once) = scenes::created(request)?;
        let scene = self.scenes.create(account, project, draft, once).await?;
        Ok(Response::new(wire::scene(scene)))
    }

    async fn get_scene(&self, request: Request<GetSceneRequest>) -> Result<Response<Scene>, Status> {
        let (account, request) = split(request)?;
        let scene = self.scenes.get(account, scenes::named(&request.name)?).await?;
        Ok(Response::new(wire::scene(scene)))
    }

    async fn list_scenes(&self, request: Request<ListScenesRequest>) -> Result<Response<ListScenesResponse>, Status> {
        let (account, request) = split(request)?;
        let (project, page) = scenes::listed(account, &request)?;
        let (scenes, next) = self.scenes.list(account, project, page).await?;
        let token = |cursor| page::token(account, &wire::scenes_of(project), cursor);
        Ok(Response::new(ListScenesResponse {
            scenes: scenes.into_iter().map(wire::scene).collect(),
            next_page_token: next.map(token).unwrap_or_default(),
        }))
    }

    async fn update_scene(&self, request: Request<UpdateSceneRequest>) -> Result<Response<Scene>, Status> {
        let (account, request) = split(request)?;
        let (name, change, seen) = scenes::updated(request)?;
        let scene = self.scenes.update(account, name, change, seen).await?;
        Ok(Response::new(wire::scene(scene)))
    }

    async fn delete_scene(&self, request: Request<DeleteSceneRequest>) -> Result<Response<()>, Status> {
        let (account, request) = split(request)?;
        let name = scenes::named(&request.name)?;
        self.scenes.delete(account, name, Seen::read(&request.etag)).await?;
        Ok(Response::new(()))
    }

    async fn reorder_scenes(
        &self,
        request: Request<ReorderScenesRequest>,
    ) -> Result<Response<ReorderScenesResponse>, Status> {
        let (account, request) = split(request)?;
        let (project, order) = scenes::reordered(&request)?;
        let scenes = self.scenes.reorder(account, project, &order).await?;
        Ok(Response::new(ReorderScenesResponse { scenes: scenes.into_iter().map(wire::scene).collect() }))
    }
}

fn named(name: &str) -> Result<ProjectId, Error> {
    let mut fields = Fields::default();
    let id = fields.take("name", ProjectId::from_name(name));
    fields.done(id)
}

fn created(request: CreateProjectRequest) -> Result<(Draft, Option<Once>), Error> {
    let mut fields = Fields::default();
    let Project { title, description, .. } = request.project.unwrap_or_default();
    let title = fields.line("project.title", title, TITLE);
    let description = fields.text("project.description", description, BODY);
    let id = fields.request_id(&request.request_id);
    let ((title, description), id) = fields.done(title.zip(description).zip(id))?;
    let once = id.map(|id| Once::new(id, &[title.as_bytes(), description.as_bytes()]));
    Ok((Draft { title, description }, once))
}

fn updated(request: UpdateProjectRequest) -> Result<(ProjectId, Change, Seen), Error> {
    let mut fields = Fields::default();
    let Project { name, etag, title, description, .. } = request.project.unwrap_or_default();
    let id = fields.take("project.name", ProjectId::from_name(&name));
    let paths = request.update_mask.as_ref().map(|mask| mask.paths.as_slice());
    let named = fields.mask(paths, &["title", "description"]);
    let mut change = Change::default();
    if named.contains(&"title") {
        change.title = fields.line("project.title", title, TITLE);
    }
    if named.contains(&"description") {
        change.description = fields.text("project.description", description, BODY);
    }
    Ok((fields.done(id)?, change, Seen::read(&etag)))
}
