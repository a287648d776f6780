//! Where a person would give an authorization. The sandbox gives it at once.

use crate::exchange::Exchange;
use crate::minted::Grant;
use crate::reply::Reply;
use url::Url;

/// How long a code lives, in seconds.
const CODE_LIFETIME: u64 = 600;

impl Exchange<'_> {
    /// Answers a request to an authorization endpoint; `None` if the request is for something else.
    pub fn run_authorize(&mut self) -> Option<Reply> {
        if self.request.method != "GET" {
            return None;
        }
        let at =
            self.vendor.tokens.iter().position(|endpoint| {
                endpoint.authorize.as_ref().is_some_and(|path| path.captures(&self.request.path).is_some())
            })?;
        let endpoint = self.vendor.tokens.get(at)?;
        let captures = endpoint.authorize.as_ref()?.captures(&self.request.path).unwrap_or_default();
        let needs_challenge = endpoint.pkce;
        let separator = endpoint.scope_separator.clone();
        let query = |name: &str| self.request.query(name);
        let page = |text: &str| Some(Reply::html(400, &format!("<h1>400</h1><p>{text}</p>\n")));
        let client = self.vendor.clients.iter().find(|client| Some(client.id.as_str()) == query("client_id"));
        let Some(client) = client.cloned() else { return page("client_id is not the one of a client") };
        let redirect_uri = query("redirect_uri").unwrap_or_default().to_owned();
        if !client.redirect_uris.iter().any(|own| is_redirect(own, &redirect_uri)) {
            return page("redirect_uri is not registered for the client");
        }
        let Ok(mut target) = Url::parse(&redirect_uri) else { return page("redirect_uri is not an address") };
        let state = query("state").map(str::to_owned);
        let challenge = query("code_challenge").map(str::to_owned);
        let asked: Vec<String> =
            query("scope").unwrap_or_default().split(separator.as_str()).map(str::to_owned).filter(|s| !s.is_empty()).collect();
        let known = &client.credential.scopes;
        let error = match () {
            () if query("response_type") != Some("code") => Some("unsupported_response_type"),
            () if needs_challenge && challenge.is_none() => Some("invalid_request"),
            () if challenge.is_some() && query("code_challenge_method") != Some("S256") => Some("invalid_request"),
            () if !asked.iter().all(|scope| known.contains(scope)) => Some("invalid_scope"),
            () => None,
        };
        if let Some(error) = error {
            target.query_pairs_mut().append_pair("error", error);
        } else {
            let named = captures.iter().find(|(name, _)| name == "account").map(|(_, name)| name.clone());
            let own = self.account.as_ref().map(|account| account.key.clone());
            let code = self.sandbox.random_text(32);
            let grant = Grant {
                client: client.id.clone(),
                account: own.or(named).or_else(|| client.credential.accounts.first().cloned()),
                scopes: if asked.is_empty() { known.clone() } else { asked },
                ends_at: self.now() + CODE_LIFETIME,
                redirect_uri: Some(redirect_uri),
                challenge,
                dpop: None,
            };
            self.sandbox.minted.add_code(self.index, code.clone(), grant, self.now());
            target.query_pairs_mut().append_pair("code", &code);
        }
        if let Some(state) = state {
            target.query_pairs_mut().append_pair("state", &state);
        }
        self.credential = Some(client.credential);
        let mut reply = Reply::new(302);
        reply.headers.push(("location".to_owned(), target.into()));
        Some(reply)
    }
}

/// A redirect to loopback may have any port, by RFC 8252, 7.3; every other address is compared exactly.
fn is_redirect(registered: &str, sent: &str) -> bool {
    if registered == sent {
        return true;
    }
    let bare = |text: &str| {
        let mut url = Url::parse(text).ok()?;
        let is_loopback = url.scheme() == "http" && matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"));
        url.set_port(None).ok()?;
        is_loopback.then_some(url)
    };
    bare(registered).is_some() && bare(registered) == bare(sent)
}
