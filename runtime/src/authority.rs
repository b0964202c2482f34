//! The certificate authority: made once, and replaced by a successor before it ends.

use std::{path::Path, time::SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use super::{ANNOUNCE_BEFORE, ANNOUNCED_FOR, CA_VALID, unix_secs, valid};
use crate::{Error, Result, private};

/// All certificates that clients trust, that of `KEY` first.
const CERTIFICATES: &str = "ca.pem";
const KEY: &str = "ca.key";
/// When each of the certificates ends, a line of seconds since 1970 each.
const VALID: &str = "ca.valid";
/// The successor, when it was made, and when it ends.
const NEXT_CERTIFICATE: &str = "next.pem";
const NEXT_KEY: &str = "next.key";
const NEXT_VALID: &str = "next.valid";
/// The key of the first authority, once there is another one.
const OWN: &str = "own.key";

/// All files. Where they are copied, the certificates come last: with them the authority is there.
pub(super) const FILES: [&str; 7] = [
    KEY,
    VALID,
    NEXT_KEY,
    NEXT_VALID,
    NEXT_CERTIFICATE,
    OWN,
    CERTIFICATES,
];

/// Between two certificates.
const END: &str = "-----END CERTIFICATE-----";

/// The authority that signs.
pub(super) struct Signing {
    /// What clients trust, PEM.
    pub(super) ca_pem: String,
    /// The first authority's key, as text.
    pub(super) secret: String,
    pub(super) issuer: Issuer<'static, KeyPair>,
}

/// The authority of `dir` as it ought to be at `now`; all is made if there is none.
pub(super) fn current(dir: &Path, now: SystemTime) -> Result<Signing> {
    let Some(stored) = private::read(&dir.join(CERTIFICATES))? else {
        let (certificate, key, until) = make(now)?;
        write(dir, KEY, &key)?;
        write(dir, VALID, &format!("{until}\n"))?;
        write(dir, CERTIFICATES, &certificate)?;
        return signing(dir, certificate);
    };
    let mut certificates = split(&stored);
    if certificates.is_empty() {
        return Err(Error::Malformed {
            path: dir.join(CERTIFICATES),
            wanted: "a certificate",
        });
    }
    let ends = private::read(&dir.join(VALID))?.unwrap_or_default();
    let mut ends: Vec<u64> = ends.lines().filter_map(|line| line.parse().ok()).collect();
    if ends.len() != certificates.len() {
        // Of before this was noted, or cut off while it was written: the certificates themselves still say it.
        ends = vec![unix_secs(now + CA_VALID); certificates.len()];
    }
    // What has ended helps nobody; the first one signs and stays.
    let is_over: Vec<bool> = ends.iter().map(|end| *end <= unix_secs(now)).collect();
    let keep = |index: usize| index == 0 || !is_over[index];
    certificates = (0..)
        .zip(certificates)
        .filter(|(at, _)| keep(*at))
        .map(|(_, one)| one)
        .collect();
    ends = (0..)
        .zip(ends)
        .filter(|(at, _)| keep(*at))
        .map(|(_, end)| end)
        .collect();
    if ends[0] < unix_secs(now + ANNOUNCE_BEFORE) {
        replace(dir, now, &mut certificates, &mut ends)?;
    }
    let wanted = certificates.concat();
    if wanted != stored || !dir.join(VALID).exists() {
        write(dir, VALID, &lines(&ends))?;
        write(dir, CERTIFICATES, &wanted)?;
    }
    signing(dir, wanted)
}

/// Makes the successor, or lets it sign once it was shown for long enough.
fn replace(
    dir: &Path,
    now: SystemTime,
    certificates: &mut Vec<String>,
    ends: &mut Vec<u64>,
) -> Result<()> {
    let note = private::read(&dir.join(NEXT_VALID))?.unwrap_or_default();
    let numbers: Vec<u64> = note.lines().filter_map(|line| line.parse().ok()).collect();
    let next = private::read(&dir.join(NEXT_CERTIFICATE))?;
    let (Some(certificate), &[since, until]) = (next, numbers.as_slice()) else {
        let (certificate, key, until) = make(now)?;
        write(dir, NEXT_KEY, &key)?;
        write(dir, NEXT_VALID, &format!("{}\n{until}\n", unix_secs(now)))?;
        write(dir, NEXT_CERTIFICATE, &certificate)?;
        certificates.push(certificate);
        ends.push(until);
        return Ok(());
    };
    if unix_secs(now) < since + ANNOUNCED_FOR.as_secs() {
        return Ok(());
    }
    let key = read(dir, NEXT_KEY)?;
    if !dir.join(OWN).exists() {
        write(dir, OWN, &read(dir, KEY)?)?;
    }
    certificates.retain(|one| *one != certificate);
    certificates.insert(0, certificate);
    ends.retain(|end| *end != until);
    ends.insert(0, until);
    // Killed from here on until the certificates are written it is all done again: the successor stays as it is.
    write(dir, KEY, &key)?;
    private::write(&dir.join("server.valid"), b"")?;
    write(dir, VALID, &lines(ends))?;
    write(dir, CERTIFICATES, &certificates.concat())?;
    for name in [NEXT_CERTIFICATE, NEXT_VALID, NEXT_KEY] {
        let path = dir.join(name);
        std::fs::remove_file(&path).map_err(|source| Error::File {
            action: "remove",
            path,
            source,
        })?;
    }
    Ok(())
}

fn lines(ends: &[u64]) -> String {
    let ends: Vec<String> = ends.iter().map(u64::to_string).collect();
    ends.join("\n") + "\n"
}

fn signing(dir: &Path, ca_pem: String) -> Result<Signing> {
    let text = read(dir, KEY)?;
    let key = KeyPair::from_pem(&text).map_err(|_| Error::Malformed {
        path: dir.join(KEY),
        wanted: "a private key",
    })?;
    Ok(Signing {
        ca_pem,
        secret: private::read(&dir.join(OWN))?.unwrap_or(text),
        issuer: Issuer::new(params(), key),
    })
}

fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Orlop");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A certificate, its key, and when it ends.
fn make(now: SystemTime) -> Result<(String, String, u64)> {
    let key = KeyPair::generate()?;
    let mut params = params();
    let until = valid(&mut params, now, CA_VALID);
    let certificate = params.self_signed(&key)?.pem();
    Ok((certificate, key.serialize_pem(), until))
}

/// The certificates of a file, each with its line feed.
fn split(pem: &str) -> Vec<String> {
    let parts = pem.split_inclusive(END);
    let whole = parts.filter(|part| part.contains(END));
    whole.map(|part| format!("{}\n", part.trim())).collect()
}

fn read(dir: &Path, name: &str) -> Result<String> {
    private::read(&dir.join(name))?.ok_or_else(|| Error::Malformed {
        path: dir.join(CERTIFICATES),
        wanted: "a certificate whose key is beside it",
    })
}

fn write(dir: &Path, name: &str, text: &str) -> Result<()> {
    private::write(&dir.join(name), text.as_bytes())
}
