//! The S3 server of the tests as a program: for trials and measurements, never for data.

use std::path::PathBuf;

use clap::Parser;
use orlop_tests::s3::{ACCESS_KEY, Options, S3Server, SECRET_KEY};

/// Serves one bucket on the loopback interface until it is ended.
#[derive(Debug, Parser)]
struct Args {
    /// Port to listen on
    #[arg(long, default_value_t = 9100)]
    port: u16,
    /// Directory for the objects; without one they are gone with the process
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Name of the bucket
    #[arg(long, default_value = "bench")]
    bucket: String,
    /// Another access key
    #[arg(long, requires = "secret_key", default_value = ACCESS_KEY)]
    access_key: String,
    /// Its secret
    #[arg(long, default_value = SECRET_KEY)]
    secret_key: String,
    /// Ignore If-None-Match, as some stores do
    #[arg(long)]
    no_conditional: bool,
}

fn main() {
    let args = Args::parse();
    let server = S3Server::start(Options {
        bucket: args.bucket,
        conditional: !args.no_conditional,
        directory: args.dir,
        port: Some(args.port),
        keys: vec![(args.access_key.clone(), args.secret_key.clone())],
        ..Options::default()
    });
    println!(
        "export AWS_ACCESS_KEY_ID='{}' AWS_SECRET_ACCESS_KEY='{}'\n{}",
        args.access_key,
        args.secret_key,
        server.url("p")
    );
    loop {
        std::thread::park();
    }
}
