//! Reads component files for `inspect` and `run`.

use std::path::Path;

use super::failure::Failure;
use super::policy;
use strongroom::runtime::component::COMPONENT_MAX;
use strongroom::runtime::imports::Malformed;
use strongroom::runtime::{Candidate, LoadError};

/// Reads a component file without compiling it.
pub(super) fn read(path: &Path) -> Result<Candidate, Failure> {
    Candidate::read(path, COMPONENT_MAX).map_err(|error| failure(path, error))
}

/// Explains why a component cannot be read, with help for common mistakes.
pub(super) fn failure(path: &Path, error: LoadError) -> Failure {
    match &error {
        LoadError::NotAFile { .. } if path.is_dir() => {
            Failure::invalid(format!("`{}` is a directory, not a component", path.display()))
                .help("give the `.wasm` file in it, such as `target/wasm32-wasip2/release/NAME.wasm`")
        }
        LoadError::Malformed { why: Malformed::NotWebAssembly, .. } if policy::read(path).is_ok() => {
            Failure::invalid(format!("`{}` is a policy, not a component", path.display()))
                .help("pass a `.wasm` file: `strongroom run COMPONENT --policy FILE`")
        }
        _ if error.is_host_fault() => Failure::host(error),
        _ => Failure::invalid(error),
    }
}
