use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use strongroom_vault_azure::CredentialKind;

fn load(variables: &[(&'static str, &str)], file: Option<&str>) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    if let Some(text) = file {
        fs::write(&path, text).unwrap();
    }
    let variables: HashMap<_, _> = variables.iter().map(|(name, value)| (*name, OsString::from(value))).collect();
    Config::from_variables(&|name| variables.get(name).cloned(), Some(path))
}

fn error(file: &str) -> String {
    load(&[], Some(file)).unwrap_err().to_string()
}

#[test]
fn config_without_file_has_defaults() {
    let config = load(&[], None).unwrap();
    assert_eq!(config.audit_sync, SyncMode::Always);
    assert_eq!(config.repeats, Repeats::Sum);
    assert_eq!(config.ceilings, Ceilings::default());
    assert_eq!(config.cache_ttl, Duration::from_secs(300));
    assert_eq!(config.run_log, 1 << 20);
}

#[test]
fn config_file_with_every_key_is_read() {
    let config = load(
        &[],
        Some(
            "vault = \"local:/srv/vault\"\n[audit]\nsync = \"os\"\nrepeats = \"each\"\n[ceilings]\nmemory = \"1GiB\"\n\
             requests = 5\n[cache]\nttl = \"0s\"\n[runs]\nlog = \"64KiB\"\n",
        ),
    )
    .unwrap();
    assert_eq!(config.audit_sync, SyncMode::Os);
    assert_eq!(config.repeats, Repeats::Each);
    assert_eq!(config.ceilings.memory, Some(1 << 30));
    assert_eq!(config.ceilings.requests, Some(5));
    assert_eq!(config.cache_ttl, Duration::ZERO);
    assert_eq!(config.run_log, 64 << 10);
    assert_eq!(config.vault(None).unwrap(), VaultAddress::Local("/srv/vault".into()));
}

#[test]
fn invalid_config_reports_file_line_and_key() {
    for (file, place, word) in [
        ("\nvalt = \"local:/x\"", "config.toml:2:1", "`valt`"),
        ("[audit]\nsync = \"sometimes\"", "config.toml:2:8", "sync"),
        ("[audit]\nsinc = \"os\"", "config.toml:2:1", "`sinc`"),
        ("[ceilings]\n\nmemory = \"2GB\"", "config.toml:3:10", "memory"),
        ("[ceilings]\ntime = 5", "config.toml:2:8", "time"),
        ("[cache]\nttl = \"soon\"", "config.toml:2:7", "ttl"),
        ("[runs]\nlog = \"1B\"", "config.toml:2:7", "from 4KiB to 64MiB"),
        ("[runs]\nlog = \"65MiB\"", "config.toml:2:7", "\"0B\" to keep no logs"),
        ("[runs]\nlogs = \"1MiB\"", "config.toml:2:1", "`logs`"),
        ("[tenants]", "config.toml:1:2", "`tenants`"),
        ("vault = \"local:relative\"", "config.toml:1", "absolute"),
        ("credential = \"x\"", "config.toml:1:14", "managed-identity"),
        ("[azure]\nclient-secret = \"x\"", "config.toml:2:1", "`client-secret`"),
        ("[azure.emulator]\nport = 1", "config.toml:2:1", "`port`"),
        ("[cache]\ngrace = 5", "config.toml:2:9", "grace"),
    ] {
        let error = error(file);
        assert!(error.contains(place) && error.contains(word), "{file:?}: {error}");
    }
    assert!(!error("x\u{1b}[31m = 1").contains('\u{1b}'));
    assert!(!error("[azure]\nclient-secret = \"hunter2\"").contains("hunter2"));
}

#[test]
fn vault_option_precedes_variable_and_file() {
    let file = Some("vault = \"local:/file\"");
    let local = |path: &str| VaultAddress::Local(path.into());
    let config = load(&[(VAULT, "local:/variable")], file).unwrap();
    assert_eq!(config.vault(Some("local:/option")).unwrap(), local("/option"));
    assert_eq!(config.vault(None).unwrap(), local("/variable"));
    assert_eq!(load(&[], file).unwrap().vault(None).unwrap(), local("/file"));
    assert_eq!(load(&[(VAULT, "")], file).unwrap().vault(None).unwrap(), local("/file"));
    let config = load(&[(HOME, "/home/of/it")], None).unwrap();
    assert_eq!(config.vault(None).unwrap(), local("/home/of/it/vault"));
    assert_eq!(config.home().unwrap().audit(), Path::new("/home/of/it/audit"));
}

#[test]
fn invalid_vault_address_reports_its_source() {
    for (value, word) in [
        ("https://team.vault.azure.net.example", "not a Key Vault"),
        ("https://localhost", "[azure.emulator]"),
        ("/srv/vault", "local:DIR"),
        ("local:", "local:/srv/vault"),
    ] {
        let error = load(&[(VAULT, value)], None).unwrap().vault(None).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("STRONGROOM_VAULT"), "{error}");
    }
    let error = load(&[], None).unwrap().vault(Some("keyring")).unwrap_err().to_string();
    assert!(error.starts_with("`--vault`"), "{error}");
}

