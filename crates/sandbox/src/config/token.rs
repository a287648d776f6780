//! Token endpoints.

use super::answer::Answer;
use crate::pattern::Pattern;
use crate::template::Template;
use crate::yaml::{Node, Problems};
use std::collections::BTreeMap;

pub const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientAuthentication {
    Basic,
    Post,
    PrivateKeyJwt,
    /// The assertion of the grant `jwt_bearer` names the client.
    JwtBearer,
    None,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dpop {
    None,
    Optional,
    Required,
}

/// What a claim of an assertion has to be.
pub enum Expected {
    Any,
    /// One of these.
    OneOf(Vec<Template>),
}

/// How a JWT is checked that a caller signed.
pub struct Assertion {
    /// Rendered with `client`, `account` and `host`. Empty if the audience is not checked.
    pub audience: Vec<Template>,
    /// Seconds between `iat` (or now, without it) and `exp`.
    pub max_lifetime: u64,
    /// Seconds between now and `exp`.
    pub max_ahead: Option<u64>,
    pub algorithms: Vec<String>,
    pub issuer: Expected,
    pub subject: Expected,
    /// Claims that have to be there.
    pub require: Vec<String>,
    /// Parameters of the header that have to be one of these.
    pub header: Vec<(String, Expected)>,
    /// Other claims that have to be one of these.
    pub claims: Vec<(String, Expected)>,
    /// A `jti` may be used once.
    pub once: bool,
}

/// Whether a refresh token is issued, and whether it is used once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refresh {
    None,
    Rotating,
    Stays,
}

pub struct Issue {
    pub kind: String,
    pub expires_in: u64,
    pub claims: Option<Template>,
    pub refresh: Refresh,
    /// A new token ends those that the client had before.
    pub replaces: bool,
    /// What the value of a token begins with.
    pub prefix: String,
}

pub struct TokenEndpoint {
    /// Its place in the file.
    pub pointer: String,
    pub path: Pattern,
    pub host: Option<Pattern>,
    /// The endpoint answers only requests for which this holds. Another entry with the same path answers the others.
    pub when: Option<Template>,
    pub grants: Vec<String>,
    pub client_authentication: Vec<ClientAuthentication>,
    /// A kind of credential with an assertion: its caller is the client.
    pub authenticated_by: Option<String>,
    pub assertion: Option<Assertion>,
    pub scope_separator: String,
    /// The scopes that are asked for, if they are not the parameter `scope`.
    pub scope_from: Option<Template>,
    /// The error that a scope that the client does not have answers; `None` if such a scope is left out.
    pub scope_unknown: Option<String>,
    pub scope_required: bool,
    pub dpop: Dpop,
    /// A proof at the token endpoint needs a nonce of the server.
    pub dpop_nonce: bool,
    /// A proof at the API needs a nonce of the server.
    pub dpop_api_nonce: bool,
    /// Where a person gives an authorization, for the grant `authorization_code`.
    pub authorize: Option<Pattern>,
    /// An authorization without a code challenge is refused.
    pub pkce: bool,
    /// Parameters of the query that exist.
    pub query: Vec<String>,
    /// Parameters of the form that exist besides those of OAuth.
    pub form: Vec<String>,
    /// Parameters of the form that have to be one of these values.
    pub parameters: Vec<(String, Expected)>,
    pub issue: Issue,
    pub status: u16,
    pub answer: Template,
    pub headers: Vec<(String, Template)>,
    pub errors: BTreeMap<String, Answer>,
}

