//! `aam mcp`: the tools of assistants and agents on stdin and stdout.
//!
//! Reading tools are answered from the file of the registry, whether or not a daemon runs. `verify_connection` asks the
//! running daemon, because only the process that holds the registry may record a check.
//!
//! With `AAM_TOKEN`, a caller may do what this token of the policy may do. Without it, the caller is the user who started this
//! command, who can read the file anyway.

use super::daemon_request::DaemonRequest;
use super::report::policy_in_force;
use super::{CommandError, CommandResult, CommonOptions};
use crate::clock;
use crate::daemon::env;
use crate::policy::{ActivePolicy, TokenScope};
use crate::reconcile::Handle;
use crate::registry::Registry;
use crate::server::app::App;
use crate::server::auth::{self, Caller, RequestSource};
use crate::server::connections::{ClientConnection, ConnectionTable};
use crate::server::mcp::http::InProcess;
use crate::server::mcp::tools::Tool;
use crate::server::mcp::{McpServer, ToolBackend, ToolReply};
use crate::server::{ServerInfo, ServerLimits};
use axum::http::{HeaderMap, HeaderValue, header};
use futures_util::future::BoxFuture;
use rmcp::ServiceExt;
use rmcp::transport::stdio;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// The timeout of a request to the daemon. It is longer than the 30 s that the daemon waits for a check.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The tools of this process.
struct Local {
    common: CommonOptions,
    app: Arc<App>,
    client: Arc<ClientConnection>,
    caller: Caller,
}

/// Serves until stdin ends. Exits with 0 then, and with 1 or 78 if it cannot start.
pub async fn run(common: &CommonOptions) -> CommandResult {
    let local = open(common)?;
    let failed = |error: String| CommandError::new(format!("the assistant ended the session: {error}"));
    let service = McpServer(local).serve(stdio()).await.map_err(|error| failed(error.to_string()))?;
    service.waiting().await.map_err(|error| failed(error.to_string()))?;
    Ok(ExitCode::SUCCESS)
}

fn open(common: &CommonOptions) -> Result<Local, CommandError> {
    let clock = clock::from_env();
    let registry = Registry::open_read_only(&common.registry, Arc::clone(&clock))?;
    let loaded = policy_in_force(common, registry.reader())?;
    let active = ActivePolicy::new(loaded, None);
    let caller = caller(common, &active)?;
    let handle = Handle::new(Arc::new(registry), Arc::clone(&clock), active, common.intents.clone(), common.policy.clone());
    let info = ServerInfo {
        service: "aam".to_string(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        pid: std::process::id(),
        registry: common.registry.to_string(),
        started: clock.now().rfc3339(),
        port: common.port,
    };
    let environment = Arc::new(env(&handle));
    let app = App::new(handle, environment, info, ServerLimits::default(), None, None);
    let here = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let client = ConnectionTable::new(1, 0).admit(here.ip(), here);
    let client = client.ok_or_else(|| CommandError::new("could not create the connection of the assistant"))?;
    Ok(Local { common: common.clone(), app, client, caller })
}

/// Returns who calls: the owner of `AAM_TOKEN`, or else the user of this command.
fn caller(common: &CommonOptions, active: &ActivePolicy) -> Result<Caller, CommandError> {
    let policy = Arc::clone(&active.policy);
    let Some(token) = std::env::var("AAM_TOKEN").ok().filter(|token| !token.is_empty()) else {
        return Ok(Caller::operator(policy));
    };
    let value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| CommandError::new("AAM_TOKEN is not a token; aam token new creates one"))?;
    let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
    let admin = auth::read_admin(common.registry.local()).ok();
    let source = RequestSource { browser: false, cross_origin: false };
    auth::caller(&policy, admin.as_ref(), &headers, source, clock::from_env().now())
        .map_err(|problem| CommandError::new(format!("AAM_TOKEN was not accepted: {}", problem.detail)))
}

impl Local {
    /// Answers from the registry as it is now, under the policy as it is now.
    async fn read(&self, tool: &'static Tool, target: String) -> ToolReply {
        let handle = &self.app.handle;
        let current = policy_in_force(&self.common, handle.registry.reader()).and_then(|loaded| {
            handle.policy.store(Arc::new(ActivePolicy::new(loaded, None)));
            let caller = caller(&self.common, &handle.policy.load())?;
            handle.registry.refresh()?;
            Ok(caller)
        });
        match current {
            Ok(caller) => {
                let (app, client) = (Arc::clone(&self.app), Arc::clone(&self.client));
                InProcess { app, client, caller }.call(tool, target).await
            }
            Err(error) => problem(503, &error.message),
        }
    }

    /// Asks the daemon that holds the registry.
    async fn ask_daemon(&self, tool: &'static Tool, target: String) -> ToolReply {
        let scope = tool.scope().unwrap_or(TokenScope::OpsHeal);
        if let Err(refused) = self.caller.require_scope(scope) {
            let body = serde_json::to_value(&*refused).unwrap_or_default();
            return ToolReply { status: refused.status, body };
        }
        let daemon = DaemonRequest {
            common: &self.common,
            scope: scope.as_str(),
            without_token: "",
            timeout: TIMEOUT,
            prefer: "wait=30",
            ends_on_trouble: false,
        };
        match daemon.post(&target, &json!({})).await {
            Ok(body) => ToolReply { status: 200, body },
            Err(error) => problem(503, &error.message),
        }
    }
}

impl ToolBackend for Local {
    fn may(&self, scope: TokenScope) -> bool {
        self.caller.require_scope(scope).is_ok()
    }

    fn call(&self, tool: &'static Tool, target: String) -> BoxFuture<'_, ToolReply> {
        Box::pin(async move {
            if tool.is_read() {
                return self.read(tool, target).await;
            }
            self.ask_daemon(tool, target).await
        })
    }
}

fn problem(status: u16, detail: &str) -> ToolReply {
    let body: Value = json!({"status": status, "title": "Not available", "detail": detail});
    ToolReply { status, body }
}
