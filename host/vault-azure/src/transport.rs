//! The SDK's transport: `reqwest` with rustls. It does not restrict hosts; the guard does.
//!
//! There are two clients: one for the vault and its token authority, which may use the proxy from
//! the environment and requires TLS; one for the metadata address, which never uses a proxy. With
//! an emulator neither uses a proxy, and both trust only the configured certificates.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::error::{Error, ErrorKind};
use azure_core::http::headers::{HeaderName, HeaderValue, Headers};
use azure_core::http::{AsyncRawResponse, Body, HttpClient, Method, Request};
use reqwest::redirect;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use url::Url;

use super::guard::Breach;
use super::location::VaultLocation;
use strongroom_vault::VaultError;

/// Timeout for establishing a connection.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// The same for the metadata address, which is local if it exists.
const METADATA_CONNECT_TIME: Duration = Duration::from_secs(1);

/// Maximum size of a certificate file in bytes.
const CA_FILE_MAX: u64 = 1024 * 1024;

/// The SDK's transport.
#[derive(Debug)]
pub(super) struct Network {
    remote: reqwest::Client,
    local: reqwest::Client,
    /// Origin that replaces the metadata address.
    metadata: Option<Url>,
}

impl Network {
    pub(super) fn new(location: &VaultLocation) -> Result<Self, VaultError> {
        let roots = match location.emulator() {
            Some(emulator) => named_roots(&emulator.ca_file)?,
            None => system_roots()?,
        };
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut remote = client(tls.clone()).connect_timeout(CONNECT_TIME).https_only(true);
        if location.emulator().is_some() {
            remote = remote.no_proxy();
        }
        let local = client(tls).connect_timeout(METADATA_CONNECT_TIME).no_proxy();
        Ok(Self {
            remote: remote.build().map_err(|error| failed(&error))?,
            local: local.build().map_err(|error| failed(&error))?,
            metadata: location.metadata(),
        })
    }
}

/// Returns the common configuration of both clients: no redirects and no retries, which the guard
/// could not see.
fn client(tls: ClientConfig) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .pool_idle_timeout(Duration::from_secs(60))
}

fn failed(error: &dyn std::fmt::Display) -> VaultError {
    VaultError::Unavailable(format!("could not prepare connections to Azure: {error}"))
}

fn system_roots() -> Result<RootCertStore, VaultError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err(VaultError::Unavailable(
            "the system has no certificate authorities to check Azure's certificates with: install them \
             (Debian's package is `ca-certificates`)"
                .into(),
        ));
    }
    Ok(roots)
}

fn named_roots(path: &Path) -> Result<RootCertStore, VaultError> {
    let failed = |cause: &dyn std::fmt::Display| {
        VaultError::Refused(format!("`azure.emulator.ca-file` `{}` cannot be used: {cause}", path.display()))
    };
    if fs::metadata(path).map_err(|cause| failed(&cause))?.len() > CA_FILE_MAX {
        return Err(failed(&"it is larger than 1 MiB"));
    }
    let pem = fs::read(path).map_err(|cause| failed(&cause))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate.map_err(|cause| failed(&cause))?).map_err(|cause| failed(&cause))?;
    }
    if roots.is_empty() {
        return Err(failed(&"there is no certificate in it"));
    }
    Ok(roots)
}

#[async_trait]
impl HttpClient for Network {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let mut url = request.url().clone();
        // The guard allows plain HTTP only to metadata addresses.
        let client = if url.scheme() == "http" { &self.local } else { &self.remote };
        if url.as_str().starts_with(super::guard::METADATA)
            && let Some(instead) = &self.metadata
        {
            url = rerouted(&url, instead)?;
        }
        let mut sent = client.request(method(request.method())?, url);
        for (name, value) in request.headers().iter() {
            sent = sent.header(name.as_str(), value.as_str());
        }
        let Body::Bytes(body) = request.body().clone() else {
            return Err(Error::with_message(ErrorKind::Other, "a request with a stream is not sent"));
        };
        let response = sent.body(body).send().await.map_err(sdk_error)?;
        let headers = headers(response.headers());
        let status = response.status().as_u16().into();
        let body = futures_util::stream::try_unfold(response, |mut response| async move {
            Ok(response.chunk().await.map_err(sdk_error)?.map(|chunk| (chunk, response)))
        });
        Ok(AsyncRawResponse::new(status, headers, Box::pin(body)))
    }
}

