//! Requests for orders that are refused, cut or not answered, in both protocols.

use provider_double::{Event, Faults, Outage, OutageKind, Protocol};
use serde_json::json;

use crate::client::{BOTH, Client, until};

#[tokio::test]
async fn each_refusal_has_the_status_and_the_words_of_the_real_one() {
    let client = Client::plain().await;
    for (word, status, by_replicate, by_fal) in [
        ("[refused-401]", 401, "You did not pass a valid authentication token", "No user found for Key ID and Secret"),
        ("[refused-402]", 402, "You have insufficient credit", "Insufficient balance"),
        ("[refused-403]", 403, "Your account has been disabled", "User is locked. Reason: Exhausted balance"),
        ("[refused-404]", 404, "The requested resource could not be found.", "Application not found"),
        ("[refused-503]", 503, "", "No runner could be allocated"),
        ("[throttled]", 429, "Request was throttled", "concurrent requests limit"),
    ] {
        for protocol in BOTH {
            let answer = client.order(protocol, word).await;
            assert_eq!(answer.status, Some(status), "{word} {protocol:?}");
            let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
            assert!(detail.starts_with(if protocol == Protocol::Replicate { by_replicate } else { "" }), "{detail}");
            assert!(detail.contains(if protocol == Protocol::Fal { by_fal } else { "" }), "{detail}");
            assert_eq!(answer.header("retry-after"), if status == 429 { "1" } else { "" });
        }
    }
    assert_eq!(client.order(Protocol::Replicate, "[refused-402]").await.json()["title"], "Insufficient credit");
    assert!(client.bill(None).is_empty(), "what is refused is on no bill");
}

#[tokio::test]
async fn what_is_cut_before_is_not_ordered_and_what_is_cut_after_is() {
    let client = Client::plain().await;
    for protocol in BOTH {
        for (word, status, taken) in
            [("[cut-before]", None, 0), ("[cut-after]", None, 1), ("[error-after]", Some(502), 1)]
        {
            let before = client.bill(None).iter().filter(|line| line.event == Event::Ordered).count();
            assert_eq!(client.order(protocol, word).await.status, status, "{word} {protocol:?}");
            let ordered = client.bill(None).iter().filter(|line| line.event == Event::Ordered).count();
            assert_eq!(ordered - before, taken, "{word} {protocol:?}");
        }
    }
    let words: Vec<_> = client.bill(None).into_iter().filter_map(|line| line.fault).collect();
    assert_eq!(words, ["cut-after", "error-after", "cut-after", "error-after"]);
}

#[tokio::test]
async fn a_strict_model_refuses_a_field_that_it_does_not_have_replicate_at_once_and_fal_at_the_result() {
    for strict in [true, false] {
        let client = Client::start(|settings| settings.strict = strict).await;
        let prompt = if strict { "a harbour" } else { "a harbour [strict]" };
        let stray = json!({"prompt": prompt, "seed": 7});
        let refused = client.order_input(Protocol::Replicate, stray.clone()).await;
        assert_eq!(refused.status, Some(422));
        assert_eq!(refused.json()["detail"], "- input: Additional property seed is not allowed\n");
        assert!(client.bill(None).is_empty());

        let answer = client.order_input(Protocol::Fal, stray).await;
        assert_eq!(answer.status, Some(200));
        let id = answer.json()["request_id"].as_str().unwrap().to_owned();
        let result = client.result(Protocol::Fal, &id).await;
        assert_eq!((result.status, &result.json()["detail"][0]["loc"]), (Some(422), &json!(["body", "seed"])));
        assert_eq!(client.events(&id), [Event::Ordered, Event::Failed]);

        for protocol in BOTH {
            let id = client.taken(protocol, prompt).await;
            assert_eq!(client.result(protocol, &id).await.status, Some(200), "{protocol:?}");
        }
    }
    let client = Client::plain().await;
    assert_eq!(
        client.order_input(Protocol::Replicate, json!({"prompt": "a harbour", "seed": 7})).await.status,
        Some(201)
    );
}

