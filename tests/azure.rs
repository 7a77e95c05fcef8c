//! The real host with a Key Vault as its vault: the test server of `tests/keyvault`, over TLS on loopback.

mod base;
mod faults;
mod lifetimes;
mod load;
mod malice;
mod outage;
mod telemetry;
mod tokens;
