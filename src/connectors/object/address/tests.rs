use super::*;
use proptest::prelude::*;

fn at(flavor: Flavor, id: &str, base: Option<&str>, region: Option<&str>) -> Result<ObjectLocation, Failure> {
    let policy =
        FamilyPolicy { base_url: base.map(str::to_string), region: region.map(str::to_string), ..FamilyPolicy::default() };
    place(flavor, id, &policy, None)
}

fn url(flavor: Flavor, id: &str, base: Option<&str>, region: Option<&str>) -> String {
    let place = at(flavor, id, base, region).expect(id);
    format!("{} {}", place.url().expect(id), place.prefix)
}

#[test]
fn every_form_of_a_resource_id_finds_its_address() {
    let (aws, compatible) = (Flavor::Aws, Flavor::Compatible);
    let cases = [
        (aws, "acme", None, None, "https://acme.s3.us-east-1.amazonaws.com/ "),
        (aws, " s3://acme/a/b ", None, Some("eu-west-1"), "https://acme.s3.eu-west-1.amazonaws.com/ a/b/"),
        (aws, "arn:aws:s3:::acme/logs", None, None, "https://acme.s3.us-east-1.amazonaws.com/ logs/"),
        (aws, "arn:aws-cn:s3:::acme", None, None, "https://acme.s3.cn-north-1.amazonaws.com.cn/ "),
        (aws, "acme.with.dots", None, None, "https://s3.us-east-1.amazonaws.com/acme.with.dots "),
        (aws, "acme", Some("http://127.0.0.1:5001/"), None, "http://127.0.0.1:5001/acme "),
        (aws, "acme", Some("https://{bucket}.vpce.example"), None, "https://acme.vpce.example/ "),
        (aws, "acme", Some("https://s3.{region}.example"), Some("auto"), "https://s3.auto.example/acme "),
        (compatible, "https://minio.example:9000/acme/a b/%C3%BC", None, None, "https://minio.example:9000/acme a b/ü/"),
        (compatible, "http://10.0.0.7/Acme_1", None, None, "http://10.0.0.7/Acme_1 "),
        (compatible, "acme/x", Some("https://store.example/s3"), None, "https://store.example/s3/acme x/"),
        (
            compatible,
            "https://store.example/s3/acme/x",
            Some("https://store.example/s3/"),
            None,
            "https://store.example/s3/acme x/",
        ),
    ];
    for (flavor, id, base, region, want) in cases {
        assert_eq!(url(flavor, id, base, region), want, "{id}");
    }
}

#[test]
fn what_is_no_address_is_refused_with_a_class_and_without_its_secret() {
    let (aws, compatible) = (Flavor::Aws, Flavor::Compatible);
    let cases = [
        (aws, "Acme", None, Class::NotMappable),
        (aws, "ac", None, Class::NotMappable),
        (aws, "a..b", None, Class::NotMappable),
        (aws, "-acme", None, Class::NotMappable),
        (aws, "10.1.2.3", None, Class::NotMappable),
        (aws, "", None, Class::NotMappable),
        (aws, "https://acme.s3.amazonaws.com/", None, Class::NotMappable),
        (aws, "acme", Some("ftp://x.example"), Class::NotMappable),
        (aws, "acme", Some("https://x.example/?a=b"), Class::NotMappable),
        (aws, "arn:aws:s3:us-east-1:123456789012:accesspoint/x", None, Class::Unsupported),
        (aws, "acme--use1-az4--x-s3", None, Class::Unsupported),
        (aws, "arn:aws:s3:::bucket/*", None, Class::NotMappable),
        (aws, "s3://bucket/logs/2026-??/", None, Class::NotMappable),
        (aws, "buck*", None, Class::NotMappable),
        (compatible, "http://127.0.0.1:9000/bucket/*.csv", None, Class::NotMappable),
        (compatible, "acme", None, Class::NotMappable),
        (compatible, "https://minio.example", None, Class::NotMappable),
        (compatible, "https://minio.example/..", None, Class::NotMappable),
        (compatible, "https://user:canary@minio.example/acme", None, Class::NotMappable),
        (compatible, "https://minio.example/acme?token=canary", None, Class::NotMappable),
        (compatible, "https://minio.example:canary/acme", None, Class::NotMappable),
    ];
    for (flavor, id, base, class) in cases {
        let failure = at(flavor, id, base, None).expect_err(id);
        assert_eq!(failure.class, class, "{id}: {failure:?}");
        assert!(!format!("{failure:?}").contains("canary"), "{failure:?}");
    }
    assert!(at(aws, "acme", None, Some("eu/west")).is_err());
}

#[test]
fn a_region_from_the_store_moves_only_within_the_service() {
    let place = at(Flavor::Aws, "acme", None, None).expect("a place");
    assert_eq!(place.moved("eu-central-1").map(|place| place.host()).as_deref(), Some("acme.s3.eu-central-1.amazonaws.com"));
    assert_eq!(place.moved("us-east-1"), None);
    for hostile in ["", "evil.example/", "a@evil", "x#", "EU", "eu west"] {
        assert_eq!(place.moved(hostile), None, "{hostile}");
    }
}

#[test]
fn the_policys_region_counts_before_the_credentials() {
    let region = |policy: Option<&str>, credential: Option<&str>| {
        let policy = FamilyPolicy { region: policy.map(str::to_string), ..FamilyPolicy::default() };
        place(Flavor::Aws, "acme", &policy, credential).map(|place| (place.region, place.guessed)).ok()
    };
    assert_eq!(region(Some("eu-west-1"), Some("eu-west-2")), Some(("eu-west-1".to_string(), false)));
    assert_eq!(region(None, Some("eu-west-2")), Some(("eu-west-2".to_string(), false)));
    assert_eq!(region(None, None), Some((DEFAULT_REGION.to_string(), true)));
}

proptest! {
    /// For any resource id in an intent, the host is one of Amazon's and the bucket stays at its position in the URL.
    #[test]
    fn no_resource_id_leaves_the_service(id in "(s3://|arn:aws:s3:::|https://)?[a-zA-Z0-9./@:#?%_-]{0,30}") {
        if let Ok(place) = at(Flavor::Aws, &id, None, None) {
            let url = place.url().expect("a place has an address");
            prop_assert!(url.host_str().unwrap_or_default().ends_with("s3.us-east-1.amazonaws.com"), "{}", url);
            prop_assert!(url.query().is_none() && url.username().is_empty());
            prop_assert!(url.path() == "/" || url.path().strip_prefix('/') == Some(place.bucket.as_str()));
        }
    }

    #[test]
    fn an_endpoints_host_is_the_one_that_is_written(path in "[a-zA-Z0-9./%:@_-]{0,30}") {
        if let Ok(place) = at(Flavor::Compatible, &format!("https://minio.example/{path}"), None, None) {
            prop_assert_eq!(place.host(), "minio.example");
            let url = place.url().expect("a place has an address");
            prop_assert_eq!(url.path(), format!("/{}", place.bucket));
        }
    }
}
