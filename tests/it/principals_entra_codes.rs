//! Microsoft's error codes with its own texts: each has its own class, title and fix.

use crate::principals_entra::{error, ids, principal, workspace};
use crate::support::token_endpoint::{TokenService, attempt, failure};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_error_code_has_its_own_remedy() {
    let codes: [(u16, &str, u64, &str, &str, &str, &str); 19] = [
        (
            401,
            "invalid_client",
            7_000_222,
            "The provided client secret keys for app are expired.",
            "credential_rejected",
            "has expired",
            "New client secret",
        ),
        (
            400,
            "invalid_grant",
            65_001,
            "The user or administrator has not consented to use the application.",
            "permission_denied",
            "administrator of",
            "adminconsent?client_id",
        ),
        (
            400,
            "invalid_grant",
            53_003,
            "Access has been blocked by Conditional Access policies.",
            "permission_denied",
            "conditional access policy",
            "Workload identities",
        ),
        (
            400,
            "invalid_request",
            90_002,
            "Tenant 'x' not found.",
            "misconfigured",
            "does not find the tenant",
            "Directory (tenant) ID",
        ),
        (
            400,
            "invalid_request",
            900_023,
            "Specified tenant identifier is neither a valid DNS name, nor a valid external domain.",
            "misconfigured",
            "does not find the tenant",
            "Directory (tenant) ID",
        ),
        (
            400,
            "invalid_request",
            50_059,
            "No tenant-identifying information found in either the request or implied by any provided credentials.",
            "misconfigured",
            "does not name one tenant",
            "common and organizations",
        ),
        (
            400,
            "invalid_grant",
            50_034,
            "The user account does not exist in the directory.",
            "credential_rejected",
            "does not find the account",
            "was not deleted",
        ),
        (
            400,
            "invalid_resource",
            500_011,
            "The resource principal was not found in the tenant.",
            "permission_denied",
            "does not have the resource",
            "consents to the application",
        ),
        (
            400,
            "invalid_scope",
            70_011,
            "The provided request must include a 'scope' input parameter.",
            "misconfigured",
            "does not accept the scope",
            "/.default",
        ),
        (
            401,
            "invalid_client",
            7_000_112,
            "Application is disabled.",
            "credential_rejected",
            "is disabled in the tenant",
            "Enterprise applications",
        ),
        (
            400,
            "unauthorized_client",
            7_000_229,
            "The client application is missing service principal in the tenant.",
            "credential_rejected",
            "does not have a service principal",
            "creates it by consenting",
        ),
        (
            400,
            "invalid_request",
            70_021,
            "No matching federated identity record found for presented assertion.",
            "credential_rejected",
            "no federated credential",
            "compare issuer, subject and audience",
        ),
        (
            400,
            "invalid_grant",
            50_105,
            "The signed in user is not assigned to a role for the application.",
            "permission_denied",
            "is not assigned to a role",
            "Assignment required",
        ),
        (
            400,
            "invalid_grant",
            53_000,
            "Device is not in required device state.",
            "permission_denied",
            "security policy",
            "Sign-in logs",
        ),
        (
            400,
            "invalid_client",
            650_052,
            "The app is trying to access a service that your organization lacks a service principal for.",
            "permission_denied",
            "is not subscribed",
            "license or enable",
        ),
        (
            401,
            "invalid_client",
            7_000_215,
            "Invalid client secret provided.",
            "credential_rejected",
            "does not accept the client secret",
            "column Value",
        ),
        (
            400,
            "unauthorized_client",
            700_016,
            "Application was not found in the directory.",
            "credential_rejected",
            "does not find the application",
            "adminconsent",
        ),
        (
            401,
            "invalid_client",
            700_027,
            "The certificate is not registered on application.",
            "credential_rejected",
            "does not know the certificate",
            "upload the certificate",
        ),
        (
            400,
            "temporarily_unavailable",
            90_033,
            "A transient error has occurred. Please try again.",
            "remote",
            "at the moment",
            "tries again",
        ),
    ];
    let mut fixes = std::collections::HashMap::new();
    for (status, oauth, code, text, class, title, fix) in codes {
        let service = TokenService::start(move |_| error(status, oauth, code, text)).await;
        let workspace = workspace();
        principal(&workspace, &service, &format!("{}, secret: \"env:GRAPH_SECRET\"", ids()));
        let refused = failure(&attempt(&workspace, "openapi", &service.resource(), "sp:graph"));
        assert!(refused.0 == class && refused.1.contains(title) && refused.2.contains(fix), "AADSTS{code}: {refused:#?}");
        assert!(refused.3.contains(&format!("AADSTS{code}: {text}")), "AADSTS{code}: {refused:#?}");
        let shown = format!("{}{}", refused.1, refused.2);
        assert!(!shown.contains(['{', '}']), "AADSTS{code}: a name was not filled: {shown}");
        // 90002 and 900023 are the same mistake; all others have a remedy of their own.
        let other = fixes.insert(refused.2.clone(), code);
        assert!(other.is_none() || code == 900_023, "AADSTS{code} has the fix of AADSTS{other:?}: {}", refused.2);
    }
}
