//! The rules of a start: a request's assets are found, its model makes an order of it, and its price is found, before anything is
//! written.
//!
//! Invariant: what comes out is all that the generation will ever be charged and carried out by.

use std::collections::HashMap;

use catalogue::{Asset, Decimal, Input, Model, Resolved};
use chassis::fields::{Fields, Invalid, SCHEMA};
use domain::id::AccountId;
use domain::money::Micros;
use time::OffsetDateTime;

use crate::error::{Error, Noun};
use crate::model::{InputDetails, NewGeneration, StartRequest};
use crate::store::Store;

/// The range of seeds that we choose: every JSON reader can hold them, and every provider takes them.
const CHOSEN_SEEDS: std::ops::Range<i64> = 0..1 << 31;

/// Prepares starts; cheap to clone.
#[derive(Clone)]
pub(crate) struct Starts {
    store: Store,
}

impl Starts {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// What a request comes to for an account with this margin.
    pub(crate) async fn prepare(&self, request: &StartRequest, margin: Decimal) -> Result<NewGeneration, Error> {
        let account = &request.account;
        let model = request.model.as_ref().map_err(Invalid::clone)?;
        if let Some(day) = model.retire.filter(|_| model.is_retired(OffsetDateTime::now_utc().unix_timestamp())) {
            let should = format!("must be a model that takes orders; this one takes none since {day}");
            return Err(Invalid::field("model", SCHEMA, should).into());
        }
        let (input, found) = self.find_assets(*account, model, request).await?;
        let find = |name: &str| found.get(name).cloned();
        let drawn = request.drawn_seed.unwrap_or_else(|| fastrand::i64(CHOSEN_SEEDS));
        let resolved = model.resolve(&input, drawn, &find);
        let resolved = resolved.map_err(|violations| {
            let mut fields = Fields::default();
            for violation in violations {
                fields.wrong(violation.field, violation.message);
            }
            fields.done::<()>(None).err().map_or(Error::NotFound(Noun::Model), Error::from)
        })?;
        // What is beyond all that can be charged nobody can pay.
        let beyond = |_| Error::InsufficientCredit { price: Micros::new(i64::MAX) };
        let terms = resolved.terms.with_margin(margin).map_err(beyond)?;
        let resolved = Resolved { terms, ..resolved };
        let price = resolved.terms.quote();
        if let Some(max) = request.max_price.filter(|max| price.total > *max) {
            return Err(Error::PriceAboveMax { price: price.total, max });
        }
        Ok(NewGeneration {
            account: *account,
            scene: request.scene,
            model: model.clone(),
            resolved,
            margin,
            price,
            labels: request.labels.clone(),
            end_user: request.end_user.clone(),
            request_id: request.request_id,
            request_sha256: request.request_sha256,
            retried_from: request.retried_from,
            background: request.background,
        })
    }

    /// The input with its assets, and every asset that it names, also in parameters. A request that names none asks nothing.
    async fn find_assets(
        &self,
        account: AccountId,
        model: &Model,
        request: &StartRequest,
    ) -> Result<(Input, HashMap<String, Asset>), Error> {
        check_counts(model, &request.input)?;
        let input = self.store.name_outputs(account, &request.input).await?;
        let bare = InputDetails { media: Vec::new(), ..input.clone() };
        let bare = bare.with_assets(request.prompt.clone(), request.seed, |_| None);
        let bare = bare.map_err(|_| Error::NotFound(Noun::Asset))?;
        let mut names: Vec<String> = model.asset_names(&bare);
        names.extend(input.media.iter().map(|medium| medium.asset.clone()));
        let found = if names.is_empty() { HashMap::new() } else { self.store.assets(account, &names).await? };
        if names.iter().any(|name| !found.contains_key(name)) {
            return Err(Error::NotFound(Noun::Asset));
        }
        let find = |name: &str| found.get(name).cloned();
        let input = input.with_assets(request.prompt.clone(), request.seed, find);
        Ok((input.map_err(|_| Error::NotFound(Noun::Asset))?, found))
    }
}

/// Refuses more media than a model takes, before any of them is asked for.
fn check_counts(model: &Model, input: &InputDetails) -> Result<(), Invalid> {
    let mut fields = Fields::default();
    let mut counted = HashMap::new();
    for (at, medium) in input.media.iter().enumerate() {
        let count = counted.entry(medium.role).or_insert(0);
        *count += 1;
        let max = model.max_media(medium.role);
        if *count > max {
            fields.wrong(
                format!("input.media[{at}]"),
                format_args!("must not be; {} takes {max} of its role", model.name()),
            );
        }
    }
    fields.done(Some(()))
}
