//! Location of a Key Vault: its origin, and the audience and authority of its tokens.
//!
//! The vault's domain determines all three, so that a configuration cannot send the token for one
//! cloud to another. A host outside the Key Vault domains is rejected unless the configuration
//! declares it as an emulator.

use std::path::PathBuf;

use url::{Host, Url};

/// An Azure cloud.
struct Cloud {
    /// The domain of all its services.
    domain: &'static str,
    /// The audience of tokens for its vaults.
    audience: &'static str,
    /// The authority that issues tokens.
    authority: &'static str,
}

const PUBLIC: Cloud =
    Cloud { domain: "azure.net", audience: "https://vault.azure.net", authority: "https://login.microsoftonline.com" };

const CLOUDS: [Cloud; 3] = [
    PUBLIC,
    Cloud { domain: "azure.cn", audience: "https://vault.azure.cn", authority: "https://login.chinacloudapi.cn" },
    Cloud {
        domain: "usgovcloudapi.net",
        audience: "https://vault.usgovcloudapi.net",
        authority: "https://login.microsoftonline.us",
    },
];

/// Domains of vaults within a cloud: the normal one, and those of private endpoints.
const VAULT_DOMAINS: [&str; 3] = ["vault", "vaultcore", "privatelink.vaultcore"];

/// Domain of Managed HSM within a cloud. It is often mistaken for Key Vault but stores no secrets.
const HSM_DOMAIN: &str = "managedhsm";

impl Cloud {
    /// Returns the name of a service's resource in this cloud from its host name.
    fn resource<'a>(&self, host: &'a str, service: &str) -> Option<&'a str> {
        host.strip_suffix(self.domain)?.strip_suffix('.')?.strip_suffix(service)?.strip_suffix('.')
    }

    fn has_vault(&self, host: &str) -> bool {
        VAULT_DOMAINS.iter().any(|service| self.resource(host, service).is_some_and(is_vault_name))
    }
}

/// An emulator of Key Vault that the configuration declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emulator {
    /// Host and port of the emulator, such as `localhost:8443`.
    pub host: String,
    /// File with the only certificates trusted for it and its token endpoint.
    pub ca_file: PathBuf,
    /// The token authority, if it is another origin.
    pub authority: Option<String>,
    /// Origin that replaces the metadata address, if any. Plain HTTP is allowed on this machine, as
    /// for the real address.
    pub metadata: Option<String>,
}

/// Locations that the configuration permits in addition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exceptions {
    /// A token authority other than the cloud's own.
    pub authority: Option<String>,
    /// An emulator that may be used as a vault.
    pub emulator: Option<Emulator>,
}

/// Origin, token audience and token authority of a vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultLocation {
    origin: Url,
    audience: String,
    authority: Url,
    emulator: Option<Emulator>,
}

impl VaultLocation {
    /// Parses `https://NAME.vault.azure.net` and the equivalents of other clouds.
    ///
    /// # Errors
    /// A text that says what is wrong and what is valid.
    pub fn parse(text: &str, exceptions: &Exceptions) -> Result<Self, String> {
        let origin = origin(text)?;
        if let Some(emulator) = &exceptions.emulator
            && authority_of(&origin) == emulator.host.to_ascii_lowercase()
        {
            return Self::emulated(origin, emulator);
        }
        let host = match origin.host() {
            Some(Host::Domain(host)) => host.to_owned(),
            _ => return Err(format!("{} {NOT_A_VAULT}", shown(&origin))),
        };
        if CLOUDS.iter().any(|cloud| cloud.resource(&host, HSM_DOMAIN).is_some()) {
            return Err("a Managed HSM stores keys, not secrets: name a Key Vault".to_owned());
        }
        let Some(cloud) = CLOUDS.iter().find(|cloud| cloud.has_vault(&host)) else {
            return Err(format!("{} {NOT_A_VAULT}", shown(&origin)));
        };
        if origin.port().is_some() {
            return Err("a Key Vault uses port 443: omit the port".to_owned());
        }
        let authority = match &exceptions.authority {
            Some(text) => self::origin(text).map_err(|reason| format!("`azure.authority`: {reason}"))?,
            None => self::origin(cloud.authority)?,
        };
        Ok(Self { origin, audience: cloud.audience.to_owned(), authority, emulator: None })
    }

    fn emulated(origin: Url, emulator: &Emulator) -> Result<Self, String> {
        let authority = match &emulator.authority {
            Some(text) => self::origin(text).map_err(|reason| format!("`azure.emulator.authority`: {reason}"))?,
            None => origin.clone(),
        };
        if let Some(text) = &emulator.metadata {
            metadata_origin(text).map_err(|reason| format!("`azure.emulator.metadata`: {reason}"))?;
        }
        if !emulator.ca_file.is_absolute() {
            return Err("`azure.emulator.ca-file` must be an absolute path".to_owned());
        }
        // The audience of the public cloud.
        let audience = PUBLIC.audience.to_owned();
        Ok(Self { origin, audience, authority, emulator: Some(emulator.clone()) })
    }

