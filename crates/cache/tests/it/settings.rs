//! The check of the URL of Redis when a service starts, against real servers.

use cache::Settings;
use testkit::{Certificate, Redis};

async fn check(url: &str) -> Result<(), chassis::settings::Error> {
    Settings { redis_url: Some(url.to_owned()), ..Settings::default() }.check().await
}

async fn refused(url: &str) -> String {
    let error = check(url).await.expect_err(url).to_string();
    assert!(error.starts_with("RUSHES_REDIS_URL should be ") && error.lines().count() == 1, "{url}: {error}");
    error
}

#[tokio::test]
async fn a_server_that_takes_us_is_taken_and_a_wrong_login_is_said() {
    let open = Redis::launch().await.unwrap();
    check(&open.url()).await.unwrap();
    assert!(check("redis://127.0.0.1:1").await.is_ok(), "nobody is there, which is no fault of the setting");
    let folder = std::env::temp_dir().join(format!("rushes-{}", testkit::secret().unwrap()));
    let closed = Redis::keep(&folder).await.unwrap();
    check(&closed.url()).await.unwrap();
    for url in [format!("redis://{}", closed.address()), format!("redis://:wrong@{}", closed.address())] {
        let error = refused(&url).await;
        assert!(error.contains("the server knows") && !error.contains("wrong@"), "{error}");
    }
    drop(closed);
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::remove_file(folder.with_extension("password")).unwrap();
}

#[tokio::test]
async fn tls_is_spoken_where_it_is_asked_for_or_the_start_says_what_is_wrong() {
    let open = Redis::launch().await.unwrap();
    let error = refused(&format!("rediss://{}", open.address())).await;
    assert!(error.contains("speaks TLS"), "{error}");
    let Some(certificate) = Certificate::make().await.unwrap() else { return };
    let tls = Redis::launch_tls(&certificate).await.unwrap();
    check(&format!("rediss://{}?ca={}", tls.address(), certificate.authority().display())).await.unwrap();
    // An authority that is no public one, and no TLS at all.
    let error = refused(&format!("rediss://{}", tls.address())).await;
    assert!(error.contains("the ca that signed"), "{error}");
    let error = refused(&format!("redis://{}", tls.address())).await;
    assert!(error.contains("rediss://"), "{error}");
    let key = certificate.key();
    let error = refused(&format!("rediss://{}?ca={}", tls.address(), key.display())).await;
    assert!(error.contains("PEM"), "{error}");
}
