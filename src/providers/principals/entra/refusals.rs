//! The errors of Microsoft Entra ID, as data. \[V\] learn.microsoft.com, "Microsoft Entra authentication and authorization error
//! codes", and the troubleshooting guide of azidentity.

use crate::providers::principals::refusal::RefusalRule;

/// Stands for AADSTS7000215 if the stored secret has the form of a secret's id.
pub const SECRET_ID: &str = "7000215 with an id";

/// Returns the numbers of the codes in a description, in their order.
pub fn codes(description: &str) -> Vec<&str> {
    let after = description.split("AADSTS").skip(1);
    after
        .map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default())
        .filter(|code| !code.is_empty())
        .collect()
}

/// Each has its own remedy.
pub const RULES: &[RefusalRule] = &[
    RefusalRule::new(
        &["700016"],
        &[],
        "Microsoft does not find the application {client_id} in the tenant {tenant}",
        "compare client_id with Application (client) ID, and tenant with Directory (tenant) ID (entra.microsoft.com > App \
         registrations > the app > Overview); if the app belongs to another tenant, an administrator of {tenant} consents to it \
         first: {authority}/{tenant}/adminconsent?client_id={client_id}",
    ),
    RefusalRule::new(
        &[SECRET_ID],
        &[],
        "{stored} is the id of a client secret, not its value",
        "store the text of the column Value, which Microsoft shows only once, right after the secret was created; if it is lost, \
         create a new secret (entra.microsoft.com > App registrations > {client_id} > Certificates & secrets)",
    ),
    RefusalRule::new(
        &["7000215"],
        &[],
        "Microsoft does not accept the client secret of the application {client_id}",
        "store the text of the column Value of a secret of this application as {stored} (entra.microsoft.com > App registrations \
         > {client_id} > Certificates & secrets); a secret of another application does not work",
    ),
    RefusalRule::new(
        &["7000222"],
        &[],
        "the client secret of the application {client_id} has expired",
        "create a new client secret (entra.microsoft.com > App registrations > {client_id} > Certificates & secrets > New client \
         secret), store its Value as {stored}, and write its end as expires: YYYY-MM-DD in credentials.principals.{principal}",
    ),
    RefusalRule::permission(
        &["65001", "65004"],
        &[],
        "no administrator of {tenant} has consented to the permissions of the application {client_id}",
        "an administrator grants them: {authority}/{tenant}/adminconsent?client_id={client_id}; needed: \
         {least_privilege}",
    ),
    RefusalRule::permission(
        &["53003"],
        &[],
        "a conditional access policy of {tenant} blocks the application {client_id}",
        "ask the administrator to allow this application or the address of this machine in the policy (entra.microsoft.com > \
         Protection > Conditional Access > Workload identities; Sign-in logs > Service principal sign-ins names the policy)",
    ),
    RefusalRule::policy(
        &["90002", "900021", "900023", "900971"],
        &[],
        "Microsoft does not find the tenant {tenant}",
        "write Directory (tenant) ID as credentials.principals.{principal}.tenant (entra.microsoft.com > Overview); a tenant of a \
         national cloud also needs authority, for example https://login.microsoftonline.us",
    ),
    RefusalRule::policy(
        &["50059", "50194"],
        &[],
        "the token request does not name one tenant",
        "write Directory (tenant) ID as credentials.principals.{principal}.tenant; common and organizations do not work without a \
         user",
    ),
    RefusalRule::new(
        &["50034"],
        &[],
        "Microsoft does not find the account of the service principal {principal} in the tenant {tenant}",
        "check that the account or application was not deleted and that tenant is the directory in which it exists",
    ),
    RefusalRule::permission(
        &["500011"],
        &[],
        "the tenant {tenant} does not have the resource {resource}",
        "check credentials.principals.{principal}.scopes; if the resource is right, an administrator of {tenant} installs or \
         consents to the application that offers it",
    ),
    RefusalRule::permission(
        &["650052", "650051"],
        &[],
        "the tenant {tenant} is not subscribed to the service {resource}",
        "ask the administrator to license or enable the service for the tenant, then aam heal",
    ),
    RefusalRule::clock(
        &["700024"],
        &[],
        "Microsoft refuses the assertion of the application {client_id} because of its time",
        "check the clock of this machine; for a federated token, check that the platform renews {stored}",
    ),
    RefusalRule::clock(
        &["700027"],
        &[],
        "Microsoft does not know the certificate with which AAM signs for the application {client_id}",
        "upload the certificate with the thumbprint {thumbprint} (entra.microsoft.com > App registrations > {client_id} > \
         Certificates & secrets > Certificates), or store the certificate that is uploaded, with its key, as {stored}",
    ),
    RefusalRule::policy(
        &["70011", "1002012", "28002", "28003"],
        &[],
        "Microsoft does not accept the scope {scope} for an application",
        "write one scope that ends with /.default, for example scopes: [https://graph.microsoft.com/.default], or leave scopes out",
    ),
    RefusalRule::new(
        &["70021", "700211", "700212", "700213", "700223", "7002138"],
        &[],
        "no federated credential of the application {client_id} fits the token in {stored}",
        "compare issuer, subject and audience of the federated credential with those of the token; they are in the detail \
         (entra.microsoft.com > App registrations > {client_id} > Certificates & secrets > Federated credentials)",
    ),
    RefusalRule::new(
        &["700021", "700023", "700025", "50027"],
        &[],
        "Microsoft does not accept the assertion of the application {client_id}",
        "check client_id, tenant and authority: the assertion is made for them",
    ),
    RefusalRule::new(
        &["7000112", "7000113"],
        &[],
        "the application {client_id} is disabled in the tenant {tenant}",
        "ask the administrator to enable it (entra.microsoft.com > Enterprise applications > the app > Properties > Enabled for \
         users to sign-in)",
    ),
    RefusalRule::new(
        &["7000229"],
        &[],
        "the application {client_id} does not have a service principal in the tenant {tenant}",
        "an administrator of {tenant} creates it by consenting: \
         {authority}/{tenant}/adminconsent?client_id={client_id}",
    ),
    RefusalRule::policy(
        &["7000216", "7000218"],
        &[],
        "Microsoft received no proof of the application {client_id}",
        "write secret, certificate or federated_token_file in credentials.principals.{principal}",
    ),
    RefusalRule::permission(
        &["50105", "501051"],
        &[],
        "the application {client_id} is not assigned to a role of {resource}",
        "ask the administrator to assign it (entra.microsoft.com > Enterprise applications > the resource > Users and groups), or \
         to turn off Assignment required",
    ),
    RefusalRule::permission(
        &["53000", "53001", "53002", "53004", "530003", "530034"],
        &[],
        "a security policy of {tenant} blocks the application {client_id}",
        "ask the administrator which policy blocks it (entra.microsoft.com > Sign-in logs > Service principal sign-ins)",
    ),
    RefusalRule::policy(
        &["900144", "90014", "9002313"],
        &[],
        "Microsoft does not accept the form of the token request",
        "check tenant, client_id and authority of credentials.principals.{principal} for a space or a missing part",
    ),
    RefusalRule {
        class: crate::model::Class::Remote,
        ..RefusalRule::new(
            &["90033", "90006", "90012", "50001000"],
            &[],
            "Microsoft cannot issue tokens at the moment",
            "no action is required: AAM tries again",
        )
    },
    RefusalRule {
        class: crate::model::Class::Throttled,
        ..RefusalRule::new(
            &["50196", "90055", "7000110"],
            &[],
            "Microsoft limits the token requests of the application {client_id}",
            "no action is required: AAM tries again after a pause",
        )
    },
];
