//! The private virtual environment with the build tools.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::process::{command, run};
use crate::{BuildError, BuildEvent, BuildSettings, io_error, sdk};

/// Ends the process group when standard input ends, because this process is gone.
const WATCH: &str = "\
import os, signal, threading
def end():
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=end, daemon=True).start()
";

/// Checks the version of the interpreter, and creates a virtual environment.
const CREATE: &str = "\
import sys
if sys.version_info < (3, 11):
    sys.exit(3)
import venv
venv.create(sys.argv[1], clear=True, symlinks=True, with_pip=True)
";

/// Runs pip.
const PIP: &str = "\
import runpy
runpy.run_module('pip', run_name='__main__', alter_sys=True)
";

/// The exit code of `CREATE` if the interpreter is too old.
const TOO_OLD: i32 = 3;

/// The file that marks a complete environment. It has the path of the interpreter, because an
/// environment does not survive an update of it to another version.
const COMPLETE: &str = "interpreter";

/// Returns the interpreter of the environment. Creates the environment if it is missing, was not
/// completed, or its interpreter was replaced.
pub(crate) async fn python(
    settings: &BuildSettings,
    events: &mut (dyn FnMut(BuildEvent) + Send),
) -> Result<PathBuf, BuildError> {
    let digest = sdk::hex(&Sha256::digest(sdk::toolchain()));
    let environment = settings.dir.join(format!("tools-{}", digest.get(..16).unwrap_or(&digest)));
    let python = environment.join("bin/python");
    if is_complete(&environment, &python) {
        return Ok(python);
    }
    let _lock = lock(&settings.dir.join("tools.lock")).await?;
    if is_complete(&environment, &python) {
        return Ok(python);
    }
    let mut step = |done, text: &str| events(BuildEvent::Step { done, total: 2, text: text.to_owned() });
    step(0, "setting up the Python build tools, once");
    create(settings, &environment).await?;
    step(1, "downloading the Python build tools, once");
    install(settings, &python).await?;
    let complete = environment.join(COMPLETE);
    let interpreter = fs::canonicalize(&python).map_err(io_error("find", &python))?;
    fs::write(&complete, interpreter.as_os_str().as_encoded_bytes()).map_err(io_error("write", &complete))?;
    Ok(python)
}

fn is_complete(environment: &Path, python: &Path) -> bool {
    match (fs::read(environment.join(COMPLETE)), fs::canonicalize(python)) {
        (Ok(recorded), Ok(interpreter)) => recorded == interpreter.as_os_str().as_encoded_bytes(),
        _ => false,
    }
}

/// Waits until no other process sets up the tools. The caller's time limit bounds the wait.
async fn lock(path: &Path) -> Result<File, BuildError> {
    let file = File::create(path).map_err(io_error("create", path))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(TryLockError::Error(cause)) => return Err(io_error("lock", path)(cause)),
        }
    }
}

async fn create(settings: &BuildSettings, environment: &Path) -> Result<(), BuildError> {
    let python = &settings.python;
    let mut command = command(python, &settings.environment);
    command.args(["-I", "-c", &[WATCH, CREATE].concat()]).arg(environment);
    let mut stdout = String::new();
    let keep = |line: &[u8]| {
        stdout = String::from_utf8_lossy(line).into_owned();
    };
    let ended = run(command, keep).await.map_err(|cause| BuildError::Python { python: python.clone(), cause })?;
    match ended.status.code() {
        Some(0) => Ok(()),
        Some(TOO_OLD) => Err(BuildError::PythonTooOld { python: python.clone() }),
        _ => {
            let last = ended.stderr.lines().last().map_or(stdout, str::to_owned);
            Err(BuildError::Environment { python: python.clone(), output: last })
        }
    }
}

async fn install(settings: &BuildSettings, python: &Path) -> Result<(), BuildError> {
    let list = settings.dir.join("toolchain.txt");
    fs::write(&list, sdk::toolchain()).map_err(io_error("write", &list))?;
    let mut command = command(python, &settings.environment);
    command
        .args(["-I", "-c", &[WATCH, PIP].concat()])
        .args(["install", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps"])
        .args(["--only-binary", ":all:", "--require-hashes", "-r"])
        .arg(&list);
    let ended = run(command, |_| ()).await.map_err(|cause: io::Error| io_error("start", python)(cause))?;
    if ended.status.success() {
        return Ok(());
    }
    Err(BuildError::Tools { output: ended.stderr })
}
