//! The dashboard: what it shows, how soon it shows a change, and what is left when a part cannot be read.

use std::time::Duration;

use anyhow::Result;
use chassis::postgres::PoolSettings;
use futures::TryFutureExt as _;
use proto::dashboard::v1::{ChosenTake, Credits, Dashboard, Section};
use proto::generations::v1::State;
use proto::projects::v1::{Project, Scene};
use sqlx::{AssertSqlSafe, PgPool};
use testkit::eventually;
use tonic::Code;
use uuid::Uuid;

use crate::cluster::{Cluster, PUBLIC_URL, TIMEOUT, User, id, refused};

/// Of every poster.
const THUMBHASH: &[u8] = &[7; 24];

/// Writes a generation of `scene` in `state` as generation-status does; returns its id.
async fn generate(pool: &PgPool, user: &User, scene: &Scene, state: State, thumbnail: Option<&str>) -> Result<Uuid> {
    let generation = Uuid::now_v7();
    let project = id(scene.name.split("/scenes/").next().unwrap_or_default());
    let done = state == State::Completed;
    sqlx::query(
        "with made as (
            insert into generations (id, account_id, project_id, scene_id, version, state, model, prompt, seed, percent, stage,
                                     thumbnail, thumbhash, held_micros, captured_micros, request_id, request_sha256, end_time)
            values ($1, $2, $3, $4, 5, $5, 'local', repeat('x', 118) || '👩‍👩‍👧 at dawn', 1, $6, 'rendering', $7,
                    case when $7 is not null then $9::bytea end, 50000, $8, $1, '',
                    case when $5 >= 6 then now() end)
            returning id, version, state, percent, stage, thumbnail, thumbhash, captured_micros
         ), copied as (
            update scenes s
               set latest_generation = made.id, latest_version = made.version, latest_state = made.state,
                   latest_percent = made.percent, latest_stage = made.stage, latest_thumbnail = made.thumbnail,
                   latest_thumbhash = made.thumbhash
              from made where s.id = $4
         )
         update projects p
            set completed_count = completed_count + ($5 = 6)::integer,
                completed_cost_micros = completed_cost_micros + made.captured_micros
           from made where p.id = $3",
    )
    .bind(generation)
    .bind(user.id)
    .bind(project)
    .bind(id(&scene.name))
    .bind(i16::try_from(state as i32)?)
    .bind(if done { 100_i16 } else { 40 })
    .bind(thumbnail)
    .bind(if done { 50_000_i64 } else { 0 })
    .bind(THUMBHASH)
    .execute(pool)
    .await?;
    Ok(generation)
}