#[test]
fn named_config_file_must_exist_and_be_safe() {
    let error = load(&[(CONFIG, "/nowhere/config.toml")], None).unwrap_err();
    assert!(matches!(error, ConfigError::Read { .. }));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let error = load(&[(CONFIG, path.to_str().unwrap())], None).unwrap_err();
    assert!(matches!(error, ConfigError::Insecure(_)));
}

#[test]
fn config_file_of_other_user_is_not_trusted() {
    for (owner, user, trusted) in
        [(1000, 1000, true), (0, 1000, true), (0, 0, true), (1001, 1000, false), (1000, 0, false)]
    {
        assert_eq!(super::file::is_trusted(owner, user), trusted, "{owner} {user}");
    }
}

#[test]
fn relative_environment_paths_become_absolute() {
    let config = load(&[(HOME, "relative"), (PASSPHRASE_FILE, "secret")], None).unwrap();
    assert!(config.home().unwrap().path().is_absolute());
    assert!(config.passphrase_file.unwrap().is_absolute());
}

#[test]
fn invalid_variable_name_returns_none() {
    for name in ["", "=", "A=B", "\0"] {
        assert_eq!(variable(name), None);
    }
}

/// The sample file in the documentation.
const SAMPLE: &str = include_str!("../../../../docs/config.toml");

/// Returns each setting that the file can set, with its value if the file sets it.
fn from_file(file: &str) -> Vec<(&'static str, Option<String>)> {
    let config = load(&[(HOME, "/home/of/it")], Some(file)).unwrap();
    let settings = config.settings(None, None, None).unwrap().into_iter();
    let settable = settings.filter(|setting| !["home", "passphrase-file", "log"].contains(&setting.key));
    settable.map(|setting| (setting.key, setting.value.filter(|_| matches!(setting.origin, Origin::File(_))))).collect()
}

#[test]
fn sample_config_equals_defaults() {
    let (sample, default) = (load(&[], Some(SAMPLE)).unwrap(), load(&[], None).unwrap());
    assert_eq!(
        (sample.audit_sync, sample.repeats, &sample.ceilings, sample.cache_ttl, sample.cache_grace, &sample.vault),
        (
            default.audit_sync,
            default.repeats,
            &default.ceilings,
            default.cache_ttl,
            default.cache_grace,
            &default.vault
        )
    );
    for (key, value) in from_file(SAMPLE) {
        let has_none = key == "vault" || key.starts_with("ceilings.") || key.starts_with("azure.");
        assert!(value.is_some() || has_none, "`{key}` has a default: give it");
    }
}

#[test]
fn sample_config_lists_every_key() {
    let is_key = |line: &str| line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
    let uncommented: Vec<&str> =
        SAMPLE.lines().map(|line| line.strip_prefix("# ").filter(|line| is_key(line)).unwrap_or(line)).collect();
    let set = from_file(&uncommented.join("\n"));
    assert!(set.len() > 10);
    for (key, value) in set {
        assert!(value.is_some(), "`{key}` is missing");
    }
}

#[test]
fn every_setting_reports_its_origin() {
    let variables = [(HOME, "/h"), (PASSPHRASE_FILE, "/p")];
    let config = load(&variables, Some("vault = \"local:/file\"\n[ceilings]\ntime = \"2h\"\n")).unwrap();
    let settings = config.settings(None, None, None).unwrap();
    let found = |key: &str| {
        let setting = settings.iter().find(|setting| setting.key == key).unwrap();
        (setting.value.as_deref(), setting.origin.to_string())
    };
    assert_eq!(found("home"), (Some("/h"), HOME.to_owned()));
    assert_eq!(found("vault"), (Some("local:/file"), "file".to_owned()));
    assert_eq!(found("passphrase-file"), (Some("/p"), PASSPHRASE_FILE.to_owned()));
    assert_eq!(found("ceilings.time"), (Some("2h"), "file".to_owned()));
    assert_eq!(found("ceilings.memory"), (None, "default".to_owned()));
    assert_eq!(found("cache.ttl"), (Some("5m"), "default".to_owned()));
    assert!(matches!(config.file(), Some((path, true)) if path.ends_with("config.toml")));

    let config = load(&[(HOME, "/h"), (VAULT, "local:/variable")], Some("vault = \"local:/file\"")).unwrap();
    let origins = |vault: Option<&str>| {
        let settings = config.settings(vault, Some(Path::new("/option")), None).unwrap();
        settings.into_iter().map(|setting| (setting.key, setting.origin)).collect::<HashMap<_, _>>()
    };
    assert_eq!(origins(None)["vault"], Origin::Variable(VAULT));
    assert_eq!(origins(Some("local:/option"))["vault"], Origin::Option("--vault"));
    assert_eq!(origins(None)["passphrase-file"], Origin::Option("--passphrase-file"));
}

