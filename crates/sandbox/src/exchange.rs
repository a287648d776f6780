//! One request and the vendor that it is for: what is known of it, and how its answers are made.

use crate::access::own_account;
use crate::calls::Call;
use crate::config::{Account, Credential, Route, Vendor};
use crate::moods;
use crate::pattern::Captures;
use crate::reply::{JSON, Reply};
use crate::request::{Request, header_mapping, mapping};
use crate::sandbox::{Sandbox, now_ms};
use crate::template::Scope;
use minijinja::Value;
use std::sync::Arc;

/// A page of a host that has no such account.
const NO_ACCOUNT: &str =
    "<!DOCTYPE html>\n<html><head><title>Page not found</title></head><body><h1>Page not found</h1></body></html>\n";

/// What one request is about, as far as it is known.
pub struct Exchange<'a> {
    pub sandbox: &'a Sandbox,
    pub index: usize,
    pub vendor: Arc<Vendor>,
    pub request: &'a Request,
    pub captures: Captures,
    pub account: Option<Account>,
    pub credential: Option<Credential>,
    pub violation: Option<String>,
    /// The calls of the account so far, with this one.
    pub call: u64,
    /// Milliseconds since 1970.
    pub now_ms: u64,
}

pub type Rendered<T> = Result<T, minijinja::Error>;

impl Sandbox {
    /// Answers a request and writes it into the list of calls.
    pub fn answer(&self, request: &Request) -> Reply {
        let Some(mut exchange) = Exchange::new(self, request) else {
            return Reply::html(502, "<h1>No vendor of the sandbox has this host</h1>\n");
        };
        let mut reply = match exchange.run() {
            Ok(reply) => reply,
            Err(error) => {
                exchange.violate(format!("the vendor's file: {}", whole_error(&error)));
                Reply::html(500, "<h1>A template of the sandbox failed</h1>\n")
            }
        };
        self.disturb(&mut exchange, &mut reply);
        exchange.record(&reply);
        if request.method == "HEAD" {
            reply.body.clear();
        }
        reply
    }

    /// What `--latency` and `--faults` do.
    fn disturb(&self, exchange: &mut Exchange<'_>, reply: &mut Reply) {
        reply.delay += self.latency();
        let account = exchange.account.as_ref();
        match self.fault(4) {
            None => {}
            Some(0) => *reply = Reply { delay: reply.delay, ..Reply::html(500, "<h1>500</h1>\n") },
            Some(1) => *reply = Reply { delay: reply.delay, ..Reply::html(503, "<h1>503</h1>\n") },
            Some(2) => reply.delivery = crate::reply::Delivery::Cut,
            Some(_) => {
                let scope = exchange.scope(account);
                if let Ok(throttled) = exchange.named("throttled", &scope) {
                    *reply = Reply { delay: reply.delay, ..throttled };
                }
            }
        }
    }
}

fn whole_error(error: &minijinja::Error) -> String {
    use std::error::Error;
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(&format!(": {inner}"));
        source = inner.source();
    }
    text
}

