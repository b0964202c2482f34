//! An S3 server for tests: it creates atomically, verifies signatures and checksums, and does wrong
//! what it is told to.

mod answer;
mod backend;
mod credentials;
mod faults;
mod service;
mod tls;

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use orlop_repository::store::{
    ObjectStore, RetryPolicy, RetryStore, S3Credentials, S3Store, S3Url,
};
use s3s::service::S3Service;
use tokio::runtime::Runtime;

use self::{
    answer::serve,
    backend::Objects,
    service::{Bucket, Keys},
};

pub use credentials::CredentialServer;
pub use faults::{S3Fault, S3Faults, S3Op};
pub use tls::S3Tls;
pub(crate) use tls::acceptor;

/// Access key of the server.
pub const ACCESS_KEY: &str = "orlop-tests";
/// Its secret.
pub const SECRET_KEY: &str = "a secret of nobody";

/// How the server is.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a whim of its own that some store has"
)]
#[derive(Debug, Clone)]
pub struct Options {
    /// Its only bucket.
    pub bucket: String,
    /// Whether it heeds `If-None-Match`.
    pub conditional: bool,
    /// Whether it answers 501 to `If-None-Match`.
    pub refuses_conditional: bool,
    /// Whether it verifies checksums in headers; if not, it ignores them.
    pub checksums: bool,
    /// Whether it knows ranges; if not, it answers with whole objects.
    pub ranges: bool,
    /// Objects in a page of a list.
    pub page: usize,
    /// The region that requests must be signed for; any without.
    pub region: Option<String>,
    /// Where objects are kept; in memory without.
    pub directory: Option<PathBuf>,
    /// Its port of the loopback interface; any free one without.
    pub port: Option<u16>,
    /// Its certificate; plain HTTP without.
    pub tls: Option<S3Tls>,
    /// More keys with their secrets.
    pub keys: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bucket: "bench".to_owned(),
            conditional: true,
            refuses_conditional: false,
            checksums: true,
            ranges: true,
            page: 1000,
            region: None,
            directory: None,
            port: None,
            tls: None,
            keys: Vec::new(),
        }
    }
}

struct Shared {
    service: S3Service,
    objects: Arc<Objects>,
    options: Options,
    faults: S3Faults,
    requests: Mutex<Vec<(S3Op, String)>>,
}

/// A server in this process; it ends with the value.
pub struct S3Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    ca: Option<tempfile::NamedTempFile>,
    runtime: Option<Runtime>,
}

impl S3Server {
    /// A server as most tests want it.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn new() -> Self {
        Self::start(Options::default())
    }

    /// Starts a server on the loopback interface.
    ///
    /// # Panics
    /// The port is taken, or the directory cannot be used.
    pub fn start(options: Options) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port.unwrap_or(0))).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let objects = Arc::new(match &options.directory {
            Some(root) => Objects::directory(root).unwrap(),
            None => Objects::memory(),
        });
        let mut keys = vec![(ACCESS_KEY.to_owned(), SECRET_KEY.to_owned())];
        keys.extend(options.keys.clone());
        let bucket = Bucket {
            objects: Arc::clone(&objects),
            options: options.clone(),
        };
        let (acceptor, ca) = options.tls.map(tls::acceptor).unzip();
        let shared = Arc::new(Shared {
            service: service::service(bucket, Keys(keys)),
            objects,
            options,
            faults: S3Faults::default(),
            requests: Mutex::default(),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("s3-server")
            .enable_all()
            .build()
            .unwrap();
        let serving = Arc::clone(&shared);
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let shared = Arc::clone(&serving);
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(shared, stream).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(shared, stream).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            shared,
            address,
            ca,
            runtime: Some(runtime),
        }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Its endpoint: scheme, host, port.
    pub fn endpoint(&self) -> String {
        let scheme = if self.ca.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The URL of a repository in its bucket.
    pub fn url(&self, prefix: &str) -> String {
        let mut url = format!(
            "s3://{}/{prefix}?endpoint={}&region=us-east-1&path-style=true",
            self.shared.options.bucket,
            self.endpoint()
        );
        if let Some(ca) = &self.ca {
            url.push_str("&ca-file=");
            url.push_str(ca.path().to_str().unwrap());
        }
        url
    }

    /// What a process needs in its environment to use it, and nothing of another's.
    pub fn environment(&self) -> [(&'static str, &'static str); 5] {
        [
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ]
    }

    /// Its keys.
    pub fn credentials() -> S3Credentials {
        S3Credentials::new(ACCESS_KEY, SECRET_KEY, None)
    }

    /// A store below `prefix` that tries nothing again.
    ///
    /// # Panics
    /// The prefix is malformed.
    pub fn raw_store(&self, prefix: &str) -> Arc<S3Store> {
        let url = S3Url::parse(&self.url(prefix)).unwrap();
        Arc::new(S3Store::new(url).with_credentials(Self::credentials()))
    }

    /// A store below `prefix` that tries again as usual, but without long pauses.
    ///
    /// # Panics
    /// The prefix is malformed.
    pub fn store(&self, prefix: &str) -> Arc<dyn ObjectStore> {
        let policy = RetryPolicy {
            first_pause: Duration::from_millis(1),
            longest_pause: Duration::from_millis(20),
            answer_within: Duration::from_mins(1),
            patience: Duration::ZERO,
            ..RetryPolicy::default()
        };
        Arc::new(RetryStore::with_policy(self.raw_store(prefix), policy))
    }

    /// What it does wrong.
    pub fn faults(&self) -> &S3Faults {
        &self.shared.faults
    }

    /// The requests since the last call, with the keys or prefixes they were for.
    pub fn take_requests(&self) -> Vec<(S3Op, String)> {
        let mut requests = self
            .shared
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut requests)
    }

    /// An object's bytes, as they are.
    ///
    /// # Panics
    /// The directory cannot be read.
    pub fn object(&self, key: &str) -> Option<Bytes> {
        self.shared.objects.get(key).unwrap()
    }

    /// Puts bytes in the place of an object's.
    ///
    /// # Panics
    /// The directory cannot be written.
    pub fn overwrite(&self, key: &str, bytes: Bytes) {
        assert!(self.shared.objects.put(key, bytes, false).unwrap());
    }

    /// All keys with their sizes.
    ///
    /// # Panics
    /// The directory cannot be read.
    pub fn keys(&self) -> Vec<(String, u64)> {
        self.shared.objects.list("", None).unwrap()
    }
}

impl Default for S3Server {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
