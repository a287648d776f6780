//! Signatures, compared with published vectors and checked with independent verifiers.

use super::pem::sec1_to_pkcs8;
use super::sign::Algorithm;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, UnparsedPublicKey, VerificationAlgorithm};

/// The public example key of RFC 7515, appendix A.2, given by its numbers.
const RFC7515_A2: [&str; 8] = [
    // n
    "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yR\
        T-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXB\
        dQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9ia\
        GNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    // e
    "AQAB",
    // d
    "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46su\
        i395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4\
        qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB\
        4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ",
    // p
    "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8\
        cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc",
    // q
    "uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t\
        62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc",
    // dp
    "BwKfV3Akq5_MFZDFZCnW-wzl-CCo83WoZvnLQwCTeDv8uzluRSnm71I3QCLdhrqE2e9YkxvuxdBfpT_PI7Yz-FOKnu1R6HsJeDCj\
        n12Sk3vmAktV2zb34MCdy7cpdTh_YVr7tss2u6vneTwrA86rZtu5Mbr1C1XsmvkxHQAdYo0",
    // dq
    "h_96-mK1R_7glhsum81dZxjTnYynPbZpHziZjeeHcXYsXaaMwkOlODsWa7I9xXDoRwbKgB719rrmI2oKr6N3Do9U0ajaHF-NKJnw\
        gjMd2w9cjz3_-kyNlxAr2v4IKhGNpmM5iIgOS1VZnOZ68m6_pbLBSp3nssTdlqvd0tIiTHU",
    // qi
    "IYd7DHOhrWvxkwPQsRM2tOgrjbcrfvtQJipd-DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd_QJQ3ydy5cY7YIBi87w93\
        IKLEdfnbJtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp_gh6A5603k2-ZQwVK0JKSHuLFkuQ3U",
];

const INPUT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt\
                     cGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

/// The signature in that appendix.
const SIGNATURE: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2F\
        p5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQB\
        MHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeY\
        I2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";

fn number(index: usize) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(RFC7515_A2[index]).unwrap()
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let mut out = match content.len() {
        0..0x80 => vec![tag, length[1]],
        0x80..0x100 => vec![tag, 0x81, length[1]],
        _ => vec![tag, 0x82, length[0], length[1]],
    };
    out.extend_from_slice(content);
    out
}

fn integer(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes[0] >= 0x80 {
        bytes.insert(0, 0);
    }
    element(2, &bytes)
}

fn pkcs1() -> Vec<u8> {
    let numbers = (0..8).map(number).map(integer).collect::<Vec<_>>().concat();
    element(0x30, &[integer(vec![0]), numbers].concat())
}

fn pkcs8() -> Vec<u8> {
    let rsa = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
    element(0x30, &[integer(vec![0]), element(0x30, &rsa), element(4, &pkcs1())].concat())
}

fn pem(label: &str, der: &[u8]) -> String {
    let (dashes, body) = ("-".repeat(5), STANDARD.encode(der));
    let lines: Vec<&str> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("{dashes}BEGIN {label}{dashes}\n{}\n{dashes}END {label}{dashes}\n", lines.join("\n"))
}

fn sign(name: &str, key: &str) -> Vec<u8> {
    Algorithm::of(name).unwrap().sign(key.as_bytes(), INPUT.as_bytes()).unwrap()
}

fn verify(algorithm: &'static dyn VerificationAlgorithm, public: &[u8], signature: &[u8]) {
    UnparsedPublicKey::new(algorithm, public).verify(INPUT.as_bytes(), signature).unwrap();
}

#[test]
fn rsa_signs_as_the_rfc() {
    for key in [pem("RSA PRIVATE KEY", &pkcs1()), pem("PRIVATE KEY", &pkcs8())] {
        assert_eq!(URL_SAFE_NO_PAD.encode(sign("RS256", &key)), SIGNATURE);
    }
    let key = pem("PRIVATE KEY", &pkcs8());
    let public = element(0x30, &[integer(number(0)), integer(number(1))].concat());
    let algorithms: [(&str, &'static dyn VerificationAlgorithm); 5] = [
        ("RS384", &signature::RSA_PKCS1_2048_8192_SHA384),
        ("RS512", &signature::RSA_PKCS1_2048_8192_SHA512),
        ("PS256", &signature::RSA_PSS_2048_8192_SHA256),
        ("PS384", &signature::RSA_PSS_2048_8192_SHA384),
        ("PS512", &signature::RSA_PSS_2048_8192_SHA512),
    ];
    for (name, algorithm) in algorithms {
        verify(algorithm, &public, &sign(name, &key));
    }
}

#[test]
fn curves_sign_what_is_verified() {
    let random = SystemRandom::new();
    let p256 = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let key = EcdsaKeyPair::generate_pkcs8(p256, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(p256, key.as_ref(), &random).unwrap();
    let public = pair.public_key().as_ref();
    // A PKCS#8 key is a SEC 1 key after a prefix of 29 bytes.
    let sec1 = &key.as_ref()[29..];
    assert_eq!(sec1_to_pkcs8(sec1, &key.as_ref()[17..27]), key.as_ref());
    for key in [pem("PRIVATE KEY", key.as_ref()), pem("EC PRIVATE KEY", sec1)] {
        verify(&signature::ECDSA_P256_SHA256_FIXED, public, &sign("ES256", &key));
    }
    let p384 = &signature::ECDSA_P384_SHA384_FIXED_SIGNING;
    let key = EcdsaKeyPair::generate_pkcs8(p384, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(p384, key.as_ref(), &random).unwrap();
    let signature = sign("ES384", &pem("PRIVATE KEY", key.as_ref()));
    verify(&signature::ECDSA_P384_SHA384_FIXED, pair.public_key().as_ref(), &signature);
    let key = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap();
    let signature = sign("EdDSA", &pem("PRIVATE KEY", key.as_ref()));
    verify(&signature::ED25519, pair.public_key().as_ref(), &signature);
}

#[test]
fn a_key_that_does_not_fit_is_refused() {
    let rsa = pem("RSA PRIVATE KEY", &pkcs1());
    let encrypted = pem("ENCRYPTED PRIVATE KEY", &pkcs8());
    let broken = pem("PRIVATE KEY", b"nothing");
    for (name, key) in [
        ("HS256", &*rsa),
        ("HS256", ""),
        ("ES256", &rsa),
        ("EdDSA", &rsa),
        ("RS256", "topaz"),
        ("RS256", &encrypted),
        ("RS256", &broken),
        ("ES256", &broken),
        ("ES384", &pem("EC PRIVATE KEY", b"x")),
    ] {
        let failed = Algorithm::of(name).unwrap().sign(key.as_bytes(), b"x").unwrap_err();
        assert_eq!(failed.class, "InvalidKeyError", "{name}");
        assert!(!failed.message.contains("topaz"));
    }
    assert!(Algorithm::of("ES512").is_err() && Algorithm::of("none").is_err());
}

#[test]
fn a_curve_that_cannot_sign_is_named_with_what_can() {
    for (name, curve) in [("ES256K", "secp256k1"), ("ES512", "P-521")] {
        let failed = Algorithm::of(name).err().unwrap();
        assert_eq!(failed.class, "UnsupportedComponent", "the stream is refused, not the manifest");
        assert!(failed.message.contains(curve) && failed.message.contains("ES256, ES384, EdDSA or RS256"), "{}", failed.message);
    }
}
