//! When a credential ends, where it says so itself. Pure.

use super::secret::Credential;
use crate::model::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_cert::Certificate;
use x509_cert::der::Decode;

/// Fields of a JSON credential in which people and tools note its end.
const END_FIELDS: [&str; 6] = ["expires_at", "expires_on", "expiration", "expires", "expiry", "valid_until"];

/// The least number of seconds since 1970 that is taken for a time: the year 2001. A smaller number is a duration.
const MIN_SECONDS: i64 = 1_000_000_000;
/// From this number on, a time is in milliseconds.
const MIN_MILLISECONDS: i64 = 100_000_000_000;

/// Returns when the first part of `credential` ends: the claim `exp` of a JSON Web Token (RFC 7519), the `notAfter` of a
/// certificate (RFC 5280), or a field such as `expires_at`. Signatures are not verified, because this is only a warning for
/// the owner.
#[must_use]
pub fn known_end(credential: &Credential) -> Option<Timestamp> {
    let ends = credential.values().filter_map(|secret| of_token(secret.expose()).or_else(|| of_certificate(secret.expose())));
    let noted = END_FIELDS.iter().filter_map(|name| noted(credential.field(name)?.expose()));
    ends.chain(noted).min()
}

fn of_token(text: &str) -> Option<Timestamp> {
    let mut parts = text.trim().split('.');
    let (_, claims, _) = (parts.next().filter(|head| head.starts_with("eyJ"))?, parts.next()?, parts.next()?);
    let claims: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    #[expect(clippy::cast_possible_truncation, reason = "a fraction of a second does not matter, and a cast saturates")]
    let seconds = claims.get("exp").and_then(|exp| exp.as_i64().or_else(|| exp.as_f64().map(|exp| exp as i64)))?;
    (seconds >= MIN_SECONDS).then(|| Timestamp(seconds.saturating_mul(1000)))
}

fn of_certificate(text: &str) -> Option<Timestamp> {
    if !text.contains("-----BEGIN CERTIFICATE-----") {
        return None;
    }
    let der = CertificateDer::from_pem_slice(text.as_bytes()).ok()?;
    let certificate = Certificate::from_der(&der).ok()?;
    let after = certificate.tbs_certificate.validity.not_after.to_unix_duration();
    i64::try_from(after.as_millis()).ok().map(Timestamp)
}

fn noted(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(number) = text.parse::<i64>() {
        return match number {
            MIN_MILLISECONDS.. => Some(Timestamp(number)),
            MIN_SECONDS.. => Some(Timestamp(number.saturating_mul(1000))),
            _ => None,
        };
    }
    Timestamp::parse(text).or_else(|_| Timestamp::parse(&format!("{text}T23:59:59Z"))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Secret;

    fn end(raw: &str) -> Option<String> {
        known_end(&Credential::read(Secret::new(raw.to_string()))).map(Timestamp::rfc3339)
    }

    fn token(claims: &str) -> String {
        format!("eyJhbGciOiJub25lIn0.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn a_token_a_certificate_and_a_noted_field_say_when_they_end() {
        assert_eq!(end(&token(r#"{"exp": 1830297600}"#)).as_deref(), Some("2028-01-01T00:00:00.000Z"));
        assert_eq!(end(&token(r#"{"exp": 1830297600.5}"#)).as_deref(), Some("2028-01-01T00:00:00.000Z"));
        for noted in [r#""2028-01-01T00:00:00Z""#, "1830297600", "1830297600000"] {
            let raw = format!(r#"{{"token": "some-value", "expires_at": {noted}}}"#);
            assert_eq!(end(&raw).as_deref(), Some("2028-01-01T00:00:00.000Z"), "{raw}");
        }
        assert_eq!(end(r#"{"token": "x", "expires": "2028-01-01"}"#).as_deref(), Some("2028-01-01T23:59:59.000Z"));
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(vec!["a.example".to_string()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(2028, 1, 1);
        let pem = format!("{}{}", key.serialize_pem(), parameters.self_signed(&key).unwrap().pem());
        assert_eq!(end(&pem).as_deref(), Some("2028-01-01T00:00:00.000Z"));
    }

    #[test]
    fn other_texts_say_nothing() {
        for raw in [
            "ghp_plain",
            "a.b.c",
            "eyJ.eyJ.x",
            r#"{"token": "x", "expires_in": 3600, "expires": 3600}"#,
            "",
            "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----",
        ] {
            assert_eq!(end(raw), None, "{raw}");
        }
        assert_eq!(end(&token(r#"{"exp": "soon"}"#)), None);
    }
}