impl TokenEndpoint {
    pub fn parse(node: &Node<'_>, problems: &mut Problems) -> Option<TokenEndpoint> {
        let mut fields = node.fields(problems)?;
        let path = fields.required("path", problems)?;
        let path = Pattern::path(&path.text(problems)?).map_err(|error| problems.add(&path.pointer, error)).ok()?;
        let host = fields.get("host").and_then(|node| {
            let text = node.text(problems)?;
            Pattern::host(&text).map_err(|error| problems.add(&node.pointer, error)).ok()
        });
        let when = fields.get("when").map(|node| Template::new(&node, problems));
        let grants = fields.texts("grants", problems).into_iter();
        let grants: Vec<String> = grants.map(|name| if name == "jwt_bearer" { JWT_BEARER.to_owned() } else { name }).collect();
        let mut client_authentication = Vec::new();
        for node in fields.get("client_authentication").map(|node| node.one_or_more(problems)).unwrap_or_default() {
            match node.value.as_str() {
                Some("basic") => client_authentication.push(ClientAuthentication::Basic),
                Some("post") => client_authentication.push(ClientAuthentication::Post),
                Some("private_key_jwt") => client_authentication.push(ClientAuthentication::PrivateKeyJwt),
                Some("jwt_bearer") => client_authentication.push(ClientAuthentication::JwtBearer),
                Some("none") => client_authentication.push(ClientAuthentication::None),
                _ => problems.add(&node.pointer, "expected basic, post, private_key_jwt, jwt_bearer or none"),
            }
        }
        if client_authentication.is_empty() {
            client_authentication = if grants.iter().any(|name| name == JWT_BEARER) {
                vec![ClientAuthentication::JwtBearer]
            } else {
                vec![ClientAuthentication::Basic, ClientAuthentication::Post]
            };
        }
        let dpop = match fields.text("dpop", problems).as_deref() {
            None | Some("none") => Dpop::None,
            Some("optional") => Dpop::Optional,
            Some("required") => Dpop::Required,
            Some(_) => {
                problems.add(&format!("{}/dpop", node.pointer), "dpop has to be none, optional or required");
                Dpop::None
            }
        };
        let authorize = fields.get("authorize").and_then(|node| {
            let text = node.text(problems)?;
            Pattern::path(&text).map_err(|error| problems.add(&node.pointer, error)).ok()
        });
        let authenticated_by = fields.text("authenticated_by", problems);
        let assertion = fields.get("assertion").and_then(|node| Assertion::parse(&node, problems));
        let scope = Scope::parse(fields.get("scope"), problems);
        let issue = fields.required("issue", problems).and_then(|node| Issue::parse(&node, problems));
        let answer = fields.required("answer", problems).map(|node| Template::new(&node, problems));
        let errors = super::named(fields.get("errors"), problems, Answer::parse);
        let endpoint = TokenEndpoint {
            pointer: node.pointer.clone(),
            path,
            host,
            when,
            grants,
            client_authentication,
            authenticated_by,
            assertion,
            scope_separator: scope.separator,
            scope_from: scope.from,
            scope_unknown: scope.unknown,
            scope_required: scope.required,
            dpop,
            dpop_nonce: fields.flag("dpop_nonce", problems),
            dpop_api_nonce: fields.flag("dpop_api_nonce", problems),
            authorize,
            pkce: fields.flag("pkce", problems),
            query: fields.texts("query", problems),
            form: fields.texts("form", problems),
            parameters: expected_claims(fields.get("parameters"), problems),
            issue: issue?,
            status: fields.number("status", problems).and_then(|status| u16::try_from(status).ok()).unwrap_or(200),
            answer: answer?,
            headers: super::answer::headers(fields.get("headers"), problems),
            errors,
        };
        fields.finish(problems);
        let by_key = [ClientAuthentication::PrivateKeyJwt, ClientAuthentication::JwtBearer];
        if endpoint.assertion.is_none() && endpoint.client_authentication.iter().any(|way| by_key.contains(way)) {
            problems.add(&node.pointer, "private_key_jwt and jwt_bearer need assertion");
        }
        if endpoint.grants.is_empty() && endpoint.authenticated_by.is_none() {
            problems.add(&node.pointer, "grants or authenticated_by is missing");
        }
        Some(endpoint)
    }
}

struct Scope {
    separator: String,
    from: Option<Template>,
    unknown: Option<String>,
    required: bool,
}

