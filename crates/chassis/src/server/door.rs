//! What the public port grants to connections and to who has shown no key yet: how long, how many, and from whom.
//!
//! Invariant: whose address a request has is said by the connection alone, or by exactly so many proxies as the settings trust.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use http::{HeaderMap, HeaderName};

use crate::settings::{self, Source};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The settings of a public port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Door {
    /// How long the first byte, HTTP/2's preface, and the headers of an HTTP/1 request may take.
    pub handshake_timeout: Duration,
    /// How long a connection stays on which no request runs.
    pub idle_timeout: Duration,
    /// How long a peer may take nothing of what is sent to it.
    pub write_timeout: Duration,
    /// When a connection is asked to end, give or take a tenth.
    pub max_age: Duration,
    /// Connections at a time.
    pub max_connections: usize,
    /// Connections at a time from one address; not behind proxies, whose addresses say nothing of their clients.
    pub max_connections_per_address: usize,
    /// Streams at a time on one HTTP/2 connection. A quarter of them may be watches.
    pub max_streams: u32,
    /// What one address may cost a second beside what is answered: 12 for a connection; of HTTP/2 1 for a WINDOW_UPDATE, a PRIORITY, a
    /// reset or a small DATA frame, 4 for a PING or SETTINGS, 1 and 1 more for every 32 bytes of headers; of HTTP/1 1 for each read
    /// and 1 more for every KiB. 16 bytes of an answer earn 1, up to what its connection's frames and reads have cost.
    pub frame_rate: u32,
    /// Requests that run at a time from one address, watches included.
    pub max_requests_per_address: usize,
    /// How many proxies before this port add to `x-forwarded-for`.
    pub trusted_hops: usize,
    /// Whether a caller's `traceparent` is the parent of what is done for it, sampled or not as it says, and not only linked to.
    pub trust_traceparent: bool,
    /// Whether gRPC reflection is answered.
    pub reflection: bool,
}

impl Default for Door {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(300),
            write_timeout: Duration::from_secs(30),
            max_age: Duration::from_secs(3_600),
            max_connections: 4_096,
            max_connections_per_address: 256,
            max_streams: 1_024,
            frame_rate: 2_000,
            max_requests_per_address: 4_096,
            trusted_hops: 0,
            trust_traceparent: false,
            reflection: false,
        }
    }
}

impl Door {
    /// Reads every setting of a public port.
    ///
    /// # Errors
    /// One sentence about the first that is wrong.
    pub fn read(source: &Source) -> Result<Self, settings::Error> {
        let default = Self::default();
        let time = |name: &str, default: Duration| match source.duration(name, default, "a time")? {
            Duration::ZERO => Err(settings::Error::wrong(name, "longer than nothing")),
            time => Ok(time),
        };
        let count = |name: &str, default: usize, what: &str| match source.or(name, default, what)? {
            0 => Err(settings::Error::wrong(name, "at least 1")),
            count => Ok(count),
        };
        let streams = source.or("RUSHES_MAX_STREAMS_PER_CONNECTION", default.max_streams, "a number of streams")?;
        if streams < 4 {
            return Err(settings::Error::wrong("RUSHES_MAX_STREAMS_PER_CONNECTION", "at least 4"));
        }
        Ok(Self {
            handshake_timeout: time("RUSHES_HANDSHAKE_TIMEOUT", default.handshake_timeout)?,
            idle_timeout: time("RUSHES_CONNECTION_IDLE_TIMEOUT", default.idle_timeout)?,
            write_timeout: time("RUSHES_WRITE_TIMEOUT", default.write_timeout)?,
            max_age: time("RUSHES_CONNECTION_MAX_AGE", default.max_age)?,
            max_connections: count("RUSHES_MAX_CONNECTIONS", default.max_connections, "a number of connections")?,
            max_connections_per_address: count(
                "RUSHES_MAX_CONNECTIONS_PER_ADDRESS",
                default.max_connections_per_address,
                "a number of connections",
            )?,
            max_streams: streams,
            frame_rate: u32::try_from(count(
                "RUSHES_FRAME_RATE",
                default.frame_rate as usize,
                "a number of units a second",
            )?)
            .unwrap_or(u32::MAX),
            max_requests_per_address: count(
                "RUSHES_MAX_REQUESTS_PER_ADDRESS",
                default.max_requests_per_address,
                "a number of requests",
            )?,
            trusted_hops: source.or("RUSHES_TRUSTED_HOPS", default.trusted_hops, "a number of proxies, 0 for none")?,
            trust_traceparent: source.or("RUSHES_TRUST_TRACEPARENT", default.trust_traceparent, "true or false")?,
            reflection: source.or("RUSHES_REFLECTION", default.reflection, "true or false")?,
        })
    }

    /// Whose request it is that came from `peer` with these headers. Each trusted proxy has added the address that it saw at the end
    /// of `x-forwarded-for`; what stands before is the client's own invention. A request that has not come through all of them
    /// is its peer's.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let Some(hops_behind) = self.trusted_hops.checked_sub(1) else { return peer };
        let values = headers.get_all(FORWARDED_FOR).iter().rev();
        let mut entries = values.flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
        entries.nth(hops_behind).and_then(parse_address).unwrap_or(peer)
    }
}

/// An address as proxies write it, some with a port and some of version 6 in brackets.
fn parse_address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(hops: usize, headers: &[&str], expected: &str) {
        let door = Door { trusted_hops: hops, ..Door::default() };
        let headers = headers.iter().map(|value| (FORWARDED_FOR, value.parse().unwrap()));
        let headers = HeaderMap::from_iter(headers);
        let client = door.client("10.0.0.9".parse().unwrap(), &headers);
        assert_eq!(client.to_string(), expected, "{hops} hops, {headers:?}");
    }

    #[test]
    fn only_what_trusted_proxies_added_is_believed() {
        check(0, &["192.0.2.7"], "10.0.0.9");
        check(1, &[], "10.0.0.9");
        check(1, &["192.0.2.7"], "192.0.2.7");
        check(1, &["203.0.113.1, 192.0.2.7"], "192.0.2.7");
        check(1, &["203.0.113.1", "192.0.2.7"], "192.0.2.7");
        check(2, &["203.0.113.1, 192.0.2.7,198.51.100.1"], "192.0.2.7");
        check(2, &["203.0.113.1,192.0.2.7", "198.51.100.1"], "192.0.2.7");
        check(2, &["192.0.2.7"], "10.0.0.9");
        check(1, &["192.0.2.7, nobody"], "10.0.0.9");
        check(1, &["192.0.2.7:4711"], "192.0.2.7");
        check(1, &["[2001:db8::7]"], "2001:db8::7");
        check(1, &["[2001:db8::7]:4711"], "2001:db8::7");
    }

    #[test]
    fn a_setting_that_would_let_nobody_in_is_refused() {
        assert_eq!(Door::read(&Source::of(&[])), Ok(Door::default()));
        for (name, value) in [
            ("RUSHES_HANDSHAKE_TIMEOUT", "0s"),
            ("RUSHES_CONNECTION_MAX_AGE", "0ms"),
            ("RUSHES_MAX_CONNECTIONS", "0"),
            ("RUSHES_MAX_STREAMS_PER_CONNECTION", "3"),
            ("RUSHES_TRUSTED_HOPS", "-1"),
            ("RUSHES_REFLECTION", "yes"),
        ] {
            let error = Door::read(&Source::of(&[(name, value)])).unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }
}
