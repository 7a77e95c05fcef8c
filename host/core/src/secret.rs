//! Zeroizing wrapper for a secret value.
//!
//! A value can be read only through [`Secret::expose`] and [`Secret::expose_shared`];
//! `tests/source_rules.rs` lists every caller of both. [`Secret`] implements neither `Serialize`,
//! `Display` nor `Clone`, and its `Debug` output contains no part of the value.

use std::fmt;
use std::sync::Arc;

use zeroize::{Zeroize, Zeroizing};

/// The maximum length of a value in bytes: 25 KiB (Azure Key Vault, "About Azure Key Vault
/// secrets").
pub const VALUE_MAX: usize = 25 * 1024;

/// A secret value. Its memory is zeroized when it is dropped.
///
/// The text is shared so that the engine can copy it into a guest's memory without an intermediate
/// copy, which would not be zeroized. Every holder of the shared text must drop it before the
/// `Secret`; otherwise it is not zeroized.
pub struct Secret(Arc<str>);

impl Secret {
    /// Creates a secret and zeroizes the buffer of `value`.
    ///
    /// # Errors
    /// Returns [`ValueTooLong`] if the value is longer than [`VALUE_MAX`]; its buffer is zeroized.
    pub fn new(value: String) -> Result<Self, ValueTooLong> {
        let value = Zeroizing::new(value);
        if value.len() > VALUE_MAX {
            return Err(ValueTooLong);
        }
        Ok(Self(Arc::from(value.as_str())))
    }

    /// Returns the value. `tests/source_rules.rs` lists every caller with a reason.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns the value as shared text, for the one caller that passes it to a guest without
    /// copying it.
    pub fn expose_shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether the value is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        if let Some(value) = Arc::get_mut(&mut self.0) {
            value.zeroize();
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The value is longer than vaults accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret's value is at most 25 KiB (25,600 bytes)")]
pub struct ValueTooLong;

#[cfg(test)]
mod tests {
    use super::*;

    // promise: The debug output of a secret shows nothing of its value.
    #[test]
    fn debug_output_hides_the_value() {
        let secret = Secret::new("hunter2".into()).unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert_eq!(secret.expose(), "hunter2");
    }

    // attack: access: store a value that is one byte too long -> the type of a value enforces the
    // limit
    #[test]
    fn value_above_the_byte_limit_is_refused() {
        assert!(Secret::new("x".repeat(VALUE_MAX)).is_ok());
        assert_eq!(Secret::new("x".repeat(VALUE_MAX + 1)).unwrap_err(), ValueTooLong);
        assert_eq!(Secret::new("ä".repeat(VALUE_MAX / 2 + 1)).unwrap_err(), ValueTooLong);
    }
}
