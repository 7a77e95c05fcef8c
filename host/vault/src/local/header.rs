//! The header: the row that identifies a vault and holds its wrapped data key.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use rusqlite::{Connection, OptionalExtension, params};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::files::VaultFiles;
use super::seal::{self, Binding, KEY_LEN, Key, NONCE_LEN, TAG_LEN};
use crate::VaultError;

/// Argon2id parameters of a new vault: the second recommended option of RFC 9106, section 4.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 4;

/// Accepted Argon2id parameters. The maximum is a gibibyte and a few seconds of CPU time, so that a
/// hostile file cannot stall the host; the minimum is the weakest setting in OWASP's password
/// storage guidance (19 MiB, two passes).
const MEMORY_KIB_RANGE: std::ops::RangeInclusive<u32> = 19 * 1024..=1024 * 1024;
const PASSES_RANGE: std::ops::RangeInclusive<u32> = 2..=16;
const LANES_RANGE: std::ops::RangeInclusive<u32> = 1..=16;

/// SQL that creates the header table.
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

/// Where the wrapping key, which encrypts the data key, comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wrapping {
    /// The key file contains it.
    KeyFile,
    /// Argon2id derives it from a passphrase.
    Passphrase(Kdf),
}

/// Parameters of Argon2id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kdf {
    pub(super) salt: [u8; 16],
    pub(super) memory_kib: u32,
    pub(super) passes: u32,
    pub(super) lanes: u32,
}

impl Kdf {
    /// Returns the parameters for a new vault, with a random salt.
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

    /// Derives the wrapping key. Deliberately takes a large part of a second.
    pub(super) fn derive(&self, passphrase: &str) -> Result<Key, VaultError> {
        let failed =
            |what: &dyn std::fmt::Display| VaultError::Unavailable(format!("the passphrase could not be used: {what}"));
        let settings =
            Params::new(self.memory_kib, self.passes, self.lanes, Some(KEY_LEN)).map_err(|error| failed(&error))?;
        // Allocate the working memory here, because the `argon2` crate frees its own without
        // zeroizing it.
        let mut memory: Zeroizing<Vec<Block>> = Zeroizing::new(Vec::new());
        memory.try_reserve_exact(settings.block_count()).map_err(|error| failed(&error))?;
        memory.resize(settings.block_count(), Block::new());
        let mut key = Zeroizing::new(vec![0; KEY_LEN]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, settings)
            .hash_password_into_with_memory(passphrase.as_bytes(), &self.salt, &mut key, memory.as_mut_slice())
            .map_err(|error| failed(&error))?;
        Key::from_bytes(key).ok_or_else(|| failed(&"a key of the wrong length"))
    }
}

/// The header of a vault.
#[derive(Clone)]
pub(super) struct Header {
    /// Random ID of the vault.
    pub(super) vault: [u8; 16],
    /// Where the wrapping key comes from.
    pub(super) wrapping: Wrapping,
    /// Hash of the wrapping key. It distinguishes a wrong key from a damaged file.
    key_check: [u8; 32],
    nonce: [u8; NONCE_LEN],
    wrapped_key: Vec<u8>,
}

impl Header {
    /// Wraps a data key in a new header.
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

    /// Returns whether this key wraps the data key.
    pub(super) fn is_wrapped_by(&self, wrapping_key: &Key) -> bool {
        self.key_check.ct_eq(&key_check(wrapping_key)).into()
    }

    /// Unwraps the data key.
    pub(super) fn unwrap(&self, files: &VaultFiles, wrapping_key: &Key) -> Result<Key, VaultError> {
        let binding = wrap_binding(&self.vault, &self.wrapping);
        seal::open(wrapping_key, &binding, &self.nonce, self.wrapped_key.clone())
            .ok()
            .and_then(Key::from_bytes)
            .ok_or_else(|| files.damaged("its data key cannot be unwrapped"))
    }

    /// Replaces the stored header.
    pub(super) fn replace(&self, transaction: &Connection) -> rusqlite::Result<()> {
        transaction.execute("DELETE FROM vault WHERE id = 1", [])?;
        self.store(transaction)
    }

    /// Stores the header.
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

    /// Reads and checks the header.
    pub(super) fn load(connection: &Connection, files: &VaultFiles) -> Result<Self, VaultError> {
        let failed = |error| files.sql("read", error);
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
            return Err(files.damaged("it has no header"));
        };
        header.wrapping = match (protection.as_str(), kdf) {
            ("key-file", (None, None, None, None)) => Wrapping::KeyFile,
            ("passphrase", (Some(salt), Some(memory_kib), Some(passes), Some(lanes))) => {
                Wrapping::Passphrase(Kdf { salt, memory_kib, passes, lanes })
            }
            _ => return Err(files.damaged("its header names an unknown protection")),
        };
        if let Wrapping::Passphrase(kdf) = &header.wrapping
            && !kdf.is_acceptable()
        {
            return Err(files.damaged("the Argon2id parameters in its header are out of bounds"));
        }
        if header.wrapped_key.len() != KEY_LEN + TAG_LEN || header.checksum() != checksum {
            return Err(files.damaged("its header does not match its checksum"));
        }
        Ok(header)
    }

    /// Returns an unkeyed hash of the header. It distinguishes accidental damage from a wrong
    /// passphrase; authenticated encryption protects against tampering.
    pub(super) fn checksum(&self) -> [u8; 32] {
        let binding = bind_wrapping(Binding::new("strongroom vault header 1").bytes(&self.vault), &self.wrapping)
            .bytes(&self.key_check)
            .bytes(&self.nonce)
            .bytes(&self.wrapped_key);
        blake3::hash(binding.as_bytes()).into()
    }
}

/// Returns the stored checksum, which changes with every rekey.
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
