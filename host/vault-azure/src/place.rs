//! Where a Key Vault is: its origin, and with it the audience of tokens and the authority that issues them.
//!
//! The vault's domain decides all three, so that a configuration cannot send the token of one cloud to another. A host that is no Key
//! Vault domain is refused, unless the configuration declares that very host as an emulator.

use std::path::PathBuf;

use url::{Host, Url};

/// An Azure cloud, told by the domain of its vaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloud {
    /// The public cloud.
    Public,
    /// The cloud that is run in China.
    China,
    /// The cloud of the United States government.
    UsGovernment,
}

/// The domains of each cloud's vaults: the ordinary one, and those that private endpoints resolve by.
const DOMAINS: &[(&str, Cloud)] = &[
    ("vault.azure.net", Cloud::Public),
    ("vaultcore.azure.net", Cloud::Public),
    ("privatelink.vaultcore.azure.net", Cloud::Public),
    ("vault.azure.cn", Cloud::China),
    ("vaultcore.azure.cn", Cloud::China),
    ("privatelink.vaultcore.azure.cn", Cloud::China),
    ("vault.usgovcloudapi.net", Cloud::UsGovernment),
    ("vaultcore.usgovcloudapi.net", Cloud::UsGovernment),
    ("privatelink.vaultcore.usgovcloudapi.net", Cloud::UsGovernment),
];

/// Domains of a service that is often taken for Key Vault and holds no secrets.
const HSM_DOMAINS: &[&str] = &["managedhsm.azure.net", "managedhsm.azure.cn", "managedhsm.usgovcloudapi.net"];

impl Cloud {
    /// What a token for a vault of this cloud is issued for.
    pub fn audience(self) -> &'static str {
        match self {
            Self::Public => "https://vault.azure.net",
            Self::China => "https://vault.azure.cn",
            Self::UsGovernment => "https://vault.usgovcloudapi.net",
        }
    }

    /// Who issues tokens in this cloud.
    pub fn authority(self) -> &'static str {
        match self {
            Self::Public => "https://login.microsoftonline.com",
            Self::China => "https://login.chinacloudapi.cn",
            Self::UsGovernment => "https://login.microsoftonline.us",
        }
    }
}

/// A stand-in for Key Vault, which the configuration declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emulator {
    /// The host and port that are the emulator: `localhost:8443`.
    pub host: String,
    /// The certificates that vouch for it and for its token endpoint, and no others.
    pub ca_file: PathBuf,
    /// Where it issues tokens, where that is another origin.
    pub authority: Option<String>,
    /// Where it answers what the metadata address would, where it does. As Azure's own, without TLS, where it is on this machine.
    pub metadata: Option<String>,
}

/// What a configuration says about places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exceptions {
    /// An authority host other than the cloud's own.
    pub authority: Option<String>,
    /// A host that is no Key Vault and yet to be used as one.
    pub emulator: Option<Emulator>,
}

/// Where a vault is, and who lets the host in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    origin: Url,
    audience: String,
    authority: Url,
    emulator: Option<Emulator>,
}

