//! An upload under way: takes its bytes, and is refused as soon as it is clear that it cannot become an asset.
//!
//! Invariant: bytes go to disk as they come, reserved in their account's share; in memory lies no more than a piece of them. Nothing of a
//! file but its first bytes is read here: the rest is a decoder's.

use std::mem;

use bytes::{Bytes, BytesMut};
use domain::id::AccountId;

use crate::decode_pool::Reason;
use crate::error::Error;
use crate::media::{self, Class, Type};
use crate::model::Usage;
use crate::pictures::{Limits, Refused};
use crate::scratch::{Scratch, Spool, Spooled};

/// What uploads are held against, and where they are kept; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) pictures: Limits,
    pub(crate) media: media::Limits,
    pub(crate) scratch: Scratch,
}

/// An upload under way.
#[derive(Debug)]
pub(crate) struct Upload {
    rules: Rules,
    account: AccountId,
    /// What the account had and may have when the upload began.
    usage: Usage,
    /// The size that the client stated; 0 when it stated none.
    stated: u64,
    body: Body,
}

#[derive(Debug)]
enum Body {
    /// The first bytes, as long as they do not tell the type.
    Head(BytesMut),
    File(Type, Box<Spool>),
}

impl Upload {
    /// Begins an upload of an account with a stated size (0: not stated).
    ///
    /// # Errors
    /// When no file may be so long, or the account has no room for it.
    pub(super) fn begin(account: AccountId, stated: u64, usage: Usage, rules: Rules) -> Result<Self, Error> {
        let limit = rules.pictures.bytes.max(rules.media.video_bytes).max(rules.media.sound_bytes);
        if stated > limit {
            return Err(media::Refused::LongerThanAny { bytes: stated, limit }.into());
        }
        usage.check(stated)?;
        Ok(Self { rules, account, usage, stated, body: Body::Head(BytesMut::new()) })
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// As soon as there are too many bytes, or the first ones are of no known type; or when there is no room.
    pub(crate) async fn push(&mut self, chunk: &Bytes) -> Result<(), Error> {
        let length = self.length() + chunk.len() as u64;
        if self.stated > 0 && length > self.stated {
            let should = format!("must be the size; it states {} bytes, and more have come", self.stated);
            return Err(Error::schema("metadata.size_bytes", should));
        }
        self.usage.check(length)?;
        match &mut self.body {
            Body::Head(head) => {
                head.extend_from_slice(chunk);
                if head.len() >= Type::SNIFFED {
                    let head = mem::take(head).freeze();
                    self.body = self.open(&head).await?;
                }
                Ok(())
            }
            Body::File(media_type, spool) => {
                self.rules.check_bytes(*media_type, length)?;
                spool.write(chunk).await
            }
        }
    }

    /// The body of an upload that begins with `head`, which tells its type.
    async fn open(&self, head: &Bytes) -> Result<Body, Error> {
        let media_type = Type::sniff(head).ok_or(media::Refused::UnknownFormat)?;
        self.rules.check_bytes(media_type, self.stated.max(head.len() as u64))?;
        let mut spool = self.rules.scratch.spool(Some(self.account)).await?;
        spool.write(head).await?;
        Ok(Body::File(media_type, Box::new(spool)))
    }

    fn length(&self) -> u64 {
        match &self.body {
            Body::Head(head) => head.len() as u64,
            Body::File(_, spool) => spool.length(),
        }
    }

    /// The whole file, and its type by its first bytes.
    pub(super) async fn finish(mut self) -> Result<(Type, Spooled), Error> {
        let length = self.length();
        if self.stated > 0 && self.stated != length {
            let should = format!("must be the size; it states {} bytes, and {length} have come", self.stated);
            return Err(Error::schema("metadata.size_bytes", should));
        }
        if let Body::Head(head) = &mut self.body {
            if head.is_empty() {
                return Err(Refused::Empty.into());
            }
            let head = mem::take(head).freeze();
            self.body = self.open(&head).await?;
        }
        match self.body {
            Body::File(media_type, spool) => Ok((media_type, spool.finish().await?)),
            Body::Head(_) => Err(media::Refused::UnknownFormat.into()),
        }
    }
}

impl Rules {
    /// Holds the length of a file, as much of it as has come, against the limit of its type.
    fn check_bytes(&self, media_type: Type, bytes: u64) -> Result<(), Error> {
        let limit = self.pictures.bytes;
        if media_type.class() == Class::Picture && bytes > limit {
            return Err(Refused::TooManyBytes { bytes, limit }.into());
        }
        Ok(self.media.check_bytes(media_type, bytes)?)
    }
}

/// A picture is refused only of an upload: what is stored already was taken once.
impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Self::invalid("chunk", refused.reason(), refused.to_string())
    }
}

/// A video or a sound is refused only of an upload.
impl From<media::Refused> for Error {
    fn from(refused: media::Refused) -> Self {
        Self::invalid("chunk", refused.reason(), refused.to_string())
    }
}

impl From<Reason> for Error {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Picture(refused) => refused.into(),
            Reason::Media(refused) => refused.into(),
            Reason::Video(missing) => Self::invalid("chunk", "MEDIA_DAMAGED", missing),
            Reason::Unreadable(detail) => Self::Scratch(std::io::Error::other(detail)),
        }
    }
}
