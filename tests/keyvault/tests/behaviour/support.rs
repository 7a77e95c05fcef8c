//! A plain HTTP client, which shows exactly what is sent and received.

use std::time::Duration;

use keyvault_server::{Client, Options, Server};
use serde_json::{Value, json};
use ureq::http::{Request, Response, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

/// A server and a client for it.
pub(crate) struct TestServer {
    pub(crate) server: Server,
    pub(crate) agent: Agent,
    /// The token of the application with all permissions.
    pub(crate) token: String,
}

/// A received reply.
pub(crate) struct ReceivedReply {
    pub(crate) status: u16,
    pub(crate) headers: ureq::http::HeaderMap,
    pub(crate) text: String,
}

impl ReceivedReply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// Returns the code and the inner code of an error.
    pub(crate) fn codes(&self) -> (String, Option<String>) {
        let error = self.json()["error"].clone();
        (error["code"].as_str().unwrap().to_owned(), error["innererror"]["code"].as_str().map(ToOwned::to_owned))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    /// Asserts that the reply is an error with this status and these codes.
    #[track_caller]
    pub(crate) fn fails(self, status: u16, code: &str, inner: Option<&str>) -> Self {
        let reply = self.expect(status);
        assert_eq!(reply.codes(), (code.to_owned(), inner.map(ToOwned::to_owned)));
        reply
    }
}

pub(crate) fn start() -> TestServer {
    let server = Server::start(Options::default()).unwrap();
    let agent = agent(&server);
    let mut server_under_test = TestServer { server, agent, token: String::new() };
    let client = server_under_test.server.client();
    server_under_test.token = server_under_test.login(&client, "https://vault.azure.net/.default");
    server_under_test.server.clear_journal();
    server_under_test
}

pub(crate) fn agent(server: &Server) -> Agent {
    let root = Certificate::from_pem(server.authority_certificate().as_bytes()).unwrap();
    let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[root])).build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .max_redirects(0)
        .proxy(None)
        .timeout_global(Some(Duration::from_secs(30)))
        .build();
    config.into()
}

fn read(mut response: Response<Body>) -> Result<ReceivedReply, ureq::Error> {
    Ok(ReceivedReply {
        status: StatusCode::as_u16(&response.status()),
        headers: response.headers().clone(),
        text: response.body_mut().read_to_string()?,
    })
}

impl TestServer {
    pub(crate) fn send(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<ReceivedReply, ureq::Error> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.to_owned()).unwrap();
        read(self.agent.run(request)?)
    }

    /// Sends a request to the vault with a token. Adds `api-version` to the path.
    pub(crate) fn with(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Result<ReceivedReply, ureq::Error> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let url = format!("{}{path}{separator}api-version=2025-07-01", self.server.vault_url());
        let bearer = format!("Bearer {token}");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send(method, &url, &[("authorization", &bearer), ("content-type", "application/json")], &body)
    }

    #[track_caller]
    pub(crate) fn request(&self, method: &str, path: &str, body: &Value) -> ReceivedReply {
        self.with(&self.token, method, path, body).unwrap()
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> ReceivedReply {
        self.request("GET", path, &Value::Null)
    }

    #[track_caller]
    pub(crate) fn set(&self, name: &str, value: &str) -> ReceivedReply {
        self.request("PUT", &format!("/secrets/{name}"), &json!({ "value": value }))
    }

    #[track_caller]
    pub(crate) fn delete(&self, path: &str) -> ReceivedReply {
        self.request("DELETE", path, &Value::Null)
    }

    pub(crate) fn token_endpoint(&self, form: &[(&str, &str)]) -> ReceivedReply {
        let url = format!("{}/{}/oauth2/v2.0/token", self.server.authority_url(), self.server.tenant());
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        self.send("POST", &url, &[("content-type", "application/x-www-form-urlencoded")], &body).unwrap()
    }

    pub(crate) fn login(&self, client: &Client, scope: &str) -> String {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &client.id),
            ("client_secret", &client.secret),
            ("scope", scope),
        ];
        self.token_endpoint(&form).expect(200).json()["access_token"].as_str().unwrap().to_owned()
    }

    /// Returns all items of a list and the number of its pages.
    pub(crate) fn all(&self, path: &str) -> (Vec<Value>, usize) {
        let (mut items, mut pages) = (Vec::new(), 0);
        let mut url = format!("{}{path}?api-version=7.6", self.server.vault_url());
        let bearer = format!("Bearer {}", self.token);
        loop {
            let page = self.send("GET", &url, &[("authorization", &bearer)], "").unwrap().expect(200).json();
            items.extend(page["value"].as_array().unwrap().iter().cloned());
            pages += 1;
            match page["nextLink"].as_str() {
                Some(next) => url = next.to_owned(),
                None => return (items, pages),
            }
        }
    }
}
