//! A plain client: what it sends and gets is what goes over the wire.

use std::time::Duration;

use keyvault_server::{Client, Options, Server};
use serde_json::{Value, json};
use ureq::http::{Request, Response, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

/// A server and a client of it.
pub(crate) struct Setting {
    pub(crate) server: Server,
    pub(crate) agent: Agent,
    /// Of the application that may do everything.
    pub(crate) token: String,
}

/// A reply: status, headers by lower-case names, body.
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) headers: ureq::http::HeaderMap,
    pub(crate) text: String,
}

impl Got {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The outer code, and the inner one.
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

    /// The error with this status and these codes.
    #[track_caller]
    pub(crate) fn fails(self, status: u16, code: &str, inner: Option<&str>) -> Self {
        let got = self.expect(status);
        assert_eq!(got.codes(), (code.to_owned(), inner.map(ToOwned::to_owned)));
        got
    }
}

pub(crate) fn start() -> Setting {
    let server = Server::start(Options::default()).unwrap();
    let agent = agent(&server);
    let mut setting = Setting { server, agent, token: String::new() };
    let client = setting.server.client();
    setting.token = setting.login(&client, "https://vault.azure.net/.default");
    setting.server.clear_journal();
    setting
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

fn read(mut response: Response<Body>) -> Result<Got, ureq::Error> {
    Ok(Got {
        status: StatusCode::as_u16(&response.status()),
        headers: response.headers().clone(),
        text: response.body_mut().read_to_string()?,
    })
}

impl Setting {
    pub(crate) fn send(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Got, ureq::Error> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.to_owned()).unwrap();
        read(self.agent.run(request)?)
    }

    /// To the vault, with a token; `path` without `api-version`.
    pub(crate) fn with(&self, token: &str, method: &str, path: &str, body: &Value) -> Result<Got, ureq::Error> {
        let sign = if path.contains('?') { '&' } else { '?' };
        let url = format!("{}{path}{sign}api-version=2025-07-01", self.server.vault_url());
        let bearer = format!("Bearer {token}");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send(method, &url, &[("authorization", &bearer), ("content-type", "application/json")], &body)
    }

    #[track_caller]
    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> Got {
        self.with(&self.token, method, path, body).unwrap()
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Got {
        self.ask("GET", path, &Value::Null)
    }

    #[track_caller]
    pub(crate) fn set(&self, name: &str, value: &str) -> Got {
        self.ask("PUT", &format!("/secrets/{name}"), &json!({ "value": value }))
    }

    #[track_caller]
    pub(crate) fn delete(&self, path: &str) -> Got {
        self.ask("DELETE", path, &Value::Null)
    }

    pub(crate) fn token_endpoint(&self, form: &[(&str, &str)]) -> Got {
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

    /// All items of a list, and how many pages they came in.
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
