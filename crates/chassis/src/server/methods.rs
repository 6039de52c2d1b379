//! The methods of a server: which there are, how long a call of each may take, and what each is called in spans and metrics.
//!
//! Invariant: a path that is no method of the server has no name of its own there, since anyone may send any path.

use std::{collections::HashMap, sync::Arc, time::Duration};

use crate::admission;

/// What every path that is no method is called, by OpenTelemetry's conventions.
pub(super) const UNKNOWN: &str = "_OTHER";

/// How long a method may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// The deadline of a call that brings none; `None`: it has none.
    pub default: Option<Duration>,
    /// The longest deadline that a call may have; `None`: whatever it brings.
    pub longest: Option<Duration>,
}

impl Timeouts {
    /// No deadline but the client's own, for streams that last as long as both sides want.
    pub const NONE: Self = Self { default: None, longest: None };

    /// Whether a call lasts as long as both sides want.
    pub(super) fn is_endless(self) -> bool {
        self.longest.is_none()
    }
}

impl Default for Timeouts {
    /// 2 s, and at most 10 s.
    fn default() -> Self {
        Self { default: Some(Duration::from_secs(2)), longest: Some(Duration::from_secs(10)) }
    }
}

/// One method, or all paths that are none.
#[derive(Clone, Debug)]
pub(super) struct Method {
    /// `package.Service/Method`.
    pub(super) name: Arc<str>,
    pub(super) timeouts: Timeouts,
    /// The largest message in bytes, decompressed; `None`: the server passes messages on without reading them.
    pub(super) max_message: Option<u64>,
    /// How many hundredths of the places may be taken when a call of it comes.
    pub(super) places: u32,
    /// Whom it is answered; `None`: whoever reaches the port.
    pub(super) access: Option<Access>,
}

/// Whom a method is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Keys with this scope, at the public door.
    Scope(&'static str),
    /// These services, at the internal door.
    Services(&'static [&'static str]),
}

/// The methods of a server by path, `/package.Service/Method`.
#[derive(Clone, Debug)]
pub(super) struct Methods {
    known: HashMap<String, Method>,
    unknown: Method,
}

impl Methods {
    /// The methods at `paths`, and those that have timeouts of their own; `limits` has the largest message of each, `places` the
    /// methods that may not have all places.
    pub(super) fn new(
        paths: impl IntoIterator<Item = String>,
        default: Timeouts,
        own: HashMap<String, Timeouts>,
        limits: &HashMap<&str, u64>,
        places: &HashMap<&str, u32>,
    ) -> Self {
        let paths = paths.into_iter().map(|path| (path, default)).chain(own);
        let known = paths.map(|(path, timeouts)| {
            let name = path.trim_start_matches('/').into();
            let max_message = limits.get(path.as_str()).copied();
            let places = places.get(path.as_str()).copied().unwrap_or(admission::ALL);
            (path, Method { name, timeouts, max_message, places, access: None })
        });
        let (name, places) = (UNKNOWN.into(), admission::ALL);
        let unknown = Method { name, timeouts: default, max_message: None, places, access: None };
        Self { known: known.collect(), unknown }
    }

    /// Those of one door: the methods that `access` has, and probes, which are answered to all. Any other is not known there.
    pub(super) fn behind(&self, access: &HashMap<&'static str, Access>, is_probe: impl Fn(&str) -> bool) -> Self {
        let here = self.known.iter().filter_map(|(path, method)| {
            let access = access.get(path.as_str()).copied();
            (access.is_some() || is_probe(path)).then(|| (path.clone(), Method { access, ..method.clone() }))
        });
        Self { known: here.collect(), unknown: self.unknown.clone() }
    }

    /// The method at a path.
    pub(super) fn at(&self, path: &str) -> &Method {
        self.known.get(path).unwrap_or(&self.unknown)
    }
}
