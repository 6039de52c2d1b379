//! Each fault does what it says, and healing ends it.

use std::time::{Duration, Instant};

use testkit::{Direction, Proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A server that sends back what it is sent.
async fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

/// What comes back for `word`: its letters, or an error, or `None` when nothing does.
async fn say(stream: &mut TcpStream, word: &[u8]) -> Option<std::io::Result<Vec<u8>>> {
    let exchange = async {
        stream.write_all(word).await?;
        let mut answer = vec![0; word.len()];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    };
    tokio::time::timeout(Duration::from_millis(500), exchange).await.ok()
}

#[tokio::test]
async fn latency_holds_back_each_way() {
    let proxy = Proxy::before(echo().await).await.unwrap();
    let mut stream = connect(&proxy).await;
    assert_eq!(say(&mut stream, b"hello").await.unwrap().unwrap(), b"hello");
    proxy.latency(Duration::from_millis(60));
    let started = Instant::now();
    assert_eq!(say(&mut stream, b"hello").await.unwrap().unwrap(), b"hello");
    assert!(started.elapsed() >= Duration::from_millis(120));
    proxy.heal();
    // The quickest of many: on a machine with too much to do some are slow all the same.
    let mut quickest = Duration::MAX;
    for _ in 0..50 {
        let started = Instant::now();
        assert_eq!(say(&mut stream, b"hello").await.unwrap().unwrap(), b"hello");
        quickest = quickest.min(started.elapsed());
    }
    assert!(quickest < Duration::from_millis(120), "{quickest:?}");
}

#[tokio::test]
async fn a_black_hole_lets_nothing_through_and_ends_nothing() {
    for direction in [Direction::ToServer, Direction::ToClient] {
        let proxy = Proxy::before(echo().await).await.unwrap();
        let mut stream = connect(&proxy).await;
        assert!(say(&mut stream, b"hello").await.is_some());
        proxy.black_hole(direction);
        assert!(say(&mut stream, b"lost").await.is_none());
        proxy.heal();
        assert_eq!(say(&mut stream, b"found").await.unwrap().unwrap(), b"found");
    }
}

#[tokio::test]
async fn a_reset_ends_what_is_open_and_a_refusal_what_comes() {
    let proxy = Proxy::before(echo().await).await.unwrap();
    let mut stream = connect(&proxy).await;
    assert!(say(&mut stream, b"hello").await.is_some());
    proxy.reset();
    let mut rest = Vec::new();
    let error = stream.read_to_end(&mut rest).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(say(&mut connect(&proxy).await, b"hello").await.unwrap().unwrap(), b"hello");
    proxy.refuse();
    assert!(say(&mut connect(&proxy).await, b"hello").await.unwrap().is_err());
    proxy.heal();
    assert_eq!(say(&mut connect(&proxy).await, b"hello").await.unwrap().unwrap(), b"hello");
}

#[tokio::test]
async fn a_cut_comes_after_its_bytes() {
    let proxy = Proxy::before(echo().await).await.unwrap();
    proxy.cut_after(3);
    let mut stream = connect(&proxy).await;
    stream.write_all(b"hello").await.unwrap();
    let mut answer = [0; 3];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"hel");
    assert!(stream.read_u8().await.is_err());
}

#[tokio::test]
async fn a_server_that_hangs_accepts_and_says_nothing() {
    let proxy = Proxy::before(echo().await).await.unwrap();
    let mut open = connect(&proxy).await;
    assert!(say(&mut open, b"hello").await.is_some());
    proxy.hang();
    assert!(open.read(&mut [0]).await.is_err(), "what was open is reset");
    let mut held = connect(&proxy).await;
    assert!(say(&mut held, b"hello").await.is_none(), "it answered");
    proxy.heal();
    assert!(held.read(&mut [0]).await.is_err(), "what hung is reset");
    assert_eq!(say(&mut connect(&proxy).await, b"hello").await.unwrap().unwrap(), b"hello");
}
