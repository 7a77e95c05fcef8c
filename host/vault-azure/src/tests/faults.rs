//! Faults of the network, of the vault and of the token authority, on a clock that the test moves.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::Instant;

use super::*;

/// Fails some times, then answers.
fn failing(times: usize, fault: impl Fn() -> Reply + Send + Sync + 'static) -> Arc<Script> {
    let count = AtomicUsize::new(0);
    after_dance(move |_| if count.fetch_add(1, Ordering::SeqCst) < times { fault() } else { bundle("a", "v") })
}

async fn get(vault: &AzureVault) -> Result<Stored, VaultError> {
    Vault::get(vault, &grant(Operation::Get, "a")).await
}

#[test]
fn what_passes_is_waited_out() {
    paused(async {
        let faults: [fn() -> Reply; 7] = [
            || Reply::error(429, "Throttled", "x"),
            || Reply::error(500, "InternalError", "x"),
            || Reply::Raw(502, Vec::new(), b"<html>bad gateway".to_vec()),
            || Reply::error(503, "ServiceUnavailable", "x"),
            || Reply::Fails(ErrorKind::Connection),
            || Reply::Fails(ErrorKind::Io),
            || Reply::Cut,
        ];
        for (at, fault) in faults.into_iter().enumerate() {
            let script = failing(3, fault);
            assert_eq!(get(&vault_over(&script)).await.unwrap().value.expose(), "v", "fault {at}");
            assert_eq!(script.lines().len(), 4, "fault {at}");
        }
    });
}

#[test]
fn retry_after_is_kept() {
    paused(async {
        let script = failing(1, || Reply::Raw(429, vec![("retry-after", "9".to_owned())], Vec::new()));
        let began = Instant::now();
        get(&vault_over(&script)).await.unwrap();
        assert!(began.elapsed() >= 9 * SECOND && began.elapsed() < 10 * SECOND, "{:?}", began.elapsed());
    });
}

// promise: A vault cannot use more memory, time or requests of the host than its limits allow.
// attack: vault: reply slowly, throttle for an hour or never reply -> a deadline for each call, and
// the time limit of the run
#[test]
fn nobody_waits_longer_than_the_deadline() {
    paused(async {
        for fault in [|| Reply::Silence, || Reply::error(503, "ServiceUnavailable", "x")] {
            let script = failing(usize::MAX, fault);
            let began = Instant::now();
            let error = get(&vault_over(&script)).await.unwrap_err();
            assert!(matches!(error, VaultError::Unavailable(_)), "{error}");
            assert!(began.elapsed() <= 30 * SECOND, "{:?}", began.elapsed());
        }
    });
}

#[test]
fn a_vault_that_is_down_is_left_alone() {
    paused(async {
        let script = failing(usize::MAX, || Reply::Fails(ErrorKind::Connection));
        let vault = vault_with(&script, steady::Settings { failures: 4, ..steady::Settings::default() });
        let error = get(&vault).await.unwrap_err();
        assert!(
            error.to_string().contains("cannot be reached"),
            "what happened is said rather than what follows: {error}"
        );
        let (asked, began) = (script.seen().len(), Instant::now());
        for _ in 0..100 {
            let error = get(&vault).await.unwrap_err();
            assert!(
                matches!(&error, VaultError::Unavailable(text) if text.contains("has failed 4 times in a row")),
                "{error}"
            );
        }
        assert_eq!((script.seen().len(), began.elapsed()), (asked, Duration::ZERO), "it fails fast");
    });
}

#[test]
fn a_write_whose_answer_was_lost_says_so() {
    paused(async {
        let script = failing(usize::MAX, || Reply::Cut);
        let batch = vec![(grant(Operation::Set, "a"), secret("v"))];
        let error = Vault::set_many(&vault_over(&script), &batch).await.unwrap_err();
        assert!(error.to_string().contains("whether `a` was changed is not known"), "{error}");
        let refused = failing(usize::MAX, || Reply::error(403, "Forbidden", "ForbiddenByRbac"));
        let batch = vec![(grant(Operation::Set, "a"), secret("v"))];
        let error = Vault::set_many(&vault_over(&refused), &batch).await.unwrap_err();
        assert!(!error.to_string().contains("not known"), "{error}");
    });
}

#[test]
fn a_deletion_whose_answer_was_lost_is_done() {
    paused(async {
        let count = AtomicUsize::new(0);
        let script = after_dance(move |_| match count.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::Cut,
            _ => Reply::error(404, "SecretNotFound", "x"),
        });
        vault_over(&script).delete(&name("a")).await.unwrap();
        let missing = after_dance(|_| Reply::error(404, "SecretNotFound", "x"));
        assert!(matches!(vault_over(&missing).delete(&name("a")).await, Err(VaultError::NotFound(_))));
    });
}

#[test]
fn a_token_authority_that_is_down_is_a_vault_that_cannot_be_reached() {
    paused(async {
        let faults: [fn() -> Reply; 3] = [
            || Reply::Fails(ErrorKind::Connection),
            || Reply::Json(503, serde_json::json!({"error": "temporarily_unavailable"})),
            || Reply::Silence,
        ];
        for fault in faults {
            let script = Script::new(move |seen| match seen.url.starts_with(AUTHORITY) {
                true => fault(),
                false => Reply::challenge(AUTHORITY, "https://vault.azure.net"),
            });
            let error = get(&vault_over(&script)).await.unwrap_err();
            assert!(matches!(error, VaultError::Unavailable(_)), "{error}");
            assert!(!error.to_string().contains("does not accept"), "the secret is not to blame: {error}");
        }
    });
}

#[test]
fn a_credential_that_is_revoked_while_runs_go_on_is_refused_and_not_hidden() {
    paused(async {
        let revoked = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let seen_revoked = Arc::clone(&revoked);
        let script = Script::new(move |seen| {
            let gone = seen_revoked.load(Ordering::SeqCst);
            if seen.url.starts_with(AUTHORITY) {
                if gone {
                    let error = serde_json::json!({"error": "invalid_client", "error_codes": [7_000_222],
                        "error_description": "AADSTS7000222: The provided client secret keys are expired."});
                    return Reply::Json(401, error);
                }
                return Reply::token("the-token");
            }
            match seen.authorization {
                Some(_) if !gone => bundle("a", "v"),
                _ => Reply::challenge(AUTHORITY, "https://vault.azure.net"),
            }
        });
        let (_dir, settings) = application();
        let open =
            || AzureVault::with(place(), &settings, Arc::clone(&script) as _, Arc::new(NoTools), Default::default());
        let vault = open().unwrap();
        get(&vault).await.unwrap();
        revoked.store(true, Ordering::SeqCst);
        // The vault refuses the token that the host still has, and there is no other.
        let error = get(&vault).await.unwrap_err();
        assert!(matches!(&error, VaultError::Refused(text) if text.contains("az ad app credential reset")), "{error}");
        // A host that starts now gets none.
        let error = get(&open().unwrap()).await.unwrap_err();
        assert!(matches!(&error, VaultError::Refused(text) if text.contains("az ad app credential reset")), "{error}");
        assert!(!error.to_string().contains("s3cr3t"), "{error}");
    });
}
