//! The one row that says which vault this is and how its data key is wrapped.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use rusqlite::{Connection, OptionalExtension, params};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::place::Place;
use super::seal::{self, Binding, KEY_LEN, Key, NONCE_LEN, TAG_LEN};
use crate::VaultError;

/// What a new vault asks of Argon2id: the second recommended option of RFC 9106, section 4.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 4;

/// What is accepted from a file: at most a gibibyte and a few seconds of work, so that a hostile file cannot stall the host, and
/// at least the weakest setting that OWASP's password storage guidance names (19 MiB, two passes).
const MEMORY_KIB_RANGE: std::ops::RangeInclusive<u32> = 19 * 1024..=1024 * 1024;
const PASSES_RANGE: std::ops::RangeInclusive<u32> = 2..=16;
const LANES_RANGE: std::ops::RangeInclusive<u32> = 1..=16;

/// The table that holds it.
pub(super) const TABLE: &str = "CREATE TABLE vault (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    vault BLOB NOT NULL,
    protection TEXT NOT NULL,
    salt BLOB,
    memory_kib INTEGER,
    passes INTEGER,
    lanes INTEGER,
    key_check BLOB NOT NULL,
    nonce BLOB NOT NULL,
    wrapped_key BLOB NOT NULL,
    checksum BLOB NOT NULL
) STRICT;";

/// How the key that wraps the data key is had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wrapping {
    /// It stands in the key file.
    KeyFile,
    /// Argon2id makes it from a passphrase.
    Passphrase(Kdf),
}

/// The parameters of Argon2id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kdf {
    pub(super) salt: [u8; 16],
    pub(super) memory_kib: u32,
    pub(super) passes: u32,
    pub(super) lanes: u32,
}

impl Kdf {
    /// The parameters of a new vault.
    pub(super) fn generate() -> Result<Self, VaultError> {
        let mut salt = [0; 16];
        seal::fill(&mut salt)?;
        Ok(Self { salt, memory_kib: MEMORY_KIB, passes: PASSES, lanes: LANES })
    }

    fn is_acceptable(&self) -> bool {
        MEMORY_KIB_RANGE.contains(&self.memory_kib)
            && PASSES_RANGE.contains(&self.passes)
            && LANES_RANGE.contains(&self.lanes)
    }

    /// Makes the wrapping key. Takes a good part of a second on purpose.
    pub(super) fn derive(&self, passphrase: &str) -> Result<Key, VaultError> {
        let failed =
            |what: &dyn std::fmt::Display| VaultError::Unavailable(format!("the passphrase could not be used: {what}"));
        let settings =
            Params::new(self.memory_kib, self.passes, self.lanes, Some(KEY_LEN)).map_err(|error| failed(&error))?;
        // Memory of our own, because the crate frees its own without overwriting it.
        let mut memory: Zeroizing<Vec<Block>> = Zeroizing::new(Vec::new());
        memory.try_reserve_exact(settings.block_count()).map_err(|error| failed(&error))?;
        memory.resize(settings.block_count(), Block::new());
        let mut key = Zeroizing::new(vec![0; KEY_LEN]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, settings)
            .hash_password_into_with_memory(passphrase.as_bytes(), &self.salt, &mut key, memory.as_mut_slice())
            .map_err(|error| failed(&error))?;
        Key::from_bytes(key).ok_or_else(|| failed(&"a wrong length"))
    }
}

/// The row.
#[derive(Clone)]
pub(super) struct Header {
    /// The vault's identity.
    pub(super) vault: [u8; 16],
    /// How the wrapping key is had.
    pub(super) wrapping: Wrapping,
    /// A hash of the wrapping key: tells a wrong key from a damaged file.
    key_check: [u8; 32],
    nonce: [u8; NONCE_LEN],
    wrapped_key: Vec<u8>,
}

impl Header {
    /// Wraps a data key for a new vault.
    pub(super) fn wrap(
        vault: [u8; 16],
        wrapping: Wrapping,
        wrapping_key: &Key,
        data_key: &Key,
    ) -> Result<Self, VaultError> {
        let sealed = seal::seal(wrapping_key, &wrap_binding(&vault, &wrapping), data_key.bytes())?;
        let key_check = key_check(wrapping_key);
        Ok(Self { vault, wrapping, key_check, nonce: sealed.nonce, wrapped_key: sealed.bytes })
    }

    /// Whether this is the key that wraps the data key.
    pub(super) fn is_wrapped_by(&self, wrapping_key: &Key) -> bool {
        self.key_check.ct_eq(&key_check(wrapping_key)).into()
    }

    /// Unwraps the data key.
    pub(super) fn unwrap(&self, place: &Place, wrapping_key: &Key) -> Result<Key, VaultError> {
        let binding = wrap_binding(&self.vault, &self.wrapping);
        seal::open(wrapping_key, &binding, &self.nonce, self.wrapped_key.clone())
            .ok()
            .and_then(Key::from_bytes)
            .ok_or_else(|| place.damaged("its data key does not open"))
    }

