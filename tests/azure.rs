//! The real host with a Key Vault as its vault: the test server of `tests/keyvault`, over TLS on loopback.

mod base;
mod cases;
#[cfg(feature = "azure-client-certificate")]
mod certificate;
mod credentials;
mod faults;
mod guests;
mod lifetimes;
mod load;
mod malice;
mod operator;
mod outage;
mod proxy;
mod secrecy;
mod telemetry;
mod tokens;
