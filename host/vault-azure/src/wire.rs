//! Conversion between Key Vault models and the types of this project.
//!
//! Replies are not trusted: another secret than requested, an impossible time or an invalid name is
//! an error.

use azure_core::http::RequestContent;
use azure_core::time::OffsetDateTime;
use azure_security_keyvault_secrets::ResourceExt;
use azure_security_keyvault_secrets::models::{self, SecretAttributes, SecretProperties, SetSecretParameters};
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use zeroize::Zeroizing;

use super::error::CallError;
use strongroom_core::ids::{SecretName, SecretVersion};
use strongroom_core::secret::Secret;
use strongroom_vault::{Attributes, CONTENT_TYPE_MAX, Description, Stored};

/// A page of a list. Unlike the SDK, this requires `value`, which Key Vault sends for an empty page
/// too.
#[derive(Deserialize)]
pub(super) struct Page {
    pub(super) value: Vec<SecretProperties>,
    #[serde(rename = "nextLink")]
    pub(super) next_link: Option<String>,
}

/// An entry of a list: a secret, or one version of it.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) name: SecretName,
    pub(super) version: Option<SecretVersion>,
    pub(super) created: Timestamp,
    pub(super) enabled: bool,
    attributes: Attributes,
    updated: Timestamp,
}

impl Item {
    /// Converts an entry. Returns `None` if its name is not one that this project can represent.
    pub(super) fn read(properties: SecretProperties) -> Result<Option<Self>, CallError> {
        match properties.resource_id() {
            Ok(id) if SecretName::parse(&id.name).is_ok() => {}
            Err(_) if properties.id.is_none() => return Err(invalid_reply("a secret without an ID")),
            _ => return Ok(None),
        }
        let (name, version) = identity(&properties)?;
        Self::new(name, version, properties.attributes, properties.content_type).map(Some)
    }

    fn new(
        name: SecretName,
        version: Option<SecretVersion>,
        attributes: Option<SecretAttributes>,
        content_type: Option<String>,
    ) -> Result<Self, CallError> {
        let attributes = attributes.ok_or_else(|| invalid_reply("a secret without attributes"))?;
        if content_type.as_ref().is_some_and(|text| text.chars().count() > CONTENT_TYPE_MAX) {
            return Err(invalid_reply("a content type that is too long"));
        }
        let created = moment(attributes.created)?.ok_or_else(|| invalid_reply("a secret without a time"))?;
        Ok(Self {
            name,
            version,
            created,
            // Fail closed: a secret without this field is disabled.
            enabled: attributes.enabled == Some(true),
            attributes: Attributes {
                content_type: content_type.filter(|text| !text.is_empty()),
                not_before: moment(attributes.not_before)?,
                expires: moment(attributes.expires)?,
            },
            updated: moment(attributes.updated)?.unwrap_or(created),
        })
    }

    /// Converts an entry that is a version.
    pub(super) fn described(self) -> Result<Description, CallError> {
        let Self { name, version, created, enabled, attributes, updated } = self;
        let version = version.ok_or_else(|| invalid_reply("a secret without a version"))?;
        Ok(Description { name, version, attributes, created, updated, enabled })
    }
}

/// Converts a secret. Wraps its value before anything else can fail.
pub(super) fn stored(asked: &SecretName, mut secret: models::Secret) -> Result<Stored, CallError> {
    let value = secret.value.take().map(Secret::new);
    let description = description(asked, secret)?;
    match value {
        Some(Ok(value)) => Ok(Stored { value: Arc::new(value), description, stale: false }),
        Some(Err(error)) => Err(invalid_reply(&error.to_string())),
        None => Err(invalid_reply("a secret without a value")),
    }
}

/// Converts the metadata of a secret. Zeroizes a value that came with it.
pub(super) fn description(asked: &SecretName, mut secret: models::Secret) -> Result<Description, CallError> {
    drop(secret.value.take().map(Zeroizing::new));
    let (name, version) = identity(&secret)?;
    if name != *asked {
        return Err(invalid_reply("another secret than requested"));
    }
    Item::new(name, version, secret.attributes, secret.content_type)?.described()
}

/// Checks that the reply is about the deleted secret. Something between this host and the vault may
/// answer with success too.
pub(super) fn deleted(asked: &SecretName, deleted: &models::DeletedSecret) -> Result<(), CallError> {
    let (name, _) = identity(deleted)?;
    if name == *asked { Ok(()) } else { Err(invalid_reply("another secret than requested")) }
}

fn identity(resource: &impl ResourceExt) -> Result<(SecretName, Option<SecretVersion>), CallError> {
    let id = resource.resource_id().map_err(|_| invalid_reply("a secret without an ID"))?;
    let name = SecretName::parse(&id.name).map_err(|_| invalid_reply("a secret with an impossible name"))?;
    let version = id.version.as_deref().map(SecretVersion::parse).transpose();
    Ok((name, version.map_err(|_| invalid_reply("a secret with an impossible version"))?))
}

fn moment(time: Option<OffsetDateTime>) -> Result<Option<Timestamp>, CallError> {
    let read = |time: OffsetDateTime| Timestamp::from_second(time.unix_timestamp());
    time.map(read).transpose().map_err(|_| invalid_reply("an impossible time"))
}

fn invalid_reply(what: &str) -> CallError {
    CallError::InvalidReply(what.to_owned())
}

#[derive(Serialize)]
struct NewBody<'a> {
    value: &'a str,
    #[serde(rename = "contentType", skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    attributes: NewAttributes,
}

#[derive(Serialize)]
struct NewAttributes {
    enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
}

