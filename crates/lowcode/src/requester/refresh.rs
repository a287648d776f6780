//! `REFRESH_TOKEN_THEN_RETRY`: fetches another token, at most once per request (`_handle_error_resolution` of http_client.py).

use super::Requester;
use crate::context::Run;
use crate::error::{Failed, FailureType};
use crate::errors::{Outcome, Resolution};
use crate::host::HostRequest;

impl Requester {
    /// Fetches another token if the authenticator can. `refreshed` is `None` before the first refresh for this
    /// request, and afterwards states whether the refresh succeeded. A refresh that fails temporarily is not an error:
    /// the request is retried with the same token.
    ///
    /// # Errors
    /// Fails if the response is the same after a refresh, or if the endpoint or the host refuses the refresh.
    pub(super) async fn refresh(
        &self,
        run: &Run<'_>,
        request: &HostRequest,
        outcome: Outcome<'_>,
        resolution: &Resolution,
        refreshed: &mut Option<bool>,
    ) -> Result<(), Failed> {
        if let Some(done) = *refreshed {
            let (kind, message) = if done {
                (FailureType::ConfigError, "Refreshed OAuth access token is rejected by the API.")
            } else {
                (FailureType::TransientError, "API rejects the current OAuth access token and the token refresh failed.")
            };
            let mut failed = Failed::new(kind, "AirbyteTracedException", message);
            failed.internal = resolution.message.as_ref().map(|it| format!("Error handler message: '{}'", run.secrets.mask(it)));
            return Err(self.with_outcome(run, failed, outcome));
        }
        let Some(oauth) = self.auth.oauth() else { return Ok(()) };
        *refreshed = Some(false);
        match self.refresh_unless_replaced(run, request, oauth).await {
            Ok(()) => *refreshed = Some(true),
            Err(failed) if failed.class == "Bound" || failed.class == "Refused" => return Err(failed),
            Err(failed) if failed.class == "AirbyteTracedException" => {
                if failed.failure_type == FailureType::ConfigError || failed.host_error.is_some() {
                    return Err(failed);
                }
            }
            Err(failed) if failed.status.is_some_and(|status| (400..500).contains(&status) && status != 429) => {
                let message = "OAuth token refresh request is rejected by the token endpoint.".to_owned();
                let class = "AirbyteTracedException";
                return Err(failed.with(|it| {
                    it.failure_type = FailureType::ConfigError;
                    it.class = class;
                    it.message = message;
                }));
            }
            Err(_) => {}
        }
        Ok(())
    }

    /// Another stream may have replaced the token since this request was sent.
    async fn refresh_unless_replaced(
        &self,
        run: &Run<'_>,
        request: &HostRequest,
        oauth: &crate::auth::oauth::OAuth,
    ) -> Result<(), Failed> {
        let current = self.auth.header(run).await?;
        let current = current.get("Authorization").map(|it| it.to_str());
        match request.header("Authorization") {
            Some(sent) if current.as_deref().is_some_and(|it| it != sent) => Ok(()),
            _ => oauth.refresh(run).await,
        }
    }
}
