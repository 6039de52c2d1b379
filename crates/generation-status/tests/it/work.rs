//! The work protocol: what a lease allows, what each report does, and that a zombie changes nothing.

use proto::assets::v1::PosterImage;
use proto::generations::v1::{State, WaitReason};
use proto::work::v1::{
    ClaimWorkRequest, CompleteWorkRequest, FailureClass, HeartbeatRequest, Lease, ReportProgressRequest, Usage, Work,
};
use tonic::Code;
use uuid::Uuid;

use crate::cluster::{Cluster, PRICE, User, refusal};
use crate::worker::{LARGE, ORDERED_MS, POSTER, SMALL, THUMBHASH, VIDEO, VIDEO_BYTES, Worker, completion};

async fn stale(worker: &Worker, work: &Work) {
    let stale = (Code::Aborted, "STALE_FENCE".to_owned());
    assert_eq!(refusal(worker.submitted(work).await), stale);
    assert_eq!(refusal(worker.progress(work, 99).await), stale);
    assert_eq!(refusal(worker.finalizing(work).await), stale);
    assert_eq!(refusal(worker.complete(work).await), stale);
    assert_eq!(refusal(worker.fail(work, FailureClass::Safety).await), stale);
    assert_eq!(refusal(worker.release(work).await), stale);
    assert!(!worker.heartbeat(work).await.0);
}

/// Makes a failed generation's next attempt due, as time would.
async fn hasten(cluster: &Cluster) {
    sqlx::query("update jobs set run_at = now() where state = 'queued'").execute(&cluster.pool).await.unwrap();
}

async fn claimed(cluster: &Cluster, user: &User) -> (Worker, Work, String) {
    let name = cluster.started(user).await.name;
    let mut worker = Worker::new(cluster, 1).await;
    let work = worker.next().await;
    assert_eq!(work.generation, name);
    (worker, work, name)
}

#[tokio::test]
async fn a_generation_completes() {
    let cluster = Cluster::new().await;
    let user = cluster.user(1).await;
    let (worker, work, name) = claimed(&cluster, &user).await;
    assert_eq!((work.attempt, work.held_micros, work.provider_reference.as_str()), (1, PRICE, ""));
    let order = work.order.as_ref().unwrap();
    let input: serde_json::Value = serde_json::from_str(&order.input).unwrap();
    assert_eq!((input["prompt"].as_str(), input["seed"].as_i64()), (Some("A lighthouse at dawn"), Some(7)));
    assert_eq!((order.provider.as_str(), work.model.as_str()), ("local", "models/local-sketch"));
    assert_eq!(work.account, format!("accounts/{}", user.account));
    let state = async || cluster.get(&user, &name).await.unwrap().state();
    assert_eq!(state().await, State::Submitting);
    worker.submitted(&work).await.unwrap();
    assert_eq!(state().await, State::Processing);
    assert!(!worker.progress(&work, 50).await.unwrap());
    worker.finalizing(&work).await.unwrap();
    assert_eq!(state().await, State::Finalizing);
    worker.complete_with(&work, 2_500).await.unwrap();

    let done = cluster.get(&user, &name).await.unwrap();
    assert_eq!((done.state(), done.attempt_count), (State::Completed, 1));
    let output = &done.outputs[0];
    assert_eq!((output.asset.as_str(), output.poster.as_str()), (VIDEO, POSTER));
    assert_eq!(output.url, format!("http://assets.test/{VIDEO}.mp4"));
    assert_eq!(output.poster_url, format!("http://assets.test/{POSTER}.webp"));
    let pictures = output.pictures.clone().unwrap();
    let picture = |asset: &str, width, height| {
        let url = format!("http://assets.test/{asset}.webp");
        Some(PosterImage { asset: asset.to_owned(), url, width, height })
    };
    assert_eq!((&pictures.large, &pictures.small), (&picture(LARGE, 512, 288), &picture(SMALL, 256, 144)));
    assert_eq!(pictures.thumbhash, THUMBHASH);
    assert_eq!(output.duration.unwrap().nanos, 500_000_000);
    let charge = done.charge.unwrap();
    // A video that came out shorter than it was ordered is charged as it is.
    let (made, rest) = (31_250, PRICE - 31_250);
    assert_eq!((charge.held_micros, charge.captured_micros, charge.released_micros), (0, made, rest));
    let lines: Vec<_> = charge.lines.iter().map(|line| (line.per.as_str(), line.quantity.as_str())).collect();
    assert_eq!(lines, [("second", "2.5")]);
    assert!(done.submit_time.is_some() && done.start_time.is_some() && done.end_time.is_some());
    let credit = cluster.credit(&user).await;
    assert_eq!((credit.available_micros, credit.held_micros, credit.spent_micros), (rest, 0, made));
    stale(&worker, &work).await;
}

