use super::*;
use crate::connectors::object::address;
use crate::policy::FamilyPolicy;

fn place(flavor: Flavor, id: &str) -> ObjectLocation {
    address::place(flavor, id, &FamilyPolicy::default(), None).expect("a place")
}

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> HttpResponse {
    HttpResponse {
        status,
        headers: headers.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect(),
        body: body.as_bytes().to_vec().into(),
        url: url::Url::parse("https://acme.s3.us-east-1.amazonaws.com/").expect("a URL"),
    }
}

fn refused(place: &ObjectLocation, answer: &HttpResponse) -> RefusedCall {
    let signed_at = Timestamp::parse("2026-11-22T18:30:00Z").expect("a time");
    listing(place, answer, signed_at).expect_err("no listing")
}

fn code(code: &str, message: &str, more: &str) -> String {
    format!("<Error><Code>{code}</Code><Message>{message}</Message>{more}<RequestId>R1</RequestId></Error>")
}

/// Every failure in the form in which people read it.
#[test]
fn every_failure_has_a_title_and_a_fix() {
    let aws = place(Flavor::Aws, "s3://acme/logs");
    let own = place(Flavor::Compatible, "https://minio.example:9000/acme");
    let skew = "<RequestTime>x</RequestTime><ServerTime>2026-11-22T18:50:00Z</ServerTime>";
    let html = [("content-type", "text/html")];
    let cases = [
        (
            &aws,
            answer(
                403,
                &[],
                &code("InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.", ""),
            ),
        ),
        (&own, answer(403, &[], &code("SignatureDoesNotMatch", "The request signature we calculated does not match", ""))),
        (&aws, answer(400, &[], &code("ExpiredToken", "The provided token has expired.", ""))),
        (&aws, answer(400, &[], &code("InvalidToken", "The provided token is malformed", ""))),
        (&aws, answer(400, &[], &code("AuthorizationHeaderMalformed", "the Credential is mal-formed", ""))),
        (&own, answer(400, &[], &code("AuthorizationHeaderMalformed", "expecting 'eu'", "<Region>eu</Region>"))),
        (
            &aws,
            answer(
                403,
                &[],
                &code("AccessDenied", "User: arn:aws:iam::123456789012:user/x is not authorized to perform: s3:ListBucket", ""),
            ),
        ),
        (&own, answer(403, &[], &code("AccessDenied", "Access Denied.", ""))),
        (&aws, answer(404, &[], &code("NoSuchBucket", "The specified bucket does not exist", ""))),
        (&aws, answer(403, &[], &code("RequestTimeTooSkewed", "The difference is too large.", skew))),
        (
            &aws,
            answer(
                403,
                &[("date", "Sun, 22 Nov 2026 18:00:00 GMT")],
                &code("RequestTimeTooSkewed", "The difference is too large.", ""),
            ),
        ),
        (&aws, answer(503, &[], &code("SlowDown", "Please reduce your request rate.", ""))),
        (&aws, answer(503, &[("retry-after", "7")], "")),
        (&aws, answer(500, &[], &code("InternalError", "We encountered an internal error.", ""))),
        (&own, answer(502, &html, "<html><h1>Bad Gateway</h1></html>")),
        (
            &aws,
            answer(
                301,
                &[],
                &code("PermanentRedirect", "Use the endpoint.", "<Endpoint>acme.s3-eu-west-1.amazonaws.com</Endpoint>"),
            ),
        ),
        (&own, answer(302, &[("location", "https://login.example/?next=canary")], "")),
        (&own, answer(200, &html, "<!doctype html>\n<html><title>MinIO Console</title></html>")),
        (&own, answer(403, &html, "<html>blocked by the proxy</html>")),
        (&own, answer(200, &[], "<ListBucketResult><Name>other</Name></ListBucketResult>")),
        (&own, answer(200, &[], "<?xml version=\"1.0\"?><ListBucketResult><Name>acme</Name><Contents>")),
        (&own, answer(403, &[], "<Error><Code>AccessDe")),
        (&own, answer(401, &[], "")),
        (
            &aws,
            answer(
                403,
                &[],
                &code(
                    "AccessDenied",
                    "User: arn:aws:iam::1:user/x is not authorized to perform: s3:ListBucket on resource: \"arn:aws:s3:::acme\" with an explicit deny in a service control policy",
                    "",
                ),
            ),
        ),
        (
            &aws,
            answer(
                403,
                &[],
                &code(
                    "AccessDenied",
                    "User: arn:aws:iam::1:user/x is not authorized to perform: kms:Decrypt on resource: arn:aws:kms:eu-west-1:1:key/k because no identity-based policy allows the kms:Decrypt action",
                    "",
                ),
            ),
        ),
        (&aws, answer(403, &[], &code("AllAccessDisabled", "All access to this bucket has been disabled.", ""))),
        (&aws, answer(403, &[], &code("AccountProblem", "There is a problem with your AWS account.", ""))),
        (&aws, answer(403, &[], &code("NotSignedUp", "Your account is not signed up.", ""))),
        (&aws, answer(403, &[], &code("InvalidPayer", "All access to this object has been disabled.", ""))),
        (&aws, answer(403, &[], &code("InvalidObjectState", "The operation is not valid for the object's storage class", ""))),
        (&aws, answer(403, &[], &code("InvalidSecurity", "The provided security credentials are not valid.", ""))),
        (&aws, answer(400, &[], &code("KMS.DisabledException", "The key is disabled.", ""))),
        (&own, answer(301, &[], &code("PermanentRedirect", "Use it.", "<Endpoint>eu.minio.example</Endpoint>"))),
        (&own, answer(501, &[], &code("NotImplemented", "A header you provided implies functionality.", ""))),
        (&own, answer(403, &[], &code("AccessForbidden", "CORSResponse: This CORS request is not allowed.", ""))),
        (&own, answer(400, &[], &code("InvalidRequest", "Missing required header.", ""))),
        (&own, answer(409, &[], &code("OperationAborted", "A conflicting operation is in progress.", ""))),
        (&own, answer(403, &[], &code("bad code", "Hm.", ""))),
        (&own, answer(403, &[], "")),
        (&own, answer(404, &[], "")),
    ];
    let mut text = String::new();
    for (place, answer) in &cases {
        let Failure { class, title, fix, detail, retry_after_ms } = refused(place, answer).failure;
        let wait = retry_after_ms.map(|ms| format!(" (after {ms} ms)")).unwrap_or_default();
        text.push_str(&format!("{}{wait}: {title}\n  detail: {detail}\n  fix: {fix}\n\n", class.as_str()));
    }
    assert!(!text.contains("canary"));
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("object_failures", text);
    });
}

