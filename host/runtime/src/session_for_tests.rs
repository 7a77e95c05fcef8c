//! A session for unit tests of this crate.

use std::sync::Arc;

use strongroom_audit::{Audit, SyncMode};
use strongroom_broker::{Broker, Repeats, Session};
use strongroom_core::ids::Digest;
use strongroom_core::record::ComponentRef;
use strongroom_core::spec::RunSpec;
use strongroom_policy::{Ceilings, Policy};
use strongroom_vault::local::{LocalVault, Protection};

/// Returns a session with an empty policy and vault, in its own directory.
pub(crate) async fn session_for_tests() -> (tempfile::TempDir, Session) {
    let home = tempfile::tempdir().unwrap();
    let vault = LocalVault::create(&home.path().join("vault"), Protection::KeyFile).unwrap();
    let audit = Audit::open(&home.path().join("audit"), SyncMode::Os).unwrap();
    let broker = Broker::new(Arc::new(vault), audit, Repeats::Sum);
    let component = ComponentRef::new("a.wasm".as_ref(), Digest::of(b"a"), 1);
    let (spec, policy) = (RunSpec::new("a.wasm"), Arc::new(Policy::empty()));
    let session = broker.start(&spec, component, policy, &Ceilings::default()).await.unwrap();
    (home, session)
}
