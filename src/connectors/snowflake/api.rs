//! Runs one statement over Snowflake's SQL API and returns its whole result.
//!
//! Sources: docs.snowflake.com, "SQL API: Submitting a request", "Handling responses" and "Checking the status of the
//! execution" \[V\]: a statement that is done within 45 s is answered with 200, any other with 202 and a handle, whose address is
//! then read until the statement is done. A request is sent again with the same `requestId` and `retry=true`, so that
//! Snowflake does not execute it twice. A large result has several partitions, which are read one by one.

use super::classify::{self, CallContext};
use super::login::Authorization;
use super::result_set::{ResultSet, partitions};
use super::spec::SnowflakeSpec;
use crate::connectors::json_memory;
use crate::credentials::Secret;
use crate::egress::{HttpRequest, HttpResponse, Method, Session, Traffic, is_too_long};
use crate::memory_budget::Reservation;
use crate::model::{Class, Failure};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use url::Url;

/// The path of the API below the address of the account.
pub const PATH: &str = "/api/v2/statements";

/// How often a statement is submitted again after its response was lost or a gateway failed.
const MAX_RESUBMISSIONS: u32 = 2;
/// The pause before a statement is submitted again, and the first pause before its status is read. Each further one is twice
/// as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause between two reads of a status.
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// The maximum number of partitions of one result to read. Partitions have a few MB.
const MAX_PARTITIONS: usize = 8;
/// The largest body of one response, in bytes.
const MAX_BODY_BYTES: u64 = 16 << 20;

