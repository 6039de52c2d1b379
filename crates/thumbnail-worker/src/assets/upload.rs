//! An upload under way: takes its bytes, and is refused as soon as it is clear that it cannot become an asset.
//!
//! Invariant: a picture is kept in memory, as long as its limit allows; a video or a sound goes to disk. Both are reserved before.

use std::mem;

use bytes::{Bytes, BytesMut};

use crate::byte_budget::{ByteBudget, Reservation};
use crate::error::Error;
use crate::media::{self, Type};
use crate::pictures::{Header, Limits, Refused};
use crate::scratch::{Scratch, Spool, Spooled};

/// What uploads are held against, and where they are kept; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) pictures: Limits,
    pub(crate) media: media::Limits,
    pub(crate) memory: ByteBudget,
    pub(crate) scratch: Scratch,
}

/// An upload under way.
#[derive(Debug)]
pub(crate) struct Upload {
    rules: Rules,
    /// The size that the client stated; 0 when it stated none.
    stated: u64,
    body: Body,
}

#[derive(Debug)]
enum Body {
    /// The first bytes, as long as they do not tell the type.
    Head(BytesMut),
    Picture(Picture),
    File(Type, Spool),
}

/// A picture under way.
#[derive(Debug)]
struct Picture {
    bytes: BytesMut,
    /// The length at which the header is read next; nothing once it has been allowed.
    header_at: Option<usize>,
    reservation: Reservation,
}

/// An upload that has come whole.
pub(super) enum Finished {
    /// A picture, and the memory that it was given.
    Picture(Bytes, Reservation),
    /// A video or a sound.
    File(Type, Spooled),
}

impl Upload {
    /// Begins an upload with a stated size (0: not stated).
    ///
    /// # Errors
    /// When no file may be so long.
    pub(super) fn begin(stated: u64, rules: Rules) -> Result<Self, Error> {
        let limit = rules.pictures.bytes.max(rules.media.video_bytes).max(rules.media.sound_bytes);
        if stated > limit {
            return Err(media::Refused::LongerThanAny { bytes: stated, limit }.into());
        }
        Ok(Self { rules, stated, body: Body::Head(BytesMut::new()) })
    }

    /// Whether its bytes go to disk: then it may take its time.
    pub(crate) fn is_on_disk(&self) -> bool {
        matches!(self.body, Body::File(..))
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// As soon as there are too many bytes, the first ones are of no known type, or a picture's header states too large a one; or when
    /// there is no room.
    pub(crate) async fn push(&mut self, chunk: &Bytes) -> Result<(), Error> {
        let length = self.length() + chunk.len() as u64;
        if self.stated > 0 && length > self.stated {
            let should = format!("must be the size; it states {} bytes, and more have come", self.stated);
            return Err(Error::schema("metadata.size_bytes", should));
        }
        match &mut self.body {
            Body::Head(head) => {
                head.extend_from_slice(chunk);
                if head.len() >= Type::SNIFFED {
                    let head = mem::take(head).freeze();
                    self.body = self.open(&head).await?;
                }
                Ok(())
            }
            Body::Picture(picture) => picture.push(chunk, &self.rules.pictures),
            Body::File(media_type, spool) => {
                self.rules.media.check_bytes(*media_type, length)?;
                spool.write(chunk).await
            }
        }
    }

    /// The body of an upload that begins with `head`, which tells its type.
    async fn open(&self, head: &Bytes) -> Result<Body, Error> {
        let media_type = Type::sniff(head).ok_or(media::Refused::UnknownFormat)?;
        let Rules { pictures, media, memory, scratch } = &self.rules;
        let Some(limit) = media.bytes_of(media_type) else {
            let mut picture = Picture::begin(self.stated, pictures, memory)?;
            picture.push(head, pictures)?;
            return Ok(Body::Picture(picture));
        };
        media.check_bytes(media_type, self.stated.max(head.len() as u64))?;
        // Without a stated size the upload may become as long as the longest.
        let mut spool = scratch.spool(if self.stated > 0 { self.stated } else { limit }).await?;
        spool.write(head).await?;
        Ok(Body::File(media_type, spool))
    }

    fn length(&self) -> u64 {
        match &self.body {
            Body::Head(head) => head.len() as u64,
            Body::Picture(picture) => picture.bytes.len() as u64,
            Body::File(_, spool) => spool.length(),
        }
    }

    /// The whole file.
    pub(super) async fn finish(mut self) -> Result<Finished, Error> {
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
            Body::Picture(Picture { bytes, reservation, .. }) => Ok(Finished::Picture(bytes.freeze(), reservation)),
            Body::File(media_type, spool) => Ok(Finished::File(media_type, spool.finish().await?)),
            Body::Head(_) => Err(media::Refused::UnknownFormat.into()),
        }
    }
}

impl Picture {
    fn begin(stated: u64, limits: &Limits, memory: &ByteBudget) -> Result<Self, Error> {
        if stated > limits.bytes {
            return Err(Refused::TooManyBytes { bytes: stated, limit: limits.bytes }.into());
        }
        // Without a stated size the upload may become as long as the longest.
        let reservation = memory.try_reserve(if stated > 0 { stated } else { limits.bytes })?;
        let bytes = BytesMut::with_capacity(stated as usize);
        Ok(Self { bytes, header_at: Some(Type::SNIFFED), reservation })
    }

    fn push(&mut self, chunk: &Bytes, limits: &Limits) -> Result<(), Error> {
        let length = self.bytes.len() as u64 + chunk.len() as u64;
        if length > limits.bytes {
            return Err(Refused::TooManyBytes { bytes: length, limit: limits.bytes }.into());
        }
        self.bytes.extend_from_slice(chunk);
        // A header may take some more, and until then the file counts as truncated. It is read from its beginning again each time the
        // file has doubled, and not with each chunk: so a header that never ends costs what its bytes cost.
        if self.header_at.is_some_and(|at| self.bytes.len() >= at) {
            self.header_at = match Header::read(&self.bytes, limits) {
                Err(Refused::Truncated { .. }) => Some(self.bytes.len() * 2),
                read => read.map(|_| None)?,
            };
        }
        Ok(())
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

impl From<media::Error> for Error {
    fn from(error: media::Error) -> Self {
        match error {
            media::Error::Refused(refused) => refused.into(),
            media::Error::Io(error) => Self::Scratch(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[tokio::test]
    async fn a_header_that_never_ends_costs_what_its_bytes_cost() {
        let memory = ByteBudget::new(64 << 20, || {});
        let scratch = Scratch { directory: std::env::temp_dir(), budget: memory.clone() };
        let rules = Rules { pictures: Limits::default(), media: media::Limits::default(), memory, scratch };
        let mut upload = Upload::begin(0, rules).unwrap();
        upload.push(&Bytes::from_static(&[0xFF, 0xD8, 0xFF, 0xE0, 0x00, 0x02])).await.unwrap();
        upload.push(&vec![0; 4 << 20].into()).await.unwrap();
        let started = Instant::now();
        for _ in 0..5_000 {
            upload.push(&Bytes::from_static(&[0])).await.unwrap();
        }
        // Read with each chunk this would be 20 GB.
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    }
}
