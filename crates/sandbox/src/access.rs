//! Who a caller is, and whether it may do what it asks for.

use crate::assertions::{CheckError, Fault, check, is_issued_by};
use crate::config::{
    Account, Accounts, Assertion, Carrier, Client, Credential, OAuth1Scheme, Route, Scheme, SchemeForm, SignatureRule,
    SignedService,
};
use crate::dpop::{ProofError, proof};
use crate::exchange::{Exchange, set_captures};
use crate::jwt::Jwt;
use crate::minted::MintedToken;
use crate::oauth1::{OAuth1Fault, SignatureCheck, SignedHeader};
use crate::request::basic;
use crate::signature::{KnownKey, Signature, SignatureFault};
use crate::template::text;

/// What a request carries.
pub enum Presented {
    Nothing,
    /// A credential that the vendor does not know.
    Unknown,
    /// A credential of the vendor, but not as its kind is sent.
    WrongKind(Box<Credential>),
    /// A credential of the vendor that is refused with this answer.
    Refused(String),
    Known(Box<Credential>),
}

impl Exchange<'_> {
    /// The credential of the request.
    pub fn present(&self) -> Presented {
        let mut presented = Presented::Nothing;
        for scheme in &self.vendor.schemes {
            if let Some(rule) = &scheme.signature {
                let is_signed = self.request.header("authorization").is_some_and(|header| header.starts_with("AWS4-"));
                if is_signed || self.vendor.schemes.len() == 1 {
                    return self.by_signature(scheme, rule);
                }
            }
            for value in scheme.forms.iter().filter_map(|form| self.sent(form)) {
                match self.look_up(scheme, &value) {
                    Presented::Known(credential) => return Presented::Known(credential),
                    better @ (Presented::WrongKind(_) | Presented::Refused(_)) => presented = better,
                    other if matches!(presented, Presented::Nothing) => presented = other,
                    _ => {}
                }
            }
        }
        match presented {
            // A header that no scheme of the vendor has is a credential too, though not one that the vendor reads.
            Presented::Nothing => self.foreign(),
            presented => presented,
        }
    }

    /// Whether the request seems to carry a credential of the vendor. Nothing is verified, and nothing is used up.
    pub fn knows_credential(&self) -> bool {
        self.vendor.schemes.iter().any(|scheme| {
            if scheme.signature.is_some() {
                return Signature::parse(self.request).is_ok_and(|signature| self.access_key(signature.access_key_id).is_some());
            }
            scheme.forms.iter().filter_map(|form| self.sent(form)).any(|value| {
                let token =
                    scheme.oauth1.as_ref().and_then(|_| SignedHeader::parse(&value)?.get("oauth_token").map(str::to_owned));
                let value = token.unwrap_or(value);
                self.vendor.credentials.iter().any(|own| own.value == value)
                    || self.sandbox.minted.find(self.index, &value).is_some()
                    || scheme.assertion.as_ref().zip(Jwt::parse(&value)).is_some_and(|(assertion, jwt)| {
                        let base = self.scope(self.account.as_ref());
                        let mut clients = self.vendor.clients.iter();
                        clients.any(|client| is_issued_by(assertion, &jwt, client, &base).unwrap_or(false))
                    })
            })
        })
    }

    fn look_up(&self, scheme: &Scheme, value: &str) -> Presented {
        let credentials = &self.vendor.credentials;
        if let Some(oauth1) = &scheme.oauth1 {
            return self.signed_request(scheme, oauth1, value);
        }
        if let Some(own) = credentials.iter().find(|own| own.kind == scheme.kind && own.value == value) {
            return Presented::Known(Box::new(own.clone()));
        }
        if let Some(token) = self.sandbox.minted.find(self.index, value) {
            return self.minted_token(token, scheme, value);
        }
        if let Some(assertion) = &scheme.assertion
            && let Some(jwt) = Jwt::parse(value)
        {
            return self.asserted(scheme, assertion, &jwt);
        }
        match credentials.iter().find(|own| own.value == value) {
            Some(other) => Presented::WrongKind(Box::new(other.clone())),
            None => Presented::Unknown,
        }
    }

    /// The credential of a request that is signed with an access key.
    fn by_signature(&self, scheme: &Scheme, rule: &SignatureRule) -> Presented {
        let refused = |fault: SignatureFault| Presented::Refused(format!("bad_signature_{}", fault.as_str()));
        let signature = match Signature::parse(self.request) {
            Ok(signature) => signature,
            Err(fault) => return refused(fault),
        };
        let Some(own) = self.access_key(signature.access_key_id).filter(|own| own.kind == scheme.kind) else {
            return refused(SignatureFault::Key);
        };
        let Some((service, region)) = self.signed_service(rule) else { return refused(SignatureFault::Scope) };
        let secret = own.value.split_once(':').map_or("", |(_, secret)| secret);
        let key = KnownKey { secret, session_token: own.data.get("session_token").and_then(serde_json::Value::as_str) };
        match signature.verify(self.request, &key, &service, &region, self.now()) {
            Ok(()) => Presented::Known(Box::new(own.clone())),
            Err(fault) => refused(fault),
        }
    }

    /// The access key with this id: the part of its value before the colon.
    fn access_key(&self, id: &str) -> Option<&Credential> {
        self.vendor.credentials.iter().find(|own| own.value.split_once(':').is_some_and(|(own, _)| own == id))
    }

    /// The service that the request was sent to, and its region. At a plain address, which stands for one host, the request
    /// itself says which service it is for.
    fn signed_service(&self, rule: &SignatureRule) -> Option<(String, String)> {
        let prefix = self.request.header("x-amz-target").map(|target| target.split('.').next().unwrap_or_default());
        let sent_to = self.request.header("host").map(|host| host.split(':').next().unwrap_or_default());
        let is_plain = sent_to.is_some_and(|host| !host.eq_ignore_ascii_case(&self.request.host));
        let fits = |service: &&SignedService| {
            let version = service.version.as_deref();
            service.target.as_deref() == prefix && version.is_none_or(|version| self.request.form("Version") == Some(version))
        };
        rule.services.iter().filter(fits).find_map(|service| {
            let captures = match service.host.captures(&self.request.host) {
                Some(captures) => captures,
                None if is_plain => self.captures.clone(),
                None => return None,
            };
            let mut scope = self.scope(None);
            set_captures(&mut scope, &captures);
            let region = service.region.render(&scope).ok()??;
            Some((service.service.clone(), text(&region)))
        })
    }

    fn minted_token(&self, token: MintedToken, scheme: &Scheme, value: &str) -> Presented {
        let mut credential = token.credential;
        if credential.kind != scheme.kind {
            return Presented::WrongKind(Box::new(credential));
        }
        let is_dpop = self.request.header("authorization").is_some_and(|header| has_prefix(header, "DPoP "));
        match (&token.dpop, is_dpop) {
            (None, false) => {}
            (None, true) => return Presented::WrongKind(Box::new(credential)),
            // RFC 9449, 7.2: a bound token is not accepted as bearer.
            (Some(_), false) => return Presented::Refused("dpop_missing".to_owned()),
            (Some(key), true) => {
                let inward = |text: &str| self.sandbox.inward(text);
                let seen = &self.sandbox.minted.seen;
                match proof(self.request, Some(value), token.dpop_nonce, self.now(), seen, &inward) {
                    Ok(own) if own == *key => {}
                    Err(ProofError::Nonce) => return Presented::Refused("use_dpop_nonce".to_owned()),
                    Ok(_) | Err(_) => return Presented::Refused("invalid_dpop_proof".to_owned()),
                }
            }
        }
        if token.ends_at <= self.now() {
            credential.state = Some("expired".to_owned());
        }
        Presented::Known(Box::new(credential))
    }

    /// A JWT that a client signed and sends as its credential.
    fn asserted(&self, scheme: &Scheme, assertion: &Assertion, jwt: &Jwt) -> Presented {
        let base = self.scope(self.account.as_ref());
        let is_issuer = |client: &&Client| is_issued_by(assertion, jwt, client, &base).unwrap_or(false);
        let refused = |fault: Fault| Presented::Refused(format!("bad_assertion_{}", fault.as_str()));
        let Some(client) = self.vendor.clients.iter().find(is_issuer) else { return refused(Fault::Issuer) };
        let inward = |text: &str| self.sandbox.inward(text);
        match check(assertion, jwt, client, &base, self.now(), &self.sandbox.minted.seen, &inward) {
            Ok(()) => {
                let kind = scheme.kind.clone();
                Presented::Known(Box::new(Credential { kind, ..client.credential.clone() }))
            }
            Err(CheckError::Fault(fault)) => refused(fault),
            Err(CheckError::Template(_)) => refused(Fault::Malformed),
        }
    }

    /// A request that is signed with the secrets of a credential.
    fn signed_request(&self, scheme: &Scheme, oauth1: &OAuth1Scheme, value: &str) -> Presented {
        let refused = |fault: OAuth1Fault| Presented::Refused(format!("bad_signature_{}", fault.as_str()));
        let Some(header) = SignedHeader::parse(value) else { return refused(OAuth1Fault::Malformed) };
        let token = header.get("oauth_token").unwrap_or_default();
        let own = self.vendor.credentials.iter().find(|own| own.kind == scheme.kind && own.value == token);
        let Some(own) = own else { return Presented::Unknown };
        let realm = match oauth1.realm.as_ref().map(|realm| realm.render_text(&self.scope(self.account.as_ref()))) {
            Some(Err(_)) => return refused(OAuth1Fault::Realm),
            Some(Ok(realm)) => Some(realm),
            None => None,
        };
        // The caller may know the vendor by its own name, or by the plain address that stands for it.
        let origin = self.request.vendor_origin();
        let origins = [self.sandbox.outward(&origin), origin];
        let (window, now, seen) = (oauth1.window, self.now(), &self.sandbox.minted.seen);
        match (SignatureCheck { realm, window, origins: &origins, now, seen }).check(&header, self.request, own) {
            Ok(()) => Presented::Known(Box::new(own.clone())),
            Err(fault) => refused(fault),
        }
    }

    fn foreign(&self) -> Presented {
        let Some(header) = self.request.header("authorization") else { return Presented::Nothing };
        let sent = header.split_once(' ').map_or(header, |(_, value)| value.trim());
        let decoded = basic(sent);
        let is_sent = |own: &&Credential| own.value == sent || decoded.as_ref() == Some(&own.value);
        match self.vendor.credentials.iter().find(is_sent) {
            Some(credential) => Presented::WrongKind(Box::new(credential.clone())),
            None => Presented::Unknown,
        }
    }

    /// The value that the request carries in this form.
    fn sent(&self, form: &SchemeForm) -> Option<String> {
        let value = match &form.carrier {
            Carrier::Header(name) => self.request.header(name)?,
            Carrier::Form(name) => self.request.form(name)?,
        };
        if let Some(when) = &form.when
            && !when.holds(&self.scope(None)).unwrap_or(false)
        {
            return None;
        }
        // A token that is bound to a key is sent as DPoP where it would else be sent as Bearer.
        let with_dpop = form.prefixes.iter().any(|prefix| prefix.eq_ignore_ascii_case("Bearer ")).then_some("DPoP ");
        let mut prefixes = form.prefixes.iter().map(String::as_str).chain(with_dpop);
        let rest = prefixes.find(|prefix| has_prefix(value, prefix)).and_then(|prefix| value.get(prefix.len()..))?.trim();
        if form.basic { basic(rest) } else { Some(rest.to_owned()) }
    }
}

