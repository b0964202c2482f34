//! `s3://bucket/prefix?…`: where a bucket is and how to reach it. Credentials have no place in it.

use std::{fmt, net::IpAddr, path::PathBuf};

use percent_encoding::percent_decode_str;

use crate::error::{Error, Result};

/// The parameters, for messages.
const KNOWN: &str = "endpoint, region, path-style, ca-file, profile, insecure-http";
/// Longest URL in bytes.
const URL_MAX: usize = 4096;
/// Longest prefix in bytes: with a name of an object it stays below the 1024 bytes of an S3 key.
const PREFIX_MAX: usize = 120;

/// A place in a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Url {
    pub(super) bucket: String,
    /// Without slashes at its ends; may be empty.
    pub(super) prefix: String,
    pub(super) endpoint: Option<Endpoint>,
    pub(super) region: Option<String>,
    pub(super) path_style: Option<bool>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) profile: Option<String>,
    pub(super) insecure_http: bool,
}

/// A server that is not Amazon's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) tls: bool,
    host: String,
    port: Option<u16>,
}

impl Endpoint {
    fn parse(text: &str) -> Result<Self, String> {
        let (tls, rest) = if let Some(rest) = text.strip_prefix("https://") {
            (true, rest)
        } else if let Some(rest) = text.strip_prefix("http://") {
            (false, rest)
        } else {
            return Err("the endpoint must begin with http:// or https://".to_owned());
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err("the endpoint must be scheme, host and port only".to_owned());
        }
        // An address of IPv6 stands in brackets and has colons of its own.
        let colon = rest.rfind(':').filter(|at| !rest[*at..].contains(']'));
        let (host, port) = match colon {
            None => (rest, None),
            Some(at) => match rest[at + 1..].parse() {
                Ok(port) if port != 0 => (&rest[..at], Some(port)),
                _ => return Err("the endpoint's port is no number from 1 to 65535".to_owned()),
            },
        };
        let six = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let good = match six {
            Some(address) => matches!(address.parse(), Ok(IpAddr::V6(_))),
            None => {
                (1..=253).contains(&host.len())
                    && host
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
            }
        };
        if !good {
            return Err("the endpoint's host is no name and no address".to_owned());
        }
        let host = host.to_ascii_lowercase();
        Ok(Self { tls, host, port })
    }

