//! Explains a credential's failure for each kind and what to do. Of a token endpoint's reply it
//! quotes only Entra's error codes and sentences, without anything that looks like a token.

use std::io;

use azure_core::error::{Error, ErrorKind};
use azure_core::http::RawResponse;
use serde::Deserialize;

use super::{CredentialKind, CredentialSettings, Failed, Presence};
use crate::error::{CredentialError, causes, root, scrub};
use crate::guard::Breach;

pub(super) const NO_WORKLOAD: &str = "this is not a pod with a workload identity: label the pod `azure.workload.identity/use: \"true\"` and annotate its service account \
     with the client id; or set `azure.tenant-id`, `azure.client-id` and `azure.token-file`";

/// What `az` prints if no user is signed in. For a refused user it prints another text that also
/// mentions `az login`.
const AZ_NOT_SIGNED_IN: &str = "Please run 'az login' to setup account";

/// What `azd` prints if no user is signed in.
const AZD_NOT_SIGNED_IN: &str = "not logged in, run `azd auth login`";

/// Start of error codes of Entra. A tool that prints one has an identity.
const ENTRA_ERROR: &str = "AADSTS";

/// What the metadata service answers if the machine does not have the requested identity.
const NO_IDENTITY: &str = "Identity not found";

/// Converts a failure of a credential.
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
    let no_identity_if = |absent: bool| if absent { Presence::NoIdentity } else { Presence::Present };
    let (text, presence) = match kind {
        CredentialKind::ManagedIdentity if no_metadata => (
            "the metadata address does not answer, so this is not an Azure machine: choose another credential, such as \
             `azure-cli`"
                .to_owned(),
            Presence::Absent,
        ),
        // The real metadata service does not send this status to a machine without an identity, but
        // a proxy may. The two cannot be distinguished for certain, so the operator must decide.
        CredentialKind::ManagedIdentity if status == Some(403) => (
            format!(
                "the metadata address refuses a token ({said}): on an Azure machine, check the identity that is \
                 assigned to it; elsewhere the service that answers is not Azure's: choose another credential, such as \
                 `azure-cli`"
            ),
            Presence::Present,
        ),
        CredentialKind::ManagedIdentity if status == Some(400) && reason.as_deref() == Some(NO_IDENTITY) => (
            "this machine has no such identity: assign one to it, or correct `azure.client-id`, `azure.object-id` or \
             `azure.resource-id`"
                .to_owned(),
            // A configured identity that does not exist may have been removed.
            no_identity_if(!settings.names_identity()),
        ),
        CredentialKind::ManagedIdentity if status == Some(400) => (
            format!(
                "the metadata address refuses a token ({}): check the identity that is assigned to this machine, and \
                 `azure.client-id`, `azure.object-id` or `azure.resource-id`",
                reason.unwrap_or(said)
            ),
            Presence::Present,
        ),
        CredentialKind::AzureCli if is_not_installed(error, &said, "az") => {
            ("`az` is not on the path: install the Azure CLI, or choose another credential".to_owned(), Presence::Absent)
        }
        CredentialKind::AzureDeveloperCli if is_not_installed(error, &said, "azd") => (
            "`azd` is not on the path: install the Azure Developer CLI, or choose another credential".to_owned(),
            Presence::Absent,
        ),
        CredentialKind::AzureCli => (
            format!("`az` gave no token ({said}): run `az login`"),
            no_identity_if(said.contains(AZ_NOT_SIGNED_IN) && !said.contains(ENTRA_ERROR)),
        ),
        CredentialKind::AzureDeveloperCli => (
            format!("`azd` gave no token ({said}): run `azd auth login`"),
            no_identity_if(said.contains(AZD_NOT_SIGNED_IN) && !said.contains(ENTRA_ERROR)),
        ),
        _ if breach.is_some() && transient => {
            (format!("{said}: check this host's DNS, network and proxy"), Presence::Present)
        }
        _ if breach.is_some() => (said, Presence::Present),
        _ if transient => (format!("no token is issued now ({said}): try again later"), Presence::Present),
        CredentialKind::WorkloadIdentity => (
            format!(
                "Entra does not accept the pod's token ({said}): check that the application has a federated credential with this \
                 cluster's issuer and this service account as its subject"
            ),
            Presence::Present,
        ),
        CredentialKind::ClientSecret => (
            format!(
                "Entra does not accept the application's secret ({said}): check tenant, client and the file, and whether the secret \
                 has expired; `az ad app credential reset` makes another"
            ),
            Presence::Present,
        ),
        CredentialKind::ClientCertificate => (
            format!(
                "Entra does not accept the application's certificate ({said}): check tenant and client, and that the application \
                 lists this certificate and it has not expired"
            ),
            Presence::Present,
        ),
        CredentialKind::ManagedIdentity | CredentialKind::Auto => (format!("no token ({said})"), Presence::Present),
    };
    // A metadata address that does not respond now will not respond to a retry.
    let transient = transient && !no_metadata;
    Failed { failure: CredentialError { text, transient }, presence }
}

/// Returns the HTTP status and response behind an error.
fn answer(error: &Error) -> Option<(u16, Option<&RawResponse>)> {
    causes(error).find_map(|cause| match cause.downcast_ref::<Error>()?.kind() {
        ErrorKind::HttpResponse { status, raw_response, .. } => Some((u16::from(*status), raw_response.as_deref())),
        _ => None,
    })
}

/// Returns the reason that a metadata service gives, which the SDK's message omits.
fn reason(raw: &RawResponse) -> Option<String> {
    #[derive(Deserialize)]
    struct Refusal {
        error_description: String,
    }
    let refusal: Refusal = serde_json::from_slice(raw.body().as_ref()).ok()?;
    Some(scrub(&refusal.error_description))
}

/// Returns whether a tool, or the shell that looks for it, is not installed.
fn is_not_installed(error: &Error, said: &str, tool: &str) -> bool {
    if said.strip_prefix(tool) == Some(" not found on PATH") {
        return true;
    }
    let not_found = |cause: &io::Error| cause.kind() == io::ErrorKind::NotFound;
    causes(error).any(|cause| cause.downcast_ref().is_some_and(not_found))
}
