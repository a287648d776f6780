//! What can go wrong, in the words of the protocol.

use super::host::HostError;
use std::fmt;
use std::ops::{Deref, DerefMut};

/// `failure_type` of a TRACE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureType {
    ConfigError,
    SystemError,
    TransientError,
}

impl FailureType {
    /// The word of the protocol.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            FailureType::ConfigError => "config_error",
            FailureType::SystemError => "system_error",
            FailureType::TransientError => "transient_error",
        }
    }
}

/// A failure of a command after the manifest was loaded. Boxed: most results hold none.
#[derive(Clone, Debug)]
pub struct Failed(Box<Details>);

/// What is known of a failure.
#[derive(Clone, Debug)]
pub struct Details {
    pub failure_type: FailureType,
    /// The class of the exception that the CDK raises at this place, for example `ValueError`.
    pub class: &'static str,
    /// What a user reads.
    pub message: String,
    /// More, for who looks after the manifest.
    pub internal: Option<String>,
    /// Set where an HTTP answer was the cause.
    pub status: Option<u16>,
    /// The body of that answer, cut to 2,000 bytes.
    pub body: Option<String>,
    /// The headers of that answer.
    pub headers: Vec<(String, String)>,
    /// Set where no answer came.
    pub host_error: Option<HostError>,
}

impl Failed {
    /// A failure without an answer behind it.
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
            host_error: None,
        }))
    }

    /// The same failure, told otherwise.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Details)) -> Failed {
        change(&mut self.0);
        self
    }

    /// The manifest or the config is wrong.
    #[must_use]
    pub fn config(class: &'static str, message: impl Into<String>) -> Failed {
        Failed::new(FailureType::ConfigError, class, message)
    }

    /// Anything else.
    #[must_use]
    pub fn system(class: &'static str, message: impl Into<String>) -> Failed {
        Failed::new(FailureType::SystemError, class, message)
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
