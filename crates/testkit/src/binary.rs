//! Finding server programs on the machine: the PATH first, then the places where distributions put what they keep off it.

use std::path::{Path, PathBuf};

use crate::config;

/// Folders off the PATH that may hold a server; `*` stands for any one name, and the highest version wins.
const ELSEWHERE: &[&str] = &[
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/usr/sbin",
    "/usr/local/sbin",
    "/opt/homebrew/bin",
    "/usr/local/bin",
];

/// A program that is not on this machine.
#[derive(Debug, Clone)]
pub struct Missing {
    /// The program's name, such as `redis-server`.
    pub program: String,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is not installed (looked on the PATH and in {})", self.program, ELSEWHERE.join(", "))
    }
}

impl std::error::Error for Missing {}

/// The path of `program`, looked up on the PATH and then where packages put servers.
pub fn find(program: &str) -> Result<PathBuf, Missing> {
    config::path()
        .into_iter()
        .chain(ELSEWHERE.iter().flat_map(|pattern| folders(pattern)))
        .map(|folder| folder.join(program))
        .find(|path| is_executable(path))
        .ok_or_else(|| Missing { program: program.to_owned() })
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Expands the one `*` of `pattern`, highest version first (so 16 comes before 9).
fn folders(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else { return vec![PathBuf::from(pattern)] };
    let (folder, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = name.strip_prefix(prefix)?.split('.').next()?.parse().ok()?;
            Some((version, PathBuf::from(format!("{folder}/{name}{after}"))))
        })
        .collect();
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_missing_program_is_named() {
        let error = super::find("no-such-server").unwrap_err();
        assert!(error.to_string().starts_with("no-such-server is not installed"));
    }

    #[test]
    fn a_shell_is_found() {
        assert!(super::find("sh").unwrap().is_absolute());
    }
}
