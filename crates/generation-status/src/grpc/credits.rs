//! CreditService.

use domain::id::AccountId;
use domain::money::Micros;
use proto::credits::v1::credit_service_server::CreditService;
use proto::credits::v1::{CreditAccount, GetCreditAccountRequest, GrantCreditsRequest};
use tonic::{Request, Response, Status};

use super::split;
use crate::credits::{Balance, Credits};
use crate::fields::Fields;

/// The most that one grant may give: a billion credits.
const MOST: i64 = 1_000_000_000_000_000;

/// The service over its rules.
#[derive(Clone)]
pub(crate) struct CreditsApi {
    pub(crate) credits: Credits,
}

#[tonic::async_trait]
impl CreditService for CreditsApi {
    async fn get_credit_account(
        &self,
        request: Request<GetCreditAccountRequest>,
    ) -> Result<Response<CreditAccount>, Status> {
        let (account, _) = split(request)?;
        Ok(Response::new(shown(self.credits.get(account).await?)))
    }

    async fn grant_credits(&self, request: Request<GrantCreditsRequest>) -> Result<Response<CreditAccount>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::default();
        let account = fields.take("account", AccountId::from_name(&request.account));
        let request_id = fields.request_id(&request.request_id);
        if !(1..=MOST).contains(&request.amount_micros) {
            fields.wrong("amount_micros", format_args!("must be 1 to {MOST}"));
        }
        let (account, request_id) = fields.done(account.zip(request_id))?;
        let balance = self.credits.grant(account, Micros::new(request.amount_micros), request_id).await?;
        Ok(Response::new(shown(balance)))
    }
}

fn shown(balance: Balance) -> CreditAccount {
    CreditAccount {
        name: "creditAccount".to_owned(),
        available_micros: balance.available.get(),
        held_micros: balance.held.get(),
        spent_micros: balance.spent.get(),
    }
}
