//! Each trouble has its own message, with the remedy.

use std::sync::Arc;

use orlop_repository::{
    Error, InitOptions, Repository, Unlock,
    store::{Durability, ObjectStore, S3Credentials, S3Store, S3Url},
};
use orlop_tests::{
    KEY, free_port,
    s3::{ACCESS_KEY, Options, S3Fault, S3Op, S3Server, S3Tls, SECRET_KEY},
};

/// The whole line, as the program prints it.
fn line(error: &Error) -> String {
    let mut line = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    assert!(
        !line.contains(SECRET_KEY) && !line.contains(ACCESS_KEY),
        "{line}"
    );
    line
}

#[track_caller]
fn says(error: &Error, parts: &[&str]) {
    let line = line(error);
    for part in parts {
        assert!(line.contains(part), "{part:?} is not in {line:?}");
    }
}

fn store(url: &str) -> Arc<S3Store> {
    store_with(url, S3Server::credentials())
}

fn store_with(url: &str, credentials: S3Credentials) -> Arc<S3Store> {
    Arc::new(S3Store::new(S3Url::parse(url).unwrap()).with_credentials(credentials))
}

/// The errors of all calls that a new connection may begin with.
async fn errors(store: &S3Store) -> [Error; 4] {
    let put = store.put("repo.cfg", vec!["x".into()], Durability::Now);
    [
        store.stat("repo.cfg").await.unwrap_err(),
        store.get("repo.cfg").await.unwrap_err(),
        store.list("").await.unwrap_err(),
        put.await.unwrap_err(),
    ]
}

#[tokio::test]
async fn a_bucket_that_does_not_exist() {
    let server = S3Server::new();
    let url = server.url("p").replace("//bench/", "//other/");
    let unlock = Unlock::KeyFile(KEY.to_vec());
    let parts = [
        "s3://other/p?endpoint=http://127.0.0.1",
        "bucket \"other\" does not exist at http://127.0.0.1",
        "make it",
    ];
    let opened = Repository::open(store(&url), &unlock).await;
    says(&opened.err().unwrap(), &parts);
    let made = Repository::init(store(&url), &unlock, InitOptions::default()).await;
    says(&made.err().unwrap(), &parts);
}

#[tokio::test]
async fn a_prefix_without_a_repository() {
    let server = S3Server::new();
    let unlock = Unlock::KeyFile(KEY.to_vec());
    let opened = Repository::open(server.raw_store("p"), &unlock).await;
    let error = opened.err().unwrap();
    assert!(error.is_not_found());
    says(
        &error,
        &["s3://bench/p", "holds no repository", "orlop repo init"],
    );
}

#[tokio::test]
async fn keys_that_are_wrong() {
    let server = S3Server::new();
    let unknown = S3Credentials::new("someone-else", SECRET_KEY, None);
    for error in errors(&store_with(&server.url("p"), unknown)).await {
        says(
            &error,
            &["does not know the access key", "AWS_ACCESS_KEY_ID"],
        );
        assert!(error.is_permanent());
    }
    let wrong = S3Credentials::new(ACCESS_KEY, "guessed", None);
    for error in errors(&store_with(&server.url("p"), wrong)).await {
        says(&error, &["SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"]);
        assert!(!line(&error).contains("guessed"));
    }
}

#[tokio::test]
async fn a_region_that_is_wrong() {
    let server = S3Server::start(Options {
        region: Some("eu-west-7".to_owned()),
        ..Options::default()
    });
    for error in errors(&server.raw_store("p")).await {
        says(&error, &["region \"us-east-1\"", "use region=eu-west-7"]);
    }
    let right = server.url("p").replace("us-east-1", "eu-west-7");
    store(&right).list("").await.unwrap();
    // As Amazon answers for a bucket that moved.
    let server = S3Server::new();
    let redirect = S3Fault::Refuse {
        status: 301,
        code: "PermanentRedirect".to_owned(),
        xml: "<Endpoint>x</Endpoint>".to_owned(),
        headers: vec![("x-amz-bucket-region".to_owned(), "eu-west-7".to_owned())],
    };
    server.faults().add(None, "", 9, redirect);
    for error in errors(&server.raw_store("p")).await {
        says(&error, &["use region=eu-west-7"]);
    }
}

#[tokio::test]
async fn a_clock_that_is_wrong() {
    let server = S3Server::new();
    let skewed = S3Fault::Refuse {
        status: 403,
        code: "RequestTimeTooSkewed".to_owned(),
        xml: "<RequestTime>20200101T000000Z</RequestTime><ServerTime>2020-01-01T02:00:00Z</ServerTime>"
            .to_owned(),
        headers: Vec::new(),
    };
    server.faults().add(None, "", 9, skewed);
    let this_year = jiff::Timestamp::now().to_string()[..5].to_owned();
    for error in errors(&server.raw_store("p")).await {
        says(
            &error,
            &["clock is wrong", &this_year, "2020-01-01T02:00:00Z", "NTP"],
        );
    }
    // Only the time of the answer tells.
    let server = S3Server::new();
    let date = "Wed, 01 Jan 2020 02:00:00 GMT";
    let refused = S3Fault::Refuse {
        status: 403,
        code: String::new(),
        xml: String::new(),
        headers: vec![("date".to_owned(), date.to_owned())],
    };
    server.faults().add(None, "", 9, refused);
    for error in errors(&server.raw_store("p")).await {
        says(&error, &["clock is wrong", date]);
    }
}

