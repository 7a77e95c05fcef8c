//! The protocol between the compiling process and its parent. Standard output carries a frame of
//! magic, engine hash, length, checksum and code; the exit code says how the process ended;
//! standard error carries the reason.
//!
//! The engine hash detects that the program was replaced by another release while the old one is
//! still running. The checksum detects code that was cut off. The checksum does not protect against
//! the child, whose code is trusted as the compiler's is.

use crate::engine::EngineHash;

pub(super) const MAGIC: &[u8; 8] = b"SRCOMP\0\x01";
pub(super) const HEADER_LEN: usize = MAGIC.len() + 32 + size_of::<u64>() + blake3::OUT_LEN;

/// Exit code: the component is not valid.
pub(super) const INVALID: u8 = 10;
/// Exit code: the child failed, through no fault of the component.
pub(super) const FAILED: u8 = 11;
/// Exit code: the component needs something that this host does not support. The reason completes a
/// sentence about the component.
pub(super) const UNSUPPORTED: u8 = 13;
/// Exit code: the compiler cannot start within the memory limit.
pub(super) const MEMORY: u8 = 12;

/// Returns the header of a frame.
pub(super) fn header(engine: &EngineHash, code: &[u8]) -> Vec<u8> {
    let length = (code.len() as u64).to_le_bytes();
    [MAGIC.as_slice(), engine.as_bytes(), &length, blake3::hash(code).as_bytes()].concat()
}

/// Why a frame is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// The frame is incomplete.
    Broken,
    /// The frame is complete, but for another engine.
    OtherEngine,
}

/// Extracts the code from a frame.
pub(super) fn open(engine: &EngineHash, mut frame: Vec<u8>) -> Result<Vec<u8>, Unusable> {
    let parts = || {
        let (other, rest) = frame.strip_prefix(MAGIC)?.split_first_chunk::<32>()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (hash, code) = rest.split_first_chunk()?;
        let whole = u64::from_le_bytes(*length) == code.len() as u64 && blake3::hash(code) == *hash;
        whole.then_some(other == engine.as_bytes())
    };
    match parts() {
        None => Err(Unusable::Broken),
        Some(false) => Err(Unusable::OtherEngine),
        Some(true) => {
            frame.drain(..HEADER_LEN);
            Ok(frame)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incomplete_frame_is_rejected() {
        let engine = EngineHash::of(&wasmtime::Engine::default());
        let code = b"code".to_vec();
        let frame = [header(&engine, &code), code.clone()].concat();
        assert_eq!(open(&engine, frame.clone()), Ok(code));
        for end in 0..frame.len() {
            assert_eq!(open(&engine, frame[..end].to_vec()), Err(Unusable::Broken), "cut at {end}");
        }
        for at in 0..frame.len() {
            let mut frame = frame.clone();
            frame[at] ^= 1;
            assert!(open(&engine, frame).is_err(), "changed at {at}");
        }
        assert_eq!(open(&engine, [frame, vec![0]].concat()), Err(Unusable::Broken));
    }
}
