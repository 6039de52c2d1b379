//! The dashboard in one statement, and each of its sections alone.
//!
//! Invariant: both are made of the same text (see `sections`), so an answer that was read section by section has the content
//! that the one statement would have given. Neither reads history: a scene's row has its latest generation, and a project's
//! row its cost. Rows of all sections have one shape, so the answer crosses the wire as plain binary columns: the database
//! builds no JSON, and nothing here parses any but the labels of what has some.

mod sections;

use std::collections::BTreeMap;

use chassis::{postgres, text};
use domain::generation::State;
use domain::id::{AccountId, GenerationId, NoticeId, ProjectId, SceneId};
use domain::money::Micros;
use domain::name::SceneName;
use domain::page::{Cursor, Page};
use sqlx::types::Json;

use self::sections::Row;
use super::Store;
use crate::model::{
    Contents, Credits, LatestGeneration, Notice, Profile, ProjectCard, RecentGeneration, SceneCard, Section, Snapshot,
    Take,
};

/// How much of a prompt is shown; the statement reads a few more, so that a cut is seen for what it is.
const MAX_PROMPT_CHARACTERS: usize = 120;

impl Store {
    /// The whole dashboard with its version, in one round trip.
    pub(crate) async fn dashboard(&self, account: AccountId, page: Page) -> Result<Contents, postgres::Error> {
        let rows = self.rows("get_dashboard", sections::WHOLE, account, Some(page)).await?;
        Ok(gather(page, rows)?)
    }

    /// One section of the dashboard; the rest of what is returned is empty.
    pub(crate) async fn section(
        &self,
        account: AccountId,
        section: Section,
        page: Page,
    ) -> Result<Contents, postgres::Error> {
        let (name, sql, page_of) = match section {
            Section::Profile => ("get_profile", sections::PROFILE, None),
            Section::Credits => ("get_credits", sections::CREDITS, None),
            Section::Projects => ("get_project_cards", sections::PROJECTS, Some(page)),
            Section::RecentGenerations => ("get_recent_generations", sections::RECENT, None),
            Section::Notices => ("get_notices", sections::NOTICES, None),
        };
        let rows = self.rows(name, sql, account, page_of).await?;
        Ok(gather(page, rows)?)
    }

    async fn rows(
        &self,
        name: &'static str,
        sql: &'static str,
        account: AccountId,
        page: Option<Page>,
    ) -> Result<Vec<Row>, postgres::Error> {
        let rows = self.read.run(name, async |connection| {
            let query = sqlx::query_as::<_, Row>(sql).bind(account.0);
            let query = match page {
                Some(page) => query.bind(page.below()).bind(i64::from(page.size)),
                None => query,
            };
            query.fetch_all(connection).await
        });
        rows.await
    }
}

/// Sorts rows into their sections, and each section into its order: a `union all` promises none.
fn gather(page: Page, rows: Vec<Row>) -> Result<Contents, sqlx::Error> {
    let mut contents = Contents::default();
    let mut scenes = Vec::with_capacity(rows.len());
    for row in rows {
        match row.section {
            sections::CLOCK_ROW => contents.snapshot = Some(snapshot(&row)?),
            sections::PROFILE_ROW => {
                contents.profile = Some(Profile { display_name: need(row.title)?, email: need(row.body)? });
            }
            sections::CREDITS_ROW => {
                contents.credits =
                    Credits { available: Micros::new(need(row.count)?), held: Micros::new(need(row.amount)?) };
            }
            sections::PROJECT_ROW => contents.projects.push(project(row)?),
            sections::SCENE_ROW => scenes.push(scene(row)?),
            sections::RECENT_ROW => contents.recent.push(recent(row)?),
            sections::NOTICE_ROW => contents.notices.push(notice(row)?),
            sections::UNREAD_ROW => contents.unread = need(row.count)?,
            other => return Err(sqlx::Error::Decode(format!("a dashboard has no section {other}").into())),
        }
    }
    contents.projects.sort_unstable_by_key(|project| std::cmp::Reverse(project.id));
    contents.next = page.cut(&mut contents.projects, |project| Cursor { position: 0, id: project.id.0 });
    contents.recent.sort_unstable_by_key(|recent| std::cmp::Reverse(recent.id));
    contents.notices.sort_unstable_by_key(|notice| std::cmp::Reverse(notice.id));
    scenes.sort_unstable_by_key(|scene: &SceneCard| (scene.position, scene.name.scene));
    for scene in scenes {
        // Projects run from new to old, so they are searched in that order.
        let project = contents.projects.binary_search_by(|project| scene.name.project.cmp(&project.id));
        if let Ok(at) = project {
            contents.projects[at].scenes.push(scene);
        }
    }
    Ok(contents)
}

