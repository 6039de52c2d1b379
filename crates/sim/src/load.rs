//! The state of one in-flight load.

use coherence::in_flight::LoadId;
use coherence::read::Read;
use coherence::time::Mono;
use coherence::watermarks::Requirement;

use crate::body::Body;
use crate::checker::CheckedRead;
use crate::events::Role;
use crate::removable::Removable;

/// A load, and the readers that wait for it.
pub(crate) struct Load {
    pub(crate) process: usize,
    pub(crate) incarnation: u32,
    pub(crate) key: usize,
    pub(crate) id: LoadId,
    pub(crate) requirement: Requirement,
    pub(crate) started: Mono,
    pub(crate) read: Read<Body, Removable>,
    pub(crate) asked: Mono,
    pub(crate) readers: Vec<(CheckedRead, Role)>,
    pub(crate) finished: bool,
}
