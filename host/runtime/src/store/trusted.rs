//! The only place that turns bytes into machine code, and the proof that it requires.
//!
//! [`AuthenticatedCode`] can be constructed in three ways, all in this file: this process compiled
//! the component itself, it received the code from a compiler process that it started, or a keyed
//! hash that only this user's store could compute verifies for these bytes.
//!
//! Code from the store is in a [`Sealed`] file, which the engine maps without a copy. If the system
//! has no such files, and for code that was just compiled, it is in this process's memory.

use std::borrow::Cow;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use wasmtime::Engine;
use wasmtime::component::Component;

use super::entry::{self, HEADER_LEN, Key, Mac};
use super::sealed::{MakeFile, Sealed};
use crate::compile::ChildOutput;
use crate::engine::EngineHash;
use strongroom_core::ids::Digest;

/// Compiled code of known origin, where no other process can change it: the bytes that were checked
/// are the bytes that are loaded.
pub(crate) struct AuthenticatedCode(Held);

enum Held {
    /// In this process's memory. Loading copies it.
    Memory(Vec<u8>),
    /// In a sealed file. Loading maps it.
    Sealed(Sealed),
}

impl AuthenticatedCode {
    /// Compiles a component in this process.
    ///
    /// # Errors
    /// The compiler's error if the component is not valid or too complex.
    pub(crate) fn compile(engine: &Engine, component: &[u8]) -> wasmtime::Result<Self> {
        engine.precompile_component(component).map(|bytes| Self(Held::Memory(bytes)))
    }

    /// Takes the output of a compiler process that this process started.
    pub(crate) fn from_child(output: ChildOutput) -> Self {
        Self(Held::Memory(output.into_bytes()))
    }

    /// Reads `length` bytes of code behind an entry's header; `None` if their keyed hash does not
    /// verify for this component and engine. `make` creates the file to seal; without it the bytes
    /// are held in memory.
    ///
    /// # Errors
    /// An error if the entry's file cannot be read or is shorter.
    pub(super) fn check(
        key: &Key,
        component: &Digest,
        engine: &EngineHash,
        expected: &Mac,
        (file, length): (&File, usize),
        make: MakeFile,
    ) -> std::io::Result<Option<Self>> {
        let hasher = entry::hasher(key, component, engine, length);
        let mut hashing = hasher.clone();
        // The hash covers what is written to the sealed file, chunk by chunk, and not what the
        // entry's file contains later.
        let sealed = Sealed::copy(file, HEADER_LEN as u64, length, make, |piece| {
            hashing.update(piece);
        });
        let (mac, held) = match sealed {
            Ok(sealed) => (hashing.finalize(), Held::Sealed(sealed)),
            Err(error) => {
                tracing::debug!(%error, "stored code is loaded from memory, since it cannot be put into a sealed file");
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, HEADER_LEN as u64)?;
                let mut hashing = hasher;
                (hashing.update(&bytes).finalize(), Held::Memory(bytes))
            }
        };
        // The comparison takes constant time.
        Ok((mac == *expected).then_some(Self(held)))
    }

    /// Returns the size of the code in bytes.
    pub(crate) fn len(&self) -> usize {
        match &self.0 {
            Held::Memory(bytes) => bytes.len(),
            Held::Sealed(sealed) => sealed.len(),
        }
    }

    /// Returns the code if it was just compiled; `None` if it is already in the store.
    pub(super) fn fresh(&self) -> Option<&[u8]> {
        match &self.0 {
            Held::Memory(bytes) => Some(bytes),
            Held::Sealed(_) => None,
        }
    }

    /// Returns whether the code is in a sealed file.
    #[cfg(test)]
    pub(super) fn is_sealed(&self) -> bool {
        matches!(self.0, Held::Sealed(_))
    }

    /// Returns a copy of the code.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> Vec<u8> {
        match &self.0 {
            Held::Memory(bytes) => bytes.clone(),
            Held::Sealed(sealed) => sealed.bytes().unwrap(),
        }
    }

    /// Loads the code into an engine.
    ///
    /// # Errors
    /// wasmtime's error if the code is for another engine version, processor or configuration.
    #[allow(unsafe_code, reason = "loading compiled code trusts it; the type is the proof of where it comes from")]
    pub(crate) fn load(&self, engine: &Engine) -> wasmtime::Result<Component> {
        if let Some(loaded) = self.load_mapped(engine) {
            return Ok(loaded);
        }
        let bytes = match &self.0 {
            Held::Memory(bytes) => Cow::Borrowed(bytes.as_slice()),
            // A system that does not let such a file be found or mapped as executable may still
            // allow memory.
            Held::Sealed(sealed) => Cow::Owned(sealed.bytes()?),
        };
        // SAFETY: `Component::deserialize` requires bytes that `precompile_component` made and that
        // were not changed since. Every constructor of this type establishes that: the output of
        // the compiler itself, the output of our compiler process over a private pipe, or bytes
        // whose keyed hash verifies. The bytes are in private memory or were read from a sealed
        // file, so they do not change between the check and this call.
        unsafe { Component::deserialize(engine, bytes) }
    }

    /// Maps the code from its sealed file; `None` if it is not in one, if the system does not let
    /// the file be found or mapped, or if the code is for another engine.
    #[allow(unsafe_code, reason = "loading compiled code trusts it; the type is the proof of where it comes from")]
    fn load_mapped(&self, engine: &Engine) -> Option<Component> {
        let Held::Sealed(sealed) = &self.0 else { return None };
        let path = sealed.path()?;
        // SAFETY: `Component::deserialize_file` requires a file that holds what
        // `precompile_component` made and that does not change while the component lives. The path
        // leads to the file that `sealed` holds open: that was checked, and the descriptor's number
        // is not reused while it is open. The keyed hash of what was written to that file verifies,
        // because only `check` constructs a `Held::Sealed`. Between creation and sealing only
        // `Sealed::copy` had the file, and from then on the system prevents every change, whoever
        // has it open.
        let loaded = unsafe { Component::deserialize_file(engine, path) };
        loaded
            .inspect_err(|error| tracing::debug!(%error, "stored code is loaded from memory, for it cannot be mapped"))
            .ok()
    }
}
