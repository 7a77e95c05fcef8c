//! Reading a component's file for `inspect`, and before a run opens anything.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::failure::Failure;
use crate::ids::Digest;
use crate::policy::Policy;
use crate::runtime::imports::{self, Interfaces, Malformed};

/// The most bytes that are read of a component.
const COMPONENT_MAX: u64 = 256 * 1024 * 1024;

/// A component that can be told from its outside.
#[derive(Debug)]
pub(super) struct Known {
    /// SHA-256 of its bytes.
    pub(super) digest: Digest,
    /// Its size in bytes.
    pub(super) bytes: u64,
    /// What it imports and exports.
    pub(super) interfaces: Interfaces,
}

/// Reads a component's outside.
pub(super) fn read(path: &Path) -> Result<Known, Failure> {
    let shown = path.display();
    let failed = |cause: io::Error| Failure::invalid(format!("cannot read the component `{shown}`: {cause}"));
    let file = File::open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(Failure::invalid(format!("the component `{shown}` is not a file")).help("give the `.wasm` file that the build made"));
    }
    let mut bytes = Vec::new();
    file.take(COMPONENT_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > COMPONENT_MAX {
        return Err(Failure::invalid(format!("the component `{shown}` is over 256 MiB")));
    }
    match imports::inspect(&bytes) {
        Ok(interfaces) => Ok(Known { digest: Digest::of(&bytes), bytes: bytes.len() as u64, interfaces }),
        Err(Malformed::NotWebAssembly) if is_policy(&bytes) => Err(Failure::invalid(format!("`{shown}` is a policy, not a component"))
            .help("the component comes first: `strongroom run COMPONENT --policy FILE`")),
        Err(malformed) => Err(Failure::invalid(format!("the component `{shown}` {malformed}"))),
    }
}

fn is_policy(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| !text.trim().is_empty() && Policy::parse(text, "").is_ok())
}
