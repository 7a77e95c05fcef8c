//! The hash of everything that compiled code depends on besides the component.

use std::fmt;
use std::hash::{Hash, Hasher};

use wasmtime::Engine;

/// A hash of everything that compiled code depends on besides the component: processor features,
/// engine version and settings.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EngineHash([u8; 32]);

impl EngineHash {
    /// Returns the hash of an engine. Code that was compiled under an equal hash loads in it.
    pub fn of(engine: &Engine) -> Self {
        let mut hasher = Blake3(blake3::Hasher::new_derive_key("strongroom 2026 engine compatibility"));
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self(hasher.0.finalize().into())
    }

    /// Returns the 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for EngineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A hasher that keeps its whole input. The standard hashers keep 64 bits and are not stable across
/// releases.
struct Blake3(blake3::Hasher);

impl Hasher for Blake3 {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let hash = self.0.finalize();
        hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}
