//! Keys that OpenSSL 3 and ssh-keygen wrote.

use super::*;
use crate::credentials::jwt;
use crate::credentials::{Credential, Secret};
use base64::engine::general_purpose::STANDARD;
use ring::signature::{self, UnparsedPublicKey};
use serde_json::json;

const PASSPHRASE: &str = "topaz-31";

/// A PEM file of tests/data/keys. The files are stored in Base64.
macro_rules! pem {
    ($name:literal) => {
        decoded(include_str!(concat!("../../../tests/data/keys/", $name, ".b64")))
    };
}

fn decoded(file: &str) -> String {
    let compact: String = file.split_whitespace().collect();
    String::from_utf8(STANDARD.decode(compact).unwrap()).unwrap()
}

fn read(text: &str) -> Result<PrivateKey, UnusableKey> {
    PrivateKey::parse(&Secret::new(text.to_string()), None)
}

fn read_with(text: &str, passphrase: &str) -> Result<PrivateKey, UnusableKey> {
    PrivateKey::parse(&Secret::new(text.to_string()), Some(&Secret::new(passphrase.to_string())))
}

fn why(result: Result<PrivateKey, UnusableKey>) -> UnusableKey {
    result.err().expect("the key must be refused")
}

/// Signs with every algorithm of the key and verifies each signature with the public half of `pair`.
fn verify(key: &PrivateKey) {
    let algorithms: Vec<(JwtAlgorithm, &'static dyn signature::VerificationAlgorithm)> = match &key.pair {
        SigningPair::Rsa(_) => vec![
            (JwtAlgorithm::Rs256, &signature::RSA_PKCS1_2048_8192_SHA256),
            (JwtAlgorithm::Rs384, &signature::RSA_PKCS1_2048_8192_SHA384),
            (JwtAlgorithm::Rs512, &signature::RSA_PKCS1_2048_8192_SHA512),
            (JwtAlgorithm::Ps256, &signature::RSA_PSS_2048_8192_SHA256),
        ],
        SigningPair::P256(_) => vec![(JwtAlgorithm::Es256, &signature::ECDSA_P256_SHA256_FIXED)],
        SigningPair::P384(_) => vec![(JwtAlgorithm::Es384, &signature::ECDSA_P384_SHA384_FIXED)],
        SigningPair::Ed25519(_) => vec![(JwtAlgorithm::EdDsa, &signature::ED25519)],
    };
    let public = match &key.pair {
        SigningPair::Rsa(pair) => pair.public_key().as_ref(),
        SigningPair::P256(pair) | SigningPair::P384(pair) => pair.public_key().as_ref(),
        SigningPair::Ed25519(pair) => pair.public_key().as_ref(),
    };
    for (algorithm, verification) in algorithms {
        let signature = key.sign(algorithm, b"input").unwrap();
        UnparsedPublicKey::new(verification, public).verify(b"input", &signature).unwrap();
    }
}

#[test]
fn every_form_of_openssl_is_read() {
    let rsa = read(&pem!("rsa")).unwrap();
    let id = rsa.public_key_info();
    for text in [
        pem!("rsa"),
        pem!("rsa_pkcs1"),
        // One line with the text \n, as JSON and env files have it, with quotes and Windows line ends.
        pem!("rsa").replace('\n', "\\n"),
        format!("\"{}\"", pem!("rsa_pkcs1").replace('\n', "\\r\\n")),
        pem!("rsa").replace('\n', "\r\n"),
        // One line with spaces, as a password field of a browser makes it.
        pem!("rsa").trim().replace('\n', " "),
        // The whole file in Base64, as CI variables have it.
        STANDARD.encode(pem!("rsa")),
        // A certificate and its key in one file.
        format!("{}{}", pem!("rsa_certificate"), pem!("rsa")),
        json!({"type": "service_account", "private_key": pem!("rsa")}).to_string(),
    ] {
        let key = read(&text).unwrap_or_else(|unusable| panic!("{unusable:?}"));
        assert_eq!(key.public_key_info(), id);
        verify(&key);
    }
    for text in [pem!("rsa_pbkdf2"), pem!("rsa_scrypt"), pem!("rsa_des3"), pem!("rsa_pbkdf2").replace('\n', "\\n")] {
        for passphrase in [PASSPHRASE, "topaz-31\n"] {
            assert_eq!(read_with(&text, passphrase).unwrap().public_key_info(), id);
        }
    }
    for (text, algorithm) in [
        (pem!("p256"), JwtAlgorithm::Es256),
        (pem!("p256_sec1"), JwtAlgorithm::Es256),
        (pem!("p384"), JwtAlgorithm::Es384),
        (pem!("ed25519"), JwtAlgorithm::EdDsa),
    ] {
        let key = read(&text).unwrap();
        assert_eq!(key.default_algorithm(), algorithm);
        verify(&key);
    }
    assert_eq!(read(&pem!("p256")).unwrap().public_key_info(), read(&pem!("p256_sec1")).unwrap().public_key_info());
}

#[test]
fn the_public_key_is_the_one_of_openssl() {
    let public = pem::parse(pem!("rsa_public")).unwrap();
    assert_eq!(read(&pem!("rsa")).unwrap().public_key_info(), public.contents());
}

