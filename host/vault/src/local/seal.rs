//! Authenticated encryption with XChaCha20-Poly1305, and the encoding of its associated data.
//!
//! The associated data contains all other fields of the row, so that a row that was edited, or
//! moved to another name or version, does not decrypt. A nonce is 24 random bytes: long enough to
//! draw one at random for each value instead of keeping a counter.

use std::sync::Arc;

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use zeroize::{Zeroize, Zeroizing};

use crate::VaultError;
use strongroom_core::secret::{Secret, VALUE_MAX};

/// Length of a nonce in bytes.
pub(super) const NONCE_LEN: usize = 24;
/// Length of a key in bytes.
pub(super) const KEY_LEN: usize = 32;
/// Length of an authentication tag in bytes.
pub(super) const TAG_LEN: usize = 16;

/// A key that is zeroized when it is dropped. It is on the heap, so that moving it leaves no copy.
pub(super) struct Key(Zeroizing<Vec<u8>>);

impl Key {
    /// Takes ownership of [`KEY_LEN`] bytes. Returns `None` for any other length.
    pub(super) fn from_bytes(bytes: Zeroizing<Vec<u8>>) -> Option<Self> {
        (bytes.len() == KEY_LEN).then_some(Self(bytes))
    }

    /// Generates a random key.
    pub(super) fn generate() -> Result<Self, VaultError> {
        let mut bytes = Zeroizing::new(vec![0; KEY_LEN]);
        fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Returns the bytes, to be written to a key file, wrapped, or hashed.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn cipher(&self) -> Result<XChaCha20Poly1305, VaultError> {
        XChaCha20Poly1305::new_from_slice(&self.0)
            .map_err(|_| VaultError::Refused("the vault's key has the wrong length".into()))
    }
}

/// Nonce and ciphertext with its tag.
pub(super) struct Sealed {
    pub(super) nonce: [u8; NONCE_LEN],
    pub(super) bytes: Vec<u8>,
}

/// Associated data: a domain and a list of fields in an injective encoding.
pub(super) struct Binding(Vec<u8>);

impl Binding {
    /// Creates an empty list for a domain, which states the purpose and the version of the
    /// encoding.
    pub(super) fn new(domain: &str) -> Self {
        Self(Vec::with_capacity(256)).bytes(domain.as_bytes())
    }

    /// Adds bytes, preceded by their length.
    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    /// Adds a number.
    pub(super) fn number(mut self, number: i64) -> Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    /// Adds an optional text. Absent and empty differ.
    pub(super) fn optional_text(mut self, text: Option<&str>) -> Self {
        self.0.push(u8::from(text.is_some()));
        match text {
            Some(text) => self.bytes(text.as_bytes()),
            None => self,
        }
    }

    /// Adds an optional number.
    pub(super) fn optional_number(mut self, number: Option<i64>) -> Self {
        self.0.push(u8::from(number.is_some()));
        match number {
            Some(number) => self.number(number),
            None => self,
        }
    }

