//! Parsed names and digests. Nothing past the edge of the program handles these as plain strings: a value of one of these
//! types has been checked, and folded where case does not matter.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

/// The most characters a secret's name has (Azure Key Vault, "Objects, identifiers, and versioning").
pub const NAME_MAX: usize = 127;

/// The name of a secret in its only form: 1 to 127 characters of `0-9 a-z -`.
///
/// Names compare without regard to case, as Key Vault's do, so parsing folds to lower case once and nothing later has to
/// remember to.
///
/// ```
/// use strongroom_core::ids::SecretName;
///
/// assert_eq!(SecretName::parse("DB-Password")?.as_str(), "db-password");
/// assert!(SecretName::parse("../keys/x").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct SecretName(Arc<str>);

impl SecretName {
    /// Checks and folds a name.
    ///
    /// # Errors
    /// [`InvalidName`] where the text is empty, longer than [`NAME_MAX`] or has any other character. The error does not repeat
    /// the text, which may be hostile or hold a secret.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        if text.is_empty() || text.len() > NAME_MAX {
            return Err(InvalidName);
        }
        if !text.bytes().all(is_name_byte) {
            return Err(InvalidName);
        }
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Ok(Self(text.to_ascii_lowercase().into()));
        }
        Ok(Self(text.into()))
    }

    /// The folded name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a byte may stand in a secret's name.
pub fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SecretName {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::parse(text)
    }
}

impl TryFrom<String> for SecretName {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::parse(&text)
    }
}

impl From<SecretName> for String {
    fn from(name: SecretName) -> Self {
        name.as_str().to_owned()
    }
}

// Equal, ordered and hashed as its text is.
impl Borrow<str> for SecretName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl Serialize for SecretName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The text is no secret name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret name is 1 to 127 characters of 0-9, a-z, A-Z and `-`")]
pub struct InvalidName;

/// One version of a secret, as the vault calls it: 1 to 64 characters of `0-9 a-z A-Z -`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct SecretVersion(Arc<str>);

impl SecretVersion {
    /// Checks a version. Unlike names, versions keep their case.
    ///
    /// # Errors
    /// [`InvalidVersion`] where the text is empty, longer than 64 characters or has any other character.
    pub fn parse(text: &str) -> Result<Self, InvalidVersion> {
        if text.is_empty() || text.len() > 64 || !text.bytes().all(is_name_byte) {
            return Err(InvalidVersion);
        }
        Ok(Self(text.into()))
    }

    /// The version as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for SecretVersion {
    type Error = InvalidVersion;
    fn try_from(text: String) -> Result<Self, InvalidVersion> {
        Self::parse(&text)
    }
}

impl From<SecretVersion> for String {
    fn from(version: SecretVersion) -> Self {
        version.as_str().to_owned()
    }
}

impl Serialize for SecretVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The text is no version of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret's version is 1 to 64 characters of 0-9, a-z, A-Z and `-`")]
pub struct InvalidVersion;

/// A SHA-256 digest, written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// A digest computed elsewhere.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hexadecimal digits without the prefix.
    pub fn to_hex(&self) -> String {
        self.hex().to_owned()
    }

    /// The same without the heap: BLAKE3's output is as long, and its type can write itself.
    fn hex(&self) -> impl std::ops::Deref<Target = str> {
        blake3::Hash::from_bytes(self.0).to_hex()
    }

    /// Reads `sha256:` and 64 hexadecimal digits of either case.
    ///
    /// # Errors
    /// [`InvalidDigest`] for anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidDigest> {
        let hex = text.strip_prefix("sha256:").ok_or(InvalidDigest)?;
        if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(InvalidDigest);
        }
        let mut bytes = [0; 32];
        for (slot, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| InvalidDigest)?;
            *slot = u8::from_str_radix(pair, 16).map_err(|_| InvalidDigest)?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        f.write_str(&self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;
    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        Self::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The text is no SHA-256 digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is `sha256:` and 64 hexadecimal digits")]
pub struct InvalidDigest;

/// The identity of a run: a ULID, so that identities sort by time. The host makes it; a guest only reads it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct RunId(ulid::Ulid);

impl RunId {
    /// A new identity.
    pub fn generate() -> Self {
        Self(ulid::Ulid::generate())
    }

    /// Reads the 26 characters of a ULID.
    ///
    /// # Errors
    /// [`InvalidRunId`] for anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidRunId> {
        ulid::Ulid::from_string(text).map(Self).map_err(|_| InvalidRunId)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl TryFrom<String> for RunId {
    type Error = InvalidRunId;
    fn try_from(text: String) -> Result<Self, InvalidRunId> {
        Self::parse(&text)
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> Self {
        id.to_string()
    }
}

impl Serialize for RunId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.array_to_str(&mut [0; ulid::ULID_LEN]))
    }
}

/// The text is no run identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a run's identity is 26 characters, as `strongroom runs list` shows them")]
pub struct InvalidRunId;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_fold_and_reject() {
        assert_eq!(SecretName::parse("DB-Password").unwrap().as_str(), "db-password");
        for bad in ["", "a/b", "../keys/x", "%2e%2e", "ä", "a b", "a\0", "a.b", "a_b", &"x".repeat(128)] {
            assert_eq!(SecretName::parse(bad), Err(InvalidName), "{bad:?}");
        }
        assert!(SecretName::parse(&"x".repeat(127)).is_ok());
    }

    #[test]
    fn digests_round_trip() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(Digest::parse(&digest.to_string()), Ok(digest));
        assert!(Digest::parse("sha256:00").is_err());
    }

    proptest! {
        // promise: All spellings of a secret name are one name, so no spelling bypasses its policy
        // entry.
        // attack: access: bypass an entry by case, `../keys/x`, `a/b`, `%2e%2e`, an empty or
        // overlong name, non-ASCII or NUL -> a name is 1 to 127 characters of `0-9 a-z A-Z -`,
        // parsed and folded to lower case once
        #[test]
        fn every_spelling_of_a_name_is_one_name(name in "[a-z0-9-]{1,40}", upper in any::<u64>()) {
            let spelled: String = name.chars().enumerate()
                .map(|(i, c)| if upper >> (i % 64) & 1 == 1 { c.to_ascii_uppercase() } else { c }).collect();
            prop_assert_eq!(SecretName::parse(&spelled), SecretName::parse(&name));
        }

        #[test]
        fn parsing_never_panics(text in ".{0,200}") {
            let _ = SecretName::parse(&text);
            let _ = SecretVersion::parse(&text);
            let _ = Digest::parse(&text);
            let _ = RunId::parse(&text);
        }
    }
}
