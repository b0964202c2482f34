//! The client of a bucket: where credentials come from, whom to trust, how long to wait.

use std::{path::Path, time::Duration};

use aws_config::{
    AppName, BehaviorVersion, default_provider::region::DefaultRegionChain,
    environment::EnvironmentVariableRegionProvider, meta::region::RegionProviderChain,
    profile::ProfileFileRegionProvider,
};
use aws_sdk_s3::{
    Client,
    config::{
        Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        retry::RetryConfig, timeout::TimeoutConfig,
    },
};
use aws_smithy_http_client::{
    Builder, ConnectorBuilder,
    proxy::ProxyConfig,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::{
    http::SharedHttpClient, runtime_components::RuntimeComponents,
};
use rustls::{RootCertStore, pki_types::CertificateDer, pki_types::pem::PemObject as _};

use super::{S3Credentials, S3Url, url::Endpoint};
use crate::error::AccessError;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// The region of stores that have none, and of Amazon if nothing names another.
const REGION: &str = "us-east-1";

/// A client with its region.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) region: String,
}

/// Reads what the environment and files say; asks nobody but, on machines of Amazon that name no
/// region, their metadata service.
pub(super) async fn connect(
    url: &S3Url,
    credentials: Option<&S3Credentials>,
    ca_pem: &str,
) -> Result<Connection, AccessError> {
    let region = url.region.clone().map(Region::new);
    let profile = url.profile.clone();
    let chain = RegionProviderChain::first_try(region);
    let chain = if url.endpoint.is_some() {
        // The machine's own region says nothing about another's store.
        let mut files = ProfileFileRegionProvider::builder();
        if let Some(profile) = &profile {
            files = files.profile_name(profile);
        }
        chain
            .or_else(EnvironmentVariableRegionProvider::new())
            .or_else(files.build())
    } else {
        let mut default = DefaultRegionChain::builder();
        if let Some(profile) = &profile {
            default = default.profile_name(profile);
        }
        chain.or_else(default.build())
    };
    let region = chain.or_else(Region::from_static(REGION)).region().await;
    let region = region.unwrap_or(Region::from_static(REGION));
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(region.clone())
        .app_name(AppName::new("orlop").expect("the name has letters only"));
    if let Some(profile) = &profile {
        loader = loader.profile_name(profile);
    }
    if let Some(keys) = credentials {
        loader = loader.credentials_provider(keys.provide());
    }
    let shared = loader.load().await;
    let mut config = aws_sdk_s3::config::Builder::from(&shared)
        .http_client(http_client(url, ca_pem)?)
        // One decorator tries again, nobody else.
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT).build())
        // A wrong clock is told to the user, who has other reasons to set it.
        .disable_clock_skew_correction(true)
        // Checksums are sent as the store was seen to take them; what is read has its own.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .force_path_style(url.path_style.unwrap_or(url.endpoint.is_some()));
    if let Some(endpoint) = &url.endpoint {
        config = config.endpoint_url(endpoint.to_string());
    }
    Ok(Connection {
        client: Client::from_conf(config.build()),
        region: region.to_string(),
    })
}

impl S3Credentials {
    fn provide(&self) -> Credentials {
        Credentials::new(
            self.access_key_id.clone(),
            self.secret_access_key.as_str(),
            self.session_token.as_ref().map(|token| token.to_string()),
            None,
            "given",
        )
    }
}

fn http_client(url: &S3Url, ca_pem: &str) -> Result<SharedHttpClient, AccessError> {
    let trusted = match &url.ca_file {
        _ if !ca_pem.is_empty() => {
            let pem = checked_ca(ca_pem.as_bytes().to_vec());
            let pem = pem.map_err(|reason| AccessError::CaFile {
                path: "of the location".to_owned(),
                reason,
            })?;
            TrustStore::empty().with_pem_certificate(pem)
        }
        Some(path) => TrustStore::empty().with_pem_certificate(read_ca(path)?),
        None => TrustStore::default(),
    };
    let context = TlsContext::builder()
        .with_trust_store(trusted)
        .build()
        .map_err(|e| AccessError::Client { source: e.into() })?;
    let loopback = url.endpoint.as_ref().is_some_and(Endpoint::is_loopback);
    Ok(
        Builder::new().build_with_connector_fn(move |settings, components| {
            let mut connector = ConnectorBuilder::default()
                .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
                .tls_context(context.clone());
            connector.set_connector_settings(settings.cloned());
            connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
            // A proxy cannot reach what listens on this machine only.
            connector.set_proxy_config(Some(if loopback {
                ProxyConfig::disabled()
            } else {
                ProxyConfig::from_env()
            }));
            connector.build()
        }),
    )
}

/// The file of own authorities.
fn read_ca(path: &Path) -> Result<Vec<u8>, AccessError> {
    let pem = std::fs::read(path).map_err(|e| e.to_string());
    pem.and_then(checked_ca)
        .map_err(|reason| AccessError::CaFile {
            path: path.display().to_string(),
            reason,
        })
}

/// The certificates are tried here, as the client would panic on a bad one.
fn checked_ca(pem: Vec<u8>) -> Result<Vec<u8>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|e| e.to_string())?;
        roots.add(certificate).map_err(|e| e.to_string())?;
    }
    if roots.is_empty() {
        return Err("it has no certificate in PEM".to_owned());
    }
    Ok(pem)
}
