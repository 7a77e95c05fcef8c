//! Builds components from Python scripts, for the commands that accept one in place of a component.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strongroom::escape::escape_controls;
use strongroom::record::Progress;
use strongroom::runtime::Observer as _;
use strongroom_python::{BuildEvent, BuildSettings, Built};

use super::context::{Context, create_private_dir};
use super::failure::Failure;
use super::screen::Screen;
use super::{block_on, out, style};
use crate::config::build_environment;

/// Returns the component to read for a path that a user gave: the file itself, or the component of
/// a Python script, which is built if something has changed.
pub(super) fn component(path: &Path, draw: bool, context: &Context) -> Result<PathBuf, Failure> {
    if strongroom_python::is_script(path) {
        return Ok(build(path, None, draw, context)?.component);
    }
    Ok(path.to_owned())
}

/// Builds a script if something has changed. Shows the progress on a terminal, and otherwise prints
/// each step.
pub(super) fn build(script: &Path, lock: Option<&Path>, draw: bool, context: &Context) -> Result<Built, Failure> {
    let home = context.config.home()?;
    let settings = BuildSettings {
        dir: home.python(),
        python: context.config.python.clone(),
        environment: build_environment(),
        time: context.config.build_time,
        memory: context.config.build_memory,
    };
    create_private_dir(&settings.dir)?;
    let draws = draw && style::draws();
    let screen = Screen::stderr_only();
    let screen = Arc::new(if draws { screen.with_progress() } else { screen });
    let shown = escape_controls(&script.to_string_lossy());
    let mut show = |event| match event {
        BuildEvent::Step { done, total, text } if draws => {
            screen.progress(&Progress { done, total, message: text });
        }
        BuildEvent::Step { text, .. } => out::note(format!("building `{shown}`: {}", escape_controls(&text))),
        BuildEvent::Note(text) => out::note(format!("note: {}", escape_controls(&text))),
        BuildEvent::Warning(text) => out::note(format!("warning: {}", escape_controls(&text))),
    };
    let built = block_on(strongroom_python::build(&settings, script, lock, &mut show));
    screen.finish();
    Ok(built??)
}

/// Prints a note if a policy lies beside a script and none was given: a policy is never used without
/// being named.
pub(super) fn suggest_policy(script: &Path) {
    let beside =
        [script.with_extension("policy.toml"), script.with_file_name("policy.toml"), script.join("policy.toml")];
    if let Some(policy) = beside.iter().find(|path| fs::metadata(path).is_ok_and(|meta| meta.is_file())) {
        let policy = escape_controls(&policy.to_string_lossy());
        out::note(format!("note: `{policy}` is not used: add `--policy {policy}` to run under it"));
    }
}