impl Scope {
    fn parse(node: Option<Node<'_>>, problems: &mut Problems) -> Scope {
        let mut scope = Scope { separator: " ".to_owned(), from: None, unknown: None, required: false };
        if let Some(mut fields) = node.and_then(|node| node.fields(problems)) {
            scope.separator = fields.text("separator", problems).unwrap_or(scope.separator);
            scope.from = fields.get("from").map(|node| Template::new(&node, problems));
            scope.unknown = fields.text("unknown", problems);
            scope.required = fields.flag("required", problems);
            fields.finish(problems);
        }
        scope
    }
}

impl Refresh {
    fn parse(node: Option<Node<'_>>, problems: &mut Problems) -> Refresh {
        let Some(node) = node else { return Refresh::None };
        match (node.value.as_str(), node.value.as_bool()) {
            (Some("rotating"), _) | (_, Some(true)) => Refresh::Rotating,
            (Some("stays"), _) => Refresh::Stays,
            (_, Some(false)) => Refresh::None,
            _ => {
                problems.add(&node.pointer, "refresh is rotating, stays or false");
                Refresh::None
            }
        }
    }
}

impl Issue {
    fn parse(node: &Node<'_>, problems: &mut Problems) -> Option<Issue> {
        let mut fields = node.fields(problems)?;
        let issue = Issue {
            kind: fields.required("kind", problems).and_then(|node| node.text(problems)).unwrap_or_default(),
            expires_in: fields.number("expires_in", problems).unwrap_or(3600),
            claims: fields.get("claims").map(|node| Template::new(&node, problems)),
            refresh: Refresh::parse(fields.get("refresh"), problems),
            replaces: fields.flag("replaces", problems),
            prefix: fields.text("prefix", problems).unwrap_or_default(),
        };
        fields.finish(problems);
        Some(issue)
    }
}

impl Assertion {
    pub fn parse(node: &Node<'_>, problems: &mut Problems) -> Option<Assertion> {
        let mut fields = node.fields(problems)?;
        let templates = |node: Option<Node<'_>>, problems: &mut Problems| -> Vec<Template> {
            let nodes = node.map(|node| node.one_or_more(problems)).unwrap_or_default();
            nodes.iter().map(|node| Template::new(node, problems)).collect()
        };
        let mut algorithms = fields.texts("algorithms", problems);
        if algorithms.is_empty() {
            algorithms.push("RS256".to_owned());
        }
        let known = crate::jwt::ALGORITHMS;
        for algorithm in algorithms.iter().filter(|name| !known.contains(&name.as_str())) {
            problems.add(&node.pointer, format!("{algorithm} is not one of {}", known.join(", ")));
        }
        let assertion = Assertion {
            audience: templates(fields.get("audience"), problems),
            max_lifetime: fields.number("max_lifetime", problems).unwrap_or(3600),
            max_ahead: fields.number("max_ahead", problems),
            algorithms,
            issuer: expected(fields.get("issuer"), problems),
            subject: expected(fields.get("subject"), problems),
            require: fields.texts("require", problems),
            header: expected_claims(fields.get("header"), problems),
            claims: expected_claims(fields.get("claims"), problems),
            once: fields.get("once").and_then(|node| node.flag(problems)).unwrap_or(true),
        };
        fields.finish(problems);
        Some(assertion)
    }
}

fn expected_claims(node: Option<Node<'_>>, problems: &mut Problems) -> Vec<(String, Expected)> {
    let entries = node.map(|node| node.entries(problems)).unwrap_or_default();
    entries.into_iter().map(|(name, node)| (name.to_owned(), expected(Some(node), problems))).collect()
}

/// `client_id`, `any`, or templates of which one has to be the claim.
fn expected(node: Option<Node<'_>>, problems: &mut Problems) -> Expected {
    let Some(node) = node else { return Expected::Any };
    match node.value.as_str() {
        Some("any") => Expected::Any,
        Some("client_id") => {
            let value = "{{ client.id }}".into();
            let node = Node { value: &value, pointer: node.pointer };
            Expected::OneOf(vec![Template::new(&node, problems)])
        }
        _ => {
            let nodes = node.one_or_more(problems);
            Expected::OneOf(nodes.iter().map(|node| Template::new(node, problems)).collect())
        }
    }
}
