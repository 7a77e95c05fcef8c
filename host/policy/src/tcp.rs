//! TCP destinations of a policy: a literal address or a host name, and a port.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::address::{is_loopback, refused_address};

/// The maximum number of destinations in one policy. The host resolves each name when a run starts.
pub const TARGETS_MAX: usize = 256;

const FORM: &str =
    "expected an address and a port, such as \"127.0.0.1:5432\", \"[::1]:5432\" or \"db.example.com:5432\"";

/// A TCP destination that a component may connect to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TcpTarget {
    /// The address or host name.
    pub host: TcpHost,
    /// The port, never 0.
    pub port: u16,
}

/// The host of a [`TcpTarget`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TcpHost {
    /// A literal address that [`refused_address`] does not refuse.
    Address(IpAddr),
    /// A host name in lower case. The host resolves it once, when a run starts.
    Name(String),
}

impl TcpTarget {
    /// Parses `ADDRESS:PORT` or `NAME:PORT`.
    ///
    /// # Errors
    /// Returns [`InvalidTarget`] with the expected form for any other text, and for addresses that
    /// are always refused.
    pub fn parse(text: &str) -> Result<Self, InvalidTarget> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Self::literal(address);
        }
        let (host, port) = text.rsplit_once(':').ok_or(InvalidTarget(FORM.into()))?;
        if host.contains(':') && !host.starts_with('[') {
            return Err(InvalidTarget(format!("{FORM} (write an IPv6 address in brackets)")));
        }
        let port = if port.bytes().all(|byte| byte.is_ascii_digit()) { port.parse().ok() } else { None };
        let port = port.ok_or(InvalidTarget(format!("{FORM} (the port is a number from 1 to 65535)")))?;
        check_port(port)?;
        Ok(Self { host: TcpHost::Name(name(host)?), port })
    }

    fn literal(address: SocketAddr) -> Result<Self, InvalidTarget> {
        check_port(address.port())?;
        let ip = address.ip();
        if let Some(reason) = refused_address(ip) {
            return Err(InvalidTarget(format!("{ip} is {reason}, which no policy can grant; remove it")));
        }
        if let SocketAddr::V6(v6) = address {
            if v6.scope_id() != 0 {
                return Err(InvalidTarget("expected an address without a zone (`%`)".into()));
            }
            if let Some(v4) = v6.ip().to_ipv4_mapped() {
                return Err(InvalidTarget(format!("write the IPv4 address itself: \"{v4}:{}\"", v6.port())));
            }
            if !v6.ip().is_loopback() && is_loopback(ip) {
                return Err(InvalidTarget(
                    "write loopback as 127.0.0.1 or [::1], not embedded in another address".into(),
                ));
            }
        }
        Ok(Self { host: TcpHost::Address(ip), port: address.port() })
    }

    /// Checks whether this destination permits a connection to an address: the address itself if it
    /// is literal, otherwise an address that the name resolved to. Loopback must be written
    /// literally; otherwise whoever controls the name's DNS record could reach services on the
    /// host.
    ///
    /// # Errors
    /// Returns the reason as a noun phrase, such as "a cloud metadata address".
    pub fn admits(&self, ip: IpAddr) -> Result<(), &'static str> {
        if let Some(reason) = refused_address(ip) {
            return Err(reason);
        }
        match &self.host {
            TcpHost::Address(address) if *address == ip => Ok(()),
            TcpHost::Address(_) => Err("not the address that the policy names"),
            TcpHost::Name(_) if is_loopback(ip) => Err("a loopback address, which must be written literally"),
            TcpHost::Name(_) => Ok(()),
        }
    }
}

impl fmt::Display for TcpTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            TcpHost::Address(ip) => fmt::Display::fmt(&SocketAddr::new(*ip, self.port), f),
            TcpHost::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

fn check_port(port: u16) -> Result<(), InvalidTarget> {
    if port == 0 { Err(InvalidTarget(format!("{FORM} (the port is a number from 1 to 65535)"))) } else { Ok(()) }
}

