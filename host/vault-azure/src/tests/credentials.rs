//! Tests of the order of credentials, and of the errors if none works.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Tools with fixed output; `None` is not installed.
#[derive(Debug, Default)]
struct FakeTools {
    az: Option<Result<&'static str, &'static str>>,
    azd: Option<Result<&'static str, &'static str>>,
    ran: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Executor for FakeTools {
    async fn run(&self, _: &OsStr, args: &[&OsStr]) -> std::io::Result<Output> {
        let command = args[1].to_string_lossy().into_owned();
        let answer = if command.contains("azd ") { self.azd } else { self.az };
        self.ran.lock().unwrap().push(command);
        let (code, stdout, stderr) = match answer {
            Some(Ok(stdout)) => (0, stdout, ""),
            Some(Err(stderr)) => (1, "", stderr),
            None => (127, "", "sh: not found"),
        };
        Ok(Output { status: ExitStatus::from_raw(code << 8), stdout: stdout.into(), stderr: stderr.into() })
    }
}

const AZ: &str = r#"{"accessToken":"token-of-az","expires_on":99999999999,"tokenType":"Bearer"}"#;
const AZD: &str = r#"{"token":"token-of-azd","expiresOn":"2199-01-01T00:00:00Z"}"#;

/// Returns a transport whose vault accepts any token; `answer` replies for the authority and the
/// metadata address.
fn vault_accepting_any_token(answer: impl Fn(&SeenRequest) -> Reply + Send + Sync + 'static) -> Arc<FakeTransport> {
    FakeTransport::new(move |seen| match (seen.url.starts_with(VAULT), &seen.authorization) {
        (true, Some(_)) => bundle("a", "v"),
        (true, None) => Reply::challenge(AUTHORITY, "https://vault.azure.net"),
        (false, _) => answer(seen),
    })
}

fn open(
    transport: &Arc<FakeTransport>,
    settings: &CredentialSettings,
    tools: FakeTools,
) -> Result<AzureVault, VaultError> {
    AzureVault::with(location(), settings, Arc::clone(transport) as _, Arc::new(tools), retry::Settings::default())
}

async fn get(vault: &AzureVault) -> Result<Stored, VaultError> {
    Vault::get(vault, &grant(Operation::Get, "a")).await
}

/// Returns the last token that was sent to the vault.
fn shown(transport: &FakeTransport) -> String {
    transport.seen().into_iter().filter_map(|seen| seen.authorization).next_back().unwrap()
}

fn kind(kind: CredentialKind) -> CredentialSettings {
    CredentialSettings { kind, ..CredentialSettings::default() }
}

fn metadata_token() -> Reply {
    Reply::Json(
        200,
        serde_json::json!({"access_token": "token-of-the-machine", "expires_on": "99999999999", "token_type": "Bearer",
            "resource": "https://vault.azure.net"}),
    )
}

/// Returns a refusal of the metadata service.
fn refusal(status: u16, reason: &str) -> Reply {
    Reply::Json(status, serde_json::json!({"error": "invalid_request", "error_description": reason}))
}

fn without_identity() -> Reply {
    refusal(400, "Identity not found")
}

#[test]
fn managed_identity_uses_the_metadata_address() {
    paused(async {
        for (settings, query) in [
            (kind(CredentialKind::ManagedIdentity), None),
            (
                CredentialSettings { client_id: Some("cc".into()), ..kind(CredentialKind::ManagedIdentity) },
                Some("client_id=cc"),
            ),
            (
                CredentialSettings { object_id: Some("oo".into()), ..kind(CredentialKind::ManagedIdentity) },
                Some("object_id=oo"),
            ),
            (
                CredentialSettings { resource_id: Some("/s/r".into()), ..kind(CredentialKind::ManagedIdentity) },
                Some("msi_res_id=%2Fs%2Fr"),
            ),
        ] {
            let transport = vault_accepting_any_token(|_| metadata_token());
            let vault = open(&transport, &settings, FakeTools::default()).unwrap();
            get(&vault).await.unwrap();
            let asked = &transport.seen()[1];
            assert!(asked.url.starts_with("http://169.254.169.254/metadata/identity/oauth2/token?"), "{}", asked.url);
            assert!(asked.url.contains("resource=https%3A%2F%2Fvault.azure.net"), "{}", asked.url);
            assert!(query.is_none_or(|query| asked.url.contains(query)), "{}", asked.url);
            assert_eq!(asked.authorization, None);
            assert_eq!(shown(&transport), "Bearer token-of-the-machine");
        }
        let both = CredentialSettings {
            client_id: Some("c".into()),
            object_id: Some("o".into()),
            ..kind(CredentialKind::ManagedIdentity)
        };
        let error = open(&vault_accepting_any_token(|_| Reply::Silent), &both, FakeTools::default()).unwrap_err();
        assert!(error.to_string().contains("takes one of"), "{error}");
    });
}

/// Returns the settings of a pod with a workload identity, and the directory of its token.
fn workload(of: CredentialKind) -> (tempfile::TempDir, CredentialSettings) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "token-of-the-pod").unwrap();
    let (tenant_id, client_id) = (Some("t".into()), Some("c".into()));
    (dir, CredentialSettings { tenant_id, client_id, token_file: Some(file), ..kind(of) })
}

