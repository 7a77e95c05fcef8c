//! TCP as the policy grants it, and nothing else of `wasi:sockets`.
//!
//! Names are resolved once, by the host, when the run starts. A guest's look-up answers from those addresses and never asks DNS, so that
//! it can neither be a channel to the outside nor be rebound between look-up and connection.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use wasmtime::component::{Linker, Resource, ResourceTable, ResourceType};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress, Network};
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};
use wasmtime_wasi::sockets::SocketAddrUse;

use crate::policy::{TcpHost, TcpTarget};

/// The most addresses of one name that are used.
const ADDRESSES_MAX: usize = 64;

/// What a run may connect to.
#[derive(Clone, Debug, Default)]
pub struct Reachable {
    addresses: BTreeSet<SocketAddr>,
    names: BTreeMap<String, Vec<IpAddr>>,
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
        /// The system's answer.
        cause: String,
    },
    /// The name leads to an address that is never reachable.
    #[error("the policy's `tcp` names `{name}`, which resolves to {address}, {why}: this is refused for names")]
    Refused {
        /// The name.
        name: String,
        /// What it resolved to.
        address: IpAddr,
        /// What kind of address that is.
        why: String,
    },
}

impl Reachable {
    /// Resolves the policy's targets, once.
    ///
    /// # Errors
    /// [`ResolveError`] where a name has no address, or one that is always refused, or a loopback address: that has to be
    /// written literally.
    pub async fn resolve(targets: &[TcpTarget]) -> Result<Self, ResolveError> {
        let mut reachable = Self::default();
        for target in targets {
            match &target.host {
                TcpHost::Address(address) => {
                    reachable.addresses.insert(SocketAddr::new(*address, target.port));
                }
                TcpHost::Name(name) => {
                    let found = tokio::net::lookup_host((name.as_str(), target.port))
                        .await
                        .map_err(|error| ResolveError::Unresolved { name: name.clone(), cause: error.to_string() })?;
                    for address in found.take(ADDRESSES_MAX) {
                        reachable.admit(target, name, address.ip().to_canonical())?;
                    }
                }
            }
        }
        Ok(reachable)
    }

    /// Takes up one address of a name.
    fn admit(&mut self, target: &TcpTarget, name: &str, address: IpAddr) -> Result<(), ResolveError> {
        target.admits(address).map_err(|why| ResolveError::Refused {
            name: name.to_owned(),
            address,
            why: why.to_owned(),
        })?;
        self.addresses.insert(SocketAddr::new(address, target.port));
        let known = self.names.entry(name.to_ascii_lowercase()).or_default();
        if !known.contains(&address) {
            known.push(address);
        }
        Ok(())
    }

    /// Sets up sockets: TCP connections to the addresses resolved; no listening, no explicit bind, no UDP, no look-up by the engine.
    pub(super) fn configure(&self, wasi: &mut WasiCtxBuilder) {
        let addresses = self.addresses.clone();
        wasi.allow_tcp(!addresses.is_empty()).allow_udp(false).allow_ip_name_lookup(false).socket_addr_check(
            move |address, purpose| {
                let allowed = match purpose {
                    SocketAddrUse::TcpConnect => addresses.contains(&address),
                    // Every connection first asks for an implicit bind to the wildcard address.
                    SocketAddrUse::TcpBind => address.ip().is_unspecified() && address.port() == 0,
                    _ => false,
                };
                Box::pin(async move { allowed })
            },
        );
    }

    /// The answer to a guest's look-up: a granted name, or an IP literal, which needs no look-up.
    fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, ErrorCode> {
        let literal = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
        if let Ok(address) = IpAddr::from_str(literal) {
            return Ok(vec![address]);
        }
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        self.names.get(&name).cloned().ok_or(ErrorCode::NameUnresolvable)
    }
}

/// The answers of one look-up. They are there at once.
struct Answers(std::vec::IntoIter<IpAddr>);

#[async_trait]
impl Pollable for Answers {
    async fn ready(&mut self) {}
}

/// Adds `wasi:sockets/ip-name-lookup`, answered from the addresses of the run. The engine's own implementation is never linked.
pub(super) fn add_lookup<T: Send + 'static>(
    linker: &mut Linker<T>,
    get: impl Fn(&mut T) -> (&Reachable, &mut ResourceTable) + Copy + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    let mut instance = linker.instance("wasi:sockets/ip-name-lookup@0.2.12")?;
    instance.resource("resolve-address-stream", ResourceType::host::<Answers>(), move |mut store, rep| {
        get(store.data_mut()).1.delete(Resource::<Answers>::new_own(rep))?;
        Ok(())
    })?;
    instance.func_wrap("resolve-addresses", move |mut store, (network, name): (Resource<Network>, String)| {
        let (reachable, table) = get(store.data_mut());
        table.get(&network)?;
        let answer: Result<Resource<Answers>, ErrorCode> = match reachable.look_up(&name) {
            Ok(addresses) => Ok(table.push(Answers(addresses.into_iter()))?),
            Err(code) => Err(code),
        };
        Ok((answer,))
    })?;
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

fn to_wasi(address: IpAddr) -> IpAddress {
    match address {
        IpAddr::V4(address) => IpAddress::Ipv4(address.octets().into()),
        IpAddr::V6(address) => IpAddress::Ipv6(address.segments().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_ups_answer_from_what_was_resolved() {
        let mut reachable = Reachable::default();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        reachable.names.insert("db.example".into(), vec![address]);
        assert_eq!(reachable.look_up("DB.example.").unwrap(), [address]);
        assert_eq!(reachable.look_up("192.0.2.9").unwrap(), ["192.0.2.9".parse::<IpAddr>().unwrap()]);
        assert_eq!(reachable.look_up("[::1]").unwrap(), ["::1".parse::<IpAddr>().unwrap()]);
        assert!(reachable.look_up("secret.attacker.example").is_err());
    }

    #[test]
    fn names_do_not_lead_to_refused_addresses() {
        let target = TcpTarget::parse("db.example:5432").unwrap();
        let mut reachable = Reachable::default();
        for address in ["127.0.0.1", "::1", "169.254.169.254", "::ffff:169.254.169.254", "0.0.0.0"] {
            assert!(reachable.admit(&target, "db.example", address.parse().unwrap()).is_err(), "{address}");
        }
        assert!(reachable.addresses.is_empty() && reachable.names.is_empty());
        reachable.admit(&target, "db.example", "192.0.2.1".parse().unwrap()).unwrap();
        assert_eq!(reachable.addresses.iter().next().unwrap().to_string(), "192.0.2.1:5432");
    }
}
