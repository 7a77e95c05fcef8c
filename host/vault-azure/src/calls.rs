//! Calls of the Key Vault API through the SDK, with parsed names and the retry policy.

use std::cmp::Reverse;
use std::time::Duration;

use azure_core::http::Pager;
use azure_core::http::pager::{PagerContinuation, PagerOptions};
use azure_security_keyvault_secrets::SecretClient;
use azure_security_keyvault_secrets::models::{
    ListSecretPropertiesResult, SecretClientGetSecretOptions, SecretClientListSecretPropertiesOptions,
    SecretClientListSecretPropertiesVersionsOptions,
};
use futures_util::StreamExt;
use url::Url;

use super::error::CallError;
use super::location::VaultLocation;
use super::retry::{Kind, RetryPolicy};
use super::wire::{self, Item};
use strongroom_core::ids::{SecretName, SecretVersion};
use strongroom_core::secret::Secret;
use strongroom_vault::{Attributes, Description, Stored};

/// Maximum number of pages of a list. A page has 25 entries.
const PAGES_MAX: usize = 1000;

/// Timeout of a list with all its pages.
const LIST_TIME: Duration = Duration::from_secs(120);

/// How long to wait until a recovered secret can be read, and the polling interval.
const RECOVERY_TIME: Duration = Duration::from_secs(60);
const RECOVERY_STEP: Duration = Duration::from_secs(1);

/// The API of a vault.
pub(super) struct Calls {
    sdk: SecretClient,
    location: VaultLocation,
    retry: RetryPolicy,
}

impl Calls {
    pub(super) fn new(sdk: SecretClient, location: VaultLocation, retry: RetryPolicy) -> Self {
        Self { sdk, location, retry }
    }

    pub(super) fn location(&self) -> &VaultLocation {
        &self.location
    }

    pub(super) async fn get(&self, name: &SecretName, version: Option<&SecretVersion>) -> Result<Stored, CallError> {
        self.retry
            .call(Kind::Read("get"), |_| async {
                let options = SecretClientGetSecretOptions {
                    secret_version: version.map(|version| version.as_str().to_owned()),
                    ..Default::default()
                };
                let answer = self.sdk.get_secret(name.as_str(), Some(options)).await;
                let stored = wire::stored(name, model(answer.and_then(|answer| answer.into_model()))?)?;
                if version.is_some_and(|version| stored.description.version != *version) {
                    return Err(CallError::InvalidReply("another version than requested".into()));
                }
                Ok(stored)
            })
            .await
    }

    pub(super) async fn set(
        &self,
        name: &SecretName,
        value: &Secret,
        attributes: &Attributes,
    ) -> Result<Description, CallError> {
        let body = wire::new_body(value, attributes)?;
        self.retry
            .call(Kind::Write("set"), |_| async {
                let answer = self.sdk.set_secret(name.as_str(), wire::content(body.clone()), None).await;
                wire::description(name, model(answer.and_then(|answer| answer.into_model()))?)
            })
            .await
    }

    pub(super) async fn delete(&self, name: &SecretName) -> Result<(), CallError> {
        self.retry
            .call(Kind::Write("delete"), |attempt| async move {
                let answer = self.sdk.delete_secret(name.as_str(), None).await;
                match model(answer.and_then(|answer| answer.into_model())) {
                    Ok(deleted) => wire::deleted(name, &deleted),
                    // An earlier attempt deleted it, and its reply was lost.
                    Err(failure) if failure.status() == Some(404) && attempt.may_have_run => Ok(()),
                    Err(failure) => Err(failure),
                }
            })
            .await
    }

    /// Recovers a deleted secret, and waits until it can be read.
    pub(super) async fn recover(&self, name: &SecretName) -> Result<Description, CallError> {
        let described = self
            .retry
            .call(Kind::Write("recover"), |_| async {
                let answer = self.sdk.recover_deleted_secret(name.as_str(), None).await;
                wire::description(name, model(answer.and_then(|answer| answer.into_model()))?)
            })
            .await?;
        let served = async {
            loop {
                match self.get(name, None).await {
                    Err(failure) if matches!(failure.status(), Some(404 | 409)) => {
                        tokio::time::sleep(RECOVERY_STEP).await;
                    }
                    // Other errors end the wait too, for example if this credential may not read
                    // the secret.
                    _ => return,
                }
            }
        };
        match tokio::time::timeout(RECOVERY_TIME, served).await {
            Ok(()) => Ok(described),
            Err(_) => Err(CallError::Deadline(RECOVERY_TIME)),
        }
    }

    /// Purges a deleted secret.
    pub(super) async fn purge(&self, name: &SecretName) -> Result<(), CallError> {
        self.retry
            .call(Kind::Write("purge"), |attempt| async move {
                match self.sdk.purge_deleted_secret(name.as_str(), None).await.map_err(|error| CallError::of(&error)) {
                    Ok(_) => Ok(()),
                    Err(failure) if failure.status() == Some(404) && attempt.may_have_run => Ok(()),
                    Err(failure) => Err(failure),
                }
            })
            .await
    }