#[tokio::test]
async fn refusals_have_their_remedies() {
    for (status, code, part) in [
        (400, "ExpiredToken", "get new temporary credentials"),
        (400, "InvalidToken", "AWS_SESSION_TOKEN"),
        (403, "AccessDenied", "allow it in the policy"),
        (403, "", "allow it in the policy"),
        (503, "SlowDown", "too busy (SlowDown)"),
        (500, "InternalError", "look at its log"),
        (
            400,
            "SomethingNew",
            "refused with status 400 (SomethingNew: as planned)",
        ),
    ] {
        let server = S3Server::new();
        server
            .faults()
            .add(None, "", 9, S3Fault::refuse(status, code));
        for (n, error) in errors(&server.raw_store("p")).await.iter().enumerate() {
            let no_code = n == 0 && status >= 500;
            if !no_code {
                says(error, &[part]);
            }
            assert_eq!(error.is_transient(), status >= 500, "{code}");
        }
    }
}

#[tokio::test]
async fn an_action_that_is_not_allowed_is_named() {
    let server = S3Server::new();
    let denied = S3Fault::refuse(403, "AccessDenied");
    server.faults().add(None, "", 9, denied);
    let store = server.raw_store("p");
    let [stat, get, list, put] = errors(&store).await;
    says(&stat, &["s3:GetObject", "s3:ListBucket"]);
    says(
        &get,
        &["cannot read repo.cfg in s3://bench/p", "s3:GetObject"],
    );
    says(&list, &["cannot list objects", "s3:ListBucket"]);
    says(&put, &["cannot write repo.cfg", "s3:PutObject"]);
    says(&store.delete("a").await.unwrap_err(), &["s3:DeleteObject"]);
}

#[tokio::test]
async fn a_bucket_that_is_full() {
    let server = S3Server::new();
    server
        .faults()
        .add(S3Op::Put, "", 1, S3Fault::refuse(403, "QuotaExceeded"));
    let put = server.raw_store("p");
    let put = put.put("a", vec!["x".into()], Durability::Now).await;
    says(
        &put.unwrap_err(),
        &["no space left in s3://bench/p", "writing a"],
    );
}

#[tokio::test]
async fn certificates_that_are_not_trusted() {
    for (kind, with_ca, parts) in [
        (
            S3Tls::Good,
            false,
            ["authority that is not trusted", "ca-file="],
        ),
        (
            S3Tls::OtherName,
            true,
            ["made for another name", "https://127.0.0.1"],
        ),
        (S3Tls::Expired, true, ["has expired", "clock"]),
    ] {
        let server = S3Server::start(Options {
            tls: Some(kind),
            ..Options::default()
        });
        let url = server.url("p");
        let url = if with_ca {
            url.as_str()
        } else {
            url.split("&ca-file").next().unwrap()
        };
        for error in errors(&store(url)).await {
            says(&error, &parts);
            assert!(error.is_permanent());
        }
    }
}

#[tokio::test]
async fn a_file_of_authorities_that_is_none() {
    let server = S3Server::start(Options {
        tls: Some(S3Tls::Good),
        ..Options::default()
    });
    let url = server.url("p");
    let url = url.split("&ca-file").next().unwrap();
    let error = store(&format!("{url}&ca-file=/none.pem"));
    let error = error.list("").await.unwrap_err();
    says(&error, &["/none.pem", "cannot be used", "No such file"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    for text in [
        "",
        "text",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        std::fs::write(file.path(), text).unwrap();
        let url = format!("{url}&ca-file={}", file.path().display());
        let error = store(&url).list("").await.unwrap_err();
        says(&error, &[file.path().to_str().unwrap(), "cannot be used"]);
    }
}

#[tokio::test]
async fn the_wrong_scheme() {
    let plain = S3Server::new();
    let url = plain.url("p").replace("http://", "https://");
    for error in errors(&store(&url)).await {
        says(&error, &["does not speak TLS", "use http://"]);
    }
    let secure = S3Server::start(Options {
        tls: Some(S3Tls::Good),
        ..Options::default()
    });
    let url = secure.url("p").replace("https://", "http://");
    for error in errors(&store(&url)).await {
        says(&error, &["seems to want TLS", "use https://"]);
    }
    // Some servers say it in words.
    let text = "Client sent an HTTP request to an HTTPS server.\n".to_owned();
    plain
        .faults()
        .add(S3Op::Get, "", 1, S3Fault::Text(400, text));
    let error = plain.raw_store("p").get("a").await.unwrap_err();
    says(&error, &["seems to want TLS", "use https://"]);
}

#[tokio::test]
async fn nobody_there() {
    let url = format!("s3://bench/p?endpoint=http://127.0.0.1:{}", free_port());
    for error in errors(&store(&url)).await {
        says(
            &error,
            &["connection refused", "nothing listens at http://127.0.0.1:"],
        );
        assert!(error.is_transient());
    }
    let url = "s3://bench/p?endpoint=https://no-such-host.invalid";
    for error in errors(&store(url)).await {
        says(
            &error,
            &[
                "host name of https://no-such-host.invalid is not known",
                "DNS",
            ],
        );
    }
}

#[tokio::test]
async fn a_server_of_something_else() {
    let server = S3Server::new();
    for status in [404, 405] {
        let page = "<html>not here</html>".to_owned();
        server
            .faults()
            .add(None, "", 3, S3Fault::Text(status, page));
        let store = server.raw_store("p");
        for error in [
            store.get("a").await.unwrap_err(),
            store.list("").await.unwrap_err(),
        ] {
            says(
                &error,
                &["does not answer as an S3 store does", "check the endpoint"],
            );
        }
        server.faults().clear();
    }
}