/// Returns the URL with another origin.
fn rerouted(url: &Url, instead: &Url) -> azure_core::Result<Url> {
    let mut elsewhere = instead.clone();
    elsewhere.set_path(url.path());
    elsewhere.set_query(url.query());
    Ok(elsewhere)
}

fn sdk_error(error: reqwest::Error) -> Error {
    // Omit the URL: the guard's errors name the recipient.
    let error = error.without_url();
    if let Some(said) = untrusted(&error) {
        return Breach::Untrusted(said).into_error();
    }
    let kind = if error.is_connect() {
        ErrorKind::Connection
    } else if error.is_builder() {
        ErrorKind::Other
    } else {
        ErrorKind::Io
    };
    Error::new(kind, error)
}

/// Returns why a certificate is not trusted, if that caused the error. A retry would not help.
fn untrusted(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(rustls::Error::InvalidCertificate(said)) = error.downcast_ref() {
            return Some(super::error::scrub(&format!("{said:?}")));
        }
        // The `source` of an I/O error skips the error that it wraps.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

fn method(method: Method) -> azure_core::Result<reqwest::Method> {
    Ok(match method {
        Method::Delete => reqwest::Method::DELETE,
        Method::Get => reqwest::Method::GET,
        Method::Head => reqwest::Method::HEAD,
        Method::Patch => reqwest::Method::PATCH,
        Method::Post => reqwest::Method::POST,
        Method::Put => reqwest::Method::PUT,
        _ => return Err(Error::with_message(ErrorKind::Other, "a request with an unknown method is not sent")),
    })
}

/// Returns the headers that are valid text.
fn headers(map: &reqwest::header::HeaderMap) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in map {
        if let Ok(value) = value.to_str() {
            headers.insert(HeaderName::from(name.as_str().to_owned()), HeaderValue::from(value.to_owned()));
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use std::io;

    use rustls::CertificateError;

    use super::*;

    #[test]
    fn untrusted_certificate_is_found_in_any_wrapper() {
        let tls = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let once = io::Error::new(io::ErrorKind::InvalidData, tls());
        let twice = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, tls()));
        for error in [&tls() as &(dyn std::error::Error + 'static), &once, &twice] {
            assert_eq!(untrusted(error).as_deref(), Some("UnknownIssuer"));
        }
        let other = io::Error::other(rustls::Error::DecryptError);
        for error in [&other as &(dyn std::error::Error + 'static), &io::Error::from(io::ErrorKind::ConnectionRefused)]
        {
            assert_eq!(untrusted(error), None);
        }
    }

    #[test]
    fn emulator_certificates_come_from_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let said = |path: &Path| named_roots(path).unwrap_err().to_string();
        assert!(said(&path).contains("cannot be used"));
        fs::write(&path, "no certificate").unwrap();
        assert!(said(&path).contains("no certificate in it"));
        fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(said(&path).contains("cannot be used"));
        fs::write(&path, vec![b'x'; CA_FILE_MAX as usize + 1]).unwrap();
        assert!(said(&path).contains("larger than 1 MiB"));
    }

    #[test]
    fn rerouted_request_keeps_path_and_query() {
        let from = Url::parse("http://169.254.169.254/metadata/identity/oauth2/token?resource=a%2Fb").unwrap();
        let to = rerouted(&from, &Url::parse("https://localhost:8444").unwrap()).unwrap();
        assert_eq!(to.as_str(), "https://localhost:8444/metadata/identity/oauth2/token?resource=a%2Fb");
    }
}
