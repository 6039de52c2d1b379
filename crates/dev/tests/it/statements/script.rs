//! The calls: every method at least twice, on what the calls before have made.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use bytes::Bytes;
use chassis::blobs::Store;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use testkit::{Spans, eventually};
use uuid::Uuid;

use super::caller::{Answered, Caller, Reply, request_id, text};
use super::{Cost, Costs};
use crate::cluster::Cluster;

/// The model of all generations here.
pub(super) const MODEL: &str = "models/by-script";

/// How often a read is repeated until it is warm.
const MAX_READS: usize = 20;
/// How often a watch is opened on a page that has changed.
const OPENINGS: usize = 5;
const PAUSE: Duration = Duration::from_millis(50);

struct Script<'a> {
    caller: Caller<'a>,
    wanted: &'a Costs,
    costs: Costs,
}

/// Calls every method and returns what each cost, and what a stranger who calls the same is shown of it.
pub(super) async fn measure(cluster: &Cluster, spans: &Spans, wanted: &Costs) -> Result<(Costs, Vec<String>)> {
    let mut script = Script { caller: Caller::new(cluster, spans)?, wanted, costs: Costs::new() };
    script.accounts().await?;
    let scene = script.projects().await?;
    script.credits().await?;
    script.models_and_queues().await?;
    script.webhooks().await?;
    script.generations(&scene).await?;
    let video = script.assets(cluster).await?;
    script.work(&scene, &video).await?;
    script.dead_letters().await?;
    let shown = script.foreign().await?;
    script.deletions(&scene).await?;
    Ok((script.costs, shown))
}

