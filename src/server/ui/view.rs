//! What every page is made from.

use super::super::app::App;
use super::super::auth::Caller;
use super::super::past_snapshots::past_snapshot;
use super::super::problem::ApiProblem;
use super::super::query::{QueryParams, instant};
use super::super::request::{ApiRequest, ApiResult};
use super::super::session::SignedIn;
use super::html_response;
use crate::model::{DEMO_NAMESPACE, Timestamp};
use crate::page::frame::Seal;
use crate::page::{Banner, Frame, Links, Person, Place, document};
use crate::policy::TokenScope;
use crate::snapshot::Snapshot;
use axum::http::StatusCode;
use maud::Markup;
use std::sync::Arc;

/// The parameters that select what a page shows. The others name an entry, a version or a page of a list, which another time may
/// not have, or say what the reader has just done.
const FILTERS: [&str; 12] =
    ["q", "state", "family", "owner", "risk", "warning", "cause", "stage", "sort", "range", "stream", "all"];

/// The reader of a page, and what the address of the page says.
pub struct View {
    pub app: Arc<App>,
    pub session: SignedIn,
    pub namespace: String,
    /// Addresses that keep the namespace and the instant.
    pub links: Links,
    /// The current time, also if the page shows the past.
    pub now: Timestamp,
    pub query: QueryParams,
    /// The path of the page, without the prefix.
    path: String,
    /// The version of what pages show, from before the page was rendered, see [`App::page_version`].
    page_version: String,
    /// The registry as of the instant of the page, if that is in the past.
    past: Option<Arc<Snapshot>>,
}

/// The part of a page within the frame.
pub struct Page {
    pub title: String,
    pub place: Place,
    pub main: Markup,
}

impl View {
    /// Reads the namespace and the instant of a request.
    ///
    /// # Errors
    /// 400, 403, 503.
    pub async fn new(request: &ApiRequest) -> Result<View, ApiProblem> {
        let session = request.session.clone().ok_or_else(|| ApiProblem::defect("The page was opened without a reader."))?;
        let namespace = match request.query.get("namespace") {
            Some(_) => request.namespace()?,
            // A reader without access to the namespace of the policy sees one of their own.
            None => session.caller.first_namespace().to_string(),
        };
        session.caller.require_namespace(&namespace)?;
        let page_version = request.app.page_version();
        let now = request.app.handle.clock.now();
        let at = page_instant(&request.query)?.filter(|at| *at < now);
        let past = match at {
            Some(at) => Some(past_snapshot(&request.app, at).await?),
            None => None,
        };
        let is_default = namespace == request.app.handle.policy().namespace;
        let links = Links {
            prefix: request.prefix.join("/").trim_end_matches('/').to_string(),
            namespace: (!is_default).then(|| namespace.clone()),
            at,
        };
        Ok(View {
            app: Arc::clone(&request.app),
            session,
            namespace,
            links,
            now,
            query: request.query.clone(),
            path: request.path.clone(),
            page_version,
            past,
        })
    }

    /// Runs `read` on the registry as of the instant of the page. It must be short, because the writer waits for it.
    pub fn snapshot<T>(&self, read: impl FnOnce(&Snapshot) -> T) -> T {
        match &self.past {
            Some(past) => read(past),
            None => read(&self.app.handle.registry.snapshot()),
        }
    }

    /// Whether the page shows the past. What is not in the ledger, for example the problems of files, is not known then.
    #[must_use]
    pub fn is_past(&self) -> bool {
        self.past.is_some()
    }

    /// The instant that the page shows: the current time, or an instant of the past.
    #[must_use]
    pub fn as_of(&self) -> Timestamp {
        self.links.at.unwrap_or(self.now)
    }

