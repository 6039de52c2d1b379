//! The environment that testkit reads. `rushes test` starts one PostgreSQL and names it here, so that every test process
//! shares it; without it a test process starts its own.

/// The PostgreSQL server to make test databases on; its role must be allowed to create databases.
#[expect(clippy::disallowed_methods, reason = "a test's settings, and testkit knows no service's")]
pub(crate) fn database_url() -> Option<String> {
    std::env::var("RUSHES_DATABASE_URL").ok().filter(|url| !url.is_empty())
}

/// The directories to look for programs in, first match first.
pub(crate) fn path() -> Vec<std::path::PathBuf> {
    std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}
