//! What is asked of every connection: how it begins, and the settings of its session.
//!
//! Invariant: nothing that a pooler between us and PostgreSQL may refuse or drop is asked for at the start of a connection. Limits
//! and settings are set by a statement once it is up, so that they hold or the connection fails.

use std::{fmt::Write as _, str::FromStr as _, sync::Arc, time::Duration};

use sqlx::{AssertSqlSafe, PgConnection, postgres::PgConnectOptions};
use url::Url;

use super::Error;

/// How a URL's connections begin, and the settings that it names as `options[name]=value`.
pub(super) struct Session {
    pub(super) options: PgConnectOptions,
    settings: Vec<(String, String)>,
}

impl Session {
    /// Reads a URL.
    pub(super) fn of(url: &str) -> Result<Self, Error> {
        let mut settings = Vec::new();
        let url = match Url::parse(url) {
            Ok(mut parsed) if parsed.query().is_some_and(|query| query.contains("options")) => {
                let (named, others): (Vec<_>, Vec<_>) =
                    parsed.query_pairs().into_owned().partition(|(name, _)| setting(name).is_some());
                settings
                    .extend(named.into_iter().filter_map(|(name, value)| Some((setting(&name)?.to_owned(), value))));
                parsed.query_pairs_mut().clear().extend_pairs(others);
                parsed.to_string()
            }
            _ => url.to_owned(),
        };
        let options = PgConnectOptions::from_str(&url).map_err(Error::url)?;
        // PgBouncer refuses it; numbers come in binary, and in text PostgreSQL writes all their digits since version 12.
        Ok(Self { options: options.extra_float_digits(None), settings })
    }

    /// The statement that sets up a session whose statements, and whose idle transactions, last at most `timeout`, and which may write
    /// rows of all accounts until a transaction says that it is one account's.
    pub(super) fn set_up(&self, timeout: Duration) -> Arc<str> {
        let milliseconds = timeout.as_millis();
        let mut set = format!(
            "set statement_timeout = {milliseconds}; set idle_in_transaction_session_timeout = {milliseconds}; \
             set rushes.account = 'any'"
        );
        for (name, value) in &self.settings {
            // The name is made of letters and underscores, see `setting`.
            let _ = write!(set, "; set {name} = '{}'", value.replace('\'', "''"));
        }
        set.into()
    }
}

/// The setting that a parameter of a URL names.
fn setting(parameter: &str) -> Option<&str> {
    let name = parameter.strip_prefix("options[")?.strip_suffix(']')?;
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '_' | '.'));
    plain.then_some(name)
}

/// Sets up a session that has just begun.
pub(super) async fn set_up(connection: &mut PgConnection, statement: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statement.to_string())).execute(connection).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_url_are_set_by_a_statement() {
        let url = "postgres://u:p@h/d?sslmode=prefer&options[plan_cache_mode]=it's&options[enable_seqscan]=off";
        let session = Session::of(url).unwrap();
        assert_eq!(session.options.get_options(), None);
        assert_eq!(
            &*session.set_up(Duration::from_secs(2)),
            "set statement_timeout = 2000; set idle_in_transaction_session_timeout = 2000; set rushes.account = 'any'; \
             set plan_cache_mode = 'it''s'; set enable_seqscan = 'off'"
        );
        for odd in ["options[a;drop table x]=1", "options[]=1"] {
            assert!(Session::of(&format!("postgres://h/d?{odd}")).unwrap().settings.is_empty(), "{odd}");
        }
        assert!(matches!(Session::of("postgres//u:hunter2@h"), Err(Error::Url)));
    }
}
