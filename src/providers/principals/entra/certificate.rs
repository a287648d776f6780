//! The certificate with which an app proves itself, and its private key.

use super::day;
use crate::credentials::private_key::{PrivateKey, UnusableKey};
use crate::credentials::{Credential, Secret};
use crate::model::{Class, Failure, Timestamp};
use crate::providers::principals::MintContext;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use serde_json::{Map, Value};
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};

/// A certificate together with its key.
pub struct SigningCertificate {
    pub key: PrivateKey,
    /// When the certificate ends (`notAfter`).
    pub ends_at: Timestamp,
    der: Vec<u8>,
}

impl SigningCertificate {
    /// Reads certificate and key: both from the key `certificate` of the policy, or the private key from `key`.
    ///
    /// # Errors
    /// Returns `CredentialMissing` if one of them cannot be used or if they do not belong together, and
    /// `CredentialRejected` if the certificate has ended.
    pub async fn load(context: &MintContext<'_>) -> Result<SigningCertificate, Failure> {
        let stored = context.secret("certificate").await?;
        let key = match context.principal.locator("key") {
            Some(_) => context.private_key("key").await?,
            None => context.private_key("certificate").await.map_err(|failure| name_the_key(context, failure))?,
        };
        let found = certificates(&stored);
        let of_key = found.iter().find(|(_, info)| *info == key.public_key_info());
        let unusable = |what: &str, fix: String| {
            Err(Failure::new(Class::CredentialMissing, format!("{} {what}", context.stored("certificate")), fix))
        };
        let Some((der, _)) = of_key else {
            return match found.is_empty() {
                true => unusable(
                    "does not contain a certificate",
                    "store it as PEM, with its lines -----BEGIN CERTIFICATE----- and -----END CERTIFICATE-----".to_string(),
                ),
                false => unusable(
                    "does not belong to the private key: the certificate has another public key",
                    "store certificate and key that were made together; openssl x509 -in CERT.pem -noout -pubkey and openssl pkey \
                     -in KEY.pem -pubout must print the same"
                        .to_string(),
                ),
            };
        };
        let Ok(certificate) = Certificate::from_der(der) else {
            return unusable("is damaged", "store the certificate again, unchanged".to_string());
        };
        let end = certificate.tbs_certificate.validity.not_after.to_unix_duration().as_millis();
        let ends_at = Timestamp(i64::try_from(end).unwrap_or(i64::MAX));
        if ends_at <= context.providers.clock.now() {
            let title = format!("{} ended on {}", context.stored("certificate"), day(ends_at));
            let fix = format!(
                "create a new certificate, upload it (entra.microsoft.com > App registrations > {} > Certificates & secrets), and \
                 store it with its key in place of the old one",
                context.text("client_id")?
            );
            return Err(Failure::new(Class::CredentialRejected, title, fix));
        }
        Ok(SigningCertificate { key, ends_at, der: der.clone() })
    }

    /// The header of an assertion: thumbprints by SHA-256, as Microsoft documents it now, and by SHA-1, as older clouds
    /// expect it.
    #[must_use]
    pub fn header(&self) -> Map<String, Value> {
        let encoded = |algorithm| Value::from(URL_SAFE_NO_PAD.encode(digest(algorithm, &self.der)));
        let names = [("x5t#S256", encoded(&SHA256)), ("x5t", encoded(&SHA1_FOR_LEGACY_USE_ONLY))];
        names.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
    }

    /// Returns the thumbprint as the portal shows it: SHA-1 in upper-case hexadecimal.
    #[must_use]
    pub fn sha1_hex(&self) -> String {
        data_encoding::HEXUPPER.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &self.der).as_ref())
    }
}

/// Says that the private key may also be stored apart.
fn name_the_key(context: &MintContext<'_>, mut failure: Failure) -> Failure {
    if failure.title.ends_with(&UnusableKey::Certificate.message()) {
        failure.fix = format!(
            "store the private key in the same PEM file, or write key: LOCATOR beside certificate in credentials.principals.{}",
            context.name
        );
    }
    failure
}

/// Returns the certificates of the stored text as DER, each with its public key.
fn certificates(stored: &Credential) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    for text in stored.values().map(Secret::expose) {
        let sections = pem::parse_many(crate::credentials::private_key::unwrapped(text).as_bytes()).unwrap_or_default();
        for section in sections.iter().filter(|section| section.tag().ends_with("CERTIFICATE")) {
            let der = section.contents();
            let info = Certificate::from_der(der).and_then(|it| it.tbs_certificate.subject_public_key_info.to_der());
            // A damaged certificate belongs to no key.
            found.push((der.to_vec(), info.unwrap_or_default()));
        }
    }
    found
}
