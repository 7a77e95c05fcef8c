//! The calls of a Key Vault, one by one: through the SDK, with names that were parsed, under the policy of repeating.

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

use super::error::Trouble;
use super::place::Place;
use super::steady::{Kind, Steady};
use super::wire::{self, Item};
use strongroom_core::ids::{SecretName, SecretVersion};
use strongroom_core::secret::Secret;
use strongroom_vault::{Attributes, Description, Stored};

/// The most pages of a list. A page has 25 entries.
const PAGES_MAX: usize = 1000;

/// How long a list may take, with all its pages.
const LIST_TIME: Duration = Duration::from_secs(120);

/// How long to wait for a recovered secret to be served, and how often to look.
const RECOVERY_TIME: Duration = Duration::from_secs(60);
const RECOVERY_STEP: Duration = Duration::from_secs(1);

/// A vault's calls.
pub(super) struct Calls {
    sdk: SecretClient,
    place: Place,
    steady: Steady,
}

impl Calls {
    pub(super) fn new(sdk: SecretClient, place: Place, steady: Steady) -> Self {
        Self { sdk, place, steady }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) async fn get(&self, name: &SecretName, version: Option<&SecretVersion>) -> Result<Stored, Trouble> {
        self.steady
            .call(Kind::Read("get"), |_| async {
                let options = SecretClientGetSecretOptions {
                    secret_version: version.map(|version| version.as_str().to_owned()),
                    ..Default::default()
                };
                let answer = self.sdk.get_secret(name.as_str(), Some(options)).await;
                let stored = wire::stored(name, model(answer.and_then(|answer| answer.into_model()))?)?;
                if version.is_some_and(|version| stored.description.version != *version) {
                    return Err(Trouble::Strange("another version than was asked for".into()));
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
    ) -> Result<Description, Trouble> {
        let body = wire::new_body(value, attributes)?;
        self.steady
            .call(Kind::Write("set"), |_| async {
                let answer = self.sdk.set_secret(name.as_str(), wire::content(body.clone()), None).await;
                wire::description(name, model(answer.and_then(|answer| answer.into_model()))?)
            })
            .await
    }

    pub(super) async fn delete(&self, name: &SecretName) -> Result<(), Trouble> {
        self.steady
            .call(Kind::Write("delete"), |attempt| async move {
                let answer = self.sdk.delete_secret(name.as_str(), None).await;
                match model(answer.and_then(|answer| answer.into_model())) {
                    Ok(deleted) => wire::deleted(name, &deleted),
                    // An attempt before this one did it, and its answer was lost.
                    Err(trouble) if trouble.status() == Some(404) && attempt.after_doubt => Ok(()),
                    Err(trouble) => Err(trouble),
                }
            })
            .await
    }

    /// Brings a deleted secret back, and waits until the vault serves it.
    pub(super) async fn recover(&self, name: &SecretName) -> Result<Description, Trouble> {
        let described = self
            .steady
            .call(Kind::Write("recover"), |_| async {
                let answer = self.sdk.recover_deleted_secret(name.as_str(), None).await;
                wire::description(name, model(answer.and_then(|answer| answer.into_model()))?)
            })
            .await?;
        let served = async {
            loop {
                match self.get(name, None).await {
                    Err(trouble) if matches!(trouble.status(), Some(404 | 409)) => {
                        tokio::time::sleep(RECOVERY_STEP).await;
                    }
                    // Also where this credential may not read it: there is nothing to wait for.
                    _ => return,
                }
            }
        };
        match tokio::time::timeout(RECOVERY_TIME, served).await {
            Ok(()) => Ok(described),
            Err(_) => Err(Trouble::Deadline(RECOVERY_TIME)),
        }
    }

    /// Removes a deleted secret for good.
    pub(super) async fn purge(&self, name: &SecretName) -> Result<(), Trouble> {
        self.steady
            .call(Kind::Write("purge"), |attempt| async move {
                match self.sdk.purge_deleted_secret(name.as_str(), None).await.map_err(|error| Trouble::of(&error)) {
                    Ok(_) => Ok(()),
                    Err(trouble) if trouble.status() == Some(404) && attempt.after_doubt => Ok(()),
                    Err(trouble) => Err(trouble),
                }
            })
            .await
    }

    /// Every secret, without its version.
    pub(super) async fn list(&self) -> Result<Vec<Item>, Trouble> {
        self.pages("list", "/secrets", PAGES_MAX, |method_options| {
            let options = SecretClientListSecretPropertiesOptions { maxresults: None, method_options };
            self.sdk.list_secret_properties(Some(options))
        })
        .await
    }

    /// Whether the first page of the list is served: what this credential may do.
    pub(super) async fn may_list(&self) -> Result<(), Trouble> {
        let first = self.page("list", None, |method_options| {
            let options = SecretClientListSecretPropertiesOptions { maxresults: Some(1), method_options };
            self.sdk.list_secret_properties(Some(options))
        });
        first.await.map(drop)
    }

    /// Every version of a secret, the newest first; none where there is no such secret.
    pub(super) async fn versions(&self, name: &SecretName) -> Result<Vec<Description>, Trouble> {
        let path = format!("/secrets/{name}/versions");
        let found = self
            .pages("versions", &path, PAGES_MAX, |method_options| {
                let options = SecretClientListSecretPropertiesVersionsOptions { maxresults: None, method_options };
                self.sdk.list_secret_properties_versions(name.as_str(), Some(options))
            })
            .await;
        let mut items = match found {
            Err(trouble) if trouble.status() == Some(404) => Vec::new(),
            found => found?,
        };
        if items.iter().any(|item| item.name != *name) {
            return Err(Trouble::Strange("versions of another secret than was asked for".into()));
        }
        // The vault gives them in no order that means anything, and counts whole seconds.
        items.sort_by_key(|item| Reverse(item.created()));
        if let [first, second, ..] = items.as_slice()
            && first.created() == second.created()
            && let Ok(stored) = self.get(name, None).await
        {
            let newest = Some(&stored.description.version);
            items.sort_by_key(|item| (Reverse(item.created()), item.version.as_ref() != newest));
        }
        items.into_iter().map(Item::described).collect()
    }

    /// All pages of a list.
    async fn pages(
        &self,
        operation: &'static str,
        path: &str,
        pages_max: usize,
        make: impl Fn(PagerOptions<'static>) -> azure_core::Result<Pager<ListSecretPropertiesResult>>,
    ) -> Result<Vec<Item>, Trouble> {
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
            Err(Trouble::Strange(format!("a list of more than {pages_max} pages")))
        };
        tokio::time::timeout(LIST_TIME, work).await.unwrap_or(Err(Trouble::Deadline(LIST_TIME)))
    }

    /// One page of a list, and the link to the next as the vault gave it.
    async fn page(
        &self,
        operation: &'static str,
        link: Option<&Url>,
        make: impl Fn(PagerOptions<'static>) -> azure_core::Result<Pager<ListSecretPropertiesResult>>,
    ) -> Result<(Vec<Item>, Option<String>), Trouble> {
        self.steady
            .call(Kind::Read(operation), |_| async {
                let continuation = link.cloned().map(PagerContinuation::Link);
                let pager = make(PagerOptions { continuation, ..Default::default() });
                let mut pages = pager.map_err(|error| Trouble::of(&error))?.into_pages();
                let Some(page) = pages.next().await else { return Ok((Vec::new(), None)) };
                let page: wire::Page = model(page.and_then(|page| page.into_body().json()))?;
                // Read at once, so that what a vault may add to its pages is not kept.
                let items = page.value.into_iter().map(Item::read).collect::<Result<_, _>>()?;
                Ok((items, page.next_link.filter(|link| !link.is_empty())))
            })
            .await
    }

    /// A list's next page is below the same path of the same vault. The guard would stop another host too; this says why.
    fn checked_link(&self, link: &str, path: &str) -> Result<Url, Trouble> {
        let foreign = || Trouble::Strange("a list that goes on at another place than this vault".into());
        let link = Url::parse(link).map_err(|_| foreign())?;
        let is_ours = link.origin() == self.place.origin().origin()
            && link.username().is_empty()
            && link.password().is_none()
            && link.path().trim_end_matches('/').eq_ignore_ascii_case(path);
        if is_ours { Ok(link) } else { Err(foreign()) }
    }
}

/// The SDK's answer or what it comes to. An answer that cannot be read is told without its text, which may hold the value.
fn model<T>(answer: azure_core::Result<T>) -> Result<T, Trouble> {
    answer.map_err(|error| match error.kind() {
        azure_core::error::ErrorKind::DataConversion => Trouble::Strange("JSON of another form".into()),
        _ => Trouble::of(&error),
    })
}
