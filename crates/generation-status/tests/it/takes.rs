//! SetTake: a scene's take is a completed generation of it, until another is chosen, none is, or it is deleted.

use chassis::request::token;
use proto::generations::v1::{DeleteGenerationRequest, Generation, SetTakeRequest, Take};
use tonic::{Code, Response, Status};
use uuid::Uuid;

use crate::cluster::{Cluster, User, refusal};
use crate::worker::{POSTER, THUMBHASH, Worker};

impl Cluster {
    async fn set_take(&self, user: &User, generation: &str) -> Result<Response<Take>, Status> {
        self.set_take_of(user, &user.scene(), generation).await
    }

    async fn set_take_of(&self, user: &User, scene: &str, generation: &str) -> Result<Response<Take>, Status> {
        let request = SetTakeRequest { scene: scene.to_owned(), generation: generation.to_owned() };
        self.node.generations.clone().set_take(user.asks(request)).await
    }

    async fn delete_one(&self, user: &User, generation: &Generation) -> Result<(), Status> {
        let request = DeleteGenerationRequest { name: generation.name.clone(), allow_missing: false };
        self.node.generations.clone().delete_generation(user.asks(request)).await.map(drop)
    }

    /// A generation that was carried out.
    async fn taken(&self, user: &User, worker: &mut Worker) -> Generation {
        let started = self.started(user).await;
        let work = worker.next().await;
        worker.carry_out(&work).await;
        self.get(user, &started.name).await.unwrap()
    }

    /// What the scene's row has of its take.
    async fn take_of(&self, user: &User) -> (Option<Uuid>, Option<String>, Option<Vec<u8>>) {
        let query = "select take_generation, take_thumbnail, take_thumbhash from scenes where id = $1";
        sqlx::query_as(query).bind(user.scene).fetch_one(&self.pool).await.unwrap()
    }

    /// The version of the user's dashboard.
    async fn dashboard_version(&self, user: &User) -> i64 {
        let query = "select cache_version('dash:' || $1::uuid)";
        sqlx::query_scalar(query).bind(user.account).fetch_one(&self.pool).await.unwrap()
    }
}

fn id(generation: &Generation) -> Option<Uuid> {
    generation.name.trim_start_matches("generations/").parse().ok()
}

