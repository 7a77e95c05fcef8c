//! `strongroom build`: builds a component from a Python script.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::context::Context;
use super::failure::{Exit, Failure};
use super::out::{self, object};
use super::{component, script, show};
use strongroom::escape::escape_controls;

/// Build a component from a Python script
///
/// The component contains the script, the modules beside it that it imports, its dependencies from
/// inline metadata or requirements.txt, and Python itself. `strongroom run SCRIPT.py` builds by
/// itself; this command is for a component to give away.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Python script, or folder with `__main__.py`, `main.py` or `train.py`
    #[arg(value_name = "SCRIPT|DIR")]
    script: PathBuf,
    /// Component file to write. Default: the name of the script with `.wasm`, in this directory
    #[arg(long, short_alias = 'o', value_name = "FILE")]
    output: Option<PathBuf>,
    /// Lock file of the dependencies. Default: `SCRIPT.lock` or `requirements.lock` beside the
    /// script
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let path = &args.script;
    fs::metadata(path).map_err(Failure::unreadable("", path))?;
    if !strongroom_python::is_script(path) {
        let name = path.display();
        return Err(Failure::invalid(format!("`{name}` is neither a Python script nor a folder with one"))
            .help("name a `.py` file, or a folder that contains `__main__.py`, `main.py` or `train.py`"));
    }
    let output = match &args.output {
        Some(output) => output.clone(),
        None => default_output(path)?,
    };
    let built = script::build(path, args.lock.as_deref(), !args.json, context)?;
    write(&built.component, &output)?;
    let candidate = component::read(&output)?;
    if args.json {
        let (digest, bytes) = (candidate.digest(), candidate.len());
        out::json(&object! { output: output.to_string_lossy(), digest: digest, bytes: bytes })?;
    } else {
        let name = escape_controls(&output.to_string_lossy());
        out::line(format!("wrote `{name}`, {}", show::size(candidate.len())))?;
        out::line(candidate.digest())?;
    }
    Ok(Exit::Done)
}

fn default_output(script: &Path) -> Result<PathBuf, Failure> {
    let absolute = std::path::absolute(script).map_err(Failure::unreadable("", script))?;
    let stem = if script.is_dir() { absolute.file_name() } else { absolute.file_stem() };
    let stem =
        stem.ok_or_else(|| Failure::invalid("the folder has no name").help("name the component with `--output`"))?;
    Ok(Path::new(stem).with_added_extension("wasm"))
}

/// Writes the component as a whole, so that no reader sees a part of it.
fn write(component: &Path, output: &Path) -> Result<(), Failure> {
    let failed = |cause| {
        let name = output.display();
        Failure::invalid(format!("could not write the component `{name}`: {cause}"))
            .help("give a path that you may write")
    };
    let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut new = tempfile::NamedTempFile::new_in(parent).map_err(failed)?;
    io::copy(&mut fs::File::open(component).map_err(failed)?, &mut new).map_err(failed)?;
    // A temporary file is private; a component is not.
    let mode = fs::Permissions::from_mode(0o644);
    new.as_file().set_permissions(mode).map_err(failed)?;
    new.persist(output).map_err(|error| failed(error.error))?;
    Ok(())
}
