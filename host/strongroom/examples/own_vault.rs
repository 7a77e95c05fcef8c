//! An embedder's own vault, tested with the conformance cases and used by a run.
//!
//! `cargo run --example own_vault --features vault-cases -- COMPONENT`

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use strongroom::audit::{Audit, SyncMode};
use strongroom::ids::{SecretName, SecretVersion};
use strongroom::policy::{Grant, ListGrant, Policy};
use strongroom::runner::{Runner, RunnerOptions};
use strongroom::runtime::{Compile, Silent};
use strongroom::secret::Secret;
use strongroom::spec::RunSpec;
use strongroom::vault::{Abilities, Description, Missing, Stored, Vault, VaultError, cases};

/// Secrets in memory. Only the newest version of each is kept.
#[derive(Default)]
struct MapVault(Mutex<Map>);

#[derive(Default)]
struct Map {
    secrets: BTreeMap<SecretName, Stored>,
    /// The number of versions ever created. The ID of a version is never reused, even after a
    /// deletion.
    versions: u64,
}

impl MapVault {
    fn lock(&self) -> MutexGuard<'_, Map> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Map {
    /// Finds the secret of a grant by its name in the vault, at the version that the grant names,
    /// if any. This vault keeps no old versions: a run that read a version that was replaced since
    /// gets an error instead of another version.
    fn find(&self, grant: &Grant) -> Result<Stored, VaultError> {
        let stored = self.secrets.get(grant.stored());
        stored
            .filter(|stored| grant.version().is_none_or(|version| *version == stored.description.version))
            .cloned()
            .ok_or_else(|| VaultError::NotFound(grant.stored().clone()))
    }

    fn insert(&mut self, name: SecretName, value: Arc<Secret>) -> Result<Description, VaultError> {
        self.versions += 1;
        let version = SecretVersion::parse(&format!("v{}", self.versions))
            .map_err(|error| VaultError::Invalid(error.to_string()))?;
        let description = Description::new(name.clone(), version, Timestamp::now());
        self.secrets.insert(name, Stored::new(value, description.clone()));
        Ok(description)
    }
}

/// Every method takes grants, which prove that a policy allowed the call.
#[async_trait]
impl Vault for MapVault {
    fn abilities(&self) -> Abilities {
        Abilities { transactions: true, ..Abilities::default() }
    }

    async fn get(&self, grant: &Grant) -> Result<Stored, VaultError> {
        self.lock().find(grant)
    }

    async fn get_many(&self, grants: &[Grant]) -> Result<Vec<Result<Stored, Missing>>, VaultError> {
        let map = self.lock();
        grants.iter().map(|grant| Missing::separate(map.find(grant))).collect()
    }

    async fn describe(&self, grant: &Grant) -> Result<Description, VaultError> {
        self.lock().find(grant).map(|stored| stored.description)
    }

    async fn set_many(&self, secrets: &[(Grant, Arc<Secret>)]) -> Result<Vec<Description>, VaultError> {
        let mut map = self.lock();
        secrets.iter().map(|(grant, value)| map.insert(grant.stored().clone(), Arc::clone(value))).collect()
    }

    async fn delete_many(&self, grants: &[Grant]) -> Result<(), VaultError> {
        let mut map = self.lock();
        // Deletes all or none: if one does not exist, none is deleted.
        grants.iter().try_for_each(|grant| map.find(grant).map(drop))?;
        map.secrets.retain(|name, _| !grants.iter().any(|grant| grant.stored() == name));
        Ok(())
    }

    async fn list(&self, grant: &ListGrant) -> Result<Vec<SecretName>, VaultError> {
        let map = self.lock();
        // Exact names are returned as the component knows them; a prefix is matched against each
        // existing name.
        let exact = grant.exact().filter(|&(stored, _)| map.secrets.contains_key(stored)).map(|(_, asked)| asked);
        let admitted = map.secrets.keys().filter(|stored| grant.admits(stored));
        let names: BTreeSet<_> = exact.chain(admitted).cloned().collect();
        Ok(names.into_iter().collect())
    }
}

const POLICY: &str = "
version = 1

[secrets]
dataset-key = ['get']
";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let component = std::env::args().nth(1).ok_or("name a component")?;
    let vault = Arc::new(MapVault::default());

    // In a project this is a test. It panics if the vault is wrong.
    let held = cases::run_guest_path(Arc::clone(&vault) as Arc<dyn Vault>, "example").await;
    println!("{} of {} cases concern this vault and hold", held.len(), cases::count());

    let value = Arc::new(Secret::new("correct horse battery staple".to_owned())?);
    vault.lock().insert(SecretName::parse("dataset-key")?, value)?;
    let home = tempfile::tempdir()?;
    let audit = Audit::open(&home.path().join("audit"), SyncMode::Always)?;
    let options = RunnerOptions::new(vault, audit.clone(), Compile::InProcess).temp(home.path());
    let spec = RunSpec::new(component).args(["get=dataset-key"]);
    let policy = Arc::new(Policy::parse(POLICY, "policy")?);
    let record = Runner::new(options)?.run(spec, policy, Arc::new(Silent), std::future::pending()).await?;

    audit.close()?;
    println!("{}", serde_json::to_string_pretty(&record)?);
    Ok(())
}
