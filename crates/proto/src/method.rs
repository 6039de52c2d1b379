//! What the gateway knows of a method before it has read a byte of the body. The rows come from the method options in
//! `/proto`; a method without a scope is internal.

use std::time::Duration;

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Any valid key that may read.
    Read,
    /// A key that may change projects, scenes and uploads.
    Write,
    /// A key that may start and cancel generations.
    Generate,
    /// A key of those who run Rushes, which reaches across accounts.
    Operate,
}

impl Scope {
    /// The scope's name in an API key.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Generate => "generate",
            Self::Operate => "operate",
        }
    }
}

/// One method of one service.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// `/package.Service/Method`.
    pub path: &'static str,
    /// The name of the service that answers.
    pub upstream: &'static str,
    /// Who may call it from outside; `None`: nobody.
    pub scope: Option<Scope>,
    /// The largest request message in bytes.
    pub max_message_bytes: u64,
    /// The largest sum of all request messages in bytes.
    pub max_stream_bytes: u64,
    /// The longest deadline; `None`: the stream lasts as long as both sides want.
    pub max_timeout: Option<Duration>,
    /// The client sends several messages.
    pub client_streaming: bool,
    /// The server sends several messages.
    pub server_streaming: bool,
}

include!(concat!(env!("OUT_DIR"), "/methods.rs"));

/// The method at a path, internal ones included.
#[must_use]
pub fn method(path: &str) -> Option<&'static Method> {
    METHODS.binary_search_by(|method| method.path.cmp(path)).ok().map(|at| &METHODS[at])
}
