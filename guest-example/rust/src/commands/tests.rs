use std::collections::BTreeMap;

use super::*;

const DATASET: &[u8] = include_bytes!("../../../data/breast_cancer.csv");

/// A host that grants what the test lists and stores what it receives.
#[derive(Default)]
struct FakeHost {
    granted: Vec<(&'static str, &'static str)>,
    secrets: BTreeMap<String, String>,
    parameters: BTreeMap<&'static str, &'static str>,
    metrics: Vec<(String, f64, Option<u64>)>,
    progress: Vec<(u64, String)>,
}

impl FakeHost {
    fn decide(&self, operation: &str, name: &str) -> Result<(), String> {
        if self.granted.contains(&(operation, name)) { Ok(()) } else { Err(format!("denied: {name}")) }
    }

    fn metric(&self, name: &str) -> f64 {
        self.metrics.iter().rfind(|metric| metric.0 == name).unwrap().1
    }
}

impl Host for FakeHost {
    fn get_secret(&mut self, name: &str) -> Result<String, String> {
        self.decide("get", name)?;
        self.secrets.get(name).cloned().ok_or_else(|| format!("not found: {name}"))
    }

    fn get_secrets(&mut self, names: &[&str]) -> Result<Vec<Option<String>>, String> {
        names.iter().try_for_each(|name| self.decide("get", name))?;
        Ok(names.iter().map(|name| self.secrets.get(*name).cloned()).collect())
    }

    fn set_secret(&mut self, name: &str, value: &str) -> Result<(), String> {
        self.decide("set", name)?;
        self.secrets.insert(name.into(), value.into());
        Ok(())
    }

    fn parameter(&self, name: &str) -> Option<String> {
        self.parameters.get(name).map(|value| value.to_string())
    }

    fn log_metric(&mut self, name: &str, value: f64, step: Option<u64>) -> Result<(), String> {
        self.metrics.push((name.into(), value, step));
        Ok(())
    }

    fn report_progress(&mut self, done: u64, _total: u64, message: &str) -> Result<(), String> {
        self.progress.push((done, message.into()));
        Ok(())
    }
}

