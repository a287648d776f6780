//! Determines which parts of a credential are secret, and in which encodings a secret may appear in a text. This module
//! is pure.

use super::secret::Credential;
use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, PAD};
use data_encoding::{BASE32_NOPAD, HEXLOWER};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use std::collections::BTreeSet;
use std::sync::LazyLock;
use zeroize::Zeroizing;

/// The minimum length of a secret in bytes. Shorter values are not learned, because they occur in every text.
pub const MIN_SECRET_BYTES: usize = 4;

/// Fields of a JSON credential whose values are identifiers or settings. Every other field is treated as secret.
const NAMES: &str = "\
    access_key_id account account_id algorithm alias api_version app_id auth_provider_x509_cert_url \
    auth_db auth_source auth_type auth_uri authentication_database authority authsource \
    aws_access_key_id base_url bucket client_email client_id \
    client_x509_cert_url database db dbname dialect domain driver email endpoint environment \
    clientid expires expires_at expires_in expireson format grant_type header host instance_url hostname in installation_id instance issuer \
    key_id kind login name org organization port private_key_id project project_id region role \
    role_arn schema scheme scope scopes server service site ssl sslmode subdomain subject \
    subscription subscriptionid tenant tenant_id tenantid timeout tls token_type token_uri token_url tokentype type universe_domain url user \
    user_id user_name username version warehouse workspace";
static HARMLESS: LazyLock<BTreeSet<&str>> = LazyLock::new(|| NAMES.split_whitespace().collect());
/// If the name of a field contains one of these, even a short number in it is treated as secret.
const SECRET_WORDS: [&str; 8] = ["pass", "secret", "token", "key", "pin", "pwd", "credential", "auth"];

/// Values that occur in so many texts that they cannot be kept out of them, compared without case.
const COMMON: &str = "\
    123456 12345678 123456789 1234567890 aaaaaaaa access account active administrator airbyte apikey attempt bearer bucket \
    changeme client connection connector credential database default demo error example failed false github guest host \
    http https json letmein localhost login master mysql name none null passed passwd password password1 policy postgres \
    postgresql private production public qwerty read reader readonly root secret server service slack source sqlite status \
    stream system table test testing token true undefined unknown user username value welcome";
static COMMON_VALUES: LazyLock<BTreeSet<&str>> = LazyLock::new(|| COMMON.split_whitespace().collect());

/// Why AAM cannot keep a secret out of logs and reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unprotectable {
    /// It is shorter than [`MIN_SECRET_BYTES`].
    TooShort,
    /// It is a word that occurs in many texts.
    Common,
}

/// Returns the reason why the main secret of `credential` cannot be kept out of logs and reports, or `None` if it can: the
/// plain value or its password, or a field whose name says that it is secret.
#[must_use]
pub fn unprotectable(credential: &Credential) -> Option<Unprotectable> {
    let judge = |value: &str| match value.trim() {
        value if value.len() < MIN_SECRET_BYTES => Some(Unprotectable::TooShort),
        value if is_common(value) => Some(Unprotectable::Common),
        _ => None,
    };
    if let Some(plain) = credential.plain() {
        let plain = plain.expose().trim();
        let password = match plain.split_once(':') {
            Some((_, password)) if !plain.contains(char::is_whitespace) && !password.starts_with("//") => password,
            _ => plain,
        };
        return judge(password);
    }
    let secret = |name: &str| ["pass", "secret", "token", "pwd", "key"].iter().any(|word| name.contains(word));
    let names = credential.field_names().into_iter().filter(|name| {
        let name = name.to_ascii_lowercase().replace('-', "_");
        secret(&name) && !HARMLESS.contains(name.as_str())
    });
    names
        .filter_map(|name| credential.field(name))
        .filter(|value| !value.expose().trim().is_empty())
        .find_map(|value| judge(value.expose()))
}

/// Whether the name of a field says that its value is a secret.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    let ends = ["pass", "password", "passphrase", "secret", "token", "pwd", "key", "pin"];
    !HARMLESS.contains(name.as_str()) && ends.iter().any(|end| name.ends_with(end))
}

/// Whether removing the value would remove an ordinary word from every text.
#[must_use]
pub fn is_common(value: &str) -> bool {
    COMMON_VALUES.contains(value.to_ascii_lowercase().as_str())
}

/// Returns the secret values of a credential. Fields that are known not to be secret are left out.
#[must_use]
pub fn of_credential(credential: &Credential) -> Vec<Zeroizing<String>> {
    let plain = credential.plain().map(|secret| values(secret.expose())).unwrap_or_default();
    let fields =
        credential.field_names().into_iter().filter_map(|name| Some(field_values(name, credential.field(name)?.expose())));
    fields.flatten().chain(plain).collect()
}

