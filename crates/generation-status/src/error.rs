//! The ways in which a request to this service fails, and the one map from each to a code and a reason.
//!
//! Invariant: a reply never tells apart what does not exist and what is another account's.

use std::time::Duration;

use chassis::fields::Invalid;
use chassis::postgres;
use chassis::status::Failure;
use domain::generation::State;
use domain::money::Micros;

use crate::model::{MAX_ENDPOINTS, MAX_TESTS, MissingOutput, TEST_WINDOW};

/// The RetryInfo of an account at its limit of open generations.
const RETRY_WHEN_FULL: Duration = Duration::from_secs(5);

/// The kinds of things that may not be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noun {
    Account,
    Asset,
    DeadLetter,
    Generation,
    Model,
    Project,
    Scene,
    WebhookDelivery,
    WebhookEndpoint,
}

impl Noun {
    const fn reason(self) -> &'static str {
        match self {
            Self::Account => "ACCOUNT_NOT_FOUND",
            Self::Asset => "ASSET_NOT_FOUND",
            Self::DeadLetter => "DEAD_LETTER_NOT_FOUND",
            Self::Generation => "GENERATION_NOT_FOUND",
            Self::Model => "MODEL_NOT_FOUND",
            Self::Project => "PROJECT_NOT_FOUND",
            Self::Scene => "SCENE_NOT_FOUND",
            Self::WebhookDelivery => "WEBHOOK_DELIVERY_NOT_FOUND",
            Self::WebhookEndpoint => "WEBHOOK_ENDPOINT_NOT_FOUND",
        }
    }

    const fn message(self) -> &'static str {
        match self {
            Self::Account => "there is no such account",
            Self::Asset => "a reference asset does not exist; upload it first",
            Self::DeadLetter => "there is no such dead letter; it may have been requeued already",
            Self::Generation => "there is no such generation",
            Self::Model => "there is no such model",
            Self::Project => "there is no such project",
            Self::Scene => "there is no such scene; it or its project may have been deleted",
            Self::WebhookDelivery => "there is no such delivery; deliveries are kept for 30 days after their end",
            Self::WebhookEndpoint => "there is no such webhook endpoint",
        }
    }
}

