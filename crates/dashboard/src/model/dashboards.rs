//! The dashboard and its parts.

use std::collections::BTreeMap;

use domain::generation::State;
use domain::id::{GenerationId, NoticeId, ProjectId};
use domain::money::Micros;
use domain::name::SceneName;
use domain::page::Cursor;
use time::OffsetDateTime;

use super::accounts::Profile;

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
    /// All of them, in the order of the API.
    pub(crate) const ALL: [Self; 5] =
        [Self::Profile, Self::Credits, Self::Projects, Self::RecentGenerations, Self::Notices];
}

/// The version of the dashboard that a database snapshot shows, and the snapshot's position for the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) version: i64,
    pub(crate) epoch: i64,
    pub(crate) seq: i64,
}

/// The credits of an account.
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
    /// `None` where they are more than a card takes.
    pub(crate) labels: Option<BTreeMap<String, String>>,
    pub(crate) scenes: Vec<SceneCard>,
}

/// A scene with its latest generation and its take.
#[derive(Clone, Debug)]
pub(crate) struct SceneCard {
    pub(crate) name: SceneName,
    pub(crate) title: String,
    pub(crate) position: i32,
    pub(crate) latest: Option<LatestGeneration>,
    pub(crate) take: Option<Take>,
    /// `None` where they are more than a card takes.
    pub(crate) labels: Option<BTreeMap<String, String>>,
}

/// The generation that was chosen as the take of a scene.
#[derive(Clone, Debug)]
pub(crate) struct Take {
    pub(crate) id: GenerationId,
    pub(crate) thumbnail: Option<String>,
    /// Empty when there is none.
    pub(crate) thumbhash: Vec<u8>,
}

/// The latest generation of a scene.
#[derive(Clone, Debug)]
pub(crate) struct LatestGeneration {
    pub(crate) id: GenerationId,
    pub(crate) version: i64,
    pub(crate) state: State,
    pub(crate) percent: i16,
    pub(crate) stage: String,
    pub(crate) thumbnail: Option<String>,
    /// Empty when there is none.
    pub(crate) thumbhash: Vec<u8>,
}

/// A generation in the list of the account's latest ones.
#[derive(Clone, Debug)]
pub(crate) struct RecentGeneration {
    pub(crate) id: GenerationId,
    pub(crate) scene: SceneName,
    pub(crate) state: State,
    pub(crate) percent: i16,
    pub(crate) stage: String,
    pub(crate) prompt: String,
    pub(crate) thumbnail: Option<String>,
    /// Empty when there is none.
    pub(crate) thumbhash: Vec<u8>,
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

/// The contents of a dashboard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contents {
    /// `None` when the sections were read one by one: together they are of no one snapshot.
    pub(crate) snapshot: Option<Snapshot>,
    /// `None` when there is no such account, or when the profile could not be read.
    pub(crate) profile: Option<Profile>,
    pub(crate) credits: Credits,
    pub(crate) projects: Vec<ProjectCard>,
    pub(crate) next: Option<Cursor>,
    pub(crate) recent: Vec<RecentGeneration>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) unread: i64,
    pub(crate) unreachable: Vec<Section>,
}

impl Contents {
    /// Whether the profile was read and there is none, so that there is no such account.
    pub(crate) fn is_of_nobody(&self) -> bool {
        self.profile.is_none() && !self.unreachable.contains(&Section::Profile)
    }

    /// Whether every generation shown has ended, so that nothing on it changes by itself.
    pub(crate) fn is_settled(&self) -> bool {
        let mut latest =
            self.projects.iter().flat_map(|project| &project.scenes).filter_map(|scene| scene.latest.as_ref());
        latest.all(|latest| latest.state.is_terminal()) && self.recent.iter().all(|recent| recent.state.is_terminal())
    }

    /// Takes one section from contents that have only that one.
    pub(crate) fn take_section(&mut self, section: Section, from: Self) {
        match section {
            Section::Profile => self.profile = from.profile,
            Section::Credits => self.credits = from.credits,
            Section::Projects => (self.projects, self.next) = (from.projects, from.next),
            Section::RecentGenerations => self.recent = from.recent,
            Section::Notices => (self.notices, self.unread) = (from.notices, from.unread),
        }
    }
}
