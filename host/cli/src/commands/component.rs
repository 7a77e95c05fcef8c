//! Reads component files for `inspect`.

use std::path::Path;

use super::failure::Failure;
use strongroom::runtime::Candidate;
use strongroom::runtime::component::COMPONENT_MAX;

/// Reads a component file to describe it, without compiling it. It may have no entry point.
pub(super) fn read(path: &Path) -> Result<Candidate, Failure> {
    Ok(Candidate::describe(path, COMPONENT_MAX)?)
}
