//! What every vault does alike, asked of a Key Vault over the real transport.

use std::sync::Arc;

use strongroom::vault::azure::{AzureVault, CredentialKind, CredentialSettings, Emulator, Exceptions, Place};
use strongroom::vault::cache::{Cache, Settings};
use strongroom::vault::cases;

use crate::support::KeyVault;

/// The cases that a Key Vault cannot be asked: it has no transactions, and a deleted name is not free before it is purged.
const LEFT_OUT: &[&str] =
    &["a_deleted_name_can_be_set_again", "a_batch_deletes_all_or_nothing", "a_dropped_write_is_done_or_undone"];

/// The vault as the library opens it, in this process.
fn open(server: &KeyVault) -> AzureVault {
    let told = server.told();
    let emulator = Emulator {
        host: told.vault.strip_prefix("https://").unwrap().to_owned(),
        ca_file: told.ca_file.clone(),
        authority: Some(told.authority.clone()),
        metadata: None,
    };
    let place = Place::parse(&told.vault, &Exceptions { authority: None, emulator: Some(emulator) }).unwrap();
    let credential = CredentialSettings {
        kind: CredentialKind::ClientSecret,
        tenant_id: Some(told.tenant.clone()),
        client_id: Some(told.client_id.clone()),
        client_secret_file: Some(told.client_secret_file.clone()),
        ..CredentialSettings::default()
    };
    AzureVault::open(place, &credential).unwrap()
}

#[test]
fn the_common_cases_hold() {
    let server = KeyVault::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let vault = Arc::new(open(&server));
        let ran = cases::run_all(Arc::clone(&vault) as _, vault, "common").await;
        assert_eq!(ran.len(), cases::count() - LEFT_OUT.len(), "{ran:?}");
        assert!(LEFT_OUT.iter().all(|case| !ran.contains(case)), "{ran:?}");

        // As runs use it, with the cache before it.
        let cache = Arc::new(Cache::new(Arc::new(open(&server)), Settings::default()));
        let ran = cases::run_guest_path(cache, "cached").await;
        assert!(ran.len() > 8, "{ran:?}");
    });
}
