//! The error types: [`EvalError`] for a template or a date, [`Failed`] for a command.

use super::host::{HostError, HostErrorKind};
use super::value::Value;
use std::fmt;
use std::ops::{Deref, DerefMut};

/// The class of the failures of [`Failed::missing_list`].
const MISSING_LIST: &str = "MissingList";
/// The class of the failures of [`Failed::refused_name`].
const REFUSED_NAME: &str = "RefusedName";

/// `failure_type` of a TRACE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureType {
    ConfigError,
    SystemError,
    TransientError,
}

impl FailureType {
    /// Returns the name that the protocol uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            FailureType::ConfigError => "config_error",
            FailureType::SystemError => "system_error",
            FailureType::TransientError => "transient_error",
        }
    }
}

/// A failure of a command after the manifest was loaded. The details are boxed to keep results small, because most
/// results are not failures.
#[derive(Clone, Debug)]
pub struct Failed(Box<Details>);

/// The details of a failure.
#[derive(Clone, Debug)]
pub struct Details {
    pub failure_type: FailureType,
    /// The class of the exception that the CDK raises at this place, for example `ValueError`.
    pub class: &'static str,
    /// The message for users.
    pub message: String,
    /// Details for the author of the manifest.
    pub internal: Option<String>,
    /// The status of the HTTP response that caused the failure, if there was one.
    pub status: Option<u16>,
    /// The body of that response, truncated to 2,000 bytes.
    pub body: Option<String>,
    /// The headers of that response.
    pub headers: Vec<(String, String)>,
    /// The URL of that response, for a failure of [`Failed::missing_list`].
    pub url: Option<String>,
    /// Set if the host did not send the request or did not get a response.
    pub host_error: Option<HostError>,
}

impl Failed {
    /// Creates a failure that was not caused by an HTTP response.
    #[must_use]
    pub fn new(failure_type: FailureType, class: &'static str, message: impl Into<String>) -> Failed {
        Failed(Box::new(Details {
            failure_type,
            class,
            message: message.into(),
            internal: None,
            status: None,
            body: None,
            headers: Vec::new(),
            url: None,
            host_error: None,
        }))
    }

