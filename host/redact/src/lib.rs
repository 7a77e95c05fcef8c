//! Streaming redactor: removes the secret values that a run was given, or has set, from everything
//! of that run that is shown or stored.
//!
//! A [`Redactor`] holds the values of one run. It redacts a whole text ([`Redactor::redact`]) or a
//! stream ([`RedactStream`]), and replaces each range that contains a value with `[redacted:NAME]`.
//!
//! **Redaction is a safety net, not the boundary.** It covers the exact output of the encoders in
//! `encoders` and nothing else: a component can transform a value in ways that no list anticipates.
//! The boundary is what the policy grants.
//!
//! # Output
//! A *needle* is the output of an encoder for a value. The redactor covers every byte of every
//! occurrence of every needle, even where occurrences overlap, adjoin or contain each other, and no
//! other byte. Each maximal range of covered bytes becomes one marker. The marker names the value
//! whose needle starts the range; if several do, the longest needle, and of equal needles the one
//! registered first. The result therefore depends only on the bytes and the values, not on how a
//! stream was split into chunks.
//!
//! # Algorithm
//! - `encoders` computes the needles of a value when it is registered. They are stored as hashes
//!   and not needed again.
//! - `index` has the needles of all values, and answers which is the longest that starts at a
//!   position of a text. A needle is found through its prefixes of 16, 32, 64, ... bytes, so the
//!   work per position is bounded whatever the values and the text are.
//! - `hash` computes the hash of any part of a text in constant time.
//! - `stream` decides one position after the other, and holds back the bytes from the first
//!   undecided one on. If no needle has started, it holds back nothing, so a prompt without a
//!   newline appears at once.
//!
//! # Memory
//! Held-back bytes and encodings are zeroized when they are dropped. The index is not: it contains
//! the first 15 bytes of each needle, which is all of a short value, and hashes.

mod encoders;
mod hash;
mod index;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod planted;
#[cfg(any(test, feature = "oracle"))]
pub mod reference;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::encoders::{MIN_LINE, MIN_VALUE};
pub use self::index::{LENGTHS_MAX, PATTERNS_MAX};
pub use self::stream::RedactStream;
use strongroom_core::escape::escape_controls;

use self::hash::{HashedText, KeySet, RollingHash};
use self::index::{Index, Search, Sketch};
use strongroom_core::ids::SecretName;
use strongroom_core::secret::Secret;

/// The maximum total length of the values of one redactor in bytes: about 330 values of maximum
/// length. This bounds the time that encoding the values takes.
pub const VALUES_MAX: usize = 8 * 1024 * 1024;

/// The number of bytes read at a time if only the start of a long text is needed.
const PREFIX_CHUNK: usize = 4 * 1024;

/// The maximum number of bytes read of a text of which only the start is needed. A component could
/// pass a text of many megabytes that is redacted to almost nothing.
const PREFIX_READ_MAX: usize = 16 * PREFIX_CHUNK;

/// The marker if every longer one would itself contain a registered value, such as the word
/// `redacted`. No needle is this short.
const LAST_MARKER: &str = "***";

/// The values that one run was given or has set, and the count of redactions.
///
/// Clones share the values and the count. A value that is too short to redact is accepted but not
/// covered: one shorter than [`MIN_VALUE`] or of only white space. Each line of a value is also
/// covered on its own if it has at least [`MIN_LINE`] bytes.
///
/// ```
/// use strongroom_core::ids::SecretName;
/// use strongroom_redact::Redactor;
/// use strongroom_core::secret::Secret;
///
/// let redactor = Redactor::new();
/// redactor.register(&SecretName::parse("db-password")?, &Secret::new("hunter2hunter2".to_owned())?);
/// assert_eq!(redactor.redact("the password is hunter2hunter2"), "the password is [redacted:db-password]");
/// // A stream may be split anywhere.
/// let (mut stream, mut out) = (redactor.stream(), Vec::new());
/// stream.push(b"hunter2h", &mut out);
/// stream.push(b"unter2", &mut out);
/// stream.finish(&mut out);
/// assert_eq!(out, b"[redacted:db-password]");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Redactor(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// The hash of no bytes, from which all hashes of this redactor start.
    empty: RollingHash,
    replaced: AtomicU64,
}

struct State {
    index: Index,
    /// The name of each registered value.
    names: Vec<SecretName>,
    /// The keys of all registered values, to detect duplicates.
    values: KeySet,
    /// The total length of the values that were encoded.
    bytes: usize,
    /// Whether a value was refused. Then all further ones are, so that a component cannot have
    /// values encoded without end.
    full: bool,
    /// Whether all output is withheld.
    closed: bool,
    /// The markers of values since the last registration.
    markers: HashMap<u32, Arc<str>>,
    empty: RollingHash,
}

impl Default for Redactor {
    fn default() -> Self {
        let empty = RollingHash::new();
        let state = State {
            index: Index::new(),
            names: Vec::new(),
            values: KeySet::default(),
            bytes: 0,
            full: false,
            closed: false,
            markers: HashMap::new(),
            empty,
        };
        Self(Arc::new(Shared { state: Mutex::new(state), empty, replaced: AtomicU64::new(0) }))
    }
}

impl Redactor {
    /// Creates a redactor without values.
    pub fn new() -> Self {
        Self::default()
    }

    /// Uses up the capacity, as a value that exceeds it would.
    #[cfg(any(test, feature = "oracle"))]
    pub fn fill(&self) {
        self.lock().full = true;
    }

