//! The client's side of the gRPC contract: finds the server, proves who asks, and turns what the
//! server says into exit codes.

mod args;
mod bearer;
mod cluster;

use std::time::Duration;

use anyhow::{Context as _, Error, Result};
use orlop_proto::v1::{
    backups_client::BackupsClient, locations_client::LocationsClient,
    restores_client::RestoresClient, schedules_client::SchedulesClient,
    snapshots_client::SnapshotsClient, system_client::SystemClient,
};
use tonic::{
    Code, Status,
    transport::{Certificate, ClientTlsConfig, Endpoint},
};

pub(crate) use args::{ClientArgs, ServerArgs};
use bearer::{Authorized, Bearer};

use crate::exit;

/// A certificate that is not there is looked for this often.
const CA_PAUSE: Duration = Duration::from_secs(2);
/// How long a server may take to be reached.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// Answers may list many backups with many tasks.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// A connection to the server.
#[derive(Clone)]
pub(crate) struct Client {
    service: Authorized,
}

/// The address with a scheme.
pub(crate) fn url(server: &str) -> String {
    if server.contains("://") {
        server.to_owned()
    } else {
        format!("https://{server}")
    }
}

impl Client {
    pub(crate) async fn connect(server: &str, bearer: &str, ca_pem: &str) -> Result<Self> {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca_pem));
        let channel = Endpoint::from_shared(url(server))
            .map_err(|_| exit::usage(format!("{server:?} is not HOST:PORT")))?
            .tls_config(tls)
            .context("set up TLS")?
            .connect_timeout(CONNECT_LIMIT)
            .connect()
            .await
            .with_context(|| {
                format!("cannot reach the server {server}: is orlop standalone or orlop coordinator running there?")
            })?;
        Ok(Self {
            service: Authorized::new(channel, Bearer::fixed(bearer)?),
        })
    }

    pub(crate) fn backups(&self) -> BackupsClient<Authorized> {
        BackupsClient::new(self.service.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) fn restores(&self) -> RestoresClient<Authorized> {
        RestoresClient::new(self.service.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) fn schedules(&self) -> SchedulesClient<Authorized> {
        SchedulesClient::new(self.service.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) fn locations(&self) -> LocationsClient<Authorized> {
        LocationsClient::new(self.service.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) fn snapshots(&self) -> SnapshotsClient<Authorized> {
        SnapshotsClient::new(self.service.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) fn system(&self) -> SystemClient<Authorized> {
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
        // What the server itself says has details.
        Code::Unavailable if status.details().is_empty() => {
            format!("the server does not answer: {message}")
        }
        Code::Unimplemented if message.is_empty() => format!(
            "the server does not know this call: it is of another version than this program, {}; orlop status shows its",
            env!("CARGO_PKG_VERSION")
        ),
        _ if message.is_empty() => format!("the server answers {:?}", status.code()),
        _ => message.to_owned(),
    };
    exit::failure(code, line)
}
