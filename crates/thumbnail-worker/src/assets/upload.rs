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
    /// The length at which the header is read next; nothing once it has been allowed.
    header_at: Option<usize>,
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
        // Twelve bytes tell the format.
        Ok(Self { limits, stated, bytes, header_at: Some(12), reservation })
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
        // A header may take some more, and until then the file counts as truncated. It is read from its beginning again each time the
        // file has doubled, and not with each chunk: so a header that never ends costs what its bytes cost.
        if self.header_at.is_some_and(|at| self.bytes.len() >= at) {
            self.header_at = match Header::read(&self.bytes, &self.limits) {
                Err(Refused::Truncated { .. }) => Some(self.bytes.len() * 2),
                read => read.map(|_| None)?,
            };
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_header_that_never_ends_costs_what_its_bytes_cost() {
        let memory = MemoryBudget::new(64 << 20);
        let mut upload = Upload::begin(0, Limits::default(), &memory).unwrap();
        upload.push(&Bytes::from_static(&[0xFF, 0xD8, 0xFF, 0xE0, 0x00, 0x02])).unwrap();
        upload.push(&vec![0; 4 << 20].into()).unwrap();
        let started = Instant::now();
        for _ in 0..5_000 {
            upload.push(&Bytes::from_static(&[0])).unwrap();
        }
        // Read with each chunk this would be 20 GB.
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    }
}
