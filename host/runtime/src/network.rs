//! TCP as the policy grants it, and nothing else of `wasi:sockets`.
//!
//! The host resolves names once, when the run starts. A guest's look-up returns those addresses and
//! never queries DNS, so that it cannot serve as a channel to the outside and a name cannot be
//! rebound between look-up and connection.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::str::FromStr;
use std::sync::Arc;

use wasmtime::component::{Linker, Resource, ResourceTable, ResourceType};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress, Network as Capability};
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};
use wasmtime_wasi::sockets::SocketAddrUse;

use strongroom_broker::{Contact, RunBroker};
use strongroom_core::record::NetworkOperation;
use strongroom_policy::{TcpHost, TcpTarget, with_embedded_addresses};

/// The maximum of addresses that are used per name.
const ADDRESSES_MAX: usize = 64;

/// The longest text that is parsed as a name: 253 bytes and an optional trailing dot. A component
/// may send millions.
const NAME_MAX: usize = 254;

/// The longest label of a name, in bytes.
const LABEL_MAX: usize = 63;

/// The addresses and names that a run may connect to.
#[derive(Clone, Debug, Default)]
pub struct Reachable {
    /// Each address with the entry of the policy's `tcp` that grants it.
    addresses: BTreeMap<SocketAddr, String>,
    names: BTreeMap<String, NameEntry>,
}

/// The addresses of a name and the first entry that contains it.
#[derive(Clone, Debug)]
struct NameEntry {
    entry: String,
    addresses: Vec<IpAddr>,
}

/// Why the policy's `tcp` cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The name has no address.
    #[error(
        "the policy's `tcp` names `{name}`, which cannot be resolved ({cause}): correct the name, or write the address"
    )]
    Unresolved {
        /// The name.
        name: String,
        /// The system's error.
        cause: String,
    },
    /// The name resolves to an address that is never reachable.
    #[error("the policy's `tcp` names `{name}`, which resolves to {address}, {why}: this is refused for names")]
    Refused {
        /// The name.
        name: String,
        /// The address that it resolved to.
        address: IpAddr,
        /// The kind of address.
        why: String,
    },
}

impl Reachable {
    /// Resolves the policy's targets once.
    ///
    /// # Errors
    /// [`ResolveError`] if a name has no address, or resolves to an address that is always denied,
    /// or to an address of this host, which a policy must write literally.
    pub async fn resolve(targets: &[TcpTarget]) -> Result<Self, ResolveError> {
        let mut reachable = Self::default();
        for target in targets {
            match &target.host {
                TcpHost::Address(address) => {
                    // A literal address takes precedence as the entry, even if a name resolves to
                    // it too.
                    reachable.addresses.insert(SocketAddr::new(*address, target.port), target.to_string());
                }
                TcpHost::Name(name) => {
                    let found = tokio::net::lookup_host((name.as_str(), target.port))
                        .await
                        .map_err(|error| ResolveError::Unresolved { name: name.clone(), cause: error.to_string() })?;
                    for address in found.take(ADDRESSES_MAX) {
                        reachable.admit(target, name, address.ip().to_canonical(), is_own)?;
                    }
                }
            }
        }
        Ok(reachable)
    }

    /// Adds one address of a name. `is_own` returns whether an address is assigned to this host.
    fn admit(
        &mut self,
        target: &TcpTarget,
        name: &str,
        address: IpAddr,
        is_own: impl Fn(IpAddr) -> io::Result<bool>,
    ) -> Result<(), ResolveError> {
        let refused = |why: String| ResolveError::Refused { name: name.to_owned(), address, why };
        target.admits(address).map_err(|why| refused(why.to_owned()))?;
        for embedded in with_embedded_addresses(address) {
            match is_own(embedded) {
                Ok(false) => {}
                Ok(true) => return Err(refused("an address of this host, which must be written literally".to_owned())),
                Err(error) => {
                    return Err(refused(format!("which could not be told from this host's own addresses ({error})")));
                }
            }
        }
        self.addresses.entry(SocketAddr::new(address, target.port)).or_insert_with(|| target.to_string());
        let known = self
            .names
            .entry(name.to_ascii_lowercase())
            .or_insert_with(|| NameEntry { entry: target.to_string(), addresses: Vec::new() });
        if !known.addresses.contains(&address) {
            known.addresses.push(address);
        }
        Ok(())
    }