/// Parses a host name and converts it to lower case.
fn name(text: &str) -> Result<String, InvalidTarget> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() > 253 || !text.split('.').all(label) {
        return Err(InvalidTarget(FORM.into()));
    }
    let name = text.to_ascii_lowercase();
    let last = name.rsplit('.').next().unwrap_or_default();
    // System resolvers read `127.1`, `0x7f000001` and `2130706433` as addresses, so the last label
    // must not be a number.
    if last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") {
        return Err(InvalidTarget(format!("{FORM} (an IPv4 address is four decimal numbers without leading zeros)")));
    }
    if last == "localhost" {
        return Err(InvalidTarget("loopback must be written literally, as 127.0.0.1 or [::1]".into()));
    }
    Ok(name)
}

/// The text is not a destination that a policy can grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidTarget(String);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn target_display_parses_to_the_same_target() {
        for text in [
            "127.0.0.1:5432",
            "[::1]:5432",
            "10.0.0.8:1",
            "[2001:db8::5]:65535",
            "db.example.com:5432",
            "db:1",
            "a_b.c:9",
        ] {
            assert_eq!(TcpTarget::parse(text).map(|target| target.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(TcpTarget::parse("DB.Example.com:5432").unwrap().to_string(), "db.example.com:5432");
    }

    #[test]
    fn invalid_target_error_names_the_cause() {
        for (text, part) in [
            ("", "expected an address and a port"),
            ("127.0.0.1", "expected an address and a port"),
            ("db.example.com", "expected an address and a port"),
            (":5432", "expected an address and a port"),
            ("db.:1", "expected an address and a port"),
            ("-db:1", "expected an address and a port"),
            ("*.example.com:443", "expected an address and a port"),
            ("https://example.com:443", "expected an address and a port"),
            ("user@db:1", "expected an address and a port"),
            ("dä:1", "expected an address and a port"),
            ("db:0", "from 1 to 65535"),
            ("127.0.0.1:0", "from 1 to 65535"),
            ("db:65536", "from 1 to 65535"),
            ("db:+80", "from 1 to 65535"),
            ("db:", "from 1 to 65535"),
            ("::1:5432", "in brackets"),
            ("127.1:80", "four decimal numbers"),
            ("2130706433:80", "four decimal numbers"),
            ("0x7f000001:80", "four decimal numbers"),
            ("0x7f.1:80", "four decimal numbers"),
            ("010.0.0.1:80", "four decimal numbers"),
            ("169.254.169.254:80", "169.254.169.254 is a cloud metadata address, which no policy can grant"),
            ("[::ffff:169.254.169.254]:80", "cloud metadata"),
            ("[64:ff9b::a9fe:a9fe]:80", "cloud metadata"),
            ("[fe80::1]:80", "link-local"),
            ("[2001:db8::1%3]:80", "without a zone"),
            ("0.0.0.0:80", "unspecified"),
            ("[::ffff:10.0.0.1]:80", "write the IPv4 address itself: \"10.0.0.1:80\""),
            ("[2002:7f00:1::1]:80", "not embedded"),
            ("localhost:80", "written literally"),
            ("foo.LocalHost:80", "written literally"),
        ] {
            let error = TcpTarget::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn admits_checks_resolved_addresses() {
        let name = TcpTarget::parse("db.example.com:1").unwrap();
        assert_eq!(name.admits("10.0.0.1".parse().unwrap()), Ok(()));
        assert!(name.admits("127.0.0.1".parse().unwrap()).is_err());
        assert!(name.admits("::ffff:127.0.0.1".parse().unwrap()).is_err());
        assert!(name.admits("::1".parse().unwrap()).is_err());
        assert_eq!(name.admits("169.254.169.254".parse().unwrap()), Err("a cloud metadata address"));
        let literal = TcpTarget::parse("127.0.0.1:1").unwrap();
        assert_eq!(literal.admits("127.0.0.1".parse().unwrap()), Ok(()));
        assert!(literal.admits("127.0.0.2".parse().unwrap()).is_err());
    }

    proptest! {
        #[test]
        fn parse_never_panics_or_returns_a_refused_address(text in "[0-9a-fx:.\\[\\]%-]{0,40}:[0-9]{1,5}") {
            if let Ok(TcpTarget { host: TcpHost::Address(ip), port }) = TcpTarget::parse(&text) {
                prop_assert_eq!(refused_address(ip), None);
                prop_assert!(port > 0);
            }
        }
    }
}
