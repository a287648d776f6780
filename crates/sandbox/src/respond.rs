//! How a vendor answers a request: from the host to the reply.

use crate::access::{Lack, Presented, belongs, has_one, lack, own_account};
use crate::config::{Account, Authentication, List, ListSource, Route};
use crate::exchange::{Exchange, Rendered, set_captures};
use crate::lists::{Page, PageResult, page};
use crate::moods;
use crate::pattern::Captures;
use crate::reply::{Reply, rendered_status};
use crate::request::Request;
use crate::template::{Scope, value};
use minijinja::Value;
use std::sync::Arc;
use std::time::Duration;

impl Exchange<'_> {
    /// Answers the request.
    ///
    /// # Errors
    /// Fails if a template does.
    pub fn run(&mut self) -> Rendered<Reply> {
        if let Some(name) = self.captured("account") {
            match self.vendor.accounts.find(name) {
                Some(account) => self.account = Some(account),
                None => return self.no_account(),
            }
        }
        if let Some(at) = self.token_endpoint() {
            return self.run_token(at);
        }
        if let Some(reply) = self.run_authorize() {
            return self.finish(reply);
        }
        let presented = self.present();
        if let Presented::Known(credential) = &presented {
            self.credential = Some((**credential).clone());
        }
        match self.find_route()? {
            RouteMatch::Route(at, captures, account) => {
                self.captures.extend(captures);
                self.account = account;
                let vendor = Arc::clone(&self.vendor);
                match vendor.routes.get(at) {
                    Some(route) => self.run_route(route, &presented),
                    None => self.named("not_found", &self.scope(None)),
                }
            }
            RouteMatch::OtherMethod => {
                self.violate(format!("the vendor's file has no {} {}", self.request.method, self.request.path));
                self.named("method_not_allowed", &self.scope(self.account.as_ref()))
            }
            RouteMatch::NotWhen => {
                // Something that does not exist may be read, but not written.
                if !matches!(self.request.method.as_str(), "GET" | "HEAD") {
                    let Request { method, path, .. } = self.request;
                    self.violate(format!("the vendor's file has no {method} {path} with what this one contains"));
                }
                self.named("not_found", &self.scope(self.account.as_ref()))
            }
            RouteMatch::Nothing => {
                self.violate(format!("the vendor's file has no path {}", self.request.path));
                self.named("not_found", &self.scope(self.account.as_ref()))
            }
        }
    }

    fn find_route(&self) -> Rendered<RouteMatch> {
        let mut found = RouteMatch::Nothing;
        let method = if self.request.method == "HEAD" { "GET" } else { &self.request.method };
        for (at, route) in self.vendor.routes.iter().enumerate() {
            let Some(captures) = self.path_captures(route) else { continue };
            if !route.methods.iter().any(|known| known == method) {
                found = if matches!(found, RouteMatch::NotWhen) { found } else { RouteMatch::OtherMethod };
                continue;
            }
            let account = self.account_of(&captures);
            if let Some(when) = &route.when {
                let mut scope = self.scope(account.as_ref());
                set_captures(&mut scope, &captures);
                if !when.holds(&scope)? {
                    found = RouteMatch::NotWhen;
                    continue;
                }
            }
            return Ok(RouteMatch::Route(at, captures, account));
        }
        Ok(found)
    }

    /// The account of a request: named by the host, else by the path, else by the credential. The mood of the credential's
    /// account counts where the request names the account without one.
    fn account_of(&self, captures: &Captures) -> Option<Account> {
        let by_path = captures.iter().find(|(name, _)| name == "account");
        let named = match (&self.account, by_path) {
            (Some(account), _) => Some(account.clone()),
            (None, Some((_, name))) => self.vendor.accounts.find(name),
            (None, None) => None,
        };
        let own = self.credential.as_ref().and_then(|own| own_account(&self.vendor.accounts, own));
        match (named, own) {
            (Some(named), Some(own)) if named.moods.is_empty() && own.name == named.name && !own.moods.is_empty() => {
                let moods = own.moods;
                Some(Account { moods, ..named })
            }
            (Some(named), _) => Some(named),
            (None, own) => own.filter(|_| by_path.is_none()),
        }
    }

    fn run_route(&mut self, route: &Route, presented: &Presented) -> Rendered<Reply> {
        self.check_parameters(route);
        if let Some(reply) = self.count_and_mood(false) {
            return Ok(reply);
        }
        if let Some(reply) = self.own_mood(true)? {
            return Ok(reply);
        }
        if let Some(reply) = self.refuse_caller(route, presented)? {
            return self.finish(reply);
        }
        if self.account.is_none() && route.path.names("account") {
            return self.no_account();
        }
        if let Some(reply) = self.limit()? {
            return Ok(reply);
        }
        if let Some(reply) = self.refuse_right(route)? {
            return self.finish(reply);
        }
        if let Some(reply) = self.own_mood(false)? {
            return self.finish(reply);
        }
        let reply = self.serve(route)?;
        self.finish(reply)
    }

    /// Parameters that the vendor's file does not have.
    fn check_parameters(&mut self, route: &Route) {
        let unknown = self.request.query.iter().find(|(name, _)| !route.allows(name)).map(|(name, _)| name.clone());
        if let Some(name) = unknown {
            self.violate(format!("the query parameter {name} is not in the vendor's file"));
        }
        let Some(known) = &route.body else { return };
        let of_json = self.request.json.as_ref().and_then(|json| json.as_object()).map(|map| map.keys().cloned());
        let of_form = self.request.form.iter().map(|(name, _)| name.clone());
        let unknown = of_form.chain(of_json.into_iter().flatten()).find(|name| !known.contains(name));
        if let Some(name) = unknown {
            self.violate(format!("the parameter {name} of the body is not in the vendor's file"));
        }
    }

    /// Counts the call, and answers for the vendor's infrastructure.
    pub fn count_and_mood(&mut self, is_token: bool) -> Option<Reply> {
        let key = self.account.as_ref().map_or("", |account| account.key.as_str());
        self.call = self.sandbox.count(self.index, key, "calls");
        if self.sandbox.is_out(&self.vendor.family) {
            return Some(moods::down());
        }
        let account = self.account.as_ref()?;
        let call = if is_token { self.call } else { self.sandbox.count(self.index, key, "api") };
        let mut reply = moods::early(account, call, &self.request.raw_path, is_token)?;
        reply.delay += if account.has("slow") { moods::SLOW } else { Duration::ZERO };
        Some(reply)
    }

    fn limit(&self) -> Rendered<Option<Reply>> {
        let Some(account) = &self.account else { return Ok(None) };
        if self.sandbox.throttles(&self.vendor.family, self.call) {
            return self.named("throttled", &self.scope(Some(account))).map(Some);
        }
        let Some(mood) = account.moods.iter().find(|mood| *mood == "limited" || mood.starts_with("limited_")) else {
            return Ok(None);
        };
        if self.sandbox.count(self.index, &account.key, "limited") > self.vendor.limit_for {
            return Ok(None);
        }
        let name = format!("throttled{}", mood.strip_prefix("limited").unwrap_or_default());
        self.named(&name, &self.scope(Some(account))).map(Some)
    }

    /// A mood of this vendor. `early` are those that come before the credential is looked at.
    fn own_mood(&self, early: bool) -> Rendered<Option<Reply>> {
        let Some(account) = &self.account else { return Ok(None) };
        for (name, mood) in &self.vendor.moods {
            if mood.early != early || !account.has(name) || !mood.concerns(&self.request.path) {
                continue;
            }
            let count = self.sandbox.count(self.index, &format!("{name} {}", account.key), "own");
            if mood.calls.is_some_and(|calls| count > calls) {
                continue;
            }
            let Some(answer) = &mood.answer else { continue };
            let mut reply = self.named(answer, &self.scope(Some(account)))?;
            reply.delay += Duration::from_millis(mood.delay.unwrap_or(0));
            return Ok(Some(reply));
        }
        Ok(None)
    }

    /// The refusal of a caller that the vendor does not know, or that belongs elsewhere.
    fn refuse_caller(&mut self, route: &Route, presented: &Presented) -> Rendered<Option<Reply>> {
        if route.authentication == Authentication::None {
            return Ok(None);
        }
        let refusal = match presented {
            Presented::Nothing | Presented::Unknown => Some("unauthorized"),
            Presented::Refused(name) => Some(name.as_str()),
            Presented::WrongKind(credential) => {
                self.credential = Some((**credential).clone());
                Some("wrong_kind")
            }
            Presented::Known(credential) => match credential.state.as_deref() {
                Some(state) => Some(state),
                None if !route.kinds.is_empty() && !route.kinds.contains(&credential.kind) => Some("wrong_kind"),
                None => {
                    let account = self.account.as_ref();
                    let is_other = account.is_some_and(|own| !belongs(&self.vendor.accounts, credential, own));
                    is_other.then_some("other_account")
                }
            },
        };
        let Some(name) = refusal else { return Ok(None) };
        if route.authentication == Authentication::Optional {
            self.credential = None;
            return Ok(None);
        }
        self.named(name, &self.scope(self.account.as_ref())).map(Some)
    }

    fn refuse_right(&self, route: &Route) -> Rendered<Option<Reply>> {
        let mut scope = self.scope(self.account.as_ref());
        match lack(route, self.credential.as_ref()) {
            None => return Ok(None),
            Some(Lack::Scopes(scopes)) => scope.set("needed", Value::from(scopes)),
            Some(Lack::Roles(roles)) => {
                scope.set("needed", Value::from(Vec::<String>::new()));
                scope.set("needed_roles", Value::from(roles));
            }
        }
        self.named("forbidden", &scope).map(Some)
    }

    /// The answer of a route to a caller that may have it.
    fn serve(&mut self, route: &Route) -> Rendered<Reply> {
        let mut scope = self.scope(self.account.as_ref());
        if let (Some(keep), Some(account)) = (&route.keep, &self.account) {
            let key = keep.key.render_text(&scope)?;
            let item = keep.item.render(&scope)?.unwrap_or_default();
            self.sandbox.kept.keep(self.index, &account.key, &keep.list, key, item.clone());
            scope.set_json("kept_item", &item);
        }
        if let Some(list) = &route.list {
            let is_blind = !has_one(&route.blind_without, self.credential.as_ref().map_or(&[], |own| &own.roles))
                || !route.blind_without.is_empty() && self.account.as_ref().is_some_and(|account| account.has("blind"));
            let all = self.all_items(list, &scope)?;
            let place = format!("{} {}", self.request.path, self.account.as_ref().map_or("", |account| &account.key));
            let page = match page(list, &all, self.request, &place) {
                PageResult::Page(page) if is_blind => Page::without_items(page.size),
                PageResult::Page(page) => page,
                PageResult::BadCursor => return self.named("bad_cursor", &scope),
                PageResult::OverMax(answer) => return Reply::from_answer(answer, &scope),
            };
            page.name(list, self.request, &mut scope);
            if page.next.is_some() && self.account.as_ref().is_some_and(|account| account.has("strayed")) {
                self.stray(&mut scope);
            }
        }
        if let Some(name) = &route.named {
            let mut reply = self.named(name, &scope)?;
            reply.add_headers(&route.headers, &scope)?;
            return Ok(reply);
        }
        let mut reply = Reply::new(200);
        if let Some(answer) = &route.answer {
            match answer.render(&scope)? {
                Some(body) => reply.set_body(&body),
                None => return self.named("not_found", &scope),
            }
        }
        if let Some(status) = &route.status {
            reply.status = rendered_status(status, &scope)?;
        }
        reply.add_headers(&route.headers, &scope)?;
        Ok(reply)
    }

    /// Lets the next page be on another host.
    fn stray(&self, scope: &mut Scope) {
        let next = scope.text("next_url").unwrap_or_default();
        let strayed = next.replacen(&self.request.vendor_origin(), &format!("https://{}", moods::OTHER_HOST), 1);
        scope.set("next_url", strayed);
        scope.set("host", moods::OTHER_HOST);
        scope.set("base", format!("https://{}", moods::OTHER_HOST));
    }

    fn all_items(&self, list: &List, scope: &Scope) -> Rendered<Arc<Vec<Value>>> {
        match (&list.source, &self.account) {
            (ListSource::Dataset(name), Some(account)) => self.sandbox.data(self.index, account, &self.request.host).items(name),
            (ListSource::Dataset(_), None) => Ok(Arc::default()),
            (ListSource::Expression(expression), account) => {
                if account.as_ref().is_some_and(|account| account.has("empty")) {
                    return Ok(Arc::default());
                }
                let items = expression.render(scope)?.unwrap_or_default();
                let items = items.as_array().cloned().unwrap_or_default();
                Ok(Arc::new(items.into_iter().map(|item| value(&item)).collect()))
            }
        }
    }
}

/// The route of a request.
enum RouteMatch {
    Route(usize, Captures, Option<Account>),
    /// The path exists, but not with this method.
    OtherMethod,
    /// Path and method exist, but not for what the request asks.
    NotWhen,
    Nothing,
}