fn snapshot(row: &Row) -> Result<Snapshot, sqlx::Error> {
    Ok(Snapshot { version: need(row.count)?, epoch: need(row.amount)?, seq: need(row.mark)? })
}

fn project(row: Row) -> Result<ProjectCard, sqlx::Error> {
    Ok(ProjectCard {
        id: ProjectId(need(row.id)?),
        title: need(row.title)?,
        scene_count: need(row.place)?,
        completed_count: need(row.count)?,
        completed_cost: Micros::new(need(row.amount)?),
        create_time: need(row.at)?,
        labels: labels(row.labels),
        scenes: Vec::new(),
    })
}

fn scene(row: Row) -> Result<SceneCard, sqlx::Error> {
    let latest = match row.other {
        None => None,
        Some(id) => Some(LatestGeneration {
            id: GenerationId(id),
            version: need(row.count)?,
            state: state(row.state)?,
            percent: row.percent.unwrap_or_default(),
            stage: row.body.unwrap_or_default(),
            thumbnail: row.blob,
            thumbhash: row.hash.unwrap_or_default(),
        }),
    };
    Ok(SceneCard {
        name: SceneName { project: ProjectId(need(row.parent)?), scene: SceneId(need(row.id)?) },
        title: need(row.title)?,
        position: need(row.place)?,
        latest,
        take: row.take.map(|id| Take {
            id: GenerationId(id),
            thumbnail: row.take_blob,
            thumbhash: row.take_hash.unwrap_or_default(),
        }),
        labels: labels(row.labels),
    })
}

fn recent(row: Row) -> Result<RecentGeneration, sqlx::Error> {
    Ok(RecentGeneration {
        id: GenerationId(need(row.id)?),
        scene: SceneName { project: ProjectId(need(row.parent)?), scene: SceneId(need(row.other)?) },
        prompt: text::cut(&need(row.title)?, MAX_PROMPT_CHARACTERS).to_owned(),
        stage: need(row.body)?,
        thumbnail: row.blob,
        thumbhash: row.hash.unwrap_or_default(),
        state: state(row.state)?,
        percent: need(row.percent)?,
        cost: Micros::new(need(row.amount)?),
        create_time: need(row.at)?,
    })
}

fn notice(row: Row) -> Result<Notice, sqlx::Error> {
    Ok(Notice {
        id: NoticeId(need(row.id)?),
        title: need(row.title)?,
        body: need(row.body)?,
        create_time: need(row.at)?,
    })
}

/// The labels of a card: a null of SQL stands for none, one of JSON for more than a card takes.
fn labels(column: Option<Json<Option<BTreeMap<String, String>>>>) -> Option<BTreeMap<String, String>> {
    column.map_or_else(|| Some(BTreeMap::new()), |Json(labels)| labels)
}

fn state(number: Option<i16>) -> Result<State, sqlx::Error> {
    let number = need(number)?;
    State::from_number(number).ok_or_else(|| sqlx::Error::Decode(format!("there is no state {number}").into()))
}

/// The value of a column that its section always fills.
fn need<T>(value: Option<T>) -> Result<T, sqlx::Error> {
    value.ok_or_else(|| sqlx::Error::Decode("a column of a dashboard's section is null".into()))
}
