//! strongroom runs *training components* (WebAssembly components from untrusted authors) and lets
//! them use secrets from a vault under a policy written for one run. The component never sees the
//! vault's credential, another run's secrets, or the host's environment, files and network. Secret
//! values that it received are redacted from its output, and every use is audited before the value
//! is released.
//!
//! This page is for programs that embed the library. The project's `docs/` describe policies, the
//! guest interface and the command line.
//!
//! # Quick start
//! A [`Runner`](runner::Runner) serves a whole process. It takes a run's specification
//! ([`RunSpec`](spec::RunSpec)) and permissions ([`Policy`](policy::Policy)), and returns its
//! outcome ([`RunRecord`](record::RunRecord)).
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
//! use strongroom::vault::local::{LocalVault, Protection};
//!
//! # async fn embed() -> Result<(), Box<dyn std::error::Error>> {
//! // Once for a process.
//! let vault = LocalVault::open("/var/lib/jobs/vault".as_ref(), Protection::KeyFile)?;
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
//! [`Runner::prepare`](runner::Runner::prepare) checks a run without starting it. It returns a
//! [`PreparedRun`](runner::PreparedRun), which runs exactly what was checked.
//! [`Checks::prepare`](runner::Checks::prepare) makes the same checks without a runner, for a
//! program that reports bad input before it opens a vault and an audit log.
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
//! `examples/` contains four larger programs, which `docs/embedding.md` explains: `run`, a run from
//! scratch; `own_world`, the secrets interface in your own WebAssembly world; `own_vault`, your own
//! vault backend and the conformance cases that it must pass; `many_runs`, hundreds of runs on one
//! runner.
//!
//! # The path of one secret
//! A component calls `get-secret("db-password")`. The engine's store identifies the run that is
//! asking; nothing that the component says does. The run's [`RunBroker`](broker::RunBroker) then
//! follows one order for every operation:
//!
//! > decide → audit the decision → fetch → audit the outcome → register with the redactor → release
//!
//! The [`policy`] returns a [`Grant`](policy::Grant). Every guest-facing method of the [`vault`]
//! takes a reference to one, and only the crate strongroom-policy can construct one, so code that
//! skips the policy does not compile. If the [`audit`] log cannot be written, the request is
//! refused. Text that the component prints or reports, and names that it chooses, pass through the
//! run's [`redact::Redactor`] before they leave the host.
//!
//! # What to choose
//!
//! | | choose | when |
//! |---|---|---|
//! | vault | `vault::local` (feature `local-vault`) | secrets are in an encrypted file on this machine |
//! | | the crate `strongroom-vault-azure` | secrets are in an Azure Key Vault |
//! | | your own [`Vault`](vault::Vault) | secrets are elsewhere; test it with `vault::cases` (feature `vault-cases`) |
//! | | [`Cache`](vault::cache::Cache) around any of them | runs request the same secrets again, and values may be some minutes old |
//! | audit | [`SyncMode::Always`](audit::SyncMode) | an event must survive a power failure before its secret is released: one disk sync, shared by concurrent runs |
//! | | [`SyncMode::Os`](audit::SyncMode) | an event must survive the process: microseconds |
//! | compile | [`Compile::Child`](runtime::Compile::Child) | components are hostile: the compiler runs in a child process with its own limits, and your program calls [`as_child`](runtime::compile::as_child) first |
//! | | [`Compile::InProcess`](runtime::Compile::InProcess) | components are trusted to that extent, or come from your own build |
//!
//! # Responsibilities of an embedder
//! The library leaves the following to the program, because they concern the whole process. The
//! program `strongroom` does all of them.
//!
//! - **One process per tenant.** The host trusts its engine. An escape from it is an escape into
//!   the process that holds the vault's key, so mutually hostile tenants need separate processes
//!   and separate operating-system users.
//! - **Private memory:** call [`process::keep_memory_private`] before the first secret. The library
//!   does not control swap; configure it on the machine.
//! - **Logs without guest text:** filter your subscriber with [`process::may_be_logged`]. At debug
//!   level the engine prints what guests write.
//! - **Terminals:** [`Observer::output`](runtime::Observer::output) receives redacted bytes that
//!   are not escaped. Pass them through [`TerminalEscaper`](escape::TerminalEscaper) or
//!   [`escape_controls`](escape::escape_controls) before a terminal shows them.
//! - **Ceilings:** a policy may request any limit unless [`Ceilings`](policy::Ceilings) bound it.
//!   Set them if other people write policies.
//! - **Orderly shutdown:** end a run with its `cancel`, close the audit log, and if records are
//!   stored, call [`RunStore::mark_lost`](runs::RunStore::mark_lost) at the next start.
//!
//! Redaction is a safety net. The boundary is what a policy grants: a component that may read a key
//! may also write it to its output in an encoding that the redactor does not know.
//!
//! # Reading a record
//! [`RunRecord::outcome`](record::RunRecord::outcome) says how the run ended and
//! [`blame`](record::RunRecord::blame) who caused it:
//!
//! | outcome | blame | what to do |
//! |---|---|---|
//! | `finished` | | read `outputs`, `metrics`, `warnings` |
//! | `failed` | guest | read `reason`, `exit_code`; `secrets[].denied` and `would_allow` list what was denied |
//! | `refused` | guest | read `reason`, which names the imports that are not linked; no guest code ran |
//! | `limit` | guest | read `limit` and `reason`; raise the limit if the component should have more |
//! | `cancelled` | operator | |
//! | `host-fault` | host | repair the vault, the audit log or the machine, then try again |
//! | `lost` | | read the audit log up to where the process died |
//!
//! An error instead of a record means that the run did not start and left nothing behind.
//!
//! # Crates
//! This crate reexports the crates that it is built from. `ARCHITECTURE.md` describes their layers.
//!
//! | module | crate | contents |
//! |---|---|---|
//! | [`ids`] [`secret`] [`spec`] [`record`] [`escape`] | strongroom-core | names and digests, the zeroizing secret, run specification, run record, escaping |
//! | [`redact`] | strongroom-redact | streaming redactor |
//! | [`policy`] | strongroom-policy | parsing and decisions, without I/O |
//! | [`audit`] | strongroom-audit | audit log and its verification |
//! | [`vault`] | strongroom-vault | vault traits, cache, local vault, conformance cases |
//! | [`broker`] | strongroom-broker | the choke point that decides and audits every use of a secret |
//! | [`runtime`] | strongroom-runtime | the sandbox; the only crate that depends on wasmtime |
//! | [`runner`] [`runs`] [`process`] | this crate | runs from specification to record; the run store; process hardening |
//!
//! # Features
//! No feature is enabled by default.
//!
//! | feature | adds | cost |
//! |---|---|---|
//! | `local-vault` | `vault::local` | SQLite, built from source |
//! | `vault-cases` | `vault::cases`, the conformance tests for your own vault | |
//!
//! Azure Key Vault is in the crate `strongroom-vault-azure`. A host with another sandbox can use a
//! [`Session`](broker::Session) for its runs: it depends on strongroom-broker and the crates below
//! it, and so does not build wasmtime.

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

/// Compiles the examples in the README. Its guest examples are marked as such, because a guest is
/// not part of this package.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(test)]
mod tests {
    //! Properties that embedders rely on: values can be sent between threads, and errors can be
    //! boxed.

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
