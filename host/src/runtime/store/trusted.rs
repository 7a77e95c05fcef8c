//! The one place that turns bytes into machine code, and the proof that it asks for.
//!
//! [`AuthenticatedCode`] can be made in three ways, all in this file: this process compiled the component itself, it received the code
//! from a compiler process that it started, or a keyed hash that only this user's store could make fits the very bytes in hand.

use wasmtime::Engine;
use wasmtime::component::Component;

use super::entry::{Key, Mac, mac};
use crate::ids::Digest;
use crate::runtime::compile::ChildOutput;
use crate::runtime::engine::EngineHash;

/// Compiled code of known origin. The bytes are held in memory, so what was checked is what is loaded.
pub(in crate::runtime) struct AuthenticatedCode(Vec<u8>);

impl AuthenticatedCode {
    /// Compiles a component here and now.
    ///
    /// # Errors
    /// The compiler's, where the component is not valid or too complex.
    pub(in crate::runtime) fn compile(engine: &Engine, component: &[u8]) -> wasmtime::Result<Self> {
        engine.precompile_component(component).map(Self)
    }

    /// Takes what a compiler process of ours sent.
    pub(in crate::runtime) fn from_child(output: ChildOutput) -> Self {
        Self(output.into_bytes())
    }

    /// Takes bytes from the store where their keyed hash is right for this component and engine.
    pub(super) fn check(
        key: &Key,
        component: &Digest,
        engine: &EngineHash,
        expected: &Mac,
        bytes: Vec<u8>,
    ) -> Option<Self> {
        // The comparison takes the same time whatever differs.
        (mac(key, component, engine, &bytes) == *expected).then_some(Self(bytes))
    }

    /// The code.
    pub(in crate::runtime) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Loads the code into an engine.
    ///
    /// # Errors
    /// wasmtime's, where the code is for another engine version, processor or configuration.
    #[allow(unsafe_code, reason = "loading compiled code trusts it; the type is the proof of where it comes from")]
    pub(in crate::runtime) fn load(&self, engine: &Engine) -> wasmtime::Result<Component> {
        // SAFETY: `Component::deserialize` asks for bytes that `precompile_component` made and nobody changed since. Every way to make
        // this type establishes that: the compiler's own answer, that of our compiler process over a private pipe, or bytes whose keyed
        // hash fits. The bytes are in private memory, so they do not change between the check and here.
        unsafe { Component::deserialize(engine, &self.0) }
    }
}
