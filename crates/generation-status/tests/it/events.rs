//! What operators read: one log line for each business event with its ids, and the metrics of the table.

use std::time::Duration;

use chassis::telemetry::metric::Kind;
use generation_status::metrics::ALL;
use proto::generations::v1::resolve_generation_request::Resolution;
use proto::generations::v1::{CancelGenerationRequest, ResolveGenerationRequest, State};
use proto::work::v1::FailureClass;
use serde_json::Value;
use testkit::eventually;
use uuid::Uuid;

use crate::binary::Binary;
use crate::cluster::{Cluster, PRICE, User};
use crate::worker::Worker;

const SECRETS_KEYS: &str = "test-test-test-test-test-test-test";
const LONG: Duration = Duration::from_secs(30);

async fn cancel(cluster: &Cluster, user: &User, name: &str) {
    let request = user.asks(CancelGenerationRequest { name: name.to_owned() });
    cluster.node.generations.clone().cancel_generation(request).await.unwrap();
}

/// Makes a failed generation's next attempt due, as time would.
async fn hasten(cluster: &Cluster) {
    sqlx::query("update jobs set run_at = now() where state = 'queued'").execute(&cluster.pool).await.unwrap();
}

async fn until(cluster: &Cluster, user: &User, name: &str, state: State) {
    let reached = async || cluster.get(user, name).await.ok().filter(|generation| generation.state() == state);
    eventually("the state", LONG, reached).await.unwrap();
}

/// The value of a series.
fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_default()
}

