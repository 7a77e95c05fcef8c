//! The services, each with its own port.

use serde::{Deserialize, Serialize};

/// A service of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// Key Vault's data plane, over TLS.
    #[default]
    Vault,
    /// The token endpoint and its discovery, over TLS.
    Authority,
    /// The metadata service of a virtual machine, without TLS like the real one.
    Metadata,
    /// The controls for tests, without TLS.
    Admin,
}

impl Service {
    pub(crate) const ALL: [Self; 4] = [Self::Vault, Self::Authority, Self::Metadata, Self::Admin];

    pub(crate) fn tls(self) -> bool {
        matches!(self, Self::Vault | Self::Authority)
    }
}