    /// Stores the row in place of the one that is there.
    pub(super) fn replace(&self, transaction: &Connection) -> rusqlite::Result<()> {
        transaction.execute("DELETE FROM vault WHERE id = 1", [])?;
        self.store(transaction)
    }

    /// Stores the row.
    pub(super) fn store(&self, connection: &Connection) -> rusqlite::Result<()> {
        let (protection, kdf) = match &self.wrapping {
            Wrapping::KeyFile => ("key-file", None),
            Wrapping::Passphrase(kdf) => ("passphrase", Some(kdf)),
        };
        connection.execute(
            "INSERT INTO vault (id, vault, protection, salt, memory_kib, passes, lanes, key_check, nonce, wrapped_key, checksum)
             VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                self.vault,
                protection,
                kdf.map(|kdf| kdf.salt),
                kdf.map(|kdf| kdf.memory_kib),
                kdf.map(|kdf| kdf.passes),
                kdf.map(|kdf| kdf.lanes),
                self.key_check,
                self.nonce,
                self.wrapped_key,
                self.checksum(),
            ],
        )?;
        Ok(())
    }

    /// Reads and checks the row.
    pub(super) fn load(connection: &Connection, place: &Place) -> Result<Self, VaultError> {
        let failed = |error| place.sql("read", error);
        type Row = (Option<[u8; 16]>, Option<u32>, Option<u32>, Option<u32>);
        let row: Option<(Self, String, Row, [u8; 32])> = connection
            .query_row(
                "SELECT vault, protection, salt, memory_kib, passes, lanes, key_check, nonce, wrapped_key, checksum
                 FROM vault WHERE id = 1",
                [],
                |row| {
                    let header = Self {
                        vault: row.get(0)?,
                        wrapping: Wrapping::KeyFile,
                        key_check: row.get(6)?,
                        nonce: row.get(7)?,
                        wrapped_key: row.get(8)?,
                    };
                    Ok((header, row.get(1)?, (row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?), row.get(9)?))
                },
            )
            .optional()
            .map_err(failed)?;
        let Some((mut header, protection, kdf, checksum)) = row else {
            return Err(place.damaged("it has no header"));
        };
        header.wrapping = match (protection.as_str(), kdf) {
            ("key-file", (None, None, None, None)) => Wrapping::KeyFile,
            ("passphrase", (Some(salt), Some(memory_kib), Some(passes), Some(lanes))) => {
                Wrapping::Passphrase(Kdf { salt, memory_kib, passes, lanes })
            }
            _ => return Err(place.damaged("its header names no protection that is known")),
        };
        if let Wrapping::Passphrase(kdf) = &header.wrapping
            && !kdf.is_acceptable()
        {
            return Err(place.damaged("its header asks for Argon2id parameters out of bounds"));
        }
        if header.wrapped_key.len() != KEY_LEN + TAG_LEN || header.checksum() != checksum {
            return Err(place.damaged("its header does not fit its checksum"));
        }
        Ok(header)
    }

    /// A plain hash over the row. It keeps accidents apart from a wrong passphrase; the seal is what stands against intent.
    pub(super) fn checksum(&self) -> [u8; 32] {
        let binding = bind_wrapping(Binding::new("strongroom vault header 1").bytes(&self.vault), &self.wrapping)
            .bytes(&self.key_check)
            .bytes(&self.nonce)
            .bytes(&self.wrapped_key);
        blake3::hash(binding.as_bytes()).into()
    }
}

/// The checksum as it stands in the database: it changes with every change of the key.
pub(super) fn stored_checksum(connection: &Connection) -> rusqlite::Result<Option<[u8; 32]>> {
    connection.prepare_cached("SELECT checksum FROM vault WHERE id = 1")?.query_row([], |row| row.get(0)).optional()
}

fn wrap_binding(vault: &[u8; 16], wrapping: &Wrapping) -> Binding {
    bind_wrapping(Binding::new("strongroom vault data key 1").bytes(vault), wrapping)
}

fn bind_wrapping(binding: Binding, wrapping: &Wrapping) -> Binding {
    match wrapping {
        Wrapping::KeyFile => binding.bytes(b"key-file"),
        Wrapping::Passphrase(kdf) => binding
            .bytes(b"passphrase")
            .bytes(&kdf.salt)
            .number(kdf.memory_kib.into())
            .number(kdf.passes.into())
            .number(kdf.lanes.into()),
    }
}

fn key_check(wrapping_key: &Key) -> [u8; 32] {
    blake3::derive_key("strongroom 2026 vault wrapping key check", wrapping_key.bytes())
}
