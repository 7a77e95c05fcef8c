//! The secrets: versions, attributes, and the transitions between live, deleted and purged.
//! Independent of HTTP and of the machine's clock.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::problem::Problem;
use super::{CONTENT_TYPE_LIMIT, TAG_LIMIT, TAG_TEXT_LIMIT, VALUE_LIMIT};
use crate::shared::Settings;

/// The body of a request that changes a version. A field that is `null` counts as absent.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Change {
    pub(crate) value: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) tags: Option<BTreeMap<String, String>>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(crate) attributes: Attributes,
}

#[derive(Default, Deserialize)]
pub(crate) struct Attributes {
    pub(crate) enabled: Option<bool>,
    pub(crate) nbf: Option<i64>,
    pub(crate) exp: Option<i64>,
}

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

impl Change {
    fn check(&self) -> Result<(), Problem> {
        if self.value.as_ref().is_some_and(|value| value.len() > VALUE_LIMIT) {
            return Err(Problem::bad_parameter(format!("Property value has too many bytes: at most {VALUE_LIMIT}")));
        }
        if self.content_type.as_ref().is_some_and(|kind| kind.chars().count() > CONTENT_TYPE_LIMIT) {
            return Err(Problem::bad_parameter(format!(
                "Property contentType is too long: at most {CONTENT_TYPE_LIMIT}"
            )));
        }
        let Some(tags) = &self.tags else { return Ok(()) };
        if tags.len() > TAG_LIMIT {
            return Err(Problem::bad_parameter(format!("Property tags has too many tags: at most {TAG_LIMIT}")));
        }
        let long = |text: &String| text.chars().count() > TAG_TEXT_LIMIT;
        if tags.iter().any(|(name, value)| long(name) || long(value)) {
            return Err(Problem::bad_parameter(format!("A tag is too long: at most {TAG_TEXT_LIMIT}")));
        }
        Ok(())
    }
}

/// A version. Not `Debug`, because it contains the value.
struct Version {
    id: String,
    value: String,
    content_type: Option<String>,
    tags: Option<BTreeMap<String, String>>,
    enabled: bool,
    nbf: Option<i64>,
    exp: Option<i64>,
    created: i64,
    updated: i64,
}

#[derive(Clone, Copy)]
enum Phase {
    Live,
    Deleting { at: i64, until: i64 },
    Deleted { at: i64 },
    Recovering { until: i64 },
    Purging { until: i64 },
}

struct Secret {
    /// The name as first spelled.
    name: String,
    /// In the order of their creation; the last one is current.
    versions: Vec<Version>,
    phase: Phase,
    retention_days: i64,
}

/// All secrets of a vault, by their lower-case names.
#[derive(Default)]
pub(crate) struct Store(BTreeMap<String, Secret>);

/// The time of an operation, and the settings.
#[derive(Clone, Copy)]
pub(crate) struct Now<'a> {
    pub(crate) at: i64,
    pub(crate) settings: Settings,
    /// The vault's origin, for the IDs in replies.
    pub(crate) origin: &'a str,
}

/// A page of a list.
pub(crate) struct Page {
    pub(crate) items: Vec<Value>,
    /// The key after which the next page starts.
    pub(crate) next: Option<String>,
}

const DAY: i64 = 24 * 60 * 60;

fn fold(name: &str) -> String {
    name.to_ascii_lowercase()
}

impl Secret {
    /// Returns the secret's phase at a time, or `None` once it is purged.
    fn phase(&self, now: i64) -> Option<Phase> {
        let phase = match self.phase {
            Phase::Deleting { at, until } if until <= now => Phase::Deleted { at },
            Phase::Recovering { until } if until <= now => Phase::Live,
            Phase::Purging { until } if until <= now => return None,
            phase => phase,
        };
        match phase {
            Phase::Deleted { at } if at + self.retention_days * DAY <= now => None,
            phase => Some(phase),
        }
    }

    fn attributes(&self, version: &Version) -> Value {
        let recovery_level =
            if self.retention_days == 90 { "Recoverable+Purgeable" } else { "CustomizedRecoverable+Purgeable" };
        let mut attributes = json!({
            "enabled": version.enabled, "created": version.created, "updated": version.updated,
            "recoveryLevel": recovery_level, "recoverableDays": self.retention_days,
        });
        for (name, time) in [("nbf", version.nbf), ("exp", version.exp)] {
            if let (Some(time), Some(attributes)) = (time, attributes.as_object_mut()) {
                attributes.insert(name.to_owned(), time.into());
            }
        }
        attributes
    }

