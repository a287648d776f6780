//! The errors of Google's token endpoints, as data. \[V\] developers.google.com, "Using OAuth 2.0 for server to server
//! applications", JWT error codes; cloud.google.com, "Troubleshoot workload identity federation" and the reference of
//! generateAccessToken.

use crate::model::Class;
use crate::providers::principals::refusal::RefusalRule;

/// The errors of a signed assertion that do not depend on a delegated user.
const SKEW: RefusalRule = RefusalRule::clock(
    &["invalid_grant"],
    &["reasonable timeframe", "short-lived token", "iat and exp", "is expired", "'exp'", "'iat'"],
    "Google refuses the assertion of {account} because of its time",
    "correct the clock of this machine (timedatectl set-ntp true; chronyc tracking shows the difference), then aam heal",
);

const KEY: RefusalRule = RefusalRule::clock(
    &["invalid_grant"],
    &["invalid jwt signature", "invalid signature", "key id"],
    "Google does not accept the key {key_id} of {account}: it was deleted or disabled, or belongs to another account",
    "look for the key under console.cloud.google.com > IAM > Service accounts > {account} > Keys; create a new one there and store \
     its JSON file as {stored}",
);

const AUDIENCE: RefusalRule = RefusalRule::policy(
    &["invalid_grant"],
    &["audience", "'aud'"],
    "the assertion of {account} is made for another token endpoint than the one that answered",
    "leave token_url out of credentials.principals.{principal}, or correct it: it is both the address and the audience",
);

/// A wrong key is refused without a reason by some servers.
const GRANT: RefusalRule = RefusalRule::clock(
    &["invalid_grant"],
    &[],
    "Google does not accept the assertion of {account}",
    "most often the key {key_id} was deleted or belongs to another account: look under console.cloud.google.com > IAM > Service \
     accounts > {account} > Keys, create a new key there, and store its JSON file as {stored}",
);

const ACCOUNT: RefusalRule = RefusalRule::new(
    &["invalid_grant", "invalid_client"],
    &[
        "account not found",
        "client does not exist",
        "account has been deleted",
        "account has been disabled",
        "account is disabled",
        "oauth client was not found",
    ],
    "Google does not find the service account {account}, or it is disabled",
    "check console.cloud.google.com > IAM > Service accounts; a deleted account can be restored for 30 days: gcloud iam \
     service-accounts undelete",
);

const SCOPE: RefusalRule = RefusalRule::policy(
    &["invalid_scope"],
    &[],
    "Google does not know a scope of {scopes}",
    "write the scopes as Google documents them (developers.google.com/identity/protocols/oauth2/scopes) into \
     credentials.principals.{principal}.scopes",
);

const ORGANIZATION: RefusalRule = RefusalRule::permission(
    &["admin_policy_enforced", "org_internal", "rapt_required", "access_denied"],
    &[],
    "the administrator of the organization does not let {account} read with these scopes",
    "ask the administrator to trust the client id {client} (admin.google.com > Security > API controls > App access control), then \
     aam heal",
);

/// A service account without a delegated user.
pub const SERVICE_ACCOUNT: &[RefusalRule] = &[
    SKEW,
    KEY,
    ACCOUNT,
    AUDIENCE,
    GRANT,
    RefusalRule::permission(
        &["unauthorized_client"],
        &[],
        "Google does not let {account} get tokens with these scopes",
        "most scopes of Google Workspace need a delegated user: write subject: ADMIN@DOMAIN into credentials.principals.{principal}",
    ),
    SCOPE,
    ORGANIZATION,
];

