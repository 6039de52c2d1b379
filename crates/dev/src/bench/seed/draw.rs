//! One account after the other, drawn from the seed: projects, scenes, their generations in the order of time, and the
//! copies that follow from them.
//!
//! Every generation is in a terminal state, so that nothing of what was seeded is work that a service would take up.

use uuid::{Builder, Uuid};

use super::copy::Rows;
use super::plan::Shape;
use super::tuple::Tuple;

/// 2026-01-01 in milliseconds of Unix time; accounts begin within 100 days of it.
const START: i64 = 1_767_225_600_000;
const DAY: i64 = 86_400_000;
/// An account's history ends within so many days of its beginning.
const HISTORY: i64 = 150 * DAY;
/// What a generation costs, in micro-credits, and what an account has left.
const PRICE: i64 = 50_000;
const LEFT: i64 = 1_000_000_000_000;

const WORDS: [&str; 32] = [
    "a", "the", "slow", "night", "harbour", "lantern", "crane", "over", "quiet", "water", "snow", "falls", "between",
    "towers", "wide", "shot", "of", "an", "old", "train", "leaving", "golden", "light", "through", "dust", "handheld",
    "close", "on", "her", "eyes", "turning", "away",
];

/// Draws accounts from a seed.
pub(super) struct Draw {
    random: fastrand::Rng,
}

/// What a scene shows of its latest generation.
struct Latest {
    id: Uuid,
    version: i64,
    state: i16,
    percent: i16,
    thumbnail: Option<String>,
}

/// A scene with its latest generation.
struct Scene {
    id: Uuid,
    project: usize,
    takes: usize,
    latest: Option<Latest>,
}

/// A project with the sums that it keeps.
struct Project {
    id: Uuid,
    create_time: i64,
    completed: i64,
}

