//! Own writes, from one command to the next: the tokens of what was written in the last seconds, kept in files.
//!
//! A command sends those that it finds, so that what an earlier one wrote shows at whichever server answers. The token of a reply
//! demands all that was sent, so it takes the place of what was; each has a file of its own, so that commands which run beside one
//! another lose nothing. Invariant: nothing here fails a command. Without a place for files, or with one that cannot be written,
//! what was written shows within a second all the same.

use std::convert::Infallible;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use chassis::{client::Channel, request::token};
use http::{HeaderValue, Request, Response};
use tonic::body::Body;
use tower::Service;

/// Where the tokens of one account at one gateway are.
#[derive(Clone, Debug)]
pub(crate) struct OwnWrites(Option<Arc<Path>>);

impl OwnWrites {
    /// Those of the account with this key at this address.
    pub(crate) fn of(address: &str, key: &str) -> Self {
        let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let state = state.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")));
        let whose = BuildHasherDefault::<DefaultHasher>::default().hash_one((address, key));
        Self(state.map(|state| state.join("rushes/own-writes").join(format!("{whose:016x}")).into()))
    }

    /// The tokens that are still of use, the newest first, with their files. What is of none is removed.
    fn kept(&self) -> Vec<(PathBuf, HeaderValue)> {
        let Some(files) = self.0.as_ref().and_then(|folder| std::fs::read_dir(folder).ok()) else { return Vec::new() };
        let mut kept = Vec::new();
        for file in files.flatten() {
            let age = file.metadata().and_then(|data| data.modified()).ok().and_then(|at| at.elapsed().ok());
            let path = file.path();
            let token = std::fs::read(&path).ok().and_then(|token| HeaderValue::from_bytes(&token).ok());
            match (age.filter(|age| *age < token::LIFETIME), token) {
                (Some(age), Some(token)) if !token.is_empty() => kept.push((age, path, token)),
                _ => drop(std::fs::remove_file(path)),
            }
        }
        kept.sort_unstable_by_key(|(age, ..)| *age);
        kept.truncate(token::MAX_PER_REQUEST);
        kept.into_iter().map(|(_, path, token)| (path, token)).collect()
    }

    /// Keeps a reply's token in place of those which its request carried.
    fn keep(&self, token: &HeaderValue, sent: &[PathBuf]) -> std::io::Result<()> {
        let Some(folder) = &self.0 else { return Ok(()) };
        std::fs::create_dir_all(folder)?;
        let nanos = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
        let name = format!("{nanos}-{}", std::process::id());
        // Not seen by others until it is whole.
        let unfinished = folder.with_extension(&name);
        std::fs::write(&unfinished, token.as_bytes())?;
        std::fs::rename(unfinished, folder.join(name))?;
        for file in sent {
            let _ = std::fs::remove_file(file);
        }
        Ok(())
    }
}

/// A channel whose calls carry the tokens and keep those of the replies.
#[derive(Clone, Debug)]
pub(crate) struct Remembering {
    pub(crate) channel: Channel,
    pub(crate) own_writes: OwnWrites,
}

impl Service<Request<Body>> for Remembering {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let (sent, tokens): (Vec<_>, Vec<_>) = self.own_writes.kept().into_iter().unzip();
        for token in tokens {
            request.headers_mut().append(token::HEADER, token);
        }
        let (answer, own_writes) = (self.channel.call(request), self.own_writes.clone());
        Box::pin(async move {
            let response = answer.await?;
            if let Some(token) = response.headers().get(token::HEADER)
                && let Err(error) = own_writes.keep(token, &sent)
            {
                tracing::debug!(%error, "a token is not kept");
            }
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_two_commands_wrote_side_by_side_is_kept_and_what_a_third_was_answered_takes_its_place() {
        let folder = std::env::temp_dir().join(format!("rushes-own-writes-{}", std::process::id()));
        let own = OwnWrites(Some(folder.clone().into()));
        let token = HeaderValue::from_static;
        let kept = || own.kept().into_iter().map(|(_, token)| token).collect::<Vec<_>>();
        assert!(kept().is_empty());
        own.keep(&token("Zmlyc3Q"), &[]).unwrap();
        own.keep(&token("c2Vjb25k"), &[]).unwrap();
        let mut both = kept();
        both.sort();
        assert_eq!(both, [token("Zmlyc3Q"), token("c2Vjb25k")]);

        let sent: Vec<_> = own.kept().into_iter().map(|(path, _)| path).collect();
        own.keep(&token("Ym90aA"), &sent).unwrap();
        assert_eq!(kept(), [token("Ym90aA")]);

        let (path, _) = own.kept().remove(0);
        let old = SystemTime::now() - token::LIFETIME - Duration::from_secs(1);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        assert!(kept().is_empty() && !path.exists(), "after some seconds it is of no use");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn accounts_and_gateways_are_kept_apart() {
        let place = |address, key| OwnWrites::of(address, key).0;
        assert_eq!(place("a", "k"), place("a", "k"));
        assert!(place("a", "k").is_none() || place("a", "k") != place("b", "k") && place("a", "k") != place("a", "l"));
    }
}
