//! The observer's question to every process, what it would serve of a key, and the answers.
//!
//! Nothing depends on an answer: one that does not come is one sample less.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures::StreamExt as _;

use tokio_util::sync::CancellationToken;

use super::probe_questions;
use crate::observer::Servable;
use coherence::BOUND;

/// The first byte of a question and of an answer.
const QUESTION: u8 = 3;
const ANSWER: u8 = 4;

/// How long answers are waited for.
const TIMEOUT: Duration = Duration::from_millis(500);

/// Asks every process that listens, this one included; returns what those would serve that answered in time.
pub(crate) async fn ask(client: &Client, space: &str, key: &str, version: i64) -> Vec<Option<Servable>> {
    let inbox = client.new_inbox();
    let Ok(mut replies) = client.subscribe(inbox.clone()).await else { return Vec::new() };
    let mut answers = Vec::new();
    let gather = async {
        client.publish_with_reply(probe_questions(space), inbox, encode_question(key, version)).await.ok()?;
        while let Some(reply) = replies.next().await {
            answers.extend(parse_answer(&reply.payload));
        }
        Some(())
    };
    // How many will answer is not known, so the timeout always ends this.
    let _ = tokio::time::timeout(TIMEOUT, gather).await;
    answers
}

/// Answers the questions of others with what `servable` returns for a key and a version, until `stop`.
pub(crate) async fn serve<Fut>(
    client: &Client,
    space: &str,
    stop: &CancellationToken,
    servable: impl Fn(Arc<str>, i64) -> Fut,
) where
    Fut: Future<Output = Option<Servable>>,
{
    let subject = probe_questions(space);
    while !stop.is_cancelled() {
        match client.subscribe(subject.clone()).await {
            Ok(mut questions) => loop {
                let question = tokio::select! {
                    () = stop.cancelled() => return,
                    question = questions.next() => question,
                };
                let Some(question) = question else { break };
                if let (Some((key, version)), Some(reply)) = (parse_question(&question.payload), question.reply) {
                    let answer = encode_answer(servable(key, version).await);
                    // An answer that is lost is one sample less.
                    let _ = client.publish(reply, answer).await;
                }
            },
            Err(_) => tokio::time::sleep(BOUND).await,
        }
    }
}

fn encode_question(key: &str, version: i64) -> Bytes {
    let mut out = BytesMut::with_capacity(9 + key.len());
    out.put_u8(QUESTION);
    out.put_i64(version);
    out.put_slice(key.as_bytes());
    out.freeze()
}

fn parse_question(mut from: &[u8]) -> Option<(Arc<str>, i64)> {
    if from.try_get_u8().ok()? != QUESTION {
        return None;
    }
    let version = from.try_get_i64().ok()?;
    Some((std::str::from_utf8(from).ok()?.into(), version))
}

fn encode_answer(servable: Option<Servable>) -> Bytes {
    let mut out = BytesMut::with_capacity(18);
    out.put_u8(ANSWER);
    if let Some(servable) = servable {
        out.put_u8(u8::from(servable.absent));
        out.put_i64(servable.version);
        out.put_u64(servable.content);
    }
    out.freeze()
}

/// Nothing if it is no answer; an answer may be that nothing would be served.
fn parse_answer(mut from: &[u8]) -> Option<Option<Servable>> {
    if from.try_get_u8().ok()? != ANSWER {
        return None;
    }
    if from.is_empty() {
        return Some(None);
    }
    let absent = from.try_get_u8().ok()? == 1;
    let (version, content) = (from.try_get_i64().ok()?, from.try_get_u64().ok()?);
    from.is_empty().then_some(Some(Servable { version, absent, content }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_decode_to_what_was_encoded() {
        assert_eq!(parse_question(&encode_question("gen:ä", -4)), Some(("gen:ä".into(), -4)));
        for servable in [None, Some(Servable::of(0, b"")), Some(Servable::of(7, b"body"))] {
            assert_eq!(parse_answer(&encode_answer(servable)), Some(servable));
        }
    }

    #[test]
    fn other_bytes_are_neither_a_question_nor_an_answer() {
        let whole = encode_answer(Some(Servable::of(7, b"body")));
        for end in 2..whole.len() {
            assert_eq!(parse_answer(&whole[..end]), None, "cut at {end}");
        }
        assert_eq!(parse_answer(b""), None, "the server's reply that nobody listens");
        assert_eq!(parse_question(&whole), None);
        assert_eq!(parse_answer(&encode_question("k", 1)), None);
    }
}
