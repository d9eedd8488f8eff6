//! Networks of addresses, as CIDR writes them. Pure.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A network: an address, and how many of its bits all others have in common with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// What has neither owner nor name but the node: where clouds give away its credentials, to whoever asks from there.
pub const METADATA: [&str; 3] = ["169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128"];

impl Network {
    /// A network of so many bits; `None` if no address of that kind has as many.
    pub fn new(address: IpAddr, bits: u8) -> Option<Self> {
        (bits <= all(address)).then_some(Self { address, bits })
    }

    /// Whether an address belongs to it.
    pub fn contains(self, address: IpAddr) -> bool {
        let bits = u32::from(self.bits);
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                (own.to_bits() ^ address.to_bits()) & mask == 0
            }
            (IpAddr::V6(own), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
                (own.to_bits() ^ address.to_bits()) & mask == 0
            }
            _ => false,
        }
    }

    /// Whether all of it belongs to another one. Two networks have nothing in common, or one is within the other.
    pub fn is_within(self, other: Network) -> bool {
        self.bits >= other.bits && other.contains(self.address)
    }
}

fn all(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl FromStr for Network {
    type Err = ();

    /// Reads an address, or a network such as `10.0.0.0/8`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().map_err(drop)?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(drop)?;
        Self::new(address, bits.unwrap_or(all(address))).ok_or(())
    }
}

/// What a network leaves open of the metadata of nodes: the parts that must be excepted. `None` if all of it is metadata, and
/// nothing is left.
pub fn but_metadata(cidr: &str) -> Option<Vec<&'static str>> {
    // One that cannot be read is for the API server to refuse.
    let Ok(network) = cidr.parse::<Network>() else { return Some(Vec::new()) };
    let mut except = Vec::new();
    for text in METADATA {
        let Ok(metadata) = text.parse() else { continue };
        if network.is_within(metadata) {
            return None;
        }
        if metadata.is_within(network) {
            except.push(text);
        }
    }
    Some(except)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_what_has_their_first_bits() {
        let network = |text: &str| text.parse::<Network>().unwrap();
        let contains = |of: &str, address: &str| network(of).contains(address.parse().unwrap());
        assert!(contains("10.1.0.0/16", "10.1.255.255") && !contains("10.1.0.0/16", "10.2.0.0"));
        assert!(contains("0.0.0.0/0", "8.8.8.8") && !contains("0.0.0.0/0", "::1"));
        assert!(contains("10.0.0.7", "10.0.0.7") && !contains("10.0.0.7", "10.0.0.8"));
        assert!(contains("fd00::/8", "fdff::1") && !contains("fd00::/8", "fe00::1"));
        assert!(network("10.1.2.0/24").is_within(network("10.1.0.0/16")));
        assert!(!network("10.1.0.0/16").is_within(network("10.1.2.0/24")));
        for wrong in ["", "10.0.0.0/33", "::/129", "a/8", "10.0.0.0/x"] {
            assert_eq!(wrong.parse::<Network>(), Err(()), "{wrong}");
        }
    }

    #[test]
    fn faults_4_8_the_metadata_of_nodes_is_always_excepted() {
        assert_eq!(but_metadata("10.0.0.0/8"), Some(vec![]));
        assert_eq!(but_metadata("0.0.0.0/0"), Some(vec!["169.254.0.0/16"]));
        // With bits beside the network's own, as the API server takes it.
        assert_eq!(but_metadata("169.255.1.1/8"), Some(vec!["169.254.0.0/16"]));
        assert_eq!(but_metadata("::/0"), Some(vec!["fe80::/10", "fd00:ec2::254/128"]));
        assert_eq!(but_metadata("fd00::/8"), Some(vec!["fd00:ec2::254/128"]));
        for nothing in
            ["169.254.169.254/32", "169.254.0.0/16", "169.254.0.0/17", "fe80::1/128", "fd00:ec2::254/128"]
        {
            assert_eq!(but_metadata(nothing), None, "{nothing}");
        }
    }
}