#[tokio::test]
async fn every_business_event_has_one_line_with_its_ids_and_counts() {
    let mut cluster = Cluster::new().await;
    // From here on the program is alone, so that every event is its own.
    cluster.node.drain();
    let program =
        Binary::start(&cluster, &[("RUSHES_REAP_INTERVAL", "50ms"), ("RUSHES_SECRETS_KEYS", SECRETS_KEYS)]).await;
    cluster.node = program.node();
    let user = cluster.user(7).await;
    cluster.adjust(&user, -PRICE, "a mistake", Uuid::now_v7()).await.unwrap();

    let started = cluster.started(&user).await;
    let completed = started.name.clone();
    let mut worker = Worker::new(&cluster, 1).await;
    let work = worker.next().await;
    worker.carry_out(&work).await;

    let cancelled = cluster.started(&user).await.name;
    cancel(&cluster, &user, &cancelled).await;

    let failed = cluster.started(&user).await.name;
    worker.free(1).await;
    let work = worker.next().await;
    assert!(worker.fail(&work, FailureClass::Internal).await.unwrap());
    hasten(&cluster).await;
    worker.free(1).await;
    let work = worker.next().await;
    assert!(!worker.fail(&work, FailureClass::Safety).await.unwrap());

    let resolved = cluster.started(&user).await.name;
    worker.free(1).await;
    let work = worker.next().await;
    worker.intended(&work).await.unwrap();
    worker.suspend_unconfirmed(&work).await.unwrap();
    let request = ResolveGenerationRequest {
        account: format!("accounts/{}", user.account),
        name: resolved.clone(),
        note: "ada: the provider has no such order".to_owned(),
        resolution: Some(Resolution::Requeue(true)),
    };
    cluster.node.generations.clone().resolve_generation(request).await.unwrap();
    cancel(&cluster, &user, &resolved).await;

    let orphaned = cluster.started(&user).await.name;
    worker.free(1).await;
    let work = worker.next().await;
    worker.submitted(&work).await.unwrap();
    cluster.expire_leases().await;
    let waits = async || {
        let lines = program.log();
        lines.iter().any(|line| line["message"] == "lease expired").then_some(())
    };
    eventually("the lease is taken back", LONG, waits).await.unwrap();
    cancel(&cluster, &user, &orphaned).await;
    let mut successor = Worker::new(&cluster, 1).await;
    let work = successor.next().await;
    successor.fail(&work, FailureClass::Cancelled).await.unwrap();

    let expired = cluster.started(&user).await.name;
    sqlx::query("update jobs set deadline_at = now() where id = $1::uuid")
        .bind(expired.trim_start_matches("generations/"))
        .execute(&cluster.pool)
        .await
        .unwrap();
    until(&cluster, &user, &expired, State::Expired).await;

    let lines = program.log();
    let of = |name: &str| -> Vec<&Value> {
        lines
            .iter()
            .filter(|line| line["generation"] == name && line["target"] == "generation_status::events")
            .collect()
    };
    let messages = |name: &str| -> Vec<&str> {
        of(name).iter().map(|line| line["message"].as_str().unwrap().trim_start_matches("generation ")).collect()
    };
    assert_eq!(messages(&completed), ["started", "completed"]);
    assert_eq!(messages(&cancelled), ["started", "cancelled"]);
    assert_eq!(messages(&failed), ["started", "retried", "failed"]);
    assert_eq!(messages(&resolved), ["started", "submission unconfirmed", "resolved", "cancelled"]);
    assert_eq!(messages(&orphaned), ["started", "lease expired", "cancelling", "cancelled"]);
    assert_eq!(messages(&expired), ["started", "expired"]);
    for name in [&completed, &cancelled, &failed, &resolved, &orphaned, &expired] {
        for line in of(name) {
            assert_eq!(line["job"].as_str(), name.strip_prefix("generations/"), "{line}");
            let level = if line["message"] == "lease expired" { "WARN" } else { "INFO" };
            assert_eq!(line["level"], level, "{line}");
            assert_eq!(line["account"], format!("accounts/{}", user.account), "{line}");
            assert_eq!((&line["scene"], &line["model"]), (&user.scene().into(), &"local-sketch".into()), "{line}");
            assert!(line["attempt"].is_number(), "{line}");
        }
    }
    let first = of(&completed)[0];
    assert_eq!(first["trace_id"].as_str(), started.traceparent.split('-').nth(1), "the trace of its start");
    let [_, retried, last] = of(&failed)[..] else { panic!("three lines") };
    assert_eq!((&retried["reason"], &retried["class"]), (&"PROVIDER_INTERNAL".into(), &"internal".into()));
    assert_eq!((&last["reason"], &last["attempt"]), (&"SAFETY_INPUT".into(), &2.into()));
    let credits: Vec<_> = lines.iter().filter(|line| line["amount_micros"].is_number()).collect();
    assert_eq!(
        credits.iter().map(|line| &line["message"]).collect::<Vec<_>>(),
        ["credits granted", "credits adjusted"]
    );
    assert_eq!((&credits[1]["amount_micros"], &credits[1]["reason"]), (&(-PRICE).into(), &"a mistake".into()));
    // The only warning is of the worker that went away.
    let is_warning = |line: &&Value| line["target"] == "generation_status::events" && line["level"] != "INFO";
    let warnings: Vec<_> = lines.iter().filter(is_warning).map(|line| &line["message"]).collect();
    assert_eq!(warnings, ["lease expired"]);

    let page = program.metrics().await;
    let micros =
        |movement: &str| value(&page, &format!("rushes_credits_micros_total{{movement=\"{movement}\"}}")) as i64;
    assert_eq!((micros("granted"), micros("removed")), (7 * PRICE, PRICE));
    assert_eq!((micros("held"), micros("captured"), micros("released")), (6 * PRICE, PRICE, 5 * PRICE));
    let ended = |state: &str| {
        value(&page, &format!("rushes_generations_ended_total{{model=\"local-sketch\",state=\"{state}\"}}")) as i64
    };
    assert_eq!(["COMPLETED", "FAILED", "CANCELLED", "EXPIRED"].map(ended), [1, 1, 3, 1]);
    for metric in ALL {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let recorded = page.lines().any(|line| line.starts_with(&format!("# TYPE {} ", metric.name)));
        let described =
            page.contains(&format!("# HELP {} {}\n# TYPE {} {kind}\n", metric.name, metric.help(), metric.name));
        assert_eq!(recorded, described, "{}", metric.name);
    }
    let ours = ["rushes_generation", "rushes_submission", "rushes_completion", "rushes_credits", "rushes_webhook"];
    for name in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        let is_ours = ours.iter().any(|start| name.starts_with(start));
        assert!(!is_ours || ALL.iter().any(|metric| metric.name == name), "{name} is not in the table");
    }
}
