//! Components that `python -m strongroom.build` makes from scripts run in the host.
//!
//! The scripts are in `tests/guests/scripts`. A test whose toolchain is not available is skipped,
//! except in CI (`CI=true`), where it fails.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, OnceLock};

use strongroom::record::Limit;

use crate::support::{EndedRun, Host, Postgres, files_below, project};

const VALUE: &str = "correct-horse-battery-staple";

/// Returns the folder for the tools and the components of these tests.
fn tools() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("python")
}

/// Returns a command of the program with a home that all tests share, because the tools in it take
/// half a minute to install.
fn shared_home(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    // pip reads this user's configuration.
    command.args(args).env("STRONGROOM_HOME", tools().join("home")).stdin(Stdio::null());
    command
}

/// Returns the Python of the environment with the build tools. `None` if they are not available.
fn python() -> Option<&'static Path> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = PYTHON.get_or_init(|| {
        let script = project().join("tests/guests/scripts/v1_get.py");
        std::fs::create_dir_all(tools()).unwrap();
        let output = tools().join("v1_get.wasm");
        let mut build = shared_home(&["build", script.to_str().unwrap(), "--output", output.to_str().unwrap()]);
        let output = build.output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        let unavailable = ["could not start the Python", "older than Python", "could not install the Python"];
        let is_unavailable = unavailable.iter().any(|reason| message.contains(reason));
        if is_unavailable && std::env::var("CI").as_deref() != Ok("true") {
            // `eprintln!` would be captured by the test harness and shown for failed tests only.
            let _ = writeln!(std::io::stderr(), "SKIPPED: the toolchain for Python is not available: {message}");
            return None;
        }
        assert!(output.status.success(), "{message}");
        let installed = std::fs::read_dir(tools().join("home/python")).unwrap().map(|entry| entry.unwrap());
        let mut environments =
            installed.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with("tools-")));
        Some(environments.next().unwrap().path().join("bin/python"))
    });
    found.as_deref()
}