impl Place {
    /// Reads `https://NAME.vault.azure.net` and its like.
    ///
    /// # Errors
    /// What is wrong with it and what would be right.
    pub fn parse(text: &str, exceptions: &Exceptions) -> Result<Self, String> {
        let origin = origin(text)?;
        if let Some(emulator) = &exceptions.emulator
            && authority_of(&origin) == emulator.host.to_ascii_lowercase()
        {
            return Self::emulated(origin, emulator);
        }
        let host = match origin.host() {
            Some(Host::Domain(host)) => host.to_owned(),
            _ => return Err(format!("{} {NO_VAULT}", shown(&origin))),
        };
        if HSM_DOMAINS.iter().any(|domain| host.ends_with(&format!(".{domain}"))) {
            return Err("a Managed HSM holds keys and no secrets: name a Key Vault".to_owned());
        }
        let found = DOMAINS.iter().find_map(|(domain, cloud)| {
            let name = host.strip_suffix(domain)?.strip_suffix('.')?;
            is_vault_name(name).then_some(*cloud)
        });
        let Some(cloud) = found else { return Err(format!("{} {NO_VAULT}", shown(&origin))) };
        if origin.port().is_some() {
            return Err("a Key Vault is reached on port 443: leave the port out".to_owned());
        }
        let authority = match &exceptions.authority {
            Some(text) => self::origin(text).map_err(|reason| format!("`azure.authority`: {reason}"))?,
            None => self::origin(cloud.authority())?,
        };
        Ok(Self { origin, audience: cloud.audience().to_owned(), authority, emulator: None })
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
            return Err("`azure.emulator.ca-file` has to be an absolute path".to_owned());
        }
        // What a real vault would ask for: an emulator of the public cloud.
        let audience = Cloud::Public.audience().to_owned();
        Ok(Self { origin, audience, authority, emulator: Some(emulator.clone()) })
    }

    /// The vault's origin, `https://host/`.
    pub fn origin(&self) -> &Url {
        &self.origin
    }

    /// What a token for it is issued for.
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// The origin of whoever issues tokens.
    pub fn authority(&self) -> &Url {
        &self.authority
    }

    /// The emulator, where this is one.
    pub fn emulator(&self) -> Option<&Emulator> {
        self.emulator.as_ref()
    }

    /// The scope to ask a token for.
    pub(super) fn scope(&self) -> String {
        format!("{}/.default", self.audience)
    }

    /// Where requests for the metadata address go instead.
    pub(super) fn metadata(&self) -> Option<Url> {
        metadata_origin(self.emulator.as_ref()?.metadata.as_deref()?).ok()
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.origin.as_str().trim_end_matches('/'))
    }
}

const NO_VAULT: &str = "is no Key Vault: they are named `https://NAME.vault.azure.net`, or end in `vault.azure.cn`, \
                        `vault.usgovcloudapi.net` or the domain of a private endpoint; an emulator is declared in the configuration file \
                        under `[azure.emulator]`";

/// Reads an origin: `https`, a host, perhaps a port, and nothing else. What the URL parser would put right is refused, so that what
/// is read is what was written.
fn origin(text: &str) -> Result<Url, String> {
    written_origin(text, "https", 443)
        .ok_or_else(|| "an address is `https://` and a host, without user, path or query".to_owned())
}

/// Reads the origin of what stands in for the metadata address. Azure's own has no TLS, and is on the machine; so may this be.
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
    // A default port may be written out.
    let is_plain = url.scheme() == scheme && (written == plain || written == format!("{plain}:{port}"));
    Url::parse(&plain).ok().filter(|_| is_plain)
}

/// Host and port as they are written in a URL.
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

