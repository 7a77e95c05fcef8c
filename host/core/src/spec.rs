//! Run specifications: component, directories, parameters and arguments. With the policy, a
//! specification is everything that a component receives.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::ids::Digest;

/// The specification of one run.
///
/// ```
/// use strongroom_core::spec::RunSpec;
///
/// let spec = RunSpec::new("train.wasm").input("dataset").output("model").parameter("epochs", "20").args(["--fast"]);
/// assert_eq!(spec.parameters["epochs"], "20");
/// ```
#[derive(Clone, Debug)]
pub struct RunSpec {
    /// The component's file. It is read once, so the digest is that of the bytes that run.
    pub component: PathBuf,
    /// What the component was built from, such as a script. The run record shows it in place of the
    /// component's file.
    pub source: Option<PathBuf>,
    /// A directory that the component sees read-only as `/input`.
    pub input: Option<PathBuf>,
    /// A directory that receives the files of `/output`. It must be absent or empty when the run
    /// starts. Without one, output files are listed and then discarded.
    pub output: Option<PathBuf>,
    /// A regular file that the component reads as its standard input. Without one, standard input
    /// is empty.
    pub stdin: Option<PathBuf>,
    /// The parameters, which the component reads through the `context` interface.
    pub parameters: BTreeMap<String, String>,
    /// The arguments after the program name.
    pub args: Vec<String>,
}

impl RunSpec {
    /// Creates a specification with only a component.
    pub fn new(component: impl Into<PathBuf>) -> Self {
        Self {
            component: component.into(),
            source: None,
            input: None,
            output: None,
            stdin: None,
            parameters: BTreeMap::new(),
            args: Vec::new(),
        }
    }

    /// Sets what the component was built from.
    #[must_use]
    pub fn source(mut self, path: impl Into<PathBuf>) -> Self {
        self.source = Some(path.into());
        self
    }

    /// Sets the directory that the component sees as `/input`.
    #[must_use]
    pub fn input(mut self, dir: impl Into<PathBuf>) -> Self {
        self.input = Some(dir.into());
        self
    }

    /// Sets the directory that receives the files of `/output`.
    #[must_use]
    pub fn output(mut self, dir: impl Into<PathBuf>) -> Self {
        self.output = Some(dir.into());
        self
    }

    /// Sets the file that the component reads as its standard input.
    #[must_use]
    pub fn stdin(mut self, file: impl Into<PathBuf>) -> Self {
        self.stdin = Some(file.into());
        self
    }

    /// Sets a parameter; replaces one of the same name.
    #[must_use]
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.insert(name.into(), value.into());
        self
    }

    /// Appends arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Returns the SHA-256 of the canonical form: a JSON document with format version, component
    /// digest, parameters sorted by name, arguments, and the paths of directories and standard input
    /// as given.
    pub fn digest(&self, component: &Digest) -> Digest {
        #[derive(Serialize)]
        struct Canonical<'a> {
            format: u32,
            component: &'a Digest,
            parameters: &'a BTreeMap<String, String>,
            args: &'a [String],
            input: Option<String>,
            output: Option<String>,
            // Left out if it is not set, so that the digest is the same as before the field existed.
            #[serde(skip_serializing_if = "Option::is_none")]
            stdin: Option<String>,
        }
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.to_string_lossy().into_owned());
        let canonical = Canonical {
            format: 1,
            component,
            parameters: &self.parameters,
            args: &self.args,
            input: path(&self.input),
            output: path(&self.output),
            stdin: path(&self.stdin),
        };
        // Serializing maps with string keys and strings cannot fail.
        Digest::of(&serde_json::to_vec(&canonical).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spec_digest_depends_on_every_field() {
        let component = Digest::of(b"component");
        let base = RunSpec::new("a.wasm");
        let mut seen = vec![base.digest(&component), base.digest(&Digest::of(b"other"))];
        for change in [
            (|spec: &mut RunSpec| spec.args.push("x".into())) as fn(&mut RunSpec),
            |spec| spec.input = Some("in".into()),
            |spec| spec.output = Some("in".into()),
            |spec| spec.stdin = Some("in".into()),
            |spec| drop(spec.parameters.insert("a".into(), "b".into())),
        ] {
            let mut spec = base.clone();
            change(&mut spec);
            seen.push(spec.digest(&component));
        }
        let count = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }
}
