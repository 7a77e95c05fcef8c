//! Tokens with RS256 and those claims of Microsoft's version 1 tokens that Key Vault checks.

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

/// A signing key.
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

    /// Returns the claims of a token signed with this key. The caller checks times, issuer and
    /// audience, because they depend on the server's clock and each has its own error.
    pub(crate) fn check<T: DeserializeOwned>(&self, token: &str) -> Option<T> {
        if decode_header(token).ok()?.kid.as_deref() != Some(&self.id) {
            return None;
        }
        verified_claims(token, &self.check, Algorithm::RS256)
    }
}

/// Returns the claims of a token whose signature is valid. Nothing else is checked.
fn verified_claims<T: DeserializeOwned>(token: &str, key: &DecodingKey, algorithm: Algorithm) -> Option<T> {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    decode::<T>(token, key, &validation).ok().map(|token| token.claims)
}

/// A client's certificate. Not `Debug`, because `pem` contains the private key for the client.
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

    /// Returns whether a token names a certificate that signed it.
    pub(crate) fn is_referenced_by(token: &str) -> bool {
        decode_header(token).is_ok_and(|header| header.x5t.is_some() || header.x5t_s256.is_some())
    }

    /// Returns the claims of a token that names this certificate and is signed with its key.
    pub(crate) fn check(&self, token: &str) -> Option<Assertion> {
        let header = decode_header(token).ok()?;
        let (named, method) = match (&header.x5t_s256, &header.x5t) {
            (Some(named), _) => (named, &SHA256),
            (None, Some(named)) => (named, &SHA1_FOR_LEGACY_USE_ONLY),
            (None, None) => return None,
        };
        let fingerprint = digest(method, &self.der);
        // Clients use different padding, and Microsoft's client for Rust uses the other alphabet.
        let named = URL_SAFE_NO_PAD.decode(named.trim_end_matches('=').replace('+', "-").replace('/', "_")).ok()?;
        let is_valid = [Algorithm::RS256, Algorithm::PS256].contains(&header.alg) && named == fingerprint.as_ref();
        is_valid.then(|| verified_claims(token, &self.check, header.alg))?
    }
}

/// The claims that a client signs with its certificate.
#[derive(Deserialize)]
pub(crate) struct Assertion {
    pub(crate) aud: String,
    pub(crate) iss: String,
    pub(crate) sub: String,
    #[serde(default)]
    pub(crate) nbf: Date,
    pub(crate) exp: Date,
}

/// A time in whole seconds, parsed from a number that may have a fraction, as Microsoft's client
/// for Python writes.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(from = "f64")]
pub(crate) struct Date(pub(crate) i64);

impl From<f64> for Date {
    fn from(seconds: f64) -> Self {
        // A number that is too large becomes the largest one.
        Self(seconds.floor() as i64)
    }
}

/// The claims of an access token.
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
    /// The token's number. In Microsoft's tokens this is opaque; a number makes "all tokens up to
    /// now" exact.
    pub(crate) uti: String,
    pub(crate) ver: String,
}

/// The claims of a federated token, which a cluster signs for a workload.
#[derive(Serialize, Deserialize)]
pub(crate) struct Federated {
    pub(crate) iss: String,
    pub(crate) sub: String,
    pub(crate) aud: Vec<String>,
    pub(crate) iat: i64,
    pub(crate) nbf: i64,
    pub(crate) exp: i64,
}

/// The audience of federated tokens.
pub(crate) const EXCHANGE: &str = "api://AzureADTokenExchange";

pub(crate) fn issuer(tenant: &str) -> String {
    format!("https://sts.windows.net/{tenant}/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_tokens_are_accepted() {
        let (ours, theirs) = (Signer::new().unwrap(), Signer::new().unwrap());
        let claims = serde_json::json!({ "sub": "x" });
        let good = ours.sign(&claims).unwrap();
        assert!(ours.check::<serde_json::Value>(&good).is_some());
        assert!(theirs.check::<serde_json::Value>(&good).is_none());

        let (signed, signature) = good.rsplit_once('.').unwrap();
        let changed = format!("{}A.{signature}", &signed[..signed.len() - 1]);
        assert!(ours.check::<serde_json::Value>(&changed).is_none());

        // The same key ID without a signature, and with one that can be made with the public key.
        for algorithm in ["none", "HS256"] {
            use base64::Engine as _;
            use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
            let header = B64.encode(format!(r#"{{"alg":"{algorithm}","kid":"{}"}}"#, ours.id));
            let forged = format!("{header}.{}.{signature}", B64.encode(claims.to_string()));
            assert!(ours.check::<serde_json::Value>(&forged).is_none(), "{algorithm}");
        }
    }
}
