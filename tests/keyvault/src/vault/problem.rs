//! Key Vault's errors: a code, a message, and for some an inner code that distinguishes cases with
//! the same status.

use hyper::StatusCode;
use serde_json::json;

use crate::principals::{Action, Principal};
use crate::reply::{self, Reply};
use crate::tokens::issuer;

/// An error of the vault.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    code: &'static str,
    message: String,
    inner: Option<&'static str>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), inner: None }
    }

    /// Replaces the message.
    pub(crate) fn with_message(self, message: &str) -> Self {
        Self { message: message.to_owned(), ..self }
    }

    pub(crate) fn reply(&self) -> Reply {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let (Some(inner), Some(error)) = (self.inner, error.as_object_mut()) {
            error.insert("innererror".to_owned(), json!({ "code": inner }));
        }
        reply::json(self.status, &json!({ "error": error }))
    }

    pub(crate) fn bad_parameter(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadParameter", message)
    }

    pub(crate) fn bad_name(name: &str) -> Self {
        Self::bad_parameter(format!("The request URI contains an invalid name: {name}"))
    }

    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", message)
    }

    pub(crate) fn forbidden(principal: &Principal, tenant: &str, action: Action, secret: Option<&str>) -> Self {
        let scope = secret.map_or_else(String::new, |secret| format!("/secrets/{secret}"));
        let message = format!(
            "Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or role definitions were changed \
             recently, please observe propagation time.\r\nCaller: appid={};oid={};iss={}\r\nAction: '{}'\r\nResource: \
             '/subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/test/providers/microsoft.keyvault/vaults/test{scope}'\r\n\
             Assignment: (not found)\r\nDenyAssignmentId: null\r\nDecisionReason: 'DeniedWithNoValidRBAC' \r\nVault: test;location=test\r\n",
            principal.client_id,
            principal.object_id,
            issuer(tenant),
            action.data_action(),
        );
        Self { inner: Some("ForbiddenByRbac"), ..Self::new(StatusCode::FORBIDDEN, "Forbidden", message) }
    }

    pub(crate) fn disabled() -> Self {
        let message = "Operation get is not allowed on a disabled secret.";
        Self { inner: Some("SecretDisabled"), ..Self::new(StatusCode::FORBIDDEN, "Forbidden", message) }
    }

    /// The secret or version does not exist.
    pub(crate) fn not_found(name: &str) -> Self {
        let message = format!(
            "A secret with (name/id) {name} was not found in this key vault. If you recently deleted this secret you may be able to recover it \
             using the correct recovery command. For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125182"
        );
        Self::new(StatusCode::NOT_FOUND, "SecretNotFound", message)
    }

    pub(crate) fn deleted_not_found(name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "SecretNotFound", format!("Deleted Secret not found: {name}"))
    }

    fn conflict(inner: &'static str, message: String) -> Self {
        Self { inner: Some(inner), ..Self::new(StatusCode::CONFLICT, "Conflict", message) }
    }

    pub(crate) fn deleted_but_recoverable(name: &str) -> Self {
        Self::conflict(
            "ObjectIsDeletedButRecoverable",
            format!(
                "Secret {name} is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the secret can \
                 only be recovered or purged."
            ),
        )
    }

    pub(crate) fn being_deleted_on_set(name: &str) -> Self {
        let message = format!("Secret {name} is currently being deleted and cannot be re-created; retry later.");
        Self::conflict("ObjectIsBeingDeleted", message)
    }

    pub(crate) fn being_deleted() -> Self {
        Self::conflict("ObjectIsBeingDeleted", "Secret is currently being deleted.".to_owned())
    }

    pub(crate) fn being_recovered(name: &str) -> Self {
        let message = format!("Secret {name} is currently being recovered and cannot be re-created; retry later.");
        Self::conflict("ObjectIsBeingRecovered", message)
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "BadParameter", "Method is not allowed on this resource.")
    }

    pub(crate) fn unknown_resource() -> Self {
        Self::new(StatusCode::NOT_FOUND, "ResourceNotFound", "The resource was not found.")
    }

    pub(crate) fn not_implemented() -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", "The test server does not implement this.")
    }

    pub(crate) fn throttled() -> Self {
        let message =
            "Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "Throttled", message)
    }

    pub(crate) fn internal_error(status: StatusCode) -> Self {
        let code = if status == StatusCode::SERVICE_UNAVAILABLE { "ServiceUnavailable" } else { "InternalServerError" };
        Self::new(status, code, "An unexpected error occurred.")
    }
}
