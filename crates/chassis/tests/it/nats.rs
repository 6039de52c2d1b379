//! The check of the URL of NATS when a service starts, against real servers.

use chassis::nats::{check, connect};
use testkit::{Certificate, Nats};

async fn refused(url: &str) -> String {
    let error = check(url).await.expect_err(url).to_string();
    assert!(error.starts_with("RUSHES_NATS_URL should be ") && error.lines().count() == 1, "{url}: {error}");
    error
}

#[tokio::test]
async fn a_server_that_takes_us_is_taken_and_a_wrong_login_is_said() {
    let open = Nats::launch().await.unwrap();
    check(&open.url()).await.unwrap();
    let closed = Nats::launch_for("ada", "word").await.unwrap();
    let address = closed.address();
    check(&format!("nats://ada:word@{address}")).await.unwrap();
    for url in [format!("nats://{address}"), format!("nats://ada:wrong@{address}"), format!("nats://token@{address}")] {
        let error = refused(&url).await;
        assert!(error.contains("the server knows") && !error.contains("wrong@"), "{error}");
    }
}

#[tokio::test]
async fn tls_is_spoken_where_it_is_asked_for_or_the_start_says_what_is_wrong() {
    let open = Nats::launch().await.unwrap();
    let error = refused(&format!("tls://{}", open.address())).await;
    assert!(error.contains("speaks TLS"), "{error}");
    let Some(certificate) = Certificate::make().await.unwrap() else { return };
    let tls = Nats::launch_tls(&certificate).await.unwrap();
    let (address, authority) = (tls.address(), certificate.authority());
    for scheme in ["nats", "tls"] {
        // The server says itself that it insists on TLS.
        let url = format!("{scheme}://{address}?ca={}", authority.display());
        check(&url).await.unwrap();
        let client = connect(&url).await.unwrap();
        let flushed = async || client.flush().await.ok();
        testkit::eventually("connected", std::time::Duration::from_secs(20), flushed).await.unwrap();
        // An authority that no system knows.
        let error = refused(&format!("{scheme}://{address}")).await;
        assert!(error.contains("the ca that signed"), "{error}");
    }
}