/// The version of the dashboard that the token of a reply demands.
fn demanded(user: &User, reply: &Response<Take>) -> Option<i64> {
    let token = reply.metadata().get_bin(token::HEADER)?.to_bytes().ok()?;
    cache::Token::decode(&token)?.version(&format!("dash:{}", user.account))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_take_is_chosen_changed_and_taken_back() {
    let cluster = Cluster::new().await;
    let user = cluster.user(9).await;
    let mut worker = Worker::new(&cluster, 4).await;
    let (first, second) = (cluster.taken(&user, &mut worker).await, cluster.taken(&user, &mut worker).await);
    assert_eq!(cluster.take_of(&user).await, (None, None, None));

    let poster = format!("{}.webp", POSTER.trim_start_matches("assets/"));
    for chosen in [&first, &second] {
        let before = cluster.dashboard_version(&user).await;
        let reply = cluster.set_take(&user, &chosen.name).await.unwrap();
        assert_eq!(*reply.get_ref(), Take { scene: user.scene(), generation: chosen.name.clone() });
        assert_eq!(cluster.take_of(&user).await, (id(chosen), Some(poster.clone()), Some(THUMBHASH.to_vec())));
        let version = cluster.dashboard_version(&user).await;
        assert_eq!(version, before + 1, "one change of the dashboard");
        assert_eq!(demanded(&user, &reply), Some(version), "a read that brings the token sees it");

        let again = cluster.set_take(&user, &chosen.name).await.unwrap();
        assert_eq!(again.get_ref(), reply.get_ref());
        assert_eq!(cluster.dashboard_version(&user).await, version, "a repetition changes nothing");
        assert_eq!(demanded(&user, &again), Some(version), "its first reply may be lost, and with it the token");
    }

    // The take stays while others are started.
    cluster.started(&user).await;
    assert_eq!(cluster.take_of(&user).await.0, id(&second));
    for _ in 0..2 {
        let reply = cluster.set_take(&user, "").await.unwrap().into_inner();
        assert_eq!(reply, Take { scene: user.scene(), generation: String::new() });
        assert_eq!(cluster.take_of(&user).await, (None, None, None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_completed_generation_of_the_scene_is_taken() {
    let cluster = Cluster::new().await;
    let (user, stranger) = (cluster.user(9).await, cluster.user(2).await);
    let elsewhere = cluster.scene(&user).await;
    let mut worker = Worker::new(&cluster, 4).await;
    let taken = cluster.taken(&user, &mut worker).await;
    cluster.set_take(&user, &taken.name).await.unwrap();
    let (other, theirs) = (cluster.taken(&elsewhere, &mut worker).await, cluster.taken(&stranger, &mut worker).await);
    let deleted = cluster.taken(&user, &mut worker).await;
    cluster.delete_one(&user, &deleted).await.unwrap();
    let open = cluster.started(&user).await;
    let cancelled = cluster.started(&user).await;
    cluster.cancel_many(&user, &[&cancelled.name]).await;

    let no_take = (Code::FailedPrecondition, "NOT_A_TAKE");
    let (nowhere, no_scene) = ((Code::NotFound, "GENERATION_NOT_FOUND"), (Code::NotFound, "SCENE_NOT_FOUND"));
    let unknown = format!("generations/{}", Uuid::now_v7());
    for (name, (code, reason)) in [
        (&other.name, no_take),
        (&open.name, no_take),
        (&cancelled.name, no_take),
        (&theirs.name, nowhere),
        (&deleted.name, nowhere),
        (&unknown, nowhere),
    ] {
        assert_eq!(refusal(cluster.set_take(&user, name).await), (code, reason.to_owned()), "{name}");
    }
    let wrong_project = format!("projects/{}/scenes/{}", stranger.project, user.scene);
    for scene in [&stranger.scene(), &wrong_project] {
        for chosen in [&taken.name, ""] {
            let refused = refusal(cluster.set_take_of(&user, scene, chosen).await);
            assert_eq!(refused, (no_scene.0, no_scene.1.to_owned()), "{scene} {chosen}");
        }
    }
    for (scene, generation) in [("scenes/1", taken.name.as_str()), (&user.scene(), "generations/1"), ("", "")] {
        let refused = refusal(cluster.set_take_of(&user, scene, generation).await);
        assert_eq!(refused, (Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION".to_owned()));
    }
    assert_eq!(cluster.take_of(&user).await.0, id(&taken), "a refusal changes nothing");

    let hide = "update scenes set delete_time = now() where id = $1";
    sqlx::query(hide).bind(user.scene).execute(&cluster.pool).await.unwrap();
    assert_eq!(refusal(cluster.set_take(&user, "").await).1, no_scene.1);
    let hide = "update projects set delete_time = now() where id = $1";
    sqlx::query(hide).bind(stranger.project).execute(&cluster.pool).await.unwrap();
    assert_eq!(refusal(cluster.set_take(&stranger, &theirs.name).await).1, no_scene.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_take_is_no_take_any_more() {
    let cluster = Cluster::new().await;
    let user = cluster.user(9).await;
    let mut worker = Worker::new(&cluster, 4).await;
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(cluster.taken(&user, &mut worker).await);
    }
    cluster.set_take(&user, &made[0].name).await.unwrap();
    cluster.delete_one(&user, &made[1]).await.unwrap();
    assert_eq!(cluster.take_of(&user).await.0, id(&made[0]), "another's deletion leaves it");
    cluster.delete_one(&user, &made[0]).await.unwrap();
    assert_eq!(cluster.take_of(&user).await, (None, None, None));
    // What is the latest and the take at once.
    cluster.set_take(&user, &made[2].name).await.unwrap();
    cluster.delete_one(&user, &made[2]).await.unwrap();
    assert_eq!(cluster.take_of(&user).await, (None, None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_choice_and_a_deletion_at_once_leave_no_deleted_take() {
    let cluster = Cluster::new().await;
    let user = cluster.user(20).await;
    let mut worker = Worker::new(&cluster, 20).await;
    let mut refused = 0;
    for _ in 0..16 {
        let made = cluster.taken(&user, &mut worker).await;
        let (chosen, deleted) = tokio::join!(cluster.set_take(&user, &made.name), cluster.delete_one(&user, &made));
        deleted.unwrap();
        refused += usize::from(chosen.is_err());
        if let Err(status) = chosen {
            assert_eq!(status.code(), Code::NotFound, "{status:?}");
        }
        assert_eq!(cluster.take_of(&user).await, (None, None, None));
    }
    assert!(refused < 16, "the deletion alone came first");
}
