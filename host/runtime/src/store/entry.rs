//! The format of one entry: a header and the code as the compiler produced it.
//!
//! | bytes | content |
//! |---|---|
//! | 8 | magic; its last byte is the version of the format |
//! | 32 | keyed BLAKE3 over component digest, engine hash, length and code |
//! | rest | the code |
//!
//! The digest and the engine hash are not in the file: the caller supplies them, so an entry that
//! is renamed to another's name does not verify.

use zeroize::Zeroizing;

use crate::engine::EngineHash;
use strongroom_core::ids::Digest;

pub(super) type Mac = blake3::Hash;
pub(super) type Key = Zeroizing<[u8; KEY_LEN]>;

pub(super) const KEY_LEN: usize = 32;
pub(super) const MAGIC: &[u8; 8] = b"SRCODE\0\x01";
pub(super) const HEADER_LEN: usize = MAGIC.len() + blake3::OUT_LEN;

/// Computes the keyed hash of code for a component under an engine.
pub(super) fn mac(key: &Key, component: &Digest, engine: &EngineHash, code: &[u8]) -> Mac {
    let mut hasher = hasher(key, component, engine, code.len());
    hasher.update(code);
    hasher.finalize()
}

/// Returns the hasher for code of this length, with everything but the code already hashed.
pub(super) fn hasher(key: &Key, component: &Digest, engine: &EngineHash, length: usize) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(MAGIC);
    hasher.update(component.as_bytes());
    hasher.update(engine.as_bytes());
    hasher.update(&(length as u64).to_le_bytes());
    hasher
}

/// Returns the header of an entry.
pub(super) fn header(mac: &Mac) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    for (slot, byte) in header.iter_mut().zip(MAGIC.iter().chain(mac.as_bytes())) {
        *slot = *byte;
    }
    header
}

/// Returns the keyed hash in a header, or `None` if the header is not of this format.
pub(super) fn parse(header: &[u8; HEADER_LEN]) -> Option<Mac> {
    let mac = header.strip_prefix(MAGIC)?;
    Some(Mac::from_bytes(*mac.first_chunk()?))
}
