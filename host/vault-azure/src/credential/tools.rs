//! Runs the developer tools `az` and `azd` for the SDK.

use std::ffi::OsStr;
use std::process::{Output, Stdio};

use async_trait::async_trait;
use azure_identity::Executor;
use tokio::process::Command;

/// Runs the installed tools. A tool is killed when its future is dropped, and cannot read standard
/// input.
#[derive(Debug)]
pub(crate) struct Tools;

#[async_trait]
impl Executor for Tools {
    async fn run(&self, program: &OsStr, args: &[&OsStr]) -> std::io::Result<Output> {
        Command::new(program).args(args).stdin(Stdio::null()).kill_on_drop(true).output().await
    }
}