/// Serializes a new secret into a buffer that is zeroized when the request has been sent. Copies of
/// TLS and the kernel are not.
pub(super) fn new_body(value: &Secret, attributes: &Attributes) -> Result<Bytes, CallError> {
    let body = NewBody {
        value: value.expose(),
        content_type: attributes.content_type.as_deref(),
        // The vault uses whole seconds: round so that the validity period never becomes longer.
        attributes: NewAttributes {
            enabled: true,
            nbf: attributes.not_before.map(|time| time.as_second() + i64::from(time.subsec_nanosecond() > 0)),
            exp: attributes.expires.map(Timestamp::as_second),
        },
    };
    // Reserve space for a value in which each byte is escaped, so that the buffer never moves.
    let room = value.len().saturating_mul(6).saturating_add(4096);
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    serde_json::to_writer(&mut *text, &body).map_err(|_| invalid_reply("a value that cannot be written as JSON"))?;
    Ok(Bytes::from_owner(text))
}

/// Converts a body for the SDK.
pub(super) fn content(body: Bytes) -> RequestContent<SetSecretParameters> {
    body.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> SecretName {
        SecretName::parse("db").unwrap()
    }

    fn secret(json: &str) -> models::Secret {
        serde_json::from_str(json).unwrap()
    }

    const ID: &str = r#""id":"https://team.vault.azure.net/secrets/DB/0123abcd""#;

    #[test]
    fn secret_is_read_completely() {
        let json = format!(
            r#"{{{ID},"value":"hunter2","contentType":"text/plain",
                "attributes":{{"enabled":true,"created":1000,"updated":2000,"nbf":3,"exp":4}}}}"#
        );
        let stored = stored(&name(), secret(&json)).unwrap();
        assert_eq!(stored.value.expose(), "hunter2");
        let second = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(
            stored.description,
            Description {
                name: name(),
                version: SecretVersion::parse("0123abcd").unwrap(),
                attributes: Attributes {
                    content_type: Some("text/plain".into()),
                    not_before: Some(second(3)),
                    expires: Some(second(4)),
                },
                created: second(1000),
                updated: second(2000),
                enabled: true,
            }
        );
    }

    #[test]
    fn invalid_replies_are_rejected() {
        let good = r#""attributes":{"enabled":true,"created":1}"#;
        for (json, word) in [
            (format!(r#"{{"value":"v",{good}}}"#), "without an ID"),
            (format!(r#"{{"id":"https://x.vault.azure.net/secrets/other/1","value":"v",{good}}}"#), "another secret"),
            (format!(r#"{{"id":"https://x.vault.azure.net/keys/db/1","value":"v",{good}}}"#), "without an ID"),
            (format!(r#"{{"id":"https://x.vault.azure.net/secrets/d%20b/1","value":"v",{good}}}"#), "impossible name"),
            (format!(r#"{{"id":"https://x.vault.azure.net/secrets/db","value":"v",{good}}}"#), "without a version"),
            (format!(r#"{{{ID},{good}}}"#), "without a value"),
            (format!(r#"{{{ID},"value":"v"}}"#), "without attributes"),
            (format!(r#"{{{ID},"value":"v","attributes":{{"enabled":true}}}}"#), "without a time"),
            (format!(r#"{{{ID},"value":"{}",{good}}}"#, "x".repeat(30_000)), "25 KiB"),
            (format!(r#"{{{ID},"value":"v","contentType":"{}",{good}}}"#, "x".repeat(300)), "content type"),
        ] {
            let failure = stored(&name(), secret(&json)).unwrap_err();
            assert!(matches!(&failure, CallError::InvalidReply(text) if text.contains(word)), "{word}: {failure:?}");
        }
        let silent = format!(r#"{{{ID},"value":"v","attributes":{{"created":1}}}}"#);
        assert!(!stored(&name(), secret(&silent)).unwrap().description.enabled, "disabled if the field is missing");
    }

    #[test]
    fn foreign_replies_are_not_success_or_empty() {
        let deleted = |json: &str| super::deleted(&name(), &serde_json::from_str(json).unwrap());
        assert!(
            deleted(&format!("{{{ID},\"recoveryId\":\"https://team.vault.azure.net/deletedsecrets/db\"}}")).is_ok()
        );
        for other in ["{}", r#"{"id":"https://team.vault.azure.net/secrets/other/1"}"#, r#"{"error":{"code":"x"}}"#] {
            assert!(matches!(deleted(other), Err(CallError::InvalidReply(_))), "{other}");
        }
        let page = |json: &str| serde_json::from_str::<Page>(json);
        assert!(page(r#"{"value":[],"nextLink":null}"#).unwrap().value.is_empty());
        assert!(page(r#"{"value":[]}"#).unwrap().next_link.is_none());
        for other in ["{}", r#"{"value":null}"#, r#"{"error":{"code":"x"}}"#] {
            assert!(page(other).is_err(), "{other}");
        }
    }

    #[test]
    fn validity_is_rounded_to_be_shorter() {
        let time = |text: &str| Some(text.parse().unwrap());
        let attributes = Attributes {
            content_type: Some("a \"type\"".into()),
            not_before: time("2026-01-01T00:00:00.5Z"),
            expires: time("2027-01-01T00:00:00.5Z"),
        };
        let body = new_body(&Secret::new("\u{1}\"ü".into()).unwrap(), &attributes).unwrap();
        let read: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            read,
            serde_json::json!({"value": "\u{1}\"ü", "contentType": "a \"type\"",
                "attributes": {"enabled": true, "nbf": 1_767_225_601, "exp": 1_798_761_600}})
        );
        let bare = new_body(&Secret::new("v".into()).unwrap(), &Attributes::default()).unwrap();
        assert_eq!(&bare[..], br#"{"value":"v","attributes":{"enabled":true}}"#);
    }
}