/// Returns the secret values of one field.
#[must_use]
pub fn field_values(name: &str, value: &str) -> Vec<Zeroizing<String>> {
    let name = name.to_ascii_lowercase().replace('-', "_");
    if HARMLESS.contains(name.as_str()) {
        // A URL in such a field may still contain a password.
        return password_of(value.trim()).into_iter().collect();
    }
    let number = value.len() < 8 && value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if number && !SECRET_WORDS.iter().any(|word| name.contains(word)) {
        return Vec::new();
    }
    // A common word in a field of an unknown name is a setting, such as `"plan": "default"`. In a field whose name says
    // that it is secret, the resolver refuses it.
    if is_common(value.trim()) {
        return Vec::new();
    }
    values(value)
}

/// Returns the lines of a value with many lines that are secret on their own, one each line. The lines of a PEM key may appear
/// separately. Returns `None` for a value with few lines, whose lines are among its [`values`].
#[must_use]
pub fn many_lines(value: &str) -> Option<Zeroizing<String>> {
    let value = value.trim();
    if value.lines().count() <= MAX_SINGLE_LINES {
        return None;
    }
    let mut lines = Zeroizing::new(String::with_capacity(value.len() + 1));
    for line in secret_lines(value) {
        lines.push_str(line);
        lines.push('\n');
    }
    Some(lines).filter(|lines| !lines.is_empty())
}

/// The lines that are long enough to be a part of a key.
fn secret_lines(value: &str) -> impl Iterator<Item = &str> {
    value.lines().map(str::trim).filter(|line| line.len() >= 16 && !line.starts_with("-----"))
}

/// The number of lines of a value up to which each is looked for in every form, not only as it is.
const MAX_SINGLE_LINES: usize = 8;

/// Returns the value itself and the parts of it that are secret on their own.
#[must_use]
pub fn values(value: &str) -> Vec<Zeroizing<String>> {
    // JSON literals are never secret, because removing them would make every document unreadable.
    if matches!(value.trim(), "true" | "false" | "null" | "none") {
        return Vec::new();
    }
    let mut found: Vec<Zeroizing<String>> = Vec::new();
    let mut add = |text: &str| {
        if !text.is_empty() && !found.iter().any(|known| known.as_str() == text) {
            found.push(Zeroizing::new(text.to_string()));
        }
    };
    add(value);
    add(value.trim());
    if (2..=MAX_SINGLE_LINES).contains(&value.trim().lines().count()) {
        secret_lines(value).for_each(&mut add);
    }
    if let Some(password) = password_of(value.trim()) {
        add(&password);
    } else if let Some((_, after)) = value.trim().split_once(':')
        && !value.trim().contains(char::is_whitespace)
        && !after.starts_with("//")
    {
        // The value has the form `user:password`, as in Basic authentication.
        add(after);
    }
    // Numbers in a nested JSON document are ids and counts. Strings without a field name are treated as secret.
    if value.trim_start().starts_with(['{', '['])
        && let Ok(json) = serde_json::from_str::<serde_json::Value>(value)
    {
        let mut inner = Vec::new();
        leaves("", &json, &mut inner);
        inner.iter().for_each(|text| add(text));
    }
    found
}

fn leaves(name: &str, json: &serde_json::Value, out: &mut Vec<Zeroizing<String>>) {
    match json {
        serde_json::Value::Object(object) => object.iter().for_each(|(name, value)| leaves(name, value, out)),
        serde_json::Value::Array(items) => items.iter().for_each(|item| leaves(name, item, out)),
        serde_json::Value::String(text) => out.extend(field_values(name, text)),
        _ => {}
    }
}

/// Returns the decoded password of a URL such as `scheme://user:password@host`.
fn password_of(text: &str) -> Option<Zeroizing<String>> {
    let url = url::Url::parse(text).ok()?;
    let password = url.password().filter(|password| !password.is_empty())?;
    Some(Zeroizing::new(percent_encoding::percent_decode_str(password).decode_utf8_lossy().into_owned()))
}

/// The characters that `encodeURIComponent` and form encoders do not escape.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const COMPONENT: &AsciiSet = &UNRESERVED.remove(b'!').remove(b'*').remove(b'\'').remove(b'(').remove(b')');
/// The characters that URL libraries escape in a query, a path and user info.
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>');
const SPECIAL_QUERY: &AsciiSet = &QUERY.add(b'\'');
const PATH: &AsciiSet = &QUERY.add(b'?').add(b'`').add(b'{').add(b'}').add(b'^');
const SEGMENT: &AsciiSet = &PATH.add(b'/').add(b'%');
const USER_INFO: &AsciiSet = &PATH.add(b'/').add(b':').add(b';').add(b'=').add(b'@').add(b'[').add(b'\\').add(b']').add(b'|');

