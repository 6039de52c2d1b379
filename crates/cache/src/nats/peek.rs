//! The observer's question to every process: what would it serve of a key?
//!
//! Nothing rests on an answer that does not come: it is one sample less.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures::StreamExt as _;

use super::peek_questions;
use crate::inner::Inner;
use crate::observer::peek::{self, Holds};
use coherence::BOUND;

/// The first byte of a question and of an answer.
const QUESTION: u8 = 3;
const ANSWER: u8 = 4;

/// How long answers are waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// Asks every process that listens, this one included; what those would serve that answered in time.
pub(crate) async fn ask(client: &Client, space: &str, key: &str, version: i64) -> Vec<Option<Holds>> {
    let inbox = client.new_inbox();
    let Ok(mut replies) = client.subscribe(inbox.clone()).await else { return Vec::new() };
    let mut answers = Vec::new();
    let gather = async {
        client.publish_with_reply(peek_questions(space), inbox, question(key, version)).await.ok()?;
        while let Some(reply) = replies.next().await {
            answers.extend(read_answer(&reply.payload));
        }
        Some(())
    };
    // There is no telling how many will answer.
    let _ = tokio::time::timeout(PATIENCE, gather).await;
    answers
}

/// Answers others until the cache is closed.
pub(crate) async fn answer(inner: Arc<Inner>, client: Client) {
    let subject = peek_questions(&inner.settings.space);
    while !inner.stop.is_cancelled() {
        match client.subscribe(subject.clone()).await {
            Ok(mut questions) => loop {
                let question = tokio::select! {
                    () = inner.stop.cancelled() => return,
                    question = questions.next() => question,
                };
                let Some(question) = question else { break };
                if let (Some((key, version)), Some(reply)) = (read_question(&question.payload), question.reply) {
                    let holds = peek::answer(&inner, &key, version).await;
                    // An answer that is lost is one sample less.
                    let _ = client.publish(reply, written(holds)).await;
                }
            },
            Err(_) => tokio::time::sleep(BOUND).await,
        }
    }
}

fn question(key: &str, version: i64) -> Bytes {
    let mut out = BytesMut::with_capacity(9 + key.len());
    out.put_u8(QUESTION);
    out.put_i64(version);
    out.put_slice(key.as_bytes());
    out.freeze()
}

fn read_question(mut from: &[u8]) -> Option<(Arc<str>, i64)> {
    if from.try_get_u8().ok()? != QUESTION {
        return None;
    }
    let version = from.try_get_i64().ok()?;
    Some((std::str::from_utf8(from).ok()?.into(), version))
}

fn written(holds: Option<Holds>) -> Bytes {
    let mut out = BytesMut::with_capacity(18);
    out.put_u8(ANSWER);
    if let Some(holds) = holds {
        out.put_u8(u8::from(holds.absent));
        out.put_i64(holds.version);
        out.put_u64(holds.content);
    }
    out.freeze()
}

/// Nothing if it is no answer; an answer may be that nothing would be served.
fn read_answer(mut from: &[u8]) -> Option<Option<Holds>> {
    if from.try_get_u8().ok()? != ANSWER {
        return None;
    }
    if from.is_empty() {
        return Some(None);
    }
    let absent = from.try_get_u8().ok()? == 1;
    let (version, content) = (from.try_get_i64().ok()?, from.try_get_u64().ok()?);
    from.is_empty().then_some(Some(Holds { version, absent, content }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_come_back_as_they_went() {
        assert_eq!(read_question(&question("gen:ä", -4)), Some(("gen:ä".into(), -4)));
        for holds in [None, Some(Holds::of(0, b"")), Some(Holds::of(7, b"body"))] {
            assert_eq!(read_answer(&written(holds)), Some(holds));
        }
    }

    #[test]
    fn what_is_neither_is_passed_over() {
        let whole = written(Some(Holds::of(7, b"body")));
        for end in 2..whole.len() {
            assert_eq!(read_answer(&whole[..end]), None, "cut at {end}");
        }
        assert_eq!(read_answer(b""), None, "the server's word that nobody listens");
        assert_eq!(read_question(&whole), None);
        assert_eq!(read_answer(&question("k", 1)), None);
    }
}
