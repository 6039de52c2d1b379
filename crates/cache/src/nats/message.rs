//! The two messages as bytes: big-endian numbers, and texts behind their length.
//!
//! Invariant: what does not decode to its last byte is no message; a receiver treats it as one that was lost.

use std::sync::Arc;

use bytes::{Buf, BufMut as _, Bytes, BytesMut};

use coherence::time::PgTime;
use coherence::window::Notice;

/// The first byte: the form of what follows.
const MESSAGE: u8 = 1;
const HINT: u8 = 2;

/// The maximum of traces that one message names.
pub(crate) const MAX_TRACES: usize = 32;

/// What a relay publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) notice: Notice,
    pub(crate) changes: Vec<(Arc<str>, i64)>,
    /// The traceparents of the changes, at most [`TRACES`].
    pub(crate) traces: Vec<String>,
}

/// What a writer publishes: keys, and their versions where it knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hint {
    pub(crate) changes: Vec<(Arc<str>, Option<i64>)>,
}

impl Message {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64 + self.changes.len() * 96);
        out.put_u8(MESSAGE);
        out.put_i64(self.notice.epoch);
        out.put_i64(self.notice.seq);
        out.put_i64(self.notice.at.0);
        out.put_u8(u8::from(self.notice.data));
        out.put_u32(length(self.changes.len()));
        for (key, version) in &self.changes {
            put(&mut out, key);
            out.put_i64(*version);
        }
        out.put_u32(length(self.traces.len().min(MAX_TRACES)));
        for trace in self.traces.iter().take(MAX_TRACES) {
            put(&mut out, trace);
        }
        out.freeze()
    }

    pub(crate) fn decode(mut from: &[u8]) -> Option<Self> {
        if from.try_get_u8().ok()? != MESSAGE {
            return None;
        }
        let notice = Notice {
            epoch: from.try_get_i64().ok()?,
            seq: from.try_get_i64().ok()?,
            at: PgTime(from.try_get_i64().ok()?),
            data: from.try_get_u8().ok()? == 1,
        };
        let mut changes = Vec::new();
        for _ in 0..from.try_get_u32().ok()? {
            changes.push((take(&mut from)?.into(), from.try_get_i64().ok()?));
        }
        let mut traces = Vec::new();
        for _ in 0..from.try_get_u32().ok()? {
            traces.push(take(&mut from)?.to_owned());
        }
        from.is_empty().then_some(Self { notice, changes, traces })
    }
}

impl Hint {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(HINT);
        for (key, version) in &self.changes {
            put(&mut out, key);
            out.put_u8(u8::from(version.is_some()));
            out.put_i64(version.unwrap_or(0));
        }
        out.freeze()
    }

    pub(crate) fn decode(mut from: &[u8]) -> Option<Self> {
        if from.try_get_u8().ok()? != HINT {
            return None;
        }
        let mut changes = Vec::new();
        while !from.is_empty() {
            let key = take(&mut from)?.into();
            let known = from.try_get_u8().ok()? == 1;
            let version = from.try_get_i64().ok()?;
            changes.push((key, known.then_some(version)));
        }
        Some(Self { changes })
    }
}

fn put(out: &mut BytesMut, text: &str) {
    out.put_u32(length(text.len()));
    out.put_slice(text.as_bytes());
}

fn take<'a>(from: &mut &'a [u8]) -> Option<&'a str> {
    let length = usize::try_from(from.try_get_u32().ok()?).ok()?;
    let (text, rest) = from.split_at_checked(length)?;
    *from = rest;
    std::str::from_utf8(text).ok()
}

/// Counts and lengths here come from rows that PostgreSQL limits to far less.
fn length(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message {
            notice: Notice { epoch: -7, seq: 3, at: PgTime(1_700_000_000_000_000), data: true },
            changes: vec![("gen:a:b".into(), 9), ("dash:ä\n".into(), 0)],
            traces: vec!["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()],
        }
    }

    #[test]
    fn both_messages_decode_to_what_was_encoded() {
        assert_eq!(Message::decode(&message().encode()), Some(message()));
        let hint = Hint { changes: vec![("gen:a:b".into(), Some(4)), ("dash:a".into(), None)] };
        assert_eq!(Hint::decode(&hint.encode()), Some(hint));
    }

    #[test]
    fn a_message_that_is_cut_or_too_long_is_refused() {
        let whole = message().encode();
        for end in 0..whole.len() {
            assert_eq!(Message::decode(&whole[..end]), None, "cut at {end}");
        }
        let mut longer = whole.to_vec();
        longer.push(0);
        assert_eq!(Message::decode(&longer), None);
        assert_eq!(Hint::decode(&whole), None);
    }

    #[test]
    fn a_message_names_no_more_traces_than_the_maximum() {
        let many = Message { traces: vec!["t".into(); MAX_TRACES + 5], ..message() };
        assert_eq!(Message::decode(&many.encode()).unwrap().traces.len(), MAX_TRACES);
    }
}
