//! Tests of faults of the network, the vault and the token authority, with a paused clock.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::Instant;

use super::*;

/// Fails a number of times, then succeeds.
fn failing(times: usize, fault: impl Fn() -> Reply + Send + Sync + 'static) -> Arc<FakeTransport> {
    let count = AtomicUsize::new(0);
    after_sign_in(move |_| if count.fetch_add(1, Ordering::SeqCst) < times { fault() } else { bundle("a", "v") })
}

async fn get(vault: &AzureVault) -> Result<Stored, VaultError> {
    Vault::get(vault, &grant(Operation::Get, "a")).await
}

#[test]
fn transient_faults_are_retried() {
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
            let transport = failing(3, fault);
            assert_eq!(get(&vault_over(&transport)).await.unwrap().value.expose(), "v", "fault {at}");
            assert_eq!(transport.lines().len(), 4, "fault {at}");
        }
    });
}

#[test]
fn retry_after_is_respected() {
    paused(async {
        let transport = failing(1, || Reply::Raw(429, vec![("retry-after", "9".to_owned())], Vec::new()));
        let started = Instant::now();
        get(&vault_over(&transport)).await.unwrap();
        assert!(started.elapsed() >= 9 * SECOND && started.elapsed() < 10 * SECOND, "{:?}", started.elapsed());
    });
}

// promise: A vault cannot use more memory, time or requests of the host than its limits allow.
// attack: vault: reply slowly, throttle for an hour or never reply -> a deadline for each call, and
// the time limit of the run
#[test]
fn call_waits_at_most_until_its_deadline() {
    paused(async {
        for fault in [|| Reply::Silent, || Reply::error(503, "ServiceUnavailable", "x")] {
            let transport = failing(usize::MAX, fault);
            let started = Instant::now();
            let error = get(&vault_over(&transport)).await.unwrap_err();
            assert!(matches!(error, VaultError::Unavailable(_)), "{error}");
            assert!(started.elapsed() <= 30 * SECOND, "{:?}", started.elapsed());
        }
    });
}

#[test]
fn calls_to_a_failing_vault_fail_fast() {
    paused(async {
        let transport = failing(usize::MAX, || Reply::Fails(ErrorKind::Connection));
        let vault = vault_with(&transport, retry::Settings { failures: 4, ..retry::Settings::default() });
        let error = get(&vault).await.unwrap_err();
        assert!(
            error.to_string().contains("cannot be reached"),
            "the error states the cause, not the open breaker: {error}"
        );
        let (asked, started) = (transport.seen().len(), Instant::now());
        for _ in 0..100 {
            let error = get(&vault).await.unwrap_err();
            assert!(
                matches!(&error, VaultError::Unavailable(text) if text.contains("has failed 4 times in a row")),
                "{error}"
            );
        }
        assert_eq!((transport.seen().len(), started.elapsed()), (asked, Duration::ZERO), "calls fail at once");
    });
}

#[test]
fn lost_write_reply_is_reported() {
    paused(async {
        let transport = failing(usize::MAX, || Reply::Cut);
        let batch = vec![(grant(Operation::Set, "a"), secret("v"))];
        let error = Vault::set_many(&vault_over(&transport), &batch).await.unwrap_err();
        assert!(error.to_string().contains("whether `a` was changed is not known"), "{error}");
        let refused = failing(usize::MAX, || Reply::error(403, "Forbidden", "ForbiddenByRbac"));
        let batch = vec![(grant(Operation::Set, "a"), secret("v"))];
        let error = Vault::set_many(&vault_over(&refused), &batch).await.unwrap_err();
        assert!(!error.to_string().contains("not known"), "{error}");
    });
}

#[test]
fn delete_with_lost_reply_succeeds() {
    paused(async {
        let count = AtomicUsize::new(0);
        let transport = after_sign_in(move |_| match count.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::Cut,
            _ => Reply::error(404, "SecretNotFound", "x"),
        });
        vault_over(&transport).delete(&name("a")).await.unwrap();
        let missing = after_sign_in(|_| Reply::error(404, "SecretNotFound", "x"));
        assert!(matches!(vault_over(&missing).delete(&name("a")).await, Err(VaultError::NotFound(_))));
    });
}

#[test]
fn failing_token_authority_is_unavailable() {
    paused(async {
        let faults: [fn() -> Reply; 3] = [
            || Reply::Fails(ErrorKind::Connection),
            || Reply::Json(503, serde_json::json!({"error": "temporarily_unavailable"})),
            || Reply::Silent,
        ];
        for fault in faults {
            let transport = FakeTransport::new(move |seen| match seen.url.starts_with(AUTHORITY) {
                true => fault(),
                false => Reply::challenge(AUTHORITY, "https://vault.azure.net"),
            });
            let error = get(&vault_over(&transport)).await.unwrap_err();
            assert!(matches!(error, VaultError::Unavailable(_)), "{error}");
            assert!(!error.to_string().contains("does not accept"), "the secret is not to blame: {error}");
        }
    });
}

#[test]
fn credential_revoked_during_runs_is_refused() {
    paused(async {
        let revoked = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let seen_revoked = Arc::clone(&revoked);
        let transport = FakeTransport::new(move |seen| {
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
        let open = || {
            AzureVault::with(location(), &settings, Arc::clone(&transport) as _, Arc::new(NoTools), Default::default())
        };
        let vault = open().unwrap();
        get(&vault).await.unwrap();
        revoked.store(true, Ordering::SeqCst);
        // The vault refuses the host's cached token, and no other can be obtained.
        let error = get(&vault).await.unwrap_err();
        assert!(matches!(&error, VaultError::Refused(text) if text.contains("az ad app credential reset")), "{error}");
        // A newly opened vault gets no token.
        let error = get(&open().unwrap()).await.unwrap_err();
        assert!(matches!(&error, VaultError::Refused(text) if text.contains("az ad app credential reset")), "{error}");
        assert!(!error.to_string().contains("s3cr3t"), "{error}");
    });
}
