//! From an error of the SDK to its cause and remedy.

use std::{error::Error as StdError, io, time::SystemTime};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::ConnectorError};
use jiff::{SignedDuration, Timestamp};

use super::S3Url;
use crate::error::AccessError;

/// How far a clock may be off before a store refuses signatures.
const SKEW_MAX: SignedDuration = SignedDuration::from_mins(15);

/// What a request wanted, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Put,
    Get,
    Stat,
    List,
    Delete,
}

impl Want {
    pub(super) fn verb(self) -> &'static str {
        match self {
            Self::Put => "write",
            Self::Get => "read",
            Self::Stat => "look up",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }

    fn action(self) -> &'static str {
        match self {
            Self::Put => "s3:PutObject",
            Self::Get | Self::Stat => "s3:GetObject",
            Self::List => "s3:ListBucket",
            Self::Delete => "s3:DeleteObject",
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Self::Get | Self::Stat => {
                "; without s3:ListBucket a store says so of objects that do not exist, too"
            }
            _ => "",
        }
    }
}

/// What a failed request was about.
pub(super) struct Asked<'a> {
    pub(super) want: Want,
    pub(super) url: &'a S3Url,
    pub(super) endpoint: String,
    pub(super) region: &'a str,
}

/// What of an answer tells why it is a refusal.
struct Refusal<'a> {
    status: u16,
    code: &'a str,
    message: &'a str,
    response: &'a HttpResponse,
}

impl Refusal<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)
    }

    fn body(&self) -> &[u8] {
        self.response.body().bytes().unwrap_or_default()
    }

    /// The text of the first element of that name in the answer's XML.
    fn element(&self, name: &str) -> Option<String> {
        let text = std::str::from_utf8(self.body()).ok()?;
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        let (value, _) = rest.split_once("</")?;
        Some(
            value
                .chars()
                .filter(|c| !c.is_control())
                .take(100)
                .collect(),
        )
    }
}

