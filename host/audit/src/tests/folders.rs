//! The folder is this user's alone, nothing in it is reached through a link, and policies are kept in it.

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
fn everything_made_is_the_owners_alone() {
    with_home(|place| {
        let segment = place.closed(0);
        let audit = place.open();
        audit.keep_policy(&Digest::of(b"version = 1\n"), "version = 1\n").unwrap();
        assert_eq!(mode(&place.dir()), 0o700);
        assert_eq!(mode(&place.dir().join("policies")), 0o700);
        for file in [place.ledger(), place.file(&segment)] {
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
    });
}

#[test]
fn a_folder_that_others_may_enter_is_refused() {
    with_home(|place| {
        fs::create_dir(place.dir()).unwrap();
        fs::set_permissions(place.dir(), fs::Permissions::from_mode(0o750)).unwrap();
        let error = Audit::open(&place.dir(), SyncMode::Os).unwrap_err().to_string();
        assert!(
            error.ends_with("others may enter it: run `chmod 700` on it, after a look at what is in it"),
            "{error}"
        );
        assert_eq!(fs::read_dir(place.dir()).unwrap().count(), 0);
        fs::set_permissions(place.dir(), fs::Permissions::from_mode(0o700)).unwrap();
        place.closed(0);
    });
}

#[test]
fn a_folder_of_another_user_is_refused() {
    // Only the superuser can give a folder away; for anybody else `/` is one.
    with_home(|place| {
        let dir = if rustix::process::geteuid().is_root() {
            fs::create_dir(place.dir()).unwrap();
            std::os::unix::fs::chown(place.dir(), Some(12_345), None).unwrap();
            place.dir()
        } else {
            PathBuf::from("/")
        };
        let error = Audit::open(&dir, SyncMode::Os).unwrap_err().to_string();
        assert!(error.ends_with("it belongs to another user: use a folder of your own"), "{error}");
    });
}

#[test]
fn a_link_is_no_audit_folder() {
    with_home(|place| {
        let real = place.home.path().join("real");
        fs::create_dir(&real).unwrap();
        symlink(&real, place.dir()).unwrap();
        assert!(matches!(Audit::open(&place.dir(), SyncMode::Os), Err(AuditError::Insecure { .. })));
        assert!(matches!(verify(&place.dir(), None), Err(AuditError::Insecure { .. })));
        assert_eq!(fs::read_dir(&real).unwrap().count(), 0);
    });
}

#[test]
fn no_audit_is_an_error_and_an_empty_one_is_not() {
    with_home(|place| {
        assert!(matches!(verify(&place.dir(), None), Err(AuditError::Absent(_))));
        assert!(matches!(read(&place.dir()), Err(AuditError::Absent(_))));
        assert!(!place.dir().exists());
        fs::create_dir(place.dir()).unwrap();
        assert_eq!(place.report(), Report { ledger: Verdict::Intact, segments: Vec::new() });
    });
}

#[test]
fn links_and_pipes_are_no_files() {
    with_home(|place| {
        let (linked, piped) = (place.closed(1), place.closed(1));
        let aside = place.home.path().join("aside");
        fs::rename(place.file(&linked), &aside).unwrap();
        symlink(&aside, place.file(&linked)).unwrap();
        fs::remove_file(place.file(&piped)).unwrap();
        fifo(&place.file(&piped));
        fs::create_dir(place.file("folder")).unwrap();
        let report = place.report();
        assert_eq!(verdict_of(&report, &linked), Verdict::Missing);
        assert_eq!(verdict_of(&report, &piped), Verdict::Missing);
        assert_eq!(verdict_of(&report, "folder"), Verdict::Unlisted);
        assert!(!is_live(&place.dir(), &piped));
        assert_eq!(read(&place.dir()).unwrap().count(), 0);

        fs::rename(place.ledger(), &aside).unwrap();
        symlink(&aside, place.ledger()).unwrap();
        let before = fs::read(&aside).unwrap();
        assert!(matches!(Audit::open(&place.dir(), SyncMode::Os), Err(AuditError::Insecure { .. })));
        assert_eq!(fs::read(&aside).unwrap(), before);
        fs::remove_file(place.ledger()).unwrap();
        fifo(&place.ledger());
        assert!(matches!(Audit::open(&place.dir(), SyncMode::Os), Err(AuditError::Insecure { .. })));
    });
}

#[test]
fn only_segments_can_be_alive() {
    with_home(|place| {
        let audit = place.open();
        let lower = audit.segment().to_lowercase();
        for name in ["", "ledger", "../audit/x", "/etc/passwd", "a\0b", lower.as_str()] {
            assert!(!is_live(&place.dir(), name), "{name:?}");
        }
        assert!(is_live(&place.dir(), audit.segment()));
        assert!(!is_live(&place.home.path().join("elsewhere"), audit.segment()));
        let segment = audit.segment().to_owned();
        audit.kill();
        assert!(!is_live(&place.dir(), &segment));
    });
}

#[test]
fn policies_are_kept_by_digest() {
    for sync in [SyncMode::Always, SyncMode::Os] {
        with_home(|place| {
            let audit = Audit::open(&place.dir(), sync).unwrap();
            let text = "version = 1\n[secrets]\n";
            let digest = Digest::of(text.as_bytes());
            assert_eq!(kept_policy(&place.dir(), &digest).unwrap(), None);
            let wrong = audit.keep_policy(&Digest::of(b"other"), text);
            assert!(matches!(wrong, Err(AuditError::PolicyDigest(_))));
            audit.keep_policy(&digest, text).unwrap();
            audit.keep_policy(&digest, text).unwrap();
            assert_eq!(kept_policy(&place.dir(), &digest).unwrap().as_deref(), Some(text));
            let file = place.dir().join("policies").join(format!("{}.toml", digest.to_hex()));
            assert_eq!(fs::read_to_string(&file).unwrap(), text);

            // What is not the digest's text is not shown, and is put right.
            fs::write(&file, "version = 1\n[secrets]\n\"*\" = []\n").unwrap();
            assert_eq!(kept_policy(&place.dir(), &digest).unwrap(), None);
            audit.keep_policy(&digest, text).unwrap();
            assert_eq!(kept_policy(&place.dir(), &digest).unwrap().as_deref(), Some(text));
            assert_eq!(fs::read_dir(place.dir().join("policies")).unwrap().count(), 1, "no scratch file is left");
            audit.close().unwrap();
            assert_eq!(place.report().overall(), Verdict::Intact);
        });
    }
}

#[test]
fn policies_are_not_written_through_a_link() {
    with_home(|place| {
        let audit = place.open();
        let elsewhere = place.home.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        symlink(&elsewhere, place.dir().join("policies")).unwrap();
        assert!(audit.keep_policy(&Digest::of(b""), "").is_err());
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    });
}
