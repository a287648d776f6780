//! Kind `github_app`: hands the keys of a GitHub App to the family `github`, which mints an installation token with the least
//! permissions at the start of each attempt and names what GitHub refuses. Makes no call itself.
//!
//! Source: docs.github.com, "Generating a JSON Web Token (JWT) for a GitHub App" \[V\]. GitHub generates keys as PKCS#1 in PEM.

use super::{Fetched, MintContext, Minted};
use crate::credentials::private_key::{PrivateKey, UnusableKey};
use crate::credentials::{Credential, Secret};
use crate::model::{Class, Evidence, Failure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Reads the key and checks it.
///
/// # Errors
/// Returns the failure of the key.
pub async fn mint(context: &MintContext<'_>) -> Result<Fetched<Minted>, Failure> {
    let stored = context.secret("key").await?;
    if let Err(unusable) = PrivateKey::from_credential(&stored, None) {
        return Err(match unusable {
            UnusableKey::PassphraseMissing => Failure::new(
                Class::CredentialMissing,
                format!("key of the service principal {} is encrypted", context.name),
                "store the key as GitHub generated it, without a passphrase: openssl rsa -in ENCRYPTED.pem -out KEY.pem",
            ),
            other => context.unusable_key("key", &other),
        });
    }
    let text = stored.plain().or_else(|| stored.any(&["private_key", "privateKey", "key", "pem"]));
    let Some(key) = text.map(pem_text) else { return Err(context.unusable_key("key", &UnusableKey::UnknownForm)) };
    let fields = [("app_id", context.text("app_id")?), ("installation_id", context.text("installation_id")?)];
    let mut evidence = Evidence::new();
    evidence.extend(fields.iter().map(|(name, value)| ((*name).to_string(), (*value).into())));
    let fields = fields.into_iter().map(|(name, value)| (name.to_string(), Secret::new(value.trim().to_string())));
    let credential = Credential::from_fields(fields.chain([("private_key".to_string(), key)]));
    Ok(Fetched { value: Minted { credential, evidence, key_ends_at: None }, valid_for: None })
}

/// The key as a PEM file with line breaks. Environment variables and JSON often have it on one line with the text `\n` between
/// the lines, or the whole file in Base64.
fn pem_text(stored: &Secret) -> Secret {
    let text = stored.expose().trim().trim_matches(['"', '\'']);
    let decoded = match text.contains("-----BEGIN ") {
        true => None,
        false => {
            STANDARD.decode(text.split_whitespace().collect::<String>()).ok().and_then(|bytes| String::from_utf8(bytes).ok())
        }
    };
    let text = decoded.as_deref().unwrap_or(text);
    Secret::new(format!("{}\n", text.replace("\\r", "").replace("\\n", "\n").trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_becomes_a_file_with_lines() {
        let dashes = "-----";
        let file = format!("{dashes}BEGIN RSA PRIVATE KEY{dashes}\nAAAA\nBBBB\n{dashes}END RSA PRIVATE KEY{dashes}\n");
        for stored in
            [file.clone(), file.replace('\n', "\\n"), format!("\"{}\"", file.replace('\n', "\\n")), STANDARD.encode(&file)]
        {
            assert_eq!(pem_text(&Secret::new(stored.clone())).expose(), file, "{stored}");
        }
    }
}