/// Starts the build module with a script, in its folder.
fn build_command(python: &Path, script: &Path, output: &Path) -> Command {
    let mut command = Command::new(python);
    command
        .args(["-m", "strongroom.build", "--json"])
        .arg(script)
        .arg("-o")
        .arg(output)
        .env("PYTHONPATH", project().join("sdk/python/src"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("HOST_ONLY", "environment-of-the-host")
        .stdin(Stdio::null());
    command
}

/// Returns the JSON lines that a build printed.
fn events(output: &Output) -> Vec<serde_json::Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no event: {line}"))).collect()
}

/// Returns the component of a script. It is built only if something has changed.
fn component(script: &str) -> Option<PathBuf> {
    static BUILDING: Mutex<()> = Mutex::new(());
    python()?;
    let _one_at_a_time = BUILDING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let script = project().join(script);
    let name = script.file_stem().unwrap().to_string_lossy().into_owned();
    let folder = tools().join("components");
    std::fs::create_dir_all(&folder).unwrap();
    let output = folder.join(&name).with_extension("wasm");
    let built =
        shared_home(&["build", script.to_str().unwrap(), "--output", output.to_str().unwrap()]).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    // Compiles it, which takes longer than everything else. How the run ends does not matter.
    shared_home(&["init"]).output().unwrap();
    shared_home(&["run", output.to_str().unwrap()]).output().unwrap();
    Some(output)
}

/// Returns a host that has the compiled code of all components so far.
fn host() -> Host {
    let host = Host::new();
    let code = host.home().join("code");
    std::fs::DirBuilder::new().mode(0o700).create(&code).unwrap();
    for file in files_below(&tools().join("home/code")) {
        // Another test may be removing a temporary file.
        let _ = std::fs::hard_link(&file, code.join(file.file_name().unwrap()));
    }
    host
}

fn script(name: &str) -> Option<PathBuf> {
    component(&format!("tests/guests/scripts/{name}.py"))
}

fn run(host: &Host, component: &Path, policy: &str, args: &[&str]) -> EndedRun {
    host.run_with(component.to_str().expect("a path in UTF-8"), policy, &[], args)
}

/// Returns what a run asked for: operation, name, number of uses and of denials.
fn uses(run: &EndedRun) -> Vec<(String, String, u64, u64)> {
    let secrets = run.record.secrets.iter();
    secrets
        .map(|usage| (usage.operation.as_str().to_owned(), usage.name.as_str().to_owned(), usage.count, usage.denied))
        .collect()
}

// promise: The snippets of Azure ML's documentation run unchanged under a policy that grants what
// they use.
#[test]
fn documented_snippets_run_unchanged() {
    let (Some(set), Some(get), Some(v2)) = (script("v1_set"), script("v1_get"), script("v2")) else { return };
    let host = host();
    let policy = format!("version = 1\n[secrets]\nmysecret = [\"set\"]\n[environment]\nMY_SECRET = \"{VALUE}\"\n");
    let ended = run(&host, &set, &policy, &[]).finished();
    assert_eq!(uses(&ended), [("set".into(), "mysecret".into(), 1, 0)]);
    assert_eq!(host.get("mysecret").trim_end(), VALUE);

    let ended = run(&host, &get, "version = 1\n[secrets]\nmysecret = [\"get\"]\n", &[]).finished();
    assert_eq!(uses(&ended), [("get".into(), "mysecret".into(), 1, 0)]);
    // Without the grant, the traceback has the line that would allow it.
    run(&host, &get, "version = 1\n", &[])
        .failed()
        .shows("secret_value = run.get_secret(name=\"mysecret\")")
        .shows("azureml.exceptions.ServiceException: could not read `mysecret`: the policy does not grant it")
        .shows("  mysecret = [\"get\"]");

    host.set("db-password", VALUE);
    let ended = run(&host, &v2, "version = 1\n[secrets]\ndb-password = [\"get\"]\n", &[]).finished();
    assert_eq!(uses(&ended), [("get".into(), "db-password".into(), 1, 0)]);
    let loss = &ended.record.metrics["loss"].points;
    assert_eq!((loss.len(), loss[0].step, loss[0].value.0), (1, Some(1), 0.25));
    ended.never_shows(VALUE);
}

#[test]
fn batch_forms_and_errors_of_the_sdks_behave_as_documented() {
    let Some(component) = script("batches") else { return };
    let host = host();
    host.set("listed", VALUE);
    host.set("denied", VALUE);
    let grants = "[\"get\", \"set\", \"list\", \"delete\", \"describe\"]";
    let policy =
        format!("version = 1\n[secrets]\nfirst = {grants}\nsecond = {grants}\nlisted = {grants}\nabsent = [\"get\"]\n");
    let component = component.to_str().unwrap();
    let ended = host.run_with(component, &policy, &["--param", "epochs=3"], &[]).finished();
    let metric = |name: &str| ended.record.metrics[name].last.unwrap().0;
    assert_eq!((metric("row/a"), metric("row/b")), (1.0, 2.5));
    let ended = ended
        .shows("lengths {'FIRST': 11, 'second': 11, 'absent': None}")
        .shows("listed [{'name': 'first'}, {'name': 'listed'}, {'name': 'second'}]")
        .shows("after [{'name': 'listed'}]")
        .shows("v1 absent 404")
        .shows("v1 denied 403 could not read `denied`: the policy does not grant it")
        .shows("v2 absent 404")
        .shows("v2 denied 403")
        .shows("v2 vault could not use the vault `https://other.vault.azure.net`")
        .shows("invalid could not read `a_b`: the name is not valid")
        .shows("described None")
        .shows("parameters {'epochs': '3'} 26")
        .shows("time is left True")
        .shows("value could not use the value of a secret: it has a lone surrogate")
        .shows("report could not record the tag 'long': a tag's value is at most 8192 bytes")
        .never_shows(VALUE);
    let text = |map: &BTreeMap<String, String>| serde_json::to_value(map).unwrap();
    let tags = serde_json::json!({
        "mlflow.experimentName": "churn",
        "note": "uses [redacted:listed]\\x1b[2J",
        "odd": "lone surrogate \\udc80",
        "origin": "script",
        "stage": "test",
    });
    assert_eq!(text(&ended.record.logged_tags), tags);
    assert_eq!(text(&ended.record.logged_parameters), serde_json::json!({"rate": "0.01"}));
    let texts = serde_json::to_value(&ended.record.text_metrics).unwrap();
    let stage = serde_json::json!({"points": [{"step": 2, "value": "fit"}], "dropped": 0});
    let flag = serde_json::json!({"points": [{"value": "True"}], "dropped": 0});
    assert_eq!(texts, serde_json::json!({"stage": stage, "flag": flag}));
}

// attack: escape: Python code reads the environment, /proc and files of the host, opens sockets,
// starts programs and threads, and loads native code -> a component has none of them
#[test]
fn hostile_python_reaches_nothing() {
    let Some(component) = script("hostile") else { return };
    let host = host();
    let nothing = "version = 1\n";
    let ended = host
        .run_with(component.to_str().unwrap(), nothing, &["--output", "out"], &["environment"])
        .finished()
        .shows("environment: {}")
        .never_shows("environment-of-the-host")
        .never_shows("worked")
        .never_shows("root:");
    for name in ["/proc/self/environ", "/etc/passwd", "../../etc/passwd", ".env", "/", "/home", "/python", "/0"] {
        assert!(ended.shown.contains(&format!("\n{name}: ")), "{name}: {}", ended.shown);
    }

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    run(&host, &component, nothing, &["sockets", &address])
        .finished()
        .shows("tcp: PermissionError")
        .shows("name: gaierror")
        .shows("udp: ")
        .shows("listen: ")
        .never_shows("worked");
    assert!(listener.accept().is_err(), "a connection was made");

    run(&host, &component, nothing, &["programs"])
        .finished()
        .shows("run: OSError")
        .shows("ctypes: ModuleNotFoundError")
        .shows("thread: RuntimeError: can't start new thread")
        .never_shows("worked")
        .never_shows("uid=");
}

// attack: resources: Python code recurses without end or fills 10 GB of memory -> the engine's stack
// and the `memory` limit
#[test]
fn python_over_its_limits_is_stopped() {
    let Some(component) = script("hostile") else { return };
    let host = host();
    run(&host, &component, "version = 1\n", &["recurse"]).failed().shows("RecursionError: maximum recursion depth");
    // Recursion inside the interpreter is not counted by Python.
    run(&host, &component, "version = 1\n", &["deep"]).stopped(Limit::Stack);
    let small = "version = 1\n[limits]\nmemory = \"128MiB\"\n";
    for way in ["memory", "one_list"] {
        let ended = run(&host, &component, small, &[way]);
        let peak = ended.record.peak_memory_bytes;
        assert!(peak <= 128 << 20, "{way}: {peak}");
        assert_ne!(ended.code, 0, "{way}: {}", ended.shown);
    }
}

// promise: A secret in a Python traceback is redacted in output and record.
#[test]
fn secret_in_traceback_is_redacted() {
    let Some(component) = script("hostile") else { return };
    let host = host();
    host.set("key", VALUE);
    for (way, shown) in
        [("leak", "ValueError: cannot log in with [redacted:key]"), ("leak_in_key", "KeyError: '[redacted:key]'")]
    {
        let ended = run(&host, &component, "version = 1\n[secrets]\nkey = [\"get\"]\n", &[way]);
        ended.failed().shows("File \"hostile.py\", line ").shows(shown).never_shows(VALUE);
    }
}

#[test]
fn python_exit_codes_and_exceptions_end_the_run() {
    let Some(component) = script("hostile") else { return };
    let host = host();
    let nothing = "version = 1\n";
    for code in ["none", "0"] {
        run(&host, &component, nothing, &["end", code]).finished();
    }
    let ended = run(&host, &component, nothing, &["end", "1"]).failed();
    assert_eq!(ended.record.exit_code, Some(1));
    run(&host, &component, nothing, &["end", "3"]).failed().shows("the script ended with exit code 3");
    run(&host, &component, nothing, &["end", "no data"]).failed().shows("no data\n");
    // The traceback begins in the script and has its lines and those of its modules.
    run(&host, &component, nothing, &["uncaught"])
        .failed()
        .shows("Traceback (most recent call last):\n  File \"hostile.py\", line ")
        .shows("state.fail({\"rows\": 3})")
        .shows("File \"state.py\", line 18, in fail")
        .shows("return settings[\"missing\"]")
        .shows("KeyError: 'missing'");
    run(&host, &component, nothing, &["at_exit"]).finished().shows("no newline").shows("at exit");
}

// promise: Runs of one Python component share no state: modules of the project, generators and
// built-ins are fresh.
#[test]
fn runs_of_one_python_component_share_no_state() {
    let Some(component) = script("hostile") else { return };
    let host = host();
    let mut seen: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for _ in 0..2 {
        let ended = run(&host, &component, "version = 1\n", &["show_state"]).finished();
        for name in ["started", "generator", "module"] {
            let line = ended.shown.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
            seen.entry(name).or_default().push(line);
        }
        ended.shows("counter 1 2").shows("main False").shows("builtin False");
    }
    for (name, values) in seen {
        assert_ne!(values[0], values[1], "{name}");
    }
}

/// Makes a wheel of one module, for an index in a folder.
fn wheel(python: &Path, folder: &Path, name: &str, tag: &str, module: &str) {
    let code = "import sys, zipfile\n\
        folder, name, tag, module = sys.argv[1:]\n\
        info = f'{name}-1.0.dist-info'\n\
        with zipfile.ZipFile(f'{folder}/{name}-1.0-{tag}.whl', 'w') as file:\n\
        \x20   file.writestr(f'{name}.py', module)\n\
        \x20   file.writestr(f'{info}/METADATA', f'Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n')\n\
        \x20   file.writestr(f'{info}/WHEEL', f'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: {tag}\\n')\n\
        \x20   file.writestr(f'{info}/RECORD', '')\n";
    let output = Command::new(python).args(["-c", code]).arg(folder).args([name, tag, module]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Builds a script whose only index is a folder.
fn build_offline(python: &Path, index: &Path, script: &Path, output: &Path) -> Output {
    build_command(python, script, output)
        .env("PIP_NO_INDEX", "1")
        .env("PIP_FIND_LINKS", index)
        .env("PIP_CONFIG_FILE", "/dev/null")
        .output()
        .unwrap()
}

// attack: escape: a dependency reads the user's files, environment and network while a component is
// built, or changes the script -> it runs in the sandbox of the packer, with copies of what is packed
#[test]
fn dependency_reaches_nothing_during_the_build() {
    let Some(python) = python() else { return };
    let host = host();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let home = host.file("project/private.txt", "private-to-the-user");
    let index = host.path().join("index");
    std::fs::create_dir(&index).unwrap();
    let module = format!(
        "import os, socket, time, random\n\
         found = [dict(os.environ)]\n\
         def attempt(call):\n\
         \x20   try: found.append(('worked', call()))\n\
         \x20   except BaseException as error: found.append(type(error).__name__)\n\
         attempt(lambda: open({home:?}).read())\n\
         attempt(lambda: open('/etc/passwd').read())\n\
         attempt(lambda: os.listdir('/'))\n\
         attempt(lambda: os.listdir('/home'))\n\
         attempt(lambda: socket.create_connection(('{ip}', {port})))\n\
         attempt(lambda: socket.socket())\n\
         attempt(lambda: __import__('_socket').socket().connect(('{ip}', {port})))\n\
         attempt(lambda: __import__('urllib.request').request.urlopen('http://{address}/'))\n\
         attempt(lambda: open({home:?}, 'w').write('changed'))\n\
         built = time.time()\n",
        ip = address.ip(),
        port = address.port(),
    );
    wheel(python, &index, "curious", "py3-none-any", &module);
    let script = host.file(
        "project/train.py",
        "# /// script\n# dependencies = [\"curious\"]\n# ///\nimport curious\nprint('found', curious.found)\n\
         print('built', curious.built)\n",
    );
    host.file("project/.env", "PASSWORD=hunter2-in-env");
    let output = host.path().join("train.wasm");
    let built = build_offline(python, &index, &script, &output);
    assert!(built.status.success(), "{:?}", events(&built));
    assert!(listener.accept().is_err(), "a connection was made");
    assert_eq!(std::fs::read_to_string(&home).unwrap(), "private-to-the-user");

    let events = events(&built);
    let last = events.last().unwrap();
    assert_eq!(last["files"], serde_json::json!(["train.py"]), "{events:?}");
    assert!(events.iter().any(|event| event["event"] == "warning" && event["file"] == ".env"), "{events:?}");
    let lock = std::fs::read_to_string(script.with_file_name("train.py.lock")).unwrap();
    let locked = lock.lines().nth(1).unwrap();
    assert!(locked.starts_with("curious==1.0 --hash=sha256:") && !lock.contains("://"), "{lock}");

    let component = output.to_str().unwrap();
    let mut built_at = Vec::new();
    for _ in 0..2 {
        let ended = host.run(component, "version = 1\n", &[]).finished().shows("found [{'PYTHON").never_shows("worked");
        built_at.push(ended.shown.lines().find(|line| line.starts_with("built")).unwrap().to_owned());
        ended.never_shows("private-to-the-user").never_shows("environment-of-the-host");
    }
    // Dependencies are imported once, during the build, so what they computed is the same in each
    // run. docs/python.md says so.
    assert_eq!(built_at[0], built_at[1]);
    let packed = std::fs::read(&output).unwrap();
    for private in ["private-to-the-user", "hunter2-in-env", "environment-of-the-host"] {
        assert!(!packed.windows(private.len()).any(|part| part == private.as_bytes()), "{private}");
    }

    // The second build uses the lock file: another wheel under the same name is refused.
    wheel(python, &index, "curious", "py3-none-any", "found = built = 'other'\n");
    let error = build_offline(python, &index, &script, &output);
    assert_eq!(error.status.code(), Some(1));
    let text = String::from_utf8_lossy(&error.stdout).into_owned();
    assert!(text.contains("could not install the dependencies"), "{text}");
}

// attack: escape: a source distribution runs its setup.py on the user's machine -> wheels only
#[test]
fn packages_with_native_code_or_source_only_are_refused() {
    let Some(python) = python() else { return };
    let host = host();
    let index = host.path().join("index");
    std::fs::create_dir(&index).unwrap();
    wheel(python, &index, "numpy", "cp314-cp314-manylinux_2_17_x86_64", "");
    let marker = host.path().join("executed");
    let code = "import sys, tarfile, io\n\
        folder, marker = sys.argv[1:]\n\
        with tarfile.open(f'{folder}/eager-1.0.tar.gz', 'w:gz') as file:\n\
        \x20   for name, text in {'setup.py': f'open({marker!r}, \"w\")', 'PKG-INFO': 'Metadata-Version: 2.1\\nName: eager\\nVersion: 1.0\\n'}.items():\n\
        \x20       info = tarfile.TarInfo(f'eager-1.0/{name}'); info.size = len(text)\n\
        \x20       file.addfile(info, io.BytesIO(text.encode()))\n";
    assert!(Command::new(python).args(["-c", code]).arg(&index).arg(&marker).status().unwrap().success());
    let script = host.file("project/train.py", "import numpy\n");
    let output = host.path().join("train.wasm");

    let error = |requirement: &str| {
        host.file("project/requirements.txt", requirement);
        let built = build_offline(python, &index, &script, &output);
        assert_eq!(built.status.code(), Some(1), "{:?}", events(&built));
        events(&built).pop().unwrap()
    };
    let native = error("numpy>=1.0\n");
    assert_eq!(native["package"], "numpy", "{native}");
    assert!(native["text"].as_str().unwrap().contains("it has native code"), "{native}");
    assert!(native["help"].as_str().unwrap().contains("`array` of the standard library"), "{native}");
    let source = error("eager\n");
    assert_eq!(source["package"], "eager", "{source}");
    assert!(source["help"].as_str().unwrap().contains("source distributions are not used"), "{source}");
    assert!(!marker.exists(), "setup.py was executed");
    assert!(!output.exists() && !script.with_file_name("requirements.lock").exists());
}

#[test]
fn script_that_does_not_compile_is_an_error_with_its_line() {
    let Some(python) = python() else { return };
    let host = host();
    let script = host.file("project/train.py", "import json\nprint(json.dumps({1: 2}\n");
    let output = host.path().join("train.wasm");
    let built = build_offline(python, host.path(), &script, &output);
    assert_eq!(built.status.code(), Some(1));
    let error = events(&built).pop().unwrap();
    let text = error["text"].as_str().unwrap();
    assert!(text.starts_with("could not compile the script:") && text.contains("line 2"), "{text}");
    assert!(!output.exists());
}

/// A host with the build tools of the shared home, and with what pip needs.
fn host_with_tools() -> Option<Host> {
    python()?;
    let pass = |host: Host, name: &str| match std::env::var_os(name) {
        Some(value) => host.with_env(name, value),
        None => host,
    };
    let host = ["PATH", "HOME"].into_iter().fold(host(), pass);
    std::fs::create_dir_all(host.home().join("python")).unwrap();
    for entry in std::fs::read_dir(tools().join("home/python")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_str().is_some_and(|name| name.starts_with("tools-")) {
            std::os::unix::fs::symlink(entry.path(), host.home().join("python").join(entry.file_name())).unwrap();
        }
    }
    Some(host)
}

// promise: A Python script is built when it has changed, and otherwise starts without an interpreter.
#[test]
fn new_project_runs_and_is_built_again_after_a_change() {
    let Some(host) = host_with_tools() else { return };
    host.set("db-password", VALUE);
    let created = host.ok(&["new", "myjob"]);
    assert!(created.contains("strongroom run train.py --policy policy.toml"), "{created}");
    let script = host.path().join("myjob/train.py");
    let (script_text, policy) = (script.to_str().unwrap(), host.path().join("myjob/policy.toml"));
    let run = |args: &[&str]| host.output(&[&["run", script_text], args].concat());
    let text = |output: &Output| String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();

    let denied = run(&[]);
    let shown = text(&denied);
    assert_eq!(denied.status.code(), Some(1), "{shown}");
    assert!(shown.contains("policy.toml` is not used: add `--policy"), "{shown}");
    assert!(shown.contains("importing the modules and packing the component"), "{shown}");
    assert!(
        shown.contains(
            "  File \"train.py\", line 7, in main\n    password = secrets.get(\"db-password\")\nstrongroom.Denied: "
        ),
        "{shown}"
    );
    assert!(shown.contains("  db-password = [\"get\"]"), "{shown}");

    // Nothing was changed: no interpreter is started.
    host.file("config/strongroom/config.toml", "[python]\ninterpreter = \"/nonexistent/python3\"\n");
    std::fs::rename(host.home().join("python"), host.path().join("moved")).unwrap();
    std::fs::create_dir(host.home().join("python")).unwrap();
    for kept in ["components", "scripts"] {
        std::fs::rename(host.path().join("moved").join(kept), host.home().join("python").join(kept)).unwrap();
    }
    let policy = policy.to_str().unwrap();
    let ended = run(&["--policy", policy]);
    let shown = text(&ended);
    assert_eq!(ended.status.code(), Some(0), "{shown}");
    assert!(shown.contains("db-password: [redacted:db-password]") && !shown.contains(VALUE), "{shown}");
    assert!(shown.contains("loss  0.107374  step 9, 10 points"), "{shown}");
    assert!(!shown.contains("building") && !shown.contains("serves any component"), "{shown}");
    assert!(host.ok(&["runs", "list"]).lines().nth(1).unwrap().ends_with("train.py"));

    // After a change, it is: a module that appears beside the script counts, too.
    for (name, content) in [("myjob/train.py", "import tool\nprint(tool.text)\n"), ("myjob/strongroom.py", "")] {
        let before = std::fs::read(host.path().join(name)).ok();
        host.file(name, content);
        let failed = run(&["--policy", policy]);
        let shown = text(&failed);
        assert_eq!(failed.status.code(), Some(2), "{shown}");
        assert!(shown.contains("could not start the Python interpreter `/nonexistent/python3`"), "{shown}");
        assert!(shown.contains("help: install Python 3.11 or newer"), "{shown}");
        match before {
            Some(before) => drop(host.file(name, before)),
            None => std::fs::remove_file(host.path().join(name)).unwrap(),
        }
        assert_eq!(run(&["--policy", policy]).status.code(), Some(0));
    }
}

#[test]
fn new_rust_project_builds_and_runs() {
    let host = host();
    host.set("db-password", VALUE);
    host.ok(&["new", "--lang", "rust", "rust-job"]);
    let project_dir = host.path().join("rust-job");
    // The versions that the guest library is tested with.
    std::fs::copy(project().join("sdk/rust/Cargo.lock"), project_dir.join("Cargo.lock")).unwrap();
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--target", "wasm32-wasip2", "--target-dir"])
        .arg(tools().with_file_name("guests"))
        .current_dir(&project_dir)
        .env_remove("RUSTFLAGS")
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let component = tools().with_file_name("guests/wasm32-wasip2/release/rust-job.wasm");
    let policy = std::fs::read_to_string(project_dir.join("policy.toml")).unwrap();
    let ended = host.run(component.to_str().unwrap(), &policy, &[]).finished();
    ended.shows("db-password: [redacted:db-password]").shows("loss after 10 epochs: 0.107").never_shows(VALUE);

    let error = host.fails(2, &["new", "--lang", "rust", "rust-job"]);
    assert!(error.contains("nothing is overwritten"), "{error}");
}

// attack: resources: a build runs without end or fills the memory -> limits of time and memory
#[test]
fn build_over_its_limits_is_ended_with_all_its_processes() {
    let Some(host) = host_with_tools() else { return };
    let script = host.file("project/train.py", "print('small')\n");
    let script = script.to_str().unwrap();
    let temporary = |host: &Host| {
        let entries = std::fs::read_dir(host.home().join("python")).unwrap().map(|entry| entry.unwrap().file_name());
        entries.filter(|name| name.to_str().unwrap().starts_with("build-")).count()
    };
    for (settings, error, help) in [
        ("build-time = \"1ms\"", "error: the build did not finish within", "build-time"),
        ("build-memory = \"64MiB\"", "error: could not pack the component", "allow the build more memory"),
    ] {
        host.file("config/strongroom/config.toml", format!("[python]\n{settings}\n"));
        let shown = host.fails(2, &["build", script]);
        assert!(shown.contains(error) && shown.contains(help), "{shown}");
        assert_eq!(temporary(&host), 0);
    }
    host.file("config/strongroom/config.toml", "");

    // Killed with the program that started it.
    let mut child = host.command(&["build", script]).spawn().unwrap();
    let id = child.id();
    let running = || {
        let own = host.home().display().to_string();
        let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            (pid != id && String::from_utf8_lossy(&command).contains(&own)).then_some(pid)
        });
        processes.count()
    };
    while running() == 0 {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    while running() > 0 {
        std::thread::yield_now();
    }
    child.wait().unwrap();
    assert!(!host.path().join("train.wasm").exists());
}

/// Returns a policy of the example, which the programs in Rust and Python share.
fn example_policy(name: &str) -> String {
    std::fs::read_to_string(project().join("guest-example/policies").join(name)).unwrap()
}

/// Asserts that a run of the example reported the published figures, to three decimals.
#[track_caller]
fn assert_figures(run: &EndedRun) {
    let figures = ["train-log-loss", "held-out-log-loss", "held-out-accuracy", "intercept"]
        .map(|name| format!("{name} {:.3}", run.record.metrics[name].last.unwrap().0));
    let expected = ["train-log-loss 0.061", "held-out-log-loss 0.042", "held-out-accuracy 1.000", "intercept 0.102"];
    assert_eq!(figures, expected);
    assert!(run.record.metrics["loss"].points.len() >= 5);
}

// promise: The example in Python does what the example in Rust does, with the same policies, files
// and figures.
#[test]
fn python_example_and_rust_example_read_each_others_files() {
    let Some(python) = component("guest-example/python/train.py") else { return };
    let python = python.to_str().unwrap();
    let data = project().join("guest-example/data");
    let data = data.to_str().unwrap();
    let host = host();
    let (prepare, train) = (example_policy("prepare.toml"), example_policy("train.toml"));
    for (preparing, training) in [(python, python), (python, "training-example"), ("training-example", python)] {
        let _ = std::fs::remove_dir_all(host.path().join("prepared"));
        let _ = std::fs::remove_dir_all(host.path().join("trained"));
        host.run_with(preparing, &prepare, &["--input", data, "--output", "prepared"], &["prepare"]).finished();
        let key = host.get("dataset-key");
        let options = ["--input", "prepared", "--output", "trained"];
        let ended = host.run_with(training, &train, &options, &["train", "--from-file"]).finished();
        assert_figures(&ended);
        ended.shows("training on 456 rows, 113 held out").never_shows(key.trim_end());
        let written = std::fs::read(host.path().join("trained/model.json.age")).unwrap();
        assert!(written.starts_with(b"age-encryption.org/v1\n"));
    }
    host.run_with(python, "version = 1", &["--input", "prepared", "--output", "none"], &["train", "--from-file"])
        .failed()
        .shows("error: could not read `dataset-key`: the policy does not grant it");
}

// promise: A Python component reaches a real database with a password from the vault over the one
// granted connection, and the password is nowhere afterwards.
#[test]
fn python_example_trains_from_postgres() {
    let Some(component) = component("guest-example/python/train.py") else { return };
    let component = component.to_str().unwrap();
    let server = Postgres::start();
    let host = host();
    host.set("db-user", &server.user);
    host.set("db-password", &server.password);
    let policy = example_policy("train-postgres.toml").replace("127.0.0.1:5432", &server.address);
    let address = format!("db-address={}", server.address);
    let run = |policy: &str, output: &str| {
        let parameters = ["--param", &address, "--param", "db-name=training", "--param", "db-table=breast_cancer"];
        let options = [["--output", output].as_slice(), &parameters].concat();
        host.run_with(component, policy, &options, &["train", "--from-postgres"])
    };

    let ended = run(&policy, "out").finished().never_shows(&server.user).never_shows(&server.password);
    assert_figures(&ended);
    let expected: Vec<(String, String, u64, u64)> = [("get", "db-password"), ("get", "db-user"), ("set", "model-key")]
        .map(|(operation, name)| (operation.into(), name.into(), 1, 0))
        .into();
    assert_eq!(uses(&ended), expected);

    let ungranted: String = policy.lines().filter(|line| !line.starts_with("tcp")).collect::<Vec<_>>().join("\n");
    run(&ungranted, "ungranted")
        .failed()
        .shows(&format!("error: cannot connect to `{}`: the policy does not grant it", server.address))
        .never_shows(&server.password);
    // A server that would take the password itself does not get it.
    server.admit("host all all 127.0.0.1/32 password");
    run(&policy, "password")
        .failed()
        .shows("the database does not log in with SCRAM-SHA-256")
        .never_shows(&server.password);
    for file in files_below(host.path()) {
        let content = std::fs::read(&file).unwrap();
        let password = server.password.as_bytes();
        assert!(!content.windows(password.len()).any(|part| part == password), "{}", file.display());
    }
}
