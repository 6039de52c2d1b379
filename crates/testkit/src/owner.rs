//! The user that PostgreSQL runs as when we are root, since it refuses to run as root.

use std::path::Path;

use anyhow::{Context, Result};

/// A user and its group, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Owner {
    /// `None` when this process is an ordinary user; else the user `postgres`, or `nobody` where there is none.
    pub(crate) fn other_than_root() -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let users =
            std::fs::read_to_string("/etc/passwd").context("reading /etc/passwd for a user to run PostgreSQL as")?;
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| Self::named(&users, name))
            .map(Some)
            .context("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")
    }

    fn named(users: &str, name: &str) -> Option<Self> {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == name).then_some(())?;
            let (uid, gid) = (fields.nth(1)?, fields.next()?);
            Some(Self { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
        })
    }

    /// Whether this user can reach what lies in `folder`: every ancestor must let others pass.
    pub(crate) fn can_reach(folder: &Path) -> bool {
        use std::os::unix::fs::PermissionsExt;
        folder
            .ancestors()
            .skip(1)
            .all(|ancestor| ancestor.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0))
    }
}

#[cfg(test)]
mod tests {
    use super::Owner;

    #[test]
    fn a_user_is_read_from_passwd() {
        let users = "root:x:0:0:root:/root:/bin/sh\npostgres:x:102:110::/var/lib/postgresql:/bin/bash\n";
        assert_eq!(Owner::named(users, "postgres"), Some(Owner { uid: 102, gid: 110 }));
        assert_eq!(Owner::named(users, "nobody"), None);
    }
}
