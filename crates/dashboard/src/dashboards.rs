//! The dashboard: what it shows, and how much of it is shown when something is wrong.
//!
//! Invariant: an answer with a version is what had been committed up to that version, no less and no more. When the one
//! statement that reads all of it fails, each section is read alone; what cannot be read then is named, never shown as empty,
//! and such an answer has no version and is not kept.

use std::future::Future;
use std::time::Duration;

use chassis::deadline;
use chassis::postgres;
use domain::generation::State;
use domain::id::{AccountId, GenerationId, NoticeId, ProjectId};
use domain::money::Micros;
use domain::name::SceneName;
use domain::page::Cursor;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::accounts::Profile;
use crate::error::Error;
use crate::fields::Page;
use crate::store::Store;

/// A part of the dashboard that can fail alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Profile,
    Credits,
    Projects,
    RecentGenerations,
    Notices,
}

impl Section {
    /// All of them, as the API orders them.
    const ALL: [Self; 5] = [Self::Profile, Self::Credits, Self::Projects, Self::RecentGenerations, Self::Notices];
}

/// Which version of the dashboard a snapshot shows, and where the snapshot stands for the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) version: i64,
    pub(crate) epoch: i64,
    pub(crate) seq: i64,
}

/// What an account can spend.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Credits {
    pub(crate) available: Micros,
    pub(crate) held: Micros,
}

/// A project with its first scenes.
#[derive(Clone, Debug)]
pub(crate) struct ProjectCard {
    pub(crate) id: ProjectId,
    pub(crate) title: String,
    pub(crate) scene_count: i32,
    pub(crate) completed_count: i64,
    pub(crate) completed_cost: Micros,
    pub(crate) create_time: OffsetDateTime,
    pub(crate) scenes: Vec<SceneCard>,
}

/// A scene with its latest generation.
#[derive(Clone, Debug)]
pub(crate) struct SceneCard {
    pub(crate) name: SceneName,
    pub(crate) title: String,
    pub(crate) position: i32,
    pub(crate) latest: Option<Latest>,
}

/// The latest generation of a scene.
#[derive(Clone, Debug)]
pub(crate) struct Latest {
    pub(crate) id: GenerationId,
    pub(crate) version: i64,
    pub(crate) state: State,
    pub(crate) percent: i16,
    pub(crate) stage: String,
    pub(crate) thumbnail: Option<String>,
}

/// A generation in the list of the latest.
#[derive(Clone, Debug)]
pub(crate) struct Recent {
    pub(crate) id: GenerationId,
    pub(crate) scene: SceneName,
    pub(crate) state: State,
    pub(crate) percent: i16,
    pub(crate) stage: String,
    pub(crate) prompt: String,
    pub(crate) thumbnail: Option<String>,
    pub(crate) cost: Micros,
    pub(crate) create_time: OffsetDateTime,
}

/// An unread notice.
#[derive(Clone, Debug)]
pub(crate) struct Notice {
    pub(crate) id: NoticeId,
    pub(crate) title: String,
    pub(crate) body: String,
    pub(crate) create_time: OffsetDateTime,
}

/// What a dashboard shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contents {
    /// Nothing when the sections were read one by one.
    pub(crate) snapshot: Option<Snapshot>,
    /// Nothing when there is no such account, or when the profile could not be read.
    pub(crate) profile: Option<Profile>,
    pub(crate) credits: Credits,
    pub(crate) projects: Vec<ProjectCard>,
    pub(crate) next: Option<Cursor>,
    pub(crate) recent: Vec<Recent>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) unread: i64,
    pub(crate) unreachable: Vec<Section>,
}

impl Contents {
    /// Whether it was asked whose this is, and there is no such account.
    pub(crate) fn is_of_nobody(&self) -> bool {
        self.profile.is_none() && !self.unreachable.contains(&Section::Profile)
    }

    /// Whether everything shown has come to its end, so that only a new act of someone changes it.
    pub(crate) fn is_settled(&self) -> bool {
        let mut shown =
            self.projects.iter().flat_map(|project| &project.scenes).filter_map(|scene| scene.latest.as_ref());
        shown.all(|latest| latest.state.is_terminal()) && self.recent.iter().all(|recent| recent.state.is_terminal())
    }

    /// Takes one section over from an answer that has only that one.
    fn adopt(&mut self, section: Section, from: Self) {
        match section {
            Section::Profile => self.profile = from.profile,
            Section::Credits => self.credits = from.credits,
            Section::Projects => (self.projects, self.next) = (from.projects, from.next),
            Section::RecentGenerations => self.recent = from.recent,
            Section::Notices => (self.notices, self.unread) = (from.notices, from.unread),
        }
    }
}

/// Reads dashboards.
#[derive(Clone)]
pub(crate) struct Dashboards {
    store: Store,
    /// How long one section may take when it is read alone.
    patience: Duration,
}

impl Dashboards {
    pub(crate) fn new(store: Store, patience: Duration) -> Self {
        Self { store, patience }
    }

    /// A page of the dashboard, whole if it can be.
    pub(crate) async fn read(&self, account: AccountId, page: Page) -> Result<Contents, Error> {
        match self.store.dashboard(account, page).await {
            Ok(contents) => Ok(contents),
            // More statements would make these worse, or come too late.
            Err(error @ (postgres::Error::Busy(_) | postgres::Error::Deadline)) => Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, cause = error.sqlstate(), "the dashboard is read section by section");
                // Boxed: it is rare, and room for it would make every request larger.
                Box::pin(self.read_apart(account, page)).await
            }
        }
    }

    /// Reads each section alone. Together they are of no one snapshot, even when none is missing, and have no version.
    async fn read_apart(&self, account: AccountId, page: Page) -> Result<Contents, Error> {
        let read = Section::ALL.map(|section| self.bounded(self.store.section(account, section, page)));
        let mut contents = Contents::default();
        let mut last = None;
        for (section, read) in Section::ALL.into_iter().zip(futures::future::join_all(read).await) {
            match read {
                Ok(found) => contents.adopt(section, found),
                Err(error) => {
                    tracing::warn!(?section, %error, cause = error.sqlstate(), "a section cannot be read");
                    contents.unreachable.push(section);
                    last = Some(error);
                }
            }
        }
        match last {
            Some(error) if contents.unreachable.len() == Section::ALL.len() => Err(Error::Unreachable(error)),
            _ => Ok(contents),
        }
    }

    async fn bounded<T>(&self, read: impl Future<Output = Result<T, postgres::Error>>) -> Result<T, postgres::Error> {
        deadline::scope(Instant::now() + self.patience, Box::pin(read)).await
    }
}
