//! The kinds of service principals and the keys that each has in the policy, as data. The parser, `aam check --effective`,
//! `aam families` and the documentation are made from this table.

use super::Principal;

/// One kind of service principal.
#[derive(Debug)]
pub struct KindSpec {
    /// The value of `kind` in the policy.
    pub name: &'static str,
    pub about: &'static str,
    pub keys: &'static [KeySpec],
    /// Groups of keys of which exactly one must be written.
    pub one_of: &'static [&'static [&'static str]],
    /// The calls that are made for a credential of this kind.
    pub calls: &'static [CallSpec],
}

/// One call that is made for a credential.
#[derive(Debug)]
pub struct CallSpec {
    pub method: &'static str,
    /// `{key}` is the value of a key, and `{key|default}` the default if the key is not written. `{sts_endpoint}` is the
    /// endpoint of AWS STS that the keys together lead to, and `{netsuite_token_url}` the token endpoint of a
    /// NetSuite account.
    pub url: &'static str,
    /// The call is made only if one of these keys is written; always, if the list is empty. `key=value` asks for a value too.
    pub when: &'static [&'static str],
}

impl Principal {
    /// Returns the calls that are made for a credential, as method and URL, for `aam plan` and `aam policy diff`.
    #[must_use]
    pub fn calls(&self) -> Vec<(&'static str, String)> {
        let Some(spec) = kind_spec(self.kind) else { return Vec::new() };
        let written = |name: &&str| match name.split_once('=') {
            Some((key, value)) => self.text(key) == Some(value),
            None => self.settings.contains_key(*name),
        };
        let made = spec.calls.iter().filter(|call| call.when.is_empty() || call.when.iter().any(written));
        made.map(|call| (call.method, self.fill(call.url))).collect()
    }

    /// Fills the values of the keys into a template of [`CallSpec::url`].
    #[must_use]
    pub fn fill(&self, template: &str) -> String {
        let mut out = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            let (inside, behind) = after.split_once('}').unwrap_or((after, ""));
            let (key, default) = inside.split_once('|').unwrap_or((inside, ""));
            out.push_str(before);
            match key {
                "sts_endpoint" => out.push_str(&super::aws::sts_endpoint(self).url),
                "netsuite_token_url" => out.push_str(&super::netsuite::token_url(self)),
                _ => out.push_str(self.text(key).unwrap_or(default)),
            }
            rest = behind;
        }
        out + rest
    }
}

/// One key of a kind.
#[derive(Debug)]
pub struct KeySpec {
    pub name: &'static str,
    pub form: KeyForm,
    pub required: bool,
    pub about: &'static str,
}

/// The form of a key's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyForm {
    Text,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// An https URL, or an http URL, without user info.
    Url,
    /// The path of a file that is read again at each use.
    File,
    /// A locator of the forms `env:`, `file:` and `vault:`.
    Locator,
    List,
    Flag,
    /// The day on which the key or secret ends, `YYYY-MM-DD`.
    Date,
}

/// Returns the kind called `name`.
#[must_use]
pub fn kind_spec(name: &str) -> Option<&'static KindSpec> {
    KIND_SPECS.iter().find(|spec| spec.name == name)
}

const fn must(name: &'static str, form: KeyForm, about: &'static str) -> KeySpec {
    KeySpec { name, form, required: true, about }
}

const fn may(name: &'static str, form: KeyForm, about: &'static str) -> KeySpec {
    KeySpec { name, form, required: false, about }
}

const fn call(method: &'static str, url: &'static str, when: &'static [&'static str]) -> CallSpec {
    CallSpec { method, url, when }
}

/// The key that every kind has.
pub const EXPIRES: KeySpec = may("expires", KeyForm::Date, "the day on which the key or secret ends, as the vendor shows it");

const SCOPES: KeySpec = may("scopes", KeyForm::List, "the scopes to ask for instead of the family's least privilege");

