//! The question for PostgreSQL's clock, from a process that has no database to one that has.
//!
//! It is sound because the bounds compose: the answerer's upper bound, plus all the time since the question was sent, is an
//! upper bound here. The arrival time of relay messages would not be sound: a late message would make its proof look young.

use std::sync::Arc;

use async_nats::Client;
use bytes::{Buf as _, BufMut as _, BytesMut};
use futures::StreamExt as _;

use super::clock_questions;
use crate::inner::Inner;
use coherence::BOUND;
use coherence::time::PgTime;

/// The processes that answer share one queue: one answer to a question is enough.
const QUEUE: &str = "clock";

/// Asks one time; nothing when nobody answers in time.
pub(crate) async fn ask(client: &Client, space: &str) -> Option<(PgTime, PgTime)> {
    let asked = client.request(clock_questions(space), bytes::Bytes::new());
    let answer = tokio::time::timeout(BOUND, asked).await.ok()?.ok()?;
    let mut payload = &answer.payload[..];
    let bounds = (PgTime(payload.try_get_i64().ok()?), PgTime(payload.try_get_i64().ok()?));
    payload.is_empty().then_some(bounds)
}

/// Answers the questions of others until the cache is closed.
pub(crate) async fn serve(inner: Arc<Inner>, client: Client) {
    let subject = clock_questions(&inner.settings.space);
    while !inner.stop.is_cancelled() {
        match client.queue_subscribe(subject.clone(), QUEUE.to_owned()).await {
            Ok(mut questions) => loop {
                let question = tokio::select! {
                    () = inner.stop.cancelled() => return,
                    question = questions.next() => question,
                };
                let Some(question) = question else { break };
                let bounds = inner.view().clock.bounds(inner.now());
                if let (Some((lower, upper)), Some(reply)) = (bounds, question.reply) {
                    let mut bytes = BytesMut::with_capacity(16);
                    bytes.put_i64(lower.0);
                    bytes.put_i64(upper.0);
                    // An answer that is lost is asked for again.
                    let _ = client.publish(reply, bytes.freeze()).await;
                }
            },
            Err(_) => tokio::time::sleep(BOUND).await,
        }
    }
}