    /// Answers a guest's look-up: an IP literal, which needs no look-up, or the addresses of a
    /// granted name.
    fn look_up(&self, name: &str) -> LookUp {
        if name.len() > NAME_MAX {
            return LookUp::Invalid;
        }
        let literal = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
        if let Ok(address) = IpAddr::from_str(literal) {
            return LookUp::Literal(address);
        }
        match self.names.get(&folded(name)) {
            Some(known) => LookUp::Granted { entry: known.entry.clone(), addresses: known.addresses.clone() },
            None if is_host_name(name) => LookUp::Denied,
            None => LookUp::Invalid,
        }
    }
}

/// The result of a look-up.
#[derive(Debug, PartialEq, Eq)]
enum LookUp {
    /// The name is an IP address.
    Literal(IpAddr),
    /// An entry of `tcp` grants the name.
    Granted { entry: String, addresses: Vec<IpAddr> },
    /// No entry of `tcp` contains the name.
    Denied,
    /// The text can be no host's name, so there is nothing to decide.
    Invalid,
}

/// One run's network: what it may reach, and the broker that audits its attempts.
#[derive(Clone)]
pub(super) struct Network {
    reachable: Arc<Reachable>,
    broker: Arc<RunBroker>,
}

impl Network {
    pub(super) fn new(reachable: Reachable, broker: Arc<RunBroker>) -> Self {
        Self { reachable: Arc::new(reachable), broker }
    }

    /// Configures sockets: TCP connections to the resolved addresses; no listening, no UDP, no
    /// look-up by the engine.
    ///
    /// Any run can create a socket, because the destination is known only at `connect`, and the
    /// denied address belongs in the audit log. A socket that is not connected reaches nothing.
    pub(super) fn configure(&self, wasi: &mut WasiCtxBuilder) {
        let network = self.clone();
        wasi.allow_tcp(true).allow_udp(false).allow_ip_name_lookup(false).socket_addr_check(move |address, purpose| {
            let network = network.clone();
            Box::pin(async move { network.admits(address, purpose).await })
        });
    }

    /// Decides whether a socket may be used for this purpose. The decision is audited first.
    async fn admits(&self, address: SocketAddr, purpose: SocketAddrUse) -> bool {
        let operation = match purpose {
            SocketAddrUse::TcpConnect => NetworkOperation::Connect,
            // Every connection first requests an implicit bind to the wildcard address.
            SocketAddrUse::TcpBind if address.ip().is_unspecified() && address.port() == 0 => return true,
            SocketAddrUse::TcpBind | SocketAddrUse::TcpListen => NetworkOperation::Listen,
            _ => return false,
        };
        let granted = self.reachable.addresses.get(&address).filter(|_| operation == NetworkOperation::Connect);
        // The system chooses the port of a bind to the wildcard address, so the port carries no
        // information.
        let chosen = operation == NetworkOperation::Listen && address.ip().is_unspecified();
        let target = if chosen { SocketAddr::new(address.ip(), 0) } else { address }.to_string();
        // A policy cannot write an IPv6 flow label or zone, so no entry allows an address that has
        // one.
        let is_plain = SocketAddr::new(address.ip(), address.port()) == address;
        let would_allow = match (operation, granted) {
            (NetworkOperation::Connect, None) if is_plain => {
                TcpTarget::parse(&target).ok().map(|target| target.to_string())
            }
            _ => None,
        };
        let entry = granted.map(String::as_str);
        self.broker.contact(Contact { operation, target: &target, entry, would_allow }).await
    }

    /// Answers a guest's look-up. The decision is audited first. An address and an invalid name
    /// need no decision.
    async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, ErrorCode> {
        let (entry, would_allow, addresses) = match self.reachable.look_up(name) {
            LookUp::Literal(address) => return Ok(vec![address]),
            LookUp::Granted { entry, addresses } => (Some(entry), None, addresses),
            LookUp::Invalid => return Err(ErrorCode::InvalidArgument),
            LookUp::Denied => {
                // Checks whether a policy could contain the name; the port is arbitrary.
                let target = TcpTarget::parse(&format!("{}:1", name.strip_suffix('.').unwrap_or(name))).ok();
                let named = target.and_then(|target| match target.host {
                    TcpHost::Name(name) => Some(format!("{name}:PORT")),
                    TcpHost::Address(_) => None,
                });
                (None, named, Vec::new())
            }
        };
        // A granted name is recorded as the policy spells it: a guest could look it up under too
        // many spellings to count each.
        let folded = entry.as_ref().map(|_| folded(name));
        let target = folded.as_deref().unwrap_or(name);
        let contact = Contact { operation: NetworkOperation::LookUp, target, entry: entry.as_deref(), would_allow };
        if self.broker.contact(contact).await { Ok(addresses) } else { Err(ErrorCode::NameUnresolvable) }
    }
}

/// The addresses of one look-up, all available immediately.
struct Answers(std::vec::IntoIter<IpAddr>);