impl Asked<'_> {
    /// The cause of an SDK error.
    pub(super) fn explain<E>(&self, error: SdkError<E, HttpResponse>) -> AccessError
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        if let SdkError::ServiceError(refused) = &error {
            return self.refusal(&Refusal {
                status: refused.raw().status().as_u16(),
                code: refused.err().code().unwrap_or_default(),
                message: refused.err().message().unwrap_or_default(),
                response: refused.raw(),
            });
        }
        if let Some(cause) = find::<CredentialsError>(&error) {
            return self.credentials(cause);
        }
        match error {
            SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
                Some(cause) => self.connection(cause),
                None => broken("the request was not sent"),
            },
            SdkError::ResponseError(_) | SdkError::TimeoutError(_) => broken(&text(&error)),
            // No credentials within the time for them: some source does not answer.
            SdkError::ConstructionFailure(_) if text(&error).contains("identity") => {
                self.no_credentials()
            }
            other => AccessError::Client {
                source: text(&other).into(),
            },
        }
    }

    fn no_credentials(&self) -> AccessError {
        let profile = self.url.profile.as_ref().map_or_else(
            || "the profile (AWS_PROFILE or default)".to_owned(),
            |name| format!("the profile {name:?}"),
        );
        AccessError::NoCredentials {
            tried: format!(
                "the environment (AWS_ACCESS_KEY_ID), {profile} of ~/.aws, a web identity token, a container's role and an instance's role"
            ),
        }
    }

    fn credentials(&self, cause: &CredentialsError) -> AccessError {
        match cause {
            CredentialsError::CredentialsNotLoaded(_) => self.no_credentials(),
            other => AccessError::Credentials {
                transient: matches!(other, CredentialsError::ProviderTimedOut(_)),
                source: text(other).into(),
            },
        }
    }

    /// What kept a request from being answered.
    fn connection(&self, cause: &ConnectorError) -> AccessError {
        let endpoint = self.endpoint.clone();
        if let Some(tls) = find::<rustls::Error>(cause) {
            return self.tls(tls);
        }
        let text = text(cause);
        match find::<io::Error>(cause).map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => return AccessError::Refused { endpoint },
            Some(
                io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::NetworkDown
                | io::ErrorKind::AddrNotAvailable
                | io::ErrorKind::TimedOut,
            ) => {
                return AccessError::Unreachable {
                    endpoint,
                    source: text.into(),
                };
            }
            _ => {}
        }
        if text.contains("dns error") {
            return AccessError::NoHost { endpoint };
        }
        let plain = self.url.endpoint.as_ref().is_some_and(|e| !e.tls);
        if plain && text.contains("invalid HTTP version") {
            return AccessError::TlsServer { endpoint };
        }
        if cause.is_timeout() {
            return AccessError::Unreachable {
                endpoint,
                source: text.into(),
            };
        }
        broken(&text)
    }

    fn tls(&self, cause: &rustls::Error) -> AccessError {
        use rustls::CertificateError as Bad;
        let endpoint = self.endpoint.clone();
        match cause {
            rustls::Error::InvalidCertificate(Bad::UnknownIssuer) => {
                AccessError::UnknownAuthority { endpoint }
            }
            rustls::Error::InvalidCertificate(
                Bad::NotValidForName | Bad::NotValidForNameContext { .. },
            ) => AccessError::WrongName { endpoint },
            rustls::Error::InvalidCertificate(
                Bad::Expired
                | Bad::ExpiredContext { .. }
                | Bad::NotValidYet
                | Bad::NotValidYetContext { .. },
            ) => AccessError::CertificateTime { endpoint },
            rustls::Error::InvalidMessage(_) => AccessError::PlainServer { endpoint },
            other => AccessError::Tls {
                endpoint,
                source: Box::new(other.clone()),
            },
        }
    }

    /// What an answer that refuses means.
    fn refusal(&self, refusal: &Refusal<'_>) -> AccessError {
        let (status, code) = (refusal.status, refusal.code);
        let endpoint = self.endpoint.clone();
        if let Some(skew) = clock_skew(refusal) {
            return skew;
        }
        match code {
            "NoSuchBucket" => {
                return AccessError::NoBucket {
                    bucket: self.url.bucket.clone(),
                    endpoint,
                };
            }
            "InvalidAccessKeyId" => return AccessError::UnknownKey { endpoint },
            "SignatureDoesNotMatch" => return AccessError::WrongSecret,
            "ExpiredToken" | "TokenRefreshRequired" => return AccessError::ExpiredToken,
            "InvalidToken" => return AccessError::InvalidToken,
            "AccessDenied" | "AllAccessDisabled" | "AccountProblem" => {
                return AccessError::Denied {
                    action: self.want.action(),
                    hint: self.want.hint(),
                };
            }
            _ => {}
        }
        let right = || {
            let header = refusal.header("x-amz-bucket-region").map(str::to_owned);
            header.or_else(|| refusal.element("Region"))
        };
        let moved = matches!(
            code,
            "PermanentRedirect"
                | "TemporaryRedirect"
                | "AuthorizationHeaderMalformed"
                | "IllegalLocationConstraintException"
                | "InvalidRegion"
        );
        if moved || matches!(status, 301 | 307) {
            return AccessError::WrongRegion {
                used: self.region.to_owned(),
                right: right().filter(|right| right != self.region),
            };
        }
        let said = |text: &str| {
            let text: String = text.chars().filter(|c| !c.is_control()).take(300).collect();
            if text.is_empty() {
                text
            } else {
                format!(": {text}")
            }
        };
        if matches!(
            code,
            "SlowDown" | "ServiceUnavailable" | "ThrottlingException" | "RequestLimitExceeded"
        ) || matches!(status, 429 | 503)
        {
            let code = if code.is_empty() {
                status.to_string()
            } else {
                code.to_owned()
            };
            return AccessError::Busy { code };
        }
        // 400 and 409 are mostly final; these say that the moment was bad.
        let passing = matches!(
            code,
            "RequestTimeout" | "OperationAborted" | "ConditionalRequestConflict" | "IncompleteBody"
        );
        let name = |code: &str| if code.is_empty() { "no code" } else { code }.to_owned();
        if passing || (status >= 500 && status != 501) {
            return AccessError::Failed {
                status,
                code: name(code),
                message: said(refusal.message),
            };
        }
        if code.is_empty() && status == 403 {
            return AccessError::Denied {
                action: self.want.action(),
                hint: self.want.hint(),
            };
        }
        if code.is_empty() && !refusal.body().is_empty() {
            let body = String::from_utf8_lossy(refusal.body());
            if status == 400 && body.contains("HTTPS") {
                return AccessError::TlsServer { endpoint };
            }
            return AccessError::NotS3 { endpoint, status };
        }
        AccessError::Rejected {
            status,
            code: name(code),
            message: said(refusal.message),
        }
    }
}

/// Whether a refusal is one of a wrong clock: the store says so, or its clock is far from ours.
fn clock_skew(refusal: &Refusal<'_>) -> Option<AccessError> {
    let ours = Timestamp::try_from(SystemTime::now()).ok()?;
    let date = refusal.header("date");
    let far = || {
        let theirs = jiff::fmt::rfc2822::parse(date?).ok()?.timestamp();
        (refusal.status == 403 && ours.duration_since(theirs).abs() > SKEW_MAX).then_some(())
    };
    if refusal.code != "RequestTimeTooSkewed" {
        far()?;
    }
    let theirs = refusal
        .element("ServerTime")
        .or_else(|| date.map(str::to_owned))
        .unwrap_or_else(|| "another time".to_owned());
    Some(AccessError::ClockSkew {
        ours: format!("{ours:.0}"),
        theirs,
    })
}

pub(super) fn broken(text: &str) -> AccessError {
    AccessError::Broken {
        source: text.to_owned().into(),
    }
}

/// An error and all that it came from. What an `io::Error` holds is looked into as well: its own
/// `source` leaves that out.
fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| {
        match error.downcast_ref::<io::Error>() {
            Some(io) => io.get_ref().map(|inner| inner as &(dyn StdError + 'static)),
            None => error.source(),
        }
    })
}

fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    chain(error).find_map(|one| one.downcast_ref())
}

/// The whole chain as one line, what repeats itself left out.
pub(super) fn text(error: &(dyn StdError + 'static)) -> String {
    let mut line = String::new();
    for one in chain(error) {
        let one = one.to_string();
        if !line.contains(&one) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&one);
        }
    }
    line
}