/// Temporary folders for one test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("training-example-{}-{test}", std::process::id()));
        for folder in ["input", "prepared", "trained"] {
            fs::create_dir_all(path.join(folder)).unwrap();
        }
        fs::write(path.join("input").join(PLAIN_DATASET), DATASET).unwrap();
        Self(path)
    }

    fn path(&self, folder: &str) -> PathBuf {
        self.0.join(folder)
    }

    fn prepare(&self, host: &mut FakeHost) -> Result<(), CommandError> {
        prepare(host, Folders { input: &self.path("input"), output: &self.path("prepared") })
    }

    fn train(&self, host: &mut FakeHost) -> Result<(), CommandError> {
        train(host, Folders { input: &self.path("prepared"), output: &self.path("trained") }, Source::File)
    }

    fn files(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns a host after `prepare`, with the grants that `train` needs.
fn prepared(scratch: &Scratch) -> FakeHost {
    let mut host = FakeHost { granted: vec![("set", DATASET_KEY)], ..FakeHost::default() };
    scratch.prepare(&mut host).unwrap();
    host.granted = vec![("get", DATASET_KEY), ("set", MODEL_KEY)];
    host
}

#[test]
fn prepare_stores_key_and_writes_only_encrypted_file() {
    let scratch = Scratch::new("prepare");
    let host = prepared(&scratch);
    assert_eq!(scratch.files("prepared"), [SEALED_DATASET]);
    let sealed = fs::read(scratch.path("prepared").join(SEALED_DATASET)).unwrap();
    let key = Key::parse(&host.secrets[DATASET_KEY]).unwrap();
    assert_eq!(key.decrypt(&sealed).unwrap(), DATASET);
}

#[test]
fn prepare_without_stored_key_writes_no_file() {
    let scratch = Scratch::new("no-orphan");
    let error = scratch.prepare(&mut FakeHost::default()).unwrap_err();
    assert_eq!(error.to_string(), "cannot store the dataset key: denied: dataset-key");
    assert!(scratch.files("prepared").is_empty());

    let mut host = prepared(&scratch);
    host.granted.retain(|grant| grant.0 == "get");
    let error = scratch.train(&mut host).unwrap_err();
    assert_eq!(error.to_string(), "cannot store the model key: denied: model-key");
    assert!(scratch.files("trained").is_empty());
}

#[test]
fn train_writes_a_model_that_its_key_opens() {
    let scratch = Scratch::new("train");
    let mut host = prepared(&scratch);
    scratch.train(&mut host).unwrap();

    assert_eq!(scratch.files("trained"), [EVALUATION, SEALED_MODEL]);
    let sealed = fs::read(scratch.path("trained").join(SEALED_MODEL)).unwrap();
    let model = open_model(&sealed, &host.secrets[MODEL_KEY]).unwrap();
    assert_eq!((model.coefficients.len(), model.features.len()), (30, 30));
    assert_eq!(model.intercept, host.metric("intercept"));

    assert_eq!(format!("{:.3}", host.metric("train-log-loss")), "0.061");
    assert_eq!(format!("{:.3}", host.metric("held-out-log-loss")), "0.042");
    assert_eq!(format!("{:.3}", host.metric("intercept")), "0.102");
    assert_eq!(host.metric("held-out-accuracy"), 1.0);
    let steps: Vec<_> = host.metrics.iter().filter(|metric| metric.0 == "loss").map(|metric| metric.2).collect();
    assert_eq!(steps, (1..=model.iterations).map(Some).collect::<Vec<_>>());
    assert_eq!(host.progress.len() as u64, model.iterations);

    let evaluation = fs::read_to_string(scratch.path("trained").join(EVALUATION)).unwrap();
    assert!(evaluation.contains("| held out | 113 | 0.04208 | 1.0000 |"), "{evaluation}");
    for secret in host.secrets.values() {
        assert!(!evaluation.contains(secret));
    }
}

#[test]
fn train_reports_denied_requests() {
    let scratch = Scratch::new("denied");
    prepared(&scratch);
    let error = scratch.train(&mut FakeHost::default()).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the dataset key: denied: dataset-key");
}

#[test]
fn wrong_key_and_missing_key_have_different_errors() {
    let scratch = Scratch::new("wrong-key");
    let mut host = prepared(&scratch);
    host.secrets.insert(DATASET_KEY.into(), Key::generate().to_text().expose().into());
    let error = scratch.train(&mut host).unwrap_err().to_string();
    assert_eq!(error, "cannot open the dataset: this key does not open this file: it was encrypted for another one");

    host.secrets.insert(DATASET_KEY.into(), "hunter2-hunter2".into());
    let error = scratch.train(&mut host).unwrap_err().to_string();
    assert!(error.starts_with("dataset key: the key is not an age identity"), "{error}");
    assert!(!error.contains("hunter2"));
}

#[test]
fn training_parameters_are_applied_and_validated() {
    let scratch = Scratch::new("parameters");
    let mut host = prepared(&scratch);
    host.parameters = BTreeMap::from([("c", "0.01"), ("max-iterations", "3")]);
    scratch.train(&mut host).unwrap();
    let sealed = fs::read(scratch.path("trained").join(SEALED_MODEL)).unwrap();
    let model = open_model(&sealed, &host.secrets[MODEL_KEY]).unwrap();
    assert_eq!((model.c, model.iterations), (0.01, 3));

    for (name, value, expected) in [
        ("c", "0", "the parameter `c` has to be a number above 0"),
        ("c", "inf", "the parameter `c` has to be a number above 0"),
        ("max-iterations", "-1", "the parameter `max-iterations` has to be a whole number above 0"),
    ] {
        host.parameters = BTreeMap::from([(name, value)]);
        assert_eq!(scratch.train(&mut host).unwrap_err().to_string(), expected);
    }
}

#[test]
fn error_names_the_missing_file() {
    let scratch = Scratch::new("missing");
    let mut host = prepared(&scratch);
    fs::remove_file(scratch.path("prepared").join(SEALED_DATASET)).unwrap();
    let error = scratch.train(&mut host).unwrap_err().to_string();
    assert!(error.starts_with("cannot read ") && error.contains(SEALED_DATASET), "{error}");
}

/// Runs `train --from-postgres` on a host with the parameters of a database.
fn train_from_postgres(scratch: &Scratch, host: &mut FakeHost, address: &'static str) -> String {
    host.parameters.extend([("db-address", address), ("db-name", "training"), ("db-table", "breast_cancer")]);
    let folders = Folders { input: &scratch.path("input"), output: &scratch.path("trained") };
    let error = train(host, folders, Source::Postgres).unwrap_err();
    assert!(scratch.files("trained").is_empty());
    for secret in host.secrets.values() {
        assert!(!error.to_string().contains(secret) && !format!("{error:?}").contains(secret), "{error:?}");
    }
    error.to_string()
}

#[test]
fn database_is_contacted_only_with_both_credentials() {
    let scratch = Scratch::new("postgres");
    // Counts the connections.
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let address: &'static str = server.local_addr().unwrap().to_string().leak();

    let denied = |name| format!("cannot read the database user and password: denied: {name}");
    let mut host = FakeHost::default();
    assert_eq!(train_from_postgres(&scratch, &mut host, address), denied(DB_USER));
    host.granted = vec![("get", DB_USER)];
    assert_eq!(train_from_postgres(&scratch, &mut host, address), denied(DB_PASSWORD));
    host.granted.push(("get", DB_PASSWORD));
    host.secrets.insert(DB_USER.into(), "trainer-of-the-vault".into());
    let error = train_from_postgres(&scratch, &mut host, address);
    assert_eq!(error, "cannot read the database user and password: not found: db-password");
    assert!(server.accept().is_err(), "nothing was to be asked of the database yet");

    host.secrets.insert(DB_PASSWORD.into(), "hunter2-hunter2".into());
    // The server closes each connection at once.
    server.set_nonblocking(false).unwrap();
    let accepting = std::thread::spawn(move || drop(server.accept().unwrap()));
    let error = train_from_postgres(&scratch, &mut host, address);
    assert_eq!(error, "the connection to the database has ended");
    accepting.join().unwrap();
}

#[test]
fn database_parameters_are_validated_before_secrets_are_read() {
    let scratch = Scratch::new("postgres-parameters");
    let folders = Folders { input: &scratch.path("input"), output: &scratch.path("trained") };
    let all = [("db-address", "127.0.0.1:5432"), ("db-name", "training"), ("db-table", "breast_cancer")];
    for (name, wrong, expected) in [
        ("db-address", "127.0.0.1", "`ADDRESS:PORT` or `NAME:PORT`, as the policy's `tcp` has it"),
        ("db-name", "", "the name of a database"),
        ("db-table", "a.b.c", "`TABLE` or `SCHEMA.TABLE`"),
    ] {
        let mut host = FakeHost { parameters: BTreeMap::from(all), ..FakeHost::default() };
        for given in [Some(wrong), None] {
            host.parameters.remove(name);
            host.parameters.extend(given.map(|wrong| (name, wrong)));
            let error = train(&mut host, folders, Source::Postgres).unwrap_err().to_string();
            assert_eq!(error, format!("the parameter `{name}` has to be {expected}"));
        }
    }
}
