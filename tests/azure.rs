//! The real host with a Key Vault as its vault: the test server of `tests/keyvault`, over TLS on loopback.

mod base;
mod cases;
#[cfg(feature = "azure-client-certificate")]
mod certificate;
mod credentials;
mod guests;
mod operator;
mod proxy;
mod secrecy;
