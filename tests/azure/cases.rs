//! What every vault does alike, asked of a Key Vault over the real transport.

use std::sync::Arc;

use strongroom::vault::cache::Settings;
use strongroom::vault::cases;

use crate::support::KeyVault;

/// The cases that a Key Vault cannot be asked: it has no transactions, and a deleted name is not free before it is purged.
const LEFT_OUT: &[&str] =
    &["a_deleted_name_can_be_set_again", "a_batch_deletes_all_or_nothing", "a_dropped_write_is_done_or_undone"];

// promise: All vault backends pass the same cases.
#[test]
fn the_common_cases_hold() {
    let server = KeyVault::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let vault = Arc::new(server.vault());
        let ran = cases::run_all(Arc::clone(&vault) as _, vault, "common").await;
        assert_eq!(ran.len(), cases::count() - LEFT_OUT.len(), "{ran:?}");
        assert!(LEFT_OUT.iter().all(|case| !ran.contains(case)), "{ran:?}");

        // As runs use it, with the cache before it.
        let ran = cases::run_guest_path(server.cached(Settings::default()), "cached").await;
        assert!(ran.len() > 8, "{ran:?}");
    });
}
