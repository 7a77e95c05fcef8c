//! Network addresses that no policy can grant.
//!
//! Cloud metadata services give credentials to every client that can connect. An IPv6 address is
//! therefore checked in every form that embeds an IPv4 address; otherwise a translator or tunnel on
//! the path would bypass the check.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Metadata services with IPv4 addresses outside 169.254.0.0/16, which is refused as a whole as
/// link-local.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(168, 63, 129, 16),   // Azure: platform resources, "wire server"
    Ipv4Addr::new(100, 100, 100, 200), // Alibaba Cloud
    Ipv4Addr::new(192, 0, 0, 192),     // Oracle Cloud, first generation
];

/// Metadata services with their own IPv6 addresses.
const METADATA_V6: [Ipv6Addr; 4] = [
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),       // Google Cloud
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe), // Oracle Cloud
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),        // Scaleway
    Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1),    // Akamai (Linode)
];

/// Returns why an address is always refused; `None` if a policy may allow it.
///
/// Metadata services, link-local, multicast, unspecified (all of 0.0.0.0/8, which hosts route to
/// themselves) and broadcast addresses are refused, and IPv6 addresses that embed one of them (see
/// [`is_loopback`]).
pub fn refused_address(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(v4) => refused_v4(v4),
        IpAddr::V6(v6) => refused_v6(v6).or_else(|| embedded(v6).find_map(refused_v4)),
    }
}

/// Returns whether an address is loopback, itself or as an embedded IPv4 address.
///
/// The following forms embed an IPv4 address: IPv4-mapped (`::ffff:0:0/96`), IPv4-translated
/// (`::ffff:0:0:0/96`), IPv4-compatible (`::/96`), NAT64 (`64:ff9b::/96`, and `64:ff9b:1::/48` at
/// each position of RFC 6052), 6to4 (`2002::/16`), Teredo (`2001::/32`, server and client) and
/// ISATAP (any prefix).
pub fn is_loopback(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_loopback() || embedded(v6).any(|v4| v4.is_loopback()),
    }
}

/// Returns an address and every IPv4 address that it embeds (see [`is_loopback`]).
pub fn with_embedded_addresses(ip: IpAddr) -> impl Iterator<Item = IpAddr> {
    let embedded = match ip {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => Some(embedded(v6).map(IpAddr::V4)),
    };
    std::iter::once(ip).chain(embedded.into_iter().flatten())
}

fn refused_v4(ip: Ipv4Addr) -> Option<&'static str> {
    if ip == Ipv4Addr::new(169, 254, 169, 254) || METADATA_V4.contains(&ip) {
        Some("a cloud metadata address")
    } else if ip.is_link_local() {
        Some("a link-local address")
    } else if ip.is_multicast() {
        Some("a multicast address")
    } else if ip.is_broadcast() {
        Some("the broadcast address")
    } else if ip.octets().first() == Some(&0) {
        Some("an unspecified address")
    } else {
        None
    }
}

fn refused_v6(ip: Ipv6Addr) -> Option<&'static str> {
    // Amazon: metadata at fd00:ec2::254, container credentials at fd00:ec2::23.
    if METADATA_V6.contains(&ip) || matches!(ip.segments(), [0xfd00, 0x0ec2, ..]) {
        Some("a cloud metadata address")
    } else if ip.is_unicast_link_local() {
        Some("a link-local address")
    } else if ip.is_multicast() {
        Some("a multicast address")
    } else if ip.is_unspecified() {
        Some("an unspecified address")
    } else {
        None
    }
}

