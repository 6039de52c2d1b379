//! Polls, ends and outputs as they should not be, in both protocols.

use provider_double::Event;
use serde_json::{Value, json};

use crate::client::{BOTH, Client, Side};

/// The statuses of so many polls.
async fn polls(client: &Client, side: Side, id: &str, count: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..count {
        statuses.push(client.poll(side, id).await.status.unwrap());
    }
    statuses
}

#[tokio::test]
async fn polls_are_refused_as_often_as_the_word_says() {
    let client = Client::plain().await;
    for side in BOTH {
        for (word, expected) in [
            ("[poll-404]", [404, 404, 404, 200, 200]),
            ("[poll-404:1]", [404, 200, 200, 200, 200]),
            ("[poll-404-later]", [200, 404, 200, 200, 200]),
            ("[poll-404-later:4]", [200, 200, 200, 404, 200]),
            ("[poll-401:2]", [401, 401, 200, 200, 200]),
            ("[poll-410:ever]", [410; 5]),
        ] {
            let id = client.taken(side, word).await;
            assert_eq!(polls(&client, side, &id, 5).await, expected, "{word} {side:?}");
            let name = word.trim_matches(['[', ']']).split(':').next().unwrap();
            assert_eq!(client.faults(&id), [(name.to_owned(), word.ends_with(":ever]"))], "{word} {side:?}");
        }
    }
}

#[tokio::test]
async fn polls_are_answered_with_what_is_no_order_and_with_more_than_is_needed() {
    let client = Client::plain().await;
    for side in BOTH {
        let id = client.taken(side, "[poll-empty:1]").await;
        assert_eq!(client.poll(side, &id).await.json(), json!({}));
        assert!(client.poll(side, &id).await.json()["status"].is_string());

        let id = client.taken(side, "[poll-html:1]").await;
        let page = client.poll(side, &id).await;
        assert_eq!((page.status, page.header("content-type")), (Some(200), "text/html"));
        assert!(page.body.starts_with(b"<!DOCTYPE html>"));

        let id = client.taken(side, "[poll-long]").await;
        for _ in 0..2 {
            let long = client.result(side, &id).await;
            assert!(long.body.len() > 2 << 20, "{}", long.body.len());
            assert!(long.json()["logs"][0]["message"].is_string() || long.json()["logs"].is_string());
        }
        assert_eq!(client.faults(&id), [("poll-long".to_owned(), false)]);
    }
}

#[tokio::test]
async fn a_cancel_is_refused_as_a_poll_would_be_and_changes_nothing() {
    let client = Client::plain().await;
    for side in BOTH {
        for (word, status) in [("[poll-404:ever]", 404), ("[poll-401:ever]", 401), ("[poll-410:ever]", 410)] {
            let id = client.taken(side, &format!("[endless] {word}")).await;
            assert_eq!(client.cancel(side, &id).await.status, Some(status), "{word} {side:?}");
            assert_eq!(client.events(&id), [Event::Ordered]);
        }
        let id = client.taken(side, "[endless] [poll-401:1]").await;
        client.poll(side, &id).await;
        assert!(client.cancel(side, &id).await.status < Some(300));
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
        let id = client.taken(Side::Replicate, word).await;
        let prediction = client.result(Side::Replicate, &id).await.json();
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

        let id = client.taken(Side::Fal, word).await;
        let result = client.result(Side::Fal, &id).await;
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
    for (side, prompt, expected) in [
        (Side::Replicate, "[failed]", &free[..]),
        (Side::Replicate, "[failed] [charge-failed]", &charged),
        (Side::Replicate, "[unsafe] [charge-failed]", &charged),
        (Side::Fal, "[unsafe] [charge-failed]", &charged),
        (Side::Fal, "[failed] [charge-failed]", &free),
    ] {
        let id = client.taken(side, prompt).await;
        client.result(side, &id).await;
        assert_eq!(client.events(&id), expected, "{prompt} {side:?}");
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
        for side in BOTH {
            let (id, output) = client.output(side, word).await;
            let at = if side == Side::Replicate { by_replicate } else { by_fal };
            let url = output.pointer(at).and_then(Value::as_str).unwrap_or_else(|| panic!("{word}: {output}"));
            let beginning = if word == "[output-data]" { "data:video/mp4;base64,AAAA" } else { "http://127.0.0.1:" };
            assert!(url.starts_with(beginning), "{word}: {url}");
            assert_eq!(client.faults(&id), [(word.trim_matches(['[', ']']).to_owned(), true)]);
            assert_eq!(client.events(&id), [Event::Ordered, Event::Charged]);
        }
    }
    for side in BOTH {
        let (id, output) = client.output(side, "[output-none]").await;
        assert!(output.is_null() || output == json!({"seed": 1}), "{output}");
        assert_eq!(client.events(&id), [Event::Ordered, Event::Charged]);
    }
    let (_, list) = client.output(Side::Replicate, "[output-list]").await;
    let picture = client.get(list[0].as_str().unwrap()).await;
    assert_eq!((picture.status, picture.header("content-type")), (Some(200), "image/webp"));
}
