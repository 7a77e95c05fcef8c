//! The one place that turns bytes into machine code, and the proof that it asks for.
//!
//! [`AuthenticatedCode`] can be made in three ways, all in this file: this process compiled the component itself, it received the code
//! from a compiler process that it started, or a keyed hash that only this user's store could make fits the very bytes in hand.
//!
//! Code from the store lies in a [`Sealed`] file, from which the engine maps it without a copy; where there can be no such file, and where the
//! code was compiled just now, it lies in this process's memory.

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

/// Compiled code of known origin, where nobody else can change it: what was checked is what is loaded.
pub(crate) struct AuthenticatedCode(Held);

enum Held {
    /// In this process's memory. Loading copies it.
    Memory(Vec<u8>),
    /// In a file that nobody can change. Loading maps it.
    Sealed(Sealed),
}

impl AuthenticatedCode {
    /// Compiles a component here and now.
    ///
    /// # Errors
    /// The compiler's, where the component is not valid or too complex.
    pub(crate) fn compile(engine: &Engine, component: &[u8]) -> wasmtime::Result<Self> {
        engine.precompile_component(component).map(|bytes| Self(Held::Memory(bytes)))
    }

    /// Takes what a compiler process of ours sent.
    pub(crate) fn from_child(output: ChildOutput) -> Self {
        Self(Held::Memory(output.into_bytes()))
    }

    /// Takes `length` bytes of an entry's file, behind its header, where their keyed hash is right for this component and engine; `None` where it
    /// is not. `make` makes the file to be sealed; without one the bytes are held in memory.
    ///
    /// # Errors
    /// Where the entry's file cannot be read, or is shorter.
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
        // What is hashed is what is written to the sealed file, piece by piece, not what the entry's file holds later.
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
        // The comparison takes the same time whatever differs.
        Ok((mac == *expected).then_some(Self(held)))
    }

    /// How many bytes of code there are.
    pub(crate) fn len(&self) -> usize {
        match &self.0 {
            Held::Memory(bytes) => bytes.len(),
            Held::Sealed(sealed) => sealed.len(),
        }
    }

    /// The code where it was compiled just now; none where it is in the store already.
    pub(super) fn fresh(&self) -> Option<&[u8]> {
        match &self.0 {
            Held::Memory(bytes) => Some(bytes),
            Held::Sealed(_) => None,
        }
    }

    /// Whether it lies in a sealed file.
    #[cfg(test)]
    pub(super) fn is_sealed(&self) -> bool {
        matches!(self.0, Held::Sealed(_))
    }

    /// The code, wherever it lies.
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
    /// wasmtime's, where the code is for another engine version, processor or configuration.
    #[allow(unsafe_code, reason = "loading compiled code trusts it; the type is the proof of where it comes from")]
    pub(crate) fn load(&self, engine: &Engine) -> wasmtime::Result<Component> {
        if let Some(loaded) = self.load_mapped(engine) {
            return Ok(loaded);
        }
        let bytes = match &self.0 {
            Held::Memory(bytes) => Cow::Borrowed(bytes.as_slice()),
            // A system that lets no such file be found or run may still let memory.
            Held::Sealed(sealed) => Cow::Owned(sealed.bytes()?),
        };
        // SAFETY: `Component::deserialize` asks for bytes that `precompile_component` made and nobody changed since. Every way to make
        // this type establishes that: the compiler's own answer, that of our compiler process over a private pipe, or bytes whose keyed
        // hash fits. The bytes are in private memory or were read from a sealed file, so they do not change between the check and here.
        unsafe { Component::deserialize(engine, bytes) }
    }

    /// Maps the code from its sealed file; `None` where it lies in none, the system does not let it be found or mapped, or it is for another engine.
    #[allow(unsafe_code, reason = "loading compiled code trusts it; the type is the proof of where it comes from")]
    fn load_mapped(&self, engine: &Engine) -> Option<Component> {
        let Held::Sealed(sealed) = &self.0 else { return None };
        let path = sealed.path()?;
        // SAFETY: `Component::deserialize_file` asks for a file that holds what `precompile_component` made, and that does not change as long as the
        // component lives. The path leads to the file that `sealed` holds open: that was looked at, and the number is not given away while it is
        // open. The keyed hash of what was written to that file fits, since only `check` makes a `Held::Sealed`. From its making to its sealing only
        // `Sealed::copy` had it, and from then on the system lets nobody change it, whoever has it open.
        let loaded = unsafe { Component::deserialize_file(engine, path) };
        loaded
            .inspect_err(|error| tracing::debug!(%error, "stored code is loaded from memory, for it cannot be mapped"))
            .ok()
    }
}
