//! What strongroom costs over the engine that it stands on.
//!
//! `cargo bench --bench runs`, or with the names of some measures behind `--`. Raw wasmtime, the floor of the guarantee and strongroom take turns
//! within one run of this program, so that a ratio holds on a machine that is busy with something else as well; a figure is the fastest turn.
//! What came out, and what limits it, is in `docs/benchmarks.md`.
//!
//! Without `--bench`, which `cargo bench` adds, each measure is taken once and small: whether it works is all that counts then.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark stops where it goes wrong"
)]

mod alive;
mod calls;
mod compute;
mod decisions;
mod guests;
mod host;
mod large;
mod many;
mod packed;
mod process;
mod raw;
mod table;
mod trail;
mod warm;

/// How much is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// Enough for a figure.
    Whole,
    /// Once, to see that it works.
    Once,
}

impl Size {
    /// A number of turns, runs or events.
    pub(crate) fn of(self, whole: usize, once: usize) -> usize {
        if self == Self::Whole { whole } else { once }
    }
}

type Measure = fn(Size);

/// The measures by name, in the order of the document.
const MEASURES: &[(&str, Measure)] = &[
    ("warm", warm::measure),
    ("calls", calls::measure),
    ("process", process::measure),
    ("large", large::measure),
    ("many", many::measure),
    ("alive", alive::measure),
    ("decisions", decisions::measure),
    ("trail", trail::measure),
    ("compute", compute::measure),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, code, arguments @ ..] = arguments.as_slice()
        && first == process::RAW
    {
        return raw::run_stored(code.as_ref(), arguments);
    }
    let size = if arguments.iter().any(|argument| argument == "--bench") { Size::Whole } else { Size::Once };
    let wanted: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    for name in &wanted {
        assert!(MEASURES.iter().any(|(known, _)| known == name), "there is no measure `{name}`");
    }
    for (name, measure) in MEASURES {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            println!("\n{name}");
            measure(size);
        }
    }
}