    /// The reader.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.session.caller
    }

    /// Whether the reader may do what needs `scope`. Nothing can be done to the past.
    #[must_use]
    pub fn may(&self, scope: TokenScope) -> bool {
        !self.is_past() && self.caller().require_scope(scope).is_ok()
    }

    /// Whether the reader may see what concerns all namespaces: the problems of files, the text of the policy, the webhooks.
    #[must_use]
    pub fn sees_registry(&self) -> bool {
        self.caller().may_read(&self.app.handle.policy().namespace)
    }

    /// The namespaces that the reader may read.
    fn namespaces(&self, of_policy: &str) -> Vec<String> {
        let mut names = self.snapshot(Snapshot::namespaces);
        names.extend([of_policy.to_string(), self.namespace.clone()]);
        if self.snapshot(|snapshot| snapshot.sealed.contains(DEMO_NAMESPACE)) {
            names.insert(DEMO_NAMESPACE.to_string());
        }
        names.into_iter().filter(|name| self.caller().may_read(name)).collect()
    }

    /// What every page says until it is corrected.
    fn banners(&self) -> Vec<Banner> {
        let mut banners = Vec::new();
        if self.is_past() {
            return banners;
        }
        let handle = &self.app.handle;
        let trouble = handle.trouble.load();
        if !trouble.is_empty() {
            banners.push(Banner {
                title: "The registry cannot write".to_string(),
                text: trouble.to_string(),
                fix: String::new(),
                href: self.links.to("/ui/problems", &[]),
            });
        }
        if handle.policy.load().rejected.is_some() {
            banners.push(Banner {
                title: "The policy file is not valid; the last valid policy stays in force".to_string(),
                text: String::new(),
                fix: String::new(),
                href: self.links.to("/ui/problems", &[]),
            });
        }
        banners
    }

    /// The seal of the namespace. If the registry cannot be read, the page has other things to say.
    fn seal(&self) -> Option<Seal> {
        if !self.snapshot(|snapshot| snapshot.sealed.contains(&self.namespace)) {
            return None;
        }
        let entry = self.app.handle.registry.reader().seal_of(&self.namespace).ok()??;
        Some(Seal { at: entry.at, is_demo: self.namespace == DEMO_NAMESPACE })
    }

    /// What the address selects of any time.
    fn filters(&self) -> Vec<(String, String)> {
        let set = FILTERS.iter().filter_map(|name| Some((*name, self.query.get(name)?)));
        set.map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    /// The frame of a page.
    #[must_use]
    pub fn frame(&self, title: &str, place: Place) -> Frame {
        let of_policy = self.app.handle.policy().namespace.clone();
        Frame {
            title: title.to_string(),
            place,
            links: self.links.clone(),
            path: self.path.clone(),
            filters: self.filters(),
            namespace: self.namespace.clone(),
            namespaces: self.namespaces(&of_policy),
            policy_namespace: of_policy,
            as_of: self.as_of(),
            travels: true,
            person: Some(Person {
                name: self.caller().display_name().to_string(),
                signed_in: self.session.by_session,
                csrf: self.session.csrf.clone(),
            }),
            banners: self.banners(),
            seal: self.seal(),
            page_version: self.page_version.clone(),
            version: self.app.info.version.clone(),
        }
    }
}

/// Reads the parameter `at`. The field of a form for a time has no zone and often no seconds; the page says that it means UTC.
fn page_instant(query: &QueryParams) -> Result<Option<Timestamp>, ApiProblem> {
    let Some(text) = query.get("at") else { return Ok(None) };
    let text = match text.len() {
        16 => format!("{text}:00Z"),
        19 => format!("{text}Z"),
        _ => text.to_string(),
    };
    instant("at", &text).map(Some)
}

/// Answers a request with the page that `build` makes.
///
/// # Errors
/// 400, 403, 503, and the error of `build`.
pub async fn respond(request: ApiRequest, build: impl FnOnce(&View) -> Result<Page, ApiProblem> + Send + 'static) -> ApiResult {
    let view = View::new(&request).await?;
    let app = Arc::clone(&request.app);
    let text = app
        .blocking(move |_| {
            let page = build(&view)?;
            Ok(document(&view.frame(&page.title, page.place), &page.main))
        })
        .await?;
    Ok(html_response(StatusCode::OK, text))
}
