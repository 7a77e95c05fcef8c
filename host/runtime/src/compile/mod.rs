//! Compiling a component: hostile input to a large program, before any limit of a run applies.
//!
//! The binary compiles in a child process of itself, under limits of memory, CPU time and wall time that the system enforces, so that what
//! goes wrong there ends there. A host that embeds the library may choose to compile in its own process; then only the waiting is bounded.

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

/// The hidden first argument by which the binary knows that it is to compile. See [`as_child`].
pub const CHILD_ARGUMENT: &str = "__compile";

/// The most compiled code of one component that is accepted, in bytes. Code is about twice the size of its component.
pub const CODE_MAX: usize = 512 * 1024 * 1024;

/// The longest message of a compiler that is kept, in characters.
pub(super) const MESSAGE_MAX: usize = 1_000;

/// Where compilation happens.
#[derive(Clone, Debug)]
pub enum Compile {
    /// In a child process with limits. The child's program has to call [`as_child`].
    Child(ChildCompiler),
    /// In this process, on a thread for blocking work. A component can keep that thread and its memory as long as the compiler takes:
    /// for components that are trusted that far.
    InProcess,
}

/// A component was not compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// It is not valid, or not for this host: what is wrong with it, as in "is not valid: ...". Escaped and bounded; may hold names from the
    /// component.
    #[error("the component {0}")]
    Invalid(String),
    /// It took more time or memory than compiling may: which limit, and what to do.
    #[error("{0}")]
    Limit(String),
    /// The host is at fault, not the component.
    #[error("{0}")]
    Host(String),
}

impl Compile {
    /// Compiles a component for an engine, with whatever bounds this way of compiling has. How long a caller waits is for it to say.
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

/// A duration for a message.
pub(super) fn shown(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{}ms", time.as_millis()),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

/// What a compiling process would send, for the tests of other modules.
#[cfg(test)]
pub(super) fn frame_for_test(engine: &Engine, code: &[u8]) -> Vec<u8> {
    [wire::header(&EngineHash::of(engine), code), code.to_vec()].concat()
}

/// Writes a shell script that stands in for the program. A process of its own writes it: were the file open here while another test starts a
/// program, the system would call it busy.
#[cfg(test)]
pub(super) fn script_for_test(folder: &std::path::Path, body: &str) -> std::path::PathBuf {
    let exe = folder.join("compiler");
    let script = format!("#!/bin/sh\n{body}\n");
    let write = "printf %s \"$1\" >\"$0\" && chmod 700 \"$0\"";
    let written = std::process::Command::new("/bin/sh").args(["-c", write]).arg(&exe).arg(script).status();
    assert!(written.unwrap().success());
    exe
}
