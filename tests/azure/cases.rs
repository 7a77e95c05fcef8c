//! The conformance cases of all vaults, run against a Key Vault over the real transport.

use std::sync::Arc;

use strongroom::vault::cache::Settings;
use strongroom::vault::cases;

use crate::support::KeyVault;

/// The cases that do not apply to a Key Vault: it has no transactions, and a deleted name is
/// unavailable until it is purged.
const NOT_APPLICABLE: &[&str] =
    &["a_deleted_name_can_be_set_again", "a_batch_deletes_all_or_nothing", "a_dropped_write_is_done_or_undone"];

// promise: All vault backends pass the same cases.
#[test]
fn key_vault_passes_the_conformance_cases() {
    let server = KeyVault::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let vault = Arc::new(server.vault());
        let ran = cases::run_all(Arc::clone(&vault) as _, vault, "common").await;
        assert_eq!(ran.len(), cases::count() - NOT_APPLICABLE.len(), "{ran:?}");
        assert!(NOT_APPLICABLE.iter().all(|case| !ran.contains(case)), "{ran:?}");

        // As runs use it, with a cache in front.
        let ran = cases::run_guest_path(server.cached(Settings::default()), "cached").await;
        assert!(ran.len() > 8, "{ran:?}");
    });
}
