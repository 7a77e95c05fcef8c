//! Compiles components. A component is hostile input to a large program, and no limit of a run
//! applies yet.
//!
//! The binary compiles in a child process of itself, under limits of memory, CPU time and wall time
//! that the system enforces, so that a failure there does not affect the host. A host that embeds
//! the library may choose to compile in its own process; then only the time that callers wait is
//! bounded.

mod child;
mod parent;
mod wire;

use std::time::Duration;

use bytes::Bytes;
use wasmtime::Engine;

pub use self::child::as_child;
pub use self::parent::ChildCompiler;
pub(super) use self::parent::ChildOutput;
use super::engine::EngineHash;
use super::features::{self, Unacceptable};
use super::store::AuthenticatedCode;
use super::{error_text, text};

/// The hidden first argument that makes the binary compile. See [`as_child`].
pub const CHILD_ARGUMENT: &str = "__compile";

/// The largest compiled code of one component that is accepted, in bytes. Compiled code is about
/// twice the size of its component.
pub const CODE_MAX: usize = 512 * 1024 * 1024;

/// The longest compiler message that is kept, in characters.
pub(super) const MESSAGE_MAX: usize = 1_000;

/// Where compilation happens.
#[derive(Clone, Debug)]
pub enum Compile {
    /// In a child process with limits. The child's program must call [`as_child`].
    Child(ChildCompiler),
    /// In this process, on a thread for blocking work. A component can hold that thread and its
    /// memory for as long as the compiler takes, so use this only for components that are trusted
    /// to that extent.
    InProcess,
}

/// Why a component was not compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The component is not valid, or this host does not support it. The text completes a sentence,
    /// as in "is not valid: ...". It is escaped and bounded, and may contain names from the
    /// component.
    #[error("the component {0}")]
    Invalid(String),
    /// Compilation exceeded its limit on time or memory. The text names the limit and what to do.
    #[error("{0}")]
    Limit(String),
    /// The host failed; the component is not at fault.
    #[error("{0}")]
    Host(String),
}

impl Compile {
    /// Compiles a component for an engine, under the limits of this way of compiling. The caller
    /// bounds how long it waits.
    pub(super) async fn compile(
        &self,
        engine: &Engine,
        engine_hash: &EngineHash,
        component: Bytes,
    ) -> Result<AuthenticatedCode, CompileError> {
        match self {
            Self::Child(child) => child.compile(engine_hash, component).await.map(AuthenticatedCode::from_child),
            Self::InProcess => {
                let engine = engine.clone();
                let compiling = tokio::task::spawn_blocking(move || {
                    features::check(&component).map_err(|unacceptable| match unacceptable {
                        Unacceptable::Invalid(message) => invalid(&message),
                        Unacceptable::Unsupported(why) => unsupported(&why),
                    })?;
                    AuthenticatedCode::compile(&engine, &component)
                        .map_err(|error| invalid(&error_text::format(&error, MESSAGE_MAX)))
                });
                match compiling.await {
                    Ok(compiled) => compiled,
                    Err(_panic) => Err(CompileError::Host("the compiler failed on this component".to_owned())),
                }
            }
        }
    }
}

fn invalid(message: &str) -> CompileError {
    let message = text::bounded(message.trim(), MESSAGE_MAX);
    CompileError::Invalid(format!("is not valid: {message}; copy or build it again"))
}

fn unsupported(why: &str) -> CompileError {
    CompileError::Invalid(text::bounded(why.trim(), MESSAGE_MAX))
}

/// Formats a duration for a message.
pub(super) fn shown(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{}ms", time.as_millis()),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

/// Returns a frame as a compiling process sends it, for the tests of other modules.
#[cfg(test)]
pub(super) fn frame_for_test(engine: &Engine, code: &[u8]) -> Vec<u8> {
    [wire::header(&EngineHash::of(engine), code), code.to_vec()].concat()
}

/// Writes a shell script that replaces the program. A separate process writes it: if this process
/// had the file open while another test starts a program, executing the script would fail with
/// `ETXTBSY`.
#[cfg(test)]
pub(super) fn script_for_test(folder: &std::path::Path, body: &str) -> std::path::PathBuf {
    let exe = folder.join("compiler");
    let script = format!("#!/bin/sh\n{body}\n");
    let write = "printf %s \"$1\" >\"$0\" && chmod 700 \"$0\"";
    let written = std::process::Command::new("/bin/sh").args(["-c", write]).arg(&exe).arg(script).status();
    assert!(written.unwrap().success());
    exe
}
