use super::failure as failure_of;
use super::*;
use airbyte_protocol::{Answer, CheckPassed, Counts};
use std::sync::Arc;

fn ran(kind: Kind, message: &str) -> Ran {
    let trouble = Trouble {
        kind,
        origin: Origin::Trace,
        message: message.to_string(),
        internal_message: None,
        stack_trace: None,
        stream: None,
    };
    Ran {
        result: Err(trouble),
        ended: None,
        observed: Arc::default(),
        counts: Counts::default(),
        logs: vec!["a warning".to_string()],
        stderr: "the end of stderr".to_string(),
        took: Duration::ZERO,
        peak: 0,
        weaker: Vec::new(),
    }
}

fn judged(ran: &Ran) -> Failure {
    let context = TroubleContext {
        name: "okta",
        resource: "acme.okta.com",
        least_privilege: "Read-Only Administrator",
        command: Command::Check,
        memory: 512 << 20,
    };
    failure(ran, &context).expect("a failure")
}

#[test]
fn what_a_connector_says_becomes_a_class() {
    for (kind, message, class) in [
        (Kind::Config, "Unauthorized. Please ensure you are authenticated correctly.", Class::CredentialRejected),
        (Kind::Config, "Your credentials lack the permission okta.users.read", Class::PermissionDenied),
        (Kind::Config, "'start_date' is a required property", Class::Misconfigured),
        (Kind::Config, "HTTPSConnectionPool: Max retries exceeded", Class::Network),
        (Kind::Transient, "Rate limit exceeded", Class::Throttled),
        (Kind::Transient, "the server is busy", Class::Remote),
        (Kind::System, "KeyError: 'id'", Class::Remote),
        (Kind::System, "invalid_grant", Class::CredentialRejected),
        (Kind::System, "MemoryError", Class::Misconfigured),
        (Kind::Memory, "it was ended", Class::Misconfigured),
        (Kind::Silent, "no answer", Class::Remote),
        (Kind::Killed, "signal 9", Class::Remote),
    ] {
        let failure = judged(&ran(kind, message));
        assert_eq!(failure.class, class, "{message}: {failure:?}");
        assert!(failure.detail.contains(message), "{failure:?}");
    }
    assert!(judged(&ran(Kind::Transient, "429")).retry_after_ms.is_some());
}

#[test]
fn a_vendor_that_answers_403_to_a_wrong_key_rejects_the_credential() {
    let class = |status: u16, body: &str| {
        let vendor = VendorError { status, call: "GET https://s3.example/bucket".to_string(), body: body.to_string() };
        class_of_response(&vendor)
    };
    assert_eq!(class(403, "<Error><Code>SignatureDoesNotMatch</Code>"), Some(Class::CredentialRejected));
    assert_eq!(class(403, "<Error><Code>AccessDenied</Code>"), Some(Class::PermissionDenied));
    assert_eq!((class(401, ""), class(404, ""), class(400, "")), (Some(Class::CredentialRejected), Some(Class::NotFound), None));
}

#[test]
fn what_ended_the_run_counts_before_what_the_connector_says() {
    let mut slow = ran(Kind::Silent, "no answer");
    slow.ended = Some(Ended::TimedOut(Duration::from_secs(17)));
    let failure = judged(&slow);
    assert_eq!(failure.title, "okta was ended: it did not answer check within 17s");
    assert!(failure.detail.contains("the end of stderr") && failure.fix.contains("step_timeout"), "{failure:?}");
    let mut large = ran(Kind::Killed, "signal 9");
    large.ended = Some(Ended::Memory(600 << 20));
    assert!(judged(&large).fix.contains("airbyte.connectors.okta.memory"), "{:?}", judged(&large));
    let mut forks = ran(Kind::Killed, "signal 9");
    forks.ended = Some(Ended::TooMany(33, "processes"));
    assert!(judged(&forks).title.contains("33 processes"));
    let mut answered = ran(Kind::Silent, "");
    answered.result = Ok(Answer::Check(CheckPassed::default()));
    let context = TroubleContext { name: "okta", resource: "a", least_privilege: "", command: Command::Check, memory: 1 };
    assert!(failure_of(&answered, &context).is_none());
    answered.ended = Some(Ended::TimedOut(Duration::from_secs(17)));
    assert!(failure_of(&answered, &context).is_none(), "it answered and did not end by itself");
}