impl<'a> Exchange<'a> {
    /// Chooses the vendor. Several vendors can share a host (`graph.microsoft.com`): the one that has the path and knows the
    /// caller comes first.
    fn new(sandbox: &'a Sandbox, request: &'a Request) -> Option<Exchange<'a>> {
        let now_ms = now_ms();
        let candidates = sandbox.vendors.iter().enumerate().filter_map(|(index, vendor)| {
            let captures = vendor.hosts.iter().find_map(|pattern| pattern.captures(&request.host))?;
            let exchange = Exchange {
                sandbox,
                index,
                vendor: Arc::clone(vendor),
                request,
                captures,
                account: None,
                credential: None,
                violation: None,
                call: 0,
                now_ms,
            };
            Some(exchange)
        });
        candidates.reduce(|best, next| if next.fitness() > best.fitness() { next } else { best })
    }

    fn fitness(&self) -> (bool, bool) {
        let is_token = self.token_endpoint().is_some();
        let has_path = is_token || self.vendor.routes.iter().any(|route| self.path_captures(route).is_some());
        let knows_caller = if is_token { self.knows_client() } else { self.knows_credential() };
        (has_path, knows_caller)
    }

    pub fn now(&self) -> u64 {
        self.now_ms / 1000
    }

    pub fn violate(&mut self, reason: impl Into<String>) {
        self.violation.get_or_insert(reason.into());
    }

    pub fn captured(&self, name: &str) -> Option<&str> {
        self.captures.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn path_captures(&self, route: &Route) -> Option<Captures> {
        let is_host = route.host.as_ref().is_none_or(|host| host.captures(&self.request.host).is_some());
        if is_host { route.path.captures(&self.request.path) } else { None }
    }

    /// Adds the headers that every answer of the vendor has, and what its mood does to an answer.
    pub fn finish(&self, mut reply: Reply) -> Rendered<Reply> {
        let scope = self.scope(self.account.as_ref());
        let mut common = Reply::new(200);
        common.add_headers(&self.vendor.headers, &scope)?;
        for (name, value) in common.headers {
            if reply.header(&name).is_none_or(|own| name == "content-type" && own == JSON) {
                reply.add_header(&name, value);
            }
        }
        if let Some(account) = &self.account {
            moods::late(account, &mut reply);
        }
        Ok(reply)
    }

    pub fn no_account(&mut self) -> Rendered<Reply> {
        match self.vendor.answers.get("no_account") {
            Some(answer) => Reply::from_answer(answer, &self.scope(None)),
            None => Ok(Reply::html(404, NO_ACCOUNT)),
        }
    }

    /// The answer `name` of the vendor, or what stands for it.
    pub fn named(&self, name: &str, scope: &Scope) -> Rendered<Reply> {
        let instead = match name {
            "expired" | "revoked" | "wrong_kind" | "other_account" => "unauthorized",
            "bad_cursor" => "error",
            "dpop_missing" | "use_dpop_nonce" | "invalid_dpop_proof" => "unauthorized",
            _ if name.starts_with("bad_assertion_") && self.vendor.answers.contains_key("bad_assertion") => "bad_assertion",
            _ if name.starts_with("bad_assertion") => "unauthorized",
            _ if name.starts_with("bad_signature_") && self.vendor.answers.contains_key("bad_signature") => "bad_signature",
            _ if name.starts_with("bad_signature") => "unauthorized",
            _ if name.starts_with("throttled_") => "throttled",
            _ => name,
        };
        if let Some(answer) = self.vendor.answers.get(name).or_else(|| self.vendor.answers.get(instead)) {
            let mut reply = Reply::from_answer(answer, scope)?;
            if name == "use_dpop_nonce" {
                reply.headers.push(("dpop-nonce".to_owned(), crate::dpop::nonce(self.now())));
            }
            return Ok(reply);
        }
        let status = match instead {
            "unauthorized" => 401,
            "forbidden" => 403,
            "not_found" => 404,
            "method_not_allowed" => 405,
            "throttled" => 429,
            _ => 400,
        };
        Ok(Reply::json(status, &serde_json::json!({"error": instead})))
    }

    /// The names that templates can use.
    pub fn scope(&self, account: Option<&Account>) -> Scope {
        let request = self.request;
        let mut scope = Scope::default();
        scope.set("host", request.host.as_str());
        scope.set("base", request.vendor_origin());
        scope.set("method", request.method.as_str());
        scope.set("path", request.raw_path.as_str());
        scope.set_json("query", &mapping(&request.query));
        scope.set_json("header", &header_mapping(&request.headers));
        scope.set_json("form", &mapping(&request.form));
        if let Some(json) = &request.json {
            scope.set_json("json", json);
        }
        scope.set("now", self.now());
        scope.set("now_ms", self.now_ms);
        scope.set("minute_end", (self.now() / 60 + 1) * 60);
        scope.set("calls", self.call);
        set_captures(&mut scope, &self.captures);
        if let Some(credential) = &self.credential {
            scope.set_json("credential", &credential.data);
        }
        if let Some(account) = account {
            scope.set_json("account", &account.data);
            let data = self.sandbox.data(self.index, account, &request.host);
            scope.set("data", Value::from_dyn_object(data));
            scope.set_json("kept", &self.sandbox.kept.lists(self.index, &account.key));
        }
        scope
    }

    fn record(self, reply: &Reply) {
        let token = self.token_endpoint().is_some();
        let own = self.credential.as_ref().and_then(|own| own_account(&self.vendor.accounts, own));
        self.sandbox.calls.add(Call {
            at_ms: self.now_ms,
            from_port: self.request.from_port,
            family: self.vendor.family.clone(),
            account: self.account.or(own).map(|account| account.key),
            credential: self.credential.map(|credential| credential.name),
            method: self.request.method.clone(),
            host: self.request.host.clone(),
            path: self.request.raw_path.clone(),
            query: self.request.raw_query.clone(),
            status: reply.status,
            token,
            violation: self.violation,
        });
    }
}

/// Parts of host and path. The name `account` means the account itself.
pub fn set_captures(scope: &mut Scope, captures: &Captures) {
    for (name, value) in captures.iter().filter(|(name, _)| name != "account") {
        scope.set(name, value.as_str());
    }
}
