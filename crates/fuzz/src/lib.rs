//! What strangers' bytes go through first, as functions that must hold for any bytes.
//!
//! Invariant: a target panics if and only if something is wrong with what it tries.

mod targets;

/// A target: its name, and what is done with some bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 12] = [
    ("pictures", targets::pictures),
    ("videos", targets::videos),
    ("media", targets::media),
    ("page_tokens", targets::page_tokens),
    ("resume_tokens", targets::resume_tokens),
    ("identities", targets::identities),
    ("webhook_signatures", targets::webhook_signatures),
    ("grpc_frames", targets::grpc_frames),
    ("grpc_web", targets::grpc_web),
    ("names", targets::names),
    ("catalogue", targets::catalogue),
    ("schemas", targets::schemas),
];

/// The target of this name.
#[must_use]
pub fn find(name: &str) -> Option<fn(&[u8])> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}
