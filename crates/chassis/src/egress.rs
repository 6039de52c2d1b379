//! The one way to addresses that others chose: where a provider put an output, where a user wants to be told.
//!
//! Invariant: from a client that reaches only what is public no connection goes to an address of this machine, of its network, or
//! of a cloud's metadata, however it is written and whatever a name resolves to: each name is resolved once, and what was
//! resolved, less what is not public, is what is connected to. Redirects are not followed, and no proxy is asked.

mod call;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use http::Method;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

pub use call::Call;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may stand still.
const STILL: Duration = Duration::from_secs(30);

/// What a client may connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Addresses of the public internet, over TLS.
    Public,
    /// Any, in the clear too: for local stacks and tests.
    Anywhere,
}

/// An address that is not called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Neither `https` nor, where that is allowed, `http`.
    #[error("the address must begin with https://")]
    Scheme,
    /// It names no host, or one that is not of the public internet.
    #[error("the address must be on the public internet")]
    Host,
}

/// A name has no address that may be connected to.
#[derive(Debug, thiserror::Error)]
#[error("the name resolves to no address on the public internet")]
struct Inward;

/// A client; clones share its connections.
#[derive(Clone, Debug)]
pub struct Egress {
    client: reqwest::Client,
    reach: Reach,
}

impl Egress {
    /// A client of this reach.
    ///
    /// # Errors
    /// When none can be built.
    pub fn new(reach: Reach) -> Result<Self, reqwest::Error> {
        // Set once for the process; whoever came first chose the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .read_timeout(STILL)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .user_agent("rushes");
        if reach == Reach::Public {
            builder = builder.https_only(true).dns_resolver(Arc::new(Outward));
        }
        Ok(Self { client: builder.build()?, reach })
    }

    /// Whether an address may be called, as far as that can be told without resolving its name.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, url: &Url) -> Result<(), Refused> {
        let clear = self.reach == Reach::Anywhere;
        if url.scheme() != "https" && !(clear && url.scheme() == "http") {
            return Err(Refused::Scheme);
        }
        match url.host() {
            _ if clear && url.has_host() => Ok(()),
            // What is written as an address is never resolved.
            Some(Host::Ipv4(address)) if is_public(address.into()) => Ok(()),
            Some(Host::Ipv6(address)) if is_public(address.into()) => Ok(()),
            Some(Host::Domain(_)) => Ok(()),
            Some(_) | None => Err(Refused::Host),
        }
    }

    /// A request, to be sent once.
    ///
    /// # Errors
    /// When the address is not called.
    pub fn request(&self, method: Method, url: Url) -> Result<reqwest::RequestBuilder, Refused> {
        self.check(&url)?;
        Ok(self.client.request(method, url))
    }
}

/// Resolves names to what is public of their addresses.
struct Outward;

impl Resolve for Outward {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                return Err(Inward.into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is one of the public internet, by the IANA's registries of special addresses.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    /// Networks that are not, with the lengths of their prefixes.
    const INWARD: [([u8; 4], u32); 16] = [
        ([0, 0, 0, 0], 8),
        ([10, 0, 0, 0], 8),
        ([100, 64, 0, 0], 10),
        ([127, 0, 0, 0], 8),
        ([169, 254, 0, 0], 16),
        ([172, 16, 0, 0], 12),
        ([192, 0, 0, 0], 24),
        ([192, 0, 2, 0], 24),
        ([192, 31, 196, 0], 24),
        ([192, 52, 193, 0], 24),
        ([192, 88, 99, 0], 24),
        ([192, 168, 0, 0], 16),
        ([198, 18, 0, 0], 15),
        ([198, 51, 100, 0], 24),
        ([203, 0, 113, 0], 24),
        // Multicast, what is reserved, and the broadcast.
        ([224, 0, 0, 0], 3),
    ];
    let bits = u32::from(address);
    !INWARD.iter().any(|(network, length)| (bits ^ u32::from(Ipv4Addr::from(*network))) >> (32 - length) == 0)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, third, ..] = address.segments();
    let [.., high, low] = address.segments();
    let inner = Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    if address.to_ipv4_mapped().is_some() || address.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        // An IPv4 address in other clothes: mapped, or behind NAT64.
        return is_public_v4(inner);
    }
    // Of all addresses only 2000::/3 is handed out; of it not the IETF's own (Teredo among them), 6to4, and documentation.
    let special = match first {
        0x2001 => second < 0x200 || second == 0xdb8,
        0x2002 => true,
        0x2620 => (second, third) == (0x4f, 0x8000),
        0x3fff => second < 0x1000,
        _ => false,
    };
    first & 0xe000 == 0x2000 && !special
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn special_networks_are_recognized() {
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.0.1",
            "172.32.0.1",
            "223.255.255.1",
            "2606:4700::1",
            "::ffff:1.1.1.1",
            "64:ff9b::808:808",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for inward in [
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.8.9.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
        ] {
            assert!(!is_public(inward.parse().unwrap()), "{inward}");
        }
    }

    #[test]
    fn however_an_address_is_written_it_is_seen_through() {
        let egress = Egress::new(Reach::Public).unwrap();
        let check = |url: &str| egress.check(&Url::parse(url).unwrap());
        for inward in [
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
            "https://127.1/",
            "https://[::1]/",
            "https://[::ffff:7f00:1]/",
            "https://169.254.169.254/latest/meta-data/",
            "https://user@10.0.0.1:8443/",
        ] {
            assert_eq!(check(inward), Err(Refused::Host), "{inward}");
        }
        for scheme in ["http://example.com/", "ftp://example.com/", "file:///etc/passwd", "data:,x"] {
            assert_eq!(check(scheme), Err(Refused::Scheme), "{scheme}");
        }
        assert_eq!(check("https://example.com/hook?x=1"), Ok(()));
    }

    #[tokio::test]
    async fn a_name_of_this_machine_is_not_connected_to() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("https://localhost:{}/", listener.local_addr().unwrap().port())).unwrap();
        let request = Egress::new(Reach::Public).unwrap().request(Method::GET, url).unwrap();
        let mut error: &dyn std::error::Error = &request.send().await.unwrap_err();
        let mut causes = error.to_string();
        while let Some(cause) = error.source() {
            error = cause;
            causes.push_str(&cause.to_string());
        }
        assert!(causes.contains(&Inward.to_string()), "{causes}");
        let called = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(called.is_err(), "nobody came");
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_like_another() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await.unwrap();
            let answer = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        let request = Egress::new(Reach::Anywhere).unwrap().request(Method::POST, url).unwrap();
        let (answer, ()) = tokio::join!(request.send(), serve);
        assert_eq!(answer.unwrap().status().as_u16(), 302);
    }
}
