//! What the compiling process says to the one that started it: on standard output a frame of magic, engine hash, length, checksum and code;
//! how it ended by exit code; and the reason on standard error.
//!
//! The engine hash tells a program that was replaced by another release while the old one goes on. The checksum tells code that arrived whole from code that was cut off. It is no protection from the child, whose code is trusted as the
//! compiler's is.

use crate::engine::EngineHash;

pub(super) const MAGIC: &[u8; 8] = b"SRCOMP\0\x01";
pub(super) const HEADER_LEN: usize = MAGIC.len() + 32 + size_of::<u64>() + blake3::OUT_LEN;

/// Exit code: the component is not valid.
pub(super) const INVALID: u8 = 10;
/// Exit code: the child could not do its work, through no fault of the component.
pub(super) const FAILED: u8 = 11;
/// Exit code: the component needs what this host does not have; the reason completes a sentence about the component.
pub(super) const UNSUPPORTED: u8 = 13;
/// Exit code: the memory limit does not allow the compiler to start.
pub(super) const MEMORY: u8 = 12;

/// The header of a frame.
pub(super) fn header(engine: &EngineHash, code: &[u8]) -> Vec<u8> {
    let length = (code.len() as u64).to_le_bytes();
    [MAGIC.as_slice(), engine.as_bytes(), &length, blake3::hash(code).as_bytes()].concat()
}

/// Why a frame is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// It is not whole.
    Broken,
    /// It is whole, but for another engine.
    OtherEngine,
}

/// Takes the code out of a frame.
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
    fn a_frame_is_whole_or_nothing() {
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