fn has_prefix(value: &str, prefix: &str) -> bool {
    value.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Whether a credential belongs to an account, whatever moods either has.
pub fn belongs(accounts: &Accounts, credential: &Credential, account: &Account) -> bool {
    credential.accounts.is_empty()
        || credential
            .accounts
            .iter()
            .any(|name| *name == account.key || accounts.find(name).is_some_and(|own| own.name == account.name))
}

/// The account of a credential that has only one.
pub fn own_account(accounts: &Accounts, credential: &Credential) -> Option<Account> {
    credential.accounts.first().and_then(|name| accounts.find(name))
}

/// What a credential lacks for a route.
pub enum Lack {
    /// These scopes; one of them is enough.
    Scopes(Vec<String>),
    Roles(Vec<String>),
}

pub fn lack(route: &Route, credential: Option<&Credential>) -> Option<Lack> {
    let scopes: &[String] = credential.map_or(&[], |own| &own.scopes);
    let roles: &[String] = credential.map_or(&[], |own| &own.roles);
    let missing: Vec<String> = route.all.iter().filter(|needed| !scopes.contains(needed)).cloned().collect();
    if !missing.is_empty() {
        return Some(Lack::Scopes(missing));
    }
    if !route.needs.is_empty() && !route.needs.iter().any(|needed| scopes.contains(needed)) {
        return Some(Lack::Scopes(route.needs.clone()));
    }
    if !has_one(&route.roles, roles) {
        return Some(Lack::Roles(route.roles.clone()));
    }
    None
}

/// Whether `own` has one of `wanted`, if that names any.
pub fn has_one(wanted: &[String], own: &[String]) -> bool {
    wanted.is_empty() || wanted.iter().any(|role| own.contains(role))
}