#[test]
fn workload_token_is_sent_to_the_authority() {
    paused(async {
        let (_dir, settings) = workload(CredentialKind::WorkloadIdentity);
        let transport = vault_accepting_any_token(|seen| {
            assert!(seen.body.contains("client_assertion=token-of-the-pod"), "{}", seen.body);
            Reply::token("exchanged")
        });
        get(&open(&transport, &settings, FakeTools::default()).unwrap()).await.unwrap();
        assert_eq!(transport.seen()[1].url, format!("{AUTHORITY}/t/oauth2/v2.0/token"));
        assert_eq!(shown(&transport), "Bearer exchanged");

        let bare = open(&transport, &kind(CredentialKind::WorkloadIdentity), FakeTools::default()).unwrap_err();
        assert!(bare.to_string().contains("azure.workload.identity/use"), "{bare}");
    });
}

#[test]
fn developer_tools_are_used() {
    paused(async {
        let transport = vault_accepting_any_token(|_| panic!("no request expected"));
        let tools = FakeTools { az: Some(Ok(AZ)), ..FakeTools::default() };
        get(&open(&transport, &kind(CredentialKind::AzureCli), tools).unwrap()).await.unwrap();
        assert_eq!(shown(&transport), "Bearer token-of-az");
        let tools = FakeTools { azd: Some(Ok(AZD)), ..FakeTools::default() };
        get(&open(&transport, &kind(CredentialKind::AzureDeveloperCli), tools).unwrap()).await.unwrap();
        assert_eq!(shown(&transport), "Bearer token-of-azd");
    });
}

#[test]
fn auto_skips_only_absent_credentials() {
    paused(async {
        let down = || Reply::Fails(ErrorKind::Connection);
        // Without workload or machine identity: the tools, in order. The one that succeeded stays
        // in use.
        let transport = vault_accepting_any_token(move |_| down());
        let tools = FakeTools { az: None, azd: Some(Ok(AZD)), ..FakeTools::default() };
        let vault = open(&transport, &kind(CredentialKind::Auto), tools).unwrap();
        get(&vault).await.unwrap();
        assert_eq!(shown(&transport), "Bearer token-of-azd");
        assert_eq!(vault.0.credential.answered(), Some(CredentialKind::AzureDeveloperCli));

        // A machine identity has priority over the tools.
        let transport = vault_accepting_any_token(|_| metadata_token());
        let tools = FakeTools { az: Some(Ok(AZ)), ..FakeTools::default() };
        get(&open(&transport, &kind(CredentialKind::Auto), tools).unwrap()).await.unwrap();
        assert_eq!(shown(&transport), "Bearer token-of-the-machine");

        // A refused workload ends the search.
        let (_dir, settings) = workload(CredentialKind::Auto);
        let transport = vault_accepting_any_token(|seen| {
            assert!(seen.url.starts_with(AUTHORITY), "{}", seen.url);
            let error = serde_json::json!({"error_codes": [70_0211], "error_description": "AADSTS700211: No matching federated identity record found"});
            Reply::Json(401, error)
        });
        let tools = FakeTools { az: Some(Ok(AZ)), ..FakeTools::default() };
        let error = get(&open(&transport, &settings, tools).unwrap()).await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("`workload-identity`") && text.contains("AADSTS700211") && text.contains("issuer"),
            "{text}"
        );
    });
}

