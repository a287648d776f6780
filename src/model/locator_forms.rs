//! What a person probably meant by a locator whose form AAM does not know.

use super::locator::{LOCATOR_SCHEMES, Locator, is_env_name};
use super::problem::nearest;
use super::{Class, Failure};

/// Other names that people have for a known scheme.
const ALIASES: [(&str, &str); 20] = [
    ("environ", "env"),
    ("environment", "env"),
    ("envvar", "env"),
    ("var", "env"),
    ("variable", "env"),
    ("path", "file"),
    ("secretfile", "file"),
    ("hashicorp", "vault"),
    ("hashicorpvault", "vault"),
    ("hcv", "vault"),
    ("hvault", "vault"),
    ("kv", "vault"),
    ("bao", "vault"),
    ("openbao", "vault"),
    ("principal", "sp"),
    ("serviceprincipal", "sp"),
    ("grant", "consent"),
    ("oauth", "consent"),
    ("oauth2", "consent"),
    ("ps", "sp"),
];

/// Returns the known scheme that `scheme` is probably a slip for, or another name of: `env` for `ENV`, `envs` or
/// `environment`.
#[must_use]
pub fn nearest_scheme(scheme: &str) -> Option<&'static str> {
    let bare = bare(scheme);
    let exact = LOCATOR_SCHEMES.into_iter().find(|known| *known == bare);
    let alias = || ALIASES.iter().find(|(alias, _)| *alias == bare).map(|(_, known)| *known);
    // Every scheme of two letters is one slip away from `sp`.
    let slip = || nearest(&bare, LOCATOR_SCHEMES.into_iter().filter(|known| *known != "sp"));
    exact.or_else(alias).or_else(|| slip().filter(|_| secret_store(scheme).is_none()))
}

/// A place for secrets that AAM does not read.
#[derive(Debug)]
pub struct SecretStore {
    pub title: &'static str,
    /// A command that prints a secret of the store. Empty if there is none.
    pub command: &'static str,
}

/// The stores by their usual schemes, without `-` and `_`. The commands are those of the vendors' command lines.
const STORES: [(&[&str], SecretStore); 10] = [
    (&["op", "1password", "onepassword"], SecretStore { title: "1Password", command: "op read op://VAULT/ITEM/FIELD" }),
    (
        &["awssm", "awssecretsmanager", "secretsmanager", "asm", "aws", "arn", "awssecrets", "awssecret"],
        SecretStore {
            title: "AWS Secrets Manager",
            command: "aws secretsmanager get-secret-value --secret-id ID --query SecretString --output text",
        },
    ),
    (
        &["ssm", "awsssm", "parameterstore", "awsparameterstore"],
        SecretStore {
            title: "AWS Systems Manager Parameter Store",
            command: "aws ssm get-parameter --name NAME --with-decryption --query Parameter.Value --output text",
        },
    ),
    (
        &[
            "gcpsm",
            "gsm",
            "gcp",
            "gcpsecret",
            "gcpsecrets",
            "gcpsecretmanager",
            "googlesecretmanager",
            "secretmanager",
            "berglas",
        ],
        SecretStore { title: "Google Secret Manager", command: "gcloud secrets versions access latest --secret=NAME" },
    ),
    (
        &["azurekv", "azkv", "akv", "azure", "keyvault", "azurekeyvault"],
        SecretStore {
            title: "Azure Key Vault",
            command: "az keyvault secret show --vault-name VAULT --name NAME --query value --output tsv",
        },
    ),
    (&["doppler"], SecretStore { title: "Doppler", command: "doppler secrets get NAME --plain" }),
    (&["bw", "bws", "bitwarden"], SecretStore { title: "Bitwarden", command: "bw get password ITEM" }),
    (&["keychain", "keyring"], SecretStore { title: "a keychain", command: "" }),
    (
        &["k8s", "kubernetes", "k8ssecret", "kubernetessecret", "docker", "dockersecret"],
        SecretStore { title: "a mounted secret", command: "" },
    ),
    (
        &[
            "akeyless",
            "conjur",
            "cyberark",
            "delinea",
            "infisical",
            "keeper",
            "lastpass",
            "gopass",
            "sops",
            "consul",
            "chamber",
            "kms",
        ],
        SecretStore { title: "this store", command: "" },
    ),
];

/// Returns the secret store that a scheme usually stands for.
#[must_use]
pub fn secret_store(scheme: &str) -> Option<&'static SecretStore> {
    let bare = bare(scheme);
    STORES.iter().find(|(schemes, _)| schemes.contains(&bare.as_str())).map(|(_, store)| store)
}

fn bare(scheme: &str) -> String {
    scheme.chars().filter(|c| !matches!(c, '-' | '_' | '.' | '+')).map(|c| c.to_ascii_lowercase()).collect()
}

/// The failure of a locator whose form AAM does not know.
#[must_use]
pub fn unknown_form(locator: &Locator) -> Failure {
    let text = locator.to_string();
    let fix = fix(&text);
    Failure::new(Class::CredentialMissing, format!("{text} has a form that this version does not know"), fix)
}

