//! ProjectService. Its requests about scenes are parsed in `scenes`.

use std::collections::HashMap;

use chassis::fields::Fields;
use domain::id::{AccountId, ProjectId};
use domain::page::Page;
use proto::projects::v1::project_service_server::ProjectService;
use proto::projects::v1::{
    CreateProjectRequest, CreateSceneRequest, DeleteProjectRequest, DeleteSceneRequest, GetProjectRequest,
    GetSceneRequest, ListProjectsRequest, ListProjectsResponse, ListScenesRequest, ListScenesResponse, Project,
    ReorderScenesRequest, ReorderScenesResponse, Scene, UpdateProjectRequest, UpdateSceneRequest,
};
use tonic::{Request, Response, Status};

use super::request::{MAX_TEXT, MAX_TITLE, label_parts, unpack};
use super::scenes;
use crate::error::Error;
use crate::etag::IfMatch;
use crate::idempotency::IdempotencyKey;
use crate::model::{NewProject, PROJECTS_LISTING, ProjectChange, scenes_listing};
use crate::pages::Pages;
use crate::presenter::{project_to_proto, scene_to_proto};
use crate::projects::Projects;
use crate::scenes::Scenes;

/// The service over its rules.
#[derive(Clone)]
pub(crate) struct ProjectsApi {
    pub(crate) projects: Projects,
    pub(crate) scenes: Scenes,
    pub(crate) pages: Pages,
}

#[tonic::async_trait]
impl ProjectService for ProjectsApi {
    async fn create_project(&self, request: Request<CreateProjectRequest>) -> Result<Response<Project>, Status> {
        let (account, request) = unpack(request)?;
        let (new, key) = parse_create(request)?;
        let project = self.projects.create(account, new, key).await?;
        Ok(Response::new(project_to_proto(project)))
    }

    async fn get_project(&self, request: Request<GetProjectRequest>) -> Result<Response<Project>, Status> {
        let (account, request) = unpack(request)?;
        let project = self.projects.get(account, parse_name(&request.name)?).await?;
        Ok(Response::new(project_to_proto(project)))
    }

    async fn list_projects(
        &self,
        request: Request<ListProjectsRequest>,
    ) -> Result<Response<ListProjectsResponse>, Status> {
        let (account, request) = unpack(request)?;
        let (projects, next) = self.projects.list(account, parse_list(&self.pages, account, &request)?).await?;
        Ok(Response::new(ListProjectsResponse {
            projects: projects.into_iter().map(project_to_proto).collect(),
            next_page_token: self.pages.token(account, PROJECTS_LISTING, next),
        }))
    }

    async fn update_project(&self, request: Request<UpdateProjectRequest>) -> Result<Response<Project>, Status> {
        let (account, request) = unpack(request)?;
        let (id, change, if_match) = parse_update(request)?;
        let project = self.projects.update(account, id, change, if_match).await?;
        Ok(Response::new(project_to_proto(project)))
    }

    async fn delete_project(&self, request: Request<DeleteProjectRequest>) -> Result<Response<()>, Status> {
        let (account, request) = unpack(request)?;
        let id = parse_name(&request.name)?;
        self.projects.delete(account, id, IfMatch::parse(&request.etag)).await?;
        Ok(Response::new(()))
    }

    async fn create_scene(&self, request: Request<CreateSceneRequest>) -> Result<Response<Scene>, Status> {
        let (account, request) = unpack(request)?;
        let (project, new, key) = scenes::parse_create(request)?;
        let scene = self.scenes.create(account, project, new, key).await?;
        Ok(Response::new(scene_to_proto(scene)))
    }

    async fn get_scene(&self, request: Request<GetSceneRequest>) -> Result<Response<Scene>, Status> {
        let (account, request) = unpack(request)?;
        let scene = self.scenes.get(account, scenes::parse_name(&request.name)?).await?;
        Ok(Response::new(scene_to_proto(scene)))
    }

