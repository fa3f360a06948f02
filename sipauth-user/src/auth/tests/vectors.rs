use crate::auth::{
    Ha1,
    digest::{Algorithm, Hash, Input, Protection, response},
};

fn example(algorithm: Algorithm, ha1: &[u8], method: &[u8], uri: &[u8], nonce: &[u8], cnonce: &[u8]) -> String {
    let protection = Some(Protection {
        qop: b"auth",
        nc: b"00000001",
        body: None,
    });
    let hex = response(
        ha1,
        &Input {
            algorithm,
            method,
            uri,
            nonce,
            protection,
            cnonce,
        },
    );
    String::from_utf8(hex.as_bytes().to_vec()).unwrap()
}

#[test]
fn the_example_of_rfc_2617_section_3_5() {
    let ha1 = Ha1::derive("Mufasa", "testrealm@host.com", "Circle Of Life");
    assert_eq!(ha1.get(Hash::Md5, false), b"939e7578ed9e3c518a452acee763bce9");
    let got = example(
        Algorithm::Md5,
        ha1.get(Hash::Md5, false),
        b"GET",
        b"/dir/index.html",
        b"dcd98b7102dd2f0e8b11d0f600bfb0c093",
        b"0a4f113b",
    );
    assert_eq!(got, "6629fae49393a05397450978507c4ef1");
}

#[test]
fn rfc_2069_without_qop() {
    // The corrected example of RFC 2069 (erratum 749).
    let ha1 = Ha1::derive("Mufasa", "testrealm@host.com", "CircleOfLife");
    let input = Input {
        algorithm: Algorithm::Md5,
        method: b"GET",
        uri: b"/dir/index.html",
        nonce: b"dcd98b7102dd2f0e8b11d0f600bfb0c093",
        protection: None,
        cnonce: b"",
    };
    assert_eq!(
        response(ha1.get(Hash::Md5, false), &input).as_bytes(),
        b"1949323746fe6a43ef61f9606e7febea"
    );
}

#[test]
fn the_examples_of_rfc_7616_section_3_9_1() {
    let ha1 = Ha1::derive("Mufasa", "http-auth@example.org", "Circle of Life");
    let (nonce, cnonce) = (
        b"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        b"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
    );
    for (algorithm, expected) in [
        (Algorithm::Md5, "8ca523f5e9506fed4657c9700eebdbec"),
        (
            Algorithm::Sha256,
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
        ),
    ] {
        let got = example(
            algorithm,
            ha1.get(algorithm.hash(), false),
            b"GET",
            b"/dir/index.html",
            nonce,
            cnonce,
        );
        assert_eq!(got, expected, "{algorithm:?}");
    }
}

#[test]
fn sha_512_256_is_the_function_of_fips_180_4_and_not_a_cut_sha_512() {
    let expected = b"53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23";
    assert_eq!(Hash::Sha512T256.joined(&[b"abc"]).as_bytes(), expected);
}

#[test]
fn stored_credentials_survive_the_store_and_show_nothing() {
    let ha1 = Ha1::derive("gw1", "realm", "secret");
    let text = ha1.to_text();
    assert_eq!(Ha1::from_text(&text), Ok(ha1.clone()));
    assert_eq!(format!("{ha1:?}"), "Ha1(redacted)");
    for bad in [
        "",
        "v1",
        "v2:00",
        &text[..text.len() - 1],
        &format!("{text}:"),
        &text.to_uppercase(),
        &text.replace("v1:", "v1:g"),
    ] {
        assert!(Ha1::from_text(bad).is_err(), "{bad}");
    }
}
