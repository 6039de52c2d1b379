//! Presenters: the messages of the API, made of the model's records. An id becomes a name, a version an etag, and a stored
//! picture an address.

mod accounts;

use bytes::Bytes;
use chassis::links::AssetUrls;
use domain::id::{AccountId, GenerationId};
use prost::Message as _;
use prost_types::Timestamp;
use proto::dashboard::v1 as dashboard;
use proto::projects::v1 as projects;
use time::OffsetDateTime;

pub(crate) use self::accounts::{account_to_proto, api_key_to_proto, audit_entry_to_proto, key_with_account_to_proto};
use crate::etag;
use crate::model::{
    Contents, DASHBOARD_LISTING, Notice, Project, ProjectCard, RecentGeneration, Scene, SceneCard, Section,
};
use crate::pages::Pages;

pub(crate) fn project_to_proto(project: Project) -> projects::Project {
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
        labels: project.labels.into_iter().collect(),
    }
}

pub(crate) fn scene_to_proto(scene: Scene) -> projects::Scene {
    projects::Scene {
        name: scene.name.to_string(),
        etag: etag::of(scene.version),
        title: scene.title,
        script: scene.script,
        position: scene.position,
        latest_generation: scene.latest_generation.map(GenerationId::name).unwrap_or_default(),
        create_time: Some(timestamp(scene.create_time)),
        update_time: Some(timestamp(scene.update_time)),
        take: scene.take.map(GenerationId::name).unwrap_or_default(),
        labels: scene.labels.into_iter().collect(),
    }
}

/// Presents dashboards, with addresses that the outside can reach.
#[derive(Clone, Debug)]
pub(crate) struct Presenter {
    assets: AssetUrls,
    pages: Pages,
}

impl Presenter {
    /// The addresses of pictures are `assets`', and the tokens of pages `pages`'.
    pub(crate) fn new(assets: AssetUrls, pages: Pages) -> Self {
        Self { assets, pages }
    }

    /// The encoded dashboard.
    pub(crate) fn dashboard(&self, account: AccountId, contents: Contents) -> Bytes {
        let profile = contents.profile.map(|profile| dashboard::Profile {
            account: account.name(),
            display_name: profile.display_name,
            email: profile.email,
        });
        // An account without a row of credits has none, which is shown as zero; credits that could not be read are left out.
        let credits = (!contents.unreachable.contains(&Section::Credits)).then(|| dashboard::Credits {
            available_micros: contents.credits.available.get(),
            held_micros: contents.credits.held.get(),
        });
        let dashboard = dashboard::Dashboard {
            version: contents.snapshot.map(|snapshot| snapshot.version).unwrap_or_default(),
            profile,
            credits,
            projects: contents.projects.into_iter().map(|project| self.project(account, project)).collect(),
            next_page_token: self.pages.token(account, DASHBOARD_LISTING, contents.next),
            recent_generations: contents.recent.into_iter().map(|recent| self.recent(account, recent)).collect(),
            notices: contents.notices.into_iter().map(notice_to_proto).collect(),
            unread_notice_count: i32::try_from(contents.unread).unwrap_or(i32::MAX),
            unreachable: contents.unreachable.into_iter().map(section_to_proto).map(i32::from).collect(),
        };
        dashboard.encode_to_vec().into()
    }

    fn project(&self, account: AccountId, project: ProjectCard) -> dashboard::ProjectCard {
        dashboard::ProjectCard {
            name: project.id.name(),
            title: project.title,
            scene_count: project.scene_count,
            completed_count: project.completed_count,
            completed_cost_micros: project.completed_cost.get(),
            scenes: project.scenes.into_iter().map(|scene| self.scene(account, scene)).collect(),
            create_time: Some(timestamp(project.create_time)),
            labels_omitted: project.labels.is_none(),
            labels: project.labels.unwrap_or_default().into_iter().collect(),
        }
    }

    fn scene(&self, account: AccountId, scene: SceneCard) -> dashboard::SceneCard {
        let latest = scene.latest.map(|latest| dashboard::LatestGeneration {
            name: latest.id.name(),
            version: latest.version,
            state: latest.state.number().into(),
            percent: latest.percent.into(),
            stage: latest.stage,
            thumbnail_url: self.picture_url(account, latest.thumbnail),
            thumbhash: latest.thumbhash,
        });
        let take = scene.take.map(|take| dashboard::ChosenTake {
            name: take.id.name(),
            thumbnail_url: self.picture_url(account, take.thumbnail),
            thumbhash: take.thumbhash,
        });
        dashboard::SceneCard {
            name: scene.name.to_string(),
            title: scene.title,
            position: scene.position,
            latest,
            take,
            labels_omitted: scene.labels.is_none(),
            labels: scene.labels.unwrap_or_default().into_iter().collect(),
        }
    }

    fn recent(&self, account: AccountId, recent: RecentGeneration) -> dashboard::RecentGeneration {
        dashboard::RecentGeneration {
            name: recent.id.name(),
            scene: recent.scene.to_string(),
            state: recent.state.number().into(),
            percent: recent.percent.into(),
            stage: recent.stage,
            prompt: recent.prompt,
            thumbnail_url: self.picture_url(account, recent.thumbnail),
            thumbhash: recent.thumbhash,
            cost_micros: recent.cost.get(),
            create_time: Some(timestamp(recent.create_time)),
        }
    }

    /// The address of a stored picture; empty when there is none.
    fn picture_url(&self, account: AccountId, blob: Option<String>) -> String {
        blob.map(|blob| self.assets.url(account.0, blob)).unwrap_or_default()
    }
}

fn notice_to_proto(notice: Notice) -> dashboard::Notice {
    dashboard::Notice {
        name: notice.id.name(),
        title: notice.title,
        body: notice.body,
        create_time: Some(timestamp(notice.create_time)),
    }
}

fn section_to_proto(section: Section) -> dashboard::Section {
    match section {
        Section::Profile => dashboard::Section::Profile,
        Section::Credits => dashboard::Section::Credits,
        Section::Projects => dashboard::Section::Projects,
        Section::RecentGenerations => dashboard::Section::RecentGenerations,
        Section::Notices => dashboard::Section::Notices,
    }
}

fn timestamp(at: OffsetDateTime) -> Timestamp {
    // The nanoseconds of a second always fit.
    Timestamp { seconds: at.unix_timestamp(), nanos: i32::try_from(at.nanosecond()).unwrap_or_default() }
}