    /// Whether it is this machine.
    pub(super) fn is_loopback(&self) -> bool {
        let host = self.host.trim_matches(['[', ']']);
        host == "localhost"
            || host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl S3Url {
    /// Whether `url` is meant to be one.
    pub fn is_meant(url: &str) -> bool {
        url.starts_with("s3://")
    }

    /// Reads a URL.
    ///
    /// # Errors
    /// [`Error::Url`]: it is not `s3://bucket/prefix` with known parameters. The error's copy of the
    /// URL lacks whatever may be a secret.
    pub fn parse(url: &str) -> Result<Self> {
        parse(url).map_err(|reason| Error::Url {
            url: without_secrets(url),
            reason,
        })
    }

    /// The place as messages show it: the URL without what only says how to get there.
    pub(super) fn place(&self) -> String {
        let mut text = format!("s3://{}", self.bucket);
        if !self.prefix.is_empty() {
            text.push('/');
            text.push_str(&self.prefix);
        }
        if let Some(endpoint) = &self.endpoint {
            text.push_str("?endpoint=");
            text.push_str(&endpoint.to_string());
        }
        text
    }
}

fn parse(url: &str) -> Result<S3Url, String> {
    let rest = url.strip_prefix("s3://").ok_or("it is not s3://")?;
    if url.len() > URL_MAX {
        return Err(format!("it is longer than {URL_MAX} bytes"));
    }
    if rest.contains('#') {
        return Err("it has a fragment: write # as %23".to_owned());
    }
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    if place.contains('@') {
        return Err(
            "credentials do not belong in it: use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or profile=…"
                .to_owned(),
        );
    }
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    let mut parsed = S3Url {
        bucket: check_bucket(bucket)?,
        prefix: check_prefix(&decode(prefix)?)?,
        endpoint: None,
        region: None,
        path_style: None,
        ca_file: None,
        profile: None,
        insecure_http: false,
    };
    let mut seen = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair
            .split_once('=')
            .ok_or("a parameter lacks its value: write name=value")?;
        let value = decode(value)?;
        if seen.contains(&name) {
            return Err(format!("{name} is given twice"));
        }
        match name {
            "endpoint" => parsed.endpoint = Some(Endpoint::parse(&value)?),
            "region" => parsed.region = Some(check_word("region", value)?),
            "path-style" => parsed.path_style = Some(check_bool("path-style", &value)?),
            "ca-file" if value.starts_with('/') => parsed.ca_file = Some(PathBuf::from(value)),
            "ca-file" => return Err("ca-file needs an absolute path".to_owned()),
            "profile" => parsed.profile = Some(check_profile(value)?),
            "insecure-http" => parsed.insecure_http = check_bool("insecure-http", &value)?,
            _ => {
                let shown: String = name.chars().take(40).collect();
                return Err(format!(
                    "the parameter {shown:?} is not known; known are {KNOWN}"
                ));
            }
        }
        seen.push(name);
    }
    if let Some(endpoint) = &parsed.endpoint
        && !endpoint.tls
        && !endpoint.is_loopback()
        && !parsed.insecure_http
    {
        return Err(
            "plain http is for this machine only: use https, or insecure-http=true if the network between is trusted"
                .to_owned(),
        );
    }
    Ok(parsed)
}

fn decode(text: &str) -> Result<String, String> {
    let bytes: Vec<u8> = percent_decode_str(text).collect();
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8")?;
    if text.chars().any(char::is_control) {
        return Err("it has a control character".to_owned());
    }
    Ok(text)
}

fn check_bucket(bucket: &str) -> Result<String, String> {
    let ends = |at: Option<&u8>| at.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = bucket.as_bytes();
    if bytes.is_empty() {
        return Err("it names no bucket: write s3://bucket/prefix".to_owned());
    }
    let good = (3..=63).contains(&bytes.len())
        && ends(bytes.first())
        && ends(bytes.last())
        && !bucket.contains("..")
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if good {
        Ok(bucket.to_owned())
    } else {
        Err("a bucket's name has 3 to 63 letters, digits, dots, hyphens and underscores".to_owned())
    }
}

fn check_prefix(prefix: &str) -> Result<String, String> {
    let prefix = prefix.trim_matches('/');
    let part = |part: &str| {
        !part.is_empty()
            && !part.bytes().all(|b| b == b'.')
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!-_.*'()=+,:".contains(&b))
    };
    if prefix.len() > PREFIX_MAX {
        return Err(format!("the prefix is longer than {PREFIX_MAX} bytes"));
    }
    if prefix.is_empty() || prefix.split('/').all(part) {
        Ok(prefix.to_owned())
    } else {
        Err(
            "the prefix may have letters, digits and !-_.*'()=+,: between single slashes"
                .to_owned(),
        )
    }
}

fn check_word(name: &str, value: String) -> Result<String, String> {
    let good = (1..=64).contains(&value.len())
        && value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if good {
        Ok(value)
    } else {
        Err(format!("{name} has letters, digits and hyphens only"))
    }
}

fn check_profile(value: String) -> Result<String, String> {
    if (1..=128).contains(&value.len()) {
        Ok(value)
    } else {
        Err("profile needs a name of up to 128 bytes".to_owned())
    }
}

fn check_bool(name: &str, value: &str) -> Result<bool, String> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{name} is true or false")),
    }
}

/// The URL without user names, passwords and the values of parameters that are not known.
fn without_secrets(url: &str) -> String {
    let (place, query) = url.split_once('?').unwrap_or((url, ""));
    let mut shown: String = match place.rsplit_once('@') {
        Some((_, after)) => format!("s3://***@{after}"),
        None => place.to_owned(),
    };
    for (n, pair) in query.split('&').enumerate().filter(|(_, p)| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let known = KNOWN.split(", ").any(|known| known == name);
        shown.push(if n == 0 { '?' } else { '&' });
        if known && !value.contains('@') && !value.contains("%40") {
            shown.push_str(pair);
        } else if known {
            shown.push_str(name);
            shown.push_str("=***");
        } else {
            shown.push_str("***");
        }
    }
    if shown.len() > 300 {
        let end = (0..=300).rev().find(|at| shown.is_char_boundary(*at));
        shown.truncate(end.unwrap_or(0));
        shown.push('…');
    }
    shown
}

impl fmt::Display for S3Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const VALUE: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS
            .add(b' ')
            .add(b'#')
            .add(b'%')
            .add(b'&')
            .add(b'?');
        write!(f, "s3://{}", self.bucket)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        let texts = [
            ("endpoint", self.endpoint.as_ref().map(ToString::to_string)),
            ("region", self.region.clone()),
            ("path-style", self.path_style.map(|b| b.to_string())),
            (
                "ca-file",
                self.ca_file.as_ref().map(|p| p.display().to_string()),
            ),
            ("profile", self.profile.clone()),
            (
                "insecure-http",
                self.insecure_http.then(|| "true".to_owned()),
            ),
        ];
        let given = texts.iter().filter_map(|(n, v)| Some((n, v.as_ref()?)));
        for (n, (name, value)) in given.enumerate() {
            let mark = if n == 0 { '?' } else { '&' };
            let value = percent_encoding::utf8_percent_encode(value, VALUE);
            write!(f, "{mark}{name}={value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
