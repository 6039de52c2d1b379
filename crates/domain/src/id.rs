//! Typed ids. All are UUIDv7, so their order is the order of creation; a project's id cannot be passed for a scene's.

use std::fmt;

use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id, later than every one made before by this process.
            #[must_use]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Uuid {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    )+};
}

ids! {
    /// An account: who owns projects and credits.
    AccountId
    /// An API key of an account.
    ApiKeyId
    /// A project.
    ProjectId
    /// A scene of a project.
    SceneId
    /// A generation of a scene.
    GenerationId
    /// A notice to an account.
    NoticeId
    /// A line of the ledger.
    LedgerId
    /// A piece of durable work.
    JobId
    /// An address that an account's events are sent to.
    WebhookEndpointId
    /// One event for one endpoint.
    WebhookDeliveryId
    /// Someone for whom an account has generations made.
    EndUserId
    /// An entry of the audit log.
    AuditEntryId
}
