//! What the sandbox answers, and how.

use crate::config::Answer;
use crate::template::{Scope, Template};
use serde_json::Value;
use std::time::Duration;

/// The content type of JSON, unless the vendor's file has another.
pub const JSON: &str = "application/json; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    Whole,
    /// The connection ends in the middle of the body.
    Cut,
    /// Nothing is ever answered.
    Never,
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub delay: Duration,
    pub delivery: Delivery,
}

impl Reply {
    pub fn new(status: u16) -> Reply {
        Reply { status, headers: Vec::new(), body: Vec::new(), delay: Duration::ZERO, delivery: Delivery::Whole }
    }

    pub fn json(status: u16, body: &Value) -> Reply {
        let mut reply = Reply::new(status);
        reply.set_body(body);
        reply
    }

    pub fn html(status: u16, text: &str) -> Reply {
        let mut reply = Reply::new(status);
        reply.set_body(&text.into());
        reply
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Adds a header. A content type that the vendor's file writes takes the place of the sandbox's own.
    pub fn add_header(&mut self, name: &str, value: String) {
        let own_types = [JSON, HTML, PLAIN_TEXT];
        let is_own =
            |(own, before): &&mut (String, String)| own == name && name == "content-type" && own_types.contains(&before.as_str());
        match self.headers.iter_mut().find(is_own) {
            Some((_, before)) => *before = value,
            None => self.headers.push((name.to_owned(), value)),
        }
    }

    /// A text is sent as it is, everything else as JSON.
    pub fn set_body(&mut self, body: &Value) {
        let content_type = match body {
            Value::String(text) => {
                self.body = text.as_bytes().to_vec();
                if text.trim_start().starts_with('<') { HTML } else { PLAIN_TEXT }
            }
            value => {
                self.body = serde_json::to_vec(value).unwrap_or_default();
                JSON
            }
        };
        if self.header("content-type").is_none() {
            self.headers.push(("content-type".to_owned(), content_type.to_owned()));
        }
    }

    /// Renders headers; those without text are left out.
    ///
    /// # Errors
    /// Fails if a template does.
    pub fn add_headers(&mut self, headers: &[(String, Template)], scope: &Scope) -> Result<(), minijinja::Error> {
        for (name, value) in headers {
            let value = value.render_text(scope)?;
            if !value.is_empty() {
                self.add_header(name, value);
            }
        }
        Ok(())
    }

    /// Renders a named answer.
    ///
    /// # Errors
    /// Fails if a template does.
    pub fn from_answer(answer: &Answer, scope: &Scope) -> Result<Reply, minijinja::Error> {
        let mut reply = Reply::new(rendered_status(&answer.status, scope)?);
        reply.add_headers(&answer.headers, scope)?;
        if let Some(body) = &answer.body {
            reply.set_body(&body.render(scope)?.unwrap_or(Value::Null));
        }
        Ok(reply)
    }
}

/// # Errors
/// Fails if the template does.
pub fn rendered_status(status: &Template, scope: &Scope) -> Result<u16, minijinja::Error> {
    let text = status.render_text(scope)?;
    Ok(text.trim().parse().ok().filter(|status| (200..=599).contains(status)).unwrap_or(500))
}
