//! Reads files that contain credentials.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::Zeroizing;

/// Maximum size of such a file in bytes.
const FILE_MAX: usize = 64 * 1024;

/// Reads a file that only its owner can write, and only its owner and group can read.
pub(super) fn bytes(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let shown = path.display();
    let failed = |cause: std::io::Error| format!("cannot read `{shown}`: {cause}");
    let file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(format!("`{shown}` is not a file"));
    }
    if meta.mode() & 0o027 != 0 {
        return Err(format!("other users can read or change `{shown}`: run `chmod 600` on it"));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_MAX + 1));
    file.take(FILE_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > FILE_MAX {
        return Err(format!("`{shown}` is larger than 64 KiB"));
    }
    Ok(bytes)
}

/// Reads the only line of such a file, without its line break.
pub(super) fn line(path: &Path) -> Result<Zeroizing<String>, String> {
    let bytes = bytes(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| format!("`{}` is not UTF-8 text", path.display()))?;
    let line = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
    if line.is_empty() || line.contains(['\n', '\r']) {
        return Err(format!("`{}` is not one line", path.display()));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn secret_file_must_be_private_and_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        for (text, mode, expected) in [
            ("hunter2\n", 0o600, Ok("hunter2")),
            ("hunter2\r\n", 0o640, Ok("hunter2")),
            ("hunter2", 0o400, Ok("hunter2")),
            ("hunter2", 0o644, Err("chmod 600")),
            ("hunter2", 0o620, Err("chmod 600")),
            ("", 0o600, Err("not one line")),
            ("a\nb\n", 0o600, Err("not one line")),
            (&"x".repeat(FILE_MAX + 1), 0o600, Err("larger than 64 KiB")),
        ] {
            let _ = fs::remove_file(&path);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            match (line(&path), expected) {
                (Ok(line), Ok(expected)) => assert_eq!(line.as_str(), expected),
                (Err(error), Err(word)) => assert!(error.contains(word) && !error.contains("hunter2"), "{error}"),
                (answer, _) => panic!("{mode:o}: {answer:?}"),
            }
        }
        assert!(line(dir.path()).unwrap_err().contains("not a file"));
        assert!(line(&dir.path().join("none")).unwrap_err().contains("cannot read"));
    }
}