#[test]
fn each_unusable_key_has_a_reason_of_its_own() {
    for (text, reason) in [
        ("  ".to_string(), UnusableKey::Empty),
        ("topaz".to_string(), UnusableKey::UnknownForm),
        (pem!("rsa_public"), UnusableKey::PublicKey),
        ("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7".to_string(), UnusableKey::PublicKey),
        (pem!("rsa_certificate"), UnusableKey::Certificate),
        (pem!("rsa_request"), UnusableKey::CertificateRequest),
        (pem!("openssh"), UnusableKey::OpenSsh),
        (pem!("rsa_old_encryption"), UnusableKey::OldEncryption),
        (pem!("rsa_pbes1"), UnusableKey::UnsupportedEncryption),
        (pem!("rsa_pbkdf2"), UnusableKey::PassphraseMissing),
        (pem!("rsa_1024"), UnusableKey::TooShort),
        (pem!("p521"), UnusableKey::UnknownCurve("P-521".to_string())),
        (pem!("secp256k1"), UnusableKey::UnknownCurve("secp256k1".to_string())),
        (pem!("rsa").replacen("MII", "MIJ", 1), UnusableKey::Damaged),
        (pem!("rsa").chars().take(400).collect(), UnusableKey::Damaged),
        (json!({"kty": "oct", "k": "c2VjcmV0"}).to_string(), UnusableKey::SharedSecret),
        (json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}).to_string(), UnusableKey::PublicKey),
        (json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "d": "AQAB"}).to_string(), UnusableKey::MemberMissing("p")),
        (json!({"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}).to_string(), UnusableKey::KeySet(0)),
        (json!({"client_id": "x"}).to_string(), UnusableKey::UnknownForm),
    ] {
        let unusable = why(PrivateKey::from_credential(&Credential::read(Secret::new(text.clone())), None));
        assert_eq!(unusable, reason);
        let shown = format!("{} {}", unusable.message(), unusable.fix());
        assert!(!shown.contains("topaz") && !shown.contains("MII"), "{shown}");
    }
    let wrong = ["topaz-32", "", "topaz-31 "].map(|passphrase| why(read_with(&pem!("rsa_pbkdf2"), passphrase)));
    assert!(wrong.iter().all(|reason| *reason == UnusableKey::WrongPassphrase), "{wrong:?}");
    // A passphrase for a key without encryption does no harm.
    assert!(read_with(&pem!("rsa"), PASSPHRASE).is_ok());
    let unfit = read(&pem!("rsa")).unwrap().sign(JwtAlgorithm::Es256, b"x").unwrap_err();
    assert_eq!(unfit.message(), "is an RSA key, which cannot sign with ES256");
    assert!(read(&pem!("p256")).unwrap().sign(JwtAlgorithm::Es384, b"x").is_err());
}

#[test]
fn a_jwk_is_read_with_its_key_id() {
    let random = SystemRandom::new();
    // The private members of a new key come from its PKCS#8 document: seven bytes before the 32 of the private number.
    let document = EcdsaKeyPair::generate_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
    let scalar = &document.as_ref()[36..68];
    let original = PrivateKey { pair: SigningPair::P256(pair), key_id: None };
    let mut jwk = original.public_jwk();
    assert_eq!(jwk.keys().collect::<Vec<_>>(), ["crv", "kty", "x", "y"]);
    jwk.insert("d".to_string(), URL_SAFE_NO_PAD.encode(scalar).into());
    jwk.insert("kid".to_string(), "key-7".into());
    let set = json!({"keys": [original.public_jwk(), jwk]});
    for text in [json!(jwk).to_string(), set.to_string()] {
        let key = PrivateKey::from_credential(&Credential::read(Secret::new(text)), None).unwrap();
        assert_eq!(key.key_id(), Some("key-7"));
        assert_eq!(key.public_key_info(), original.public_key_info());
        verify(&key);
    }
    jwk.insert("crv".to_string(), "P-521".into());
    assert_eq!(why(read(&json!(jwk).to_string())), UnusableKey::UnknownCurve("P-521".to_string()));
    // RFC 8037, appendix A.1.
    let rfc = json!({"kty": "OKP", "crv": "Ed25519", "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let key = read(&rfc.to_string()).unwrap();
    let input = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = URL_SAFE_NO_PAD.encode(key.sign(JwtAlgorithm::EdDsa, input).unwrap());
    assert_eq!(signature, "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg");
    let rsa = read(include_str!("../../../tests/data/keys/rsa_jwk.json")).unwrap();
    assert_eq!(rsa.key_id(), Some("key-7"));
    assert_eq!(rsa.public_key_info(), read(&pem!("rsa")).unwrap().public_key_info());
    verify(&rsa);
}

#[test]
fn a_token_has_the_header_and_the_claims() {
    let key = read(&pem!("p256")).unwrap();
    let now = crate::model::Timestamp(1_700_000_000_999);
    let claims = jwt::assertion_claims("client", "client", "https://a.example/token", now, std::time::Duration::from_secs(60));
    let header = json!({"kid": "k1"}).as_object().cloned().unwrap();
    let token = jwt::sign(&key, None, header, &claims).unwrap();
    let parts: Vec<&str> = token.expose().split('.').collect();
    let json = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    assert_eq!(json(parts[0]), json!({"alg": "ES256", "kid": "k1", "typ": "JWT"}));
    let claims = json(parts[1]);
    assert_eq!((&claims["iat"], &claims["exp"]), (&json!(1_699_999_990), &json!(1_700_000_060)));
    assert_eq!(claims["aud"], "https://a.example/token");
    let SigningPair::P256(pair) = &key.pair else { panic!("a P-256 key") };
    let signed = format!("{}.{}", parts[0], parts[1]);
    UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref())
        .verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(parts[2]).unwrap())
        .unwrap();
    assert!(jwt::sign(&key, Some(JwtAlgorithm::Rs256), Map::new(), &Map::new()).is_err());
    for algorithm in ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"] {
        assert_eq!(JwtAlgorithm::parse(algorithm).unwrap().as_str(), algorithm);
    }
    assert!(JwtAlgorithm::parse("none").is_none() && JwtAlgorithm::parse("HS256").is_none());
}
