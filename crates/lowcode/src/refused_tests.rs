use crate::bounds::Bounds;
use crate::commands::Commands;
use crate::context::{Context, Run};
use crate::load::{Manifest, load};
use crate::script::{Script, json};
use crate::source::SourceBuilder;
use crate::{check, explain};
use futures_util::FutureExt;

const TEXT: &str = r#"
version: '1'
check: {type: CheckStream, stream_names: [CHECKED]}
definitions:
  requester: {type: HttpRequester, url_base: https://h.example, path: /a}
  selector: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: [r]}}
  job:
    type: SimpleRetriever
    requester: '#/definitions/requester'
    record_selector: '#/definitions/selector'
    request_window_splitting:
      type: RequestWindowSplitting
streams:
  - {type: DeclarativeStream, name: plain, retriever: {type: SimpleRetriever, requester: '#/definitions/requester',
      record_selector: '#/definitions/selector'}}
  - {type: DeclarativeStream, name: report, retriever: '#/definitions/job', primary_key: id}
  - type: DeclarativeStream
    name: child
    retriever:
      type: SimpleRetriever
      requester: '#/definitions/requester'
      record_selector: '#/definitions/selector'
      partition_router:
        type: SubstreamPartitionRouter
        parent_stream_configs: [{type: ParentStreamConfig, parent_key: id, partition_field: id, stream: '#/streams/1'}]
  - type: DeclarativeStream
    name: sized
    retriever:
      type: SimpleRetriever
      requester: '#/definitions/requester'
      record_selector: '#/definitions/selector'
      request_window_splitting: {type: RequestWindowSplitting}
"#;

/// One more stream.
const CLEAN: &str = "  - {type: DeclarativeStream, name: clean, retriever: {type: SimpleRetriever, requester: {type: HttpRequester, \
    url_base: https://h.example, path: /c}, record_selector: {extractor: {field_path: []}}}}\n";

fn manifest(text: &str) -> Manifest {
    load(text, "m.yaml", &Bounds::default()).unwrap_or_else(|problems| panic!("{problems:?}"))
}

#[test]
fn streams_are_refused_one_by_one_at_load() {
    let manifest = manifest(TEXT);
    assert!(manifest.runnable().is_ok());
    let warnings: Vec<String> = manifest.refused_streams().iter().map(|it| it.warning().to_string()).collect();
    assert_eq!(
        warnings,
        [
            "m.yaml:11:5: warning: the stream `report` cannot be read: `RequestWindowSplitting` is not supported",
            "m.yaml:11:5: warning: the stream `child` cannot be read: `RequestWindowSplitting` is not supported",
            "m.yaml:32:7: warning: the stream `sized` cannot be read: `RequestWindowSplitting` is not supported",
        ]
    );
    let explained = explain::explain(&manifest);
    let refused: Vec<usize> = explained.streams.iter().map(|it| it.refused.len()).collect();
    assert_eq!(refused, [0, 1, 1, 1]);
}