    /// Returns the vault's origin, `https://host/`.
    pub fn origin(&self) -> &Url {
        &self.origin
    }

    /// Returns the audience of its tokens.
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// Returns the origin of the token authority.
    pub fn authority(&self) -> &Url {
        &self.authority
    }

    /// Returns the emulator, if this is one.
    pub fn emulator(&self) -> Option<&Emulator> {
        self.emulator.as_ref()
    }

    /// Returns the scope for token requests.
    pub(super) fn scope(&self) -> String {
        format!("{}/.default", self.audience)
    }

    /// Returns the origin that replaces the metadata address.
    pub(super) fn metadata(&self) -> Option<Url> {
        metadata_origin(self.emulator.as_ref()?.metadata.as_deref()?).ok()
    }
}

impl std::fmt::Display for VaultLocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.origin.as_str().trim_end_matches('/'))
    }
}

const NOT_A_VAULT: &str = "is not a Key Vault: addresses are `https://NAME.vault.azure.net`, or end in `vault.azure.cn`, \
                        `vault.usgovcloudapi.net` or the domain of a private endpoint; an emulator is declared in the configuration file \
                        under `[azure.emulator]`";

/// Parses an origin: `https`, a host, an optional port, and nothing else. Rejects texts that the
/// URL parser would correct.
fn origin(text: &str) -> Result<Url, String> {
    written_origin(text, "https", 443)
        .ok_or_else(|| "an address is `https://` and a host, without user, path or query".to_owned())
}

/// Parses the origin that replaces the metadata address. It may use plain HTTP on this machine.
fn metadata_origin(text: &str) -> Result<Url, String> {
    let is_near = |url: &Url| match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    written_origin(text, "https", 443).or_else(|| written_origin(text, "http", 80).filter(is_near)).ok_or_else(|| {
        "an address is `https://` and a host, or `http://` and a host of this machine, without user, path or query"
            .to_owned()
    })
}

fn written_origin(text: &str, scheme: &str, port: u16) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let plain = format!("{scheme}://{}", authority_of(&url));
    let written = text.strip_suffix('/').unwrap_or(text).to_ascii_lowercase();
    // The default port may be explicit.
    let is_plain = url.scheme() == scheme && (written == plain || written == format!("{plain}:{port}"));
    Url::parse(&plain).ok().filter(|_| is_plain)
}

/// Returns host and port as written in a URL.
fn authority_of(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => String::new(),
    }
}

fn shown(origin: &Url) -> String {
    format!("`{}`", strongroom_core::escape::escape_controls(origin.as_str().trim_end_matches('/')))
}

