//! The reconciler finds each planted violation and repairs it where nothing must be guessed; and the tables themselves refuse
//! what no code may write.

use std::time::Duration;

use proto::generations::v1::charge::ProviderCharge;
use proto::generations::v1::{StartGenerationRequest, State};
use testkit::eventually;
use uuid::Uuid;

use crate::binary::Binary;
use crate::cluster::{Cluster, PRICE};
use crate::worker::Worker;

fn id(name: &str) -> Uuid {
    Uuid::try_parse(name.trim_start_matches("generations/")).unwrap()
}

/// A cluster whose node is the program, which alone writes the log that is read.
async fn checked_often() -> (Cluster, Binary) {
    let mut cluster = Cluster::new().await;
    cluster.node.drain();
    let program = Binary::start(&cluster, &[("RUSHES_RECONCILE_INTERVAL", "20ms")]).await;
    cluster.node = program.node();
    (cluster, program)
}

#[tokio::test]
async fn a_generation_without_a_job_ends_and_its_hold_is_released() {
    let cluster = Cluster::with(|config| config.work.reconcile_interval = Duration::from_millis(50)).await;
    let user = cluster.user(1).await;
    let name = cluster.started(&user).await.name;
    sqlx::query("delete from jobs where id = $1").bind(id(&name)).execute(&cluster.pool).await.unwrap();
    let ended = eventually("the reconciler ends it", Duration::from_secs(20), async || {
        cluster.get(&user, &name).await.ok().filter(|generation| generation.state() == State::Failed)
    });
    let charge = ended.await.unwrap().charge.unwrap();
    assert_eq!((charge.released_micros, charge.provider_charge()), (PRICE, ProviderCharge::NotCharged));
    assert_eq!(cluster.credit(&user).await.available_micros, PRICE);
}

#[tokio::test]
async fn each_copy_that_differs_from_its_source_is_found_under_its_name() {
    let (cluster, program) = checked_often().await;
    // More rows than one range has, so that only a later range holds the user's.
    sqlx::raw_sql(
        "with made as (insert into accounts (id, display_name)
                       select rushes_uuid_v7(), 'Another' from generate_series(1, 50) returning id),
              credited as (insert into credit_accounts (account_id) select id from made)
         insert into projects (id, account_id, title) select rushes_uuid_v7(), id, 'Another' from made",
    )
    .execute(&cluster.pool)
    .await
    .unwrap();
    let user = cluster.user(3).await;
    let mut worker = Worker::new(&cluster, 1).await;
    let start = StartGenerationRequest { end_user: "ada".to_owned(), ..user.start_request() };
    cluster.start(&user, start).await.unwrap();
    let work = worker.next().await;
    worker.carry_out(&work).await;
    cluster.started(&user).await;
    let end_user: Uuid = sqlx::query_scalar("select id from end_users where account_id = $1")
        .bind(user.account)
        .fetch_one(&cluster.pool)
        .await
        .unwrap();

    let findings = |name: &str| -> Vec<String> {
        let found = program.log().into_iter().filter(|line| line["invariant"] == name);
        found.map(|line| format!("{} {}", line["account"].as_str().unwrap(), line["id"].as_str().unwrap())).collect()
    };
    let account = format!("accounts/{}", user.account);
    for (name, id, plant, undo) in [
        (
            "balance_off_ledger",
            user.account,
            "update credit_accounts set available_micros = available_micros + 1 where account_id = $1",
            "update credit_accounts set available_micros = available_micros - 1 where account_id = $1",
        ),
        (
            "project_cost_off",
            user.project,
            "update projects set completed_cost_micros = completed_cost_micros + 1 where id = $1",
            "update projects set completed_cost_micros = completed_cost_micros - 1 where id = $1",
        ),
        (
            "project_cost_off",
            user.project,
            "update projects set completed_count = completed_count + 1 where id = $1",
            "update projects set completed_count = completed_count - 1 where id = $1",
        ),
        (
            "usage_off_balance",
            user.account,
            "insert into usage_daily (account_id, day, model, end_user, captured_micros) values ($1, '2025-01-01', 'local-sketch', '', 1)",
            "delete from usage_daily where account_id = $1 and day = '2025-01-01'",
        ),
        (
            "usage_off_generations",
            user.account,
            "update usage_daily set completed = completed + 1 where account_id = $1",
            "update usage_daily set completed = completed - 1 where account_id = $1",
        ),
        (
            "usage_off_generations",
            user.account,
            // As a generation that is counted nowhere leaves it.
            "update usage_daily set model = 'another' where account_id = $1",
            "update usage_daily set model = 'local-sketch' where account_id = $1",
        ),
        (
            "end_user_off",
            end_user,
            "update end_users set held_micros = held_micros + 1 where id = $1",
            "update end_users set held_micros = held_micros - 1 where id = $1",
        ),
        (
            "end_user_off",
            end_user,
            "update end_users set total_micros = total_micros + 1 where id = $1",
            "update end_users set total_micros = total_micros - 1 where id = $1",
        ),
        (
            "scene_copy_off",
            user.scene,
            "update scenes set latest_percent = 77 where id = $1",
            "update scenes set latest_percent = 0 where id = $1",
        ),
        (
            "scene_copy_off",
            user.scene,
            "update scenes set latest_generation = null where id = $1",
            "update scenes s set latest_generation = (
                 select id from generations where scene_id = s.id order by id desc limit 1
             ) where id = $1",
        ),
        (
            "scene_copy_off",
            user.scene,
            "update scenes set latest_thumbhash = '\\x01' where id = $1",
            "update scenes set latest_thumbhash = null where id = $1",
        ),
        (
            "scene_copy_off",
            user.scene,
            // The latest is still open.
            "update scenes set take_generation = latest_generation where id = $1",
            "update scenes set take_generation = null where id = $1",
        ),
        (
            "scene_copy_off",
            user.scene,
            "update scenes s set take_generation = g.id, take_thumbnail = 'another'
             from generations g where g.scene_id = s.id and g.state = 6 and s.id = $1",
            "update scenes set take_generation = null, take_thumbnail = null where id = $1",
        ),
    ] {
        let before = findings(name);
        sqlx::query(plant).bind(id).execute(&cluster.pool).await.unwrap();
        let found = async || Some(findings(name)).filter(|found| found.len() > before.len());
        let found = eventually(name, Duration::from_secs(30), found).await.unwrap();
        assert!(found.iter().all(|found| *found == format!("{account} {id}")), "{name}: {found:?}");
        sqlx::query(undo).bind(id).execute(&cluster.pool).await.unwrap();
    }
    let page = program.metrics().await;
    for name in [
        "balance_off_ledger",
        "project_cost_off",
        "scene_copy_off",
        "usage_off_balance",
        "usage_off_generations",
        "end_user_off",
    ] {
        let series = format!("rushes_reconciler_findings_total{{invariant=\"{name}\"}} ");
        let counted = page.lines().find_map(|line| line.strip_prefix(&series)).unwrap().parse::<f64>().unwrap();
        assert!(counted >= 1.0, "{name}");
    }
    let healthy = ["terminal_unsettled", "hold_without_open", "ledger_unbalanced", "open_without_job"];
    for name in healthy {
        assert!(findings(name).is_empty(), "{name}: {:?}", findings(name));
    }
    worker.free(1).await;
    let work = worker.next().await;
    worker.carry_out(&work).await;
}