#[test]
fn auto_stops_at_refused_machine_identity() {
    paused(async {
        for (status, reason, client, ends) in [
            (400, "Identity not found", None, false),
            (400, "Identity not found", Some("c"), true),
            (400, "The identity was revoked", None, true),
            (403, "The identity was revoked", None, true),
        ] {
            let transport = vault_accepting_any_token(move |_| refusal(status, reason));
            let tools = FakeTools { az: Some(Ok(AZ)), ..FakeTools::default() };
            let ran = Arc::clone(&tools.ran);
            let settings = CredentialSettings { client_id: client.map(str::to_owned), ..kind(CredentialKind::Auto) };
            let answer = get(&open(&transport, &settings, tools).unwrap()).await;
            assert_eq!(ran.lock().unwrap().is_empty(), ends, "{status}, {reason}, {client:?}");
            match answer {
                Ok(_) => assert!(!ends, "{status}, {reason}, {client:?}"),
                Err(error) => {
                    let text = error.to_string();
                    assert!(ends && text.contains("`managed-identity`") && !text.contains("azure-cli`:"), "{text}");
                    assert!(client.is_some() || text.contains("was revoked"), "{text}");
                }
            }
        }
    });
}

#[test]
fn auto_stops_at_refused_tool_user() {
    paused(async {
        let down = |_: &SeenRequest| Reply::Fails(ErrorKind::Connection);
        for (said, ends) in [
            ("Please run 'az login' to setup account.", false),
            ("ERROR: AADSTS50173: The grant was revoked. Please run:\naz login --scope x", true),
            ("AADSTS70008: The grant has expired. Please run 'az login' to setup account.", true),
            ("ERROR: User 'p' does not exist in MSAL token cache. Run `az login`.", true),
            ("something else", true),
        ] {
            let transport = vault_accepting_any_token(down);
            let tools = FakeTools { az: Some(Err(said)), azd: Some(Ok(AZD)), ..FakeTools::default() };
            let ran = Arc::clone(&tools.ran);
            let answer = get(&open(&transport, &kind(CredentialKind::Auto), tools).unwrap()).await;
            let asked_azd = ran.lock().unwrap().iter().any(|command| command.contains("azd "));
            assert_eq!(asked_azd, !ends, "{said}");
            match answer {
                Ok(_) => assert!(!ends, "{said}"),
                Err(error) => {
                    let text = error.to_string();
                    assert!(ends && text.contains("`azure-cli`: `az` gave no token ("), "{text}");
                    assert!(!text.contains("no credential for Azure answered"), "{text}");
                }
            }
        }

        let revoked = "ERROR: fetching token: reauthentication required, run `azd auth login` to log in";
        let tools = FakeTools { azd: Some(Err(revoked)), ..FakeTools::default() };
        let error = get(&open(&vault_accepting_any_token(down), &kind(CredentialKind::Auto), tools).unwrap())
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("`azure-developer-cli`: `azd` gave no token (ERROR: fetching token"), "{text}");
        assert!(!text.contains("no credential for Azure answered"), "{text}");
    });
}

#[test]
fn missing_credentials_are_listed_with_remedies() {
    paused(async {
        let transport = vault_accepting_any_token(|_| Reply::Fails(ErrorKind::Connection));
        let tools = FakeTools { azd: Some(Err("ERROR: not logged in, run `azd auth login`")), ..FakeTools::default() };
        let error = get(&open(&transport, &kind(CredentialKind::Auto), tools).unwrap()).await.unwrap_err();
        assert!(matches!(error, VaultError::Refused(_)), "{error}");
        let text = error.to_string();
        for word in [
            "no credential for Azure answered",
            "`workload-identity`: this is not a pod with a workload identity",
            "`managed-identity`: the metadata address does not answer",
            "`azure-cli`: `az` is not on the path",
            "`azure-developer-cli`: `azd` gave no token",
        ] {
            assert!(text.contains(word), "{word}: {text}");
        }
    });
}

