//! Components as a toolchain of another WASI 0.2 patch level would have made them.
//!
//! Only names at the top level say a patch level: those of imports and of the exported `wasi:cli/run`. They are rewritten in place, with the
//! lengths that stand before them.

/// The newest patch level that the host links.
pub(crate) const NEWEST: u64 = strongroom::runtime::imports::WASI_PATCH;

/// The number of a component's import section, and of its export section.
const IMPORTS: u8 = 10;
const EXPORTS: u8 = 11;

/// A component for WASI 0.2.`patch`, and how many names were rewritten.
pub(crate) fn to_patch_level(component: &[u8], patch: u64) -> (Vec<u8>, usize) {
    let (header, mut rest) = component.split_at(8);
    let (mut out, mut rewritten) = (header.to_vec(), 0);
    while let Some((&kind, after)) = rest.split_first() {
        let (length, after) = number(after);
        let (section, after) = after.split_at(length);
        let section = match kind {
            IMPORTS | EXPORTS => rewrite(section, patch, &mut rewritten),
            _ => section.to_vec(),
        };
        out.push(kind);
        out.extend(encoded(section.len()));
        out.extend(section);
        rest = after;
    }
    (out, rewritten)
}

/// A section with each `wasi:...@0.2.N` in it rewritten. Such a name stands behind its length, in one byte.
fn rewrite(section: &[u8], patch: u64, rewritten: &mut usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(&byte) = section.get(at) {
        let name = section.get(at + 1..at + 1 + usize::from(byte)).and_then(|name| std::str::from_utf8(name).ok());
        let interface = name.filter(|name| name.starts_with("wasi:")).and_then(|name| name.split_once("@0.2."));
        match interface {
            Some((interface, _)) => {
                let name = format!("{interface}@0.2.{patch}");
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

/// An unsigned LEB128 number and what follows it.
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
