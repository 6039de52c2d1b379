//! What is made of kept bytes once and given to many: the gzip of an answer, or the event that all watchers of an account are sent.
//!
//! Invariant: what was made is kept with the bytes that it was made of, so no others can come to lie where those are, and where bytes
//! lie says which they are.

use std::io::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderMap;
use moka::future::Cache;

use crate::frames::PREFIX;

/// Shorter messages go as they are: they fit into a packet.
const MIN_COMPRESSED: usize = 1_024;
/// How much the compressed answers of a process, and what they were made of, take up in all.
const MAX_COMPRESSED: u64 = 16 << 20;
/// How long what nobody asks for is kept.
const IDLE: Duration = Duration::from_secs(30);

/// Bytes by the bytes that they are made of.
#[derive(Clone, Debug)]
pub struct Derived(Cache<(usize, usize), Pair>);

/// Both, since as long as the first are kept nothing else lies at their address.
#[derive(Clone, Debug)]
struct Pair {
    _of: Bytes,
    made: Bytes,
}

impl Derived {
    /// None yet, and later at most `max_bytes` together.
    #[must_use]
    pub fn new(max_bytes: u64) -> Self {
        let weigh = |key: &(usize, usize), pair: &Pair| u32::try_from(key.1 + pair.made.len()).unwrap_or(u32::MAX);
        Self(Cache::builder().max_capacity(max_bytes).weigher(weigh).time_to_idle(IDLE).build())
    }

    /// What `make` makes of these bytes: of the same ones, at the same address, once, however many ask.
    pub async fn of(&self, bytes: &Bytes, make: impl FnOnce(&Bytes) -> Bytes) -> Bytes {
        let made = async { Pair { made: make(bytes), _of: bytes.clone() } };
        self.0.get_with((bytes.as_ptr() as usize, bytes.len()), made).await.made
    }
}

/// How who asks says what it takes.
pub(super) const ACCEPTED: &str = "grpc-accept-encoding";

/// Whether who sent these headers takes messages in gzip.
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let listed =
        |value: &http::HeaderValue| value.to_str().is_ok_and(|all| all.split(',').any(|one| one.trim() == "gzip"));
    headers.get_all(ACCEPTED).iter().any(listed)
}

/// A message in gzip, with its prefix; nothing where that is not worth it.
pub(super) async fn gzip(message: &Bytes) -> Option<Bytes> {
    static COMPRESSED: LazyLock<Derived> = LazyLock::new(|| Derived::new(MAX_COMPRESSED));
    if message.len() < MIN_COMPRESSED {
        return None;
    }
    let frame = COMPRESSED.of(message, |message| compress(message)).await;
    (frame.len() < message.len()).then_some(frame)
}

fn compress(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX + message.len() / 2);
    frame.put_u8(1);
    frame.put_u32(0);
    let mut encoder = GzEncoder::new(frame.writer(), Compression::new(6));
    // Writing to memory does not fail; if it did, the frame would be no shorter than the message.
    let written = encoder.write_all(message).and_then(|()| encoder.finish());
    let Ok(mut frame) = written.map(bytes::buf::Writer::into_inner) else { return Bytes::copy_from_slice(message) };
    let length = u32::try_from(frame.len() - PREFIX).unwrap_or(u32::MAX);
    frame[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_made_of_bytes_is_given_to_all_who_have_them_and_to_nobody_else() {
        let derived = Derived::new(1 << 20);
        let bytes = Bytes::from(vec![7; 100]);
        let first = derived.of(&bytes, |bytes| bytes.to_vec().into()).await;
        let again = derived.of(&bytes.clone(), |_| unreachable!("it is made once")).await;
        assert_eq!((first.as_ptr(), &first), (again.as_ptr(), &bytes));
        // The same content elsewhere, or a part of it, is not the same.
        for other in [Bytes::from(vec![7; 100]), bytes.slice(1..), bytes.slice(..99)] {
            assert_eq!(derived.of(&other, |_| Bytes::from_static(b"other")).await, "other");
        }
    }

    #[tokio::test]
    async fn bytes_that_are_gone_leave_their_address_to_nobody() {
        let derived = Derived::new(1 << 20);
        for round in 0..100_u8 {
            // Without what was made keeping them, an allocator gives the next ones the same place.
            let bytes = Bytes::from(vec![round; 4_096]);
            assert_eq!(derived.of(&bytes, |bytes| Bytes::copy_from_slice(bytes)).await, bytes);
        }
    }

    #[tokio::test]
    async fn messages_are_compressed_once_if_that_makes_them_shorter() {
        let long = Bytes::from("a heron at dawn ".repeat(200));
        let frame = gzip(&long).await.unwrap();
        assert_eq!(frame.as_ptr(), gzip(&long).await.unwrap().as_ptr());
        assert_eq!((frame[0], frame.len() - PREFIX), (1, u32::from_be_bytes(frame[1..5].try_into().unwrap()) as usize));
        let mut plain = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&frame[PREFIX..]), &mut plain).unwrap();
        assert_eq!(plain, long);
        assert_eq!(gzip(&Bytes::from(vec![0; MIN_COMPRESSED - 1])).await, None);
        let noise: Bytes = (0..4_096).map(|_| fastrand::u8(..)).collect();
        assert_eq!(gzip(&noise).await, None);
    }

    #[test]
    fn who_takes_gzip_says_so() {
        let takes = |value: &'static str| {
            takes_gzip(&HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-accept-encoding"),
                http::HeaderValue::from_static(value),
            )]))
        };
        assert!(takes("gzip") && takes("identity, deflate, gzip") && takes("identity,gzip"));
        assert!(!takes("identity") && !takes("gzipped") && !takes_gzip(&HeaderMap::new()));
    }
}
