//! What a provider's own moderation says of an output: asked for by the entry, kept with the output, told in reads and webhooks.

use chassis::egress::Reach;
use proto::generations::v1::output::Moderation;
use proto::work::v1::order::ModerationRule;

use crate::cluster::Cluster;
use crate::orders::{ENTRY, Folder, harbour, next_work, request};
use crate::receiver::Receiver;
use crate::worker::{VIDEO_BYTES, Worker, completion};

/// Completes the next order, of whose output this was said.
async fn complete(cluster: &Cluster, said: Option<Moderation>) -> Vec<ModerationRule> {
    let (worker, work): (Worker, _) = next_work(cluster).await;
    worker.submitted(&work).await.unwrap();
    worker.finalizing(&work).await.unwrap();
    worker.register_output(&work.account, VIDEO_BYTES).await;
    let mut done = completion(work.lease.clone(), 8_000);
    done.outputs[0].output.as_mut().unwrap().moderation = said;
    worker.works.clone().complete_work(done).await.unwrap();
    work.order.unwrap().moderation
}

#[tokio::test]
async fn what_was_said_of_an_output_is_shown_and_nothing_else() {
    let rules = r#"moderation = [ { at = "/has_nsfw_concepts", category = "nsfw", effect = "replaced" },
                                  { at = "/logs", contains = "flagged", category = "sensitive" } ]"#;
    let folder = Folder::new(&format!("{}\n{rules}\n", ENTRY.trim_end()));
    let cluster = folder.cluster_with(|config| config.webhooks.reach = Reach::Anywhere).await;
    let user = cluster.user(1_000).await;
    let mut receiver = Receiver::open().await;
    cluster.endpoint(&user, &receiver.url, vec!["generation.completed".to_owned()]).await.unwrap();
    let flagged = Moderation {
        provider: "fal".to_owned(),
        flagged: true,
        categories: vec!["nsfw".to_owned(), "gore".to_owned()],
        effect: "replaced".to_owned(),
    };
    let clean = Moderation { provider: "fal".to_owned(), ..Moderation::default() };
    for said in [Some(flagged), Some(clean), None] {
        let started = cluster.start(&user, request(&user, harbour())).await.unwrap();
        let asked = complete(&cluster, said.clone()).await;
        let asked: Vec<_> =
            asked.iter().map(|rule| (&*rule.at, &*rule.contains, &*rule.category, &*rule.effect)).collect();
        assert_eq!(asked, [("/has_nsfw_concepts", "", "nsfw", "replaced"), ("/logs", "flagged", "sensitive", "")]);
        let done = cluster.get(&user, &started.name).await.unwrap();
        assert_eq!(done.outputs[0].moderation, said);
        let told = receiver.next().await.json()["data"]["outputs"][0]["moderation"].clone();
        match said {
            None => assert!(told.is_null(), "{told}"),
            Some(said) => {
                assert_eq!(told["provider"], "fal");
                assert_eq!(told["flagged"].as_bool().unwrap_or_default(), said.flagged);
                let categories = told["categories"].as_array().cloned().unwrap_or_default();
                assert_eq!(categories, said.categories);
            }
        }
    }
}

#[tokio::test]
async fn what_a_worker_says_is_cut_to_what_an_output_may_have() {
    let folder = Folder::new(ENTRY);
    let cluster = folder.cluster().await;
    let user = cluster.user(1_000).await;
    let started = cluster.start(&user, request(&user, harbour())).await.unwrap();
    let wild = Moderation {
        provider: "p".repeat(500),
        flagged: true,
        categories: vec!["c\n".repeat(500); 40],
        effect: "e".repeat(500),
    };
    assert_eq!(complete(&cluster, Some(wild)).await, Vec::new());
    let said = cluster.get(&user, &started.name).await.unwrap().outputs.remove(0).moderation.unwrap();
    assert_eq!((said.provider.len(), said.categories.len(), said.effect.len()), (60, 16, 60));
    assert_eq!(said.categories[0], "c".repeat(60));
}
