use super::*;
use crate::bounds::Bounds;
use crate::yaml;

fn errors(name: &str, text: &str) -> Vec<String> {
    let value = yaml::parse(text, &Bounds::default(), false).unwrap().value;
    validate_component(name, &value).errors.iter().map(|problem| format!("{} {}", problem.path, problem.message)).collect()
}

#[test]
fn kinds_are_those_of_json_schema() {
    for (text, fine) in [
        ("{type: PageIncrement, page_size: 100}", true),
        ("{type: PageIncrement, page_size: '{{ config.size }}'}", true),
        // An integer may be written as a float without a fraction. A boolean is not an integer.
        ("{type: PageIncrement, start_from_page: 1.0}", true),
        ("{type: PageIncrement, start_from_page: 1.5}", false),
        ("{type: PageIncrement, start_from_page: true}", false),
        ("{type: PageIncrement, page_size: null}", false),
        ("{type: PageIncrement, unknown: 1}", true),
        ("{type: OffsetIncrement}", false),
        ("[]", false),
    ] {
        assert_eq!(errors("PageIncrement", text).is_empty(), fine, "{text}: {:?}", errors("PageIncrement", text));
    }
}

#[test]
fn bounds_of_numbers_and_lists_hold() {
    let count = |count: &str| {
        errors(
            "CheckStream",
            &format!(
                "{{type: CheckStream, dynamic_streams_check_configs: [{{type: DynamicStreamCheckConfig, dynamic_stream_name: a, stream_count: {count}}}]}}"
            ),
        )
    };
    assert!(count("1").is_empty());
    assert_eq!(count("0"), ["/dynamic_streams_check_configs/0/stream_count `stream_count` cannot be this number"]);
    let codes = |codes: &str| errors("HttpResponseFilter", &format!("{{type: HttpResponseFilter, http_codes: {codes}}}"));
    assert!(codes("[1, 2]").is_empty());
    assert_eq!(codes("[1, 1]").len(), 1);
}

#[test]
fn of_several_kinds_the_one_that_was_meant_is_told() {
    assert_eq!(
        errors("DefaultPaginator", "{type: DefaultPaginator, pagination_strategy: {type: CursorPagination, cursor_value: 5}}"),
        ["/pagination_strategy/cursor_value `cursor_value` cannot be this number"]
    );
    assert_eq!(
        errors("DefaultPaginator", "{type: DefaultPaginator, pagination_strategy: {cursor_value: x}}"),
        ["/pagination_strategy `pagination_strategy` needs a `type`"]
    );
}
