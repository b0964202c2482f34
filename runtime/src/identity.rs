//! The server's TLS identity: an own certificate authority and a certificate that it signed.

use std::{
    fmt,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::{Error, Result, mac::MacKey, private};

const DAY: Duration = Duration::from_hours(24);
/// A server certificate is valid for so long, ...
const SERVER_VALID: Duration = Duration::from_hours(365 * 24);
/// ... and made anew when less than this is left at a start.
const RENEW_BEFORE: Duration = Duration::from_hours(30 * 24);
/// The authority outlives the machine: changing it means handing `ca.pem` to every client again.
const CA_VALID: Duration = Duration::from_hours(20 * 365 * 24);
/// Names that every server answers to.
const OWN_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// What a server shows to its clients, and what clients check it against.
#[derive(Clone)]
pub struct Authority {
    /// Certificate of the authority, PEM: clients trust it.
    pub ca_pem: String,
    /// Certificate of the server, PEM.
    pub cert_pem: String,
    /// Private key of the server, PEM (PKCS #8).
    pub key_pem: String,
    /// Private key of the authority: known to nobody else, and never made anew.
    secret: String,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("ca_pem", &self.ca_pem)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// A key for the server alone that stays the same as long as the authority does.
    pub fn own_key(&self, purpose: &str) -> MacKey {
        MacKey::derive(self.secret.as_bytes(), purpose)
    }

    /// The identity kept in `dir`: `ca.pem`, `ca.key`, `server.pem`, `server.key` and
    /// `server.valid` (end of validity in seconds since 1970, then the names), all with mode 0600.
    ///
    /// What is missing is made. The server's certificate is for `localhost`, `127.0.0.1`, `::1` and
    /// `names`, and is made anew when fewer than 30 days are left or other names are wanted; the
    /// authority stays.
    ///
    /// # Errors
    /// `dir` cannot be read or written, a key in it is readable by others or malformed, or a name is
    /// no host name.
    pub fn load_or_create(dir: &Path, names: &[String]) -> Result<Self> {
        Self::load_or_create_at(dir, names, SystemTime::now())
    }

    fn load_or_create_at(dir: &Path, names: &[String], now: SystemTime) -> Result<Self> {
        private::create_dir(dir)?;
        let (ca_pem, secret, issuer) = authority(dir, now)?;
        let names = all_names(names);
        if let Some((cert_pem, key_pem)) = stored_server(dir, &names, now)? {
            return Ok(Self {
                ca_pem,
                cert_pem,
                key_pem,
                secret,
            });
        }
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.clone())?;
        params.distinguished_name.push(DnType::CommonName, "orlop");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let until = valid(&mut params, now, SERVER_VALID);
        let cert_pem = params.signed_by(&key, &issuer)?.pem();
        let key_pem = key.serialize_pem();
        // The note that makes the pair usable is written last.
        private::write(&dir.join("server.key"), key_pem.as_bytes())?;
        private::write(&dir.join("server.pem"), cert_pem.as_bytes())?;
        private::write(
            &dir.join("server.valid"),
            validity_note(until, &names).as_bytes(),
        )?;
        Ok(Self {
            ca_pem,
            cert_pem,
            key_pem,
            secret,
        })
    }
}

fn all_names(names: &[String]) -> Vec<String> {
    let mut all: Vec<String> = OWN_NAMES.iter().map(|name| (*name).to_owned()).collect();
    for name in names {
        if !all.contains(name) {
            all.push(name.clone());
        }
    }
    all
}

fn validity_note(until_secs: u64, names: &[String]) -> String {
    format!("{until_secs}\n{}\n", names.join("\n"))
}

/// The server's certificate and key, if they are there, fit `names` and are valid long enough.
fn stored_server(
    dir: &Path,
    names: &[String],
    now: SystemTime,
) -> Result<Option<(String, String)>> {
    let Some(note) = private::read(&dir.join("server.valid"))? else {
        return Ok(None);
    };
    let until: u64 = note
        .lines()
        .next()
        .and_then(|line| line.parse().ok())
        .unwrap_or(0);
    if note != validity_note(until, names) || until < unix_secs(now + RENEW_BEFORE) {
        return Ok(None);
    }
    let cert = private::read(&dir.join("server.pem"))?;
    let key = private::read(&dir.join("server.key"))?;
    Ok(cert.zip(key))
}

/// The authority's certificate, and its key as text and for signing; all are made if the key is missing.
fn authority(dir: &Path, now: SystemTime) -> Result<(String, String, Issuer<'static, KeyPair>)> {
    let (cert_path, key_path) = (dir.join("ca.pem"), dir.join("ca.key"));
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Orlop");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    if let Some(cert_pem) = private::read(&cert_path)? {
        let Some(key_pem) = private::read(&key_path)? else {
            return Err(Error::Malformed {
                path: cert_path,
                wanted: "a certificate whose key is beside it",
            });
        };
        let key = KeyPair::from_pem(&key_pem).map_err(|_| Error::Malformed {
            path: key_path,
            wanted: "a private key",
        })?;
        return Ok((cert_pem, key_pem, Issuer::new(params, key)));
    }
    let key = KeyPair::generate()?;
    valid(&mut params, now, CA_VALID);
    let cert_pem = params.self_signed(&key)?.pem();
    let key_pem = key.serialize_pem();
    private::write(&key_path, key_pem.as_bytes())?;
    private::write(&cert_path, cert_pem.as_bytes())?;
    Ok((cert_pem, key_pem, Issuer::new(params, key)))
}

/// Sets the validity, from a day ago (clocks differ) for `duration`; returns its end.
fn valid(params: &mut CertificateParams, now: SystemTime, duration: Duration) -> u64 {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let until = unix_secs(now + duration);
    params.not_before = epoch + Duration::from_secs(unix_secs(now).saturating_sub(DAY.as_secs()));
    params.not_after = epoch + Duration::from_secs(until);
    until
}

fn unix_secs(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn an_identity_is_kept_until_thirty_days_are_left() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let make = |at| Authority::load_or_create_at(dir.path(), &[], at).unwrap();
        let first = make(now);
        let later = make(now + 300 * DAY);
        assert_eq!(
            (&later.cert_pem, &later.key_pem),
            (&first.cert_pem, &first.key_pem)
        );
        let renewed = make(now + 336 * DAY);
        assert_ne!(renewed.cert_pem, first.cert_pem);
        assert_eq!(renewed.ca_pem, first.ca_pem);
        let sealed = first.own_key("test").seal(b"x".to_vec());
        assert!(renewed.own_key("test").open(&sealed).is_some());
    }

    #[test]
    fn another_name_makes_another_certificate_of_the_same_authority() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::load_or_create(dir.path(), &[]).unwrap();
        let named = Authority::load_or_create(dir.path(), &["orlop.example".to_owned()]).unwrap();
        assert_ne!(named.cert_pem, first.cert_pem);
        assert_eq!(named.ca_pem, first.ca_pem);
    }

    #[test]
    fn every_file_is_private_and_an_exposed_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        Authority::load_or_create(dir.path(), &[]).unwrap();
        for file in fs::read_dir(dir.path()).unwrap() {
            let file = file.unwrap();
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        let key = dir.path().join("ca.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Authority::load_or_create(dir.path(), &[]).unwrap_err();
        assert!(matches!(error, Error::Exposed { path, .. } if path == key));
    }
}
