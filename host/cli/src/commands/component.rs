//! Reads component files for `inspect`.

use std::path::Path;

use super::failure::Failure;
use strongroom::runtime::Candidate;
use strongroom::runtime::component::COMPONENT_MAX;

/// Reads a component file without compiling it.
pub(super) fn read(path: &Path) -> Result<Candidate, Failure> {
    Ok(Candidate::read(path, COMPONENT_MAX)?)
}