#[test]
fn each_kind_has_a_remedy() {
    paused(async {
        let (_dir, application) = application();
        let refused = |_: &SeenRequest| {
            Reply::Json(
                401,
                serde_json::json!({"error_codes": [7_000_215], "error_description": "AADSTS7000215: Invalid client secret"}),
            )
        };
        for (settings, tools, answer, word) in [
            (application, FakeTools::default(), refused as fn(&SeenRequest) -> Reply, "az ad app credential reset"),
            (
                kind(CredentialKind::ManagedIdentity),
                FakeTools::default(),
                |_| without_identity(),
                "has no such identity",
            ),
            (
                kind(CredentialKind::ManagedIdentity),
                FakeTools::default(),
                |_| Reply::Json(400, serde_json::json!({})),
                "refuses a token",
            ),
            (kind(CredentialKind::ManagedIdentity), FakeTools::default(), |_| Reply::Silent, "`azure-cli`"),
            (
                kind(CredentialKind::ManagedIdentity),
                FakeTools::default(),
                |_| Reply::Raw(403, vec![], b"denied".to_vec()),
                "not Azure's",
            ),
            (kind(CredentialKind::AzureCli), FakeTools::default(), |_| Reply::Silent, "install the Azure CLI"),
            (
                kind(CredentialKind::AzureCli),
                FakeTools { az: Some(Err("Please run 'az login' to setup account.")), ..FakeTools::default() },
                |_| Reply::Silent,
                "run `az login`",
            ),
        ] {
            let error = get(&open(&vault_accepting_any_token(answer), &settings, tools).unwrap()).await.unwrap_err();
            assert!(error.to_string().contains(word), "{word}: {error}");
        }
    });
}

#[test]
fn errors_do_not_contain_token_replies() {
    paused(async {
        let long = "Zm9vYmFy".repeat(20);
        let mut failed = 0;
        for body in [
            format!("{{\"access_token\":\"{long}\",\"expires_in\":\"soon\",\"token_type\":\"Bearer\"}}"),
            format!("{{\"access_token\":\"{long}\",\"expires_on\":5}}"),
            format!("{{\"access_token\":[\"{long}\"]}}"),
            format!("\"{long}\""),
            format!("{long} is no JSON"),
        ] {
            let reply = body.clone();
            let transport = vault_accepting_any_token(move |_| {
                Reply::Raw(200, vec![("content-type", "application/json".to_owned())], reply.clone().into_bytes())
            });
            let (_dir, application) = application();
            for settings in [application, kind(CredentialKind::ManagedIdentity)] {
                if let Err(error) = get(&open(&transport, &settings, FakeTools::default()).unwrap()).await {
                    failed += 1;
                    assert!(!format!("{error}{error:?}").contains("Zm9vYmFy"), "{error:?}");
                }
            }
        }
        // A token without a lifetime counts as expired.
        assert_eq!(failed, 9);
    });
}

#[test]
fn only_configured_identity_endpoint_is_allowed() {
    paused(async {
        let location = location();
        let endpoint: url::Url = "http://localhost:4141/msi/token".parse().unwrap();
        let transport = FakeTransport::new(|_| metadata_token());
        let guard = Guard::new(Arc::clone(&transport) as _, location, Some(endpoint), Arc::default(), SECOND);
        for (url, method, through) in [
            ("http://localhost:4141/msi/token?api-version=1", azure_core::http::Method::Get, true),
            ("http://localhost:4141/msi/other", azure_core::http::Method::Get, false),
            ("http://localhost:4142/msi/token", azure_core::http::Method::Get, false),
            ("http://localhost:4141/msi/token", azure_core::http::Method::Post, false),
            ("http://169.254.169.254/metadata/identity/oauth2/token", azure_core::http::Method::Get, true),
            ("http://169.254.169.254/metadata/instance", azure_core::http::Method::Get, false),
            ("http://169.254.169.254:8080/metadata/identity/x", azure_core::http::Method::Get, false),
            ("http://168.63.129.16/metadata/identity/x", azure_core::http::Method::Get, false),
        ] {
            let request = Request::new(url.parse().unwrap(), method);
            assert_eq!(guard.execute_request(&request).await.is_ok(), through, "{url}");
            let mut with_token = Request::new(url.parse().unwrap(), method);
            with_token.insert_header("authorization", "Bearer x");
            assert!(guard.execute_request(&with_token).await.is_err(), "{url}: a token is for the vault alone");
        }
    });
}

