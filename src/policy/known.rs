//! The names of the families, as words of the policy.
//!
//! What a family is lies in `connectors/families/*.yaml`, above this layer; a test there holds the
//! two against each other.

/// Every family that a policy may name, in the order of the documentation.
pub const FAMILIES: [&str; 33] = [
    "gworkspace_drive",
    "m365_sharepoint",
    "slack",
    "zoom",
    "salesforce",
    "servicenow",
    "jira",
    "confluence",
    "github",
    "gitlab",
    "aws_org",
    "azure_sub",
    "gcp_org",
    "s3",
    "snowflake",
    "bigquery",
    "redshift",
    "okta",
    "entra",
    "box",
    "dropbox",
    "zendesk",
    "datadog",
    "pagerduty",
    "workday",
    "netsuite",
    "openapi",
    "jdbc",
    "s3_compat",
    "mongo",
    "postgres",
    "supabase",
    "filesource",
];
