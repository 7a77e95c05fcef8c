//! What a credential's failure means, and what to do about it, for each kind by name. No text of a token's answer is in it but Entra's own
//! codes and sentences, without anything that looks like a token.

use std::io;

use azure_core::error::{Error, ErrorKind};
use azure_core::http::RawResponse;
use serde::Deserialize;

use super::{CredentialKind, CredentialSettings, Failed, Presence};
use crate::error::{CredentialTrouble, causes, root, scrub};
use crate::guard::Breach;

pub(super) const NO_WORKLOAD: &str = "this is no pod with a workload identity: label the pod `azure.workload.identity/use: \"true\"` and annotate its service account \
     with the client id; or set `azure.tenant-id`, `azure.client-id` and `azure.token-file`";

/// What `az` says where nobody is signed in. To whoever was signed in and is refused it says something else, though that too names `az login`.
const NOBODY_AT_AZ: &str = "Please run 'az login' to setup account";

/// What `azd` says where nobody is signed in.
const NOBODY_AT_AZD: &str = "not logged in, run `azd auth login`";

/// How the errors of Entra begin. A tool that repeats one has an identity.
const OF_ENTRA: &str = "AADSTS";

/// What the metadata service says of a machine without an identity, or without the one that was asked for.
const NO_IDENTITY: &str = "Identity not found";

/// What a failure comes to.
pub(super) fn failed(kind: CredentialKind, settings: &CredentialSettings, error: &Error) -> Failed {
    let breach = Breach::of(error);
    let (status, reason) = answer(error).map_or((None, None), |(status, raw)| (Some(status), raw.and_then(reason)));
    let said = root(error);
    let transient = match (breach, status) {
        (Some(breach), _) => breach.is_transient(),
        (None, Some(status)) => status == 429 || status >= 500,
        (None, None) => false,
    };
    let no_metadata = breach.is_some_and(Breach::no_metadata);
    let nobody_where = |is_so: bool| if is_so { Presence::Nobody } else { Presence::Somebody };
    let (text, presence) = match kind {
        CredentialKind::ManagedIdentity if no_metadata => (
            "the metadata address does not answer, so this is no machine of Azure's: choose another credential, such as \
             `--credential azure-cli`"
                .to_owned(),
            Presence::Nothing,
        ),
        // Azure's service does not answer so to a machine without an identity. What stands before a network may, and nothing tells the two
        // apart for certain: it is for the operator to say.
        CredentialKind::ManagedIdentity if status == Some(403) => (
            format!(
                "the metadata address refuses a token ({said}): where this is a machine of Azure's, check the identity that is \
                 assigned to it; where it is none, what answers is not Azure's: choose another credential, such as \
                 `--credential azure-cli`"
            ),
            Presence::Somebody,
        ),
        CredentialKind::ManagedIdentity if status == Some(400) && reason.as_deref() == Some(NO_IDENTITY) => (
            "this machine has no such identity: assign one to it, or correct `azure.client-id`, `azure.object-id` or \
             `azure.resource-id`"
                .to_owned(),
            // One that is named and is not there any more may have been taken away.
            nobody_where(!settings.names_identity()),
        ),
        CredentialKind::ManagedIdentity if status == Some(400) => (
            format!(
                "the metadata address refuses a token ({}): check the identity that is assigned to this machine, and \
                 `azure.client-id`, `azure.object-id` or `azure.resource-id`",
                reason.unwrap_or(said)
            ),
            Presence::Somebody,
        ),
        CredentialKind::AzureCli if is_no_program(error, &said, "az") => {
            ("`az` is not on the path: install the Azure CLI, or choose another credential".to_owned(), Presence::Nothing)
        }
        CredentialKind::AzureDeveloperCli if is_no_program(error, &said, "azd") => (
            "`azd` is not on the path: install the Azure Developer CLI, or choose another credential".to_owned(),
            Presence::Nothing,
        ),
        CredentialKind::AzureCli => (
            format!("`az` gave no token ({said}): run `az login`"),
            nobody_where(said.contains(NOBODY_AT_AZ) && !said.contains(OF_ENTRA)),
        ),
        CredentialKind::AzureDeveloperCli => (
            format!("`azd` gave no token ({said}): run `azd auth login`"),
            nobody_where(said.contains(NOBODY_AT_AZD) && !said.contains(OF_ENTRA)),
        ),
        _ if breach.is_some() && transient => {
            (format!("{said}: check this host's DNS, network and proxy"), Presence::Somebody)
        }
        _ if breach.is_some() => (said, Presence::Somebody),
        _ if transient => (format!("no token is issued now ({said}): try again later"), Presence::Somebody),
        CredentialKind::WorkloadIdentity => (
            format!(
                "Entra does not accept the pod's token ({said}): check that the application has a federated credential with this \
                 cluster's issuer and this service account as its subject"
            ),
            Presence::Somebody,
        ),
        CredentialKind::ClientSecret => (
            format!(
                "Entra does not accept the application's secret ({said}): check tenant, client and the file, and whether the secret \
                 has expired; `az ad app credential reset` makes another"
            ),
            Presence::Somebody,
        ),
        CredentialKind::ClientCertificate => (
            format!(
                "Entra does not accept the application's certificate ({said}): check tenant and client, and that the application \
                 lists this certificate and it has not expired"
            ),
            Presence::Somebody,
        ),
        CredentialKind::ManagedIdentity | CredentialKind::Auto => (format!("no token ({said})"), Presence::Somebody),
    };
    // A metadata address that nobody answers will not be there in a second either.
    let transient = transient && !no_metadata;
    Failed { trouble: CredentialTrouble { text, transient }, presence }
}

/// The status of the answer that is behind an error, and the answer itself.
fn answer(error: &Error) -> Option<(u16, Option<&RawResponse>)> {
    causes(error).find_map(|cause| match cause.downcast_ref::<Error>()?.kind() {
        ErrorKind::HttpResponse { status, raw_response, .. } => Some((u16::from(*status), raw_response.as_deref())),
        _ => None,
    })
}

/// The reason that a metadata service gives. The SDK puts a sentence of its own in the place of it.
fn reason(raw: &RawResponse) -> Option<String> {
    #[derive(Deserialize)]
    struct Refusal {
        error_description: String,
    }
    let refusal: Refusal = serde_json::from_slice(raw.body().as_ref()).ok()?;
    Some(scrub(&refusal.error_description))
}

/// Whether a tool is not there, or no shell that would look for it.
fn is_no_program(error: &Error, said: &str, tool: &str) -> bool {
    if said.strip_prefix(tool) == Some(" not found on PATH") {
        return true;
    }
    let not_found = |cause: &io::Error| cause.kind() == io::ErrorKind::NotFound;
    causes(error).any(|cause| cause.downcast_ref().is_some_and(not_found))
}
