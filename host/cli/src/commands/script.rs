//! Builds components from Python scripts, for the commands that accept one in place of a component.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strongroom::escape::escape_controls;
use strongroom::record::Progress;
use strongroom::runtime::{Observer as _, Stream};
use strongroom_python::{BuildEvent, BuildSettings, Built};

use super::context::{Context, check_not_shared, create_private_dir};
use super::failure::Failure;
use super::screen::Screen;
use super::{block_on, out, style};
use crate::config::build_environment;

/// Returns the component of a Python script, which is built if something has changed; `None` for any
/// other file.
pub(super) fn component(path: &Path, draw: bool, context: &Context) -> Result<Option<PathBuf>, Failure> {
    if !strongroom_python::is_script(path) {
        return Ok(None);
    }
    build(path, None, draw, context).map(|built| Some(built.component))
}

/// Builds a script if something has changed. Shows the progress on a terminal, and otherwise prints
/// each step.
pub(super) fn build(script: &Path, lock: Option<&Path>, draw: bool, context: &Context) -> Result<Built, Failure> {
    fs::metadata(script).map_err(Failure::unreadable("", script))?;
    let home = context.config.home()?;
    let settings = BuildSettings {
        dir: home.python(),
        python: context.config.python.clone(),
        environment: build_environment(),
        time: context.config.build_time,
        memory: context.config.build_memory,
    };
    create_private_dir(&settings.dir)?;
    // Others could replace the tools and the components.
    check_not_shared(home.path())?;
    let draws = draw && style::draws();
    let screen = Screen::stderr_only();
    let screen = Arc::new(if draws { screen.with_progress() } else { screen });
    // The screen escapes control characters, and writes above the progress.
    let say = |text: String| screen.output(Stream::Stderr, text.as_bytes());
    let mut show = |event| match event {
        BuildEvent::Step { done, total, text } if draws => {
            screen.progress(&Progress { done, total, message: text });
        }
        BuildEvent::Step { text, .. } => say(format!("building `{}`: {text}\n", script.display())),
        BuildEvent::Note(text) => say(format!("note: {text}\n")),
        BuildEvent::Warning(text) => say(format!("warning: {text}\n")),
    };
    let built = block_on(strongroom_python::build(&settings, script, lock, &mut show));
    screen.finish();
    Ok(built??)
}

/// Prints a note if a policy lies beside a script and none was given: a policy is never used without
/// being named.
pub(super) fn suggest_policy(script: &Path) {
    if !strongroom_python::is_script(script) {
        return;
    }
    let beside =
        [script.with_extension("policy.toml"), script.with_file_name("policy.toml"), script.join("policy.toml")];
    if let Some(policy) = beside.iter().find(|path| fs::metadata(path).is_ok_and(|meta| meta.is_file())) {
        let policy = escape_controls(&policy.to_string_lossy());
        out::note(format!("note: `{policy}` is not used: add `--policy {policy}` to run under it"));
    }
}
