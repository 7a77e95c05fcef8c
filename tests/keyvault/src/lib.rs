//! A Key Vault test server on loopback: the wire behaviour of Azure Key Vault's secrets, of the
//! token endpoint of Microsoft Entra ID, and of the metadata service of a virtual machine.
//!
//! `README.md` lists the behaviours with their sources, and what is missing. `tests/python.rs` runs
//! Microsoft's own client against the server, because the real service is not available in tests.
//!
//! ```no_run
//! use keyvault_server::{Fault, Kind, Options, Server};
//!
//! let server = Server::start(Options::default())?;
//! server.put("db-password", "hunter2");
//! server.fault(Fault::new(Kind::Throttle { retry_after: Some(1) }).times(2));
//! println!("{} {}", server.vault_url(), server.authority_url());
//! assert_eq!(server.counters().of("get-secret"), 0);
//! # Ok::<(), std::io::Error>(())
//! ```

mod admin;
mod authority;
mod certificates;
mod clock;
mod faults;
mod http;
mod journal;
mod listener;
mod metadata;
mod principals;
mod reply;
mod server;
mod service;
mod shared;
mod tokens;
mod vault;

pub use clock::Clock;
pub use faults::{Fault, Kind};
pub use journal::{Counters, Entry};
pub use principals::{Action, Permission};
pub use server::{Client, Server};
pub use service::Service;
pub use shared::{Options, Settings};
pub use vault::{NAME_LIMIT, TAG_LIMIT, VALUE_LIMIT};

/// Locks a mutex even if it is poisoned. No code leaves the data inconsistent, so a panic in
/// another thread does not matter.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
