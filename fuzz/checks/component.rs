//! Reading a component's imports and exports, and refusing imports, before anything is compiled.
//!
//! The engine's own fuzzers cover compilation.

use super::imports;

/// The maximum length of a component in bytes. Longer ones reach no further code.
const LENGTH_MAX: usize = 64 * 1024;

/// Checks one input.
pub(crate) fn check(data: &[u8]) {
    let bytes = &data[..data.len().min(LENGTH_MAX)];
    // The host's world requires an entry, which few inputs have. An embedder's world does not.
    let for_host = imports::inspect(bytes);
    let Ok(interfaces) = imports::inspect_for_world(bytes) else {
        assert!(for_host.is_err(), "malformed for an embedder's world, but not for the host's");
        return;
    };
    if let Ok(for_host) = for_host {
        assert_eq!(for_host, interfaces);
        assert!(for_host.entry().is_some());
    }
    assert!(interfaces.imports.len() <= imports::ITEMS_MAX && interfaces.exports.len() <= imports::ITEMS_MAX);
    for item in interfaces.imports.iter().chain(&interfaces.exports) {
        assert!(!item.name.chars().any(char::is_control), "{:?}", item.name);
    }
    // Only imports are refused, and among them each interface that is neither strongroom's nor
    // WASI's.
    let refused = imports::refused(&interfaces);
    assert!(refused.len() <= interfaces.imports.len());
    for item in &interfaces.imports {
        let is_linkable = item.name.starts_with("wasi:") || item.name.starts_with("strongroom:training/");
        if !is_linkable && item.kind == imports::Kind::Interface {
            assert!(refused.iter().any(|refused| refused.import == item.name), "`{}` is not refused", item.name);
        }
    }
}
