//! Python's `urllib.parse.urljoin`, and the parts of a URL that `urlparse` returns.

use crate::error::Failed;
use std::borrow::Cow;

/// Schemes that support relative references and have an authority. Of the lists in `urllib.parse`, these are the schemes
/// that manifests use.
const HIERARCHICAL: &[&str] = &["", "http", "https", "ftp", "file", "sftp", "ws", "wss", "gopher", "nntp", "rtsp", "svn"];
/// Schemes whose last path segment may carry `;parameters`.
const WITH_PARAMS: &[&str] = &["", "http", "https", "ftp", "sftp", "rtsp"];

/// The parts of a URL that `urlparse` returns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts<'u> {
    pub scheme: Cow<'u, str>,
    pub netloc: &'u str,
    pub path: Cow<'u, str>,
    pub params: &'u str,
    pub query: &'u str,
    pub fragment: &'u str,
}

impl<'u> Parts<'u> {
    /// Python's `urlparse(url, scheme)`. The text must be [`cleaned`].
    ///
    /// # Errors
    /// ValueError if the host has only one of the two square brackets.
    pub fn parse(url: &'u str, scheme: &'u str) -> Result<Parts<'u>, Failed> {
        let (mut parts, path) = split(url, scheme)?;
        let mut path = path;
        if path.contains(';') && WITH_PARAMS.contains(&&*parts.scheme) {
            let segment = path.rfind('/').map_or(0, |at| at + 1);
            if let Some(at) = path.get(segment..).and_then(|it| it.find(';')) {
                parts.params = path.get(segment + at + 1..).unwrap_or_default();
                path = path.get(..segment + at).unwrap_or_default();
            }
        }
        parts.path = Cow::Borrowed(path);
        Ok(parts)
    }

    /// Python's `urlunparse`.
    #[must_use]
    pub fn unparse(&self) -> String {
        let Parts { scheme, netloc, path, params, query, fragment } = self;
        let mut url = String::with_capacity(scheme.len() + netloc.len() + path.len() + params.len() + query.len() + 8);
        if !scheme.is_empty() {
            url.push_str(scheme);
            url.push(':');
        }
        let mark = if params.is_empty() { "" } else { ";" };
        let hierarchical = !scheme.is_empty() && HIERARCHICAL.contains(&&**scheme) && !path.starts_with("//");
        if !netloc.is_empty() || hierarchical {
            url.push_str("//");
            url.push_str(netloc);
            let rooted = path.starts_with('/') || (path.is_empty() && params.is_empty());
            if !rooted {
                url.push('/');
            }
        }
        for part in [path, mark, params] {
            url.push_str(part);
        }
        for (sign, part) in [('?', query), ('#', fragment)] {
            if !part.is_empty() {
                url.push(sign);
                url.push_str(part);
            }
        }
        url
    }
}

/// Removes the control characters and spaces that Python, like browsers, removes before parsing.
fn cleaned(url: &str) -> Cow<'_, str> {
    let url = url.trim_start_matches(|c: char| c <= ' ');
    match url.contains(['\t', '\r', '\n']) {
        true => Cow::Owned(url.replace(['\t', '\r', '\n'], "")),
        false => Cow::Borrowed(url),
    }
}

/// Python's `urlsplit`. Returns all parts except the path, and the path together with its parameters.
fn split<'u>(url: &'u str, scheme: &'u str) -> Result<(Parts<'u>, &'u str), Failed> {
    let mut rest = url;
    let mut parts = Parts { scheme: Cow::Borrowed(scheme), ..Parts::default() };
    if let Some((name, tail)) = rest.split_once(':')
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"+-.".contains(&c))
    {
        parts.scheme = match name.bytes().any(|c| c.is_ascii_uppercase()) {
            true => Cow::Owned(name.to_ascii_lowercase()),
            false => Cow::Borrowed(name),
        };
        rest = tail;
    }
    if let Some(tail) = rest.strip_prefix("//") {
        let end = tail.find(['/', '?', '#']).unwrap_or(tail.len());
        let (netloc, path) = tail.split_at_checked(end).unwrap_or((tail, ""));
        if netloc.contains('[') != netloc.contains(']') {
            return Err(Failed::system("ValueError", "Invalid IPv6 URL"));
        }
        parts.netloc = netloc;
        rest = path;
    }
    if let Some((head, fragment)) = rest.split_once('#') {
        parts.fragment = fragment;
        rest = head;
    }
    if let Some((head, query)) = rest.split_once('?') {
        parts.query = query;
        rest = head;
    }
    Ok((parts, rest))
}

/// Python's `urljoin(base, url)`. If `url` is absolute, `base` is ignored.
///
/// # Errors
/// Same as `Parts::parse`.
pub fn urljoin(base: &str, url: &str) -> Result<String, Failed> {
    if base.is_empty() {
        return Ok(url.to_owned());
    }
    if url.is_empty() {
        return Ok(base.to_owned());
    }
    match is_below(base, url) {
        true => Ok([base, url].concat()),
        false => resolved(base, url),
    }
}

fn resolved(base: &str, url: &str) -> Result<String, Failed> {
    let (base, there) = (cleaned(base), cleaned(url));
    let from = Parts::parse(&base, "")?;
    let mut to = Parts::parse(&there, &from.scheme)?;
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
        to.path = Cow::Owned(joined(&from.path, &to.path));
    }
    Ok(to.unparse())
}

/// Whether joining is the same as concatenating, because `base` is a folder without dot segments and `url` is a plain path
/// below it. This is so in most cases.
fn is_below(base: &str, url: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    let names = |path: &str| path.split('/').all(|name| !name.starts_with('.') && name.bytes().all(plain));
    let Some(rest) = base.strip_prefix("https://").or(base.strip_prefix("http://")) else { return false };
    let Some((host, folder)) = rest.split_once('/') else { return false };
    let whole = |path: &str| path.is_empty() || (path.ends_with('/') && !path.starts_with('/') && !path.contains("//"));
    host.bytes().all(|byte| plain(byte) || byte == b':')
        && whole(folder)
        && names(folder)
        && !url.starts_with('/')
        && !url.contains("//")
        && names(url)
}

/// Resolves `path` against `base` and removes dot segments.
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Concatenation gives the same result as the full algorithm.
        #[test]
        fn what_lies_below_is_appended(
            base in "https?://[a-z.:0-9]{0,4}(/|/[a-z./;?]{0,5}/|[a-z/.]{0,4})",
            url in "([a-z.]{1,3}|/|\\.\\.|[:;?#] ?){1,5}",
        ) {
            if is_below(&base, &url) {
                prop_assert_eq!(resolved(&base, &url).unwrap(), format!("{base}{url}"));
            }
        }
    }

    #[test]
    fn most_paths_lie_below() {
        for (base, url) in
            [("http://127.0.0.1:8080/v1/", "customers/7/orders"), ("https://a.b/", "x.json"), ("https://a.b/", "x/")]
        {
            assert!(is_below(base, url), "{base} {url}");
        }
        for (base, url) in
            [("https://a.b/v1", "x"), ("https://a.b/", "/x"), ("https://a.b/", "../x"), ("https://a.b/", "x?y"), ("a", "b")]
        {
            assert!(!is_below(base, url), "{base} {url}");
        }
    }
}