#[async_trait]
impl Pollable for Answers {
    async fn ready(&mut self) {}
}

/// Adds `wasi:sockets/ip-name-lookup`, answered from the run's resolved addresses. The engine's own
/// implementation is never linked.
pub(super) fn add_lookup<T: Send + 'static>(
    linker: &mut Linker<T>,
    get: impl Fn(&mut T) -> (&Network, &mut ResourceTable) + Copy + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    let mut instance = linker.instance("wasi:sockets/ip-name-lookup@0.2.12")?;
    instance.resource("resolve-address-stream", ResourceType::host::<Answers>(), move |mut store, rep| {
        get(store.data_mut()).1.delete(Resource::<Answers>::new_own(rep))?;
        Ok(())
    })?;
    instance.func_wrap_async(
        "resolve-addresses",
        move |mut store, (capability, name): (Resource<Capability>, String)| {
            Box::new(async move {
                let (network, table) = get(store.data_mut());
                table.get(&capability)?;
                let found = network.clone().look_up(&name).await;
                let answer: Result<Resource<Answers>, ErrorCode> = match found {
                    Ok(addresses) => Ok(get(store.data_mut()).1.push(Answers(addresses.into_iter()))?),
                    Err(code) => Err(code),
                };
                Ok((answer,))
            })
        },
    )?;
    instance.func_wrap(
        "[method]resolve-address-stream.resolve-next-address",
        move |mut store, (stream,): (Resource<Answers>,)| {
            let next = get(store.data_mut()).1.get_mut(&stream)?.0.next();
            let answer: Result<Option<IpAddress>, ErrorCode> = Ok(next.map(to_wasi));
            Ok((answer,))
        },
    )?;
    instance.func_wrap(
        "[method]resolve-address-stream.subscribe",
        move |mut store, (stream,): (Resource<Answers>,)| {
            let pollable: Resource<DynPollable> = subscribe(get(store.data_mut()).1, stream)?;
            Ok((pollable,))
        },
    )?;
    Ok(())
}

/// Returns whether a text can be the name of a host. Names with other characters than those of ASCII
/// are valid, although no policy can grant them.
fn is_host_name(text: &str) -> bool {
    let is_valid = |c: char| match c {
        '-' | '_' => true,
        _ if c.is_ascii() => c.is_ascii_alphanumeric(),
        _ => !c.is_control() && !c.is_whitespace(),
    };
    let mut labels = text.strip_suffix('.').unwrap_or(text).split('.');
    labels.all(|label| (1..=LABEL_MAX).contains(&label.len()) && label.chars().all(is_valid))
}

/// Returns whether an address is assigned to this host, so that services on it are reachable there.
///
/// The system decides, because only an assigned address can be bound. A list of the interfaces
/// would not contain whole networks that are routed to the host itself, such as 127.0.0.0/8.
fn is_own(address: IpAddr) -> io::Result<bool> {
    use rustix::io::Errno;
    match UdpSocket::bind((address, 0)) {
        Ok(_) => Ok(true),
        Err(error) => match Errno::from_io_error(&error) {
            // The second: this host has no addresses of the family.
            Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT) => Ok(false),
            _ => Err(error),
        },
    }
}

