//! The computations of training, in a guest and as the same Rust code built for this machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use strongroom::audit::SyncMode;
use strongroom::runtime::Observer;
use strongroom::spec::RunSpec;

use crate::Size;
use crate::guests::{cargo, project, target};
use crate::host::{Collected, Host, policy, runtime};
use crate::table::row;

pub(crate) fn measure(size: Size) {
    let repeats = size.choose(40, 1).to_string();
    let runtime = runtime();
    let host = Host::new(&runtime, SyncMode::Os);
    let data = project().join("guest-example/data");
    let mut sums = Vec::new();
    // Optimized for size, and for speed as the example is.
    for level in ["s", "3"] {
        if size == Size::Once && level == "3" {
            continue;
        }
        let native = built(level, "", None);
        let output = Command::new(native).arg(&repeats).env("DATA", data.join("breast_cancer.csv")).output().unwrap();
        sums.push(show(&format!("opt-level {level}, native"), &String::from_utf8(output.stdout).unwrap()));
        for (name, flags) in [("guest", ""), ("guest with SIMD", "-C target-feature=+simd128")] {
            let component = built(level, flags, Some("wasm32-wasip2"));
            let spec = RunSpec::new(component).input(&data).args([repeats.as_str()]);
            let collected = Arc::new(Collected::default());
            let run =
                host.runner.run(spec, policy(""), Arc::clone(&collected) as Arc<dyn Observer>, std::future::pending());
            let record = runtime.block_on(run).unwrap();
            assert_eq!(record.exit_code, Some(0), "{:?}", record.reason);
            sums.push(show(&format!("opt-level {level}, {name}"), &collected.text()));
        }
    }
    sums.dedup();
    assert_eq!(sums.len(), 1, "the checksums differ");
}

/// Builds the program `compute`, in a separate folder for each kind of build.
fn built(level: &str, flags: &str, triple: Option<&str>) -> PathBuf {
    let kind = if flags.is_empty() { "plain" } else { "simd" };
    let folder = target().join("guests").join(format!("compute-{level}-{kind}"));
    let optimised = format!("profile.release.opt-level={}", if level == "s" { "\"s\"" } else { level });
    let mut arguments = vec!["--bin", "compute", "--config", &optimised];
    arguments.extend(triple.into_iter().flat_map(|triple| ["--target", triple]));
    cargo(&project().join("host/cli/benches/guests"), &arguments, &folder, flags);
    let release = triple.map_or_else(|| folder.clone(), |triple| folder.join(triple)).join("release");
    existing(&release, if triple.is_some() { "compute.wasm" } else { "compute" })
}

fn existing(folder: &Path, file: &str) -> PathBuf {
    let path = folder.join(file);
    assert!(path.exists(), "{} is built", path.display());
    path
}

/// Prints the figures that the program printed, and returns its checksum.
fn show(name: &str, printed: &str) -> String {
    let mut figures = printed.split_whitespace();
    let mut next = || figures.next().unwrap_or_else(|| panic!("{name} printed `{printed}`"));
    let (fit, product) = (next(), next());
    row(name, &format!("fit {:.2} ms, product of 256 × 256 {:.2} ms", micros(fit) / 1e3, micros(product) / 1e3));
    next().to_owned()
}

fn micros(text: &str) -> f64 {
    text.parse().unwrap()
}
