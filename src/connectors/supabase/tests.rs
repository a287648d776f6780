//! Which way a credential takes, and what is refused before a call is made.

use super::*;
use crate::clock::SystemClock;
use crate::policy::parse::parse;

const PROJECT: &str = "abcdefghijklmnopqrst";
const POOLER: &str = "aws-1-eu-central-1.pooler.supabase.com:5432/postgres";

fn bound(id: &str) -> Result<Box<dyn BoundResource>, Failure> {
    let policy = Arc::new(parse("version: 1\nallowlist: [supabase]\n", "policy.yaml").unwrap());
    let family = crate::families::find("supabase").unwrap();
    SupabaseEngine::new(Arc::new(SystemClock)).bind(BindRequest { family, policy: &policy, resource_id: id })
}

fn credential(text: &str) -> Option<Credential> {
    Some(Credential::read(Secret::new(text.to_string())))
}

fn refused(id: &str, text: &str) -> Failure {
    match bound(id).unwrap().authorize(credential(text)) {
        Ok(_) => panic!("{id}: {text} was accepted"),
        Err(failure) => failure,
    }
}

fn calls(id: &str) -> Vec<String> {
    let calls = bound(id).unwrap().planned_calls();
    calls.iter().map(|call| format!("{} {}{}", call.method, call.host, call.path)).collect()
}

#[test]
fn a_project_has_two_ways_and_a_connection_string_one() {
    let project = calls(PROJECT);
    assert!(project.contains(&format!("SQL READ ONLY db.{PROJECT}.supabase.co:5432/postgres")), "{project:?}");
    assert!(project.contains(&format!("GET {PROJECT}.supabase.co/rest/v1/")), "{project:?}");
    let string = calls(&format!("postgresql://postgres.{PROJECT}:[YOUR-PASSWORD]@{POOLER}"));
    assert_eq!(string, [format!("SQL READ ONLY {POOLER}")]);
    let table = calls(&format!("https://{PROJECT}.supabase.co/rest/v1/todos"));
    assert!(!table.iter().any(|call| call.starts_with("SQL")), "{table:?}");
    let bound = bound(&format!("https://supabase.com/dashboard/project/{PROJECT}/settings/api-keys")).unwrap();
    assert_eq!((bound.account(), bound.credential_need()), (format!("{PROJECT}.supabase.co").as_str(), CredentialNeed::Required));
}

#[test]
fn the_credential_chooses_the_way() {
    for text in ["postgres:hunter2hunter2", r#"{"user":"aam_reader","password":"hunter2hunter2"}"#] {
        let database = bound(PROJECT).unwrap().authorize(credential(text)).unwrap();
        assert_eq!(
            database.free_hosts.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [format!("db.{PROJECT}.supabase.co")],
            "{text}"
        );
    }
    for text in ["sb_secret_x", "sb_publishable_x", r#"{"api_key":"sb_secret_x"}"#] {
        let api = bound(PROJECT).unwrap().authorize(credential(text)).unwrap();
        assert_eq!(
            api.free_hosts.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [format!("{PROJECT}.supabase.co")],
            "{text}"
        );
    }
}

#[test]
fn what_does_not_fit_together_is_refused_before_a_call() {
    let string = format!("postgresql://postgres.{PROJECT}@{POOLER}");
    for text in ["sb_secret_x", "eyJx.y.z", r#"{"api_key":"sb_secret_x"}"#] {
        let failure = refused(&string, text);
        assert!(failure.class == Class::CredentialMissing && failure.title.contains("a key of the Data API"), "{failure:?}");
    }
    let pasted = refused(&string, "postgresql://postgres:hunter2@h/postgres");
    assert!(pasted.title.contains("a connection string") && !format!("{pasted:?}").contains("hunter2"), "{pasted:?}");
    assert!(refused(&format!("postgresql://{POOLER}"), "postgres:x").fix.contains("ROLE.PROJECTREF"));
    let other = refused(&string, "postgres.zzzzzzzzzzzzzzzzzzzz:x");
    assert_eq!(other.class, Class::WrongService);
    // {"role":"anon","ref":"zzzzzzzzzzzzzzzzzzzz"}
    let key = refused(PROJECT, "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYW5vbiIsInJlZiI6Inp6enp6enp6enp6enp6enp6enp6In0.c2ln");
    assert!(key.class == Class::WrongService && key.title.contains("zzzzzzzzzzzzzzzzzzzz"), "{key:?}");
    let with_password = bound(&format!("postgresql://postgres.{PROJECT}:hunter2@{POOLER}")).err().unwrap();
    assert!(with_password.title.contains("contains a user or a password"), "{with_password:?}");
    let unknown = bound("no project").err().unwrap();
    assert!(unknown.class == Class::NotMappable && unknown.fix.contains("postgresql://ROLE.REF@HOST"), "{unknown:?}");
}