#[tokio::test]
async fn only_the_models_that_there_are_can_be_ordered_from() {
    let client = Client::start(|settings| settings.models = vec!["acme/another".to_owned()]).await;
    for protocol in BOTH {
        assert_eq!(client.order(protocol, "a harbour").await.status, Some(404), "{protocol:?}");
    }
    let there = Client::start(|settings| settings.models = vec!["acme/video".into(), "fal-ai/video/text".into()]).await;
    for protocol in BOTH {
        assert!(there.order(protocol, "a harbour").await.status < Some(300), "{protocol:?}");
    }
}

#[tokio::test]
async fn faults_are_changed_while_it_runs() {
    let client = Client::plain().await;
    let id = client.taken(Protocol::Fal, "a harbour").await;
    let away = Faults { outage: 1.0, ..Faults::default() };
    assert_eq!(client.post("/double/faults", &json!({"outage": 1.0})).await.json(), json!(away));
    for protocol in BOTH {
        assert!(client.order(protocol, "a harbour").await.status >= Some(500), "{protocol:?}");
    }
    assert!(client.poll(Protocol::Fal, &id).await.status >= Some(500));
    assert!(client.cancel(Protocol::Fal, &id).await.status >= Some(500));
    assert_eq!(client.post("/double/faults", &json!({"outrage": 1.0})).await.status, Some(422));
    assert_eq!(client.get(&client.url("/double/faults")).await.json(), json!(away));
    assert_eq!(client.post("/double/faults", &json!({})).await.status, Some(200));
    assert_eq!(client.poll(Protocol::Fal, &id).await.status, Some(200));
    assert_eq!(client.bill(None).iter().filter(|line| line.event == Event::Ordered).count(), 1);
}

/// The status of an order in each protocol.
async fn statuses(client: &Client) -> [Option<u16>; 2] {
    [client.order(Protocol::Replicate, "a harbour").await.status, client.order(Protocol::Fal, "a harbour").await.status]
}

#[tokio::test]
async fn an_outage_is_a_window_of_time_and_of_one_provider_or_both() {
    let well = [Some(201), Some(200)];
    for (outage, during) in [
        (json!({"kind": "locked", "for_ms": 1_500}), [Some(402), Some(403)]),
        (json!({"kind": "revoked", "for_ms": 1_500, "protocol": "fal"}), [Some(201), Some(401)]),
        (json!([{"kind": "throttled", "for_ms": 1_500, "protocol": "replicate"}]), [Some(429), Some(200)]),
    ] {
        let client = Client::plain().await;
        assert_eq!(statuses(&client).await, well);
        assert_eq!(client.post("/double/outages", &outage).await.status, Some(200));
        assert_eq!(statuses(&client).await, during, "{outage}");
        until("it is over", async || statuses(&client).await == well).await;
    }
    let planned = Outage {
        kind: OutageKind::Errors,
        after_ms: 0,
        for_ms: 60_000,
        protocol: Some(Protocol::Replicate),
        token: None,
    };
    let client = Client::start(|settings| settings.outages = vec![planned]).await;
    let [by_replicate, by_fal] = statuses(&client).await;
    assert!(by_replicate >= Some(500) && by_fal == Some(200), "{by_replicate:?} {by_fal:?}");
}

#[tokio::test]
async fn connections_are_refused_for_a_while_and_those_that_are_there_are_cut() {
    let client = Client::plain().await;
    assert_eq!(client.get(&client.url("/fal-keys")).await.status, Some(200));
    client.double.begin_outage(Outage {
        kind: OutageKind::Refused,
        after_ms: 0,
        for_ms: 1_500,
        protocol: None,
        token: None,
    });
    until("it is away", async || client.get(&client.url("/fal-keys")).await.status.is_none()).await;
    assert!(tokio::net::TcpStream::connect(client.double.address()).await.is_err(), "nobody listens");
    until("it is back", async || client.get(&client.url("/fal-keys")).await.status == Some(200)).await;
}
