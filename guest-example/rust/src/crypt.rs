//! Encrypts files with [age](https://age-encryption.org), with a new X25519 key per file that is
//! stored as a secret in the vault.

use age::secrecy::{ExposeSecret, SecretString};
use age::x25519::Identity;

/// Why a file could not be encrypted or decrypted. No message contains a key or data.
#[derive(Debug, thiserror::Error)]
pub enum CryptError {
    /// The text is not an age X25519 identity.
    #[error("the key is not an age identity: it has to be one line that starts with `AGE-SECRET-KEY-1`")]
    NotAKey,
    /// The file was encrypted for another key.
    #[error("this key does not open this file: it was encrypted for another one")]
    WrongKey,
    /// The file is damaged or not an age file.
    #[error("this is not an intact age file")]
    Damaged,
    /// Encryption failed.
    #[error("cannot encrypt: {0}")]
    Encrypt(String),
}

/// The key of one file, which encrypts and decrypts it.
pub struct Key(Identity);

impl Key {
    /// Generates a random key.
    pub fn generate() -> Self {
        Self(Identity::generate())
    }

    /// Parses a key in the format of [`Key::to_text`]. White space around it is ignored.
    pub fn parse(text: &str) -> Result<Self, CryptError> {
        text.trim().parse().map(Self).map_err(|_| CryptError::NotAKey)
    }

    /// Returns the key as text, to be stored only in a vault. The text is wiped from memory when it
    /// is dropped.
    pub fn to_text(&self) -> SecretText {
        SecretText(self.0.to_string())
    }

    /// Encrypts `plain` for this key.
    pub fn encrypt(&self, plain: &[u8]) -> Result<Vec<u8>, CryptError> {
        age::encrypt(&self.0.to_public(), plain).map_err(|error| CryptError::Encrypt(error.to_string()))
    }

    /// Decrypts the output of [`Key::encrypt`].
    pub fn decrypt(&self, sealed: &[u8]) -> Result<Vec<u8>, CryptError> {
        age::decrypt(&self.0, sealed).map_err(|error| match error {
            age::DecryptError::NoMatchingKeys => CryptError::WrongKey,
            _ => CryptError::Damaged,
        })
    }
}

/// A key as text. Without `Debug` and `Display`, so that it is not logged by accident.
pub struct SecretText(SecretString);

impl SecretText {
    /// Returns the text.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_key_decrypts_its_file() {
        let key = Key::generate();
        let sealed = key.encrypt(b"17.99,10.38").unwrap();
        assert!(!sealed.windows(5).any(|part| part == b"17.99"));
        let stored = format!("{}\n", key.to_text().expose());
        assert_eq!(Key::parse(&stored).unwrap().decrypt(&sealed).unwrap(), b"17.99,10.38");
    }

    #[test]
    fn each_failure_has_its_own_error() {
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