#[tokio::test(flavor = "multi_thread")]
async fn all_five_sections_are_shown() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let (older, newer) = (user.project("Older").await?, user.project("Newer").await?);
    let mut scenes = Vec::new();
    for place in 0..14 {
        scenes.push(user.scene(&older.name, &format!("S{place}")).await?);
    }
    user.delete_scene(&scenes[1].name, "").await?;
    let gone = user.project("Gone").await?;
    user.delete_project(&gone.name, "").await?;
    let credits = "insert into credit_accounts (account_id, available_micros, held_micros) values ($1, 950000, 50000)";
    sqlx::query(credits).bind(user.id).execute(&cluster.pool).await?;
    let poster = format!("{}.webp", "ab".repeat(32));
    for _ in 0..9 {
        generate(&cluster.pool, &user, &scenes[2], State::Completed, None).await?;
    }
    let done = generate(&cluster.pool, &user, &scenes[0], State::Completed, Some(&poster)).await?;
    let under_way = generate(&cluster.pool, &user, &scenes[2], State::Processing, None).await?;

    let shown = user.dashboard().await?;
    assert_eq!(shown, user.dashboard_page(19, "").await?, "cached or not, it is the same");
    assert!(shown.version > 0 && shown.unreachable.is_empty() && shown.next_page_token.is_empty());
    let profile = shown.profile.clone().unwrap_or_default();
    let who = (profile.account.as_str(), profile.display_name.as_str(), profile.email.as_str());
    assert_eq!(who, (format!("accounts/{}", user.id).as_str(), "Ada", "ada@rushes.test"));
    assert_eq!(shown.credits, Some(Credits { available_micros: 950_000, held_micros: 50_000 }));

    let [first, second] = &shown.projects[..] else { panic!("two projects: {shown:#?}") };
    assert_eq!((first.name.as_str(), first.scenes.len()), (newer.name.as_str(), 0));
    assert_eq!((second.title.as_str(), second.scene_count, second.completed_count), ("Older", 13, 10));
    assert_eq!((second.completed_cost_micros, second.create_time), (500_000, older.create_time));
    let titles: Vec<_> = second.scenes.iter().map(|scene| scene.title.as_str()).collect();
    assert_eq!(titles, ["S0", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10", "S11", "S12"]);
    let latest = second.scenes[0].latest.clone().unwrap_or_default();
    assert_eq!((latest.name, latest.version), (format!("generations/{done}"), 5));
    assert_eq!((latest.state, latest.percent), (State::Completed as i32, 100));
    assert_eq!(latest.thumbnail_url, format!("{PUBLIC_URL}/assets/{poster}"));
    assert_eq!(latest.thumbhash, THUMBHASH);
    let latest = second.scenes[1].latest.clone().unwrap_or_default();
    assert_eq!(latest.name, format!("generations/{under_way}"), "the latest, not the best");
    assert_eq!((latest.state, latest.stage.as_str()), (State::Processing as i32, "rendering"));
    assert_eq!((latest.thumbnail_url.as_str(), latest.thumbhash.len()), ("", 0));
    assert_eq!(second.scenes[2].latest, None);

    assert_eq!(shown.recent_generations.len(), 10);
    let [one, two, ..] = &shown.recent_generations[..] else { panic!("ten of them") };
    assert_eq!((one.name.as_str(), one.cost_micros), (format!("generations/{under_way}").as_str(), 0));
    // The 120th character is in the midst of a family.
    assert_eq!((one.scene.as_str(), &one.prompt), (scenes[2].name.as_str(), &"x".repeat(118)));
    assert_eq!((two.name.as_str(), two.cost_micros), (format!("generations/{done}").as_str(), 50_000));
    assert_eq!(two.thumbnail_url, format!("{PUBLIC_URL}/assets/{poster}"));
    assert_eq!((one.thumbhash.len(), two.thumbhash.as_slice()), (0, THUMBHASH));
    assert_eq!((shown.notices.len(), shown.unread_notice_count), (1, 1));
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_take_is_shown_beside_the_latest() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.warm_up().await?;
    let user = cluster.account().await?;
    let project = user.project("P").await?;
    let (scene, other) = (user.scene(&project.name, "S").await?, user.scene(&project.name, "T").await?);
    let poster = format!("{}.webp", "ab".repeat(32));
    let take = generate(&cluster.pool, &user, &scene, State::Completed, Some(&poster)).await?;
    let latest = generate(&cluster.pool, &user, &scene, State::Processing, None).await?;
    let before = user.dashboard().await?;
    assert_eq!(before.projects[0].scenes[0].take, None);

    let choose = "update scenes set take_generation = $2, take_thumbnail = $3, take_thumbhash = $4 where id = $1";
    let choose = sqlx::query(choose).bind(id(&scene.name)).bind(take).bind(&poster).bind(THUMBHASH);
    choose.execute(&cluster.pool).await?;
    let shown = eventually("the take", TIMEOUT, async || {
        user.dashboard().await.ok().filter(|shown| shown.projects[0].scenes[0].take.is_some())
    })
    .await?;
    assert!(shown.version > before.version, "{} after {}", shown.version, before.version);
    assert_eq!(shown, user.dashboard_page(19, "").await?, "cached or not, it is the same");
    let [one, two] = &shown.projects[0].scenes[..] else { panic!("two scenes: {shown:#?}") };
    let name = |id: Uuid| format!("generations/{id}");
    let thumbnail_url = format!("{PUBLIC_URL}/assets/{poster}");
    assert_eq!(one.take, Some(ChosenTake { name: name(take), thumbnail_url, thumbhash: THUMBHASH.to_vec() }));
    assert_eq!(one.latest.as_ref().map(|latest| latest.name.clone()), Some(name(latest)));
    assert_eq!(two.take, None);

    let read = user.get_scene(&scene.name).await?;
    assert_eq!((read.take.as_str(), read.etag.as_str()), (name(take).as_str(), scene.etag.as_str()));
    assert_eq!(user.list_scenes(&project.name, 10, "").await?.scenes[0].take, name(take));
    assert_eq!(user.reorder_scenes(&project.name, &[&other.name, &scene.name]).await?[1].take, name(take));
    let renamed = Scene { title: "U".into(), etag: scene.etag.clone(), ..read };
    assert_ne!(renamed.etag, user.get_scene(&scene.name).await?.etag, "it was moved");
    let renamed = user.update_scene(Scene { etag: String::new(), ..renamed }, Some(&["title"])).await?;
    assert_eq!(renamed.take, name(take));
    let cleared = user.update_scene(Scene { take: String::new(), title: "V".into(), ..renamed }, Some(&["*"])).await?;
    assert_eq!(cleared.take, name(take), "an update of all fields leaves what another service writes");
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn projects_come_in_pages() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let mut expected = Vec::new();
    for place in 0..25 {
        let project = user.project(&format!("P{place}")).await?;
        user.scene(&project.name, &format!("of P{place}")).await?;
        expected.insert(0, project.name);
    }
    let (mut walked, mut token) = (Vec::new(), String::new());
    for size in [20, 4, 20] {
        let page = user.dashboard_page(size, &token).await?;
        for project in page.projects {
            assert_eq!(project.scenes[0].title, format!("of {}", project.title));
            walked.push(project.name);
        }
        token = page.next_page_token;
        assert_eq!(token.is_empty(), walked.len() == 25);
    }
    assert_eq!(walked, expected);
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn own_writes_show_at_once_and_raise_the_version() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.warm_up().await?;
    let user = cluster.account().await?;
    let mut version = user.dashboard().await?.version;
    let mut shows = async |what: &str, shown: &dyn Fn(&Dashboard) -> bool| -> Result<Dashboard> {
        let dashboard = user.dashboard().await?;
        assert!(shown(&dashboard), "{what}: {dashboard:#?}");
        assert!(dashboard.version > version, "{what}: {} after {version}", dashboard.version);
        assert_eq!(dashboard, user.dashboard_page(19, "").await?, "{what}: equal versions are equal content");
        version = dashboard.version;
        Ok(dashboard)
    };
    for round in 0..5 {
        let project = user.project("P").await?;
        shows("create", &|d| d.projects[0].title == "P").await?;
        user.update_project(Project { title: "Q".into(), ..project.clone() }, Some(&["title"])).await?;
        shows("update", &|d| d.projects[0].title == "Q").await?;
        let scene = user.scene(&project.name, "S").await?;
        shows("a scene", &|d| d.projects[0].scene_count == 1 && d.projects[0].scenes.len() == 1).await?;
        let other = user.scene(&project.name, "T").await?;
        shows("another", &|d| d.projects[0].scenes[1].title == "T").await?;
        user.reorder_scenes(&project.name, &[&other.name, &scene.name]).await?;
        shows("reorder", &|d| d.projects[0].scenes[0].title == "T").await?;
        user.update_scene(Scene { title: "U".into(), etag: String::new(), ..scene.clone() }, Some(&["title"])).await?;
        shows("a scene's title", &|d| d.projects[0].scenes[1].title == "U").await?;
        user.delete_scene(&other.name, "").await?;
        shows("a scene's end", &|d| d.projects[0].scene_count == 1 && d.projects[0].scenes.len() == 1).await?;
        user.delete_project(&project.name, "").await?;
        shows("a project's end", &|d| d.projects.is_empty()).await?;
        if round == 0 {
            let notice = user.dashboard().await?.notices[0].name.clone();
            user.acknowledge(&[&notice]).await?;
            shows("a notice read", &|d| d.notices.is_empty()).await?;
        }
    }
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_made_by_hand_show() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.warm_up().await?;
    let user = cluster.account().await?;
    let project = user.project("P").await?;
    let scene = user.scene(&project.name, "S").await?;
    generate(&cluster.pool, &user, &scene, State::Processing, None).await?;
    sqlx::query("insert into credit_accounts (account_id) values ($1)").bind(user.id).execute(&cluster.pool).await?;
    for (change, sign) in [
        ("update accounts set display_name = 'Mark 1' where id = $1", "Mark 1"),
        ("update credit_accounts set available_micros = 4242424242 where account_id = $1", "4242424242"),
        ("update projects set title = 'Mark 2' where account_id = $1", "Mark 2"),
        ("update scenes set latest_stage = 'mark 3' where account_id = $1", "mark 3"),
        ("update generations set stage = 'mark 4', version = version + 1 where account_id = $1", "mark 4"),
        ("insert into notices (id, account_id, title) values (gen_random_uuid(), $1, 'Mark 5')", "Mark 5"),
    ] {
        let before = user.dashboard().await?;
        assert!(!format!("{before:?}").contains(sign));
        sqlx::query(change).bind(user.id).execute(&cluster.pool).await?;
        let shown = eventually(sign, TIMEOUT, async || {
            let shown = user.dashboard().await.ok()?;
            format!("{shown:?}").contains(sign).then_some(shown)
        })
        .await?;
        assert!(shown.version > before.version, "{sign}: {} after {}", shown.version, before.version);
    }
    sqlx::query("truncate notices").execute(&cluster.pool).await?;
    eventually("no notices after a truncation", TIMEOUT / 2, async || {
        user.dashboard().await.ok().filter(|shown| shown.notices.is_empty())
    })
    .await?;
    cluster.stop().await
}

/// Renames a table, so that the statements do not find it, or back.
async fn rename(cluster: &Cluster, from: &str, to: &str) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(format!("alter table {from} rename to {to}"))).execute(&cluster.pool).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_section_that_cannot_be_read_is_named_and_the_others_are_whole() -> Result<()> {
    let cluster = Cluster::start().await?;
    for (table, section) in [
        ("accounts", Section::Profile),
        ("credit_accounts", Section::Credits),
        ("projects", Section::Projects),
        ("scenes", Section::Projects),
        ("generations", Section::RecentGenerations),
        ("notices", Section::Notices),
    ] {
        let user = cluster.account().await?;
        let project = user.project("P").await?;
        let scene = user.scene(&project.name, "S").await?;
        generate(&cluster.pool, &user, &scene, State::Completed, None).await?;
        rename(&cluster, table, "hidden").await?;
        let (shown, page) = (user.dashboard().await?, user.dashboard_page(3, "").await?);
        rename(&cluster, "hidden", table).await?;
        assert_eq!(shown, page);
        assert_eq!(shown.unreachable, [section as i32], "without {table}");
        assert_eq!(shown.profile.is_none(), section == Section::Profile);
        assert_eq!(shown.credits.is_none(), section == Section::Credits);
        assert_eq!(shown.projects.is_empty(), section == Section::Projects);
        assert_eq!(shown.recent_generations.is_empty(), section == Section::RecentGenerations);
        assert_eq!(shown.notices.is_empty(), section == Section::Notices);

        let whole = user.dashboard().await?;
        assert!(whole.unreachable.is_empty(), "an answer with a section missing is not cached");
        assert!(shown.version == 0 && whole.version > 0, "only an answer of one snapshot has a version");
    }
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_section_that_hangs_does_not_delay_the_others() -> Result<()> {
    let statement = Duration::from_millis(300);
    let cluster = Cluster::with(PoolSettings { statement, ..PoolSettings::default() }).await?;
    let user = cluster.account().await?;
    user.project("P").await?;
    let mut lock = cluster.pool.begin().await?;
    sqlx::query("lock table notices in access exclusive mode").execute(&mut *lock).await?;
    let shown = user.dashboard().await?;
    assert_eq!(shown.unreachable, [Section::Notices as i32]);
    assert_eq!(shown.projects.len(), 1);
    lock.rollback().await?;
    assert!(user.dashboard().await?.unreachable.is_empty());
    cluster.stop().await
}

/// All its sections are there, but a commit between two of them shows in the one and not in the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_dashboard_read_section_by_section_has_no_version_and_is_not_cached() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    user.project("P").await?;
    let mut lock = cluster.pool.begin().await?;
    sqlx::query("lock table notices in access exclusive mode").execute(&mut *lock).await?;
    let (shown, _) = futures::future::try_join(user.dashboard().map_err(anyhow::Error::from), async {
        let cut = "select pg_terminate_backend(pid) from pg_stat_activity
                    where datname = current_database() and wait_event_type = 'Lock' and query like '%union all%'";
        eventually("the whole is cut off", TIMEOUT, async || {
            sqlx::query_scalar::<_, bool>(cut).fetch_optional(&cluster.pool).await.ok().flatten()
        })
        .await?;
        Ok(lock.rollback().await?)
    })
    .await?;
    assert!(shown.unreachable.is_empty() && shown.projects.len() == 1);
    assert_eq!(shown.version, 0);
    assert!(user.dashboard().await?.version > 0);
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dashboard_without_any_section_is_unavailable() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let tables = ["accounts", "credit_accounts", "projects", "generations", "notices"];
    for table in tables {
        rename(&cluster, table, &format!("hidden_{table}")).await?;
    }
    refused(user.dashboard().await, Code::Unavailable, "DEPENDENCY_DOWN");
    refused(user.dashboard_page(3, "").await, Code::Unavailable, "DEPENDENCY_DOWN");
    for table in tables {
        rename(&cluster, &format!("hidden_{table}"), table).await?;
    }
    assert!(user.dashboard().await?.unreachable.is_empty());
    cluster.stop().await
}