/// Returns what to do about a locator of a form that AAM does not know.
fn fix(locator: &str) -> String {
    let forms = super::locator::LOCATOR_FORMS;
    let meant = variable(locator).map(|name| format!("env:{name}")).or_else(|| bare_path(locator));
    if let Some(meant) = meant {
        return format!("did you mean {meant}? set credential_locator to one of the forms {forms}");
    }
    let (scheme, rest) = locator.split_once(':').unwrap_or((locator, ""));
    let near = nearest_scheme(scheme).filter(|near| *near != scheme && !rest.is_empty());
    if let Some(near) = near {
        return format!("did you mean {near}:{rest}? set credential_locator to one of the forms {forms}");
    }
    let stored = "set credential_locator to env:NAME";
    match secret_store(scheme) {
        Some(SecretStore { title, command: "" }) => format!(
            "AAM does not read {title} itself: mount the secret as a file below credentials.files of the policy and write file:PATH, or store it with `aam secret set NAME` and {stored}; the forms are {forms}"
        ),
        Some(SecretStore { title, command }) => format!(
            "AAM does not read {title} itself: store the secret with `{command} | aam secret set NAME` and {stored}; the forms are {forms}"
        ),
        None => format!("set credential_locator to one of the forms {forms}"),
    }
}

/// Returns the environment variable that a text names in the way of a shell (`$NAME`, `${NAME}`, `%NAME%`), of a URL
/// (`env://NAME`), without a scheme, or with characters that no variable has.
#[must_use]
pub fn variable(locator: &str) -> Option<String> {
    let (named, name) = match locator.split_once(':') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("env") => (true, rest.trim_start_matches('/')),
        Some(_) => return None,
        None => (false, locator),
    };
    let wrapped = [("${", "}"), ("$(", ")"), ("%", "%"), ("{{", "}}"), ("$", "")];
    let inner = wrapped.iter().find_map(|(start, end)| name.strip_prefix(start)?.strip_suffix(end));
    let is_shell = inner.is_some();
    let name = inner.unwrap_or(name);
    let is_upper = name.contains('_') && !name.contains(|c: char| c.is_ascii_lowercase());
    if !named && !is_shell && !is_upper {
        return None;
    }
    let plain = name.replace(['-', '.', '/'], "_");
    (!plain.is_empty() && is_env_name(&plain)).then_some(plain)
}

/// Returns the locator of a path that was written without a scheme: a file, or a secret of the vault.
fn bare_path(locator: &str) -> Option<String> {
    let path = locator.contains('/') && !locator.contains(':');
    let scheme = if locator.starts_with(['/', '.', '~']) { "file" } else { "vault" };
    path.then(|| format!("{scheme}:{locator}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Locator;

    #[test]
    fn slips_and_other_names_lead_to_the_form_that_was_meant() {
        for (found, meant) in [
            ("vualt:a/b#c", "vault:a/b#c"),
            ("envs:GITHUB_TOKEN", "env:GITHUB_TOKEN"),
            ("ENV:GITHUB_TOKEN", "env:GITHUB_TOKEN"),
            ("Vault:a", "vault:a"),
            ("environment:A", "env:A"),
            ("hashicorp-vault:a/b", "vault:a/b"),
            ("service_principal:entra", "sp:entra"),
            ("concent:zoom", "consent:zoom"),
            ("File:/run/x", "file:/run/x"),
            ("env:GITHUB-TOKEN", "env:GITHUB_TOKEN"),
            ("env://GITHUB_TOKEN", "env:GITHUB_TOKEN"),
            ("env:${GITHUB_TOKEN}", "env:GITHUB_TOKEN"),
            ("GITHUB_TOKEN", "env:GITHUB_TOKEN"),
            ("$GITHUB_TOKEN", "env:GITHUB_TOKEN"),
            ("%GITHUB_TOKEN%", "env:GITHUB_TOKEN"),
            ("/run/secrets/github", "file:/run/secrets/github"),
            ("secret/data/github#token", "vault:secret/data/github#token"),
        ] {
            assert!(fix(found).starts_with(&format!("did you mean {meant}? ")), "{}", fix(found));
            assert!(Locator::parse(meant).is_ok_and(|locator| locator.is_known()), "{meant}");
        }
        for (found, part) in [
            ("op://v/i/f", "`op read op://VAULT/ITEM/FIELD | aam secret set NAME`"),
            ("aws-sm:x", "AWS Secrets Manager"),
            ("arn:aws:secretsmanager:eu-central-1:1:secret:x", "AWS Secrets Manager"),
            ("keychain:x", "mount the secret as a file"),
            ("foo:bar", "one of the forms env:NAME"),
            ("env:", "one of the forms env:NAME"),
            ("env:1", "one of the forms env:NAME"),
            ("github-token", "one of the forms env:NAME"),
        ] {
            assert!(fix(found).contains(part) && !fix(found).contains("did you mean"), "{}", fix(found));
            assert!(fix(found).contains("consent:NAME"), "every form is listed: {}", fix(found));
        }
    }
}
