//! Tests of the audit directory: it is private, links in it are not followed, and it stores
//! policies.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use strongroom_core::ids::Digest;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn fifo(path: &Path) {
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
}

#[test]
fn created_files_are_private() {
    with_log(|log| {
        let segment = log.closed(0);
        let audit = log.open();
        audit.keep_policy(&Digest::of(b"version = 1\n"), "version = 1\n").unwrap();
        assert_eq!(mode(&log.dir()), 0o700);
        assert_eq!(mode(&log.dir().join("policies")), 0o700);
        for file in [log.ledger(), log.file(&segment)] {
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
    });
}

#[test]
fn accessible_folder_is_refused() {
    with_log(|log| {
        fs::create_dir(log.dir()).unwrap();
        fs::set_permissions(log.dir(), fs::Permissions::from_mode(0o750)).unwrap();
        let error = Audit::open(&log.dir(), SyncMode::Os).unwrap_err().to_string();
        assert!(error.ends_with("others can access it: check what is in it, then run `chmod 700` on it"), "{error}");
        assert_eq!(fs::read_dir(log.dir()).unwrap().count(), 0);
        fs::set_permissions(log.dir(), fs::Permissions::from_mode(0o700)).unwrap();
        log.closed(0);
    });
}

#[test]
fn folder_of_another_user_is_refused() {
    // Only the superuser can change the owner of a directory; other users use `/`, which is owned
    // by another user.
    with_log(|log| {
        let dir = if rustix::process::geteuid().is_root() {
            fs::create_dir(log.dir()).unwrap();
            std::os::unix::fs::chown(log.dir(), Some(12_345), None).unwrap();
            log.dir()
        } else {
            PathBuf::from("/")
        };
        let error = Audit::open(&dir, SyncMode::Os).unwrap_err().to_string();
        assert!(error.ends_with("it belongs to another user: use a folder of your own"), "{error}");
    });
}

#[test]
fn linked_folder_is_refused() {
    with_log(|log| {
        let real = log.home.path().join("real");
        fs::create_dir(&real).unwrap();
        symlink(&real, log.dir()).unwrap();
        assert!(matches!(Audit::open(&log.dir(), SyncMode::Os), Err(AuditError::Insecure { .. })));
        assert!(matches!(verify(&log.dir(), None), Err(AuditError::Insecure { .. })));
        assert_eq!(fs::read_dir(&real).unwrap().count(), 0);
    });
}

#[test]
fn missing_log_is_an_error_and_empty_log_is_not() {
    with_log(|log| {
        assert!(matches!(verify(&log.dir(), None), Err(AuditError::Absent(_))));
        assert!(matches!(read(&log.dir()), Err(AuditError::Absent(_))));
        assert!(!log.dir().exists());
        fs::create_dir(log.dir()).unwrap();
        assert_eq!(log.report(), Report { ledger: Verdict::Intact, segments: Vec::new() });
    });
}

#[test]
fn links_and_pipes_are_not_opened() {
    with_log(|log| {
        let (linked, piped) = (log.closed(1), log.closed(1));
        let aside = log.home.path().join("aside");
        fs::rename(log.file(&linked), &aside).unwrap();
        symlink(&aside, log.file(&linked)).unwrap();
        fs::remove_file(log.file(&piped)).unwrap();
        fifo(&log.file(&piped));
        fs::create_dir(log.file("folder")).unwrap();
        let report = log.report();
        assert_eq!(verdict_of(&report, &linked), Verdict::Missing);
        assert_eq!(verdict_of(&report, &piped), Verdict::Missing);
        assert_eq!(verdict_of(&report, "folder"), Verdict::Unlisted);
        assert!(!is_live(&log.dir(), &piped));
        assert_eq!(read(&log.dir()).unwrap().count(), 0);

        fs::rename(log.ledger(), &aside).unwrap();
        symlink(&aside, log.ledger()).unwrap();
        let before = fs::read(&aside).unwrap();
        assert!(matches!(Audit::open(&log.dir(), SyncMode::Os), Err(AuditError::Insecure { .. })));
        assert_eq!(fs::read(&aside).unwrap(), before);
        fs::remove_file(log.ledger()).unwrap();
        fifo(&log.ledger());
        assert!(matches!(Audit::open(&log.dir(), SyncMode::Os), Err(AuditError::Insecure { .. })));
    });
}

#[test]
fn only_segments_can_be_live() {
    with_log(|log| {
        let audit = log.open();
        let lower = audit.segment().to_lowercase();
        for name in ["", "ledger", "../audit/x", "/etc/passwd", "a\0b", lower.as_str()] {
            assert!(!is_live(&log.dir(), name), "{name:?}");
        }
        assert!(is_live(&log.dir(), audit.segment()));
        assert!(!is_live(&log.home.path().join("elsewhere"), audit.segment()));
        let segment = audit.segment().to_owned();
        audit.kill();
        assert!(!is_live(&log.dir(), &segment));
    });
}

#[test]
fn policies_are_stored_by_digest() {
    for sync in [SyncMode::Always, SyncMode::Os] {
        with_log(|log| {
            let audit = Audit::open(&log.dir(), sync).unwrap();
            let text = "version = 1\n[secrets]\n";
            let digest = Digest::of(text.as_bytes());
            assert_eq!(kept_policy(&log.dir(), &digest).unwrap(), None);
            let wrong = audit.keep_policy(&Digest::of(b"other"), text);
            assert!(matches!(wrong, Err(AuditError::PolicyDigest(_))));
            audit.keep_policy(&digest, text).unwrap();
            audit.keep_policy(&digest, text).unwrap();
            assert_eq!(kept_policy(&log.dir(), &digest).unwrap().as_deref(), Some(text));
            let file = log.dir().join("policies").join(format!("{}.toml", digest.to_hex()));
            assert_eq!(fs::read_to_string(&file).unwrap(), text);

            // A file that does not match its digest is not returned, and is replaced.
            fs::write(&file, "version = 1\n[secrets]\n\"*\" = []\n").unwrap();
            assert_eq!(kept_policy(&log.dir(), &digest).unwrap(), None);
            audit.keep_policy(&digest, text).unwrap();
            assert_eq!(kept_policy(&log.dir(), &digest).unwrap().as_deref(), Some(text));
            assert_eq!(fs::read_dir(log.dir().join("policies")).unwrap().count(), 1, "no scratch file is left");
            audit.close().unwrap();
            assert_eq!(log.report().overall(), Verdict::Intact);
        });
    }
}

#[test]
fn policies_are_not_written_through_a_link() {
    with_log(|log| {
        let audit = log.open();
        let elsewhere = log.home.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        symlink(&elsewhere, log.dir().join("policies")).unwrap();
        assert!(audit.keep_policy(&Digest::of(b""), "").is_err());
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    });
}
