//! The program with a repository in a bucket, and where it takes credentials from.

use std::{fs, path::Path};

use orlop_tests::{
    Orlop, Output, Record, assert_identical,
    s3::{ACCESS_KEY, CredentialServer, Options, S3Server, SECRET_KEY},
    sample,
};

/// A command on the repository, without any credentials.
fn bare(at: &Path, verb: &str, url: &str) -> Orlop {
    let mut command = Orlop::new(at, ["repo", verb, "-r", url]).env("ORLOP_PASSWORD", "x");
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"AWS_") {
            command = command.without(&name);
        }
    }
    command
}

fn repo(server: &S3Server, at: &Path, verb: &str) -> Orlop {
    let mut command = bare(at, verb, &server.url("p"));
    for (name, value) in server.environment() {
        command = command.env(name, value);
    }
    command
}

#[test]
fn a_directory_is_backed_up_to_a_bucket_and_restored() {
    let server = S3Server::start(Options {
        page: 3,
        ..Options::default()
    });
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let volume = at.join("volume");
    fs::create_dir(&volume).unwrap();
    sample(&volume, 61, 4 << 20);
    let made = repo(&server, at, "init").run().exits(0);
    assert!(made.stdout.contains("s3://bench/p"), "{}", made.stdout);
    let again = repo(&server, at, "init").run().exits(1);
    assert!(again.one_line().contains("holds a repository already"));
    // Faults that pass go unnoticed.
    server.faults().storm(3, 50);
    for _ in 0..2 {
        repo(&server, at, "backup")
            .args(["--volume", "ns/pod/vol"])
            .arg(&volume)
            .run()
            .exits(0);
    }
    let list = repo(&server, at, "snapshots")
        .args(["-o", "json"])
        .run()
        .exits(0)
        .json();
    assert_eq!(list.as_array().unwrap().len(), 2);
    let target = at.join("target");
    repo(&server, at, "restore")
        .args(["latest:ns/pod/vol", "--target"])
        .arg(&target)
        .run()
        .exits(0);
    assert_identical(&Record::of(&volume), &target);
    repo(&server, at, "check").arg("--read-data").run().exits(0);
}

fn lists(command: Orlop) -> Output {
    command.env("AWS_REGION", "us-east-1").run()
}

#[test]
fn credentials_come_from_every_source_of_the_platform() {
    let server = S3Server::new();
    let given = CredentialServer::start();
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    repo(&server, at, "init").run().exits(0);
    let url = server.url("p");
    let lacking = |extra: &str| {
        bare(at, "snapshots", &format!("{url}{extra}")).env("AWS_EC2_METADATA_DISABLED", "true")
    };
    // None at all.
    let error = lists(lacking("")).exits(1);
    for part in [
        "no credentials were found",
        "AWS_ACCESS_KEY_ID",
        "web identity",
        "profile=",
        "instance",
    ] {
        assert!(error.one_line().contains(part), "{}", error.stderr);
    }
    // A profile, by default and by name.
    fs::create_dir(at.join(".aws")).unwrap();
    let keys = format!("aws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n");
    fs::write(at.join(".aws/credentials"), format!("[default]\n{keys}")).unwrap();
    lists(lacking("")).exits(0);
    fs::write(at.join(".aws/credentials"), format!("[backup]\n{keys}")).unwrap();
    lists(lacking("")).exits(1);
    lists(lacking("&profile=backup")).exits(0);
    lists(lacking("").env("AWS_PROFILE", "backup")).exits(0);
    let none = lists(lacking("&profile=other")).exits(1);
    assert!(none.one_line().contains("other"), "{}", none.stderr);
    fs::remove_dir_all(at.join(".aws")).unwrap();
    // A web identity.
    let token = at.join("token");
    fs::write(&token, "the-token").unwrap();
    let web = lacking("")
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", &token)
        .env("AWS_ROLE_ARN", "arn:aws:iam::1:role/backup")
        .env("AWS_ENDPOINT_URL_STS", given.url());
    lists(web).exits(0);
    // A container's role.
    let uri = format!("{}/container", given.url());
    lists(lacking("").env("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri)).exits(0);
    // An instance's role.
    let instance =
        bare(at, "snapshots", &url).env("AWS_EC2_METADATA_SERVICE_ENDPOINT", given.url());
    lists(instance).exits(0);
}

#[test]
fn a_bad_url_is_an_error_of_one_line_without_its_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let url = "s3://AKIA:hush@bench/p";
    let error = bare(directory.path(), "snapshots", url).run().exits(1);
    assert!(error.one_line().contains("credentials do not belong in it"));
    assert!(!error.stderr.contains("hush"), "{}", error.stderr);
}
