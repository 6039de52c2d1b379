//! The files of made videos as they are fetched: whole, or with the fault that was drawn.
//!
//! Invariant: no file is longer in memory than a real one; one that is too long is a piece that is sent again and again.

use bytes::Bytes;
use serde_json::Value;

use crate::kinds::{FileFault, Kind as _, Times};
use crate::order::Kind;
use crate::orders::Orders;
use crate::server::{FileBody, Reply};
use crate::video::{self, Format};

/// Answers a fetch of `name`. `moved`: the address is the one that a redirect led to.
pub(crate) fn reply(orders: &Orders, name: &str, moved: bool) -> Reply {
    if orders.chance().is_unavailable() {
        return Reply::Json(503, Value::Null);
    }
    let id = name.split('.').next().unwrap_or_default();
    let of_order = id.split('~').next().unwrap_or_default();
    let Some((order, number)) = orders.fetched(of_order) else { return whole(id, Format::Mp4) };
    let format = Format::of(&order);
    let due = order.fate.file.filter(|(_, times)| times.include(number));
    // Of a model that makes pictures a WebP is no fault.
    let due = due.filter(|(fault, _)| !(*fault == FileFault::Webp && order.kind == Kind::Image));
    let Some((fault, times)) = due.filter(|(fault, _)| !(moved && *fault == FileFault::Moved)) else {
        return whole(id, format);
    };
    orders.record_fault(of_order, fault.word(), times == Times::Ever && !fault.is_harmless());
    faulty(orders, id, fault, Format::usual(order.kind)).unwrap_or_else(|| whole(id, format))
}

fn whole(id: &str, format: Format) -> Reply {
    Reply::File(FileBody::whole(format.content_type(), video::bytes(id, format)))
}

/// What a fault makes of a file; nothing where it leaves it as it is.
fn faulty(orders: &Orders, id: &str, fault: FileFault, format: Format) -> Option<Reply> {
    let mp4 = format.content_type();
    let film = video::bytes(id, format);
    Some(match fault {
        FileFault::Html => Reply::Html(200),
        FileFault::Empty => Reply::File(FileBody::whole(mp4, Bytes::new())),
        FileFault::Truncated if format == Format::Mp4 => Reply::File(FileBody::whole(mp4, video::truncated(id))),
        FileFault::Truncated => Reply::File(FileBody::whole(mp4, film.slice(..film.len() / 2))),
        FileFault::Moved => Reply::Moved(format!("http://{}/moved/{id}.{}", orders.address(), format.extension())),
        FileFault::MovedInward => Reply::Moved("http://localhost:1/videos/private.mp4".to_owned()),
        FileFault::Status(403) => {
            let body = "<?xml version='1.0' encoding='UTF-8'?><Error><Code>AccessDenied</Code></Error>";
            Reply::Plain(403, body)
        }
        FileFault::Status(status) => Reply::Plain(status, ""),
        FileFault::Short | FileFault::Cut => {
            let length = (fault == FileFault::Short).then_some(film.len() as u64);
            let half = film.slice(..film.len() / 2);
            Reply::File(FileBody::sent(mp4, length, |pieces| async move {
                pieces.send(half).await;
                pieces.cut().await;
            }))
        }
        FileFault::Slow => {
            let pause = orders.drip();
            Reply::File(FileBody::sent(mp4, Some(film.len() as u64), move |pieces| async move {
                for at in 0..film.len() {
                    if !pieces.send(film.slice(at..=at)).await {
                        break;
                    }
                    tokio::time::sleep(pause).await;
                }
            }))
        }
        FileFault::Huge => {
            let length = orders.huge().max(film.len() as u64);
            let zeros = Bytes::from(vec![0; 64 << 10]);
            Reply::File(FileBody::sent(mp4, Some(length), move |pieces| async move {
                let mut left = length - film.len() as u64;
                let mut is_read = pieces.send(film).await;
                while is_read && left > 0 {
                    let piece = zeros.slice(..zeros.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
                    left -= piece.len() as u64;
                    is_read = pieces.send(piece).await;
                }
            }))
        }
        FileFault::Webm
        | FileFault::Mov
        | FileFault::Gif
        | FileFault::Webp
        | FileFault::Unreachable
        | FileFault::Unnamed
        | FileFault::Untrusted => return None,
    })
}
