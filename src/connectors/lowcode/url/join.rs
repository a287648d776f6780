//! `urllib.parse.urljoin`, with the parts of a URL as `urlparse` finds them.

use crate::connectors::lowcode::error::Failed;

/// Schemes with a relative form and an authority; what else `urllib.parse` lists, no manifest uses.
const HIERARCHICAL: &[&str] = &["", "http", "https", "ftp", "file", "sftp", "ws", "wss", "gopher", "nntp", "rtsp", "svn"];
/// Schemes whose last path segment may carry `;parameters`.
const WITH_PARAMS: &[&str] = &["", "http", "https", "ftp", "sftp", "rtsp"];

/// The parts of `urlparse`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    pub scheme: String,
    pub netloc: String,
    pub path: String,
    pub params: String,
    pub query: String,
    pub fragment: String,
}

impl Parts {
    /// `urlparse(url, scheme)`.
    ///
    /// # Errors
    /// ValueError where the host has one bracket only.
    pub fn parse(url: &str, scheme: &str) -> Result<Parts, Failed> {
        let mut parts = split(url, scheme)?;
        if WITH_PARAMS.contains(&&*parts.scheme) && parts.path.contains(';') {
            let segment = parts.path.rfind('/').map_or(0, |at| at + 1);
            if let Some(at) = parts.path.get(segment..).and_then(|it| it.find(';')) {
                parts.params = parts.path.get(segment + at + 1..).unwrap_or_default().to_owned();
                parts.path.truncate(segment + at);
            }
        }
        Ok(parts)
    }

    /// `urlunparse`.
    #[must_use]
    pub fn unparse(&self) -> String {
        let mut url = self.path.clone();
        if !self.params.is_empty() {
            url = format!("{url};{}", self.params);
        }
        let hierarchical = !self.scheme.is_empty() && HIERARCHICAL.contains(&&*self.scheme) && !url.starts_with("//");
        if !self.netloc.is_empty() || hierarchical {
            let slash = if url.is_empty() || url.starts_with('/') { "" } else { "/" };
            url = format!("//{}{slash}{url}", self.netloc);
        }
        if !self.scheme.is_empty() {
            url = format!("{}:{url}", self.scheme);
        }
        for (sign, part) in [('?', &self.query), ('#', &self.fragment)] {
            if !part.is_empty() {
                url.push(sign);
                url.push_str(part);
            }
        }
        url
    }
}

/// `urlsplit`: without parameters of the path.
fn split(url: &str, scheme: &str) -> Result<Parts, Failed> {
    let cleaned: String = url.trim_start_matches(|c: char| c <= ' ').chars().filter(|c| !"\t\r\n".contains(*c)).collect();
    let mut rest = cleaned.as_str();
    let mut parts = Parts { scheme: scheme.to_owned(), ..Parts::default() };
    if let Some((name, tail)) = rest.split_once(':')
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    {
        parts.scheme = name.to_ascii_lowercase();
        rest = tail;
    }
    if let Some(tail) = rest.strip_prefix("//") {
        let end = tail.find(['/', '?', '#']).unwrap_or(tail.len());
        let (netloc, path) = tail.split_at_checked(end).unwrap_or((tail, ""));
        if netloc.contains('[') != netloc.contains(']') {
            return Err(Failed::system("ValueError", "Invalid IPv6 URL"));
        }
        parts.netloc = netloc.to_owned();
        rest = path;
    }
    if let Some((head, fragment)) = rest.split_once('#') {
        parts.fragment = fragment.to_owned();
        rest = head;
    }
    if let Some((head, query)) = rest.split_once('?') {
        parts.query = query.to_owned();
        rest = head;
    }
    parts.path = rest.to_owned();
    Ok(parts)
}

/// `urljoin(base, url)`: an absolute `url` wins.
///
/// # Errors
/// As `Parts::parse`.
pub fn urljoin(base: &str, url: &str) -> Result<String, Failed> {
    if base.is_empty() {
        return Ok(url.to_owned());
    }
    if url.is_empty() {
        return Ok(base.to_owned());
    }
    let from = Parts::parse(base, "")?;
    let mut to = Parts::parse(url, &from.scheme)?;
    if to.scheme != from.scheme || !HIERARCHICAL.contains(&&*to.scheme) {
        return Ok(url.to_owned());
    }
    if !to.netloc.is_empty() {
        return Ok(to.unparse());
    }
    to.netloc = from.netloc;
    if to.path.is_empty() && to.params.is_empty() {
        to.path = from.path;
        to.params = from.params;
        if to.query.is_empty() {
            to.query = from.query;
        }
    } else {
        to.path = joined(&from.path, &to.path);
    }
    Ok(to.unparse())
}

/// The path `path` as seen from `base`, without dot segments.
fn joined(base: &str, path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    if path.starts_with('/') {
        segments.extend(path.split('/'));
    } else {
        segments.extend(base.split('/'));
        if segments.last().is_some_and(|last| !last.is_empty()) {
            segments.pop();
        }
        segments.extend(path.split('/'));
        let last = segments.len().saturating_sub(1);
        let mut at = 0;
        segments.retain(|segment| {
            let keep = at == 0 || at == last || !segment.is_empty();
            at += 1;
            keep
        });
    }
    let mut out: Vec<&str> = Vec::new();
    for segment in &segments {
        match *segment {
            ".." => drop(out.pop()),
            "." => {}
            other => out.push(other),
        }
    }
    if matches!(segments.last(), Some(&"." | &"..")) {
        out.push("");
    }
    let path = out.join("/");
    if path.is_empty() { "/".into() } else { path }
}