/// 3 to 24 letters, digits and single hyphens, a letter first and no hyphen last (Azure's rules for names of resources).
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

    fn place(text: &str) -> Result<Place, String> {
        Place::parse(text, &Exceptions::default())
    }

    fn emulator(host: &str) -> Exceptions {
        let emulator = Emulator { host: host.into(), ca_file: "/ca.pem".into(), authority: None, metadata: None };
        Exceptions { authority: None, emulator: Some(emulator) }
    }

    #[test]
    fn the_domain_decides_audience_and_authority() {
        for (host, audience, authority) in [
            ("team.vault.azure.net", "https://vault.azure.net", "https://login.microsoftonline.com/"),
            ("team.privatelink.vaultcore.azure.net", "https://vault.azure.net", "https://login.microsoftonline.com/"),
            ("team.vault.azure.cn", "https://vault.azure.cn", "https://login.chinacloudapi.cn/"),
            ("a-1.vault.usgovcloudapi.net", "https://vault.usgovcloudapi.net", "https://login.microsoftonline.us/"),
        ] {
            for text in [format!("https://{host}"), format!("https://{host}/"), format!("https://{host}:443")] {
                let place = place(&text).unwrap();
                assert_eq!(place.to_string(), format!("https://{host}"));
                assert_eq!((place.audience(), place.authority().as_str()), (audience, authority));
            }
        }
        assert_eq!(place("https://TEAM.Vault.Azure.NET").unwrap().to_string(), "https://team.vault.azure.net");
    }

    #[test]
    fn what_is_no_key_vault_is_refused() {
        for (text, word) in [
            ("http://team.vault.azure.net", "https://"),
            ("https://user@team.vault.azure.net", "without user"),
            ("https://team.vault.azure.net/secrets", "without user, path"),
            ("https://team.vault.azure.net?a=b", "query"),
            ("https://team.vault.azure.net#x", "query"),
            ("https:\\\\team.vault.azure.net", "https://"),
            ("https://team.vault.azure.net:8443", "port 443"),
            ("https://team.vault.azure.net.", "no Key Vault"),
            ("https://team.vault.azure.net.evil.example", "no Key Vault"),
            ("https://vault.azure.net", "no Key Vault"),
            ("https://evilvault.azure.net", "no Key Vault"),
            ("https://a.b.vault.azure.net", "no Key Vault"),
            ("https://te--am.vault.azure.net", "no Key Vault"),
            ("https://127.0.0.1", "no Key Vault"),
            ("https://[::1]", "no Key Vault"),
            ("https://localhost", "[azure.emulator]"),
            ("https://localhost:8443", "[azure.emulator]"),
            ("https://team.managedhsm.azure.net", "keys and no secrets"),
            ("https://", "https://"),
            (" https://team.vault.azure.net", "https://"),
            ("https://te%61m.vault.azure.net", "https://"),
        ] {
            let reason = place(text).unwrap_err();
            assert!(reason.contains(word), "{text}: {reason}");
        }
    }

    #[test]
    fn an_emulator_is_the_declared_host_and_no_other() {
        let exceptions = emulator("localhost:8443");
        let place = Place::parse("https://localhost:8443", &exceptions).unwrap();
        assert_eq!(place.authority().as_str(), "https://localhost:8443/");
        assert_eq!(place.scope(), "https://vault.azure.net/.default");
        for other in ["https://localhost:8444", "https://localhost", "https://127.0.0.1:8443", "http://localhost:8443"]
        {
            assert!(Place::parse(other, &exceptions).is_err(), "{other}");
        }
        // Beside an emulator, a real vault is a real vault.
        let real = Place::parse("https://team.vault.azure.net", &exceptions).unwrap();
        assert_eq!(real.emulator(), None);
        let mut relative = exceptions.clone();
        relative.emulator.as_mut().unwrap().ca_file = "ca.pem".into();
        assert!(Place::parse("https://localhost:8443", &relative).unwrap_err().contains("ca-file"));
    }

    #[test]
    fn the_metadata_address_of_an_emulator_is_near_or_over_tls() {
        let with = |metadata: &str| {
            let mut exceptions = emulator("localhost:8443");
            exceptions.emulator.as_mut().unwrap().metadata = Some(metadata.into());
            Place::parse("https://localhost:8443", &exceptions)
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
    fn an_authority_of_ones_own_is_an_origin() {
        let with = |authority: &str| Exceptions { authority: Some(authority.into()), emulator: None };
        let place = Place::parse("https://team.vault.azure.net", &with("https://login.corp.example")).unwrap();
        assert_eq!(place.authority().as_str(), "https://login.corp.example/");
        for bad in ["http://login.corp.example", "login.corp.example", "https://login.corp.example/tenant"] {
            let reason = Place::parse("https://team.vault.azure.net", &with(bad)).unwrap_err();
            assert!(reason.starts_with("`azure.authority`"), "{reason}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_below_a_known_domain(text in "(https://)?[a-z0-9.@:/?#\\\\%-]{0,40}(vault\\.azure\\.net)?[a-z.:/@]{0,8}") {
            if let Ok(place) = place(&text) {
                let host = place.origin().host_str().unwrap().to_owned();
                let is_known = DOMAINS.iter().any(|(domain, _)| host.ends_with(&format!(".{domain}")));
                prop_assert!(is_known, "{}", host);
                prop_assert_eq!(place.origin().as_str(), format!("https://{host}/"));
            }
        }
    }
}
