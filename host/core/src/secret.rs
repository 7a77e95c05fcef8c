//! The zeroizing wrapper around a secret value.
//!
//! A value enters through [`Secret::new`] and leaves through [`Secret::expose`] or its crate-private twin `expose_shared` and no other way; a
//! test over the source lists the callers of both. There is no `Serialize`, no `Display`, no `Clone`, and `Debug` prints no part
//! of the value.

use std::fmt;
use std::sync::Arc;

use zeroize::{Zeroize, Zeroizing};

/// The most bytes a value has: 25 KiB (Azure Key Vault, "About Azure Key Vault secrets").
pub const VALUE_MAX: usize = 25 * 1024;

/// A secret value. Its memory is overwritten when it is dropped.
///
/// The text is shared rather than owned so that the engine can lower it into a guest's memory without a copy of its own, which nobody
/// would overwrite. Whoever holds the shared text lets it go before the `Secret`.
pub struct Secret(Arc<str>);

impl Secret {
    /// Takes a value over. The buffer it came in is zeroized.
    ///
    /// # Errors
    /// [`ValueTooLong`] where the value is over [`VALUE_MAX`]; the text is zeroized.
    pub fn new(value: String) -> Result<Self, ValueTooLong> {
        let value = Zeroizing::new(value);
        if value.len() > VALUE_MAX {
            return Err(ValueTooLong);
        }
        Ok(Self(Arc::from(value.as_str())))
    }

    /// The value itself. Each caller is on the list in the test `callers_of_expose_are_listed`.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The value itself, for the one place that hands it to a guest without copying it.
    pub fn expose_shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the value is the empty text.
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

/// The value is longer than a vault takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret's value is at most 25 KiB (25,600 bytes)")]
pub struct ValueTooLong;

#[cfg(test)]
mod tests {
    use super::*;

    // promise: The debug output of a secret shows nothing of its value.
    #[test]
    fn debug_shows_nothing() {
        let secret = Secret::new("hunter2".into()).unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert_eq!(secret.expose(), "hunter2");
    }

    // attack: access: store a value that is one byte too long -> the type of a value enforces the
    // limit
    #[test]
    fn the_limit_is_in_bytes() {
        assert!(Secret::new("x".repeat(VALUE_MAX)).is_ok());
        assert_eq!(Secret::new("x".repeat(VALUE_MAX + 1)).unwrap_err(), ValueTooLong);
        assert_eq!(Secret::new("ä".repeat(VALUE_MAX / 2 + 1)).unwrap_err(), ValueTooLong);
    }
}