#[tokio::test]
async fn a_zombie_changes_nothing() {
    let cluster = Cluster::with(|config| config.work.reap_interval = std::time::Duration::from_millis(50)).await;
    let user = cluster.user(1).await;
    let (zombie, old, name) = claimed(&cluster, &user).await;
    zombie.submitted(&old).await.unwrap();
    zombie.progress(&old, 60).await.unwrap();
    // The zombie says nothing for longer than its lease; another takes the work over, with the order that was made.
    cluster.expire_leases().await;
    let mut successor = Worker::new(&cluster, 1).await;
    let work = successor.next().await;
    let (before, after) = (old.lease.clone().unwrap(), work.lease.clone().unwrap());
    assert_eq!((&work.generation, work.attempt, work.provider_reference.as_str()), (&name, 1, "order-1"));
    assert!(before.job == after.job && before.fence < after.fence);
    stale(&zombie, &old).await;
    successor.progress(&work, 30).await.unwrap();
    assert_eq!(cluster.get(&user, &name).await.unwrap().progress.unwrap().percent, 60, "never backwards");
    successor.carry_out(&work).await;
    stale(&zombie, &old).await;
    assert_eq!(cluster.get(&user, &name).await.unwrap().state(), State::Completed);
    assert_eq!(cluster.credit(&user).await.spent_micros, PRICE);
}