    /// Describes a version without its value. The ID includes the version if `with_version` is set.
    fn item(&self, version: &Version, origin: &str, with_version: bool) -> Value {
        let mut id = format!("{origin}/secrets/{}", self.name);
        if with_version {
            id = format!("{id}/{}", version.id);
        }
        let mut item = json!({ "id": id, "attributes": self.attributes(version) });
        if let Some(item) = item.as_object_mut() {
            if let Some(kind) = &version.content_type {
                item.insert("contentType".to_owned(), kind.as_str().into());
            }
            if let Some(tags) = &version.tags {
                item.insert("tags".to_owned(), json!(tags));
            }
        }
        item
    }

    fn deleted(&self, origin: &str, at: i64, with_version: bool) -> Option<Value> {
        let mut item = self.item(self.versions.last()?, origin, with_version);
        if let Some(item) = item.as_object_mut() {
            item.insert("recoveryId".to_owned(), format!("{origin}/deletedsecrets/{}", self.name).into());
            item.insert("deletedDate".to_owned(), at.into());
            item.insert("scheduledPurgeDate".to_owned(), (at + self.retention_days * DAY).into());
        }
        Some(item)
    }

    fn version(&self, id: Option<&str>) -> Option<&Version> {
        match id {
            None => self.versions.last(),
            Some(id) => self.versions.iter().find(|version| version.id.eq_ignore_ascii_case(id)),
        }
    }
}

impl Store {
    /// Returns a secret and its phase. Removes it first if it is purged by now.
    fn find(&mut self, name: &str, now: Now<'_>) -> Option<(&mut Secret, Phase)> {
        let name = fold(name);
        if self.0.get(&name)?.phase(now.at).is_none() {
            self.0.remove(&name);
        }
        let secret = self.0.get_mut(&name)?;
        let phase = secret.phase(now.at)?;
        secret.phase = phase;
        Some((secret, phase))
    }

    fn live(&mut self, name: &str, now: Now<'_>) -> Result<&mut Secret, Problem> {
        match self.find(name, now) {
            Some((secret, Phase::Live)) => Ok(secret),
            _ => Err(Problem::not_found(name)),
        }
    }

    pub(crate) fn set(&mut self, name: &str, change: Change, now: Now<'_>) -> Result<Value, Problem> {
        change.check()?;
        let Some(value) = change.value else {
            return Err(Problem::bad_parameter("Property value is required"));
        };
        match self.find(name, now).map(|(_, phase)| phase) {
            None | Some(Phase::Live) => {}
            Some(Phase::Deleted { .. }) => return Err(Problem::deleted_but_recoverable(name)),
            Some(Phase::Deleting { .. } | Phase::Purging { .. }) => return Err(Problem::being_deleted_on_set(name)),
            Some(Phase::Recovering { .. }) => return Err(Problem::being_recovered(name)),
        }
        let secret = self.0.entry(fold(name)).or_insert_with(|| Secret {
            name: name.to_owned(),
            versions: Vec::new(),
            phase: Phase::Live,
            retention_days: now.settings.retention_days,
        });
        let version = Version {
            id: format!("{:032x}", rand::random::<u128>()),
            value: value.clone(),
            content_type: change.content_type,
            tags: change.tags,
            enabled: change.attributes.enabled.unwrap_or(true),
            nbf: change.attributes.nbf,
            exp: change.attributes.exp,
            created: now.at,
            updated: now.at,
        };
        let mut bundle = secret.item(&version, now.origin, true);
        secret.versions.push(version);
        with_value(&mut bundle, &value);
        Ok(bundle)
    }

    pub(crate) fn get(&mut self, name: &str, version: Option<&str>, now: Now<'_>) -> Result<Value, Problem> {
        let requested = version.map_or_else(|| name.to_owned(), |version| format!("{name}/{version}"));
        let secret = self.live(name, now)?;
        let version = secret.version(version).ok_or_else(|| Problem::not_found(&requested))?;
        if !version.enabled {
            return Err(Problem::disabled());
        }
        let mut bundle = secret.item(version, now.origin, true);
        with_value(&mut bundle, &version.value);
        Ok(bundle)
    }

    pub(crate) fn update(
        &mut self,
        name: &str,
        version: Option<&str>,
        change: Change,
        now: Now<'_>,
    ) -> Result<Value, Problem> {
        change.check()?;
        let secret = self.live(name, now)?;
        let id = secret.version(version).map(|version| version.id.clone());
        let Some(version) = secret.versions.iter_mut().find(|version| Some(&version.id) == id.as_ref()) else {
            return Err(Problem::not_found(&format!("{name}/{}", version.unwrap_or_default())));
        };
        version.enabled = change.attributes.enabled.unwrap_or(version.enabled);
        version.nbf = change.attributes.nbf.or(version.nbf);
        version.exp = change.attributes.exp.or(version.exp);
        version.content_type = change.content_type.or_else(|| version.content_type.take());
        version.tags = change.tags.or_else(|| version.tags.take());
        version.updated = now.at;
        secret
            .version(id.as_deref())
            .map(|version| secret.item(version, now.origin, true))
            .ok_or(Problem::not_found(name))
    }