#[test]
fn emulator_without_declaration_is_rejected() {
    let config = load(&[(VAULT, "https://team.vault.azure.net")], None).unwrap();
    let VaultAddress::Azure(place) = config.vault(None).unwrap() else { panic!() };
    assert_eq!(place.to_string(), "https://team.vault.azure.net");
    let file = "vault = \"https://localhost:8443\"\n[azure.emulator]\nhost = \"localhost:8443\"\nca-file = \"/ca.pem\"";
    let VaultAddress::Azure(place) = load(&[], Some(file)).unwrap().vault(None).unwrap() else { panic!() };
    assert!(place.emulator().is_some());
    let half = load(&[], Some("[azure.emulator]\nhost = \"localhost:8443\"")).unwrap().vault(Some("https://x.y"));
    assert!(half.unwrap_err().to_string().contains("`ca-file`"));
}

#[test]
fn credential_option_precedes_file() {
    let file = Some("credential = \"client-secret\"\n[azure]\ntenant-id = \"t\"\nclient-secret-file = \"/s\"");
    let config = load(&[("AZURE_CLIENT_ID", "of the pod"), ("AZURE_TENANT_ID", "other")], file).unwrap();
    let settings = config.credential(None).unwrap();
    assert_eq!((settings.kind, settings.tenant_id.as_deref()), (CredentialKind::ClientSecret, Some("t")));
    assert_eq!(settings.client_id, None, "the pod's identity is for the workload");
    let settings = config.credential(Some("workload-identity")).unwrap();
    assert_eq!((settings.tenant_id.as_deref(), settings.client_id.as_deref()), (Some("t"), Some("of the pod")));
    let error = config.credential(Some("password")).unwrap_err().to_string();
    assert!(error.contains("`--credential`") && error.contains("`managed-identity`"), "{error}");
    let relative = load(&[], Some("[azure]\ntoken-file = \"token\"")).unwrap().credential(None).unwrap_err();
    assert!(relative.to_string().contains("`azure.token-file` must be an absolute path"));
    assert_eq!(load(&[], None).unwrap().credential(None).unwrap().kind, CredentialKind::Auto);
}

#[test]
fn remote_identity_endpoint_is_ignored() {
    for (value, near) in [
        ("http://localhost:4141/msi/token", true),
        ("http://127.0.0.1:41/x", true),
        ("http://169.254.129.2:8081/msi/token", true),
        ("http://evil.example/token", false),
        ("https://localhost/x", false),
        ("http://10.0.0.1/x", false),
        ("nonsense", false),
    ] {
        let config = load(&[("IDENTITY_ENDPOINT", value)], None).unwrap();
        assert_eq!(config.credential(None).unwrap().identity_endpoint.is_some(), near, "{value}");
    }
}

#[test]
fn sign_in_dirs_depend_on_credential_type() {
    let usual = [("HOME", "/people/p")];
    let named = [("HOME", "/people/p"), ("AZURE_CONFIG_DIR", "/a"), ("AZD_CONFIG_DIR", "relative")];
    let relative = std::env::current_dir().unwrap().join("relative");
    for (variables, expected) in [
        (&usual[..], [Path::new("/people/p/.azure"), Path::new("/people/p/.azd")]),
        (&named[..], [Path::new("/a"), relative.as_path()]),
    ] {
        let config = load(variables, None).unwrap();
        for &kind in CredentialKind::ALL {
            let dirs = config.sign_in_dirs(kind);
            match kind {
                CredentialKind::Auto | CredentialKind::AzureCli | CredentialKind::AzureDeveloperCli => {
                    assert_eq!(dirs, expected, "{kind:?}");
                }
                _ => assert!(dirs.is_empty(), "{kind:?}"),
            }
        }
    }
}
