//! Why an object store on the network could not be used, one variant a cause, each with the remedy.

use std::error::Error as StdError;

/// The cause as some library told it.
type Cause = Box<dyn StdError + Send + Sync>;

/// What went wrong between this program and an object store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// There is no such bucket.
    #[error("bucket {bucket:?} does not exist at {endpoint}: make it, or correct the URL")]
    NoBucket {
        /// Its name.
        bucket: String,
        /// Where it was looked for.
        endpoint: String,
    },
    /// The store does not know the access key.
    #[error(
        "the store does not know the access key (InvalidAccessKeyId): check AWS_ACCESS_KEY_ID, or the profile, and that the key is one of {endpoint}"
    )]
    UnknownKey {
        /// Who was asked.
        endpoint: String,
    },
    /// The secret does not fit the access key.
    #[error(
        "the secret key does not fit the access key (SignatureDoesNotMatch): check AWS_SECRET_ACCESS_KEY, or the profile"
    )]
    WrongSecret,
    /// The bucket is in another region.
    #[error(
        "region {used:?} is not the bucket's: {}",
        right.as_ref().map_or_else(|| "give the right one as region=… in the URL".to_owned(), |r| format!("use region={r} in the URL"))
    )]
    WrongRegion {
        /// The region that was used.
        used: String,
        /// The bucket's, if the store told it.
        right: Option<String>,
    },
    /// The clocks are too far apart for signatures to be valid.
    #[error(
        "this machine's clock is wrong (RequestTimeTooSkewed): it says {ours}, the store says {theirs}; set the clock, for instance by NTP"
    )]
    ClockSkew {
        /// Time here, RFC 3339.
        ours: String,
        /// Time of the store, as it said it.
        theirs: String,
    },
    /// Temporary credentials have run out.
    #[error(
        "the session token has expired (ExpiredToken): get new temporary credentials, then run the same command again"
    )]
    ExpiredToken,
    /// The session token is not one.
    #[error(
        "the store refuses the session token (InvalidToken): check AWS_SESSION_TOKEN, and unset it for keys that need none"
    )]
    InvalidToken,
    /// No credentials were found.
    #[error(
        "no credentials were found in {tried}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile with profile=… in the URL"
    )]
    NoCredentials {
        /// Where they were looked for.
        tried: String,
    },
    /// A source of credentials failed.
    #[error("a source of credentials failed: check the profile, role or token file that it names")]
    Credentials {
        /// Whether trying again may help.
        transient: bool,
        /// What it said.
        #[source]
        source: Cause,
    },
    /// The key may not do that.
    #[error(
        "access denied: the key may not do {action}; allow it in the policy of the key or of the bucket{hint}"
    )]
    Denied {
        /// Name of the action in a policy.
        action: &'static str,
        /// Advice, with its own leading punctuation.
        hint: &'static str,
    },
    /// The certificate is signed by nobody who is trusted.
    #[error(
        "the certificate of {endpoint} is signed by an authority that is not trusted: give that authority's certificate as ca-file=/path/to/ca.pem in the URL"
    )]
    UnknownAuthority {
        /// The server.
        endpoint: String,
    },
    /// The certificate is another host's.
    #[error(
        "the certificate of {endpoint} is made for another name: use a name that is in the certificate, or give the server a new one"
    )]
    WrongName {
        /// The server.
        endpoint: String,
    },
    /// The certificate's time is over, or has not come.
    #[error(
        "the certificate of {endpoint} has expired or is not valid yet: renew it, and check this machine's clock"
    )]
    CertificateTime {
        /// The server.
        endpoint: String,
    },
    /// TLS failed otherwise.
    #[error(
        "no TLS connection with {endpoint} could be made: check the server's certificate and TLS settings"
    )]
    Tls {
        /// The server.
        endpoint: String,
        /// What TLS said.
        #[source]
        source: Cause,
    },
    /// The file of trusted certificates cannot be used.
    #[error("the file {path} of trusted certificates cannot be used: {reason}")]
    CaFile {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody listens.
    #[error(
        "connection refused: nothing listens at {endpoint}; check host and port, and that the store runs"
    )]
    Refused {
        /// The server.
        endpoint: String,
    },
    /// The name means nothing.
    #[error("the host name of {endpoint} is not known: check the URL and this machine's DNS")]
    NoHost {
        /// The server.
        endpoint: String,
    },
    /// The network does not lead there.
    #[error("{endpoint} cannot be reached: check the network, firewalls and proxies")]
    Unreachable {
        /// The server.
        endpoint: String,
        /// What the system said.
        #[source]
        source: Cause,
    },
    /// TLS was asked of a server that has none.
    #[error("{endpoint} does not speak TLS: use http:// in the URL if that is meant")]
    PlainServer {
        /// The server.
        endpoint: String,
    },
    /// A server with TLS was asked without.
    #[error("{endpoint} does not speak plain HTTP, it seems to want TLS: use https:// in the URL")]
    TlsServer {
        /// The server.
        endpoint: String,
    },
    /// The server is no object store.
    #[error("{endpoint} does not answer as an S3 store does (status {status}): check the endpoint")]
    NotS3 {
        /// The server.
        endpoint: String,
        /// HTTP status.
        status: u16,
    },
    /// The store asks to be left in peace for a moment.
    #[error("the store is too busy ({code})")]
    Busy {
        /// Its code for that.
        code: String,
    },
    /// The store failed.
    #[error("the store failed with status {status} ({code}{message}): look at its log")]
    Failed {
        /// HTTP status.
        status: u16,
        /// Its code for that.
        code: String,
        /// What it said, with leading punctuation.
        message: String,
    },
    /// The store refused for another reason.
    #[error("the store refused with status {status} ({code}{message})")]
    Rejected {
        /// HTTP status.
        status: u16,
        /// Its code for that.
        code: String,
        /// What it said, with leading punctuation.
        message: String,
    },
    /// The connection broke, or the answer ended early.
    #[error("the connection broke")]
    Broken {
        /// How.
        #[source]
        source: Cause,
    },
    /// The answer was shorter than it promised to be.
    #[error("the answer ended after {got} of {promised} bytes")]
    Short {
        /// Bytes that came.
        got: u64,
        /// Bytes that were promised.
        promised: u64,
    },
    /// It took too long.
    #[error("no answer within {seconds} s: check the network and the load of the store")]
    TooSlow {
        /// How long was waited.
        seconds: u64,
    },
    /// The client could not even ask.
    #[error("the request could not be made")]
    Client {
        /// Why.
        #[source]
        source: Cause,
    },
}

impl AccessError {
    /// Whether trying the same again may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Busy { .. }
            | Self::Failed { .. }
            | Self::Broken { .. }
            | Self::Short { .. }
            | Self::TooSlow { .. } => true,
            Self::Credentials { transient, .. } => *transient,
            _ => self.is_unreachable(),
        }
    }

    /// Whether the store could not be reached at all: either a passing trouble of the network, or a
    /// wrong URL.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. } | Self::NoHost { .. } | Self::Unreachable { .. }
        )
    }
}
