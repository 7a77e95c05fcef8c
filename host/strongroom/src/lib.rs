//! strongroom runs *training components* (WebAssembly components that somebody else wrote and nobody trusts) and lets them use secrets of a
//! vault under a policy written for one run. The component never sees the vault's credential, another run's secrets, or the host's environment,
//! files and network; what it was given is taken out of what it prints; and every use is audited before it happens.
//!
//! This page is for programs that embed the library. Policies, the guest's interface and the command line are in the project's `docs/`.
//!
//! # Quick start
//! A [`Runner`](runner::Runner) serves a whole process. It takes what a run is ([`RunSpec`](spec::RunSpec)) and what it may do
//! ([`Policy`](policy::Policy)), and answers with what became of it ([`RunRecord`](record::RunRecord)).
//!
//! ```no_run
//! # #[cfg(feature = "local-vault")] {
//! use std::sync::Arc;
//!
//! use strongroom::audit::{Audit, SyncMode};
//! use strongroom::policy::Policy;
//! use strongroom::runner::{Runner, RunnerOptions};
//! use strongroom::runtime::{Compile, Silent};
//! use strongroom::spec::RunSpec;
//! use strongroom::vault::local::{LocalVault, Unlock};
//!
//! # async fn embed() -> Result<(), Box<dyn std::error::Error>> {
//! // Once for a process.
//! let vault = LocalVault::open("/var/lib/jobs/vault".as_ref(), Unlock::KeyFile)?;
//! let audit = Audit::open("/var/lib/jobs/audit".as_ref(), SyncMode::Always)?;
//! let runner = Runner::new(RunnerOptions::new(Arc::new(vault), audit.clone(), Compile::InProcess))?;
//!
//! // For each run.
//! let spec = RunSpec::new("train.wasm").input("dataset").output("model").parameter("epochs", "20");
//! let policy = Policy::parse("version = 1\n[secrets]\ndataset-key = ['get']\n", "policy.toml")?;
//! let record = runner.run(spec, Arc::new(policy), Arc::new(Silent), std::future::pending()).await?;
//! println!("{}: {}", record.id, record.outcome.as_str());
//!
//! // At the end: a segment that was closed can be told from one that was cut off.
//! audit.close()?;
//! # Ok(())
//! # }
//! # }
//! ```
//!
//! A policy decides without a vault, an engine, or a clock:
//!
//! ```
//! use std::sync::Arc;
//!
//! use strongroom::ids::SecretName;
//! use strongroom::policy::{Decisions, Operation, Policy};
//!
//! let policy = Policy::parse("version = 1\n[secrets]\n'db-*' = { allow = ['get'], max-uses = 1 }\n", "policy.toml")?;
//! let decisions = Decisions::new(Arc::new(policy));
//! let now = jiff::Timestamp::now();
//! let name = SecretName::parse("DB-Password")?;
//! assert_eq!(decisions.decide(Operation::Get, &name, now)?.rule(), "secrets.\"db-*\"");
//! let refusal = decisions.decide(Operation::Get, &name, now).unwrap_err();
//! assert_eq!(refusal.reason.as_str(), "exhausted");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Four programs in `examples/` go further, and `docs/embedding.md` leads through them: `run`, a run from nothing; `own_world`, the secrets
//! interface in a WebAssembly world of your own; `own_vault`, a vault of your own and the cases that it has to pass; `many_runs`, hundreds
//! of runs on one runner.
//!
//! # The way of one secret
//! A component calls `get-secret("db-password")`. The store, and nothing that the component says, tells which run is asking. Its
//! [`RunBroker`](broker::RunBroker) then goes through one order, for every operation:
//!
//! > decide → audit the decision → fetch → audit the outcome → register with the redactor → release
//!
//! The [`policy`] answers with a [`Grant`](policy::Grant) that cannot be cloned and that a call of the [`vault`] consumes, so that a way to the
//! vault which skips the policy does not compile. Where the [`audit`] cannot be written, the answer is no. What the component prints,
//! reports and names goes through the run's [`redact::Redactor`] on its way out.
//!
//! # What to choose
//!
//! | | choose | when |
//! |---|---|---|
//! | vault | `vault::local` (feature `local-vault`) | secrets live on this machine, in an encrypted file |
//! | | `vault::azure` (feature `azure`) | they live in an Azure Key Vault |
//! | | your own [`Vault`](vault::Vault) | they live anywhere else; hold it against `vault::cases` |
//! | | [`Cache`](vault::cache::Cache) around either | runs ask for the same secrets again, and an age of some minutes is no harm |
//! | audit | [`SyncMode::Always`](audit::SyncMode) | an event has to outlive a power cut before its secret is released: a sync of the disk, shared by concurrent runs |
//! | | [`SyncMode::Os`](audit::SyncMode) | it has to outlive the process: microseconds |
//! | compile | `Compile::Child` | components are hostile: the compiler gets a process with limits of its own, which is your program calling `runtime::compile::as_child` first |
//! | | `Compile::InProcess` | components are trusted that far, or came from your own build |
//!
//! # What an embedder owes
//! The library does not do these by itself, because they concern the whole process. The program `strongroom` does all of them.
//!
//! - **A process for each tenant.** The host trusts its engine. An escape from it is an escape into the process that holds the vault's key:
//!   mutually hostile tenants get a process and an operating-system user each.
//! - **Memory that stays private:** [`process::keep_memory_private`] before the first secret. Swap is the machine's matter.
//! - **Logs without guest text:** filter your subscriber with [`process::may_be_logged`]. At debug level the engine prints what guests write.
//! - **Terminals:** [`Observer::output`](runtime::Observer::output) gets redacted bytes that are not escaped. Before a terminal they go through
//!   [`TerminalEscaper`](escape::TerminalEscaper), or [`escape_controls`](escape::escape_controls).
//! - **Ceilings:** a policy may ask for any limit unless [`Ceilings`](policy::Ceilings) say otherwise. Whoever writes policies is then bounded by you.
//! - **Ends in good order:** end a run with its `cancel`, close the audit, and where records are kept call
//!   [`RunStore::mark_lost`](runs::RunStore::mark_lost) at the next start.
//!
//! Redaction is a safety net. What a policy hands out is the boundary: a component that may read a key may also write it, encoded in a way that
//! nobody foresaw, into its output.
//!
//! # Reading a record
//! [`RunRecord::outcome`](record::RunRecord::outcome) says what became of the run and [`blame`](record::RunRecord::blame) whose doing it was:
//!
//! | outcome | blame | what to do |
//! |---|---|---|
//! | `finished` | | look at `outputs`, `metrics`, `warnings` |
//! | `failed` | guest | `reason`, `exit_code`; `secrets[].denied` and `would_allow` say what it was refused |
//! | `refused` | policy | `reason` names the imports that nobody grants; no guest code ran |
//! | `limit` | guest | `limit` and `reason` name what to raise, if the component deserves it |
//! | `cancelled` | operator | |
//! | `host-fault` | host | the vault, the audit or the machine: try again once it is mended |
//! | `lost` | | the process died; the audit says how far the run came |
//!
//! An error in the place of a record means that the run did not start and left nothing behind.
//!
//! # Rooms
//! From the bottom up; a room uses lower rooms only. `ARCHITECTURE.md` has the whole picture.
//!
//! | room | holds |
//! |---|---|
//! | [`ids`] [`secret`] [`redact`] | parsed names and digests; the zeroizing secret; the streaming redactor |
//! | [`process`] | what a process that holds secrets owes them |
//! | [`policy`] [`spec`] [`record`] | parse and decide; what a run is; what became of it. Pure |
//! | [`audit`] [`vault`] [`runs`] | the trail; the vaults; the store of run records |
//! | [`broker`] | the choke point: every use of a secret is decided and audited there |
//! | `runtime` | the sandbox; the only room that knows wasmtime |
//! | `runner` | one run from its specification to its record |
//! | `config` `cli` | the front door; the only reader of the environment is `config` |
//!
//! # Features
//!
//! | feature | default | brings | at the price of |
//! |---|---|---|---|
//! | `cli` | yes | `cli`, `config`, the program; switches on the next three | clap and others of a front end |
//! | `runtime` | with `cli` | `runtime`, `runner` | wasmtime |
//! | `local-vault` | with `cli` | `vault::local` | SQLite, built from its source |
//! | `azure` | with `cli` | `vault::azure` | Azure's SDK, reqwest and rustls |
//! | `azure-client-certificate` | no | signing in to Azure with a certificate | OpenSSL |
//! | `vault-cases` | no | `vault::cases`, for tests of a vault of your own | |
//!
//! An embedder takes `default-features = false, features = ["runtime"]` and a vault. Without any feature the library is policy, broker, audit,
//! redactor, records and the [`Vault`](vault::Vault) trait, for a host whose sandbox is none of ours: a [`Session`](broker::Session) is its run.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(missing_debug_implementations)]

