//! Where the services' own ports are, and what opens them, as operators' commands are told.

/// Where the services are and what they believe, when it is not the local stack.
#[derive(Debug, clap::Args)]
pub struct Internal {
    /// The dashboard service's port for internal methods.
    #[arg(long, env = "RUSHES_DASHBOARD_INTERNAL_URL", value_name = "URL")]
    dashboard_internal_url: Option<String>,
    /// The generation-status service's port for public methods.
    #[arg(long, env = "RUSHES_GENERATION_STATUS_URL", value_name = "URL")]
    generation_status_url: Option<String>,
    /// The generation-status service's port for internal methods.
    #[arg(long, env = "RUSHES_GENERATION_STATUS_INTERNAL_URL", value_name = "URL")]
    generation_status_internal_url: Option<String>,
    /// The generation-worker service's port for internal methods.
    #[arg(long, env = "RUSHES_GENERATION_WORKER_INTERNAL_URL", value_name = "URL")]
    generation_worker_internal_url: Option<String>,
    /// The keys that the services share.
    #[arg(long, env = "RUSHES_INTERNAL_KEYS", value_name = "KEYS", hide_env_values = true)]
    internal_keys: Option<String>,
}

impl Internal {
    /// A service's port for public methods, as far as that was said.
    pub(crate) fn public_url(&self, service: &str) -> Option<&str> {
        let url = if service == "generation-status" { &self.generation_status_url } else { &None };
        url.as_deref()
    }

    /// A service's port for internal methods, as far as that was said.
    pub(crate) fn internal_url(&self, service: &str) -> Option<&str> {
        let url = match service {
            "dashboard" => &self.dashboard_internal_url,
            "generation-status" => &self.generation_status_internal_url,
            "generation-worker" => &self.generation_worker_internal_url,
            _ => &None,
        };
        url.as_deref()
    }

    /// The keys that the services share, as far as they were said.
    pub(crate) fn keys(&self) -> Option<&str> {
        self.internal_keys.as_deref()
    }
}
