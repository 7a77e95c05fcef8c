//! Reads a vault passphrase from a file or a prompt. It is never an argument or the value of a
//! variable, because other processes can read both.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::failure::Failure;
use super::prompt;
use super::value::{read_bounded, strip_line_end};

/// The maximum length of a passphrase in bytes.
const PASSPHRASE_MAX: usize = 4096;

/// How to give a file with the passphrase of the vault.
pub(super) const FILE_OPTION: &str = "`--passphrase-file PATH` or the variable `STRONGROOM_PASSPHRASE_FILE`";

/// Reads the passphrase of an existing vault.
pub(super) fn existing(file: Option<&Path>) -> Result<Zeroizing<String>, Failure> {
    match file {
        Some(file) => from_file(file),
        None => ask("Vault passphrase: ", FILE_OPTION),
    }
}

/// Reads a new passphrase from a file or, if there is none, from a prompt that asks for it twice.
/// `option` is how to give a file.
pub(super) fn new(file: Option<&Path>, option: &str) -> Result<Zeroizing<String>, Failure> {
    let passphrase = match file {
        Some(file) => from_file(file)?,
        None => {
            let first = ask("New vault passphrase: ", option)?;
            if *first != *ask("Repeat the passphrase: ", option)? {
                return Err(Failure::invalid("the passphrases do not match").help("run the command again"));
            }
            first
        }
    };
    if passphrase.is_empty() {
        return Err(Failure::invalid("the passphrase is empty").help("choose a passphrase of several words"));
    }
    Ok(passphrase)
}

/// Prompts for a passphrase. Without a terminal, the help names the option that takes a file.
fn ask(question: &str, option: &str) -> Result<Zeroizing<String>, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::invalid("the vault needs a passphrase, and there is no terminal to prompt for it")
            .help(format!("name a file that contains it with {option}")));
    }
    checked(&prompt::hidden(question, PASSPHRASE_MAX)?, "the passphrase")
}

/// Checks a passphrase that was typed or read.
fn checked(bytes: &[u8], what: &str) -> Result<Zeroizing<String>, Failure> {
    let problem = match std::str::from_utf8(bytes) {
        _ if bytes.len() > PASSPHRASE_MAX => "is longer than 4 KiB",
        _ if bytes.contains(&b'\n') => "has more than one line",
        Err(_) => "is not UTF-8 text",
        Ok(text) => return Ok(Zeroizing::new(text.to_owned())),
    };
    Err(Failure::invalid(format!("{what} {problem}")).help("use one line of text, such as several words"))
}

fn from_file(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let failed = Failure::unreadable("the passphrase file ", path);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(cause) if is_surely_a_path(path) => return Err(failed(cause)),
        Err(cause) => {
            return Err(Failure::invalid(format!(
                "could not read the passphrase file: {cause}; its path is not shown, because it may be the passphrase"
            ))
            .help("give the path of a file that contains the passphrase, including its directory"));
        }
    };
    let meta = file.metadata().map_err(failed)?;
    // The mode of a pipe does not matter, because nobody can open it again.
    if meta.is_file() && meta.mode() & 0o027 != 0 {
        return Err(Failure::invalid(format!(
            "other users can read or modify the passphrase file `{}`",
            path.display()
        ))
        .help("run `chmod 600` on it"));
    }
    let what = format!("the passphrase file `{}`", path.display());
    match read_bounded(&file, PASSPHRASE_MAX).map_err(failed)? {
        Some(mut bytes) => {
            strip_line_end(&mut bytes);
            checked(&bytes, &what)
        }
        None => {
            Err(Failure::invalid(format!("{what} is longer than 4 KiB")).help("put only the passphrase into the file"))
        }
    }
}

/// Returns whether the text is certainly a path and not the passphrase itself: its parent directory
/// exists.
fn is_surely_a_path(path: &Path) -> bool {
    path.parent().is_some_and(|dir| !dir.as_os_str().is_empty() && dir.is_dir())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(content: &[u8], mode: u32) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passphrase");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        from_file(&path).map(|text| text.to_string()).map_err(|failure| failure.to_string())
    }

    #[test]
    fn passphrase_line_end_is_removed() {
        assert_eq!(file(b"correct horse\n", 0o600).unwrap(), "correct horse");
        assert_eq!(file(b"correct horse\r\n", 0o400).unwrap(), "correct horse");
        assert_eq!(file(b"correct horse ", 0o640).unwrap(), "correct horse ");
    }

    #[test]
    fn passphrase_file_of_others_is_rejected() {
        for mode in [0o604, 0o602, 0o620] {
            assert!(file(b"correct horse", mode).unwrap_err().contains("chmod 600"), "{mode:o}");
        }
    }

    #[test]
    fn invalid_passphrase_is_rejected_and_not_shown() {
        for (content, word) in [
            (&b"one\ntwo\n"[..], "more than one line"),
            (&[0xff; 3], "UTF-8"),
            (&[b'x'; PASSPHRASE_MAX + 1], "longer than 4 KiB"),
        ] {
            let error = file(content, 0o600).unwrap_err();
            assert!(error.contains(word) && !error.contains("one\ntwo"), "{error}");
        }
    }

    #[test]
    fn passphrase_given_as_path_is_not_shown() {
        for text in ["correct horse", "correct/horse", ""] {
            let error = from_file(Path::new(text)).unwrap_err().to_string();
            assert!(error.contains("may be the passphrase") && !error.contains("horse"), "{error}");
        }
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        assert!(from_file(&missing).unwrap_err().to_string().contains(missing.to_str().unwrap()));
    }
}
