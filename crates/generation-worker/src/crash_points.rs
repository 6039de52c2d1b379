//! Crash points of this service; each is reached right after the effect that it is named for.

pub use chassis::crash::{
    BYTES_STORED, CANCEL_SENT, COMPLETION_ANSWERED, FAILURE_ANSWERED, FINALIZING_ANSWERED, INTENT_ANSWERED,
    ORDER_ANSWERED, PROVIDER_POLLED, REFERENCE_ANSWERED, SUSPENSION_ANSWERED, WORK_TAKEN,
};