    /// Covers a value from now on in every text and every stream, including bytes that open streams
    /// have not released.
    ///
    /// Registering a value again has no effect, even under another name. A name may have several
    /// values.
    ///
    /// If the redactor is full, it fails closed: it withholds all further output. Use
    /// [`try_register`](Self::try_register) to refuse the value instead.
    pub fn register(&self, name: &SecretName, value: &Secret) {
        if !self.try_register(name, value) {
            self.lock().closed = true;
        }
    }

    /// Covers a value as [`register`](Self::register) does, but returns `false` if the redactor is
    /// full: the values exceed [`VALUES_MAX`], [`PATTERNS_MAX`] or [`LENGTHS_MAX`]. From then on it
    /// refuses every value that it does not cover.
    ///
    /// Encoding a value takes one to three microseconds of CPU time per byte: call this on a thread
    /// for blocking work if the value is long.
    pub fn try_register(&self, name: &SecretName, value: &Secret) -> bool {
        let text = value.expose();
        if !encoders::is_covered(text) {
            return !self.lock().closed;
        }
        let key = Sketch::new(text.as_bytes(), self.0.empty).key();
        {
            let mut state = self.lock();
            if state.values.contains(&key) {
                return !state.closed;
            }
            state.bytes = state.bytes.saturating_add(text.len());
            state.full |= state.bytes > VALUES_MAX;
            if state.full {
                return false;
            }
        }
        // Without the lock, so that the run's output goes on.
        let mut sketches = Vec::new();
        encoders::for_each_needle(text, |needle| sketches.push(Sketch::new(needle, self.0.empty)));
        let mut state = self.lock();
        let state = &mut *state;
        let number = u32::try_from(state.names.len()).unwrap_or(u32::MAX);
        state.names.push(name.clone());
        // An earlier marker may contain the new value.
        state.markers.clear();
        // A value that is refused halfway is partly covered, which does no harm.
        state.full |= !sketches.iter().all(|sketch| state.index.add(sketch, number));
        if !state.full {
            state.values.insert(key);
        }
        !state.full
    }

    /// Redacts a whole text, such as a name or an error. Redact before truncating or escaping: a
    /// truncated or escaped value is not found.
    pub fn redact(&self, text: &str) -> String {
        // Only a value in UTF-16 can start or end inside a character.
        String::from_utf8(self.redact_bytes(text.as_bytes()))
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// Redacts and then escapes text of a component for use inside the host's output, such as a
    /// name, a message or a reason.
    pub fn sanitize(&self, text: &str) -> String {
        escape_controls(&self.redact(text))
    }

    /// Returns the first `max` characters of [`sanitize`](Self::sanitize) of a text that may be
    /// very long, without reading more of the text than necessary, and at most 64 KiB. A truncated
    /// result ends in `…`.
    pub fn sanitize_prefix(&self, text: &str, max: usize) -> String {
        let enough = max.saturating_mul(char::MAX.len_utf8());
        let (mut stream, mut out) = (self.stream(), Vec::new());
        let mut chunks = text.as_bytes().chunks(PREFIX_CHUNK).take(PREFIX_READ_MAX / PREFIX_CHUNK);
        while out.len() <= enough
            && let Some(chunk) = chunks.next()
        {
            stream.push(chunk, &mut out);
        }
        let truncated = out.len() > enough || text.len() > PREFIX_READ_MAX;
        if truncated {
            // The last character may be cut.
            let whole = out.utf8_chunks().next().map_or(0, |chunk| chunk.valid().len());
            out.truncate(whole);
        } else {
            stream.finish(&mut out);
        }
        let shown = escape_controls(&String::from_utf8_lossy(&out));
        match shown.char_indices().nth(max) {
            Some((end, _)) => format!("{}…", shown.get(..end).unwrap_or_default()),
            None if truncated => format!("{shown}…"),
            None => shown,
        }
    }

    /// Redacts a whole buffer, which need not be valid UTF-8.
    pub fn redact_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        let mut stream = self.stream();
        stream.push(bytes, &mut out);
        stream.finish(&mut out);
        out
    }

    /// Returns a redactor for one output stream. Standard output and standard error each need their
    /// own.
    pub fn stream(&self) -> RedactStream {
        RedactStream::new(self.clone())
    }

    /// Returns the number of markers written so far, over all streams and texts.
    pub fn count(&self) -> u64 {
        self.0.replaced.load(Ordering::Relaxed)
    }

    fn count_one(&self) {
        self.0.replaced.fetch_add(1, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Ignores poisoning: no code that holds the lock leaves the state inconsistent.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns the marker of a value: the most informative one that does not itself contain a
    /// registered value.
    fn marker(&mut self, value: u32) -> Arc<str> {
        if let Some(marker) = self.markers.get(&value) {
            return Arc::clone(marker);
        }
        let name = usize::try_from(value).ok().and_then(|value| self.names.get(value));
        let named = name.map(|name| format!("[redacted:{name}]"));
        let mut candidates = named.into_iter().chain(["[redacted]".to_owned()]);
        let marker = candidates.find(|marker| !self.contains_needle(marker));
        let marker: Arc<str> = marker.as_deref().unwrap_or(LAST_MARKER).into();
        self.markers.insert(value, Arc::clone(&marker));
        marker
    }

    /// Returns whether a text contains a needle.
    fn contains_needle(&self, text: &str) -> bool {
        let mut hashed = HashedText::new(self.empty);
        hashed.push(text.as_bytes());
        let mut at = 0_usize;
        while let Some(rest) = text.as_bytes().get(at..).filter(|rest| !rest.is_empty()) {
            let skipped = self.index.skip(rest);
            if skipped == 0 && matches!(self.index.search(&mut hashed, at, true), Search::Decided(Some(_))) {
                return true;
            }
            at = at.saturating_add(skipped.max(1));
        }
        false
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").field("registered", &self.lock().values.len()).field("count", &self.count()).finish()
    }
}
