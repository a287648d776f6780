//! Facts of a family file that a reviewer has to be able to trace: marks, error rules, and reasons of POSTs.

use super::example_of;
use crate::clock;
use crate::connectors::lowcode::binding::ParsedResource;
use crate::connectors::lowcode::family_spec::Errors;
use crate::connectors::lowcode::spec::Spec;
use crate::families::Family;
use crate::model::Problem;

/// The marks of certainty.
const MARKS: [&str; 4] = ["[V]", "[K]", "[U]", "[-]"];

/// The statuses that every vendor answers with, and that a person must be able to act on.
const STATUSES: [(u16, &str); 4] = [
    (401, "a wrong, an expired and a revoked credential"),
    (403, "a missing permission"),
    (404, "a resource that does not exist or that the credential cannot see"),
    (429, "a rate limit"),
];

/// The facts without a mark.
pub fn marks(family: &Family) -> Vec<Problem> {
    let sources = [
        ("/cap_source", Some(&family.cap_source)),
        ("/privilege_source", Some(&family.privilege_source)),
        ("/login_source", Some(&family.login_source)),
        ("/oauth/source", family.oauth.as_ref().map(|oauth| &oauth.source)),
    ];
    let unmarked = |text: &&String| !MARKS.iter().any(|mark| text.contains(mark));
    let found = sources.into_iter().filter(|(_, text)| text.as_ref().is_some_and(unmarked));
    found
        .map(|(pointer, _)| {
            Problem::new(pointer, "the fact does not say how certain it is")
                .hint("begin with [V] and the page that was read, [K] for known documentation, [U] if it is uncertain, or [-] if it follows from the format")
        })
        .collect()
}

/// The statuses that no rule is for.
pub fn errors(errors: &Errors) -> Vec<Problem> {
    let covers = |status: u16| errors.rules.iter().any(|rule| rule.status.is_empty() || rule.status.contains(&status));
    let missing = STATUSES.into_iter().filter(|(status, _)| !covers(*status));
    missing
        .map(|(status, what)| {
            Problem::new("/errors/rules", format!("no rule is for status {status} ({what})"))
                .hint(format!("add a rule with status: [{status}] that says in the vendor's terms what to do"))
        })
        .collect()
}

/// The POSTs that the manifest makes and the list does not have, and those on the list without a reason.
pub fn posts(family: &Family, spec: &'static Spec) -> Vec<Problem> {
    let mut found: Vec<Problem> = Vec::new();
    for (index, rule) in spec.form.posts.iter().enumerate().filter(|(_, rule)| rule.why.trim().is_empty()) {
        let problem = Problem::new(format!("/posts/{index}/why"), format!("the POST to {} has no reason", rule.url));
        found.push(problem.hint("say why the request changes nothing, with the mark and the page of the fact"));
    }
    let Some((family, policy)) = example_of(family) else { return found };
    let clock = clock::from_env();
    let mut seen = Vec::new();
    for kind in &spec.form.address.kinds {
        let resource = kind.examples.first().map(|id| ParsedResource::with_spec(&family, spec, &policy, id));
        let Some(Ok(resource)) = resource else { continue };
        let (planned, listed) = resource.planned_posts(&clock);
        for call in planned.into_iter().filter(|call| !listed.contains(call) && !seen.contains(call)).collect::<Vec<_>>() {
            let problem = Problem::new("/posts", format!("the POST to {}{} is not on the list", call.host, call.path));
            found.push(problem.hint("use GET, or add it to posts with url, why and body; AAM refuses it otherwise"));
            seen.push(call);
        }
    }
    found
}
