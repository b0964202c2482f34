//! The client's side of the gRPC contract: finds the server, proves who asks, and turns what the
//! server says into exit codes.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Error, Result};
use clap::Args;
use orlop_proto::v1::{
    backups_client::BackupsClient, locations_client::LocationsClient,
    restores_client::RestoresClient, schedules_client::SchedulesClient,
    snapshots_client::SnapshotsClient, system_client::SystemClient,
};
use orlop_runtime::token;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use crate::{exit, node};

/// A certificate that is not there is looked for this often.
const CA_PAUSE: Duration = Duration::from_secs(2);
/// Answers may list many backups with many tasks.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Where the server is, and what it wants to see.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClientArgs {
    /// The server
    #[arg(
        long,
        env = "ORLOP_SERVER",
        default_value = "127.0.0.1:7070",
        value_name = "HOST:PORT"
    )]
    pub(crate) server: String,
    /// File that holds the bearer token (default: where a server of this machine leaves it)
    #[arg(long, env = "ORLOP_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// File that holds the certificate of the server's authority (default: beside the token)
    #[arg(long, env = "ORLOP_CA_FILE", value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
}

/// Adds the bearer token to every call.
#[derive(Clone)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request
            .metadata_mut()
            .insert("authorization", self.0.clone());
        Ok(request)
    }
}

type Service = InterceptedService<Channel, Bearer>;

/// A connection to the server.
#[derive(Clone)]
pub(crate) struct Client {
    service: Service,
}

/// The file that was named, or the first that a server has left.
fn located(given: Option<&Path>, name: &str, option: &str) -> Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    let places: Vec<PathBuf> = node::run_dirs()
        .into_iter()
        .map(|dir| dir.join(name))
        .collect();
    places
        .iter()
        .find(|path| path.exists())
        .cloned()
        .ok_or_else(|| {
            let places: Vec<String> = places
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            exit::failure(
                exit::FAILED,
                format!(
                    "no {name} at {}: is the server running? else give {option}",
                    places.join(" or ")
                ),
            )
        })
}

/// The address with a scheme.
pub(crate) fn url(server: &str) -> String {
    if server.contains("://") {
        server.to_owned()
    } else {
        format!("https://{server}")
    }
}

impl ClientArgs {
    /// Token and authority certificate, from the files.
    pub(crate) fn credentials(&self) -> Result<(String, String)> {
        let token_file = located(self.token_file.as_deref(), "token", "--token-file")?;
        let beside = token_file.with_file_name("ca.pem");
        let given = self
            .ca_file
            .as_deref()
            .or_else(|| beside.exists().then_some(beside.as_path()));
        let ca_file = located(given, "ca.pem", "--ca-file")?;
        let ca_pem = std::fs::read_to_string(&ca_file)
            .with_context(|| format!("cannot read the certificate {}", ca_file.display()))?;
        Ok((token::read(&token_file)?, ca_pem))
    }

    /// The file of the token.
    pub(crate) fn token_path(&self) -> Result<PathBuf> {
        located(self.token_file.as_deref(), "token", "--token-file")
    }

    /// The authority's certificate. A file that is named and is not there yet is waited for: in a cluster the
    /// coordinator makes it. `None` if `cancel` comes first.
    pub(crate) async fn awaited_ca(&self, cancel: &CancellationToken) -> Result<Option<String>> {
        let mut told = false;
        loop {
            match &self.ca_file {
                Some(path) if !path.exists() => {}
                _ => {
                    let (_, ca_pem) = self.credentials()?;
                    return Ok(Some(ca_pem));
                }
            }
            if !std::mem::replace(&mut told, true) {
                tracing::info!("waiting for the coordinator's certificate");
            }
            tokio::select! {
                () = cancel.cancelled() => return Ok(None),
                () = tokio::time::sleep(CA_PAUSE) => {}
            }
        }
    }

    /// Connects to the server.
    pub(crate) async fn connect(&self) -> Result<Client> {
        let (bearer, ca_pem) = self.credentials()?;
        Client::connect(&self.server, &bearer, &ca_pem).await
    }
}

impl Client {
    pub(crate) async fn connect(server: &str, bearer: &str, ca_pem: &str) -> Result<Self> {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca_pem));
        let channel = Endpoint::from_shared(url(server))
            .map_err(|_| exit::usage(format!("{server:?} is not HOST:PORT")))?
            .tls_config(tls)
            .context("set up TLS")?
            .connect()
            .await
            .with_context(|| {
                format!("cannot reach the server {server}: is orlop standalone or orlop coordinator running there?")
            })?;
        let value = format!("Bearer {bearer}")
            .parse()
            .context("the token is not visible ASCII")?;
        Ok(Self {
            service: Service::new(channel, Bearer(value)),
        })
    }

    pub(crate) fn backups(&self) -> BackupsClient<Service> {
        BackupsClient::new(self.service.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) fn restores(&self) -> RestoresClient<Service> {
        RestoresClient::new(self.service.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) fn schedules(&self) -> SchedulesClient<Service> {
        SchedulesClient::new(self.service.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) fn locations(&self) -> LocationsClient<Service> {
        LocationsClient::new(self.service.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) fn snapshots(&self) -> SnapshotsClient<Service> {
        SnapshotsClient::new(self.service.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) fn system(&self) -> SystemClient<Service> {
        SystemClient::new(self.service.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }
}

/// What the server refused, as the line and exit code for a person.
#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
pub(crate) fn refused(status: Status) -> Error {
    let message = status.message();
    let code = match status.code() {
        Code::NotFound => exit::NOT_FOUND,
        Code::InvalidArgument => exit::USAGE,
        _ => exit::FAILED,
    };
    let line = match status.code() {
        Code::Unavailable => format!("the server does not answer: {message}"),
        _ if message.is_empty() => format!("the server answers {:?}", status.code()),
        _ => message.to_owned(),
    };
    exit::failure(code, line)
}