#[tokio::test]
async fn a_heartbeat_keeps_a_lease() {
    let cluster = Cluster::with(|config| {
        config.work.lease = std::time::Duration::from_secs(2);
        config.work.reap_interval = std::time::Duration::from_millis(50);
    })
    .await;
    let user = cluster.user(1).await;
    let (worker, work, _) = claimed(&cluster, &user).await;
    let began = std::time::Instant::now();
    while began.elapsed() < std::time::Duration::from_secs(4) {
        assert_eq!(worker.heartbeat(&work).await, (true, false));
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    worker.carry_out(&work).await;
}

#[tokio::test]
async fn some_failures_are_retried_and_others_are_not() {
    let cluster = Cluster::new().await;
    let user = cluster.user(4).await;
    for (class, reason, code) in [
        (FailureClass::Safety, "SAFETY_INPUT", Code::FailedPrecondition),
        (FailureClass::InvalidInput, "INPUT_SCHEMA_VIOLATION", Code::InvalidArgument),
    ] {
        let (worker, work, name) = claimed(&cluster, &user).await;
        assert!(!worker.fail(&work, class).await.unwrap());
        let failed = cluster.get(&user, &name).await.unwrap();
        assert_eq!(failed.state(), State::Failed);
        let error = failed.error.unwrap();
        assert_eq!((error.code, error.message.as_str()), (code as i32, "it did not work"));
        assert!(String::from_utf8_lossy(&error.details[0].value).contains(reason));
        assert_eq!(failed.charge.unwrap().released_micros, PRICE);
        stale(&worker, &work).await;
    }
    let (mut worker, mut work, name) = claimed(&cluster, &user).await;
    for (class, reason) in
        [(FailureClass::Throttled, WaitReason::ProviderThrottled), (FailureClass::Internal, WaitReason::Backoff)]
    {
        worker.submitted(&work).await.unwrap();
        assert!(worker.fail_uncharged(&work, class).await.unwrap());
        let waiting = cluster.get(&user, &name).await.unwrap();
        assert_eq!((waiting.state(), waiting.wait_reason()), (State::Queued, reason));
        stale(&worker, &work).await;
        hasten(&cluster).await;
        worker.free(1).await;
        work = worker.next().await;
        assert_eq!(work.provider_reference, "", "the failed order is over");
    }
    assert_eq!(work.attempt, 2, "the throttled attempt did not count");
    worker.carry_out(&work).await;
}

#[tokio::test]
async fn a_completion_without_its_stored_output_is_refused() {
    let cluster = Cluster::new().await;
    let user = cluster.user(1).await;
    let (worker, work, name) = claimed(&cluster, &user).await;
    worker.submitted(&work).await.unwrap();
    worker.finalizing(&work).await.unwrap();
    let missing = (Code::FailedPrecondition, "ASSET_MISSING".to_owned());
    assert_eq!(refusal(worker.complete_unregistered(&work).await), missing);
    let stranger = cluster.user(0).await;
    worker.register_output(&format!("accounts/{}", stranger.account), VIDEO_BYTES).await;
    assert_eq!(refusal(worker.complete_unregistered(&work).await), missing, "another account's asset");
    worker.register_output(&work.account, VIDEO_BYTES - 1).await;
    assert_eq!(refusal(worker.complete_unregistered(&work).await), missing, "a part of the bytes");
    assert_eq!(cluster.get(&user, &name).await.unwrap().state(), State::Finalizing);
    assert_eq!(cluster.credit(&user).await.spent_micros, 0);
    assert!(worker.heartbeat(&work).await.0, "a refused completion leaves the lease");
    worker.register_output(&work.account, VIDEO_BYTES).await;
    worker.complete_unregistered(&work).await.unwrap();
    assert_eq!(cluster.credit(&user).await.spent_micros, PRICE);
}

#[tokio::test]
async fn after_the_last_attempt_the_hold_is_released() {
    let cluster = Cluster::new().await;
    let user = cluster.user(1).await;
    let (mut worker, mut work, name) = claimed(&cluster, &user).await;
    for attempt in 1..=5 {
        assert_eq!(work.attempt, attempt);
        let again = worker.fail(&work, FailureClass::Internal).await.unwrap();
        assert_eq!(again, attempt < 5);
        if again {
            hasten(&cluster).await;
            worker.free(1).await;
            work = worker.next().await;
        }
    }
    assert_eq!(cluster.get(&user, &name).await.unwrap().state(), State::Failed);
    assert_eq!(cluster.credit(&user).await.available_micros, PRICE);
}

#[tokio::test]
async fn an_illegal_transition_is_refused() {
    let cluster = Cluster::new().await;
    let user = cluster.user(1).await;
    let (worker, work, name) = claimed(&cluster, &user).await;
    let illegal = (Code::FailedPrecondition, "ILLEGAL_TRANSITION".to_owned());
    assert_eq!(refusal(worker.complete(&work).await), illegal, "SUBMITTING to COMPLETED");
    assert_eq!(refusal(worker.finalizing(&work).await), illegal, "SUBMITTING to FINALIZING");
    worker.submitted(&work).await.unwrap();
    assert_eq!(refusal(worker.complete(&work).await), illegal, "PROCESSING to COMPLETED");
    worker.finalizing(&work).await.unwrap();
    assert!(worker.heartbeat(&work).await.0, "a refused report leaves the lease");
    // A video that came out longer costs no more than was held.
    worker.complete_with(&work, 9_000).await.unwrap();
    let done = cluster.get(&user, &name).await.unwrap();
    assert_eq!((done.state(), done.charge.unwrap().captured_micros), (State::Completed, PRICE));
}

#[tokio::test]
async fn progress_never_falls_and_is_batched() {
    let cluster = Cluster::new().await;
    let user = cluster.user(1).await;
    let (worker, work, name) = claimed(&cluster, &user).await;
    worker.submitted(&work).await.unwrap();
    let version = cluster.get(&user, &name).await.unwrap().version;
    let reports = (1..=80).map(|percent| worker.progress(&work, percent));
    for reported in futures::future::join_all(reports).await {
        assert!(!reported.unwrap());
    }
    worker.progress(&work, 3).await.unwrap();
    let seen = cluster.get(&user, &name).await.unwrap();
    assert_eq!(seen.progress.unwrap().percent, 80);
    assert!(seen.version - version < 20, "{} writes for 80 reports", seen.version - version);
}

#[tokio::test]
async fn a_release_lets_another_go_on() {
    let cluster = Cluster::new().await;
    let user = cluster.user(1).await;
    let (mut worker, work, name) = claimed(&cluster, &user).await;
    worker.release(&work).await.unwrap();
    let waiting = cluster.get(&user, &name).await.unwrap();
    assert_eq!((waiting.state(), waiting.wait_reason()), (State::Queued, WaitReason::Capacity));
    stale(&worker, &work).await;
    worker.free(1).await;
    let again = worker.next().await;
    assert_eq!(again.attempt, 1, "a lease given back is no attempt");
    worker.carry_out(&again).await;
}

#[tokio::test]
async fn a_worker_gets_as_many_leases_as_it_has_slots() {
    let cluster = Cluster::new().await;
    let user = cluster.user(5).await;
    for _ in 0..5 {
        cluster.started(&user).await;
    }
    let mut worker = Worker::new(&cluster, 3).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(worker.next().await);
    }
    let leased = async || -> i64 {
        sqlx::query_scalar("select count(*) from jobs where state = 'leased'").fetch_one(&cluster.pool).await.unwrap()
    };
    assert_eq!(leased().await, 3);
    worker.free(2).await;
    for _ in 0..2 {
        held.push(worker.next().await);
    }
    assert_eq!(leased().await, 5);
    for work in &held {
        worker.carry_out(work).await;
    }
}