impl Script<'_> {
    /// The full name of a method, from `Service/Method`.
    fn path(method: &str) -> Result<String> {
        let is_it = |path: &&str| path.ends_with(&format!(".{method}"));
        let path = proto::METHODS.iter().map(|method| method.path).find(is_it).with_context(|| method.to_owned())?;
        Ok(path.trim_start_matches('/').to_owned())
    }

    async fn call(&self, method: &str, messages: &[Value]) -> Result<Reply> {
        self.caller.call(&Self::path(method)?, messages).await
    }

    /// Calls a method that must succeed and is measured elsewhere.
    async fn ask(&self, method: &str, request: Value) -> Result<Value> {
        self.call(method, &[request]).await?.outcome.with_context(|| method.to_owned())
    }

    fn keep(&mut self, method: &str, first: u64, again: u64) -> Result<()> {
        let before = self.costs.insert(Self::path(method)?, Cost { first, again });
        anyhow::ensure!(before.is_none(), "{method} is measured twice");
        Ok(())
    }

    /// Measures a write by two requests, of which the first must succeed; returns its reply.
    async fn write_both(&mut self, method: &str, first: Value, again: Value) -> Result<Value> {
        let first = self.call(method, &[first]).await?;
        let reply = first.outcome.with_context(|| method.to_owned())?;
        let again = self.call(method, &[again]).await?.statements;
        self.keep(method, first.statements, again)?;
        Ok(reply)
    }

    async fn write(&mut self, method: &str, request: Value) -> Result<Value> {
        self.write_both(method, request.clone(), request).await
    }

    /// Measures a read, which becomes warm once the process has a proof that its cache is current.
    async fn read(&mut self, method: &str, request: Value) -> Result<Value> {
        let first = self.call(method, std::slice::from_ref(&request)).await?;
        let reply = first.outcome.with_context(|| method.to_owned())?;
        let wanted = self.wanted.get(&Self::path(method)?).map_or(0, |cost| cost.again);
        let mut again = u64::MAX;
        for _ in 0..MAX_READS {
            again = again.min(self.call(method, std::slice::from_ref(&request)).await?.statements);
            if again <= wanted {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.keep(method, first.statements, again)?;
        Ok(reply)
    }

    async fn accounts(&mut self) -> Result<()> {
        let account = json!({"account": {"displayName": "Ada", "email": "ada@example.com"}});
        let account = text(&self.write("AccountService/CreateAccount", account).await?, "/name");
        self.caller.account = Some(account.trim_start_matches("accounts/").parse()?);
        let key = self.write("AccountService/CreateApiKey", json!({"parent": account})).await?;
        let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text(&key, "/secret")));
        self.read("AccountService/AuthenticateApiKey", json!({"keySha256": hash})).await?;
        let networks = json!({"name": text(&key, "/apiKey/name"), "allowedNetworks": ["10.0.0.0/8"]});
        self.write("AccountService/UpdateApiKey", networks).await?;
        self.write("AccountService/RevokeApiKey", json!({"name": text(&key, "/apiKey/name")})).await?;
        self.read("AccountService/GetAccount", json!({"name": account})).await?;
        self.read("AccountService/GetOwnAccount", json!({})).await?;
        let limits = json!({"name": account, "limits": {"calls": 100}});
        self.write("AccountService/SetAccountLimits", limits).await?;
        // An account cannot suspend itself.
        let other = json!({"account": {"displayName": "Eve"}});
        let other = text(&self.ask("AccountService/CreateAccount", other).await?, "/name");
        self.write("AccountService/SuspendAccount", json!({"name": other, "note": "a test"})).await?;
        self.write("AccountService/ReactivateAccount", json!({"name": other})).await?;
        self.ask("AccountService/SuspendAccount", json!({"name": other, "note": "a test"})).await?;
        self.write("AccountService/EraseAccount", json!({"name": other, "confirm": other})).await?;
        self.read("AuditService/ListAuditEntries", json!({"account": account})).await?;
        Ok(())
    }

    /// Calls again what the account has called, as another one: what is shown of the first, a line each.
    async fn foreign(&mut self) -> Result<Vec<String>> {
        let answered = self.caller.take_answered();
        let ids: BTreeSet<Uuid> = answered.iter().flat_map(|call| ids(&call.reply)).collect();
        let owner = self.caller.account;
        let stranger = json!({"account": {"displayName": "Eve", "email": "eve@example.com"}});
        let stranger = text(&self.ask("AccountService/CreateAccount", stranger).await?, "/name");
        self.caller.account = Some(stranger.trim_start_matches("accounts/").parse()?);
        let (mut shown, mut refused) = (Vec::new(), BTreeSet::new());
        for Answered { path, messages, .. } in &answered {
            match self.caller.call(path, messages).await?.outcome {
                Ok(reply) => {
                    let foreign: Vec<_> = self::ids(&reply).into_iter().filter(|id| ids.contains(id)).collect();
                    if !foreign.is_empty() {
                        shown.push(format!("{path} shows {foreign:?} to a stranger"));
                    }
                }
                Err(_) => drop(refused.insert(path)),
            }
        }
        // The script names things of the account in most of its calls.
        anyhow::ensure!(ids.len() > 12 && refused.len() > 12, "{} ids, refused: {refused:?}", ids.len());
        self.caller.account = owner;
        Ok(shown)
    }

    fn account(&self) -> String {
        self.caller.account.map(|id| format!("accounts/{id}")).unwrap_or_default()
    }

    /// Returns the name of a scene.
    async fn projects(&mut self) -> Result<String> {
        let project = json!({"project": {"title": "P"}, "requestId": request_id()});
        let project = text(&self.write("ProjectService/CreateProject", project).await?, "/name");
        self.read("ProjectService/GetProject", json!({"name": project})).await?;
        self.read("ProjectService/ListProjects", json!({})).await?;
        let renamed = json!({"project": {"name": project, "title": "Q"}, "updateMask": "title"});
        self.write("ProjectService/UpdateProject", renamed).await?;
        let scene = json!({"parent": project, "scene": {"title": "S"}, "requestId": request_id()});
        let scene = text(&self.write("ProjectService/CreateScene", scene).await?, "/name");
        self.read("ProjectService/GetScene", json!({"name": scene})).await?;
        self.read("ProjectService/ListScenes", json!({"parent": project})).await?;
        let renamed = json!({"scene": {"name": scene, "title": "T"}, "updateMask": "title"});
        self.write("ProjectService/UpdateScene", renamed).await?;
        let order = json!({"parent": project, "scenes": [scene]});
        self.write("ProjectService/ReorderScenes", order).await?;
        let dashboard = self.read("DashboardService/GetDashboard", json!({})).await?;
        self.watch_dashboard(&project).await?;
        let notice = text(&dashboard, "/notices/0/name");
        self.write("DashboardService/AcknowledgeNotices", json!({"names": [notice]})).await?;
        Ok(scene)
    }

    /// Measures a watch by its first event. A change that comes while it is open costs a load of its own, and the relay tells the
    /// watch of the rename once more when it is slow: the cheapest of a few openings is what an opening costs.
    async fn watch_dashboard(&mut self, project: &str) -> Result<()> {
        const METHOD: &str = "DashboardService/WatchDashboard";
        let mut first = u64::MAX;
        for title in 0..OPENINGS {
            // Or else the watch would find the page that has just been read.
            let renamed = json!({"project": {"name": project, "title": format!("R{title}")}, "updateMask": "title"});
            self.ask("ProjectService/UpdateProject", renamed).await?;
            first = first.min(self.call(METHOD, &[json!({})]).await?.statements);
        }
        self.read(METHOD, json!({})).await?;
        let path = Self::path(METHOD)?;
        self.costs.entry(path).and_modify(|cost| cost.first = first);
        Ok(())
    }

    async fn credits(&mut self) -> Result<()> {
        let account = self.account();
        let grant = json!({"account": account, "amountMicros": "10000000", "requestId": request_id()});
        self.write("CreditService/GrantCredits", grant).await?;
        let adjust = json!({"account": account, "amountMicros": "-1", "reason": "a test", "requestId": request_id()});
        self.write("CreditService/AdjustCredits", adjust).await?;
        self.write("CreditService/SetMargin", json!({"account": account, "margin": "1"})).await?;
        self.read("CreditService/GetMargin", json!({"account": account})).await?;
        self.read("CreditService/GetCreditAccount", json!({})).await?;
        self.read("CreditService/ListCreditEntries", json!({})).await?;
        let limit = json!({"endUser": "ada", "limitMicros": "5000000", "period": "MONTH"});
        self.write("UsageService/SetEndUserLimit", limit).await?;
        self.read("UsageService/GetEndUser", json!({"endUser": "ada"})).await?;
        self.read("UsageService/ListEndUsers", json!({})).await?;
        let query = json!({"groupBy": ["DAY", "END_USER"]});
        self.read("UsageService/GetUsage", json!({"query": query})).await?;
        self.read("UsageService/GetAccountUsage", json!({"account": account, "query": query})).await?;
        Ok(())
    }

    async fn models_and_queues(&mut self) -> Result<()> {
        self.read("ModelService/ListModels", json!({})).await?;
        self.read("ModelService/GetModel", json!({"name": MODEL})).await?;
        self.read("WorkService/ListRemoteModels", json!({})).await?;
        self.read("QueueService/GetQueueStats", json!({"accounts": 5})).await?;
        self.write("QueueService/PauseQueue", json!({"model": MODEL, "note": "a test"})).await?;
        self.write("QueueService/ResumeQueue", json!({"model": MODEL})).await?;
        self.write("QueueService/SetAccountWeight", json!({"account": self.account(), "weight": 2.0})).await?;
        self.write("QueueService/SetAccountRunningLimit", json!({"account": self.account(), "limit": 50})).await?;
        Ok(())
    }

    async fn webhooks(&mut self) -> Result<()> {
        // Nobody listens there, so that a delivery waits for its next attempt.
        let endpoint = json!({"url": "http://127.0.0.1:1/", "eventTypes": ["generation.expired"]});
        let create = json!({"endpoint": endpoint, "requestId": request_id()});
        let name = text(&self.write("WebhookService/CreateEndpoint", create).await?, "/name");
        self.read("WebhookService/GetEndpoint", json!({"name": name})).await?;
        self.read("WebhookService/ListEndpoints", json!({})).await?;
        let update = json!({"endpoint": {"name": name, "description": "D"}, "updateMask": "description"});
        self.write("WebhookService/UpdateEndpoint", update).await?;
        self.write("WebhookService/RotateSecret", json!({"name": name})).await?;
        let delivery = text(&self.write("WebhookService/TestEndpoint", json!({"name": name})).await?, "/name");
        let mut costs = Vec::new();
        for attempts in 1..=2 {
            let attempted = async || {
                let listed = self.ask("WebhookService/ListDeliveries", json!({"parent": name})).await.ok()?;
                let listed = listed["deliveries"].as_array()?.iter().find(|one| one["name"] == delivery)?.clone();
                (listed["attemptCount"].as_i64() == Some(attempts)).then_some(())
            };
            eventually("an attempt", Duration::from_secs(30), attempted).await?;
            let reply = self.call("WebhookService/RedeliverDelivery", &[json!({"name": delivery})]).await?;
            reply.outcome?;
            costs.push(reply.statements);
        }
        self.keep("WebhookService/RedeliverDelivery", costs[0], costs[1])?;
        self.read("WebhookService/ListDeliveries", json!({"parent": name})).await?;
        self.write("WebhookService/DeleteEndpoint", json!({"name": name})).await?;
        Ok(())
    }

    fn order(scene: &str) -> Value {
        json!({"scene": scene, "model": MODEL, "input": {"prompt": "a harbour"}, "requestId": request_id()})
    }

    async fn batch_start(&mut self, scene: &str) -> Result<()> {
        let requests = json!({"requests": [Self::order(scene), Self::order(scene)]});
        let started = self.write("GenerationService/BatchStartGenerations", requests).await?;
        for at in 0..2 {
            let name = text(&started, &format!("/generations/{at}/name"));
            self.ask("GenerationService/CancelGeneration", json!({"name": name})).await?;
        }
        Ok(())
    }

    async fn generations(&mut self, scene: &str) -> Result<()> {
        self.batch_start(scene).await?;
        let name = text(&self.write("GenerationService/StartGeneration", Self::order(scene)).await?, "/name");
        self.read("GenerationService/GetGeneration", json!({"name": name})).await?;
        let other = self.ask("GenerationService/StartGeneration", Self::order(scene)).await?;
        self.read("GenerationService/BatchGetGenerations", json!({"names": [text(&other, "/name")]})).await?;
        self.read("GenerationService/ListGenerations", json!({"parent": scene})).await?;
        self.read("GenerationService/ListGenerationEvents", json!({"name": name})).await?;
        self.read("GenerationService/WatchGenerations", json!({"names": [name]})).await?;
        self.write("GenerationService/CancelGeneration", json!({"name": name})).await?;
        let retry = json!({"name": name, "requestId": request_id()});
        let retried = self.write("GenerationService/RetryGeneration", retry).await?;
        for one in [&other, &retried] {
            self.ask("GenerationService/CancelGeneration", json!({"name": text(one, "/name")})).await?;
        }
        let delete = json!({"name": text(&other, "/name"), "allowMissing": true});
        self.write("GenerationService/DeleteGeneration", delete).await?;
        Ok(())
    }

    /// Returns the name of a video, with its size.
    async fn assets(&mut self, cluster: &Cluster) -> Result<(String, usize)> {
        let picture = picture()?;
        let chunk = base64::engine::general_purpose::STANDARD.encode(&picture);
        let upload = [json!({"metadata": {"fileName": "a.png"}}), json!({"chunk": chunk})];
        let mut costs = Vec::new();
        let mut picture = String::new();
        for _ in 0..2 {
            let reply = self.call("AssetService/UploadAsset", &upload).await?;
            picture = text(&reply.outcome?, "/name");
            costs.push(reply.statements);
        }
        self.keep("AssetService/UploadAsset", costs[0], costs[1])?;
        self.read("AssetService/GetAsset", json!({"name": picture})).await?;
        self.read("AssetService/ListAssets", json!({"kind": "PICTURE"})).await?;
        self.read("AssetService/GetStorageUse", json!({})).await?;
        let render = json!({"asset": picture, "spec": {"width": 64, "height": 64}});
        self.write("AssetService/RenderThumbnail", render).await?;
        let video = Bytes::from_static(include_bytes!("../../../../provider-double/src/video.mp4"));
        let size = video.len();
        let name = Store::open(&cluster.blobs())?.put(video, "mp4").await?;
        let name = format!("assets/{}", hex::encode(name.sha256()));
        self.write("AssetService/RegisterOutput", json!({"asset": name, "extension": "mp4"})).await?;
        // Each of its three objects in storage costs a transaction.
        let settled = async || {
            let asset = self.ask("AssetService/GetAsset", json!({"name": picture})).await.ok()?;
            (asset["thumbnail"]["state"] == "READY").then_some(())
        };
        eventually("its thumbnail", Duration::from_secs(30), settled).await?;
        self.write("AssetService/DeleteAsset", json!({"name": picture, "allowMissing": true})).await?;
        Ok((name, size))
    }

    /// Starts a generation and claims its work; returns the lease.
    async fn claimed(&self, scene: &str) -> Result<(Value, u64)> {
        self.ask("GenerationService/StartGeneration", Self::order(scene)).await?;
        self.claim().await
    }

    async fn claim(&self) -> Result<(Value, u64)> {
        let claim = json!({"worker": "script/1", "providers": ["replicate"], "slots": 1});
        let reply = self.call("WorkService/ClaimWork", &[claim]).await?;
        Ok((reply.outcome?["work"]["lease"].clone(), reply.statements))
    }

    async fn work(&mut self, scene: &str, (video, size): &(String, usize)) -> Result<()> {
        let (lease, first) = self.claimed(scene).await?;
        let heartbeat = json!({"worker": "script/1", "leases": [lease]});
        self.write("WorkService/Heartbeat", heartbeat).await?;
        self.write("WorkService/RecordIntent", json!({"lease": lease, "provider": "replicate"})).await?;
        let submission = json!({"lease": lease, "providerReference": "order-1"});
        self.write("WorkService/RecordSubmission", submission).await?;
        self.write("WorkService/ReportProgress", json!({"lease": lease, "percent": 10})).await?;
        self.ask("WorkService/ReportProgress", json!({"lease": lease, "finalizing": true})).await?;
        let output =
            json!({"asset": video, "sizeBytes": size.to_string(), "mimeType": "video/mp4", "width": 160, "height": 96});
        let result = json!({"lease": lease, "outputs": [{"output": output, "extension": "mp4"}]});
        self.write("WorkService/CompleteWork", result).await?;
        let take = json!({"scene": scene, "generation": format!("generations/{}", text(&lease, "/job"))});
        self.write("GenerationService/SetTake", take).await?;

        let (lease, again) = self.claimed(scene).await?;
        self.keep("WorkService/ClaimWork", first, again)?;
        self.write("WorkService/ReleaseWork", json!({"lease": lease})).await?;

        let (lease, _) = self.claim().await?;
        self.ask("WorkService/RecordIntent", json!({"lease": lease, "provider": "replicate"})).await?;
        self.ask("WorkService/RecordSubmission", json!({"lease": lease, "providerReference": "order-2"})).await?;
        self.write("WorkService/SuspendWork", json!({"lease": lease, "pollAfter": "60s"})).await?;
        let hint = json!({"provider": "replicate", "event": "e", "job": lease["job"], "providerReference": "order-2",
                          "confirmation": "CONFIRMED"});
        self.write("WorkService/HintWork", hint).await?;
        let (lease, _) = self.claim().await?;
        let failed = json!({"lease": lease, "failureClass": "INTERNAL", "reason": "PROVIDER_INTERNAL", "message": "broken", "providerCharge": "NOT_CHARGED"});
        self.write("WorkService/FailWork", failed).await?;

        let (lease, _) = self.claimed(scene).await?;
        self.ask("WorkService/RecordIntent", json!({"lease": lease, "provider": "replicate"})).await?;
        self.ask("WorkService/SuspendWork", json!({"lease": lease, "unconfirmed": true, "message": "lost"})).await?;
        let name = format!("generations/{}", text(&lease, "/job"));
        let resolve = json!({"account": self.account(), "name": name, "note": "a test", "failed": "NOT_CHARGED"});
        self.write("GenerationService/ResolveGeneration", resolve).await?;

        // A worker has no database; a webhook that it can verify costs it one `HintWork`.
        let hook = json!({"provider": "replicate", "job": lease["job"]});
        for (method, request) in [("HookService/ReceiveHook", hook), ("ProviderService/CheckModels", json!({}))] {
            let cost = self.call(method, &[request]).await?.statements;
            self.keep(method, cost, cost)?;
        }
        Ok(())
    }

    async fn dead_letters(&mut self) -> Result<()> {
        let letters = self.read("QueueService/ListDeadLetters", json!({})).await?;
        let chosen = json!({"filter": {"account": self.account()}, "validateOnly": true});
        self.read("QueueService/BulkRequeueDeadLetters", chosen.clone()).await?;
        self.read("QueueService/BulkResolveGenerations", chosen).await?;
        let generation = text(&letters, "/deadLetters/0/generation");
        let requeue = json!({"generation": generation, "note": "a test", "requestId": request_id()});
        let generation = self.write("QueueService/RequeueDeadLetter", requeue).await?;
        self.ask("GenerationService/CancelGeneration", json!({"name": text(&generation, "/name")})).await?;
        Ok(())
    }

    async fn deletions(&mut self, scene: &str) -> Result<()> {
        self.write("ProjectService/DeleteScene", json!({"name": scene})).await?;
        let project = scene.split("/scenes/").next().unwrap_or_default();
        self.write("ProjectService/DeleteProject", json!({"name": project})).await?;
        Ok(())
    }
}

/// A small picture.
fn picture() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 128, 128);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header()?.write_image_data(&[90; 128 * 128 * 3])?;
    Ok(bytes)
}

/// Every UUID that stands in a message.
fn ids(message: &Value) -> BTreeSet<Uuid> {
    let text = message.to_string();
    let words = text.split(|c: char| !c.is_ascii_hexdigit() && c != '-');
    words.filter(|word| word.len() == 36).filter_map(|word| Uuid::try_parse(word).ok()).collect()
}