/// Returns a transport whose authority numbers its tokens, and whose vault accepts those from
/// `good` on.
fn numbered(good: &Arc<AtomicUsize>, issued: &Arc<AtomicUsize>) -> Arc<FakeTransport> {
    let (good, issued) = (Arc::clone(good), Arc::clone(issued));
    FakeTransport::new(move |seen| {
        if seen.url.starts_with(AUTHORITY) {
            return Reply::token(&format!("token-{}", issued.fetch_add(1, Ordering::SeqCst)));
        }
        let number = seen.authorization.as_ref().and_then(|header| header.rsplit_once('-')?.1.parse::<usize>().ok());
        match number {
            Some(number) if number >= good.load(Ordering::SeqCst) => bundle("a", "v"),
            _ => Reply::challenge(AUTHORITY, "https://vault.azure.net"),
        }
    })
}

// promise: A token that the vault refuses is replaced once, and at a limited rate.
#[test]
fn refused_token_is_replaced_once() {
    paused(async {
        let (good, issued) = (Arc::default(), Arc::default());
        let (_dir, application) = application();
        let transport = numbered(&good, &issued);
        let vault = open(&transport, &application, FakeTools::default()).unwrap();
        get(&vault).await.unwrap();
        get(&vault).await.unwrap();
        assert_eq!(issued.load(Ordering::SeqCst), 1);
        // Revoked: the same call gets another token and succeeds.
        good.store(1, Ordering::SeqCst);
        transport.clear_seen();
        get(&vault).await.unwrap();
        assert_eq!(issued.load(Ordering::SeqCst), 2);
        assert_eq!(transport.lines(), ["GET /secrets/a/"; 2]);
        get(&vault).await.unwrap();
        assert_eq!(issued.load(Ordering::SeqCst), 2);
        // All tokens are refused: no call is retried, and the rate of token requests is limited.
        tokio::time::sleep(SECOND).await;
        good.store(usize::MAX, Ordering::SeqCst);
        transport.clear_seen();
        for _ in 0..50 {
            let error = get(&vault).await.unwrap_err();
            assert!(matches!(error, VaultError::Refused(_)), "{error}");
        }
        assert_eq!(issued.load(Ordering::SeqCst), 3);
        assert_eq!(transport.lines().len(), 100);
    });
}

#[test]
fn replaced_client_secret_is_read_again() {
    paused(async {
        let (good, issued) = (Arc::new(AtomicUsize::new(0)), Arc::default());
        let (_dir, application) = application();
        let transport = numbered(&good, &issued);
        let vault = open(&transport, &application, FakeTools::default()).unwrap();
        get(&vault).await.unwrap();
        let file = application.client_secret_file.as_ref().unwrap();
        std::fs::write(file, "the-new-secret").unwrap();
        good.store(1, Ordering::SeqCst);
        get(&vault).await.unwrap();
        let forms: Vec<_> = transport.seen().into_iter().filter(|seen| seen.url.starts_with(AUTHORITY)).collect();
        assert!(forms.last().unwrap().body.contains("the-new-secret"), "{forms:?}");
        // The file is missing: the error says so.
        std::fs::remove_file(file).unwrap();
        tokio::time::sleep(SECOND).await;
        good.store(2, Ordering::SeqCst);
        let error = get(&vault).await.unwrap_err();
        assert!(matches!(&error, VaultError::Refused(text) if text.contains("cannot read")), "{error}");
    });
}
