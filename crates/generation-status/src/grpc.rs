//! The gRPC handlers: parse, call the rules, present. A refused request names all of its wrong fields at once.

mod bulk;
mod claims;
mod credits;
mod fields;
mod filters;
mod generations;
mod key_names;
mod models;
mod queues;
mod request;
mod starts;
mod usage;
mod webhooks;
mod work;

use std::sync::Arc;

use chassis::encoded::Encoded;
use proto::credits::v1::credit_service_server::CreditServiceServer;
use proto::credits::v1::usage_service_server::UsageServiceServer;
use proto::generations::v1::generation_service_server::GenerationServiceServer;
use proto::models::v1::model_service_server::ModelServiceServer;
use proto::queues::v1::queue_service_server::QueueServiceServer;
use proto::webhooks::v1::webhook_service_server::WebhookServiceServer;
use proto::work::v1::work_service_server::WorkServiceServer;
use tonic::codec::CompressionEncoding::Gzip;
use tonic::service::Routes;

pub(crate) use claims::ClaimStreams;
pub(crate) use credits::CreditsApi;
pub(crate) use generations::GenerationsApi;
pub(crate) use models::ModelsApi;
pub(crate) use queues::QueuesApi;
pub(crate) use usage::UsageApi;
pub(crate) use webhooks::WebhooksApi;
pub(crate) use work::WorkApi;

/// The methods that stream, which have no deadline of their own.
pub(crate) const STREAMING: [&str; 2] = [generations::WATCH_GENERATIONS, "/rushes.work.v1.WorkService/ClaimWork"];

/// All services. GetGeneration and BatchGetGenerations bypass the codec: their cached bytes are the reply. So do watches, for which the
/// codec would keep a buffer each.
pub(crate) fn routes(
    generations: GenerationsApi,
    work: WorkApi,
    credits: CreditsApi,
    usage: UsageApi,
    models: ModelsApi,
    queues: QueuesApi,
    webhooks: WebhooksApi,
) -> Routes {
    let get_generation = {
        let api = Arc::new(generations.clone());
        move |request| {
            let api = Arc::clone(&api);
            async move { api.encoded(request).await }
        }
    };
    let batch_get_generations = {
        let api = Arc::new(generations.clone());
        move |request| {
            let api = Arc::clone(&api);
            async move { api.batch_encoded(request).await }
        }
    };
    let watch_generations = {
        let api = Arc::new(generations.clone());
        move |request| {
            let api = Arc::clone(&api);
            async move { api.watched(request).await }
        }
    };
    let server = GenerationServiceServer::new(generations).accept_compressed(Gzip).send_compressed(Gzip);
    let server = Encoded::streaming(generations::WATCH_GENERATIONS, watch_generations, server);
    let server = Encoded::unary(generations::BATCH_GET_GENERATIONS, batch_get_generations, server);
    Routes::new(Encoded::unary(generations::GET_GENERATION, get_generation, server))
        .add_service(WorkServiceServer::new(work))
        .add_service(ModelServiceServer::new(models).accept_compressed(Gzip).send_compressed(Gzip))
        .add_service(QueueServiceServer::new(queues).accept_compressed(Gzip).send_compressed(Gzip))
        .add_service(WebhookServiceServer::new(webhooks).accept_compressed(Gzip).send_compressed(Gzip))
        .add_service(UsageServiceServer::new(usage).accept_compressed(Gzip).send_compressed(Gzip))
        .add_service(CreditServiceServer::new(credits).accept_compressed(Gzip).send_compressed(Gzip))
}
