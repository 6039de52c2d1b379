//! Reading an object that is a file.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt as _, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures::{Stream, stream};

/// The length of a piece: each takes a thread for a moment, and the library's own have 8 KiB.
const PIECE: u64 = 128 << 10;

/// The bytes of `range` of a file, which has at least so many.
pub(super) fn pieces(file: File, range: Range<u64>) -> impl Stream<Item = object_store::Result<Bytes>> + Send {
    stream::try_unfold((Arc::new(file), range), |(file, Range { start, end })| async move {
        let length = usize::try_from(end.saturating_sub(start).min(PIECE)).unwrap_or_default();
        if length == 0 {
            return Ok(None);
        }
        let source = Arc::clone(&file);
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = BytesMut::zeroed(length);
            source.read_exact_at(&mut piece, start).map(|()| piece.freeze())
        });
        let failed = |error| object_store::Error::Generic { store: "file", source: Box::new(error) };
        let piece = read.await.map_err(io::Error::other).flatten().map_err(failed)?;
        Ok(Some((piece, (file, start + length as u64..end))))
    })
}