#[test]
fn a_refused_stream_is_listed_and_the_others_are_read() {
    let (manifest, config, bounds) = (manifest(TEXT), json("{}"), Bounds::default());
    let host = Script::new(&[("/a", r#"{"r": [{"id": 1}]}"#)]);
    let ctx = Context::new(&manifest.root, &config, &host, &bounds);
    let run = Run::new(&ctx);
    let source = SourceBuilder::new(ctx).all_streams(&run).now_or_never().unwrap().unwrap();
    let names: Vec<(&str, bool)> = source.streams.iter().map(|it| (it.name.as_str(), it.refused().is_some())).collect();
    assert_eq!(names, [("plain", false), ("report", true), ("child", true), ("sized", true)]);
    let failed = source.stream("child").unwrap().slices(&run).err().unwrap();
    assert_eq!(
        (failed.class, failed.message.as_str()),
        ("UnsupportedComponent", "`RequestWindowSplitting` is not supported (m.yaml:11:5)")
    );
    assert!(check::available(source.stream("plain").unwrap(), &run).now_or_never().unwrap().unwrap().is_none());
}

#[test]
fn a_check_reads_clean_streams_in_place_of_refused_ones() {
    let bounds = Bounds::default();
    let checked = |names: &str, config: &str| {
        let (manifest, config) = (manifest(&TEXT.replace("CHECKED", names)), json(config));
        let host = Script::new(&[("/a", r#"{"r": [{"id": 1}]}"#)]);
        let ctx = Context::new(&manifest.root, &config, &host, &bounds);
        let answer = check::check(&ctx, &Run::new(&ctx)).now_or_never().unwrap().unwrap();
        let left_out = manifest.checked_streams().left_out;
        (answer, host.urls().len(), left_out.join(" "))
    };
    assert_eq!(checked("plain, report", "{}"), (Ok(()), 1, "report".to_owned()));
    assert_eq!(checked("report, child", "{}"), (Ok(()), 1, "report child".to_owned()), "`plain` takes their place");
    assert_eq!(checked("plain", "{}"), (Ok(()), 1, String::new()));
    // A stream that the caller selects is never replaced, and its check makes no call.
    let reason = "Stream report is not available: `RequestWindowSplitting` is not supported (m.yaml:11:5)";
    let selected = r#"{"__airbyte_check_stream_names": ["report"]}"#;
    assert_eq!(checked("plain", selected), (Err(reason.to_owned()), 0, String::new()));
}

#[test]
fn the_command_says_which_streams_its_check_leaves_out() {
    let text = TEXT.replace("CHECKED", "report") + "spec: {connection_specification: {}}\n";
    let (manifest, config, bounds) = (manifest(&text), json("{}"), Bounds::default());
    let host = Script::new(&[("/a", r#"{"r": []}"#)]);
    let commands = Commands { manifest: &manifest, config: &config, host: &host, bounds: &bounds };
    let (run, mut lines) = (Run::new(&commands.context()), Vec::new());
    commands.check(&run, &mut |message| lines.push(message.line())).now_or_never().unwrap();
    assert!(lines[0].contains("the check reads plain and leaves out report"), "{lines:?}");
    assert!(lines.last().unwrap().contains("SUCCEEDED"), "{lines:?}");
}

#[test]
fn a_class_refuses_the_streams_that_use_it() {
    let text = TEXT.replacen("'#/definitions/selector'}}", "{extractor: {class_name: a.B}}}}", 1);
    assert!(manifest(&text).runnable().is_err(), "no stream is left");
    let manifest = manifest(&(text + CLEAN));
    assert!(manifest.runnable().is_ok());
    let refused: Vec<(&str, Option<&str>)> =
        manifest.refused_streams().iter().map(|it| (it.name.as_str(), it.problems[0].class.as_deref())).collect();
    assert_eq!(refused, [("plain", Some("a.B")), ("report", None), ("child", None), ("sized", None)]);
}

/// Whatever a class replaces, building the other streams must not fail because of it.
#[test]
fn a_refused_stream_never_prevents_others_from_being_built() {
    for (from, to) in [
        (
            "requester: '#/definitions/requester',\n      record_selector",
            "requester: {type: CustomRequester, class_name: a.B},\n      record_selector",
        ),
        ("requester: {type: HttpRequester,", "requester: {type: HttpRequester, authenticator: {class_name: a.B},"),
        (
            "retriever: {type: SimpleRetriever, requester",
            "transformations: [{class_name: a.B}], retriever: {type: SimpleRetriever, requester",
        ),
        (
            "retriever: {type: SimpleRetriever, requester",
            "schema_loader: {type: CustomSchemaLoader, class_name: a.B}, retriever: {type: SimpleRetriever, requester",
        ),
        (
            "retriever: {type: SimpleRetriever, requester",
            "retriever: {type: SimpleRetriever, decoder: {type: CustomDecoder, class_name: a.B}, requester",
        ),
        (
            "retriever: {type: SimpleRetriever, requester",
            "retriever: {type: SimpleRetriever, partition_router: {class_name: a.B}, requester",
        ),
        (
            "retriever: {type: SimpleRetriever, requester",
            "retriever: {type: SimpleRetriever, paginator: {type: DefaultPaginator, pagination_strategy: {class_name: a.B}}, requester",
        ),
    ] {
        assert!(TEXT.contains(from), "{from}");
        let (manifest, config, bounds) = (manifest(&(TEXT.replacen(from, to, 1) + CLEAN)), json("{}"), Bounds::default());
        let host = Script::new(&[]);
        let ctx = Context::new(&manifest.root, &config, &host, &bounds);
        let source = SourceBuilder::new(ctx).all_streams(&Run::new(&ctx)).now_or_never().unwrap();
        let source = source.unwrap_or_else(|failed| panic!("{to}: {failed}"));
        let refused = |name: &str| source.stream(name).unwrap().refused().is_some();
        assert!(refused("plain") && !refused("clean"), "{to}");
    }
}

#[test]
fn a_resolver_that_cannot_run_generates_nothing() {
    let resolver = "\ndynamic_streams: [{type: DynamicDeclarativeStream, name: d, stream_template: '#/streams/0', components_resolver: \
        {type: HttpComponentsResolver, retriever: '#/definitions/job', components_mapping: []}}]\n";
    let (manifest, config, bounds) = (manifest(&(TEXT.to_owned() + resolver)), json("{}"), Bounds::default());
    assert!(manifest.runnable().is_ok());
    assert_eq!(manifest.refused_streams().last().map(|it| it.name.as_str()), Some("d"));
    let host = Script::new(&[]);
    let ctx = Context::new(&manifest.root, &config, &host, &bounds);
    let source = SourceBuilder::new(ctx).all_streams(&Run::new(&ctx)).now_or_never().unwrap().unwrap();
    assert_eq!(source.streams.len(), 4);
}

#[test]
fn outside_of_streams_and_in_every_stream_the_manifest_is_refused() {
    let spec = "\nspec: {connection_specification: {}, config_normalization_rules: {type: ConfigNormalizationRules, transformations: \
        [{type: CustomConfigTransformation, class_name: a.C}]}}\n";
    assert_eq!(manifest(&(TEXT.to_owned() + spec)).runnable().unwrap_err()[0].class.as_deref(), Some("a.C"));
    let class = TEXT.replace("extractor: {type: DpathExtractor, field_path: [r]}", "extractor: {class_name: a.B}");
    let problems = manifest(&class).runnable().unwrap_err();
    assert!(problems.iter().any(|it| it.class.as_deref() == Some("a.B")), "{problems:?}");
    // A group only says which streams are not synchronized at the same time.
    let group = "\nstream_groups: {g: {action: {type: BlockSimultaneousSyncsAction}, streams: ['#/streams/1']}}\n";
    assert!(manifest(&(TEXT.to_owned() + group)).runnable().is_ok());
}

#[test]
fn a_value_or_a_field_may_be_what_is_not_run() {
    let signed = "requester: {type: HttpRequester, authenticator: {type: JwtAuthenticator, secret_key: k, algorithm: ES512},";
    let text = TEXT.replacen("requester: {type: HttpRequester,", signed, 1);
    let refused = manifest(&text);
    assert_eq!(refused.refused_streams().len(), 4);
    assert_eq!(refused.refused_streams()[0].problems[0].message, "`algorithm` ES512 of `JwtAuthenticator` is not supported");
    assert_eq!(manifest(&text.replace("ES512", "ES256")).refused_streams().len(), 3);
}

/// Files are not downloaded, so what would download them is not needed. The records are read as without it.
#[test]
fn what_downloads_files_is_ignored() {
    let uploader = "file_uploader: {type: FileUploader, requester: {type: CustomRequester, class_name: a.B}, \
                    download_target_extractor: {type: CustomRecordExtractor, class_name: a.C}}, retriever: {type: SimpleRetriever,";
    let text = TEXT.replace("name: plain, retriever: {type: SimpleRetriever,", &format!("name: plain, {uploader}"));
    let manifest = manifest(&text.replace("CHECKED", "plain"));
    assert_eq!(manifest.refused_streams().len(), 3, "the others");
    let host = Script::new(&[("/a", r#"{"r": [{"id": 1}]}"#)]);
    let (bounds, config) = (Bounds::default(), json("{}"));
    let ctx = Context::new(&manifest.root, &config, &host, &bounds);
    let checked = check::check(&ctx, &Run::new(&ctx)).now_or_never().unwrap();
    assert_eq!(checked.unwrap(), Ok(()));
    assert_eq!(host.urls(), ["https://h.example/a"]);
}
