use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

#[test]
fn the_table_is_valid_and_every_name_has_one_meaning() {
    let table = parse_table().expect("the table parses");
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for family in all() {
        seen.insert(fold(&family.id), &family.id);
    }
    for (family, aliases) in &table.source_types {
        assert!(exists(family), "{family} is not a family");
        let folded: BTreeSet<String> = aliases.iter().map(|alias| fold(alias)).collect();
        assert_eq!(folded.len(), aliases.len(), "{family} lists a name twice");
        for alias in aliases {
            assert!(alias.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{alias}");
            let other = seen.insert(fold(alias), family);
            assert_eq!(other, None, "{alias} of {family} is a name of {other:?} too");
            assert_eq!(source_type(alias), Some(family.as_str()));
        }
    }
    for family in all() {
        assert_eq!(source_type(&family.title), Some(&*family.id), "{}", family.title);
    }
    let named: BTreeSet<&str> = table.source_types.keys().map(String::as_str).collect();
    let without = all().iter().map(|family| &*family.id).filter(|id| !named.contains(id) && !id.starts_with("acme_"));
    assert_eq!(without.collect::<Vec<_>>(), Vec::<&str>::new(), "only the families of the unit tests have no other name");
    for exception in &table.exceptions {
        assert!(exists(&exception.source_type) && exception.names.iter().all(|name| source_type(name).is_some()));
    }
    for form in &table.resource_ids {
        assert!(form.names.iter().all(|name| source_type(name).is_some()), "{:?}", form.names);
        assert!(form.form.starts_with(&form.prefix), "{}", form.form);
    }
    for field in [Field::RiskLevel, Field::EvidenceStatus, Field::EvidenceSource, Field::OwnerWhy] {
        let mut folded = BTreeSet::new();
        for (proper, others) in field.values() {
            assert!(std::iter::once(proper).chain(others).all(|name| folded.insert(fold(name))), "{}", field.as_str());
        }
    }
    assert_eq!(Field::EvidenceSource.accepted(), "IdP, CMDB, Procurement or CASB");
}

#[test]
fn names_are_found_in_every_spelling() {
    for (text, family) in [
        ("MongoDB", "mongo"),
        ("mongodb-atlas", "mongo"),
        ("PostgreSQL", "postgres"),
        ("pg", "postgres"),
        ("MySQL", "jdbc"),
        ("mariaDB", "jdbc"),
        ("SQLite", "jdbc"),
        ("Azure AD", "entra"),
        ("entraId", "entra"),
        ("AAD", "entra"),
        ("Google Workspace", "gworkspace_drive"),
        ("G Suite", "gworkspace_drive"),
        ("gdrive", "gworkspace_drive"),
        ("googleDrive", "gworkspace_drive"),
        ("SharePoint", "m365_sharepoint"),
        ("Office 365", "m365_sharepoint"),
        ("M365", "m365_sharepoint"),
        ("m365-sharepoint", "m365_sharepoint"),
        ("AWS", "aws_org"),
        ("Azure", "azure_sub"),
        ("GCP", "gcp_org"),
        ("Atlassian Jira", "jira"),
        ("jira-cloud", "jira"),
        ("atlassian.confluence", "confluence"),
        ("s3a", "s3"),
        ("source-github", "github"),
        ("airbyte/source-salesforce", "salesforce"),
        ("S3Compat", "s3_compat"),
    ] {
        assert_eq!(source_type(text), Some(family), "{text}");
    }
    for text in ["", "x", "no_such_system", "source", "-", "postgresqlx"] {
        assert_eq!(source_type(text), None, "{text:?}");
    }
    let meant = |ids: &[&'static str]| source_type_with("Atlassian", ids.iter().copied());
    assert_eq!(meant(&["acme.atlassian.net"]), Some("jira"));
    assert_eq!(meant(&["https://acme.atlassian.net/wiki"]), Some("confluence"));
    assert_eq!((snake_case("Acme CRM-2.0"), alias("jdbc"), alias("pg")), ("acme_crm_2_0".to_string(), None, Some("postgres")));
}

#[test]
fn resource_ids_get_the_form_of_the_family() {
    for (name, family, id, written) in [
        ("mysql", "jdbc", "mysql://db.example:3306/shop", Some("jdbc:mysql://db.example:3306/shop")),
        ("MySQL", "jdbc", "mysql+pymysql://db.example/shop", Some("jdbc:mysql://db.example/shop")),
        ("mysql", "jdbc", "db.example:3306/shop", Some("jdbc:mysql://db.example:3306/shop")),
        ("mysql", "jdbc", "jdbc:mysql://db.example/shop", None),
        ("mysql", "jdbc", "postgresql://db.example/shop", None),
        ("maria-db", "jdbc", "mariadb://db.example/shop", Some("jdbc:mariadb://db.example/shop")),
        ("sqlite", "jdbc", "seeds/shop.db", Some("jdbc:sqlite:seeds/shop.db")),
        ("sqlite3", "jdbc", "sqlite:///srv/shop.db", Some("jdbc:sqlite:/srv/shop.db")),
        ("sqlite", "jdbc", "sqlite:////srv/shop.db", Some("jdbc:sqlite:/srv/shop.db")),
        ("sqlite", "jdbc", "file:/srv/shop.db", Some("jdbc:sqlite:/srv/shop.db")),
        ("s3a", "s3", "s3a://logs/2026", Some("s3://logs/2026")),
        ("s3", "s3", "s3n://logs", Some("s3://logs")),
        ("s3", "s3", "logs", None),
    ] {
        let form = id_form(name, family).expect(name);
        assert_eq!(form.rewrite(id).as_deref(), written, "{name} {id}");
        let again = written.and_then(|written| form.rewrite(written));
        assert_eq!(again, None, "{name} {id} is written once");
    }
    assert!(id_form("jdbc", "jdbc").is_none() && id_form("github", "github").is_none());
}

proptest! {
    #[test]
    fn any_text_has_at_most_one_meaning(text in ".{0,40}", id in ".{0,40}") {
        let family = source_type(&text);
        prop_assert!(family.is_none_or(exists));
        for form in &TABLE.resource_ids {
            if let Some(written) = form.rewrite(&id) {
                prop_assert_eq!(form.rewrite(&written), None);
            }
        }
        let name = snake_case(&text);
        prop_assert_eq!(snake_case(&name), name.clone());
    }
}