#[test]
fn a_store_names_the_region_in_the_header_or_the_body() {
    let aws = place(Flavor::Aws, "acme");
    let both = answer(301, &[("x-amz-bucket-region", "eu-west-1")], &code("PermanentRedirect", "", "<Region>eu-west-2</Region>"));
    assert_eq!(refused(&aws, &both).region.as_deref(), Some("eu-west-1"));
    let body = answer(400, &[], &code("AuthorizationHeaderMalformed", "", "<Region>eu-west-2</Region>"));
    assert_eq!(refused(&aws, &body).region.as_deref(), Some("eu-west-2"));
    assert_eq!(refused(&aws, &answer(403, &[], &code("AccessDenied", "", ""))).region, None);
}

#[test]
fn a_server_cannot_widen_the_policy_to_paste() {
    let aws = place(Flavor::Aws, "acme");
    let fix = |action: &str, resource: &str| {
        let message = format!("User: x is not authorized to perform: {action} on resource: {resource} because");
        refused(&aws, &answer(403, &[], &code("AccessDenied", &message, ""))).failure.fix
    };
    for action in ["s3:*", "*:*", "s3:GetObject*", "s3:PutObject", "s3:DeleteBucket", "iam:PassRole", "kms:CreateGrant"] {
        assert!(!fix(action, "arn:aws:s3:::acme").contains(action), "{action}");
    }
    for resource in ["arn:aws:s3:::*", "arn:aws:s3:::other", "arn:aws:s3:::acme2", "arn:aws:s3:::acme/*", "arn:aws:iam::1:role/x"]
    {
        let fix = fix("s3:GetObject", resource);
        assert!(!fix.contains(&format!("\"{resource}\"")) && fix.contains("\"arn:aws:s3:::acme\""), "{resource}: {fix}");
    }
    assert!(fix("s3:GetBucketLocation", "arn:aws:s3:::acme").contains("s3:GetBucketLocation"));
    assert!(fix("kms:Decrypt", "arn:aws:kms:eu-west-1:1:key/k").contains("\"arn:aws:kms:eu-west-1:1:key/k\""));
    let region = |name: &str| region_needed(&aws, name).fix;
    assert!(region("eu-west-2").ends_with("to eu-west-2"), "{}", region("eu-west-2"));
    assert!(!region("x\nallowlist: [all]").contains("allowlist"));
}

#[test]
fn the_policy_to_paste_is_json_for_any_prefix() {
    let failure = denied(&place(Flavor::Aws, "s3://acme/a \"quoted\" folder"));
    let start = failure.fix.find('{').expect("a policy");
    let policy: serde_json::Value = serde_json::from_str(failure.fix.get(start..).unwrap_or_default()).expect("JSON");
    assert_eq!(policy["Statement"][0]["Action"][0], "s3:ListBucket");
    assert_eq!(policy["Statement"][0]["Condition"]["StringLike"]["s3:prefix"][0], "a \"quoted\" folder/*");
}

#[test]
fn an_answer_for_the_bucket_is_a_listing() {
    let body = "<ListBucketResult><Name>acme</Name></ListBucketResult>";
    let found = listing(&place(Flavor::Aws, "acme"), &answer(200, &[], body), Timestamp(0));
    assert_eq!(found.map(|listing| listing.bucket).ok().as_deref(), Some("acme"));
}
