//! Presenters: the messages of the API, made of the model's records. An id becomes a name, a version an etag, and a stored
//! picture an address.

mod accounts;

use bytes::Bytes;
use chassis::links::AssetUrls;
use domain::id::{AccountId, GenerationId};
use domain::page::Cursor;
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

/// How many bytes the projects of one dashboard have: clients take messages of 4 MiB, and the rest of it is small.
const MAX_PROJECT_BYTES: usize = 3 << 20;

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
        let (projects, next) = self.projects(account, contents.projects, contents.next);
        let dashboard = dashboard::Dashboard {
            version: contents.snapshot.map(|snapshot| snapshot.version).unwrap_or_default(),
            profile,
            credits,
            projects,
            next_page_token: self.pages.token(account, DASHBOARD_LISTING, next),
            recent_generations: contents.recent.into_iter().map(|recent| self.recent(account, recent)).collect(),
            notices: contents.notices.into_iter().map(notice_to_proto).collect(),
            unread_notice_count: i32::try_from(contents.unread).unwrap_or(i32::MAX),
            unreachable: contents.unreachable.into_iter().map(section_to_proto).map(i32::from).collect(),
        };
        dashboard.encode_to_vec().into()
    }

    /// As many projects as one answer takes, at least one, and where the next page begins. A page in its usual size has fewer.
    fn projects(
        &self,
        account: AccountId,
        projects: Vec<ProjectCard>,
        next: Option<Cursor>,
    ) -> (Vec<dashboard::ProjectCard>, Option<Cursor>) {
        let (mut shown, mut bytes, mut last) = (Vec::with_capacity(projects.len()), 0, None);
        for project in projects {
            let id = project.id.0;
            let card = self.project(account, project);
            bytes += card.encoded_len();
            if bytes > MAX_PROJECT_BYTES && last.is_some() {
                return (shown, last);
            }
            last = Some(Cursor { position: 0, id });
            shown.push(card);
        }
        (shown, next)
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chassis::keyring::InternalKeys;
    use domain::generation::State;
    use domain::id::{ProjectId, SceneId};
    use domain::money::Micros;
    use domain::name::SceneName;
    use domain::page;
    use uuid::Uuid;

    use super::*;
    use crate::model::{LatestGeneration, Take};

    /// A hundred projects with all that they may have used to be nearly as much as a client takes, and more where addresses are long.
    #[test]
    fn a_dashboard_of_long_projects_is_shorter_and_leaves_none_out() {
        let (id, account) = (Uuid::max(), AccountId(Uuid::max()));
        let labels = Some(BTreeMap::from([("k".repeat(63), "🎬".repeat(200))]));
        let title = "🎬".repeat(200);
        let (thumbnail, thumbhash) = (Some(format!("{}.webp", "f".repeat(64))), vec![255; 30]);
        let scene = |project: ProjectId| SceneCard {
            name: SceneName { project, scene: SceneId(id) },
            title: title.clone(),
            position: i32::MAX,
            latest: Some(LatestGeneration {
                id: GenerationId(id),
                version: i64::MAX,
                state: State::Completed,
                percent: 100,
                stage: "🎬".repeat(60),
                thumbnail: thumbnail.clone(),
                thumbhash: thumbhash.clone(),
            }),
            take: Some(Take { id: GenerationId(id), thumbnail: thumbnail.clone(), thumbhash: thumbhash.clone() }),
            labels: labels.clone(),
        };
        let project = |at: u128| ProjectCard {
            id: ProjectId(Uuid::from_u128(at)),
            title: title.clone(),
            scene_count: i32::MAX,
            completed_count: i64::MAX,
            completed_cost: Micros::new(i64::MAX),
            create_time: OffsetDateTime::now_utc(),
            labels: labels.clone(),
            scenes: vec![scene(ProjectId(id)); 12],
        };
        let keys = InternalKeys::parse("0123456789abcdef0123456789abcdef").unwrap();
        let urls = AssetUrls::signed(&format!("https://{}.example.com", "a".repeat(200)), &keys, 365);
        let presenter = Presenter::new(urls, Pages::new(&keys));
        let shown = |count: u128| {
            let contents = Contents { projects: (0..count).rev().map(project).collect(), ..Contents::default() };
            dashboard::Dashboard::decode(presenter.dashboard(account, contents)).unwrap()
        };
        let longest = shown(page::MAX_SIZE.into());
        assert!(longest.encoded_len() < (3 << 20) + 1_024, "{} bytes", longest.encoded_len());
        let last = Uuid::from_u128(u128::from(page::MAX_SIZE) - u128::try_from(longest.projects.len()).unwrap());
        assert_eq!(longest.projects.last().unwrap().name, ProjectId(last).name());
        let following = Some(Cursor { position: 0, id: last });
        assert_eq!(longest.next_page_token, presenter.pages.token(account, DASHBOARD_LISTING, following));
        let usual = shown(page::DEFAULT_SIZE.into());
        assert_eq!((usual.projects.len(), usual.next_page_token.as_str()), (20, ""));
    }
}