/// Why a request fails.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Fields of the request are wrong; nothing was stored.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// It does not exist, or is another account's.
    #[error("no such {0:?}")]
    NotFound(Noun),
    /// The same request id came with another body before.
    #[error("the request id was used for another request")]
    RequestIdReused,
    /// The account cannot pay this price.
    #[error("not enough credit for {price}")]
    InsufficientCredit {
        /// The price of the generation.
        price: Micros,
    },
    /// Its price was found at another margin than the account has now. Whoever starts finds it anew, so that nobody is answered this.
    #[error("{price} is a price at another margin")]
    OtherMargin {
        /// The price at that margin.
        price: Micros,
    },
    /// It would hold more than the request allows.
    #[error("it costs {price}, more than {max}")]
    PriceAboveMax {
        /// What it would hold.
        price: Micros,
        /// What it may hold.
        max: Micros,
    },
    /// What is held and spent for the end user would be more than their limit.
    #[error("the end user's limit is reached, and it costs {price}")]
    EndUserLimit {
        /// What it would hold.
        price: Micros,
        /// The limit, and what of it is neither spent nor held; `None` where that was not read.
        left: Option<(Micros, Micros)>,
    },
    /// The available balance would become negative.
    #[error("the balance would be negative")]
    NegativeBalance,
    /// The account is at its limit of open generations.
    #[error("{max} generations are open")]
    AccountConcurrency {
        /// How many it may have.
        max: i32,
    },
    /// The reported state cannot follow the generation's.
    #[error("{next:?} cannot follow")]
    IllegalTransition {
        /// The state that was asked for.
        next: State,
    },
    /// What is left until the total deadline is less than its model usually takes.
    #[error("the total deadline is too near for another order")]
    NoTimeLeft,
    /// The output that a worker reports is not in our storage as reported.
    #[error("{}: {}", .0.asset, .0.why)]
    OutputMissing(MissingOutput),
    /// It is not unconfirmed, so there is nothing to resolve.
    #[error("the generation is not unconfirmed")]
    NotUnconfirmed,
    /// None of the service's keys opens a webhook's secret.
    #[error("no key of RUSHES_SECRETS_KEYS opens the secret")]
    SecretUnreadable,
    /// The generations asked for are more than one answer has.
    #[error("only {fits} of them fit into one answer")]
    AnswerTooLarge {
        /// So many of them fit, from the first.
        fits: usize,
    },
    /// It changed since it was chosen.
    #[error("the generation changed since it was chosen")]
    ChangedSince,
    /// It has not ended, so there is nothing to retry.
    #[error("the generation has not ended")]
    NotTerminal,
    /// It is of another scene, or not COMPLETED, so it cannot be the scene's take.
    #[error("no take of the scene")]
    NotATake,
    /// It was changed since the caller has seen it.
    #[error("the etag is of another version")]
    EtagMismatch,
    /// The account has as many webhook endpoints as it may.
    #[error("as many webhook endpoints as there may be")]
    TooManyEndpoints,
    /// Nothing is sent to a disabled endpoint.
    #[error("the webhook endpoint is disabled")]
    EndpointDisabled,
    /// The webhook endpoint got as many tests as it may within a while.
    #[error("{MAX_TESTS} tests within {TEST_WINDOW:?}")]
    TooManyTests,
    /// The worker's lease was given to another, or its work has ended.
    #[error("the lease is held by another worker")]
    StaleFence,
    /// The version asked for does not exist yet.
    #[error("version {asked} asked for, {newest} is the newest")]
    VersionAhead {
        /// The caller's `min_version`.
        asked: i64,
        /// The newest version that exists.
        newest: i64,
    },
    /// A watch cannot go on from there.
    #[error("the resume token cannot be used")]
    ResumeToken,
    /// The process is draining.
    #[error("the service is draining")]
    Draining,
    /// The database refused or could not be asked.
    #[error(transparent)]
    Database(#[from] postgres::Error),
    /// A failure that is ready to be answered, as the cache returns it.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl Error {
    /// The same error of a part of a request: the paths of its fields begin with `prefix`.
    pub(crate) fn within(self, prefix: impl std::fmt::Display) -> Self {
        match self {
            Self::Invalid(invalid) => Self::Invalid(invalid.within(prefix)),
            other => other,
        }
    }

    /// Whether two transactions got into each other's way: nothing was written, and the same may succeed now.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Database(postgres::Error::Conflict(_)))
    }

    /// Whether the database could not be read, so that what the cache last knew may be served.
    pub(crate) fn is_outage(&self) -> bool {
        matches!(self, Self::Database(_))
    }
}