pub use strongroom_audit as audit;
pub use strongroom_broker as broker;
pub use strongroom_core::{escape, ids, record, secret, spec};
pub use strongroom_policy as policy;
pub use strongroom_redact as redact;
pub use strongroom_runtime as runtime;
pub use strongroom_vault as vault;

pub mod process;
pub mod runner;
pub mod runs;

/// What README shows compiles. What it shows of guests is marked as such, since a guest is no part of this package.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(test)]
mod tests {
    //! What embedders rely on without saying so: things move between threads, and errors can be boxed.

    fn shared<T: Send + Sync + 'static>() {}
    fn error<T: std::error::Error + Send + Sync + 'static>() {}

    #[test]
    fn what_is_shared_between_threads_can_be() {
        shared::<strongroom_audit::Audit>();
        shared::<strongroom_broker::Broker>();
        shared::<strongroom_broker::RunBroker>();
        shared::<strongroom_broker::Session>();
        shared::<strongroom_policy::Policy>();
        shared::<strongroom_policy::Decisions>();
        shared::<strongroom_core::record::RunRecord>();
        shared::<strongroom_redact::Redactor>();
        shared::<crate::runs::RunStore>();
        shared::<strongroom_core::secret::Secret>();
        shared::<strongroom_core::spec::RunSpec>();
        shared::<strongroom_vault::cache::Cache>();
        shared::<std::sync::Arc<dyn strongroom_vault::Vault>>();
        #[cfg(feature = "local-vault")]
        shared::<strongroom_vault::local::LocalVault>();
    }

