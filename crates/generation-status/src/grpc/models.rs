//! The handlers of ModelService.

use catalogue::{Decimal, Role, Row, Rule, SettingDescription, SettingName, Slot};
use chassis::fields::Fields;
use prost::Message;
use proto::models::v1 as api;
use proto::models::v1::model_service_server::ModelService;
use tonic::{Request, Response, Status};

use super::request::authenticated;
use crate::model::Condition;
use crate::models::{MeasuredModel, Models};
use crate::pages::{MAX_PAGE_BYTES, Pages, fitting};
use crate::presenter::{model_name, role_to_proto, timestamp};

/// The listing that page tokens of models belong to.
const LISTING: &str = "models";

/// The service over its rules.
#[derive(Clone)]
pub(crate) struct ModelsApi {
    pub(crate) models: Models,
    pub(crate) pages: Pages,
}

#[tonic::async_trait]
impl ModelService for ModelsApi {
    async fn list_models(
        &self,
        request: Request<api::ListModelsRequest>,
    ) -> Result<Response<api::ListModelsResponse>, Status> {
        let (account, request) = authenticated(request)?;
        let mut fields = Fields::default();
        let page = self.pages.parse(&mut fields, account, LISTING, request.page_size, &request.page_token);
        let page = fields.done(page)?;
        let (models, mut next) = self.models.list(account, page).await?;
        let mut models: Vec<_> = models.into_iter().map(to_proto).collect();
        // Some have long schemas.
        let fits = fitting(models.iter().map(Message::encoded_len), MAX_PAGE_BYTES);
        if fits < models.len() {
            models.truncate(fits);
            next = Models::position_after(page, fits);
        }
        Ok(Response::new(api::ListModelsResponse { models, next_page_token: self.pages.token(account, LISTING, next) }))
    }

    async fn get_model(&self, request: Request<api::GetModelRequest>) -> Result<Response<api::Model>, Status> {
        let (account, request) = authenticated(request)?;
        Ok(Response::new(to_proto(self.models.get(account, &request.name).await?)))
    }
}

fn to_proto(MeasuredModel { model, margin, pace, breaker, served }: MeasuredModel) -> api::Model {
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
    let settings = model.setting_descriptions().into_iter();
    api::Model {
        name: model_name(&model.id),
        provider: model.provider.as_str().to_owned(),
        // One beyond all that can be charged cannot be ordered.
        price_micros: model.default_terms().with_margin(margin).map_or(i64::MAX, |terms| terms.quote().total.get()),
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
        kind: model.kind.as_str().to_owned(),
        settings: settings.filter(|setting| !elsewhere(setting.name)).map(setting_to_proto).collect(),
        media: model.slots.iter().map(slot_to_proto).collect(),
        parameters_schema: model.parameters_schema(),
        prices: model.prices_at(margin).iter().map(price_to_proto).collect(),
        retire_time: model.retire.map(|day| prost_types::Timestamp { seconds: day.unix_seconds(), nanos: 0 }),
    }
}

/// The settings that `input_limits` tells.
const fn elsewhere(name: SettingName) -> bool {
    matches!(name, SettingName::Prompt | SettingName::Seed)
}

fn setting_to_proto(setting: SettingDescription) -> api::model::Setting {
    api::model::Setting {
        name: setting.name.as_str().to_owned(),
        values: setting.values,
        min: setting.min,
        max: setting.max,
        step: setting.step,
        default_value: setting.default_value,
        required: setting.required,
        max_characters: number(setting.max_characters),
    }
}

fn slot_to_proto(slot: &Slot) -> api::model::MediaSlot {
    api::model::MediaSlot {
        role: role_to_proto(slot.role).into(),
        min: number(slot.min),
        max: number(slot.max),
        mime_types: slot.types.clone(),
        max_bytes: slot.limits.max_bytes.and_then(|max| i64::try_from(max).ok()).unwrap_or_default(),
    }
}

fn price_to_proto(rule: &Rule) -> api::model::Price {
    let when = |(name, values): (&String, &Vec<String>)| api::model::price::Condition {
        name: name.clone(),
        values: values.clone(),
    };
    let row = |row: &Row| api::model::price::Row {
        when: row.when.iter().map(when).collect(),
        credits: row.credits.to_string(),
    };
    let text = |number: Option<Decimal>| number.map(|number| number.to_string()).unwrap_or_default();
    api::model::Price {
        per: rule.per.as_str().to_owned(),
        rows: rule.rows.iter().map(row).collect(),
        step: text(rule.step),
        minimum: text(rule.minimum),
    }
}

fn number(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
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
