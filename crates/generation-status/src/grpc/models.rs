//! The handlers of ModelService.

use catalogue::{Role, SettingName};
use chassis::fields::Fields;
use domain::page;
use proto::models::v1 as api;
use proto::models::v1::model_service_server::ModelService;
use tonic::{Request, Response, Status};

use super::fields::parse_page;
use super::request::authenticated;
use crate::model::Condition;
use crate::models::{MeasuredModel, Models};
use crate::presenter::{model_name, timestamp};

/// The listing that page tokens of models belong to.
const LISTING: &str = "models";

/// The service over its rules.
#[derive(Clone)]
pub(crate) struct ModelsApi {
    pub(crate) models: Models,
}

#[tonic::async_trait]
impl ModelService for ModelsApi {
    async fn list_models(
        &self,
        request: Request<api::ListModelsRequest>,
    ) -> Result<Response<api::ListModelsResponse>, Status> {
        let (account, request) = authenticated(request)?;
        let mut fields = Fields::default();
        let page = parse_page(&mut fields, account, LISTING, request.page_size, &request.page_token);
        let (models, next) = self.models.list(fields.done(page)?).await?;
        Ok(Response::new(api::ListModelsResponse {
            models: models.into_iter().map(to_proto).collect(),
            next_page_token: next.map(|cursor| page::token(account, LISTING, cursor)).unwrap_or_default(),
        }))
    }

    async fn get_model(&self, request: Request<api::GetModelRequest>) -> Result<Response<api::Model>, Status> {
        let (_, request) = authenticated(request)?;
        Ok(Response::new(to_proto(self.models.get(&request.name).await?)))
    }
}

fn to_proto(MeasuredModel { model, pace, breaker, served }: MeasuredModel) -> api::Model {
    let unavailability = match breaker {
        Some(breaker) => Some(api::model::Unavailability {
            reason: parse_cause(&breaker.cause).into(),
            since_time: Some(timestamp(breaker.open_time)),
        }),
        None if !served => {
            let reason = api::model::unavailability::Reason::NoWorker.into();
            Some(api::model::Unavailability { reason, since_time: None })
        }
        None => None,
    };
    let number = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    api::Model {
        name: model_name(&model.id),
        provider: model.provider.as_str().to_owned(),
        price_micros: model.default_terms().quote().total.get(),
        input_limits: Some(api::model::InputLimits {
            prompt_characters: number(model.prompt_characters()),
            reference_assets: number(model.max_media(Role::Reference)),
            seed: model.setting(SettingName::Seed).is_some(),
        }),
        max_attempts: model.max_attempts,
        start_deadline: model.start_deadline.try_into().ok(),
        total_deadline: model.total_deadline.try_into().ok(),
        pace: pace.map(|pace| api::model::Pace {
            p50: pace.p50.try_into().ok(),
            p80: pace.p80.try_into().ok(),
            samples: pace.samples,
        }),
        state: match unavailability {
            None => api::model::State::Available.into(),
            Some(_) => api::model::State::Unavailable.into(),
        },
        unavailability,
        aliases: model.aliases.iter().map(|alias| model_name(alias)).collect(),
        output_kinds: model.output_kinds.iter().map(|kind| kind.as_str().to_owned()).collect(),
        source: model.source.clone(),
        checked: model.checked.map(|day| day.to_string()).unwrap_or_default(),
        ..api::Model::default()
    }
}

/// The reason that a breaker's cause is.
fn parse_cause(cause: &str) -> api::model::unavailability::Reason {
    use api::model::unavailability::Reason;
    match Condition::from_cause(cause) {
        Some(Condition::AccountRefused) => Reason::AccountRefused,
        Some(Condition::Outage) => Reason::Outage,
        Some(Condition::Misconfigured) => Reason::Misconfigured,
        None => Reason::Unspecified,
    }
}
