//! What a credential's failure means, and what to do about it, for each kind by name. No text of a token's answer is in it but Entra's own
//! codes and sentences, without anything that looks like a token.

use azure_core::error::{Error, ErrorKind};

use super::{CredentialKind, Failed};
use crate::vault::azure::error::{CredentialTrouble, root};
use crate::vault::azure::guard::Breach;

pub(super) const NO_WORKLOAD: &str = "this is no pod with a workload identity: label the pod `azure.workload.identity/use: \"true\"` and annotate its service account \
     with the client id; or set `azure.tenant-id`, `azure.client-id` and `azure.token-file`";

/// What a failure comes to.
pub(super) fn failed(kind: CredentialKind, error: &Error) -> Failed {
    let breach = Breach::of(error);
    let status = status(error);
    let said = root(error);
    let transient = match (breach, status) {
        (Some(breach), _) => breach.is_transient(),
        (None, Some(status)) => status == 429 || status >= 500,
        (None, None) => false,
    };
    let no_metadata = breach.is_some_and(Breach::no_metadata);
    let (text, is_absent) = match kind {
        CredentialKind::ManagedIdentity if no_metadata => (
            "the metadata address does not answer, so this is no machine of Azure's: choose another credential, such as \
             `--credential azure-cli`"
                .to_owned(),
            true,
        ),
        // What stands before a network answers so where the metadata address is shut; Azure's own service never does.
        CredentialKind::ManagedIdentity if status == Some(403) => (
            "something answers at the metadata address that is not Azure's: choose another credential, such as \
             `--credential azure-cli`"
                .to_owned(),
            true,
        ),
        CredentialKind::ManagedIdentity if status == Some(400) => (
            "this machine has no such identity: assign one to it, or correct `azure.client-id`, `azure.object-id` or \
             `azure.resource-id`"
                .to_owned(),
            true,
        ),
        CredentialKind::AzureCli if said.contains("not found on PATH") => {
            ("`az` is not on the path: install the Azure CLI, or choose another credential".to_owned(), true)
        }
        CredentialKind::AzureDeveloperCli if said.contains("not found on PATH") => {
            ("`azd` is not on the path: install the Azure Developer CLI, or choose another credential".to_owned(), true)
        }
        CredentialKind::AzureCli => (format!("`az` gave no token ({said}): run `az login`"), true),
        CredentialKind::AzureDeveloperCli => (format!("`azd` gave no token ({said}): run `azd auth login`"), true),
        _ if breach.is_some() && transient => (format!("{said}: check this host's DNS, network and proxy"), false),
        _ if breach.is_some() => (said, false),
        _ if transient => (format!("no token is issued now ({said}): try again later"), false),
        CredentialKind::WorkloadIdentity => (
            format!(
                "Entra does not accept the pod's token ({said}): check that the application has a federated credential with this \
                 cluster's issuer and this service account as its subject"
            ),
            false,
        ),
        CredentialKind::ClientSecret => (
            format!(
                "Entra does not accept the application's secret ({said}): check tenant, client and the file, and whether the secret \
                 has expired; `az ad app credential reset` makes another"
            ),
            false,
        ),
        CredentialKind::ClientCertificate => (
            format!(
                "Entra does not accept the application's certificate ({said}): check tenant and client, and that the application \
                 lists this certificate and it has not expired"
            ),
            false,
        ),
        CredentialKind::ManagedIdentity | CredentialKind::Auto => (format!("no token ({said})"), false),
    };
    // A metadata address that nobody answers will not be there in a second either.
    let transient = transient && !no_metadata;
    Failed { trouble: CredentialTrouble { text, transient }, is_absent }
}

/// The status of the answer that is behind an error.
fn status(error: &Error) -> Option<u16> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(ErrorKind::HttpResponse { status, .. }) = error.downcast_ref::<Error>().map(Error::kind) {
            return Some(u16::from(*status));
        }
        cause = error.source();
    }
    None
}
