//! What is read of a component before anything is compiled: its imports, its exports, and what of them is refused.
//!
//! The file of the sandbox that does this is compiled in here by itself, without the engine. Compiling is left to the engine's own fuzzers.

use super::imports;

/// A component is at most this long here: what is beyond repeats.
const MAX: usize = 64 * 1024;

/// Checks one input.
pub(crate) fn check(data: &[u8]) {
    let bytes = &data[..data.len().min(MAX)];
    let Ok(interfaces) = imports::inspect(bytes) else { return };
    assert!(interfaces.imports.len() <= imports::ITEMS_MAX && interfaces.exports.len() <= imports::ITEMS_MAX);
    for item in interfaces.imports.iter().chain(&interfaces.exports) {
        assert!(!item.name.chars().any(char::is_control), "{:?}", item.name);
    }
    // Everything refused is an import, and what is neither ours nor of WASI 0.2 is refused unless nothing runs in it.
    let refused = imports::refused(&interfaces);
    assert!(refused.len() <= interfaces.imports.len());
    for item in &interfaces.imports {
        let known = item.name.starts_with("wasi:") || item.name.starts_with("strongroom:training/");
        if !known && item.kind == imports::Kind::Interface {
            assert!(!refused.is_empty(), "`{}` is not refused", item.name);
        }
    }
    let _ = interfaces.entry();
}
