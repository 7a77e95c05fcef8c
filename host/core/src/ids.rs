//! Parsed names, digests and IDs. All code behind the program's input parsing uses these types
//! instead of strings: their values are validated, and folded to lower case if case is
//! insignificant.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base16ct::HexDisplay;
use serde::{Deserialize, Serialize, Serializer};

/// The maximum length of a secret name (Azure Key Vault, "Objects, identifiers, and versioning").
pub const NAME_MAX: usize = 127;

/// The name of a secret in canonical form: 1 to 127 characters of `0-9 a-z -`.
///
/// Names are case-insensitive, as in Key Vault. Parsing folds a name to lower case, so later code
/// can compare names directly.
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
    /// Parses a name and folds it to lower case.
    ///
    /// # Errors
    /// Returns [`InvalidName`] if the text is empty, longer than [`NAME_MAX`] or contains any other
    /// character. The error does not repeat the text, which may be hostile or contain a secret.
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

    /// Returns the name in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns whether a secret name may contain a byte.
pub fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// Valid because equality, order and hash are those of the text.
impl Borrow<str> for SecretName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

/// The text is not a secret name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret name is 1 to 127 characters of 0-9, a-z, A-Z and `-`")]
pub struct InvalidName;

/// The vault's identifier of a secret version: 1 to 64 characters of `0-9 a-z A-Z -`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct SecretVersion(Arc<str>);

impl SecretVersion {
    /// Parses a version. Unlike names, versions are case-sensitive.
    ///
    /// # Errors
    /// Returns [`InvalidVersion`] if the text is empty, longer than 64 characters or contains any
    /// other character.
    pub fn parse(text: &str) -> Result<Self, InvalidVersion> {
        if text.is_empty() || text.len() > 64 || !text.bytes().all(is_name_byte) {
            return Err(InvalidVersion);
        }
        Ok(Self(text.into()))
    }

    /// Returns the version as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not a secret version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret version is 1 to 64 characters of 0-9, a-z, A-Z and `-`")]
pub struct InvalidVersion;

/// A SHA-256 digest. Its text form is `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// Computes the digest of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Creates a digest from its 32 bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the 64 hexadecimal digits without the prefix.
    pub fn to_hex(&self) -> String {
        format!("{:x}", HexDisplay(&self.0))
    }

    /// Parses `sha256:` and 64 hexadecimal digits of either case.
    ///
    /// # Errors
    /// Returns [`InvalidDigest`] for any other text.
    pub fn parse(text: &str) -> Result<Self, InvalidDigest> {
        let hex = text.strip_prefix("sha256:").ok_or(InvalidDigest)?;
        let mut bytes = [0; 32];
        let decoded = base16ct::mixed::decode(hex, &mut bytes).map_err(|_| InvalidDigest)?;
        if decoded.len() != 32 {
            return Err(InvalidDigest);
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{:x}", HexDisplay(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a SHA-256 digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is `sha256:` and 64 hexadecimal digits")]
pub struct InvalidDigest;

/// A run ID: a ULID, so that IDs sort by time. The host generates it; a guest can only read it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct RunId(ulid::Ulid);

impl RunId {
    /// Generates a new ID.
    pub fn generate() -> Self {
        Self(ulid::Ulid::generate())
    }

    /// Parses the 26 characters of a ULID.
    ///
    /// # Errors
    /// Returns [`InvalidRunId`] for any other text.
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

/// The text is not a run ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a run ID is a ULID of 26 characters")]
pub struct InvalidRunId;

/// Implements the text form of types that have `parse` and `Display`.
macro_rules! text_form {
    ($($type:ident or $error:ident;)*) => {$(
        impl FromStr for $type {
            type Err = $error;
            fn from_str(text: &str) -> Result<Self, $error> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = $error;
            fn try_from(text: String) -> Result<Self, $error> {
                Self::parse(&text)
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}

text_form! {
    SecretName or InvalidName;
    SecretVersion or InvalidVersion;
    Digest or InvalidDigest;
    RunId or InvalidRunId;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn secret_name_is_folded_and_validated() {
        assert_eq!(SecretName::parse("DB-Password").unwrap().as_str(), "db-password");
        for bad in ["", "a/b", "../keys/x", "%2e%2e", "ä", "a b", "a\0", "a.b", "a_b", &"x".repeat(128)] {
            assert_eq!(SecretName::parse(bad), Err(InvalidName), "{bad:?}");
        }
        assert!(SecretName::parse(&"x".repeat(127)).is_ok());
    }

    #[test]
    fn digest_display_parses_back() {
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
        fn secret_name_in_any_case_is_one_name(name in "[a-z0-9-]{1,40}", upper in any::<u64>()) {
            let spelled: String = name.chars().enumerate()
                .map(|(i, c)| if upper >> (i % 64) & 1 == 1 { c.to_ascii_uppercase() } else { c }).collect();
            prop_assert_eq!(SecretName::parse(&spelled), SecretName::parse(&name));
        }

        #[test]
        fn parse_never_panics(text in ".{0,200}") {
            let _ = SecretName::parse(&text);
            let _ = SecretVersion::parse(&text);
            let _ = Digest::parse(&text);
            let _ = RunId::parse(&text);
        }
    }
}
