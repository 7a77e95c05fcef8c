//! Runs the developer tools `az` and `azd` for the SDK.

use std::ffi::OsStr;
use std::process::{Output, Stdio};

use async_trait::async_trait;
use azure_identity::Executor;
use tokio::process::Command;

/// The real tools. One that is not waited for any more is ended, and none reads what was meant for us.
#[derive(Debug)]
pub(crate) struct Tools;

#[async_trait]
impl Executor for Tools {
    async fn run(&self, program: &OsStr, args: &[&OsStr]) -> std::io::Result<Output> {
        Command::new(program).args(args).stdin(Stdio::null()).kill_on_drop(true).output().await
    }
}