#[tokio::test]
async fn a_draining_node_leases_no_more() {
    let cluster = Cluster::new().await;
    let user = cluster.user(1).await;
    let mut worker = Worker::new(&cluster, 1).await;
    cluster.node.drain();
    assert!(worker.ended().await);
    let other = crate::cluster::Node::start(&cluster.config).await;
    let request = user.asks(user.start_request());
    other.generations.clone().start_generation(request).await.unwrap();
    let mut worker = Worker::at(&cluster, &other, 1).await;
    let work = worker.next().await;
    worker.carry_out(&work).await;
}

#[tokio::test]
async fn malformed_reports_are_refused() {
    let cluster = Cluster::new().await;
    let user = cluster.user(1).await;
    let (worker, work, _) = claimed(&cluster, &user).await;
    let mut works = cluster.node.works.clone();
    let invalid = (Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION".to_owned());
    for lease in
        [None, Some(Lease { job: "x".to_owned(), fence: 1 }), Some(Lease { job: Uuid::now_v7().to_string(), fence: 0 })]
    {
        let progress = ReportProgressRequest { lease: lease.clone(), ..ReportProgressRequest::default() };
        assert_eq!(refusal(works.report_progress(progress).await), invalid);
        assert_eq!(refusal(works.complete_work(completion(lease.clone(), 1)).await), invalid);
        let beat = HeartbeatRequest { worker: String::new(), leases: lease.into_iter().collect() };
        if !beat.leases.is_empty() {
            assert_eq!(refusal(works.heartbeat(beat).await), invalid);
        }
    }
    for percent in [-1, 101, i32::MAX] {
        assert_eq!(refusal(worker.progress(&work, percent).await), invalid);
    }
    let spoiled: [fn(&mut CompleteWorkRequest); 5] = [
        |request| request.outputs[0].extension = "../etc".to_owned(),
        |request| request.outputs[0].output = None,
        |request| request.outputs[0].output.as_mut().unwrap().mime_type = "text/html".to_owned(),
        |request| request.outputs.clear(),
        |request| request.usage = Some(Usage { provider_cost_micros: Some(-1), ..Usage::default() }),
    ];
    for spoil in spoiled {
        let mut request = completion(work.lease.clone(), ORDERED_MS);
        spoil(&mut request);
        assert_eq!(refusal(works.complete_work(request).await), invalid);
    }
    let good = ClaimWorkRequest {
        worker: "w".to_owned(),
        providers: vec!["local".to_owned()],
        slots: 1,
        ..ClaimWorkRequest::default()
    };
    for claim in [
        ClaimWorkRequest { worker: String::new(), ..good.clone() },
        ClaimWorkRequest { providers: Vec::new(), ..good.clone() },
        ClaimWorkRequest { providers: vec![String::new()], ..good.clone() },
        ClaimWorkRequest { slots: 0, ..good.clone() },
        ClaimWorkRequest { slots: 101, ..good },
    ] {
        let claimed = works.claim_work(tokio_stream::once(claim)).await;
        assert_eq!(refusal(claimed.map(drop)), invalid);
    }
    worker.carry_out(&work).await;
}