/// A service account that acts for a user.
pub const DELEGATION: &[RefusalRule] = &[
    SKEW,
    KEY,
    RefusalRule::new(
        &["invalid_grant"],
        &[
            "invalid email or user id",
            "'sub'",
            "not a valid email",
            "user not found",
            "account has been suspended",
            "account disabled",
        ],
        "Google does not find the delegated user {subject}",
        "write the primary address of an active user of the organization as credentials.principals.{principal}.subject; the user \
         also needs the right to read what AAM reads, for example a custom administrator role with read privileges",
    ),
    ACCOUNT,
    AUDIENCE,
    GRANT,
    RefusalRule::permission(
        &["unauthorized_client"],
        &[],
        "{account} may not act for {subject}: its client id or one of the scopes is not authorized in the Admin console",
        "an administrator adds it (admin.google.com > Security > API controls > Domain-wide delegation > Add new): client id \
         {client}, scopes {scopes}; new entries take up to 24 hours to work, so wait before you change anything else",
    ),
    RefusalRule::permission(
        &["access_denied"],
        &[],
        "Google denies {account} access to the data of {subject}",
        "an administrator checks the entry of the client id {client} under Domain-wide delegation and App access control \
         (admin.google.com > Security > API controls): scopes {scopes}; changes take up to 24 hours to work",
    ),
    SCOPE,
    ORGANIZATION,
];

/// The exchange of a platform's token.
pub const FEDERATION: &[RefusalRule] = &[
    RefusalRule::permission(
        &["unauthorized_client"],
        &["attribute condition"],
        "the attribute condition of the workload identity provider refuses the platform's token",
        "compare the claims of the token with the condition: gcloud iam workload-identity-pools providers describe, field \
         attributeCondition; audience {audience}",
    ),
    RefusalRule::new(
        &["invalid_target"],
        &[],
        "Google does not find the workload identity provider {audience}, or it is disabled",
        "check audience in {stored}: //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER",
    ),
    RefusalRule::new(
        &["invalid_grant"],
        &["expired", "stale", "not yet valid", "iat"],
        "the platform's token is not valid at this time",
        "check that the platform renews the token that credential_source of {stored} names",
    ),
    RefusalRule::new(
        &["invalid_grant", "invalid_request"],
        &["audience"],
        "the platform's token is made for another audience",
        "let the platform issue the token for an audience that the workload identity provider allows; Google names both in the detail",
    ),
    RefusalRule::new(
        &["invalid_grant"],
        &["issuer"],
        "Google cannot verify the platform's token: its issuer is not the one of the provider, or cannot be reached",
        "compare iss of the token with the issuer of the workload identity provider",
    ),
    RefusalRule::new(
        &["invalid_grant", "invalid_request", "invalid_client", "unauthorized_client"],
        &[],
        "Google does not accept the platform's token",
        "read Google's reason in the detail, and compare the token with the workload identity provider {audience}",
    ),
    RefusalRule::policy(
        &["invalid_scope"],
        &[],
        "Google does not know a scope of the service principal {principal}",
        "correct credentials.principals.{principal}.scopes",
    ),
];

/// `generateAccessToken`.
pub const IMPERSONATION: &[RefusalRule] = &[
    RefusalRule::permission(
        &["PERMISSION_DENIED"],
        &["has not been used", "is disabled", "service_disabled"],
        "the IAM Service Account Credentials API is not enabled",
        "enable it in the project of the caller: gcloud services enable iamcredentials.googleapis.com, then aam heal",
    ),
    RefusalRule::permission(
        &["PERMISSION_DENIED"],
        &[],
        "the service principal {principal} may not mint tokens of {account}",
        "give it the role: gcloud iam service-accounts add-iam-policy-binding {account} --member=MEMBER \
         --role=roles/iam.serviceAccountTokenCreator; new bindings take some minutes to work",
    ),
    RefusalRule::new(
        &["NOT_FOUND"],
        &[],
        "Google does not find the service account {account}",
        "correct credentials.principals.{principal}.impersonate, or restore the account: gcloud iam service-accounts undelete",
    ),
    RefusalRule::policy(
        &["INVALID_ARGUMENT"],
        &[],
        "Google does not accept the request for a token of {account} with the scopes {scopes}",
        "read Google's reason in the detail, and correct credentials.principals.{principal}.scopes",
    ),
    RefusalRule::new(
        &["UNAUTHENTICATED"],
        &[],
        "Google does not accept the token with which {account} was to be impersonated",
        "AAM mints it anew; if this lasts, check the clock of this machine",
    ),
    RefusalRule {
        class: Class::Throttled,
        ..RefusalRule::new(
            &["RESOURCE_EXHAUSTED"],
            &[],
            "Google limits the token requests",
            "no action is required: AAM tries again after a pause",
        )
    },
];
