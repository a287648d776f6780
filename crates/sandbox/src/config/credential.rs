//! Credentials that exist, how requests carry them, and clients that mint their own.

use super::signature::SignatureRule;
use super::token::Assertion;
use crate::template::Template;
use crate::yaml::{Fields, Node, Problems};
use serde_json::{Map, Value};

/// What a caller proved to have: a credential of the file, or a token that was minted for a client.
#[derive(Clone, Debug)]
pub struct Credential {
    pub name: String,
    pub kind: String,
    pub value: String,
    /// The accounts that it belongs to. Empty for a credential that fits all.
    pub accounts: Vec<String>,
    /// `expired`, `revoked`, or the name of an answer.
    pub state: Option<String>,
    pub scopes: Vec<String>,
    pub roles: Vec<String>,
    /// The whole entry, for templates.
    pub data: Value,
}

/// How a request carries credentials of one kind.
pub struct Scheme {
    pub kind: String,
    pub forms: Vec<SchemeForm>,
    /// The credential is a JWT that the caller signed itself.
    pub assertion: Option<Assertion>,
    /// Each request is signed, and the credential is never sent.
    pub oauth1: Option<OAuth1Scheme>,
    /// The caller signs each request with its credential, an access key of AWS.
    pub signature: Option<SignatureRule>,
}

/// How signed requests are checked (RFC 5849).
pub struct OAuth1Scheme {
    /// The realm that the header has to name.
    pub realm: Option<Template>,
    /// The number of seconds by which the clocks may differ.
    pub window: u64,
}

/// The seconds by which the clocks may differ, unless the file says otherwise. [V] docs.oracle.com, NetSuite online help, "The
/// Authorization Headers".
const SIGNATURE_WINDOW: u64 = 300;

impl OAuth1Scheme {
    fn parse(node: &Node<'_>, problems: &mut Problems) -> Option<OAuth1Scheme> {
        let mut fields = node.fields(problems)?;
        let realm = fields.get("realm").map(|node| Template::new(&node, problems));
        let window = fields.number("window", problems).unwrap_or(SIGNATURE_WINDOW);
        fields.finish(problems);
        Some(OAuth1Scheme { realm, window })
    }
}

/// Where a credential is.
pub enum Carrier {
    Header(String),
    /// A parameter of a form.
    Form(String),
}

pub struct SchemeForm {
    pub carrier: Carrier,
    pub prefixes: Vec<String>,
    pub basic: bool,
    /// The form is used only if this holds.
    pub when: Option<Template>,
}

#[derive(Clone, Debug)]
pub struct Client {
    pub id: String,
    pub secret: Option<String>,
    /// The name of its key pair.
    pub key: Option<String>,
    /// The account that it mints for, scopes and roles.
    pub credential: Credential,
    /// Refresh tokens that exist from the start.
    pub refresh_tokens: Vec<String>,
    /// Codes of an authorization that a person gave.
    pub redirect_uris: Vec<String>,
    /// `expired` and so on: the name of the error that the token endpoint answers.
    pub error: Option<String>,
}

const COMMON: [&str; 4] = ["account", "scopes", "roles", "state"];

fn credential(node: &Node<'_>, fields: &mut Fields<'_>, problems: &mut Problems) -> Credential {
    let scopes = fields.texts("scopes", problems);
    let roles = fields.texts("roles", problems);
    let mut data = node.value.as_object().cloned().unwrap_or_else(Map::new);
    for key in COMMON {
        data.entry(key).or_insert(Value::Null);
    }
    data.insert("scopes".to_owned(), scopes.as_slice().into());
    data.insert("roles".to_owned(), roles.as_slice().into());
    Credential {
        name: String::new(),
        kind: String::new(),
        value: String::new(),
        accounts: fields.texts("account", problems),
        state: fields.text("state", problems),
        scopes,
        roles,
        data: Value::Object(data),
    }
}