    /// Returns the same failure with some details changed.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Details)) -> Failed {
        change(&mut self.0);
        self
    }

    /// A failure because the manifest or the config is wrong.
    #[must_use]
    pub fn config(class: &'static str, message: impl Into<String>) -> Failed {
        Failed::new(FailureType::ConfigError, class, message)
    }

    /// A failure for any other reason.
    #[must_use]
    pub fn system(class: &'static str, message: impl Into<String>) -> Failed {
        Failed::new(FailureType::SystemError, class, message)
    }

    /// A failure because the command reached one of its [bounds](super::bounds).
    #[must_use]
    pub fn bound(what: &str, bound: usize) -> Failed {
        Failed::system("Bound", format!("the bound of {bound} {what} is met"))
    }

    /// A failure because a response does not have the list at `path` in which its records would be. `response` is its status
    /// and its URL, if they are known.
    #[must_use]
    pub fn missing_list(path: &str, response: Option<(u16, &str)>) -> Failed {
        let message = match path {
            "" => "the response is neither a list nor an object".to_string(),
            path => format!("the response does not have the list {path}"),
        };
        Failed::system(MISSING_LIST, message).with(|it| {
            it.status = response.map(|(status, _)| status);
            it.url = response.map(|(_, url)| url.to_string());
        })
    }

    /// Like [`Failed::missing_list`], for a response that has an object in place of the list at `path`.
    #[must_use]
    pub fn not_a_list(path: &str, response: Option<(u16, &str)>) -> Failed {
        let place = if path.is_empty() { String::new() } else { format!(" {path}") };
        Failed::missing_list("", response)
            .with(|it| it.message = format!("the response has an object in place of the list{place}"))
    }

    /// A failure because a name or an id of the source would change the path of a call. `text` is the name, or the path with it.
    #[must_use]
    pub fn refused_name(text: &str) -> Failed {
        let shown = Value::str(text.chars().filter(|c| !c.is_control()).take(100).collect::<String>()).repr();
        let message = match text {
            "" => "the source gives an empty name, which cannot be part of a call".to_string(),
            _ => format!("the source gives a name that would change the address of a call: {shown}"),
        };
        Failed::system(REFUSED_NAME, message)
    }

    /// True if the failure is a component or a class that this engine does not run.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        self.class == "UnsupportedComponent"
    }

    /// True if the failure is one of [`Failed::refused_name`].
    #[must_use]
    pub fn is_refused_name(&self) -> bool {
        self.class == REFUSED_NAME
    }

    /// True if the failure is one of [`Failed::missing_list`].
    #[must_use]
    pub fn is_missing_list(&self) -> bool {
        self.class == MISSING_LIST
    }

    /// A failure because the host refused to send the request, or because the network failed and no retry is left.
    #[must_use]
    pub fn host(error: HostError) -> Failed {
        let failure_type = match error.kind {
            HostErrorKind::Network => FailureType::TransientError,
            HostErrorKind::Refused => FailureType::SystemError,
        };
        let mut failed = Failed::new(failure_type, "Refused", error.message.clone());
        failed.host_error = Some(error);
        failed
    }

    /// Returns the failure as a trace shows it. An exception whose message is not meant for users shows only its class.
    #[must_use]
    pub fn for_users(&self, stream: Option<&str>) -> Failed {
        if self.is_made_for_users() {
            return self.clone();
        }
        let message = match stream {
            Some(stream) => format!("An unexpected error occurred in stream {stream}: {}", self.class),
            None => "Something went wrong in the connector. See the logs for more details.".to_string(),
        };
        Failed::system(self.class, message).with(|it| it.internal = Some(self.message.clone()))
    }

    /// Returns Python's `repr` of the exception.
    #[must_use]
    pub fn exception_repr(&self) -> String {
        let text = match self.class {
            "AirbyteTracedException" => self.internal.as_ref(),
            _ => Some(&self.message),
        };
        let text = text.map_or_else(|| "None".to_string(), |text| Value::str(text.as_str()).repr());
        format!("{}({text})", self.class)
    }

    /// Whether users are meant to read the message: true for the CDK's traced exceptions and for our own failures.
    fn is_made_for_users(&self) -> bool {
        matches!(
            self.class,
            "AirbyteTracedException" | "ValidationError" | "Refused" | "Bound" | "UnsupportedComponent" | "Manifest"
        )
    }
}

impl Deref for Failed {
    type Target = Details;

    fn deref(&self) -> &Details {
        &self.0
    }
}

impl DerefMut for Failed {
    fn deref_mut(&mut self) -> &mut Details {
        &mut self.0
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failed {}

/// The exception that Python would raise while it evaluates a template or parses a date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvalError {
    /// Python's name of the exception class, for example `TypeError`, `UndefinedError` or `ValueError`.
    pub class: &'static str,
    pub message: String,
}

impl EvalError {
    #[must_use]
    pub fn new(class: &'static str, message: impl Into<String>) -> EvalError {
        EvalError { class, message: message.into() }
    }

    /// Creates Python's `TypeError`. When a template raises it, the CDK uses the text of the template as the result.
    #[must_use]
    pub fn type_error(message: impl Into<String>) -> EvalError {
        EvalError::new("TypeError", message)
    }

    /// Creates Python's `ValueError`.
    #[must_use]
    pub fn value_error(message: impl Into<String>) -> EvalError {
        EvalError::new("ValueError", message)
    }
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.message)
    }
}

impl std::error::Error for EvalError {}

impl From<EvalError> for Failed {
    fn from(error: EvalError) -> Failed {
        match error.class {
            "AirbyteTracedException" => Failed::config(error.class, error.message),
            class => Failed::system(class, error.message),
        }
    }
}
