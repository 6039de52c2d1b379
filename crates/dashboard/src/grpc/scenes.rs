//! Parsers of ProjectService's requests about scenes.

use chassis::fields::Fields;
use std::collections::HashSet;

use domain::id::{AccountId, ProjectId, SceneId};
use domain::name::SceneName;
use domain::page::Page;
use proto::projects::v1::{CreateSceneRequest, ListScenesRequest, ReorderScenesRequest, Scene, UpdateSceneRequest};

use super::request::{MAX_TEXT, MAX_TITLE, label_parts};
use crate::error::Error;
use crate::etag::IfMatch;
use crate::idempotency::IdempotencyKey;
use crate::model::{MAX_SCENES, NewScene, SceneChange, scenes_listing};
use crate::pages::Pages;

pub(super) fn parse_name(name: &str) -> Result<SceneName, Error> {
    let mut fields = Fields::default();
    let name = fields.take("name", SceneName::parse(name));
    Ok(fields.done(name)?)
}

pub(super) fn parse_create(
    request: CreateSceneRequest,
) -> Result<(ProjectId, NewScene, Option<IdempotencyKey>), Error> {
    let mut fields = Fields::default();
    let project = fields.take("parent", ProjectId::from_name(&request.parent));
    let Scene { title, script, labels, .. } = request.scene.unwrap_or_default();
    let title = fields.line("scene.title", title, MAX_TITLE);
    let script = fields.text("scene.script", script, MAX_TEXT);
    let labels = fields.labels("scene.labels", labels);
    let id = fields.request_id(&request.request_id);
    let read = project.zip(title).zip(script.zip(labels)).zip(id);
    let (((project, title), (script, labels)), id) = fields.done(read)?;
    let mut body = vec![project.0.as_bytes().as_slice(), title.as_bytes(), script.as_bytes()];
    body.extend(label_parts(&labels));
    let key = id.map(|id| IdempotencyKey::new(id, &body));
    Ok((project, NewScene { title, script, labels }, key))
}

pub(super) fn parse_list(
    pages: &Pages,
    account: AccountId,
    request: &ListScenesRequest,
) -> Result<(ProjectId, Page), Error> {
    let mut fields = Fields::default();
    let project = fields.take("parent", ProjectId::from_name(&request.parent));
    // Without a project there is no listing that a token could belong to.
    let listing = project.map(scenes_listing).unwrap_or_default();
    let token = if project.is_some() { request.page_token.as_str() } else { "" };
    let page = pages.parse(&mut fields, account, &listing, request.page_size, token);
    Ok(fields.done(project.zip(page))?)
}

pub(super) fn parse_update(request: UpdateSceneRequest) -> Result<(SceneName, SceneChange, IfMatch), Error> {
    let mut fields = Fields::default();
    let Scene { name, etag, title, script, labels, .. } = request.scene.unwrap_or_default();
    let name = fields.take("scene.name", SceneName::parse(&name));
    let filled = [("title", !title.is_empty()), ("script", !script.is_empty()), ("labels", !labels.is_empty())];
    let named = fields.update_mask(request.update_mask.as_ref().map(|mask| mask.paths.as_slice()), &filled);
    let mut change = SceneChange::default();
    if named.contains(&"title") {
        change.title = fields.line("scene.title", title, MAX_TITLE);
    }
    if named.contains(&"script") {
        change.script = fields.text("scene.script", script, MAX_TEXT);
    }
    if named.contains(&"labels") {
        change.labels = fields.labels("scene.labels", labels);
    }
    Ok((fields.done(name)?, change, IfMatch::parse(&etag)))
}

pub(super) fn parse_reorder(request: &ReorderScenesRequest) -> Result<(ProjectId, Vec<SceneId>), Error> {
    let mut fields = Fields::default();
    let project = fields.take("parent", ProjectId::from_name(&request.parent));
    let scenes = fields.bounded("scenes", &request.scenes, usize::try_from(MAX_SCENES).unwrap_or_default());
    let mut seen = HashSet::with_capacity(scenes.len());
    let mut order = Vec::with_capacity(scenes.len());
    for (at, name) in scenes.iter().enumerate() {
        let field = format!("scenes[{at}]");
        let Some(name) = fields.take(field.clone(), SceneName::parse(name)) else { continue };
        if project.is_some_and(|project| project != name.project) {
            fields.wrong(field, "must be a scene of the parent");
        } else if !seen.insert(name.scene) {
            fields.wrong(field, "must not be named a second time");
        } else {
            order.push(name.scene);
        }
    }
    Ok((fields.done(project)?, order))
}
