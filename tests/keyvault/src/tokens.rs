//! Tokens: RS256, with the claims of Microsoft's version 1 tokens that Key Vault looks at.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use rcgen::{CertificateParams, DnType, KeyPair};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use rsa::RsaPrivateKey;
use rsa::pkcs1::EncodeRsaPrivateKey;
use rsa::pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::principals::uuid;

/// A key that signs.
pub(crate) struct Signer {
    id: String,
    sign: EncodingKey,
    check: DecodingKey,
    public: Jwk,
}

impl Signer {
    pub(crate) fn new() -> io::Result<Self> {
        let key = RsaPrivateKey::new(&mut rand::thread_rng(), 2048).map_err(io::Error::other)?;
        let pem = key.to_pkcs1_pem(LineEnding::LF).map_err(io::Error::other)?;
        let sign = EncodingKey::from_rsa_pem(pem.as_bytes()).map_err(io::Error::other)?;
        let mut public = Jwk::from_encoding_key(&sign, Algorithm::RS256).map_err(io::Error::other)?;
        let id = uuid();
        public.common.key_id = Some(id.clone());
        let check = DecodingKey::from_jwk(&public).map_err(io::Error::other)?;
        Ok(Self { id, sign, check, public })
    }

    pub(crate) fn public(&self) -> &Jwk {
        &self.public
    }

    pub(crate) fn sign(&self, claims: &impl Serialize) -> io::Result<String> {
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(self.id.clone());
        encode(&header, claims, &self.sign).map_err(io::Error::other)
    }

    /// The claims of a token of this key. Times, issuer and audience are the caller's to check: they go by the server's clock, and each has
    /// an error of its own.
    pub(crate) fn check<T: DeserializeOwned>(&self, token: &str) -> Option<T> {
        if decode_header(token).ok()?.kid.as_deref() != Some(&self.id) {
            return None;
        }
        signed(token, &self.check, Algorithm::RS256)
    }
}

/// The claims of a token whose signature holds, and nothing else checked.
fn signed<T: DeserializeOwned>(token: &str, key: &DecodingKey, algorithm: Algorithm) -> Option<T> {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    decode::<T>(token, key, &validation).ok().map(|token| token.claims)
}

/// A client's certificate. The server keeps what a directory would: the public half. No `Debug`: the private one is in `pem` for the client.
pub(crate) struct Certificate {
    pub(crate) pem: String,
    check: DecodingKey,
    der: Vec<u8>,
}

impl Certificate {
    pub(crate) fn new() -> io::Result<Self> {
        let key = RsaPrivateKey::new(&mut rand::thread_rng(), 2048).map_err(io::Error::other)?;
        let private = key.to_pkcs8_pem(LineEnding::LF).map_err(io::Error::other)?;
        let public = key.to_public_key().to_public_key_pem(LineEnding::LF).map_err(io::Error::other)?;
        let mut params = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
        params.distinguished_name.push(DnType::CommonName, "client of the Key Vault test server");
        let pair = KeyPair::from_pem(&private).map_err(io::Error::other)?;
        let certificate = params.self_signed(&pair).map_err(io::Error::other)?;
        Ok(Self {
            pem: format!("{}{}", private.as_str(), certificate.pem()),
            check: DecodingKey::from_rsa_pem(public.as_bytes()).map_err(io::Error::other)?,
            der: certificate.der().to_vec(),
        })
    }

    /// Whether a token says that it is signed with some certificate.
    pub(crate) fn is_named_by(token: &str) -> bool {
        decode_header(token).is_ok_and(|header| header.x5t.is_some() || header.x5t_s256.is_some())
    }

    /// The claims of a token that names this certificate and is signed with its key.
    pub(crate) fn check(&self, token: &str) -> Option<Assertion> {
        let header = decode_header(token).ok()?;
        let (named, method) = match (&header.x5t_s256, &header.x5t) {
            (Some(named), _) => (named, &SHA256),
            (None, Some(named)) => (named, &SHA1_FOR_LEGACY_USE_ONLY),
            (None, None) => return None,
        };
        let print = digest(method, &self.der);
        // Clients differ in the padding; Microsoft's for Rust writes the other alphabet.
        let named = URL_SAFE_NO_PAD.decode(named.trim_end_matches('=').replace('+', "-").replace('/', "_")).ok()?;
        let known = [Algorithm::RS256, Algorithm::PS256].contains(&header.alg) && named == print.as_ref();
        known.then(|| signed(token, &self.check, header.alg))?
    }
}

/// What a client says of itself and signs with its certificate.
#[derive(Deserialize)]
pub(crate) struct Assertion {
    pub(crate) aud: String,
    pub(crate) iss: String,
    pub(crate) sub: String,
    #[serde(default)]
    pub(crate) nbf: Date,
    pub(crate) exp: Date,
}

/// A time in whole seconds, of a number that may have a fraction: Microsoft's client for Python writes those.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(from = "f64")]
pub(crate) struct Date(pub(crate) i64);

impl From<f64> for Date {
    fn from(seconds: f64) -> Self {
        // A number that is too large becomes the largest.
        Self(seconds.floor() as i64)
    }
}

/// An access token's claims.
#[derive(Serialize, Deserialize)]
pub(crate) struct Access {
    pub(crate) aud: String,
    pub(crate) iss: String,
    pub(crate) iat: i64,
    pub(crate) nbf: i64,
    pub(crate) exp: i64,
    pub(crate) appid: String,
    pub(crate) oid: String,
    pub(crate) sub: String,
    pub(crate) tid: String,
    /// The token's number. Microsoft's is opaque; a number makes "all tokens up to now" exact.
    pub(crate) uti: String,
    pub(crate) ver: String,
}

/// A federated token's claims: what a cluster signs for a workload.
#[derive(Serialize, Deserialize)]
pub(crate) struct Federated {
    pub(crate) iss: String,
    pub(crate) sub: String,
    pub(crate) aud: Vec<String>,
    pub(crate) iat: i64,
    pub(crate) nbf: i64,
    pub(crate) exp: i64,
}

/// The audience that Microsoft asks of federated tokens.
pub(crate) const EXCHANGE: &str = "api://AzureADTokenExchange";

pub(crate) fn issuer(tenant: &str) -> String {
    format!("https://sts.windows.net/{tenant}/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_tokens_pass() {
        let (ours, theirs) = (Signer::new().unwrap(), Signer::new().unwrap());
        let claims = serde_json::json!({ "sub": "x" });
        let good = ours.sign(&claims).unwrap();
        assert!(ours.check::<serde_json::Value>(&good).is_some());
        assert!(theirs.check::<serde_json::Value>(&good).is_none());

        let (signed, signature) = good.rsplit_once('.').unwrap();
        let changed = format!("{}A.{signature}", &signed[..signed.len() - 1]);
        assert!(ours.check::<serde_json::Value>(&changed).is_none());

        // The same key's name with no signature, and with one that whoever knows the public key can make.
        for algorithm in ["none", "HS256"] {
            use base64::Engine as _;
            use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
            let header = B64.encode(format!(r#"{{"alg":"{algorithm}","kid":"{}"}}"#, ours.id));
            let forged = format!("{header}.{}.{signature}", B64.encode(claims.to_string()));
            assert!(ours.check::<serde_json::Value>(&forged).is_none(), "{algorithm}");
        }
    }
}
