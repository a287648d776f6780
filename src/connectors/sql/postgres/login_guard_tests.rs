use super::*;
use proptest::prelude::*;

/// A message of the server.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or_else(|error| panic!("{error}"));
    [&[kind][..], &length.to_be_bytes(), body].concat()
}

/// An authentication request with `code`.
fn request(code: u32, rest: &[u8]) -> Vec<u8> {
    message(b'R', &[&code.to_be_bytes()[..], rest].concat())
}

fn scram_first(iterations: &str) -> Vec<u8> {
    request(11, format!("r=nonce,s=c2FsdA==,i={iterations}").as_bytes())
}

#[test]
fn an_unproven_server_gets_scram_only() {
    let refused = |bytes: &[u8]| LoginCheck::new(false).read(bytes).err();
    assert_eq!(refused(&request(3, b"")), Some(LoginRefusal::ClearText));
    assert_eq!(refused(&request(5, b"salt")), Some(LoginRefusal::Md5));
    assert_eq!(refused(&request(10, b"SCRAM-SHA-256\0\0")), None);
    assert_eq!(refused(&scram_first("4096")), None);
    assert_eq!(refused(&scram_first("4095")), Some(LoginRefusal::FewIterations(4095)));
    assert_eq!(refused(&scram_first("0")), Some(LoginRefusal::FewIterations(0)));
    // A notice or a wrong SCRAM round before the request does not hide it.
    let hidden = [message(b'N', b"SNOTICE\0\0"), request(10, b"SCRAM-SHA-256\0\0"), request(3, b"")].concat();
    assert_eq!(refused(&hidden), Some(LoginRefusal::ClearText));
}

#[test]
fn a_proven_server_gets_what_it_asks_for() {
    let mut check = LoginCheck::new(true);
    for bytes in [request(3, b""), request(5, b"salt"), scram_first("1"), request(0, b"")] {
        assert_eq!(check.read(&bytes), Ok(()));
    }
}

#[test]
fn what_the_driver_cannot_do_is_named() {
    let refused = |bytes: &[u8]| LoginCheck::new(true).read(bytes).err().map(|refusal| refusal.to_string());
    for (bytes, expected) in [
        (request(7, b""), "GSSAPI"),
        (request(13, b"x"), "code 13"),
        (request(14, b"x"), "code 14"),
        (request(99, b""), "code 99"),
        (request(10, b"OAUTHBEARER\0\0"), "OAUTHBEARER"),
        (scram_first("600000"), "600000"),
        (scram_first("-1"), "not valid"),
        (request(11, b"r=x"), "not valid"),
        (message(b'R', b"\0\0"), "not valid"),
        (vec![b'R', 0, 0, 0, 3], "not valid"),
        (vec![b'R', 0x7f, 0xff, 0xff, 0xff], "not valid"),
    ] {
        let found = refused(&bytes);
        assert!(found.as_ref().is_some_and(|text| text.contains(expected)), "{bytes:?}: {found:?}");
    }
}

/// Nothing of the login shows that the server knows the user, so something else has to: TLS, the policy or this machine.
#[test]
fn a_server_that_asks_for_nothing_has_to_be_proven_otherwise() {
    let accepted = [request(0, b""), message(b'Z', b"I")].concat();
    assert_eq!(LoginCheck::new(false).read(&accepted), Err(LoginRefusal::NotAsked));
    assert_eq!(LoginCheck::new(false).read(&request(12, b"")), Err(LoginRefusal::NotAsked));
    for mut check in [LoginCheck::new(true), LoginCheck::new(false).allowing_unasked(true)] {
        let asked = check.asked();
        assert_eq!((check.read(&accepted), asked.load(Ordering::Relaxed)), (Ok(()), false));
    }
    let mut check = LoginCheck::new(false);
    let asked = check.asked();
    let scram = [request(10, b"SCRAM-SHA-256\0\0"), scram_first("4096"), request(12, b"v=x"), request(0, b"")].concat();
    assert_eq!((check.read(&scram), asked.load(Ordering::Relaxed)), (Ok(()), true));
}

#[test]
fn nothing_is_checked_after_the_login() {
    let mut check = LoginCheck::new(false).allowing_unasked(true);
    check.read(&[request(0, b""), message(b'Z', b"I")].concat()).unwrap_or_else(|refusal| panic!("{refusal}"));
    assert_eq!(check.read(&request(3, b"")), Ok(()));
}

proptest! {
    /// However the bytes arrive in parts, the request is refused at the latest with its last byte.
    #[test]
    fn the_parts_in_which_bytes_arrive_do_not_matter(cuts in proptest::collection::vec(1_usize..9, 0..20), notice in 0_usize..40) {
        let bytes = [message(b'N', &vec![b'x'; notice]), message(b'S', b"a\0b\0"), request(5, b"salt")].concat();
        let mut check = LoginCheck::new(false);
        let mut rest = &bytes[..];
        let mut outcome = Ok(());
        for cut in cuts {
            let (part, after) = rest.split_at(cut.min(rest.len()));
            outcome = outcome.and_then(|()| check.read(part));
            rest = after;
        }
        prop_assert_eq!(outcome.and_then(|()| check.read(rest)), Err(LoginRefusal::Md5));
    }

    /// Any bytes are judged without a panic.
    #[test]
    fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..200), allow_weak: bool) {
        let _ = LoginCheck::new(allow_weak).read(&bytes);
    }
}
