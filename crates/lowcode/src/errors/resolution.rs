//! The outcome of sending a request, and the decision about what to do next.

use crate::error::FailureType;
use crate::response::Response;

/// What to do about a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Success,
    Retry,
    Fail,
    Ignore,
    ResetPagination,
    RateLimited,
    RefreshTokenThenRetry,
    ReducePageSize,
    SplitRequestWindow,
}

impl Action {
    /// Parses the name that manifests use.
    #[must_use]
    pub fn parse(word: &str) -> Option<Action> {
        Some(match word {
            "SUCCESS" => Action::Success,
            "RETRY" => Action::Retry,
            "FAIL" => Action::Fail,
            "IGNORE" => Action::Ignore,
            "RESET_PAGINATION" => Action::ResetPagination,
            "RATE_LIMITED" => Action::RateLimited,
            "REFRESH_TOKEN_THEN_RETRY" => Action::RefreshTokenThenRetry,
            "REDUCE_PAGE_SIZE" => Action::ReducePageSize,
            "SPLIT_REQUEST_WINDOW" => Action::SplitRequestWindow,
            _ => return None,
        })
    }

    /// Returns Python's name of the enum member, for messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Success => "SUCCESS",
            Action::Retry => "RETRY",
            Action::Fail => "FAIL",
            Action::Ignore => "IGNORE",
            Action::ResetPagination => "RESET_PAGINATION",
            Action::RateLimited => "RATE_LIMITED",
            Action::RefreshTokenThenRetry => "REFRESH_TOKEN_THEN_RETRY",
            Action::ReducePageSize => "REDUCE_PAGE_SIZE",
            Action::SplitRequestWindow => "SPLIT_REQUEST_WINDOW",
        }
    }
}

/// The decision about one response.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolution {
    pub action: Action,
    pub failure_type: Option<FailureType>,
    pub message: Option<String>,
}

/// The outcome of sending a request.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    Response(&'a Response),
    /// There was no response. Contains the class of the exception that the package `requests` would raise, and its message.
    Exception {
        class: &'static str,
        message: &'a str,
    },
}
