use super::super::greeting::capability;
use super::*;
use proptest::prelude::*;

fn greeting(plugin: &str, scramble: &[u8]) -> Greeting {
    let capabilities = capability::PROTOCOL_41 | capability::SECURE_CONNECTION | capability::PLUGIN_AUTH;
    Greeting { version: "8.0.40".into(), capabilities, scramble: scramble.to_vec(), plugin: plugin.into() }
}

const SCRAMBLE: [u8; 20] = *b"NR3HP:qIYa_9=db?Sd{`";

/// The vectors of the crate mysql_common, which were recorded from a real client.
#[test]
fn the_responses_are_those_of_the_vendors_client() {
    let password = Secret::new("G!ider27".into());
    let mut login = PasswordLogin::new(&greeting("mysql_native_password", &SCRAMBLE), &password, false, false);
    assert_eq!(
        login.respond().unwrap(),
        [9, 207, 248, 133, 94, 158, 112, 83, 64, 255, 34, 112, 216, 251, 159, 173, 186, 144, 107, 112]
    );
    let mut login = PasswordLogin::new(&greeting("caching_sha2_password", &SCRAMBLE), &password, false, false);
    assert_eq!(login.respond().unwrap()[..6], [0x4f, 0x97, 0xbb, 0xfd, 0x20, 0x24]);
}

/// The signature verifies against the public key that MariaDB's documentation shows for the password `secret`.
#[test]
fn an_ed25519_response_verifies_against_the_key_that_mariadb_stores() {
    let public = data_encoding::BASE64_NOPAD.decode(b"ZIgUREUg5PVgQ6LskhXmO+eZLS0nC8be6HPjYWR4YJY").unwrap();
    let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, public);
    let message = [7; 32];
    key.verify(&message, &sign(b"secret", &message)).unwrap();
    key.verify(&message, &sign(b"secrets", &message)).unwrap_err();
}

#[test]
fn an_unproven_server_gets_no_password() {
    let password = Secret::new("hunter2hunter2".into());
    for (encrypted, weak) in [(false, false), (false, true), (true, false)] {
        for name in ["mysql_clear_password", "sha256_password", "caching_sha2_password"] {
            let mut login = PasswordLogin::new(&greeting("mysql_native_password", &SCRAMBLE), &password, encrypted, weak);
            let switch = [name.as_bytes(), &[0], &SCRAMBLE, &[0]].concat();
            let mut outcome = login.switch(&switch).map(LoginStep::Send);
            if name == "caching_sha2_password" {
                assert!(matches!(&outcome, Ok(LoginStep::Send(response)) if response.len() == 32));
                outcome = login.more(&[4]);
            }
            match outcome {
                Err(LoginRefusal::Unproven(plugin)) => assert!(!encrypted && !weak && plugin.as_str() == name),
                Ok(LoginStep::Send(sent)) => {
                    assert!(encrypted || weak, "{name} was answered");
                    let key_request = !encrypted && name != "mysql_clear_password";
                    assert_eq!(sent.len() == 1, key_request, "{name}");
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}

/// A host of the policy gets the password encrypted with the key that it sends.
#[test]
fn the_key_of_a_server_encrypts_the_password() {
    let password = Secret::new("hunter2hunter2".into());
    let mut login = PasswordLogin::new(&greeting("caching_sha2_password", &SCRAMBLE), &password, false, true);
    login.respond().unwrap();
    assert_eq!(login.more(&[4]), Ok(LoginStep::Send(vec![2])));
    // A key of 1024 bits: the head of a SubjectPublicKeyInfo, an odd modulus, and the exponent 65537.
    let head = data_encoding::HEXLOWER.decode(b"30819f300d06092a864886f70d010101050003818d0030818902818100").unwrap();
    let der = [&head[..], &[0xC3; 128], &[2, 3, 1, 0, 1]].concat();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", data_encoding::BASE64.encode(&der));
    assert!(matches!(login.more(pem.as_bytes()), Ok(LoginStep::Send(sent)) if sent.len() == 128));
    // The key is accepted once, and only after it was asked for.
    assert!(matches!(login.more(pem.as_bytes()), Err(LoginRefusal::Broken(_))));
}

#[test]
fn a_plugin_that_is_not_supported_is_named() {
    let password = Secret::new("hunter2hunter2".into());
    let mut login = PasswordLogin::new(&greeting("mysql_native_password", &SCRAMBLE), &password, true, true);
    let named = |name: &str| Err(LoginRefusal::UnsupportedPlugin(Some(name.to_string())));
    assert_eq!(login.switch(b""), named("mysql_old_password"));
    assert_eq!(login.switch(b"mysql_old_password\0abcdefgh\0"), named("mysql_old_password"));
    assert_eq!(login.switch(b"auth_gssapi_client\0"), named("auth_gssapi_client"));
    assert_eq!(login.switch(b"\x1b[31m\0"), Err(LoginRefusal::UnsupportedPlugin(None)));
    assert!(matches!(login.switch(b"client_ed25519\0short"), Err(LoginRefusal::Broken(_))));
    assert_eq!(login.switch(&[b"client_ed25519\0", &[1; 32][..]].concat()).unwrap().len(), 64);
}

proptest! {
    /// Whatever an unproven server sends, nothing that it receives contains the password.
    #[test]
    fn no_packet_makes_an_unproven_login_reveal_the_password(
        packets in proptest::collection::vec((any::<bool>(), proptest::sample::select(vec!["mysql_clear_password", "sha256_password",
            "caching_sha2_password", "client_ed25519", "mysql_native_password", "other"]), proptest::collection::vec(any::<u8>(), 0..40)), 0..8),
    ) {
        let password = Secret::new("hunter2hunter2".into());
        let mut login = PasswordLogin::new(&greeting("caching_sha2_password", &SCRAMBLE), &password, false, false);
        for (switch, name, data) in packets {
            let sent = if switch {
                login.switch(&[name.as_bytes(), &[0], &data].concat()).ok()
            } else {
                match login.more(&data) {
                    Ok(LoginStep::Send(sent)) => Some(sent),
                    _ => None,
                }
            };
            if let Some(sent) = sent {
                prop_assert!(!sent.windows(7).any(|part| part == b"hunter2") && [0, 20, 32, 64].contains(&sent.len()), "{sent:?}");
            }
        }
    }
}
