//! The cost of strongroom compared with its engine.
//!
//! Run it with `cargo bench --bench runs`, optionally with names of benchmarks after `--`. Raw
//! wasmtime, the minimum cost of the guarantees, and strongroom take turns within one run of this
//! program, so that ratios hold on a busy machine too. A figure is the fastest turn.
//! `docs/benchmarks.md` has the results and their targets.
//!
//! Without `--bench`, which `cargo bench` adds, each benchmark runs once with small inputs, to
//! check that it works.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark stops where it goes wrong"
)]

mod alive;
mod audit;
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
mod warm;

/// How much to measure.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// Enough for reliable figures.
    Whole,
    /// Once, to check that the benchmark works.
    Once,
}

impl Size {
    /// Selects a number of turns, runs or events.
    pub(crate) fn choose(self, whole: usize, once: usize) -> usize {
        if self == Self::Whole { whole } else { once }
    }
}

type Measure = fn(Size);

/// The benchmarks by name, in the order of the document.
const MEASURES: &[(&str, Measure)] = &[
    ("warm", warm::measure),
    ("calls", calls::measure),
    ("process", process::measure),
    ("large", large::measure),
    ("many", many::measure),
    ("alive", alive::measure),
    ("decisions", decisions::measure),
    ("audit", audit::measure),
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