/// Returns whether a name has 3 to 24 letters, digits and single hyphens, starts with a letter and
/// does not end with a hyphen (Azure's naming rules).
fn is_vault_name(name: &str) -> bool {
    (3..=24).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && !name.ends_with('-')
        && !name.contains("--")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn location(text: &str) -> Result<VaultLocation, String> {
        VaultLocation::parse(text, &Exceptions::default())
    }

    fn emulator(host: &str) -> Exceptions {
        let emulator = Emulator { host: host.into(), ca_file: "/ca.pem".into(), authority: None, metadata: None };
        Exceptions { authority: None, emulator: Some(emulator) }
    }

    #[test]
    fn domain_determines_audience_and_authority() {
        for (host, audience, authority) in [
            ("team.vault.azure.net", "https://vault.azure.net", "https://login.microsoftonline.com/"),
            ("team.privatelink.vaultcore.azure.net", "https://vault.azure.net", "https://login.microsoftonline.com/"),
            ("team.vault.azure.cn", "https://vault.azure.cn", "https://login.chinacloudapi.cn/"),
            ("a-1.vault.usgovcloudapi.net", "https://vault.usgovcloudapi.net", "https://login.microsoftonline.us/"),
        ] {
            for text in [format!("https://{host}"), format!("https://{host}/"), format!("https://{host}:443")] {
                let location = location(&text).unwrap();
                assert_eq!(location.to_string(), format!("https://{host}"));
                assert_eq!((location.audience(), location.authority().as_str()), (audience, authority));
            }
        }
        assert_eq!(location("https://TEAM.Vault.Azure.NET").unwrap().to_string(), "https://team.vault.azure.net");
    }

    #[test]
    fn other_addresses_are_rejected() {
        for (text, word) in [
            ("http://team.vault.azure.net", "https://"),
            ("https://user@team.vault.azure.net", "without user"),
            ("https://team.vault.azure.net/secrets", "without user, path"),
            ("https://team.vault.azure.net?a=b", "query"),
            ("https://team.vault.azure.net#x", "query"),
            ("https:\\\\team.vault.azure.net", "https://"),
            ("https://team.vault.azure.net:8443", "port 443"),
            ("https://team.vault.azure.net.", "not a Key Vault"),
            ("https://team.vault.azure.net.evil.example", "not a Key Vault"),
            ("https://vault.azure.net", "not a Key Vault"),
            ("https://evilvault.azure.net", "not a Key Vault"),
            ("https://a.b.vault.azure.net", "not a Key Vault"),
            ("https://te--am.vault.azure.net", "not a Key Vault"),
            ("https://127.0.0.1", "not a Key Vault"),
            ("https://[::1]", "not a Key Vault"),
            ("https://localhost", "[azure.emulator]"),
            ("https://localhost:8443", "[azure.emulator]"),
            ("https://team.managedhsm.azure.net", "keys, not secrets"),
            ("https://", "https://"),
            (" https://team.vault.azure.net", "https://"),
            ("https://te%61m.vault.azure.net", "https://"),
        ] {
            let reason = location(text).unwrap_err();
            assert!(reason.contains(word), "{text}: {reason}");
        }
    }

    #[test]
    fn only_the_declared_host_is_an_emulator() {
        let exceptions = emulator("localhost:8443");
        let location = VaultLocation::parse("https://localhost:8443", &exceptions).unwrap();
        assert_eq!(location.authority().as_str(), "https://localhost:8443/");
        assert_eq!(location.scope(), "https://vault.azure.net/.default");
        for other in ["https://localhost:8444", "https://localhost", "https://127.0.0.1:8443", "http://localhost:8443"]
        {
            assert!(VaultLocation::parse(other, &exceptions).is_err(), "{other}");
        }
        // Real vaults remain usable next to an emulator.
        let real = VaultLocation::parse("https://team.vault.azure.net", &exceptions).unwrap();
        assert_eq!(real.emulator(), None);
        let mut relative = exceptions.clone();
        relative.emulator.as_mut().unwrap().ca_file = "ca.pem".into();
        assert!(VaultLocation::parse("https://localhost:8443", &relative).unwrap_err().contains("ca-file"));
    }

    #[test]
    fn emulator_metadata_is_local_or_uses_tls() {
        let with = |metadata: &str| {
            let mut exceptions = emulator("localhost:8443");
            exceptions.emulator.as_mut().unwrap().metadata = Some(metadata.into());
            VaultLocation::parse("https://localhost:8443", &exceptions)
        };
        for good in ["http://127.0.0.1:8080", "http://localhost", "http://[::1]:80/", "https://metadata.example:8443"] {
            assert!(with(good).unwrap().metadata().is_some(), "{good}");
        }
        for bad in [
            "http://metadata.example",
            "http://169.254.169.254",
            "http://127.0.0.1:8080/metadata",
            "http://me@127.0.0.1",
            "ftp://127.0.0.1",
            "127.0.0.1:8080",
        ] {
            let reason = with(bad).unwrap_err();
            assert!(reason.starts_with("`azure.emulator.metadata`"), "{reason}");
        }
    }

    #[test]
    fn configured_authority_must_be_an_origin() {
        let with = |authority: &str| Exceptions { authority: Some(authority.into()), emulator: None };
        let location =
            VaultLocation::parse("https://team.vault.azure.net", &with("https://login.corp.example")).unwrap();
        assert_eq!(location.authority().as_str(), "https://login.corp.example/");
        for bad in ["http://login.corp.example", "login.corp.example", "https://login.corp.example/tenant"] {
            let reason = VaultLocation::parse("https://team.vault.azure.net", &with(bad)).unwrap_err();
            assert!(reason.starts_with("`azure.authority`"), "{reason}");
        }
    }

    proptest! {
        #[test]
        fn accepted_hosts_are_below_a_known_domain(text in "(https://)?[a-z0-9.@:/?#\\\\%-]{0,40}(vault\\.azure\\.net)?[a-z.:/@]{0,8}") {
            if let Ok(location) = location(&text) {
                let host = location.origin().host_str().unwrap().to_owned();
                let known = [
                    ".vault.azure.net", ".vaultcore.azure.net", ".vault.azure.cn", ".vaultcore.azure.cn",
                    ".vault.usgovcloudapi.net", ".vaultcore.usgovcloudapi.net",
                ];
                prop_assert!(known.iter().any(|domain| host.ends_with(domain)), "{}", host);
                prop_assert_eq!(location.origin().as_str(), format!("https://{host}/"));
            }
        }
    }
}
