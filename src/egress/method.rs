//! The methods of requests.

/// What a request does. There is no variant for a write.
#[derive(Clone, Debug)]
pub enum Method {
    Get,
    Head,
    /// A POST that only reads, with its body. It is refused before a socket opens unless the caller's list names
    /// exactly this address and body. Its redirects are not followed, and it is retried only if its rule is idempotent.
    /// The body may hold a secret, as in a token request.
    ListedPost(Option<crate::credentials::Secret>),
    /// The PUT that requests a token of an instance metadata service. It is refused unless the session was made for that
    /// service. See [`super::Session::with_metadata_service`].
    MetadataToken,
}

impl Method {
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::ListedPost(_) => "POST",
            Method::MetadataToken => "PUT",
        }
    }
}