impl Draw {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed) }
    }

    /// Writes an account with everything in it to `rows`; `takes` are the generations of each scene.
    pub(super) fn account(&mut self, shape: Shape, takes: &[usize], rows: &mut Rows) -> Uuid {
        let mut now = START + self.random.i64(0..100 * DAY);
        let account = self.id(now);
        let name = self.words(2, 3);
        Tuple::begin(&mut rows.accounts, 4).uuid(account).text(&name).text("someone@example.com").at(now);
        let (projects, per_project) = shape.size();
        let mut projects: Vec<Project> = (0..projects)
            .map(|_| {
                now += 1_000;
                Project { id: self.id(now), create_time: now, completed: 0 }
            })
            .collect();
        let mut scenes: Vec<Scene> = takes
            .iter()
            .enumerate()
            .map(|(at, takes)| Scene { id: self.id(now), project: at / per_project, takes: *takes, latest: None })
            .collect();
        self.history(account, now, &mut projects, &mut scenes, rows);
        for (at, scene) in scenes.iter().enumerate() {
            self.scene(account, at % per_project, &projects[scene.project], scene, rows);
        }
        for project in &projects {
            self.project(account, per_project, project, rows);
        }
        let spent = projects.iter().map(|project| project.completed * PRICE).sum();
        Tuple::begin(&mut rows.credits, 4).uuid(account).big(LEFT).big(0).big(spent);
        for _ in 0..self.random.u8(1..=3) {
            let (id, title, body) = (self.id(now), self.words(2, 5), self.words(8, 16));
            Tuple::begin(&mut rows.notices, 5).uuid(id).uuid(account).text(&title).text(&body).at(now);
        }
        account
    }

    /// The generations of all scenes: first takes of all, then second takes, as a production goes; a scene's history is
    /// therefore spread over the table.
    fn history(&mut self, account: Uuid, begin: i64, projects: &mut [Project], scenes: &mut [Scene], rows: &mut Rows) {
        let all: usize = scenes.iter().map(|scene| scene.takes).sum();
        let longest = scenes.iter().map(|scene| scene.takes).max().unwrap_or(0);
        let step = HISTORY / i64::try_from(all).unwrap_or(i64::MAX).max(1);
        let mut now = begin + DAY;
        for take in 0..longest {
            for scene in scenes.iter_mut().filter(|scene| scene.takes > take) {
                now += self.random.i64(1..=step.max(1));
                let project = &mut projects[scene.project];
                let latest = self.generation(account, project.id, scene.id, now, rows);
                project.completed += i64::from(latest.state == COMPLETED);
                scene.latest = Some(latest);
            }
        }
    }

    fn generation(&mut self, account: Uuid, project: Uuid, scene: Uuid, now: i64, rows: &mut Rows) -> Latest {
        let (state, version, percent) = match self.random.u8(0..100) {
            0..80 => (COMPLETED, self.random.i64(6..=20), 100),
            80..92 => (FAILED, 5, self.random.i16(0..90)),
            92..97 => (CANCELLED, 3, self.random.i16(0..50)),
            _ => (EXPIRED, 2, 0),
        };
        let output = (state == COMPLETED).then(|| self.output());
        let (thumbnail, output) = output.unzip();
        let failed = (state == FAILED).then_some(());
        let submitted = (state != EXPIRED).then_some(now + 900);
        let captured = if state == COMPLETED { PRICE } else { 0 };
        let end = now + self.random.i64(20_000..90_000);
        let latest = Latest { id: self.id(now), version, state, percent, thumbnail };
        let prompt = self.words(8, 30);
        Tuple::begin(&mut rows.generations, 28)
            .uuid(latest.id)
            .uuid(account)
            .uuid(project)
            .uuid(scene)
            .big(version)
            .small(state)
            .text("local-sketch")
            .text(&prompt)
            .big(self.random.i64(0..i64::from(u32::MAX)))
            .small(percent)
            .small(1)
            .text("")
            .maybe(output.as_deref(), Tuple::json)
            .maybe(latest.thumbnail.as_deref(), Tuple::text)
            .maybe(failed, |tuple, ()| tuple.int(13))
            .maybe(failed, |tuple, ()| tuple.text("PROVIDER_INTERNAL"))
            .maybe(failed, |tuple, ()| tuple.text("The model failed. Nothing was charged; try again."))
            .big(PRICE)
            .big(captured)
            .big(PRICE - captured)
            .int(i32::from(state != EXPIRED))
            .uuid(self.id(now))
            .bytes(&self.bytes::<32>())
            .at(now)
            .maybe(submitted, Tuple::at)
            .maybe(submitted, Tuple::at)
            .at(end)
            .at(end);
        latest
    }

    /// A poster's object and a video's description, as generation-status stores it.
    fn output(&mut self) -> (String, String) {
        let (video, poster) = (self.sha256(), self.sha256());
        let size = self.random.u32(200_000..9_000_000);
        let output = format!(
            r#"[{{"asset": "assets/{video}", "extension": "mp4", "size_bytes": {size}, "mime_type": "video/mp4",
                "width": 1280, "height": 720, "duration_ms": 5000, "poster": "assets/{poster}",
                "poster_missing_reason": ""}}]"#
        );
        (format!("{poster}.webp"), output)
    }

    fn scene(&mut self, account: Uuid, position: usize, project: &Project, scene: &Scene, rows: &mut Rows) {
        let title = self.words(2, 6);
        let latest = scene.latest.as_ref();
        Tuple::begin(&mut rows.scenes, 13)
            .uuid(scene.id)
            .uuid(account)
            .uuid(project.id)
            .text(&title)
            .int(i32::try_from(position).unwrap_or(i32::MAX))
            .at(project.create_time)
            .at(project.create_time)
            .maybe(latest.map(|latest| latest.id), Tuple::uuid)
            .maybe(latest.map(|latest| latest.version), Tuple::big)
            .maybe(latest.map(|latest| latest.state), Tuple::small)
            .maybe(latest.map(|latest| latest.percent), Tuple::small)
            .maybe(latest.map(|_| ""), Tuple::text)
            .maybe(latest.and_then(|latest| latest.thumbnail.as_deref()), Tuple::text);
    }

    fn project(&mut self, account: Uuid, scenes: usize, project: &Project, rows: &mut Rows) {
        let title = self.words(2, 6);
        Tuple::begin(&mut rows.projects, 8)
            .uuid(project.id)
            .uuid(account)
            .text(&title)
            .int(i32::try_from(scenes).unwrap_or(i32::MAX))
            .big(project.completed)
            .big(project.completed * PRICE)
            .at(project.create_time)
            .at(project.create_time);
    }

    /// A UUIDv7 of that time.
    fn id(&mut self, millis: i64) -> Uuid {
        Builder::from_unix_timestamp_millis(millis.unsigned_abs(), &self.bytes::<10>()).into_uuid()
    }

    fn sha256(&mut self) -> String {
        format!("{:032x}{:032x}", self.random.u128(..), self.random.u128(..))
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes);
        bytes
    }

    fn words(&mut self, min: usize, max: usize) -> String {
        let count = self.random.usize(min..=max);
        let words: Vec<&str> = (0..count).map(|_| WORDS[self.random.usize(..WORDS.len())]).collect();
        words.join(" ")
    }
}

const COMPLETED: i16 = 6;
const FAILED: i16 = 7;
const CANCELLED: i16 = 8;
const EXPIRED: i16 = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_rows() {
        let draw = |seed| {
            let mut rows = Rows::default();
            let account = Draw::new(seed).account(Shape::Small, &[3, 0, 1, 2], &mut rows);
            (account, rows.generations, rows.scenes, rows.projects)
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
