//! Sealing with XChaCha20-Poly1305, and the encoding of what a seal is bound to.
//!
//! A seal is bound to everything that stands beside it in the database, so that a row which was edited, or moved to another name
//! or version, does not open. A nonce is 24 random bytes: long enough to be drawn for each seal without keeping a counter.

use std::sync::Arc;

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use zeroize::{Zeroize, Zeroizing};

use crate::VaultError;
use strongroom_core::secret::{Secret, VALUE_MAX};

/// Bytes of a nonce.
pub(super) const NONCE_LEN: usize = 24;
/// Bytes of a key.
pub(super) const KEY_LEN: usize = 32;
/// Bytes that a seal adds to what it holds.
pub(super) const TAG_LEN: usize = 16;

/// A key in memory of its own, overwritten when it is dropped. On the heap, so that moving it leaves no copy behind.
pub(super) struct Key(Zeroizing<Vec<u8>>);

impl Key {
    /// Takes over exactly [`KEY_LEN`] bytes; none for any other length.
    pub(super) fn from_bytes(bytes: Zeroizing<Vec<u8>>) -> Option<Self> {
        (bytes.len() == KEY_LEN).then_some(Self(bytes))
    }

    /// A new random key.
    pub(super) fn generate() -> Result<Self, VaultError> {
        let mut bytes = Zeroizing::new(vec![0; KEY_LEN]);
        fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The bytes, to be written to a key file, wrapped, or hashed.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn cipher(&self) -> Result<XChaCha20Poly1305, VaultError> {
        XChaCha20Poly1305::new_from_slice(&self.0)
            .map_err(|_| VaultError::Refused("the vault's key has a wrong length".into()))
    }
}

/// What was sealed.
pub(super) struct Sealed {
    pub(super) nonce: [u8; NONCE_LEN],
    pub(super) bytes: Vec<u8>,
}

/// What a seal is bound to: a domain and a list of fields, each written so that no two lists have the same bytes.
pub(super) struct Binding(Vec<u8>);

impl Binding {
    /// An empty list in a domain of its own. The domain names the purpose and the version of the encoding.
    pub(super) fn new(domain: &str) -> Self {
        Self(Vec::with_capacity(256)).bytes(domain.as_bytes())
    }

    /// Adds bytes after their length.
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

    /// Adds a text that may be absent. Absent and empty differ.
    pub(super) fn optional_text(mut self, text: Option<&str>) -> Self {
        self.0.push(u8::from(text.is_some()));
        match text {
            Some(text) => self.bytes(text.as_bytes()),
            None => self,
        }
    }

    /// Adds a number that may be absent.
    pub(super) fn optional_number(mut self, number: Option<i64>) -> Self {
        self.0.push(u8::from(number.is_some()));
        match number {
            Some(number) => self.number(number),
            None => self,
        }
    }

    /// The encoded list.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Fills a buffer with random bytes of the operating system.
pub(super) fn fill(bytes: &mut [u8]) -> Result<(), VaultError> {
    getrandom::fill(bytes)
        .map_err(|error| VaultError::Unavailable(format!("the system gives no random bytes: {error}")))
}

/// Seals a secret's value. The one place of the vault that exposes one.
pub(super) fn seal_value(key: &Key, binding: &Binding, value: &Secret) -> Result<Sealed, VaultError> {
    seal(key, binding, value.expose().as_bytes())
}

/// Seals bytes: a copy is encrypted in place, so that no plain bytes stay behind.
pub(super) fn seal(key: &Key, binding: &Binding, plain: &[u8]) -> Result<Sealed, VaultError> {
    let mut nonce = [0; NONCE_LEN];
    fill(&mut nonce)?;
    // Room for the tag from the start: growing later would leave a copy of the plain bytes in freed memory.
    let mut buffer = Zeroizing::new(Vec::with_capacity(plain.len().saturating_add(TAG_LEN)));
    buffer.extend_from_slice(plain);
    key.cipher()?
        .encrypt_in_place((&nonce).into(), binding.as_bytes(), &mut *buffer)
        .map_err(|_| VaultError::Invalid("the value cannot be sealed".into()))?;
    Ok(Sealed { nonce, bytes: std::mem::take(&mut *buffer) })
}

/// A seal did not open: the key, the binding or the bytes are not those that were sealed.
#[derive(Debug)]
pub(super) struct Broken;

/// Opens a seal in place.
pub(super) fn open(
    key: &Key,
    binding: &Binding,
    nonce: &[u8; NONCE_LEN],
    bytes: Vec<u8>,
) -> Result<Zeroizing<Vec<u8>>, Broken> {
    let mut buffer = Zeroizing::new(bytes);
    let cipher = key.cipher().map_err(|_| Broken)?;
    cipher.decrypt_in_place(nonce.into(), binding.as_bytes(), &mut *buffer).map_err(|_| Broken)?;
    Ok(buffer)
}

/// Opens a secret's value; the buffer becomes the secret without being copied.
pub(super) fn open_value(
    key: &Key,
    binding: &Binding,
    nonce: &[u8; NONCE_LEN],
    bytes: Vec<u8>,
) -> Result<Arc<Secret>, Broken> {
    if bytes.len() > VALUE_MAX + TAG_LEN {
        return Err(Broken);
    }
    let mut plain = open(key, binding, nonce, bytes)?;
    let text = String::from_utf8(std::mem::take(&mut *plain)).map_err(|error| {
        error.into_bytes().zeroize();
        Broken
    })?;
    Secret::new(text).map(Arc::new).map_err(|_| Broken)
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

    /// Two lists of the same shape, as two rows of one table are.
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
        fn different_fields_have_different_bytes((a, b) in same_shape()) {
            prop_assert_eq!(a == b, encode(&a) == encode(&b));
        }

        #[test]
        fn a_seal_opens_only_as_it_was(plain in any::<Vec<u8>>(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
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