    /// Returns the encoded list.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Fills a buffer with random bytes from the operating system.
pub(super) fn fill(bytes: &mut [u8]) -> Result<(), VaultError> {
    getrandom::fill(bytes)
        .map_err(|error| VaultError::Unavailable(format!("could not get random bytes from the system: {error}")))
}

/// Encrypts a secret's value. The only function of the vault that exposes one.
pub(super) fn seal_value(key: &Key, binding: &Binding, value: &Secret) -> Result<Sealed, VaultError> {
    seal(key, binding, value.expose().as_bytes())
}

/// Encrypts a copy of bytes in place, so that no plaintext stays behind.
pub(super) fn seal(key: &Key, binding: &Binding, plain: &[u8]) -> Result<Sealed, VaultError> {
    let mut nonce = [0; NONCE_LEN];
    fill(&mut nonce)?;
    // Reserve space for the tag: growing would leave a copy of the plaintext in freed memory.
    let mut buffer = Zeroizing::new(Vec::with_capacity(plain.len().saturating_add(TAG_LEN)));
    buffer.extend_from_slice(plain);
    key.cipher()?
        .encrypt_in_place((&nonce).into(), binding.as_bytes(), &mut *buffer)
        .map_err(|_| VaultError::Invalid("could not encrypt the value".into()))?;
    Ok(Sealed { nonce, bytes: std::mem::take(&mut *buffer) })
}

/// Decryption failed: the key, the associated data or the ciphertext differs from what was
/// encrypted.
#[derive(Debug)]
pub(super) struct DecryptError;

/// Decrypts in place.
pub(super) fn open(
    key: &Key,
    binding: &Binding,
    nonce: &[u8; NONCE_LEN],
    bytes: Vec<u8>,
) -> Result<Zeroizing<Vec<u8>>, DecryptError> {
    let mut buffer = Zeroizing::new(bytes);
    let cipher = key.cipher().map_err(|_| DecryptError)?;
    cipher.decrypt_in_place(nonce.into(), binding.as_bytes(), &mut *buffer).map_err(|_| DecryptError)?;
    Ok(buffer)
}

/// Decrypts a secret's value. The buffer becomes the secret without being copied.
pub(super) fn open_value(
    key: &Key,
    binding: &Binding,
    nonce: &[u8; NONCE_LEN],
    bytes: Vec<u8>,
) -> Result<Arc<Secret>, DecryptError> {
    if bytes.len() > VALUE_MAX + TAG_LEN {
        return Err(DecryptError);
    }
    let mut plain = open(key, binding, nonce, bytes)?;
    let text = String::from_utf8(std::mem::take(&mut *plain)).map_err(|error| {
        error.into_bytes().zeroize();
        DecryptError
    })?;
    Secret::new(text).map(Arc::new).map_err(|_| DecryptError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug, PartialEq)]
    enum Field {
        Bytes(Vec<u8>),
        Number(i64),
        Text(Option<String>),
        Maybe(Option<i64>),
    }

    fn encode(fields: &[Field]) -> Vec<u8> {
        fields
            .iter()
            .fold(Binding::new("test"), |binding, field| match field {
                Field::Bytes(bytes) => binding.bytes(bytes),
                Field::Number(number) => binding.number(*number),
                Field::Text(text) => binding.optional_text(text.as_deref()),
                Field::Maybe(number) => binding.optional_number(*number),
            })
            .as_bytes()
            .to_vec()
    }

    /// Two lists of the same shape, like two rows of one table.
    fn same_shape() -> impl Strategy<Value = (Vec<Field>, Vec<Field>)> {
        let pair = prop_oneof![
            (any::<Vec<u8>>(), any::<Vec<u8>>()).prop_map(|(a, b)| (Field::Bytes(a), Field::Bytes(b))),
            (any::<i64>(), any::<i64>()).prop_map(|(a, b)| (Field::Number(a), Field::Number(b))),
            (any::<Option<String>>(), any::<Option<String>>()).prop_map(|(a, b)| (Field::Text(a), Field::Text(b))),
            (any::<Option<i64>>(), any::<Option<i64>>()).prop_map(|(a, b)| (Field::Maybe(a), Field::Maybe(b))),
        ];
        prop::collection::vec(pair, 0..8).prop_map(|pairs| pairs.into_iter().unzip())
    }

    proptest! {
        #[test]
        fn different_fields_encode_differently((a, b) in same_shape()) {
            prop_assert_eq!(a == b, encode(&a) == encode(&b));
        }

        #[test]
        fn ciphertext_decrypts_only_if_unchanged(plain in any::<Vec<u8>>(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let key = Key::generate().unwrap();
            let binding = Binding::new("test").bytes(b"a");
            let sealed = seal(&key, &binding, &plain).unwrap();
            let opened = open(&key, &binding, &sealed.nonce, sealed.bytes.clone()).unwrap();
            prop_assert_eq!(&*opened, &plain);

            let mut flipped = sealed.bytes.clone();
            let at = at.index(flipped.len());
            flipped[at] ^= 1 << bit;
            prop_assert!(open(&key, &binding, &sealed.nonce, flipped).is_err());
            prop_assert!(open(&key, &Binding::new("test").bytes(b"b"), &sealed.nonce, sealed.bytes.clone()).is_err());
            prop_assert!(open(&Key::generate().unwrap(), &binding, &sealed.nonce, sealed.bytes).is_err());
        }
    }
}