/// The SQL API of one account.
pub struct SqlApi {
    session: Session,
    base: Url,
    authorization: Authorization,
    /// The role and the warehouse that the credential names.
    settings: Vec<(&'static str, String)>,
    spec: &'static SnowflakeSpec,
    context: Mutex<CallContext>,
    /// When the running step began.
    step: Mutex<Instant>,
    step_timeout: Duration,
    /// The HTTP status of the last response.
    last_status: AtomicU16,
}

impl SqlApi {
    #[must_use]
    pub fn new(
        session: Session,
        base: Url,
        authorization: Authorization,
        settings: Vec<(&'static str, String)>,
        (spec, context): (&'static SnowflakeSpec, CallContext),
    ) -> SqlApi {
        let step_timeout = session.caller.policy.safe_mode.step_timeout;
        // A status that can be tried again is tried again here, because only this knows the id of the request.
        let session = session.without_status_retries();
        SqlApi {
            session,
            base,
            authorization,
            settings,
            spec,
            context: Mutex::new(context),
            step: Mutex::new(Instant::now()),
            step_timeout,
            last_status: AtomicU16::new(0),
        }
    }

    /// Tells the API that a step of the attempt begins, whose time the statements share.
    pub fn begin_step(&self) {
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// What is known for messages.
    pub fn context(&self) -> MutexGuard<'_, CallContext> {
        self.context.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the last statement was refused because it does not compile or may not be run.
    #[must_use]
    pub fn statement_was_refused(&self) -> bool {
        self.last_status.load(Ordering::Relaxed) == 422
    }

    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.session.traffic()
    }

    /// Runs `statement` and reads its result.
    ///
    /// # Errors
    /// Returns the failure that Snowflake's response stands for; `Remote` if the statement is not done in time; the failures of
    /// [`Session::http`].
    pub async fn run(&self, statement: &str) -> Result<ResultSet, Failure> {
        let response = self.submit(statement).await?;
        let (body, memory) = self.finished(response).await?;
        let mut result = ResultSet::parse(&body).ok_or_else(|| self.not_a_result(200, body.to_string().as_bytes()))?;
        result.memory.push(memory);
        let count = partitions(&body);
        let handle = body.get("statementHandle").and_then(Value::as_str).unwrap_or_default();
        for number in 1..count.min(MAX_PARTITIONS) {
            let response = self.get(handle, Some(number)).await?;
            let (body, memory) = self.json(&response).await?;
            result.extend(&body).ok_or_else(|| self.not_a_result(response.status, &response.body))?;
            result.memory.push(memory);
        }
        result.truncated = count > MAX_PARTITIONS;
        Ok(result)
    }

    /// Runs a SHOW statement whose result must have `columns`.
    ///
    /// # Errors
    /// As [`SqlApi::run`]; `Remote` if a column is missing, because a result of another form does not say that there are no rows.
    pub async fn show(&self, statement: &str, columns: &[&str]) -> Result<ResultSet, Failure> {
        let result = self.run(statement).await?;
        let Some(missing) = columns.iter().find(|name| !result.has(name)) else { return Ok(result) };
        let host = self.context().host.clone();
        Err(Failure::new(
            Class::Remote,
            format!("{host} answered SHOW with a result that does not have the column {missing}"),
            format!("check that {host} is Snowflake, and the proxies between AAM and it"),
        )
        .detail(format!("statement {statement}")))
    }

    /// Sends the statement until a response arrives whole.
    async fn submit(&self, statement: &str) -> Result<HttpResponse, Failure> {
        let id = uuid::Uuid::new_v4().to_string();
        let mut pause = FIRST_PAUSE;
        for turn in 0.. {
            let sent = self.post(statement, &id, turn > 0).await;
            let again = match &sent {
                Ok(response) => matches!(response.status, 502..=504),
                // The response was lost, or the connection failed; a timeout leaves no time for another try.
                Err(failure) => matches!(failure.class, Class::Network | Class::Remote) && !is_too_long(failure),
            };
            if !again || turn >= MAX_RESUBMISSIONS || self.left() < self.step_timeout / 2 {
                return sent;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Err(Failure::new(Class::Bug, "a statement was never sent", "report this as a defect of AAM"))
    }

    async fn post(&self, statement: &str, id: &str, again: bool) -> Result<HttpResponse, Failure> {
        let mut url = self.address("");
        url.query_pairs_mut().append_pair("requestId", id);
        if again {
            url.query_pairs_mut().append_pair("retry", "true");
        }
        // Egress waits three quarters of a step for a response. Snowflake cancels the statement before, so that the reason is
        // known and nothing keeps running.
        let seconds = (self.step_timeout.mul_f64(0.6).as_secs()).max(1);
        let mut body = json!({"statement": statement, "timeout": seconds, "parameters": {"MULTI_STATEMENT_COUNT": "1"}});
        for (name, value) in &self.settings {
            body[*name] = value.as_str().into();
        }
        self.context().call = format!("POST {}", self.address(""));
        self.send(Method::ListedPost(Some(Secret::new(body.to_string()))), url).await
    }

    async fn get(&self, handle: &str, partition: Option<usize>) -> Result<HttpResponse, Failure> {
        let valid =
            |handle: &str| (1..=64).contains(&handle.len()) && handle.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !valid(handle) {
            let fix = "AAM retries automatically; if this happens again, a proxy changes the responses of Snowflake";
            return Err(Failure::new(Class::Remote, "Snowflake did not name the statement that it runs", fix));
        }
        let mut url = self.address(&format!("/{handle}"));
        self.context().call = format!("GET {url}");
        if let Some(partition) = partition {
            url.query_pairs_mut().append_pair("partition", &partition.to_string());
        }
        self.send(Method::Get, url).await
    }

    async fn send(&self, method: Method, url: Url) -> Result<HttpResponse, Failure> {
        let Authorization { token, token_type, .. } = &self.authorization;
        let mut headers = vec![
            ("authorization".to_string(), Secret::new(format!("Bearer {}", token.expose()))),
            ("accept".to_string(), Secret::new("application/json".to_string())),
        ];
        if let Some(token_type) = token_type {
            headers.push(("x-snowflake-authorization-token-type".to_string(), Secret::new((*token_type).to_string())));
        }
        self.last_status.store(0, Ordering::Relaxed);
        let request = HttpRequest { method, url, headers, max_bytes: MAX_BODY_BYTES, follow_redirects: true };
        let response = self.session.http(request).await?;
        self.last_status.store(response.status, Ordering::Relaxed);
        Ok(response)
    }

    /// Waits until the statement of `response` is done and returns its result.
    async fn finished(&self, mut response: HttpResponse) -> Result<(Value, Reservation), Failure> {
        let mut pause = FIRST_PAUSE;
        loop {
            let (body, memory) = self.json(&response).await?;
            if response.status != 202 {
                return Ok((body, memory));
            }
            let handle = body.get("statementHandle").and_then(Value::as_str).unwrap_or_default().to_string();
            if self.left() <= pause + FIRST_PAUSE {
                return Err(self.too_slow(&handle));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
            response = self.get(&handle, None).await?;
        }
    }

    /// Reads a response with 200 or 202.
    async fn json(&self, response: &HttpResponse) -> Result<(Value, Reservation), Failure> {
        if !matches!(response.status, 200 | 202) {
            return Err(self.failure(response.status, &response.body));
        }
        let memory = self.session.memory().reserve(json_memory::of_text(&response.body)).await;
        let memory = memory.map_err(|bound| bound.failure("a result of Snowflake"))?;
        match serde_json::from_slice::<Value>(&response.body) {
            Ok(body) if body.is_object() => Ok((body, memory)),
            _ => Err(self.not_a_result(response.status, &response.body)),
        }
    }

    fn failure(&self, status: u16, body: &[u8]) -> Failure {
        let failure = classify::classify(&self.spec.errors, status, body, &self.context());
        match failure.class {
            Class::Throttled => {
                let wait = Duration::from_millis(failure.retry_after_ms.unwrap_or(60_000));
                self.session.throttled(wait, &failure.detail)
            }
            _ => failure,
        }
    }

    fn not_a_result(&self, status: u16, body: &[u8]) -> Failure {
        classify::not_a_result(status, body, &self.context())
    }

    fn too_slow(&self, handle: &str) -> Failure {
        let account = self.context().account.clone();
        Failure::new(
            Class::Remote,
            format!("a statement is still running at {account} after {} s", self.step_timeout.as_secs()),
            "Snowflake cancels it, and AAM retries automatically; if this happens often, raise safe_mode.step_timeout in the policy",
        )
        .detail(format!("statement {handle}"))
    }

    /// The time that is left of the step.
    fn left(&self) -> Duration {
        let began = *self.step.lock().unwrap_or_else(PoisonError::into_inner);
        self.step_timeout.mul_f64(0.9).saturating_sub(began.elapsed())
    }

    fn address(&self, below: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{PATH}{below}", self.base.path().trim_end_matches('/')));
        url
    }
}