    async fn list_scenes(&self, request: Request<ListScenesRequest>) -> Result<Response<ListScenesResponse>, Status> {
        let (account, request) = unpack(request)?;
        let (project, page) = scenes::parse_list(&self.pages, account, &request)?;
        let (scenes, next) = self.scenes.list(account, project, page).await?;
        Ok(Response::new(ListScenesResponse {
            scenes: scenes.into_iter().map(scene_to_proto).collect(),
            next_page_token: self.pages.token(account, &scenes_listing(project), next),
        }))
    }

    async fn update_scene(&self, request: Request<UpdateSceneRequest>) -> Result<Response<Scene>, Status> {
        let (account, request) = unpack(request)?;
        let (name, change, if_match) = scenes::parse_update(request)?;
        let scene = self.scenes.update(account, name, change, if_match).await?;
        Ok(Response::new(scene_to_proto(scene)))
    }

    async fn delete_scene(&self, request: Request<DeleteSceneRequest>) -> Result<Response<()>, Status> {
        let (account, request) = unpack(request)?;
        let name = scenes::parse_name(&request.name)?;
        self.scenes.delete(account, name, IfMatch::parse(&request.etag)).await?;
        Ok(Response::new(()))
    }

    async fn reorder_scenes(
        &self,
        request: Request<ReorderScenesRequest>,
    ) -> Result<Response<ReorderScenesResponse>, Status> {
        let (account, request) = unpack(request)?;
        let (project, order) = scenes::parse_reorder(&request)?;
        let scenes = self.scenes.reorder(account, project, &order).await?;
        // Those of 500 scenes in one message would be more than clients take, and a reorder changes none.
        let short = |scene| Scene { script: String::new(), labels: HashMap::new(), ..scene_to_proto(scene) };
        let scenes = scenes.into_iter().map(short);
        Ok(Response::new(ReorderScenesResponse { scenes: scenes.collect() }))
    }
}

fn parse_name(name: &str) -> Result<ProjectId, Error> {
    let mut fields = Fields::default();
    let id = fields.take("name", ProjectId::from_name(name));
    Ok(fields.done(id)?)
}

fn parse_list(pages: &Pages, account: AccountId, request: &ListProjectsRequest) -> Result<Page, Error> {
    let mut fields = Fields::default();
    let page = pages.parse(&mut fields, account, PROJECTS_LISTING, request.page_size, &request.page_token);
    Ok(fields.done(page)?)
}

fn parse_create(request: CreateProjectRequest) -> Result<(NewProject, Option<IdempotencyKey>), Error> {
    let mut fields = Fields::default();
    let Project { title, description, labels, .. } = request.project.unwrap_or_default();
    let title = fields.line("project.title", title, MAX_TITLE);
    let description = fields.text("project.description", description, MAX_TEXT);
    let labels = fields.labels("project.labels", labels);
    let id = fields.request_id(&request.request_id);
    let (((title, description), labels), id) = fields.done(title.zip(description).zip(labels).zip(id))?;
    let mut body = vec![title.as_bytes(), description.as_bytes()];
    body.extend(label_parts(&labels));
    let key = id.map(|id| IdempotencyKey::new(id, &body));
    Ok((NewProject { title, description, labels }, key))
}

fn parse_update(request: UpdateProjectRequest) -> Result<(ProjectId, ProjectChange, IfMatch), Error> {
    let mut fields = Fields::default();
    let Project { name, etag, title, description, labels, .. } = request.project.unwrap_or_default();
    let id = fields.take("project.name", ProjectId::from_name(&name));
    let filled =
        [("title", !title.is_empty()), ("description", !description.is_empty()), ("labels", !labels.is_empty())];
    let named = fields.update_mask(request.update_mask.as_ref().map(|mask| mask.paths.as_slice()), &filled);
    let mut change = ProjectChange::default();
    if named.contains(&"title") {
        change.title = fields.line("project.title", title, MAX_TITLE);
    }
    if named.contains(&"description") {
        change.description = fields.text("project.description", description, MAX_TEXT);
    }
    if named.contains(&"labels") {
        change.labels = fields.labels("project.labels", labels);
    }
    Ok((fields.done(id)?, change, IfMatch::parse(&etag)))
}