pub fn credentials(node: Option<Node<'_>>, problems: &mut Problems) -> Vec<Credential> {
    let mut credentials: Vec<Credential> = Vec::new();
    for node in node.map(|node| node.list(problems)).unwrap_or_default() {
        let Some(mut fields) = node.fields(problems) else { continue };
        let mut found = credential(&node, &mut fields, problems);
        let mut take = |key, problems: &mut Problems| {
            fields.required(key, problems).and_then(|node| node.text(problems)).unwrap_or_default()
        };
        found.name = take("name", problems);
        found.kind = take("kind", problems);
        found.value = take("value", problems);
        // Everything else that the entry says is for templates, so no key is unknown.
        if credentials.iter().any(|other| other.name == found.name) {
            problems.add(&node.pointer, format!("two credentials have the name {:?}", found.name));
        }
        credentials.push(found);
    }
    credentials
}

pub fn clients(node: Option<Node<'_>>, problems: &mut Problems) -> Vec<Client> {
    let mut clients = Vec::new();
    for node in node.map(|node| node.list(problems)).unwrap_or_default() {
        let Some(mut fields) = node.fields(problems) else { continue };
        let mut own = credential(&node, &mut fields, problems);
        let id = fields.required("id", problems).and_then(|node| node.text(problems)).unwrap_or_default();
        own.name = fields.text("name", problems).unwrap_or_else(|| id.clone());
        let client = Client {
            id,
            secret: fields.text("secret", problems),
            key: fields.text("key", problems),
            credential: own,
            refresh_tokens: fields.texts("refresh_tokens", problems),
            redirect_uris: fields.texts("redirect_uris", problems),
            error: fields.text("error", problems),
        };
        if let Some(key) = client.key.as_deref().filter(|key| !crate::keys::NAMES.contains(key)) {
            let known = crate::keys::NAMES.join(", ");
            problems.add(&format!("{}/key", node.pointer), format!("{key:?} is not a key of the sandbox: {known}"));
        }
        clients.push(client);
    }
    clients
}

pub fn schemes(node: Option<Node<'_>>, problems: &mut Problems) -> Vec<Scheme> {
    let mut schemes = Vec::new();
    for (kind, node) in node.map(|node| node.entries(problems)).unwrap_or_default() {
        let mut assertion = None;
        let (mut oauth1, mut signature) = (None, None);
        let mut forms = Vec::new();
        for node in node.one_or_more(problems) {
            let Some(mut fields) = node.fields(problems) else { continue };
            if let Some(signed) = fields.get("oauth1") {
                oauth1 = OAuth1Scheme::parse(&signed, problems);
                fields.finish(problems);
                let carrier = Carrier::Header("authorization".to_owned());
                forms.push(SchemeForm { carrier, prefixes: vec!["OAuth ".to_owned()], basic: false, when: None });
                continue;
            }
            if let Some(node) = fields.get("sigv4") {
                signature = SignatureRule::parse(&node, problems);
                fields.finish(problems);
                continue;
            }
            let header = fields.text("header", problems).map(|name| Carrier::Header(name.to_ascii_lowercase()));
            let parameter = fields.text("form", problems).map(Carrier::Form);
            if header.is_some() == parameter.is_some() {
                problems.add(&node.pointer, "a scheme has either header or form");
            }
            let basic = fields.flag("basic", problems);
            let mut prefixes = fields.texts("prefix", problems);
            if prefixes.is_empty() {
                prefixes.push(if basic { "Basic ".to_owned() } else { String::new() });
            }
            if let Some(node) = fields.get("assertion") {
                assertion = Assertion::parse(&node, problems);
            }
            let when = fields.get("when").map(|node| Template::new(&node, problems));
            fields.finish(problems);
            if let Some(carrier) = header.or(parameter) {
                forms.push(SchemeForm { carrier, prefixes, basic, when });
            }
        }
        schemes.push(Scheme { kind: kind.to_owned(), forms, assertion, oauth1, signature });
    }
    schemes
}
