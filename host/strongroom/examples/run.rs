//! A complete run: a vault, a policy, a component, and the run record.
//!
//! `cargo run --example run -- COMPONENT`

use std::error::Error;
use std::sync::Arc;

use strongroom::audit::{Audit, SyncMode};
use strongroom::ids::SecretName;
use strongroom::policy::Policy;
use strongroom::runner::{Runner, RunnerOptions};
use strongroom::runtime::{Compile, Silent};
use strongroom::secret::Secret;
use strongroom::spec::RunSpec;
use strongroom::vault::local::{LocalVault, Protection};
use strongroom::vault::{NewSecret, Operator as _};

/// Everything that the run may do.
const POLICY: &str = "
version = 1

[secrets]
dataset-key = ['get']
";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let component = std::env::args().nth(1).ok_or("name a component")?;
    let home = tempfile::tempdir()?;

    let vault = LocalVault::create(&home.path().join("vault"), Protection::KeyFile)?;
    let value = Arc::new(Secret::new("correct horse battery staple".to_owned())?);
    vault.set_many(vec![NewSecret::new(SecretName::parse("dataset-key")?, value)]).await?;
    let audit = Audit::open(&home.path().join("audit"), SyncMode::Always)?;

    let options = RunnerOptions::new(Arc::new(vault), audit.clone(), Compile::InProcess);
    let runner = Runner::new(options.temp(home.path()))?;
    let spec = RunSpec::new(component).args(["get=dataset-key"]);
    let policy = Arc::new(Policy::parse(POLICY, "policy")?);
    let record = runner.run(spec, policy, Arc::new(Silent), std::future::pending()).await?;

    audit.close()?;
    println!("{}", serde_json::to_string_pretty(&record)?);
    Ok(())
}