/// Returns every IPv4 address that a translator or tunnel would extract from an IPv6 address.
fn embedded(ip: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let o = ip.octets();
    let [_, _, b2, b3, b4, b5, b6, b7, _, b9, b10, b11, b12, b13, b14, b15] = o;
    let last = Ipv4Addr::new(b12, b13, b14, b15);
    let mut found: [Option<Ipv4Addr>; 6] = [None; 6];
    let [first, second, third, fourth, fifth, isatap] = &mut found;
    match ip.segments() {
        // `::` and `::1` are not IPv4-compatible addresses.
        [0, 0, 0, 0, 0, 0, _, _] => *first = (u128::from(ip) > 1).then_some(last),
        [0, 0, 0, 0, 0, 0xffff, _, _] | [0, 0, 0, 0, 0xffff, 0, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => {
            *first = Some(last);
        }
        [0x64, 0xff9b, 1, ..] => {
            // The length of the operator's prefix is unknown, so every position is checked. A
            // leading zero is padding of another position unless every position has one.
            let position = |v4: Ipv4Addr| (v4.octets().first() != Some(&0)).then_some(v4);
            *second = position(Ipv4Addr::new(b6, b7, b9, b10)); // /48
            *third = position(Ipv4Addr::new(b7, b9, b10, b11)); // /56
            *fourth = position(Ipv4Addr::new(b9, b10, b11, b12)); // /64
            let none = second.is_none() && third.is_none() && fourth.is_none();
            *first = if none { Some(last) } else { position(last) }; // /96
        }
        [0x2002, ..] => *first = Some(Ipv4Addr::new(b2, b3, b4, b5)),
        [0x2001, 0, ..] => {
            *first = Some(Ipv4Addr::new(b4, b5, b6, b7));
            *fifth = Some(Ipv4Addr::new(!b12, !b13, !b14, !b15));
        }
        _ => {}
    }
    // Interface identifier of ISATAP, universal and local form.
    if let [_, _, _, _, 0 | 0x0200, 0x5efe, _, _] = ip.segments() {
        *isatap = Some(last);
    }
    found.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Returns every IPv6 form that embeds the given IPv4 address.
    fn forms(v4: Ipv4Addr) -> Vec<Ipv6Addr> {
        let [a, b, c, d] = v4.octets();
        let raw: Vec<[u8; 16]> = vec![
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d],
            [0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, a, b, c, d],
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d],
            [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d],
            [0, 0x64, 0xff, 0x9b, 0, 1, 0, 0, 0, 0, 0, 0, a, b, c, d],
            [0, 0x64, 0xff, 0x9b, 0, 1, 0x12, 0x34, 0, 0x56, 0x78, 0x9a, a, b, c, d],
            [0, 0x64, 0xff, 0x9b, 0, 1, a, b, 0, c, d, 0, 0, 0, 0, 0],
            [0, 0x64, 0xff, 0x9b, 0, 1, 9, a, 0, b, c, d, 0, 0, 0, 0],
            [0, 0x64, 0xff, 0x9b, 0, 1, 9, 9, 0, a, b, c, d, 0, 0, 0],
            [0x20, 0x02, a, b, c, d, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1],
            [0x20, 0x01, 0, 0, a, b, c, d, 0, 0, 1, 1, !8, !8, !8, !8],
            [0x20, 0x01, 0, 0, 8, 8, 8, 8, 0, 0, 1, 1, !a, !b, !c, !d],
            [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 1, 0, 0, 0x5e, 0xfe, a, b, c, d],
            [0xfd, 0x01, 0, 0, 0, 0, 0, 1, 2, 0, 0x5e, 0xfe, a, b, c, d],
            [0x20, 0x02, 8, 8, 8, 8, 0, 0, 0, 0, 0x5e, 0xfe, a, b, c, d],
        ];
        raw.into_iter().map(Ipv6Addr::from).collect()
    }

    #[test]
    fn refused_ipv4_address_is_refused_in_every_ipv6_form() {
        for (text, reason) in [
            ("169.254.169.254", "a cloud metadata address"),
            ("168.63.129.16", "a cloud metadata address"),
            ("100.100.100.200", "a cloud metadata address"),
            ("192.0.0.192", "a cloud metadata address"),
            ("169.254.170.2", "a link-local address"),
            ("224.0.0.1", "a multicast address"),
            ("239.255.255.255", "a multicast address"),
            ("255.255.255.255", "the broadcast address"),
        ] {
            assert_eq!(refused_address(ip(text)), Some(reason), "{text}");
            let IpAddr::V4(v4) = ip(text) else { panic!("{text} is IPv4") };
            for form in forms(v4) {
                assert_eq!(refused_address(form.into()), Some(reason), "{text} as {form}");
            }
        }
        for text in ["0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0", "64:ff9b::", "64:ff9b:1::", "2002::1", "::0.1.2.3"] {
            assert_eq!(refused_address(ip(text)), Some("an unspecified address"), "{text}");
        }
    }

    #[test]
    fn metadata_and_link_local_ipv6_addresses_are_refused() {
        for text in
            ["fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "fd00:42::42", "fd00:a9fe:a9fe::1"]
        {
            assert_eq!(refused_address(ip(text)), Some("a cloud metadata address"), "{text}");
        }
        assert_eq!(refused_address(ip("fe80::1")), Some("a link-local address"));
        assert_eq!(refused_address(ip("febf::1")), Some("a link-local address"));
        assert_eq!(refused_address(ip("ff02::1")), Some("a multicast address"));
    }

    #[test]
    fn ordinary_addresses_are_not_refused() {
        for text in
            ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "100.64.0.1", "1.1.1.1", "2606:4700::1111", "fd12:3456::1"]
        {
            assert_eq!(refused_address(ip(text)), None, "{text}");
        }
        for form in forms(Ipv4Addr::new(10, 1, 2, 3)) {
            assert_eq!(refused_address(form.into()), None, "{form}");
            assert!(!is_loopback(form.into()), "{form}");
        }
    }

    #[test]
    fn loopback_is_recognized_in_every_ipv6_form() {
        for v4 in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 255, 0, 9)] {
            assert!(is_loopback(v4.into()));
            for form in forms(v4) {
                assert!(is_loopback(form.into()), "{v4} as {form}");
            }
        }
        assert!(is_loopback(ip("::1")));
        for text in ["::", "::2", "128.0.0.1", "126.255.255.255", "fe80::1", "2001:db8::1"] {
            assert!(!is_loopback(ip(text)), "{text}");
        }
    }
}
