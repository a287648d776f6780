//! Opens a resource whose credential signs requests. The engines do not know about signatures, so what the signer knows
//! about a refusal is added to their failures here.

use crate::connectors::{AuthorizedResource, Bounds, Connector, Discovery, Opened, Sample};
use crate::egress::{Session, Signing, Traffic};
use crate::model::{Catalog, Evidence, Failure};
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// Opens `authorized` over a session that signs, if there is a signer.
///
/// # Errors
/// Returns the errors of [`AuthorizedResource::open`].
pub(super) async fn open(
    authorized: AuthorizedResource,
    session: Session,
    signing: Option<Arc<Signing>>,
) -> Result<Opened, Failure> {
    let Some(signing) = signing else { return authorized.open(session).await };
    let opened = authorized.open(session.with_signing(Some(Arc::clone(&signing)))).await;
    let opened = opened.map_err(|failure| signing.explain(failure))?;
    Ok(Opened { connector: Box::new(SignedConnector { inner: opened.connector, signing }), ..opened })
}

struct SignedConnector {
    inner: Box<dyn Connector>,
    signing: Arc<Signing>,
}

impl SignedConnector {
    fn explained<'a, T: 'a>(&'a self, step: BoxFuture<'a, Result<T, Failure>>) -> BoxFuture<'a, Result<T, Failure>> {
        Box::pin(async move { step.await.map_err(|failure| self.signing.explain(failure)) })
    }
}

impl Connector for SignedConnector {
    fn discover(&self, bounds: Bounds) -> BoxFuture<'_, Result<Discovery, Failure>> {
        self.explained(self.inner.discover(bounds))
    }

    fn health(&self) -> BoxFuture<'_, Result<Evidence, Failure>> {
        self.explained(self.inner.health())
    }

    fn tiny_sync<'a>(&'a self, catalog: &'a Catalog, max_items: u32) -> BoxFuture<'a, Result<Sample, Failure>> {
        self.explained(self.inner.tiny_sync(catalog, max_items))
    }

    fn traffic(&self) -> Traffic {
        self.inner.traffic()
    }
}