/// Returns a name as the policy spells it: in lower case, without a trailing dot.
fn folded(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn to_wasi(address: IpAddr) -> IpAddress {
    match address {
        IpAddr::V4(address) => IpAddress::Ipv4(address.octets().into()),
        IpAddr::V6(address) => IpAddress::Ipv6(address.segments().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // attack: escape: send data out through DNS lookups -> lookups are answered from the names of
    // the policy, and DNS is never asked
    #[test]
    fn look_ups_answer_from_what_was_resolved() {
        let mut reachable = Reachable::default();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let entry = "db.example:5432".to_owned();
        reachable.names.insert("db.example".into(), NameEntry { entry: entry.clone(), addresses: vec![address] });
        assert_eq!(reachable.look_up("DB.example."), LookUp::Granted { entry, addresses: vec![address] });
        assert_eq!(reachable.look_up("192.0.2.9"), LookUp::Literal("192.0.2.9".parse().unwrap()));
        assert_eq!(reachable.look_up("[::1]"), LookUp::Literal("::1".parse().unwrap()));
        assert_eq!(reachable.look_up("secret.attacker.example"), LookUp::Denied);
        assert_eq!(reachable.look_up("m\u{fc}nchen.example"), LookUp::Denied);
    }

    #[tokio::test]
    async fn invalid_name_is_an_invalid_argument_and_not_recorded() {
        let (_home, session) = crate::session_for_tests::session_for_tests().await;
        let network = Network::new(Reachable::default(), Arc::clone(session.broker()));
        let (long, long_label) = ("x.".repeat(NAME_MAX / 2) + "x", "x".repeat(LABEL_MAX + 1));
        let invalid = ["", " ", ".", "a..b", "a b", "a\n", "a.b<&>", "127.0.0.1:80", "[::]:80", "http://db.example/"];
        for name in invalid.into_iter().chain([&*long, &*long_label]) {
            assert_eq!(network.look_up(name).await, Err(ErrorCode::InvalidArgument), "{name}");
        }
        assert_eq!(session.broker().contacts(), []);
        assert_eq!(network.look_up("db.example").await, Err(ErrorCode::NameUnresolvable));
        assert_eq!(session.broker().contacts().len(), 1);
    }

    // attack: escape: reach a metadata service through an address or name in the policy -> metadata
    // addresses are refused in every form, for names after resolution
    #[test]
    fn names_do_not_lead_to_refused_addresses() {
        let target = TcpTarget::parse("db.example:5432").unwrap();
        let mut reachable = Reachable::default();
        for address in ["127.0.0.1", "::1", "169.254.169.254", "::ffff:169.254.169.254", "0.0.0.0"] {
            assert!(reachable.admit(&target, "db.example", address.parse().unwrap(), is_other).is_err(), "{address}");
        }
        assert!(reachable.addresses.is_empty() && reachable.names.is_empty());
        reachable.admit(&target, "db.example", "192.0.2.1".parse().unwrap(), is_own).unwrap();
        let (address, entry) = reachable.addresses.first_key_value().unwrap();
        assert_eq!((address.to_string().as_str(), entry.as_str()), ("192.0.2.1:5432", "db.example:5432"));
    }

    fn is_other(_: IpAddr) -> io::Result<bool> {
        Ok(false)
    }

    // attack: escape: reach a service of the host through a name that resolves to an address of its
    // interfaces -> the system is asked whether the address is its own, and the name is refused
    #[test]
    fn name_with_an_address_of_this_host_is_refused() {
        let target = TcpTarget::parse("db.example:5432").unwrap();
        let mut reachable = Reachable::default();
        let assigned = |address: IpAddr| Ok(address.to_string() == "192.0.2.7" || address.to_string() == "2001:db8::7");
        // 6to4 and NAT64 embed 192.0.2.7.
        for address in ["192.0.2.7", "2001:db8::7", "::ffff:192.0.2.7", "2002:c000:207::1", "64:ff9b::c000:207"] {
            let refused = reachable.admit(&target, "db.example", address.parse().unwrap(), assigned).unwrap_err();
            assert!(refused.to_string().contains("an address of this host"), "{address}: {refused}");
        }
        let unknown = |_: IpAddr| Err(io::Error::other("too many open files"));
        let refused = reachable.admit(&target, "db.example", "192.0.2.1".parse().unwrap(), unknown).unwrap_err();
        assert!(refused.to_string().contains("too many open files"), "{refused}");
        assert!(reachable.addresses.is_empty() && reachable.names.is_empty());
        reachable.admit(&target, "db.example", "192.0.2.8".parse().unwrap(), assigned).unwrap();
        assert_eq!(reachable.addresses.len(), 1);
    }

    #[test]
    fn system_tells_its_own_addresses_from_others() {
        for own in ["127.0.0.1", "127.255.0.9"] {
            assert!(is_own(own.parse().unwrap()).unwrap(), "{own}");
        }
        for other in ["192.0.2.1", "203.0.113.200", "2001:db8::1"] {
            assert!(!is_own(other.parse().unwrap()).unwrap(), "{other}");
        }
        // The address that this host would send from, if it has a route; nothing is sent.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        if socket.connect("192.0.2.1:9").is_ok() {
            let address = socket.local_addr().unwrap().ip();
            assert!(is_own(address).unwrap(), "{address}");
        }
    }

    #[tokio::test]
    async fn all_spellings_of_a_granted_name_are_one_destination() {
        let (_home, session) = crate::session_for_tests::session_for_tests().await;
        let mut reachable = Reachable::default();
        let target = TcpTarget::parse("db.example:5432").unwrap();
        reachable.admit(&target, "db.example", "192.0.2.1".parse().unwrap(), is_other).unwrap();
        let network = Network::new(reachable, Arc::clone(session.broker()));
        for name in ["db.example", "DB.example", "dB.eXample.", "db.examplE"] {
            assert!(network.look_up(name).await.is_ok(), "{name}");
        }
        let seen: Vec<_> = session.broker().contacts().into_iter().map(|used| (used.target, used.count)).collect();
        assert_eq!(seen, [("db.example".to_owned(), 4)]);
    }
}
