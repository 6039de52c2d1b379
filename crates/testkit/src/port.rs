//! Free loopback ports, taken below the range that outgoing connections use, so that a server that is stopped and started
//! again finds its port still free.

use std::net::{Ipv4Addr, TcpListener};

/// A loopback port that nothing listened on a moment ago.
#[must_use]
pub fn free() -> u16 {
    loop {
        let port = fastrand::u16(15_000..32_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