/// The minimum length of a base64 run. A shorter run would match too many other texts.
const SHORTEST_RUN: usize = 6;

/// Returns every form of `value` to search for, without regard to case. Escapes are undone in the text, see `views`; the
/// escaped forms here are those that end differently, such as `+` for a space. The result contains at least `value` itself and never an empty string.
#[must_use]
pub fn all(value: &str) -> BTreeSet<String> {
    let mut forms = BTreeSet::from([value.to_string()]);
    for set in [NON_ALPHANUMERIC, UNRESERVED, COMPONENT, QUERY, SPECIAL_QUERY, PATH, SEGMENT, USER_INFO] {
        let upper = utf8_percent_encode(value, set).to_string();
        forms.insert(lower_escapes(&upper));
        forms.insert(upper.replace("%20", "+"));
        forms.insert(upper);
    }
    forms.insert(url::form_urlencoded::byte_serialize(value.as_bytes()).collect());
    for quoted in [serde_json::to_string(value).unwrap_or_default(), format!("{value:?}"), ascii_json(value)] {
        if let Some(inner) = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            forms.insert(inner.replace('/', "\\/"));
            // Gateways pass on the messages of other services as JSON inside JSON strings, so each level is escaped
            // again.
            let mut deeper = inner.to_string();
            for _ in 0..3 {
                deeper = deeper.replace('\\', "\\\\").replace('"', "\\\"");
                forms.insert(deeper.clone());
            }
            forms.insert(inner.to_string());
        }
    }
    forms.insert(value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;"));
    forms.insert(HEXLOWER.encode(value.as_bytes()));
    for before in 0..5 {
        forms.extend(base32_run(value, before));
    }
    for alphabet in [&STANDARD, &URL_SAFE] {
        let (padded, bare) = (GeneralPurpose::new(alphabet, PAD), GeneralPurpose::new(alphabet, NO_PAD));
        forms.insert(padded.encode(value));
        forms.insert(bare.encode(value));
        forms.extend((0..3).filter_map(|before| run(&bare, value, before)));
    }
    forms.retain(|form| form.len() >= value.len().min(MIN_SECRET_BYTES));
    forms
}

/// Returns the base64 characters that depend only on `value` and not on the bytes around it, if `value` starts `before`
/// bytes after a group of three bytes. They make it possible to find `secret` in the base64 form of `user:secret`.
fn run(engine: &GeneralPurpose, value: &str, before: usize) -> Option<String> {
    let mut bytes = Zeroizing::new(vec![0; before]);
    bytes.extend_from_slice(value.as_bytes());
    let text = engine.encode(&*bytes);
    // A base64 character holds six bits. Leave out the characters that share bits with a neighboring byte.
    let first = (before * 8).div_ceil(6);
    let last = bytes.len() * 8 / 6;
    text.get(first..last).filter(|run| run.len() >= SHORTEST_RUN).map(str::to_string)
}

/// As [`run`], for base32: a character holds five bits, and five bytes are a group.
fn base32_run(value: &str, before: usize) -> Option<String> {
    let mut bytes = Zeroizing::new(vec![0; before]);
    bytes.extend_from_slice(value.as_bytes());
    let text = BASE32_NOPAD.encode(&bytes);
    let (first, last) = ((before * 8).div_ceil(5), bytes.len() * 8 / 5);
    text.get(first..last).filter(|run| run.len() >= SHORTEST_RUN).map(str::to_string)
}

fn lower_escapes(text: &str) -> String {
    let mut rest = 0;
    let lower = |c: char| match (c, rest) {
        ('%', _) => {
            rest = 2;
            c
        }
        (_, 0) => c,
        _ => {
            rest -= 1;
            c.to_ascii_lowercase()
        }
    };
    text.chars().map(lower).collect()
}

/// Returns `value` as an ASCII-only JSON string. Every other character is written as `\u` and four digits.
fn ascii_json(value: &str) -> String {
    let json = serde_json::to_string(value).unwrap_or_default();
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            text.push(c);
        } else {
            let mut units = [0; 2];
            c.encode_utf16(&mut units).iter().for_each(|unit| text.push_str(&format!("\\u{unit:04x}")));
        }
    }
    text
}
