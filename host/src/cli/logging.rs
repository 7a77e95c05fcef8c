//! What the program's rooms report while they work, on standard error.

use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, FilterExt, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use super::failure::Failure;
use super::screen::AboveProgress;
use crate::config;

/// Begins to log: warnings, or what `STRONGROOM_LOG` says.
pub(super) fn start() -> Result<(), Failure> {
    let filter = match config::log_filter() {
        Some(text) => {
            EnvFilter::builder().with_default_directive(LevelFilter::WARN.into()).parse(text).map_err(|error| {
                Failure::invalid(format!("the variable `{}` is no log filter: {error}", config::LOG))
                    .help("for example `info`, or `strongroom::vault=debug`")
            })?
        }
        None => EnvFilter::default().add_directive(LevelFilter::WARN.into()),
    };
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(|| AboveProgress)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .with_filter(filter.and(filter_fn(is_safe)));
    // Fails only where an embedder of this function has a subscriber already, which then serves.
    let _ = tracing_subscriber::registry().with(layer).try_init();
    Ok(())
}

/// Whether an event may be logged at all. Below a warning wasmtime prints what guests write, before any redaction, and no setting
/// changes that.
fn is_safe(metadata: &Metadata<'_>) -> bool {
    is_safe_target(metadata.target()) || *metadata.level() <= LevelFilter::WARN
}

fn is_safe_target(target: &str) -> bool {
    target == "strongroom" || target.starts_with("strongroom::")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_targets_may_be_chatty() {
        for target in
            ["wasmtime", "wasmtime_wasi::p2::stdio", "cranelift_codegen", "wasmtime::runtime", "strongroomx", ""]
        {
            assert!(!is_safe_target(target), "{target}");
        }
        assert!(is_safe_target("strongroom::vault::local") && is_safe_target("strongroom"));
    }
}
