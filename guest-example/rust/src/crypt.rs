//! Sealing files with [age](https://age-encryption.org): one fresh X25519 key a file, kept as a secret in the vault.

use age::secrecy::{ExposeSecret, SecretString};
use age::x25519::Identity;

/// Why a file could not be sealed or opened. No message holds a key or data.
#[derive(Debug, thiserror::Error)]
pub enum CryptError {
    /// The text is not an age X25519 identity.
    #[error("the key is not an age identity: it has to be one line that starts with `AGE-SECRET-KEY-1`")]
    NotAKey,
    /// The file was sealed for another key.
    #[error("this key does not open this file: it was encrypted for another one")]
    WrongKey,
    /// The file is damaged, or not an age file at all.
    #[error("this is not an intact age file")]
    Damaged,
    /// Sealing failed.
    #[error("cannot encrypt: {0}")]
    Encrypt(String),
}

/// The key of one file. It opens the file and, because nobody else needs to, seals it too.
pub struct Key(Identity);

impl Key {
    /// A fresh random key.
    pub fn generate() -> Self {
        Self(Identity::generate())
    }

    /// Reads a key as [`Key::to_text`] wrote it. White space around it is ignored.
    pub fn parse(text: &str) -> Result<Self, CryptError> {
        text.trim().parse().map(Self).map_err(|_| CryptError::NotAKey)
    }

    /// The key as text, to be stored in a vault and nowhere else. It is wiped from memory when dropped.
    pub fn to_text(&self) -> SecretText {
        SecretText(self.0.to_string())
    }

    /// Seals `plain` so that this key opens it.
    pub fn encrypt(&self, plain: &[u8]) -> Result<Vec<u8>, CryptError> {
        age::encrypt(&self.0.to_public(), plain).map_err(|error| CryptError::Encrypt(error.to_string()))
    }

    /// Opens what [`Key::encrypt`] sealed.
    pub fn decrypt(&self, sealed: &[u8]) -> Result<Vec<u8>, CryptError> {
        age::decrypt(&self.0, sealed).map_err(|error| match error {
            age::DecryptError::NoMatchingKeys => CryptError::WrongKey,
            _ => CryptError::Damaged,
        })
    }
}

/// A key's text. It has neither `Debug` nor `Display`, so that it does not end in a log by accident.
pub struct SecretText(SecretString);

impl SecretText {
    /// The text itself.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_key_opens_what_it_sealed() {
        let key = Key::generate();
        let sealed = key.encrypt(b"17.99,10.38").unwrap();
        assert!(!sealed.windows(5).any(|part| part == b"17.99"));
        let stored = format!("{}\n", key.to_text().expose());
        assert_eq!(Key::parse(&stored).unwrap().decrypt(&sealed).unwrap(), b"17.99,10.38");
    }

    #[test]
    fn each_way_to_fail_is_told_apart() {
        let sealed = Key::generate().encrypt(b"rows").unwrap();
        let other = Key::generate();
        assert!(matches!(other.decrypt(&sealed), Err(CryptError::WrongKey)));
        assert!(matches!(other.decrypt(b"569,30,malignant,benign"), Err(CryptError::Damaged)));
        assert!(matches!(Key::parse("hunter2"), Err(CryptError::NotAKey)));

        let mut cut = other.encrypt(b"rows").unwrap();
        cut.pop();
        assert!(matches!(other.decrypt(&cut), Err(CryptError::Damaged)));
    }
}
