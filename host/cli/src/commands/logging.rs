//! Logging to standard error.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{FilterExt, Targets, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use super::failure::Failure;
use super::screen::AboveProgress;
use crate::config;
use strongroom::process;

/// Starts logging at the level `warn`, or with the filter in `STRONGROOM_LOG`.
pub(super) fn start() -> Result<(), Failure> {
    let filter = match config::log_filter() {
        Some(text) => {
            let targets = text.parse::<Targets>().map_err(|error| {
                Failure::invalid(format!("invalid log filter in `{}`: {error}", config::LOG))
                    .help("set it to a filter such as `info` or `strongroom_vault_azure=debug`")
            })?;
            if targets.default_level().is_some() { targets } else { targets.with_default(LevelFilter::WARN) }
        }
        None => Targets::new().with_default(LevelFilter::WARN),
    };
    // Applies whatever the filter says: at debug level, wasmtime logs what guests write.
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(|| AboveProgress)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .with_filter(filter.and(filter_fn(process::may_be_logged)));
    // Fails only if a subscriber is already set, which then stays in use.
    let _ = tracing_subscriber::registry().with(layer).try_init();
    Ok(())
}