    /// Returns every secret, without versions.
    ///
    /// Skips secrets whose names this project cannot represent, and logs their number.
    pub(super) async fn list(&self) -> Result<Vec<Item>, CallError> {
        let found = self.pages("list", "/secrets", PAGES_MAX, |method_options| {
            let options = SecretClientListSecretPropertiesOptions { maxresults: None, method_options };
            self.sdk.list_secret_properties(Some(options))
        });
        let entries = found.await?;
        let total = entries.len();
        let items: Vec<Item> = entries.into_iter().flatten().collect();
        let skipped = total.saturating_sub(items.len());
        if skipped > 0 {
            tracing::warn!(skipped, "skipped secrets of the vault whose names are not 1 to 127 of `0-9 a-z A-Z -`");
        }
        Ok(items)
    }

    /// Requests the first page of the list, to check the permission.
    pub(super) async fn may_list(&self) -> Result<(), CallError> {
        let first = self.page("list", None, |method_options| {
            let options = SecretClientListSecretPropertiesOptions { maxresults: Some(1), method_options };
            self.sdk.list_secret_properties(Some(options))
        });
        first.await.map(drop)
    }

    /// Returns every version of a secret, newest first; empty if it does not exist.
    pub(super) async fn versions(&self, name: &SecretName) -> Result<Vec<Description>, CallError> {
        let path = format!("/secrets/{name}/versions");
        let found = self
            .pages("versions", &path, PAGES_MAX, |method_options| {
                let options = SecretClientListSecretPropertiesVersionsOptions { maxresults: None, method_options };
                self.sdk.list_secret_properties_versions(name.as_str(), Some(options))
            })
            .await;
        let entries = match found {
            Err(failure) if failure.status() == Some(404) => Vec::new(),
            found => found?,
        };
        let ours = entries.into_iter().map(|item| {
            let other = || CallError::InvalidReply("versions of another secret than requested".into());
            item.filter(|item| item.name == *name).ok_or_else(other)
        });
        let mut items = ours.collect::<Result<Vec<Item>, _>>()?;
        // The vault returns versions in arbitrary order, with times in whole seconds.
        items.sort_by_key(|item| Reverse(item.created));
        if let [first, second, ..] = items.as_slice()
            && first.created == second.created
            && let Ok(stored) = self.get(name, None).await
        {
            let newest = Some(&stored.description.version);
            items.sort_by_key(|item| (Reverse(item.created), item.version.as_ref() != newest));
        }
        items.into_iter().map(Item::described).collect()
    }

    /// Returns the items of all pages of a list; `None` for a name that cannot be represented.
    async fn pages(
        &self,
        operation: &'static str,
        path: &str,
        pages_max: usize,
        make: impl Fn(PagerOptions<'static>) -> azure_core::Result<Pager<ListSecretPropertiesResult>>,
    ) -> Result<Vec<Option<Item>>, CallError> {
        let work = async {
            let mut items = Vec::new();
            let mut link = None;
            for _ in 0..pages_max {
                let (page, next) = self.page(operation, link.as_ref(), &make).await?;
                items.extend(page);
                match next {
                    None => return Ok(items),
                    Some(next) => link = Some(self.checked_link(&next, path)?),
                }
            }
            Err(CallError::InvalidReply(format!("a list of more than {pages_max} pages")))
        };
        tokio::time::timeout(LIST_TIME, work).await.unwrap_or(Err(CallError::Deadline(LIST_TIME)))
    }

    /// Returns one page of a list, and the link to the next page.
    async fn page(
        &self,
        operation: &'static str,
        link: Option<&Url>,
        make: impl Fn(PagerOptions<'static>) -> azure_core::Result<Pager<ListSecretPropertiesResult>>,
    ) -> Result<(Vec<Option<Item>>, Option<String>), CallError> {
        self.retry
            .call(Kind::Read(operation), |_| async {
                let continuation = link.cloned().map(PagerContinuation::Link);
                let pager = make(PagerOptions { continuation, ..Default::default() });
                let mut pages = pager.map_err(|error| CallError::of(&error))?.into_pages();
                let Some(page) = pages.next().await else { return Ok((Vec::new(), None)) };
                let page: wire::Page = model(page.and_then(|page| page.into_body().json()))?;
                // Convert immediately, so that additional data in a page is not kept.
                let items = page.value.into_iter().map(Item::read).collect::<Result<_, _>>()?;
                Ok((items, page.next_link.filter(|link| !link.is_empty())))
            })
            .await
    }

    /// Checks that the next page is below the same path of the same vault. The guard would stop
    /// requests to other hosts too, but with a less specific error.
    fn checked_link(&self, link: &str, path: &str) -> Result<Url, CallError> {
        let foreign = || CallError::InvalidReply("a list that continues outside this vault".into());
        let link = Url::parse(link).map_err(|_| foreign())?;
        let is_ours = link.origin() == self.location.origin().origin()
            && link.username().is_empty()
            && link.password().is_none()
            && link.path().trim_end_matches('/').eq_ignore_ascii_case(path);
        if is_ours { Ok(link) } else { Err(foreign()) }
    }
}

/// Converts the SDK's result. The error for an unreadable reply omits its text, which may contain
/// the value.
fn model<T>(answer: azure_core::Result<T>) -> Result<T, CallError> {
    answer.map_err(|error| match error.kind() {
        azure_core::error::ErrorKind::DataConversion => CallError::InvalidReply("JSON of an unexpected form".into()),
        _ => CallError::of(&error),
    })
}
