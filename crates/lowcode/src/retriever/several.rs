//! Pages whose records come from several requests: the whole lists of truncated records, and chunks of `QueryProperties`.

use super::properties::{QueryProperties, merge};
use super::records::{Open, Records};
use crate::error::Failed;
use crate::node::pair;
use crate::response::Response;
use crate::value::{Dict, Value};
use futures_util::future::BoxFuture;
use indexmap::IndexMap;

impl<'r> Records<'r> {
    /// Returns one record of the whole list, or ends the list. Only a list without records leaves those of the page in place.
    /// The future is boxed, because the retriever of a list may have lists of its own.
    pub(super) fn step_of_whole_list(&mut self) -> BoxFuture<'_, Result<Option<Value>, Failed>> {
        Box::pin(async move {
            let Some(mut whole) = self.whole.take() else { return Ok(None) };
            if let Some(item) = whole.records.next().await? {
                let expanders = self.retriever.selector.extractor.expanders();
                let record = match expanders.get(whole.of.expander) {
                    Some(expander) => expander.fetched(&item, &whole.of.parent, &self.at())?,
                    None => item,
                };
                whole.fetched += 1;
                self.whole = Some(whole);
                return self.select(record);
            }
            if whole.fetched > 0 {
                let embedded = whole.of.embedded.min(self.pending.len());
                self.pending.drain(..embedded);
                self.taken += embedded;
                if let Some(open) = &mut self.open {
                    open.extracted = open.extracted.saturating_sub(embedded) + whole.fetched;
                }
            }
            Ok(None)
        })
    }

    /// Fetches a page with one request for each chunk of names, and merges their records.
    pub(super) async fn fetch_chunks(&mut self, properties: &'r QueryProperties) -> Result<(), Failed> {
        let run = self.run;
        let chunks = match self.chunks.take() {
            Some(chunks) => chunks,
            None => properties.chunks(run).await?,
        };
        let (mut merged, mut last, mut count): (IndexMap<String, Dict>, Option<Response>, usize) = (IndexMap::new(), None, 0);
        for chunk in &chunks {
            let names = chunk.iter().map(|name| Value::from(name.as_str())).collect();
            self.slice.extra_fields = Value::Dict(pair("query_properties", Value::List(names)));
            last = match self.retriever.send(run, &self.slice, self.token.as_ref(), None).await {
                Err(error) if error.class == "PaginationResetRequiredException" => return self.reset(),
                other => other?,
            };
            let Some(response) = &last else { continue };
            let bodies = self.retriever.decoder.decode(response, run.bounds)?;
            let extracted = self.retriever.selector.extractor.extract(&bodies, &self.at())?;
            if run.needs_lists && (extracted.count == 0 || self.retriever.selector.extractor.requires_list()) {
                self.retriever.check_list(response, run, &self.at())?;
            }
            // The paginator counts what the last response had.
            count = extracted.count;
            for raw in extracted.records {
                let Some(record) = self.retriever.selector.select(raw, &self.schema, &self.at())? else { continue };
                match (properties.merge_key(&record)?, record) {
                    (Some(key), Value::Dict(record)) => merge(merged.entry(key).or_default(), record),
                    (_, record) => self.ready.push_back(record),
                }
            }
        }
        self.chunks = Some(chunks);
        self.ready.extend(merged.into_values().map(Value::Dict));
        self.is_last = last.is_none();
        self.open = last.map(|response| Open { response, extracted: count, records: 0, last_record: None });
        Ok(())
    }
}