#[tokio::test]
async fn what_cannot_be_checked_keeps_nothing_else_from_being_checked() {
    let (cluster, program) = checked_often().await;
    let user = cluster.user(1).await;
    // Two of the checks read it.
    sqlx::query("alter table credit_accounts rename column held_micros to held").execute(&cluster.pool).await.unwrap();
    sqlx::query("update projects set completed_cost_micros = completed_cost_micros + 1 where id = $1")
        .bind(user.project)
        .execute(&cluster.pool)
        .await
        .unwrap();
    let told = async |name: &str, message: &str| {
        let line = async || {
            let mut log = program.log().into_iter();
            log.find(|line| line["invariant"] == name && line["message"].as_str().unwrap().contains(message))
        };
        eventually(name, Duration::from_secs(20), line).await.unwrap();
    };
    told("hold_without_open", "could not be checked").await;
    told("project_cost_off", "violated").await;
    for undo in [
        "alter table credit_accounts rename column held to held_micros",
        "update projects set completed_cost_micros = completed_cost_micros - 1",
    ] {
        sqlx::query(undo).execute(&cluster.pool).await.unwrap();
    }
}

/// What the tables themselves refuse, whatever code writes them.
#[tokio::test]
async fn a_second_settlement_is_refused_by_the_table() {
    let cluster = Cluster::new().await;
    let user = cluster.user(2).await;
    let (completed, open) = (cluster.started(&user).await.name, cluster.started(&user).await.name);
    let mut worker = Worker::new(&cluster, 1).await;
    let work = worker.next().await;
    assert_eq!(work.generation, completed);
    worker.carry_out(&work).await;
    let settle = "insert into ledger (id, account_id, generation_id, entry, book, amount_micros)
                  select gen_random_uuid(), account_id, id, $2, 'held', -held_micros from generations where id = $1";
    for entry in ["capture", "release"] {
        let error = sqlx::query(settle).bind(id(&completed)).bind(entry).execute(&cluster.pool).await.unwrap_err();
        let constraint = error.as_database_error().unwrap().constraint().unwrap().to_owned();
        assert!(["ledger_once", "ledger_one_settlement"].contains(&constraint.as_str()), "{constraint}");
    }
    for (what, sql) in [
        ("ended without a settlement", "update generations set state = 7, end_time = now() where id = $1"),
        ("charged more than was held", "update generations set captured_micros = held_micros + 1 where id = $1"),
        (
            "a negative balance",
            "update credit_accounts set available_micros = -1 where account_id = (select account_id from generations where id = $1)",
        ),
        (
            "a second order beside a live one",
            "insert into provider_calls (generation_id, account_id, fence, provider, phase) select id, account_id, n, 'x', 'intent' from generations, generate_series(7, 8) n where id = $1",
        ),
        (
            "a reference that is none",
            "insert into provider_calls (generation_id, account_id, fence, provider, phase) select id, account_id, 7, 'x', 'known' from generations where id = $1",
        ),
    ] {
        let error = sqlx::query(sql).bind(id(&open)).execute(&cluster.pool).await.unwrap_err();
        assert!(error.as_database_error().is_some_and(|error| error.constraint().is_some()), "{what}: {error}");
    }
    worker.free(1).await;
    let work = worker.next().await;
    worker.carry_out(&work).await;
}
