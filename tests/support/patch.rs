//! Rewrites a component as if it had been built for another patch level of WASI 0.2, or of the guest
//! contract.
//!
//! Only top-level names contain a patch level: those of imports and of the exported `wasi:cli/run`.
//! They are rewritten in place, together with the length before each.

/// The newest patch level that the host links.
pub(crate) const NEWEST: u64 = strongroom::runtime::imports::WASI_PATCH;

/// The IDs of a component's import and export sections.
const IMPORTS: u8 = 10;
const EXPORTS: u8 = 11;

/// Whose patch level is rewritten: the beginning of the names, and of the version.
pub(crate) type Package = (&'static str, &'static str);

pub(crate) const WASI: Package = ("wasi:", "@0.2.");
pub(crate) const CONTRACT: Package = ("strongroom:training/", "@0.1.");

/// Returns a component for a patch of a package, and the number of names that were rewritten.
pub(crate) fn to_patch_level(component: &[u8], package: Package, patch: u64) -> (Vec<u8>, usize) {
    let (header, mut rest) = component.split_at(8);
    let (mut out, mut rewritten) = (header.to_vec(), 0);
    while let Some((&id, after)) = rest.split_first() {
        let (length, after) = number(after);
        let (section, after) = after.split_at(length);
        let section = match id {
            IMPORTS | EXPORTS => rewrite(section, package, patch, &mut rewritten),
            _ => section.to_vec(),
        };
        out.push(id);
        out.extend(encoded(section.len()));
        out.extend(section);
        rest = after;
    }
    (out, rewritten)
}

/// Rewrites each name such as `wasi:...@0.2.N` in a section. The length before such a name takes one
/// byte.
fn rewrite(section: &[u8], (start, version): Package, patch: u64, rewritten: &mut usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(&byte) = section.get(at) {
        let name = section.get(at + 1..at + 1 + usize::from(byte)).and_then(|name| std::str::from_utf8(name).ok());
        let interface = name.filter(|name| name.starts_with(start)).and_then(|name| name.split_once(version));
        match interface {
            Some((interface, _)) => {
                let name = format!("{interface}{version}{patch}");
                out.extend(encoded(name.len()));
                out.extend(name.bytes());
                *rewritten += 1;
                at += 1 + usize::from(byte);
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// Parses an unsigned LEB128 number and returns it with the rest.
fn number(bytes: &[u8]) -> (usize, &[u8]) {
    let length = bytes.iter().position(|byte| byte & 0x80 == 0).expect("a number ends") + 1;
    let (number, rest) = bytes.split_at(length);
    (number.iter().rev().fold(0, |number, byte| number << 7 | usize::from(byte & 0x7f)), rest)
}

fn encoded(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}
