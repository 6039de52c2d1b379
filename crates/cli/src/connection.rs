//! Where the gateway is, and who we are: the options that every client command has.

/// Where the gateway is, and who we are.
#[derive(Debug, clap::Args)]
pub struct Connection {
    /// The gateway, such as http://127.0.0.1:8080.
    #[arg(long, global = true, env = "RUSHES_ADDRESS", value_name = "URL")]
    pub(crate) address: Option<String>,
    /// The API key.
    #[arg(long, global = true, env = "RUSHES_API_KEY", value_name = "KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,
}