    #[test]
    fn errors_are_errors() {
        error::<strongroom_audit::AuditError>();
        error::<strongroom_broker::RequestError>();
        error::<strongroom_broker::GuestError>();
        error::<strongroom_broker::SessionError>();
        error::<strongroom_core::ids::InvalidName>();
        error::<strongroom_policy::PolicyError>();
        error::<strongroom_policy::Refusal>();
        error::<strongroom_policy::PinMismatch>();
        error::<crate::runs::RunStoreError>();
        error::<strongroom_core::secret::ValueTooLong>();
        error::<strongroom_vault::VaultError>();
    }

    #[test]
    fn the_sandbox_is_shared_between_threads() {
        shared::<crate::runner::Runner>();
        shared::<crate::runner::RunnerOptions>();
        shared::<strongroom_runtime::Guard>();
        shared::<strongroom_runtime::Loader>();
        shared::<strongroom_runtime::Ticker>();
        fn sent<T: Send>(_: &T) {}
        let _ = |runner: &crate::runner::Runner, spec, policy, observer| {
            sent(&runner.run(spec, policy, observer, std::future::pending()));
        };
        error::<crate::runner::RunnerError>();
        error::<crate::runner::StartError>();
        error::<strongroom_runtime::CompileError>();
        error::<strongroom_runtime::LoadError>();
    }
}
