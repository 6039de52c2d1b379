//! Polls, ends and outputs as they should not be, in both protocols.

use provider_double::{Event, Protocol};
use serde_json::{Value, json};

use crate::client::{BOTH, Client};

/// The statuses of so many polls.
async fn polls(client: &Client, protocol: Protocol, id: &str, count: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..count {
        statuses.push(client.poll(protocol, id).await.status.unwrap());
    }
    statuses
}

#[tokio::test]
async fn polls_are_refused_as_often_as_the_word_says() {
    let client = Client::plain().await;
    for protocol in BOTH {
        for (word, expected) in [
            ("[poll-404]", [404, 404, 404, 200, 200]),
            ("[poll-404:1]", [404, 200, 200, 200, 200]),
            ("[poll-404-later]", [200, 404, 200, 200, 200]),
            ("[poll-404-later:4]", [200, 200, 200, 404, 200]),
            ("[poll-401:2]", [401, 401, 200, 200, 200]),
            ("[poll-410:ever]", [410; 5]),
        ] {
            let id = client.taken(protocol, word).await;
            assert_eq!(polls(&client, protocol, &id, 5).await, expected, "{word} {protocol:?}");
            let name = word.trim_matches(['[', ']']).split(':').next().unwrap();
            assert_eq!(client.faults(&id), [(name.to_owned(), word.ends_with(":ever]"))], "{word} {protocol:?}");
        }
    }
}

#[tokio::test]
async fn polls_are_answered_with_what_is_no_order_and_with_more_than_is_needed() {
    let client = Client::plain().await;
    for protocol in BOTH {
        let id = client.taken(protocol, "[poll-empty:1]").await;
        assert_eq!(client.poll(protocol, &id).await.json(), json!({}));
        assert!(client.poll(protocol, &id).await.json()["status"].is_string());

        let id = client.taken(protocol, "[poll-html:1]").await;
        let page = client.poll(protocol, &id).await;
        assert_eq!((page.status, page.header("content-type")), (Some(200), "text/html"));
        assert!(page.body.starts_with(b"<!DOCTYPE html>"));

        let id = client.taken(protocol, "[poll-long]").await;
        for _ in 0..2 {
            let long = client.result(protocol, &id).await;
            assert!(long.body.len() > 2 << 20, "{}", long.body.len());
            assert!(long.json()["logs"][0]["message"].is_string() || long.json()["logs"].is_string());
        }
        assert_eq!(client.faults(&id), [("poll-long".to_owned(), false)]);
    }
}

#[tokio::test]
async fn a_cancel_is_refused_as_a_poll_would_be_and_changes_nothing() {
    let client = Client::plain().await;
    for protocol in BOTH {
        for (word, status) in [("[poll-404:ever]", 404), ("[poll-401:ever]", 401), ("[poll-410:ever]", 410)] {
            let id = client.taken(protocol, &format!("[endless] {word}")).await;
            assert_eq!(client.cancel(protocol, &id).await.status, Some(status), "{word} {protocol:?}");
            assert_eq!(client.events(&id), [Event::Ordered]);
        }
        let id = client.taken(protocol, "[endless] [poll-401:1]").await;
        client.poll(protocol, &id).await;
        assert!(client.cancel(protocol, &id).await.status < Some(300));
        assert_eq!(client.events(&id), [Event::Ordered, Event::Stopped]);
    }
}

#[tokio::test]
async fn refusals_for_safety_have_many_words_and_shapes() {
    let client = Client::plain().await;
    for (word, by_replicate, by_fal) in [
        ("[unsafe]", json!("NSFW content detected"), "content_policy_violation"),
        ("[unsafe-list]", json!(["flagged as sensitive"]), "value_error"),
        ("[unsafe-object]", json!({"message": "content checker"}), "content_policy_violation"),
        ("[unsafe-moderated]", json!("moderated"), "moderated"),
        ("[unsafe-bare]", Value::Null, "moderation_blocked"),
    ] {
        let id = client.taken(Protocol::Replicate, word).await;
        let prediction = client.result(Protocol::Replicate, &id).await.json();
        assert_eq!(prediction["status"], "failed");
        let error = &prediction["error"];
        let (shape, text) = match &by_replicate {
            Value::Array(list) => (error.is_array(), list[0].as_str().unwrap()),
            Value::Object(fields) => (error.is_object(), fields["message"].as_str().unwrap()),
            Value::String(text) => (error.is_string(), text.as_str()),
            _ => (error.is_null(), ""),
        };
        assert!(shape && error.to_string().contains(text), "{word}: {error}");
        assert_eq!(client.events(&id), [Event::Ordered, Event::Failed]);

        let id = client.taken(Protocol::Fal, word).await;
        let result = client.result(Protocol::Fal, &id).await;
        assert_eq!(result.status, Some(422));
        assert!(result.json().to_string().contains(by_fal), "{word}: {}", result.json());
        assert_eq!(result.json()["detail"].is_null(), word == "[unsafe-bare]");
        assert_eq!(client.events(&id), [Event::Ordered, Event::Failed]);
    }
}

#[tokio::test]
async fn what_fails_is_charged_where_that_is_asked_for_and_no_documentation_says_otherwise() {
    let client = Client::plain().await;
    let free = [Event::Ordered, Event::Failed];
    let charged = [Event::Ordered, Event::Failed, Event::Charged];
    for (protocol, prompt, expected) in [
        (Protocol::Replicate, "[failed]", &free[..]),
        (Protocol::Replicate, "[failed] [charge-failed]", &charged),
        (Protocol::Replicate, "[unsafe] [charge-failed]", &charged),
        (Protocol::Fal, "[unsafe] [charge-failed]", &charged),
        (Protocol::Fal, "[failed] [charge-failed]", &free),
    ] {
        let id = client.taken(protocol, prompt).await;
        client.result(protocol, &id).await;
        assert_eq!(client.events(&id), expected, "{prompt} {protocol:?}");
        assert!(client.bill(Some(&id)).iter().all(|line| line.sha256.is_none()));
    }
}

#[tokio::test]
async fn the_output_lies_elsewhere() {
    let client = Client::plain().await;
    for (word, by_replicate, by_fal) in [
        ("[output-object]", "/video", "/output/video/url"),
        ("[output-list]", "/1", "/videos/1/url"),
        ("[output-data]", "", "/video/url"),
        ("[output-bare]", "/0", "/video"),
    ] {
        for protocol in BOTH {
            let (id, output) = client.output(protocol, word).await;
            let at = if protocol == Protocol::Replicate { by_replicate } else { by_fal };
            let url = output.pointer(at).and_then(Value::as_str).unwrap_or_else(|| panic!("{word}: {output}"));
            let beginning = if word == "[output-data]" { "data:video/mp4;base64,AAAA" } else { "http://127.0.0.1:" };
            assert!(url.starts_with(beginning), "{word}: {url}");
            assert_eq!(client.faults(&id), [(word.trim_matches(['[', ']']).to_owned(), true)]);
            assert_eq!(client.events(&id), [Event::Ordered, Event::Charged]);
        }
    }
    for protocol in BOTH {
        let (id, output) = client.output(protocol, "[output-none]").await;
        assert!(output.is_null() || output == json!({"seed": 1}), "{output}");
        assert_eq!(client.events(&id), [Event::Ordered, Event::Charged]);
    }
    let (_, list) = client.output(Protocol::Replicate, "[output-list]").await;
    let picture = client.get(list[0].as_str().unwrap()).await;
    assert_eq!((picture.status, picture.header("content-type")), (Some(200), "image/webp"));
}
