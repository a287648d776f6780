//! Detects secrets in intents. Intents are stored and displayed, so they must not contain secrets.

/// Prefixes of vendors' credentials, from the vendors' documentation and the lists of public secret scanners.
const PREFIXES: [&str; 63] = [
    // Slack.
    "xoxa-",
    "xoxb-",
    "xoxe",
    "xoxp-",
    "xoxr-",
    "xoxs-",
    "xapp-",
    // GitHub and GitLab.
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "gldt-",
    "glrt-",
    "gloas-",
    // Stripe and Shopify.
    "sk_live_",
    "sk_test_",
    "rk_live_",
    "rk_test_",
    "whsec_",
    "shpat_",
    "shpca_",
    "shppa_",
    "shpss_",
    // HashiCorp Vault: service, batch and recovery tokens.
    "hvs.",
    "hvb.",
    "hvr.",
    // Google: access token, refresh token, API key, client secret.
    "ya29.",
    "1//0",
    "AIza",
    "GOCSPX-",
    // DigitalOcean.
    "dop_v1_",
    "doo_v1_",
    "dor_v1_",
    // Package registries.
    "npm_",
    "pypi-AgE",
    "rubygems_",
    "dckr_pat_",
    // Atlassian.
    "ATATT3x",
    "ATCTT3x",
    "ATBB",
    // Language models.
    "sk-ant-",
    "sk-proj-",
    "sk-svcacct-",
    // Others.
    "SG.",
    "glsa_",
    "glc_",
    "NRAK-",
    "lin_api_",
    "ntn_",
    "pat-na1-",
    "pat-eu1-",
    "xkeysib-",
    "figd_",
    "sbp_",
    "sb_secret_",
    "sntrys_",
    "PMAK-",
    "ops_eyJ",
    "dp.st.",
    "dp.pt.",
];

/// What stands for the password in connection strings that a dashboard shows (Supabase, "Connect").
const PASSWORD_PLACEHOLDER: &str = "[YOUR-PASSWORD]";

/// Parts of the names of secret fields, without `_`, `-` and `.`.
const NAMES: [&str; 11] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "privatekey",
    "accesskey",
    "credential",
    "signature",
    "sessionkey",
];

/// Short names of secret fields, which must match as a whole.
const SHORT_NAMES: [&str; 4] = ["pwd", "pass", "pw", "sig"];

/// Whether a field or parameter of this name usually holds a secret.
#[must_use]
pub fn secret_name(name: &str) -> bool {
    let bare: String = name.chars().filter(|c| !matches!(c, '_' | '-' | '.')).map(|c| c.to_ascii_lowercase()).collect();
    SHORT_NAMES.contains(&bare.as_str()) || NAMES.iter().any(|part| bare.contains(part))
}

/// Whether a text looks like a credential: it has a vendor's prefix, or it is a JWT or a private key.
#[must_use]
pub fn secret_value(text: &str) -> bool {
    let text = text.trim();
    let prefixed = text.len() >= 12 && PREFIXES.iter().any(|prefix| text.starts_with(prefix));
    let jwt = text.starts_with("eyJ") && text.matches('.').count() == 2;
    let aws = text.len() == 20
        && (text.starts_with("AKIA") || text.starts_with("ASIA"))
        && text.bytes().all(|b| b.is_ascii_alphanumeric());
    prefixed || jwt || aws || (text.contains("-----BEGIN ") && text.contains("PRIVATE KEY"))
}

/// Whether a URL contains a password: `scheme://user:password@host`, `?password=…`, `;pwd=…` or
/// `jdbc:oracle:thin:user/password@…`.
#[must_use]
pub fn secret_in_address(text: &str) -> bool {
    userinfo(text) || parameter(text) || oracle(text)
}

fn userinfo(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else {
        return false;
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let Some((before, _)) = rest.rsplit_once('@') else {
        return false;
    };
    let Some((_, after)) = before.split_once(':') else {
        return false;
    };
    // `host:8080/a@b` is a port and a path, not a password.
    let port = after.split_once('/').is_some_and(|(port, _)| port.bytes().all(|b| b.is_ascii_digit()));
    !after.is_empty() && !port && after != PASSWORD_PLACEHOLDER
}

fn parameter(text: &str) -> bool {
    let Some(start) = text.find(['?', ';', '#', ' ', '&']) else {
        return text.split_once('=').is_some_and(is_secret_pair);
    };
    let pairs = text.get(start..).unwrap_or_default();
    pairs.split(['?', '&', ';', '#', ' ']).chain(text.get(..start)).filter_map(|pair| pair.split_once('=')).any(is_secret_pair)
}

fn is_secret_pair((name, value): (&str, &str)) -> bool {
    !value.is_empty() && secret_name(name.rsplit(['/', ':']).next().unwrap_or(name))
}

fn oracle(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let Some(rest) = lower.strip_prefix("jdbc:oracle:") else {
        return false;
    };
    rest.split_once('@').and_then(|(before, _)| before.split_once('/')).is_some_and(|(_, password)| !password.is_empty())
}

/// Whether a message may repeat this text: it is short, consists of letters, and does not look like a secret.
#[must_use]
pub fn may_be_shown(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 24
        && !secret_value(text)
        && text.chars().all(|c| c.is_ascii_alphabetic() || matches!(c, '_' | '-' | ' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_a_password_are_distinguished_from_those_without() {
        for text in [
            "postgres://reader:hunter@db.example/app",
            "postgres://reader:hun/ter@db.example/app",
            "postgres://reader:[hunter]@db.example/app",
            "https://x:y@host.example",
            "jdbc:postgresql://db.example/app?user=reader&password=x",
            "jdbc:sqlserver://db.example;user=reader;Password=x",
            "host=db.example password=x",
            "password=x",
            "jdbc:oracle:thin:scott/x@db.example:1521",
            "https://store.example/b?X-Amz-Signature=x",
            "https://store.example/b?sig=x",
        ] {
            assert!(secret_in_address(text), "{text}");
        }
        for text in [
            "postgres://reader@db.example:5432/app",
            "postgresql://postgres.ref:[YOUR-PASSWORD]@db.example:5432/postgres",
            "postgres://db.example/app?sslmode=require",
            "https://host.example:8080/a@b",
            "https://host.example/users/a@b.example",
            "jdbc:sqlite:var/aam.db",
            "acme",
            "s3://bucket/prefix",
            "owner@acme.example",
            "jdbc:oracle:thin:@//db.example:1521/app",
        ] {
            assert!(!secret_in_address(text), "{text}");
        }
    }

    #[test]
    fn vendor_prefixes_are_secrets_and_ordinary_text_is_not() {
        assert!(secret_value(&format!("{}{}", "xoxb-", "0".repeat(12))));
        assert!(secret_value(&format!("{}{}", "AKIA", "A".repeat(16))));
        assert!(secret_value("eyJx.y.z"));
        assert!(!secret_value("Sanctioned") && !secret_value("ghp_") && !secret_value("acme.example"));
        assert!(secret_name("client_secret") && secret_name("API-Key") && secret_name("pwd"));
        assert!(!secret_name("department") && !secret_name("keyboard") && !secret_name("passenger"));
        assert!(may_be_shown("critical") && !may_be_shown("r00t") && !may_be_shown(""));
    }
}
