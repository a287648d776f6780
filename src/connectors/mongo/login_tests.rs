use super::*;

fn read(text: &str) -> Result<Login, Failure> {
    from_credential(Some(&Credential::read(Secret::new(text.to_string()))), "mongodb h:27017/shop")
}

/// A certificate and its key in PEM form, made for the test.
fn pem() -> (String, String) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["reader".to_string()]).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

#[test]
fn every_form_gives_user_and_password() {
    for text in [
        r#"{"user":"reader","password":"a:b%41"}"#,
        r#"{"username":"reader","pass":"a:b%41"}"#,
        "reader:a:b%41\n",
        "mongodb+srv://reader:a%3Ab%2541@cluster0.ab12c.mongodb.net/?retryWrites=true",
        "mongodb://reader:a%3Ab%2541@h1,h2/shop",
        r#"{"uri":"mongodb://reader:a%3Ab%2541@h1,h2/shop"}"#,
    ] {
        let login = read(text).unwrap_or_else(|failure| panic!("{text}: {failure:?}"));
        let password = login.password.expect("a password");
        assert_eq!((login.user.as_deref(), password.expose()), (Some("reader"), "a:b%41"), "{text}");
    }
    let atlas = read("mongodb+srv://reader:p@c.example.net/?authSource=users").unwrap();
    assert_eq!(atlas.auth_source.as_deref(), Some("users"));
    // A password that was pasted without encoding.
    let raw = read("mongodb://reader:p@ss/word@h/shop").unwrap();
    assert_eq!(raw.password.unwrap().expose(), "p@ss/word");
    assert!(read("reader:a%40b").unwrap().looks_encoded && !read("reader:100%").unwrap().looks_encoded);
    let fields = read(r#"{"user":"reader","password":"hunter22","authSource":"admin"}"#).unwrap();
    assert_eq!(fields.auth_source.as_deref(), Some("admin"));
    assert!(from_credential(None, "").unwrap().user.is_none());
}

#[test]
fn a_client_certificate_is_read_from_two_fields_from_one_and_from_text() {
    let (certificate, key) = pem();
    let both = serde_json::json!({"certificate": certificate, "private_key": key});
    let one = serde_json::json!({"certificate": format!("{certificate}{key}")});
    let escaped = serde_json::json!({"certificate": certificate.replace('\n', "\\n"), "private_key": key.replace('\n', "\\n")});
    for text in [both.to_string(), one.to_string(), escaped.to_string(), format!("{certificate}{key}")] {
        let login = read(&text).unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!(login.certificate.map(|certificate| certificate.chain.len()), Some(1));
        assert!(login.user.is_none() && login.password.is_none());
    }
    let with_user = serde_json::json!({"certificate": certificate, "private_key": key, "user": "reader", "password": "hunter22"});
    let login = read(&with_user.to_string()).unwrap();
    assert!(login.certificate.is_some() && login.user.is_some());
    assert!(!format!("{login:?}").contains("hunter22"));
}

#[test]
fn a_failure_names_fields_and_never_a_value() {
    let (certificate, _) = pem();
    for text in [
        "hunter2hunter2".to_string(),
        r#"{"password":"hunter2hunter2"}"#.to_string(),
        r#"{"user":"hunter2hunter2","key":"x"}"#.to_string(),
        ":hunter2hunter2".to_string(),
        "mongodb://hunter2hunter2/shop".to_string(),
        serde_json::json!({"certificate": "hunter2hunter2"}).to_string(),
        serde_json::json!({"certificate": certificate, "private_key": "hunter2hunter2"}).to_string(),
        serde_json::json!({"certificate": certificate}).to_string(),
        serde_json::json!({"certificate": certificate, "private_key": "ENCRYPTED hunter2"}).to_string(),
    ] {
        let failure = read(&text).err().unwrap_or_else(|| panic!("{text} was accepted"));
        assert_eq!(failure.class, Class::CredentialMissing);
        assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
    }
}
