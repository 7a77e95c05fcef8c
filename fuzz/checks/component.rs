//! What is read of a component before anything is compiled: its imports, its exports, and what of them is refused.
//!
//! The file of the sandbox that does this is compiled in here by itself, without the engine. Compiling is left to the engine's own fuzzers.

use super::imports;

/// A component is at most this long here: what is beyond repeats.
const MAX: usize = 64 * 1024;

/// Checks one input.
pub(crate) fn check(data: &[u8]) {
    let bytes = &data[..data.len().min(MAX)];
    // As for a world of an embedder's own: for the host's a component without an entry is an error, before anything else is asserted.
    let known = imports::inspect(bytes);
    let Ok(interfaces) = imports::inspect_for_world(bytes) else {
        assert!(known.is_err(), "what is malformed for one world is well-formed for another");
        return;
    };
    if let Ok(known) = known {
        assert_eq!(known, interfaces);
        assert!(known.entry().is_some());
    }
    assert!(interfaces.imports.len() <= imports::ITEMS_MAX && interfaces.exports.len() <= imports::ITEMS_MAX);
    for item in interfaces.imports.iter().chain(&interfaces.exports) {
        assert!(!item.name.chars().any(char::is_control), "{:?}", item.name);
    }
    // Everything refused is an import, and what is neither ours nor of WASI is refused.
    let refused = imports::refused(&interfaces);
    assert!(refused.len() <= interfaces.imports.len());
    for item in &interfaces.imports {
        let known = item.name.starts_with("wasi:") || item.name.starts_with("strongroom:training/");
        if !known && item.kind == imports::Kind::Interface {
            assert!(refused.iter().any(|one| one.import == item.name), "`{}` is not refused", item.name);
        }
    }
}
