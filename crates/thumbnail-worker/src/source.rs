//! A file that is read in places: bytes in memory, or a file on disk of which only a window lies in memory.
//!
//! Invariant: a walk that goes forward reads no more than the file has and one window, however many places it looks at.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// The longest piece that is read at once, in bytes.
pub(crate) const WINDOW: usize = 64 << 10;

/// Bytes that can be read at any place.
pub trait Source: Send + Sync {
    /// Its length in bytes.
    fn length(&self) -> u64;

    /// Reads into `into` from the place `at` on, as much as there is and fits; says how much that was.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize>;
}

impl<S: Source + ?Sized> Source for &S {
    fn length(&self) -> u64 {
        (**self).length()
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        (**self).read_at(at, into)
    }
}

impl Source for [u8] {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(at).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

impl Source for Vec<u8> {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        self[..].read_at(at, into)
    }
}

/// A file on disk, whose length is known and does not change.
#[derive(Debug)]
pub(crate) struct OnDisk {
    file: File,
    length: u64,
}

impl OnDisk {
    pub(crate) fn new(file: File, length: u64) -> Self {
        Self { file, length }
    }
}

impl Source for OnDisk {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut count = 0;
        while count < into.len() {
            match self.file.read_at(&mut into[count..], at.saturating_add(count as u64)) {
                Ok(0) => break,
                Ok(read) => count += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }
}

/// The part of a source that lies in memory at the moment.
pub(crate) struct Window<'a> {
    source: &'a dyn Source,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    pub(crate) fn new(source: &'a dyn Source) -> Self {
        Self { source, start: 0, bytes: Vec::new() }
    }

    /// The source's length in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.source.length()
    }

    /// The `count` bytes at `at`, at most [`WINDOW`]; fewer where the source ends.
    pub(crate) fn get(&mut self, at: u64, count: usize) -> io::Result<&[u8]> {
        let end = at.saturating_add(count as u64).min(self.length());
        if at >= end {
            return Ok(&[]);
        }
        if at < self.start || end > self.start + self.bytes.len() as u64 {
            self.bytes.resize(WINDOW, 0);
            let read = self.source.read_at(at, &mut self.bytes)?;
            self.bytes.truncate(read);
            self.start = at;
        }
        let from = usize::try_from(at - self.start).unwrap_or(usize::MAX);
        let to = from.saturating_add(count).min(self.bytes.len());
        Ok(self.bytes.get(from..to).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_shows_every_place() {
        let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        let slice = &bytes[..];
        let mut window = Window::new(&slice);
        for (at, count, seen) in [
            (0, 16, 16),
            (65_530, 16, 16),
            (199_990, 16, 10),
            (200_000, 16, 0),
            (u64::MAX, 16, 0),
            // Back again.
            (3, 5, 5),
        ] {
            let from = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
            assert_eq!(window.get(at, count).unwrap(), &bytes[from..from + seen], "{at}");
        }
    }
}
