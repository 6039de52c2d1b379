//! An upload under way: takes its bytes, and is refused as soon as it is clear that it cannot become an asset.

use bytes::{Bytes, BytesMut};

use crate::error::Error;
use crate::memory_budget::{MemoryBudget, Reservation};
use crate::pictures::{Header, Limits, Refused};

/// An upload under way.
#[derive(Debug)]
pub(crate) struct Upload {
    limits: Limits,
    /// The size that the client stated; 0 when it stated none.
    stated: u64,
    bytes: BytesMut,
    /// Whether the header has been read and allowed.
    header_allowed: bool,
    reservation: Reservation,
}

impl Upload {
    /// Begins an upload with a stated size (0: not stated); its bytes are reserved in `memory`.
    ///
    /// # Errors
    /// When the size is not allowed, or `memory` has no room.
    pub(super) fn begin(stated: u64, limits: Limits, memory: &MemoryBudget) -> Result<Self, Error> {
        if stated > limits.bytes {
            return Err(Refused::TooManyBytes { bytes: stated, limit: limits.bytes }.into());
        }
        // Without a stated size the upload may become as long as the longest.
        let reservation = memory.try_reserve(if stated > 0 { stated } else { limits.bytes })?;
        let bytes = BytesMut::with_capacity(stated as usize);
        Ok(Self { limits, stated, bytes, header_allowed: false, reservation })
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// As soon as there are too many bytes, the first ones are of no known format, or the header states too large a picture.
    pub(crate) fn push(&mut self, chunk: &Bytes) -> Result<(), Error> {
        let length = self.bytes.len() as u64 + chunk.len() as u64;
        if self.stated > 0 && length > self.stated {
            let should = format!("must be the size; it states {} bytes, and more have come", self.stated);
            return Err(Error::schema("metadata.size_bytes", should));
        }
        if length > self.limits.bytes {
            return Err(Refused::TooManyBytes { bytes: length, limit: self.limits.bytes }.into());
        }
        self.bytes.extend_from_slice(chunk);
        // Twelve bytes tell the format; a header may take some more, and until then the file counts as truncated.
        if !self.header_allowed && self.bytes.len() >= 12 {
            match Header::read(&self.bytes, &self.limits) {
                Err(Refused::Truncated { .. }) => {}
                read => self.header_allowed = read.map(|_| true)?,
            }
        }
        Ok(())
    }

    /// The whole file, and the memory that it was given.
    pub(super) fn finish(self) -> Result<(Bytes, Reservation), Error> {
        if self.stated > 0 && self.stated != self.bytes.len() as u64 {
            let should =
                format!("must be the size; it states {} bytes, and {} have come", self.stated, self.bytes.len());
            return Err(Error::schema("metadata.size_bytes", should));
        }
        Ok((self.bytes.freeze(), self.reservation))
    }
}

/// A picture is refused only of an upload: what is stored already was taken once.
impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Self::invalid("chunk", refused.reason(), refused.to_string())
    }
}
