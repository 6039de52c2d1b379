//! Files of made videos as they are fetched.

use std::time::{Duration, Instant};

use provider_double::{Event, Protocol};

use crate::client::{BOTH, Client};

/// SHA-256 of the order's video, by the bill.
fn sha256(client: &Client, id: &str) -> Option<String> {
    client.bill(Some(id)).into_iter().find(|line| line.event == Event::Charged).unwrap().sha256
}

fn hash(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(bytes))
}

#[tokio::test]
async fn videos_of_three_formats_are_delivered_and_each_order_has_its_own() {
    let client = Client::plain().await;
    for protocol in BOTH {
        for (word, content_type, at, beginning) in [
            ("", "video/mp4", 4, &b"ftypisom"[..]),
            ("[file-mov]", "video/quicktime", 4, b"ftypqt  "),
            ("[file-webm]", "video/webm", 0, b"\x1A\x45\xDF\xA3"),
        ] {
            let (id, url) = client.file(protocol, word).await;
            let file = client.get(&url).await;
            assert_eq!((file.status, file.header("content-type")), (Some(200), content_type), "{url}");
            assert!(file.whole && file.body[at..].starts_with(beginning), "{url}");
            assert_eq!(sha256(&client, &id), Some(hash(&file.body)));
            assert_ne!(client.get(&client.file(protocol, word).await.1).await.body, file.body);
            if at == 4 {
                assert_eq!(re_mp4::Mp4::read_bytes(&file.body).unwrap().tracks().len(), 1);
            }
            assert!(client.faults(&id).iter().all(|(_, hopeless)| !hopeless));
        }
    }
}

#[tokio::test]
async fn what_is_no_video_stays_none_and_is_charged() {
    let client = Client::start(|settings| settings.huge_bytes = 3_000_000).await;
    for protocol in BOTH {
        for (word, content_type, beginning, length) in [
            ("file-gif", "image/gif", &b"GIF89a"[..], 35..100),
            ("file-webp", "image/webp", b"RIFF", 100..10_000),
            ("file-html", "text/html", b"<!DOCTYPE html>", 20..1_000),
            ("file-empty", "video/mp4", b"", 0..1),
            ("file-huge", "video/mp4", b"\0\0\0 ftyp", 3_000_000..3_000_001),
            ("file-truncated", "video/mp4", b"\0\0\0 ftyp", 7_000..7_900),
        ] {
            let (id, url) = client.file(protocol, &format!("[{word}]")).await;
            for _ in 0..2 {
                let file = client.get(&url).await;
                assert_eq!((file.status, file.header("content-type")), (Some(200), content_type), "{word}");
                assert!(file.whole && file.body.starts_with(beginning) && length.contains(&file.body.len()), "{word}");
                assert!(re_mp4::Mp4::read_bytes(&file.body).is_err() || word == "file-huge", "{word}");
            }
            assert_eq!(client.events(&id), [Event::Ordered, Event::Charged], "{word}");
            assert_eq!(client.faults(&id), [(word.to_owned(), true)]);
        }
    }
}

#[tokio::test]
async fn a_body_ends_half_way_and_comes_whole_the_next_time() {
    let client = Client::plain().await;
    for (word, announced) in [("[file-short]", true), ("[file-cut]", false)] {
        let (id, url) = client.file(Protocol::Fal, word).await;
        let half = client.get(&url).await;
        assert_eq!((half.status, half.headers.contains_key("content-length")), (Some(200), announced), "{word}");
        assert!(!half.whole && (3_000..5_000).contains(&half.body.len()), "{word}: {} bytes", half.body.len());
        let whole = client.get(&url).await;
        assert!(whole.whole, "{word}");
        assert_eq!(sha256(&client, &id), Some(hash(&whole.body)));
        assert_eq!(client.faults(&id), [(word.trim_matches(['[', ']']).to_owned(), false)]);

        let (id, url) = client.file(Protocol::Replicate, &word.replace(']', ":ever]")).await;
        for _ in 0..3 {
            assert!(!client.get(&url).await.whole, "{word}");
        }
        assert!(client.faults(&id)[0].1, "{word}");
    }
}

#[tokio::test]
async fn a_fetch_is_refused_once_a_few_times_or_for_ever() {
    let client = Client::plain().await;
    for protocol in BOTH {
        for status in [403, 404, 408, 429, 500] {
            for (times, expected) in
                [("", [status, 200, 200, 200]), (":2", [status, status, 200, 200]), (":ever", [status; 4])]
            {
                let (id, url) = client.file(protocol, &format!("[file-{status}{times}]")).await;
                let mut seen = Vec::new();
                for _ in 0..4 {
                    seen.push(client.get(&url).await.status.unwrap());
                }
                assert_eq!(seen, expected, "{protocol:?} {status}{times}");
                assert_eq!(client.faults(&id), [(format!("file-{status}"), times == ":ever")]);
            }
        }
    }
}

#[tokio::test]
async fn redirects_lead_to_the_file_or_inward() {
    let client = Client::plain().await;
    let (id, url) = client.file(Protocol::Replicate, "[file-moved]").await;
    let moved = client.get(&url).await;
    assert_eq!(moved.status, Some(302));
    let file = client.get(moved.header("location")).await;
    assert_eq!((file.status, sha256(&client, &id)), (Some(200), Some(hash(&file.body))));
    assert_eq!(client.faults(&id), [("file-moved".to_owned(), false)]);

    let (id, url) = client.file(Protocol::Fal, "[file-moved-inward]").await;
    let moved = client.get(&url).await;
    assert_eq!((moved.status, moved.header("location")), (Some(302), "http://localhost:1/videos/private.mp4"));
    assert_eq!(client.faults(&id), [("file-moved-inward".to_owned(), true)]);
}

#[tokio::test]
async fn addresses_lead_nowhere() {
    let client = Client::plain().await;
    for word in ["file-unreachable", "file-unnamed", "file-untrusted"] {
        for protocol in BOTH {
            let (id, url) = client.file(protocol, &format!("[{word}]")).await;
            assert_eq!(client.get(&url).await.status, None, "{url}");
            assert_eq!(client.faults(&id), [(word.to_owned(), true)]);
        }
    }
}

#[tokio::test]
async fn a_slow_file_comes_a_byte_at_a_time() {
    let client = Client::start(|settings| settings.drip_ms = 20).await;
    let (_, url) = client.file(Protocol::Fal, "[file-slow:1]").await;
    let begun = Instant::now();
    let slow = tokio::time::timeout(Duration::from_millis(500), client.get(&url)).await;
    assert!(slow.is_err(), "8,000 bytes take over two minutes; it took {:?}", begun.elapsed());
    assert!(client.get(&url).await.whole);
}
