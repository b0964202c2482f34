//! Which URLs are read, as what, and what errors must not tell.

use proptest::prelude::*;

use super::*;

fn ok(url: &str) -> S3Url {
    S3Url::parse(url).unwrap()
}

fn bad(url: &str) -> String {
    S3Url::parse(url).unwrap_err().to_string()
}

#[test]
fn the_usual_urls_are_read() {
    let url = ok("s3://bucket/p?endpoint=http://127.0.0.1:9100&region=us-east-1&path-style=true");
    assert_eq!((url.bucket.as_str(), url.prefix.as_str()), ("bucket", "p"));
    assert_eq!(
        url.endpoint.as_ref().unwrap().to_string(),
        "http://127.0.0.1:9100"
    );
    assert_eq!(url.region.as_deref(), Some("us-east-1"));
    assert_eq!(url.path_style, Some(true));
    assert_eq!(url.place(), "s3://bucket/p?endpoint=http://127.0.0.1:9100");
    let amazon = ok("s3://my.bucket/a/b%21/");
    assert_eq!(amazon.prefix, "a/b!");
    assert_eq!(amazon.place(), "s3://my.bucket/a/b!");
    assert_eq!(ok("s3://bucket").prefix, "");
    let own =
        ok("s3://bucket/?endpoint=https://[::1]:9/&ca-file=/etc/my%20ca.pem&profile=back%26up");
    assert_eq!(own.ca_file.unwrap(), PathBuf::from("/etc/my ca.pem"));
    assert_eq!(own.profile.unwrap(), "back&up");
}

#[test]
fn plain_http_is_for_this_machine_unless_asked_for() {
    for host in ["127.0.0.1:1", "localhost", "[::1]:8", "127.9.9.9"] {
        ok(&format!("s3://bucket?endpoint=http://{host}"));
    }
    for host in [
        "10.0.0.1",
        "store.example:80",
        "localhost.example",
        "[2001:db8::1]",
    ] {
        let url = format!("s3://bucket?endpoint=http://{host}");
        assert!(bad(&url).contains("insecure-http=true"), "{url}");
        ok(&format!("{url}&insecure-http=true"));
        ok(&url.replace("http:", "https:"));
    }
}

#[test]
fn what_is_wrong_is_said() {
    for (url, reason) in [
        ("s3://", "names no bucket"),
        ("s3:///p", "names no bucket"),
        ("s3://ab", "3 to 63"),
        ("s3://a..b", "3 to 63"),
        ("s3://bucket/a//b", "single slashes"),
        ("s3://bucket/a/../b", "single slashes"),
        ("s3://bucket/a b", "single slashes"),
        ("s3://bucket/%ff", "not UTF-8"),
        ("s3://bucket/%00", "control character"),
        ("s3://bucket#x", "fragment"),
        ("s3://bucket?region", "lacks its value"),
        ("s3://bucket?region=", "letters, digits"),
        ("s3://bucket?region=a&region=b", "region is given twice"),
        ("s3://bucket?path-style=yes", "true or false"),
        ("s3://bucket?ca-file=ca.pem", "absolute path"),
        ("s3://bucket?endpoint=store:9000", "begin with http"),
        ("s3://bucket?endpoint=http://localhost:0", "port"),
        ("s3://bucket?endpoint=http://localhost:99999", "port"),
        (
            "s3://bucket?endpoint=https://store/path",
            "host and port only",
        ),
        ("s3://bucket?endpoint=https://", "no name and no address"),
        (
            "s3://bucket?pathstyle=true",
            "known are endpoint, region, path-style, ca-file, profile, insecure-http",
        ),
    ] {
        let message = bad(url);
        assert!(message.contains(reason), "{url}: {message}");
        assert!(message.contains("s3://bucket/prefix"), "{message}");
    }
    assert!(bad(&format!("s3://bucket/{}", "x".repeat(5000))).len() < 600);
}

#[test]
fn credentials_are_refused_and_not_repeated() {
    for url in [
        "s3://AKIA:hush@bucket/p",
        "s3://bucket/p?secret=hush",
        "s3://bucket/p?secret-key=hush&region=x",
        "s3://bucket?endpoint=https://me:hush@store",
        "s3://bucket?endpoint=https://me:hush%40store",
        "s3://bucket?hush",
    ] {
        let message = bad(url);
        assert!(!message.contains("hush"), "{message}");
    }
    assert!(bad("s3://a:b@bucket").contains("AWS_ACCESS_KEY_ID"));
}

prop_compose! {
    fn any_url()(
        bucket in "[a-z0-9][a-zA-Z0-9_-]{1,40}[a-z0-9]",
        prefix in proptest::option::of("[a-zA-Z0-9!_.*'()=+,:-]{0,10}[a-z](/[a-z0-9.]{0,9}x){0,3}"),
        endpoint in proptest::option::of("https://[a-z]([a-z0-9-]{0,10}[a-z])?(\\.[a-z]{1,5})?(:[1-9][0-9]{0,3})?"),
        region in proptest::option::of("[a-z0-9-]{1,20}"),
        path_style in proptest::option::of(any::<bool>()),
        ca_file in proptest::option::of("/[^\\p{C}]{1,20}"),
        profile in proptest::option::of("[^\\p{C}]{1,20}"),
        insecure_http in any::<bool>(),
    ) -> S3Url {
        S3Url {
            bucket,
            prefix: prefix.unwrap_or_default(),
            endpoint: endpoint.map(|e| Endpoint::parse(&e).unwrap()),
            region,
            path_style,
            ca_file: ca_file.map(PathBuf::from),
            profile,
            insecure_http,
        }
    }
}

proptest! {
    #[test]
    fn what_is_printed_is_read_as_the_same(url in any_url()) {
        let printed = url.to_string();
        prop_assert_eq!(S3Url::parse(&printed).unwrap(), url, "{}", printed);
    }

    #[test]
    fn no_text_panics_and_what_is_read_is_kept(text in "(s3://)?\\PC{0,60}") {
        if let Ok(url) = S3Url::parse(&text) {
            let printed = url.to_string();
            prop_assert_eq!(S3Url::parse(&printed).unwrap(), url);
        }
    }

    #[test]
    fn nothing_url_like_panics(
        parts in proptest::collection::vec(
            prop_oneof![
                Just("s3://".to_owned()), Just("bucket".to_owned()), Just("/".to_owned()),
                Just("?".to_owned()), Just("&".to_owned()), Just("=".to_owned()),
                Just("endpoint=".to_owned()), Just("http://".to_owned()), Just("[".to_owned()),
                Just("]".to_owned()), Just(":".to_owned()), Just("%".to_owned()), Just("%2".to_owned()),
                Just("@".to_owned()), Just("profile=".to_owned()), "\\PC{0,4}",
            ],
            0..12,
        )
    ) {
        let text = format!("s3://bucket{}", parts.concat());
        if let Ok(url) = S3Url::parse(&text) {
            prop_assert_eq!(S3Url::parse(&url.to_string()).unwrap(), url);
        }
    }

    #[test]
    fn no_secret_is_repeated(
        secret in "hush[a-zA-Z0-9/+]{0,20}",
        name in "[a-z-]{1,12}",
        before in any::<bool>(),
    ) {
        prop_assume!(!KNOWN.split(", ").any(|known| known == name));
        let url = if before {
            format!("s3://KEY:{secret}@bucket/p")
        } else {
            format!("s3://bucket/p?region=us-east-1&{name}={secret}")
        };
        prop_assert!(!bad(&url).contains("hush"), "{}", bad(&url));
    }
}
