//! The service of each public method, from the table that the protos carry.
//!
//! Invariant: a method that the table does not make public is not here, and so does not exist for the outside.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use chassis::client::Channel;
use proto::{Method, Scope};

/// The upstream of the methods that the gateway answers itself.
const HERE: &str = "gateway";

/// One public method and who answers it.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) method: &'static Method,
    pub(crate) scope: Scope,
    /// The service that answers it; `None`: the gateway itself.
    pub(crate) channel: Option<Channel>,
}

/// All public methods by path.
#[derive(Clone, Debug)]
pub(crate) struct Routes(Arc<HashMap<&'static str, Route>>);

impl Routes {
    /// The public methods, with one channel for each upstream from `connect`, and one for its watches, which `connect` is told.
    ///
    /// # Panics
    /// When the table names an upstream that `connect` does not know: the table and this program do not fit together.
    pub(crate) fn new(connect: impl Fn(&str, bool) -> Option<Channel>) -> Self {
        let mut channels: HashMap<(&'static str, bool), Channel> = HashMap::new();
        let mut routes = HashMap::new();
        for method in proto::METHODS {
            let Some(scope) = method.scope else { continue };
            let mut channel = |upstream, is_watch| {
                let connect =
                    || connect(upstream, is_watch).unwrap_or_else(|| panic!("no upstream is called {upstream}"));
                channels.entry((upstream, is_watch)).or_insert_with(connect).clone()
            };
            let channel = (method.upstream != HERE).then(|| channel(method.upstream, method.max_timeout.is_none()));
            routes.insert(method.path, Route { method, scope, channel });
        }
        Self(Arc::new(routes))
    }

    /// The route of `/package.Service/Method`.
    pub(crate) fn find(&self, path: &str) -> Option<&Route> {
        self.0.get(path)
    }

    /// Every public method.
    pub(crate) fn methods(&self) -> impl Iterator<Item = &'static Method> {
        self.0.values().map(|route| route.method)
    }

    /// Every service with a public method, as `package.Service`.
    pub(crate) fn services(&self) -> BTreeSet<&'static str> {
        self.methods().filter_map(|method| Some(method.path.strip_prefix('/')?.split_once('/')?.0)).collect()
    }
}