impl From<jobs::Error> for Error {
    fn from(error: jobs::Error) -> Self {
        match error {
            jobs::Error::StaleFence => Self::StaleFence,
            jobs::Error::Postgres(error) => Self::Database(error),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid(invalid) => invalid.into(),
            Error::NotFound(noun) => Self::not_found(noun.reason(), noun.message()),
            Error::RequestIdReused => Self::already_exists(
                "REQUEST_ID_REUSED",
                "this request_id was used with another body; choose a new one for a new request",
            ),
            Error::InsufficientCredit { price } | Error::OtherMargin { price } => Self::precondition(
                "INSUFFICIENT_CREDIT",
                format!("this costs {price} credits, which the account does not have; add credits and try again"),
            )
            .and_metadata("price_micros", price.get().to_string()),
            Error::PriceAboveMax { price, max } => Self::precondition(
                "PRICE_ABOVE_MAX",
                format!("this costs up to {price} credits, and max_price_micros allows {max}; nothing was started"),
            )
            .and_metadata("price_micros", price.get().to_string()),
            Error::EndUserLimit { price, left: None } => Self::precondition(
                "END_USER_LIMIT",
                format!("this costs up to {price} credits, which is more than the end user's limit leaves; nothing was started"),
            )
            .and_metadata("price_micros", price.get().to_string()),
            Error::EndUserLimit { price, left: Some((limit, left)) } => {
                let left = left.max(Micros::ZERO);
                let message = format!(
                    "this costs up to {price} credits, and the end user has {left} left of a limit of {limit}; nothing was started"
                );
                Self::precondition("END_USER_LIMIT", message)
                    .and_metadata("price_micros", price.get().to_string())
                    .and_metadata("limit_micros", limit.get().to_string())
                    .and_metadata("left_micros", left.get().to_string())
            }
            Error::NegativeBalance => Self::precondition(
                "BALANCE_BELOW_ZERO",
                "the account has less than that available, and a balance never becomes negative; nothing was booked",
            ),
            Error::AccountConcurrency { max } => Self::exhausted(
                "ACCOUNT_CONCURRENCY",
                format!("the account has {max} open generations, which is its limit; wait for some to end"),
                RETRY_WHEN_FULL,
            )
            .and_metadata("limit", max.to_string()),
            Error::IllegalTransition { next } => Self::precondition(
                "ILLEGAL_TRANSITION",
                format!("{} cannot follow the state that the generation is in", next.as_str()),
            ),
            Error::NoTimeLeft => Self::precondition(
                "NO_TIME_LEFT",
                "the total deadline is nearer than what the model usually takes; nothing was ordered",
            ),
            Error::OutputMissing(MissingOutput { asset, why }) => {
                Self::precondition("ASSET_MISSING", format!("{why}; register it first. Nothing was charged"))
                    .and_metadata("asset", asset)
            }
            Error::NotUnconfirmed => Self::precondition(
                "NOT_UNCONFIRMED",
                "only a generation that waits as SUBMISSION_UNCONFIRMED can be resolved; read it again",
            ),
            Error::SecretUnreadable => Self::internal(error),
            Error::AnswerTooLarge { fits } => Self::precondition(
                "ANSWER_TOO_LARGE",
                format!("these generations are more than the 4 MiB of one answer, which takes the first {fits}; name fewer at once"),
            )
            .and_metadata("fits", fits.to_string()),
            Error::ChangedSince => Self::precondition(
                "GENERATION_CHANGED",
                "the generation changed since the filter chose it, and was left as it is; read it again",
            ),
            Error::NotTerminal => Self::precondition(
                "NOT_TERMINAL",
                "only a generation in a terminal state can be retried or deleted; wait for it or cancel it",
            ),
            Error::NotATake => Self::precondition(
                "NOT_A_TAKE",
                "only a COMPLETED generation of the scene can be its take; list the scene's generations and choose one of those",
            ),
            Error::EtagMismatch => {
                Self::aborted("ETAG_MISMATCH", "it was changed since it was read; read it again and repeat the change")
            }
            Error::TooManyEndpoints => Self::precondition(
                "TOO_MANY_WEBHOOK_ENDPOINTS",
                format!("an account has at most {MAX_ENDPOINTS} webhook endpoints; delete one first"),
            ),
            Error::EndpointDisabled => Self::precondition(
                "WEBHOOK_ENDPOINT_DISABLED",
                "nothing is sent to a disabled webhook endpoint; enable it first",
            ),
            Error::TooManyTests => Self::exhausted(
                "WEBHOOK_TEST_LIMIT",
                format!("an endpoint gets at most {MAX_TESTS} tests a minute; wait for the next"),
                TEST_WINDOW / 4,
            )
            .and_metadata("limit", MAX_TESTS.to_string()),
            Error::StaleFence => Self::aborted(
                "STALE_FENCE",
                "the lease was given to another worker or the work has ended; stop working on it",
            ),
            Error::VersionAhead { asked, newest } => Self::out_of_range(
                "VERSION_AHEAD",
                format!("min_version is {asked}, but the newest version is {newest}"),
            ),
            Error::ResumeToken => {
                Self::out_of_range("RESUME_TOKEN_EXPIRED", "the resume token cannot be used; watch again without one")
            }
            Error::Draining => Self::unavailable("DRAINING", "this process is about to end; ask again"),
            Error::Database(error) => error.into(),
            Error::Failed(failure) => failure,
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Failure::from(error).into()
    }
}
