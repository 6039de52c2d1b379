//! Networks that an API key is bound to, in CIDR notation.
//!
//! Invariant: a network has one spelling: no bits are set behind its prefix, and a mapped IPv4 address is the IPv4 address.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// All addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// A text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a network such as `203.0.113.0/24` or `2001:db8::/48`, without bits behind its prefix, or an address")]
pub struct Malformed;

impl Network {
    /// Whether an address is of this network.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let ignored = 32 - u32::from(self.prefix);
                (u64::from(network.to_bits()) >> ignored) == (u64::from(address.to_bits()) >> ignored)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let ignored = 128 - u32::from(self.prefix);
                let beginning = |bits: u128| bits.checked_shr(ignored).unwrap_or(0);
                beginning(network.to_bits()) == beginning(address.to_bits())
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| Malformed)?;
        // A mapped address would be of a network that no address of a client is of.
        if address != address.to_canonical() {
            return Err(Malformed);
        }
        let max = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => max,
            // `+8` and `08` are numbers too, and other spellings.
            Some(digits) => digits.parse().ok().filter(|prefix: &u8| prefix.to_string() == digits).ok_or(Malformed)?,
        };
        let unused = match address {
            IpAddr::V4(address) => address.to_bits().trailing_zeros(),
            IpAddr::V6(address) => address.to_bits().trailing_zeros(),
        };
        let fits = prefix <= max && unused + u32::from(prefix) >= u32::from(max);
        fits.then_some(Self { address, prefix }).ok_or(Malformed)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_the_addresses_that_begin_as_it_does() {
        for (network, inside, outside) in [
            ("203.0.113.0/24", "203.0.113.255", "203.0.114.0"),
            ("203.0.113.7", "203.0.113.7", "203.0.113.6"),
            ("203.0.113.0/24", "::ffff:203.0.113.1", "::ffff:203.0.112.1"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "2001:db8::1", "127.0.0.1"),
            ("2001:db8::/48", "2001:db8:0:ffff::1", "2001:db8:1::1"),
            ("2001:db8::1", "2001:db8::1", "2001:db8::2"),
            ("128.0.0.0/1", "255.0.0.0", "127.255.255.255"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{network} has {inside}");
            assert!(!network.contains(outside.parse().unwrap()), "{network} has {outside}");
            assert_eq!(network.to_string().parse(), Ok(network));
        }
    }

    #[test]
    fn what_has_another_spelling_is_none() {
        for wrong in [
            "",
            "/",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0/8",
            "2001:db8::1/64",
            "2001:db8::/129",
            "::ffff:10.0.0.0/104",
            "example.com",
            "10.0.0.0/8/8",
            " 10.0.0.0/8",
        ] {
            assert_eq!(wrong.parse::<Network>(), Err(Malformed), "{wrong}");
        }
        assert_eq!("10.0.0.1".parse::<Network>().unwrap().to_string(), "10.0.0.1/32");
    }
}
