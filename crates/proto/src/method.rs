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

/// Who waits for the answer of a method, from the first to be served to the first to be shed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Somebody at a screen, or an order.
    People,
    /// A program that asks how things are, and asks again.
    Polls,
    /// Nobody at once: reports, long listings, work in bulk, tests.
    Background,
}

impl Class {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 3] = [Self::People, Self::Polls, Self::Background];

    /// The class's name in limits, metrics and errors.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::People => "people",
            Self::Polls => "polls",
            Self::Background => "background",
        }
    }
}

impl Class {
    /// How many hundredths of a service's places may be taken when a call of the class comes.
    #[must_use]
    pub const fn places(self) -> u32 {
        match self {
            Self::People => 100,
            Self::Polls => 75,
            Self::Background => 50,
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
    /// The services that may call it if it is internal, `operator` for the operators' commands.
    pub callers: &'static [&'static str],
    /// The largest request message in bytes: at the gateway as it comes, in the service decompressed.
    pub max_message_bytes: u64,
    /// The largest sum of all request messages in bytes.
    pub max_stream_bytes: u64,
    /// The longest deadline; `None`: the stream lasts as long as both sides want.
    pub max_timeout: Option<Duration>,
    /// By which rate its calls are limited, and when they are shed.
    pub class: Class,
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

/// Every service that `upstream` answers, as `package.Service`, internal ones included.
pub fn services(upstream: &str) -> impl Iterator<Item = &'static str> {
    let mut last = "";
    METHODS.iter().filter(move |method| method.upstream == upstream).filter_map(move |method| {
        // Sorted by path, the methods of a service stand together.
        let service = method.path.strip_prefix('/')?.split_once('/')?.0;
        (std::mem::replace(&mut last, service) != service).then_some(service)
    })
}

/// The largest request message of each method that `upstream` answers, as path and bytes.
pub fn message_limits(upstream: &str) -> impl Iterator<Item = (&'static str, u64)> {
    METHODS
        .iter()
        .filter(move |method| method.upstream == upstream)
        .map(|method| (method.path, method.max_message_bytes))
}

/// How many hundredths of its places `upstream` may have taken when a call of each of its methods comes, as path and hundredths.
pub fn places(upstream: &str) -> impl Iterator<Item = (&'static str, u32)> {
    METHODS.iter().filter(move |method| method.upstream == upstream).map(|method| (method.path, method.class.places()))
}

/// The scope that each public method of `upstream` asks of a caller's key, as path and name.
pub fn scopes(upstream: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let of = METHODS.iter().filter(move |method| method.upstream == upstream);
    of.filter_map(|method| Some((method.path, method.scope?.as_str())))
}

/// The services that may call each internal method of `upstream`, as path and names.
pub fn callers(upstream: &str) -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    let of = METHODS.iter().filter(move |method| method.upstream == upstream && method.scope.is_none());
    of.map(|method| (method.path, method.callers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_belongs_to_one_upstream_and_is_named_once() {
        let upstreams = ["dashboard", "gateway", "generation-status", "generation-worker", "thumbnail-worker"];
        let mut all: Vec<_> = upstreams.into_iter().flat_map(services).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count, "{all:?}");
        let listed = |method: &&Method| all.iter().any(|service| method.path.starts_with(&format!("/{service}/")));
        let stray: Vec<_> = METHODS.iter().filter(|method| !listed(method)).map(|method| method.path).collect();
        assert_eq!(stray, [""; 0]);
        assert_eq!(services("thumbnail-worker").collect::<Vec<_>>(), ["rushes.assets.v1.AssetService"]);
    }
}