    /// Lists the current versions of all live secrets, by name.
    pub(crate) fn list(&mut self, after: &str, limit: usize, now: Now<'_>) -> Page {
        let live = self.0.iter().filter(|(_, secret)| matches!(secret.phase(now.at), Some(Phase::Live)));
        page(live, after, limit, |secret| Some(secret.item(secret.versions.last()?, now.origin, false)))
    }

    /// Lists the versions of a secret in the order of their IDs, which are random. The reference
    /// promises no order, and the real service uses this one.
    pub(crate) fn versions(&mut self, name: &str, after: &str, limit: usize, now: Now<'_>) -> Result<Page, Problem> {
        let secret = self.live(name, now)?;
        let by_id: BTreeMap<String, &Version> =
            secret.versions.iter().map(|version| (version.id.clone(), version)).collect();
        Ok(page(by_id.iter(), after, limit, |version| Some(secret.item(version, now.origin, true))))
    }

    pub(crate) fn delete(&mut self, name: &str, now: Now<'_>) -> Result<Value, Problem> {
        if let Some((_, Phase::Deleting { .. } | Phase::Purging { .. })) = self.find(name, now) {
            return Err(Problem::being_deleted());
        }
        let secret = self.live(name, now)?;
        secret.phase = Phase::Deleting { at: now.at, until: now.at + now.settings.deletion_takes };
        secret.deleted(now.origin, now.at, true).ok_or(Problem::not_found(name))
    }

    pub(crate) fn get_deleted(&mut self, name: &str, now: Now<'_>) -> Result<Value, Problem> {
        match self.find(name, now) {
            Some((secret, Phase::Deleted { at })) => secret.deleted(now.origin, at, true),
            _ => None,
        }
        .ok_or_else(|| Problem::deleted_not_found(name))
    }

    pub(crate) fn list_deleted(&mut self, after: &str, limit: usize, now: Now<'_>) -> Page {
        let deleted = self.0.iter().filter(|(_, secret)| matches!(secret.phase(now.at), Some(Phase::Deleted { .. })));
        page(deleted, after, limit, |secret| match secret.phase(now.at) {
            Some(Phase::Deleted { at }) => secret.deleted(now.origin, at, false),
            _ => None,
        })
    }

    pub(crate) fn recover(&mut self, name: &str, now: Now<'_>) -> Result<Value, Problem> {
        match self.find(name, now) {
            Some((secret, Phase::Deleted { .. })) => {
                secret.phase = Phase::Recovering { until: now.at + now.settings.recovery_takes };
                let current = secret.versions.last().map(|version| secret.item(version, now.origin, true));
                current.ok_or_else(|| Problem::deleted_not_found(name))
            }
            Some((_, Phase::Deleting { .. } | Phase::Purging { .. })) => Err(Problem::being_deleted()),
            Some((_, Phase::Recovering { .. })) => Err(Problem::being_recovered(name)),
            _ => Err(Problem::deleted_not_found(name)),
        }
    }

    pub(crate) fn purge(&mut self, name: &str, now: Now<'_>) -> Result<(), Problem> {
        match self.find(name, now) {
            Some((secret, Phase::Deleted { .. })) => {
                secret.phase = Phase::Purging { until: now.at + now.settings.purge_takes };
                Ok(())
            }
            Some((_, Phase::Deleting { .. } | Phase::Purging { .. })) => Err(Problem::being_deleted()),
            Some((_, Phase::Recovering { .. })) => Err(Problem::being_recovered(name)),
            _ => Err(Problem::deleted_not_found(name)),
        }
    }
}

fn with_value(bundle: &mut Value, value: &str) {
    if let Some(bundle) = bundle.as_object_mut() {
        bundle.insert("value".to_owned(), value.into());
    }
}

/// Returns the items after a key. Keys compare as text, so pages are stable while other clients
/// write.
fn page<'a, T: 'a>(
    all: impl Iterator<Item = (&'a String, T)>,
    after: &str,
    limit: usize,
    show: impl Fn(T) -> Option<Value>,
) -> Page {
    let mut rest = all.filter(|(key, _)| key.as_str() > after);
    let mut items = Vec::new();
    let mut last = None;
    for (key, item) in rest.by_ref().take(limit) {
        items.extend(show(item));
        last = Some(key.clone());
    }
    Page { items, next: rest.next().and(last) }
}
