//! Custom manifests that several tests use.

/// A source with the stream `things` at `authority`, which may contain templates. The first of `fields` is the token that is
/// sent as a bearer token and is secret; the others are texts of the config.
pub fn things_manifest(authority: &str, fields: &[&str]) -> String {
    let token = fields[0];
    let properties: Vec<String> =
        fields.iter().map(|field| format!("{field}: {{type: string, airbyte_secret: {}}}", *field == token)).collect();
    format!(
        r#"
version: 0.90.0
type: DeclarativeSource
check: {{type: CheckStream, stream_names: [things]}}
streams:
  - type: DeclarativeStream
    name: things
    schema_loader: {{type: InlineSchemaLoader, schema: {{type: object}}}}
    retriever:
      type: SimpleRetriever
      requester:
        type: HttpRequester
        url_base: "http://{authority}"
        path: /things
        authenticator: {{type: BearerAuthenticator, api_token: "{{{{ config['{token}'] }}}}"}}
      record_selector: {{type: RecordSelector, extractor: {{type: DpathExtractor, field_path: []}}}}
spec:
  type: Spec
  connection_specification:
    type: object
    required: [{token}]
    properties: {{{}}}
"#,
        properties.join(", ")
    )
}
