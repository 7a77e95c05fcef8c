//! The real host with the Key Vault test server of `tests/keyvault` as its vault, over TLS on
//! loopback.

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
