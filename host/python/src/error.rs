//! What can go wrong in a build.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A component could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The script, its project or a dependency cannot be built. The texts come from the build, which
    /// reads foreign files: escape control characters before showing them.
    #[error("{message}")]
    Script {
        /// What failed.
        message: String,
        /// What to do; may be empty.
        help: String,
    },
    /// The Python interpreter does not start.
    #[error("could not start the Python interpreter `{}`", .python.display())]
    Python {
        /// The interpreter.
        python: PathBuf,
        /// The cause.
        #[source]
        cause: io::Error,
    },
    /// The Python interpreter is older than 3.11.
    #[error("the Python interpreter `{}` is older than Python 3.11", .python.display())]
    PythonTooOld {
        /// The interpreter.
        python: PathBuf,
    },
    /// The interpreter cannot create a virtual environment.
    #[error("could not create a virtual environment with `{}`: {output}", .python.display())]
    Environment {
        /// The interpreter.
        python: PathBuf,
        /// The end of its output.
        output: String,
    },
    /// The build tools could not be installed.
    #[error("could not install the Python build tools: {output}")]
    Tools {
        /// The end of pip's output.
        output: String,
    },
    /// The time limit was reached.
    #[error("the build did not finish within {} s", .0.as_secs())]
    Time(Duration),
    /// The build ended without a result: it was killed, or there is an error in it.
    #[error("the build ended unexpectedly ({status}): {output}")]
    Died {
        /// The exit status.
        status: String,
        /// The end of its output on standard error.
        output: String,
    },
    /// A file could not be read or written.
    #[error("could not {action} `{}`", .path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        #[source]
        cause: io::Error,
    },
}
