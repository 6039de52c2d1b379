//! Messages made of what the rules know. Here an id becomes a name, a version an etag, and a stored picture an address.

use bytes::Bytes;
use domain::id::{AccountId, GenerationId, ProjectId};
use domain::page;
use prost::Message as _;
use prost_types::Timestamp;
use proto::accounts::v1 as accounts;
use proto::dashboard::v1 as dashboard;
use proto::projects::v1 as projects;
use time::OffsetDateTime;

use crate::accounts::{Account, ApiKey};
use crate::dashboards::{Contents, Notice, ProjectCard, Recent, SceneCard, Section};
use crate::etag;
use crate::projects::Project;
use crate::scenes::Scene;

/// The name of ListProjects' listing in page tokens.
pub(crate) const PROJECTS: &str = "projects";
/// The name of the dashboard's listing in page tokens.
pub(crate) const DASHBOARD: &str = "dashboard";

/// The name of a project's listing of scenes in page tokens.
pub(crate) fn scenes_of(project: ProjectId) -> String {
    format!("{}/scenes", project.name())
}

pub(crate) fn timestamp(at: OffsetDateTime) -> Timestamp {
    // Nanoseconds of a second always fit.
    Timestamp { seconds: at.unix_timestamp(), nanos: i32::try_from(at.nanosecond()).unwrap_or_default() }
}

/// The instant of a timestamp, if it is one of the years 0 to 9999.
pub(crate) fn time(at: Timestamp) -> Result<OffsetDateTime, &'static str> {
    const SHOULD: &str = "must be a timestamp of the years 0001 to 9999";
    let nanos = u32::try_from(at.nanos).ok().filter(|nanos| *nanos < 1_000_000_000).ok_or(SHOULD)?;
    let second = OffsetDateTime::from_unix_timestamp(at.seconds).map_err(|_| SHOULD)?;
    second.replace_nanosecond(nanos).ok().filter(|at| at.year() > 0).ok_or(SHOULD)
}

pub(crate) fn project(project: Project) -> projects::Project {
    projects::Project {
        name: project.id.name(),
        etag: etag::of(project.version),
        title: project.title,
        description: project.description,
        scene_count: project.scene_count,
        completed_count: project.completed_count,
        completed_cost_micros: project.completed_cost.get(),
        create_time: Some(timestamp(project.create_time)),
        update_time: Some(timestamp(project.update_time)),
    }
}

pub(crate) fn scene(scene: Scene) -> projects::Scene {
    projects::Scene {
        name: scene.name.to_string(),
        etag: etag::of(scene.version),
        title: scene.title,
        script: scene.script,
        position: scene.position,
        latest_generation: scene.latest.map(GenerationId::name).unwrap_or_default(),
        create_time: Some(timestamp(scene.create_time)),
        update_time: Some(timestamp(scene.update_time)),
    }
}

pub(crate) fn account(account: Account) -> accounts::Account {
    accounts::Account {
        name: account.id.name(),
        display_name: account.profile.display_name,
        email: account.profile.email,
        create_time: Some(timestamp(account.create_time)),
    }
}

pub(crate) fn api_key(key: ApiKey) -> accounts::ApiKey {
    accounts::ApiKey {
        name: key.name.to_string(),
        account: key.name.account.name(),
        scopes: key.scopes,
        expire_time: key.expire_time.map(timestamp),
        revoke_time: key.revoke_time.map(timestamp),
        version: key.version,
        prefix: key.prefix,
    }
}

/// Makes dashboards, with addresses that the outside can reach.
#[derive(Clone, Debug)]
pub(crate) struct Face {
    /// `{public URL}/assets/`, to which a stored object's name is added.
    assets: String,
}

impl Face {
    /// Addresses below the gateway's public URL.
    pub(crate) fn new(public_url: &str) -> Self {
        Self { assets: format!("{}/assets/", public_url.trim_end_matches('/')) }
    }

    /// The encoded dashboard.
    pub(crate) fn dashboard(&self, account: AccountId, contents: Contents) -> Bytes {
        let profile = contents.profile.map(|profile| dashboard::Profile {
            account: account.name(),
            display_name: profile.display_name,
            email: profile.email,
        });
        let credits = (!contents.unreachable.contains(&Section::Credits)).then(|| dashboard::Credits {
            available_micros: contents.credits.available.get(),
            held_micros: contents.credits.held.get(),
        });
        let next = contents.next.map(|cursor| page::token(account, DASHBOARD, cursor));
        let dashboard = dashboard::Dashboard {
            version: contents.snapshot.map(|snapshot| snapshot.version).unwrap_or_default(),
            profile,
            credits,
            projects: contents.projects.into_iter().map(|project| self.project(project)).collect(),
            next_page_token: next.unwrap_or_default(),
            recent_generations: contents.recent.into_iter().map(|recent| self.recent(recent)).collect(),
            notices: contents.notices.into_iter().map(notice).collect(),
            unread_notice_count: i32::try_from(contents.unread).unwrap_or(i32::MAX),
            unreachable: contents.unreachable.into_iter().map(section).map(i32::from).collect(),
        };
        dashboard.encode_to_vec().into()
    }

    fn project(&self, project: ProjectCard) -> dashboard::ProjectCard {
        dashboard::ProjectCard {
            name: project.id.name(),
            title: project.title,
            scene_count: project.scene_count,
            completed_count: project.completed_count,
            completed_cost_micros: project.completed_cost.get(),
            scenes: project.scenes.into_iter().map(|scene| self.scene(scene)).collect(),
            create_time: Some(timestamp(project.create_time)),
        }
    }

    fn scene(&self, scene: SceneCard) -> dashboard::SceneCard {
        let latest = scene.latest.map(|latest| dashboard::LatestGeneration {
            name: latest.id.name(),
            version: latest.version,
            state: latest.state.number().into(),
            percent: latest.percent.into(),
            stage: latest.stage,
            thumbnail_url: self.picture(latest.thumbnail),
        });
        dashboard::SceneCard { name: scene.name.to_string(), title: scene.title, position: scene.position, latest }
    }

    fn recent(&self, recent: Recent) -> dashboard::RecentGeneration {
        dashboard::RecentGeneration {
            name: recent.id.name(),
            scene: recent.scene.to_string(),
            state: recent.state.number().into(),
            percent: recent.percent.into(),
            stage: recent.stage,
            prompt: recent.prompt,
            thumbnail_url: self.picture(recent.thumbnail),
            cost_micros: recent.cost.get(),
            create_time: Some(timestamp(recent.create_time)),
        }
    }

    /// Where a stored picture is; empty when there is none.
    fn picture(&self, blob: Option<String>) -> String {
        blob.map(|blob| format!("{}{blob}", self.assets)).unwrap_or_default()
    }
}

fn notice(notice: Notice) -> dashboard::Notice {
    dashboard::Notice {
        name: notice.id.name(),
        title: notice.title,
        body: notice.body,
        create_time: Some(timestamp(notice.create_time)),
    }
}

fn section(section: Section) -> dashboard::Section {
    match section {
        Section::Profile => dashboard::Section::Profile,
        Section::Credits => dashboard::Section::Credits,
        Section::Projects => dashboard::Section::Projects,
        Section::RecentGenerations => dashboard::Section::RecentGenerations,
        Section::Notices => dashboard::Section::Notices,
    }
}
