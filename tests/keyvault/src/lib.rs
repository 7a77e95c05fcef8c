//! A Key Vault to test against: the wire behaviour of Azure Key Vault's secrets, of the token endpoint of Microsoft Entra ID, and of the
//! metadata service of a virtual machine, on loopback.
//!
//! What it imitates, from which page each rule is, and what it does not imitate: `README.md`. The real service is not at hand in a test, so
//! something that was not written here vouches for this one: `tests/python.rs` has Microsoft's own client work against it.
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

/// Locks what nothing leaves half done: a thread that panicked in it changes nothing.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
