//! What only one module may send.

use super::{assert_none, sources};

/// A session that may call a metadata service is made for AWS credentials only.
#[test]
fn one_module_reaches_metadata_services() {
    let mut findings = Vec::new();
    for source in sources(&["src"]).iter().filter(|source| !source.is_test) {
        let allowed = source.name.ends_with("egress/metadata.rs") || source.name.contains("principals/aws/");
        let lines = source
            .code()
            .into_iter()
            .filter(|(_, line)| line.contains("with_metadata_service") || line.contains("MetadataToken"));
        let in_egress = source.module() == "egress";
        findings.extend(
            lines
                .filter(|(_, line)| !(allowed || in_egress && line.contains("MetadataToken")))
                .map(|(number, line)| format!("{}:{number}: {}", source.name, line.trim())),
        );
    }
    assert_none(&findings, "only the provider of AWS credentials calls metadata services");
}

/// The message to a webhook is the only request that is meant to be acted on. Connectors cannot send one.
#[test]
fn one_module_sends_messages_to_webhooks() {
    let mut findings = Vec::new();
    for source in sources(&["src"]).iter().filter(|source| !source.is_test) {
        if matches!(source.module(), "egress" | "notify") {
            continue;
        }
        let lines = source.code().into_iter().filter(|(_, line)| line.contains("post_webhook") || line.contains("WebhookPost"));
        findings.extend(lines.map(|(number, line)| format!("{}:{number}: {}", source.name, line.trim())));
    }
    assert_none(&findings, "only the notifier sends messages to webhooks");
}
