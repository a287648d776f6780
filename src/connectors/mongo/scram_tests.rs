use super::*;
use proptest::prelude::*;

fn secret(text: &str) -> Secret {
    Secret::new(text.to_string())
}

/// A login whose nonce is the text of a published example.
fn with_nonce(hash: Hash, nonce: &str) -> Scram {
    let scram = Scram::new(hash, "user", &secret("pencil"), &[]);
    Scram { first_bare: format!("n=user,r={nonce}"), nonce: nonce.to_string(), ..scram }
}

/// The example of RFC 7677, section 3.
#[test]
fn the_example_of_the_rfc_is_answered_to_the_byte() {
    let scram = with_nonce(Hash::Sha256, "rOprNGfwEbeRWgbNEkqO");
    assert_eq!(scram.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    let server = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    let proof = scram.respond(server.as_bytes()).unwrap();
    let expected = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    assert_eq!(proof.message, expected);
    assert_eq!(proof.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Ok(()));
    for wrong in [&b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5="[..], b"v=", b"", b"e=other-error"] {
        assert_eq!(proof.verify(wrong), Err(Refusal::ServerNotProven));
    }
}

/// The example of the specification "Authentication" of the MongoDB drivers, section "SCRAM-SHA-1".
#[test]
fn the_example_of_mongodb_for_sha1_is_answered_to_the_byte() {
    let scram = with_nonce(Hash::Sha1, "fyko+d2lbbFgONRv9qkxdawL");
    let server = "r=fyko+d2lbbFgONRv9qkxdawLHo+Vgk7qvUOKUwuWLIWg4l/9SraGMHEE,s=rQ9ZY3MntBeuP3E1TDVC4w==,i=10000";
    let proof = scram.respond(server.as_bytes()).unwrap();
    assert!(proof.message.ends_with(",p=MC2T8BvbmWRckDw8oWl5IVghwCY="), "{}", proof.message);
    assert_eq!(proof.verify(b"v=UMWeI25JD1yNYZRMpZ4VHvhZ9e0="), Ok(()));
}

#[test]
fn a_server_cannot_weaken_the_login() {
    let scram = Scram::new(Hash::Sha256, "a,b=c", &secret("pencil"), &[1; 24]);
    assert!(scram.first().starts_with("n,,n=a=2Cb=3Dc,r="));
    let nonce = scram.nonce.clone();
    let first = |nonce: &str, rest: &str| format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,{rest}");
    let refusal = |message: String| scram.respond(message.as_bytes()).err().unwrap();
    assert_eq!(refusal(first(&format!("{nonce}x"), "i=4095")), Refusal::FewIterations(4095));
    assert_eq!(refusal(first(&format!("{nonce}x"), "i=0")), Refusal::FewIterations(0));
    assert_eq!(refusal(first(&format!("{nonce}x"), "i=4000000000")), Refusal::ManyIterations(4_000_000_000));
    for message in [
        first(&nonce, "i=4096"),
        first("other", "i=4096"),
        first(&format!("{nonce}x"), "i=many"),
        format!("r={nonce}x,i=4096"),
        format!("m=ext,r={nonce}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"),
        String::new(),
    ] {
        assert!(matches!(refusal(message), Refusal::Malformed(_)));
    }
}

proptest! {
    #[test]
    fn no_message_makes_the_login_panic(message in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Scram::new(Hash::Sha256, "u", &secret("p"), &[1; 24]).respond(&message);
    }

    #[test]
    fn no_change_of_a_message_yields_a_login(at in 0_usize..80, byte: u8) {
        let scram = with_nonce(Hash::Sha256, "rOprNGfwEbeRWgbNEkqO");
        let server = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let mut changed = server.as_bytes().to_vec();
        let at = at.min(changed.len() - 1);
        if changed[at] != byte {
            changed[at] = byte;
            if let Ok(proof) = scram.respond(&changed) {
                prop_assert!(proof.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").is_err());
            }
        }
    }
}