/// All kinds.
pub const KIND_SPECS: &[KindSpec] = &[
    KindSpec {
        name: "oauth2_client",
        about: "the client credentials of any OAuth 2 server",
        keys: &[
            must("token_url", KeyForm::Url, "the token endpoint"),
            must("client_id", KeyForm::Text, "the id of the client"),
            may(
                "auth",
                KeyForm::Choice(&["client_secret_basic", "client_secret_post", "private_key_jwt"]),
                "how the client proves itself",
            ),
            may("secret", KeyForm::Locator, "where the client secret is stored"),
            may(
                "refresh_token",
                KeyForm::Locator,
                "where a refresh token that the server does not replace is stored, for servers without client credentials",
            ),
            may("key", KeyForm::Locator, "where the private key is stored, PEM"),
            may("passphrase", KeyForm::Locator, "of an encrypted key"),
            may("key_id", KeyForm::Text, "the kid of the key"),
            may(
                "algorithm",
                KeyForm::Choice(&["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]),
                "of the signature",
            ),
            may(
                "audience",
                KeyForm::Text,
                "the audience of the assertion, if it is not the token endpoint; with a secret, the parameter audience",
            ),
            may(
                "resource",
                KeyForm::Text,
                "the resource to ask for; sent as resource and, unless audience is written, as audience",
            ),
            SCOPES,
        ],
        one_of: &[&["secret", "key"]],
        calls: &[call("POST", "{token_url}", &[])],
    },
    KindSpec {
        name: "entra",
        about: "an app registration of Microsoft Entra ID",
        keys: &[
            must("tenant", KeyForm::Text, "the tenant's id or domain"),
            must("client_id", KeyForm::Text, "the application (client) id"),
            may("secret", KeyForm::Locator, "where the value of the client secret is stored"),
            may(
                "certificate",
                KeyForm::Locator,
                "where the certificate is stored, PEM, with its private key unless key is written",
            ),
            may("key", KeyForm::Locator, "where the private key of the certificate is stored, PEM"),
            may("passphrase", KeyForm::Locator, "of an encrypted key"),
            may("federated_token_file", KeyForm::File, "the file with the token of a workload identity"),
            may("authority", KeyForm::Url, "https://login.microsoftonline.com unless written"),
            SCOPES,
        ],
        one_of: &[&["secret", "certificate", "federated_token_file"]],
        calls: &[call("POST", "{authority|https://login.microsoftonline.com}/{tenant}/oauth2/v2.0/token", &[])],
    },
    KindSpec {
        name: "google",
        about: "a Google service account or workload identity federation",
        keys: &[
            may("key", KeyForm::Locator, "where the JSON key of the service account is stored"),
            may("federation", KeyForm::Locator, "where the JSON configuration of the workload identity federation is stored"),
            may("subject", KeyForm::Text, "the delegated user of a domain-wide delegation"),
            may("impersonate", KeyForm::Text, "the service account whose tokens are minted"),
            may("subject_token_file", KeyForm::File, "the only file from which the federation may read the platform's token"),
            may("subject_token_url", KeyForm::Url, "the only URL from which the federation may read the platform's token"),
            may("token_url", KeyForm::Url, "https://oauth2.googleapis.com/token unless written"),
            may("sts_url", KeyForm::Url, "https://sts.googleapis.com/v1/token unless written"),
            may("iam_url", KeyForm::Url, "https://iamcredentials.googleapis.com unless written"),
            SCOPES,
        ],
        one_of: &[&["key", "federation"]],
        calls: &[
            call("POST", "{token_url|https://oauth2.googleapis.com/token}", &["key"]),
            call("GET", "{subject_token_url}", &["subject_token_url"]),
            call("POST", "{sts_url|https://sts.googleapis.com/v1/token}", &["federation"]),
            call(
                "POST",
                "{iam_url|https://iamcredentials.googleapis.com}/v1/projects/-/serviceAccounts/{impersonate}:generateAccessToken",
                &["impersonate"],
            ),
        ],
    },
    KindSpec {
        name: "aws",
        about: "an IAM identity, with or without an assumed role",
        keys: &[
            may("keys", KeyForm::Locator, "where access_key_id and secret_access_key are stored, JSON"),
            may("web_identity_token_file", KeyForm::File, "the file with the token of a web identity, for example of EKS"),
            may(
                "source",
                KeyForm::Choice(&["container", "instance"]),
                "the credentials of the container or of the instance (IMDSv2)",
            ),
            may("role_arn", KeyForm::Text, "the role to assume"),
            may("external_id", KeyForm::Text, "the external id that the role's trust policy asks for"),
            may("session_name", KeyForm::Text, "the name of the session in CloudTrail; aam unless written"),
            may(
                "region",
                KeyForm::Text,
                "the region of STS; unless written, the global endpoint of the role's partition is called",
            ),
            may("sts_url", KeyForm::Url, "the endpoint of STS, for a private endpoint"),
            may(
                "metadata_url",
                KeyForm::Url,
                "the metadata service of the instance or container, if it is not at the address that AWS documents",
            ),
        ],
        one_of: &[&["keys", "web_identity_token_file", "source"]],
        calls: &[
            call("PUT", "{metadata_url|http://169.254.169.254}/latest/api/token", &["source=instance"]),
            call("GET", "{metadata_url|http://169.254.169.254}/latest/meta-data/iam/security-credentials/", &["source=instance"]),
            call(
                "GET",
                "{metadata_url|http://169.254.169.254}/latest/meta-data/iam/security-credentials/ROLE",
                &["source=instance"],
            ),
            call("GET", "{metadata_url|http://169.254.170.2}/", &["source=container"]),
            call("POST", "{sts_endpoint}/", &["role_arn"]),
        ],
    },
    KindSpec {
        name: "snowflake",
        about: "a Snowflake user with a key pair",
        keys: &[
            must("account", KeyForm::Text, "the account identifier, as in the host name"),
            must("user", KeyForm::Text, "the user of the key"),
            must("key", KeyForm::Locator, "where the private key is stored, PEM"),
            may("passphrase", KeyForm::Locator, "of an encrypted key"),
        ],
        one_of: &[],
        calls: &[],
    },
    KindSpec {
        name: "github_app",
        about: "an installation of a GitHub App",
        keys: &[
            must("app_id", KeyForm::Text, "the id or client id of the app"),
            must("installation_id", KeyForm::Text, "of the app's installation in the organization"),
            must("key", KeyForm::Locator, "where the private key is stored, PEM"),
        ],
        one_of: &[],
        calls: &[],
    },
    KindSpec {
        name: "okta",
        about: "a service app of Okta with a private key",
        keys: &[
            must("org", KeyForm::Url, "the URL of the organization"),
            must("client_id", KeyForm::Text, "the id of the service app"),
            must("key", KeyForm::Locator, "where the private key is stored, PEM or JWK"),
            may("passphrase", KeyForm::Locator, "of an encrypted key"),
            may("key_id", KeyForm::Text, "the kid of the key"),
            may("dpop", KeyForm::Flag, "bind tokens to a key from the first call on; otherwise only if Okta asks for it"),
            SCOPES,
        ],
        one_of: &[],
        calls: &[call("POST", "{org}/oauth2/v1/token", &[])],
    },
    KindSpec {
        name: "salesforce",
        about: "a connected app or external client app of Salesforce",
        keys: &[
            must("domain", KeyForm::Url, "the organization's own host, https://MYDOMAIN.my.salesforce.com"),
            must("client_id", KeyForm::Text, "the consumer key"),
            may("key", KeyForm::Locator, "where the private key of the app's certificate is stored, PEM (JWT bearer)"),
            may("passphrase", KeyForm::Locator, "of an encrypted key"),
            may("username", KeyForm::Text, "the user of the JWT bearer flow"),
            may(
                "audience",
                KeyForm::Text,
                "https://login.salesforce.com, or https://test.salesforce.com for a sandbox, unless written",
            ),
            may("secret", KeyForm::Locator, "where the consumer secret is stored (client credentials)"),
        ],
        one_of: &[&["key", "secret"]],
        calls: &[call("POST", "{domain}/services/oauth2/token", &[])],
    },
    KindSpec {
        name: "box",
        about: "a platform app of Box, by JWT or by client credentials",
        keys: &[
            may("config", KeyForm::Locator, "where the JSON settings that Box generates for a JWT app are stored"),
            may("secret", KeyForm::Locator, "where the client secret is stored (client credentials)"),
            may("client_id", KeyForm::Text, "the id of the app (client credentials)"),
            may("enterprise_id", KeyForm::Text, "the enterprise whose service account is used"),
            may("user_id", KeyForm::Text, "the user to act as instead of the service account"),
            may("token_url", KeyForm::Url, "https://api.box.com/oauth2/token unless written"),
        ],
        one_of: &[&["config", "secret"]],
        calls: &[call("POST", "{token_url|https://api.box.com/oauth2/token}", &[])],
    },
    KindSpec {
        name: "zoom",
        about: "a server-to-server OAuth app of Zoom",
        keys: &[
            must("account_id", KeyForm::Text, "the account"),
            must("client_id", KeyForm::Text, "the id of the app"),
            must("secret", KeyForm::Locator, "where the client secret is stored"),
            may("token_url", KeyForm::Url, "https://zoom.us/oauth/token unless written"),
        ],
        one_of: &[],
        calls: &[call("POST", "{token_url|https://zoom.us/oauth/token}", &[])],
    },
    KindSpec {
        name: "netsuite",
        about: "NetSuite, by token-based authentication or by OAuth 2.0 with a certificate",
        keys: &[
            must("account", KeyForm::Text, "the account id, for example 1234567 or 1234567_SB1"),
            may("consumer_key", KeyForm::Locator, "where the consumer key is stored (token-based authentication)"),
            may("consumer_secret", KeyForm::Locator, "where the consumer secret is stored"),
            may("token_id", KeyForm::Locator, "where the token id is stored"),
            may("token_secret", KeyForm::Locator, "where the token secret is stored"),
            may("url", KeyForm::Url, "https://ACCOUNT.suitetalk.api.netsuite.com unless written; only requests to it are signed"),
            may("key", KeyForm::Locator, "where the private key of the certificate is stored, PEM (OAuth 2.0)"),
            may("passphrase", KeyForm::Locator, "of an encrypted key"),
            may("client_id", KeyForm::Text, "the client id of the integration record (OAuth 2.0)"),
            may("certificate_id", KeyForm::Text, "the Certificate ID of the mapping in OAuth 2.0 Client Credentials (M2M) Setup"),
            may("token_url", KeyForm::Url, "the token endpoint of the account unless written (OAuth 2.0)"),
            SCOPES,
        ],
        one_of: &[&["consumer_key", "key"]],
        calls: &[call("POST", "{netsuite_token_url}", &["key"])],
    },
    KindSpec {
        name: "basic",
        about: "a user and a password",
        keys: &[must("username", KeyForm::Text, "the user"), must("password", KeyForm::Locator, "where the password is stored")],
        one_of: &[],
        calls: &[],
    },
    KindSpec {
        name: "token",
        about: "a fixed token",
        keys: &[must("token", KeyForm::Locator, "where the token is stored")],
        one_of: &[],
        calls: &[],
    },
];
