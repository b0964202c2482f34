//! Authenticated encryption: blobs under a key with a random nonce, and sealing to a public key
//! (RFC 9180 base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use hpke::{
    Deserializable, Kem as _, OpModeR, OpModeS, Serializable, aead::AesGcm256, kdf::HkdfSha256,
    kem::X25519HkdfSha256,
};

use crate::{
    error::{Error, Result},
    secret::{Key, random_bytes},
};

/// Bytes that sealing adds: nonce and tag.
pub(crate) const OVERHEAD: usize = NONCE + TAG;
const NONCE: usize = 12;
const TAG: usize = 16;
const HPKE_INFO: &[u8] = b"orlop 2026 v0 snapshot root";

fn cipher(key: &Key) -> LessSafeKey {
    LessSafeKey::new(
        UnboundKey::new(&AES_256_GCM, key.as_bytes()).expect("32 bytes are an AES-256 key"),
    )
}

/// `nonce ‖ ciphertext ‖ tag` of `plaintext`, bound to `aad`.
///
/// # Errors
/// The system has no random numbers.
pub(crate) fn seal(key: &Key, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(plaintext.len() + OVERHEAD);
    seal_into(key, aad, plaintext, &mut out)?;
    Ok(out)
}

/// As [`seal`], appended to `out`.
///
/// # Errors
/// The system has no random numbers.
pub(crate) fn seal_into(key: &Key, aad: &[u8], plaintext: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let nonce: [u8; NONCE] = random_bytes()?;
    out.extend_from_slice(&nonce);
    let begin = out.len();
    out.extend_from_slice(plaintext);
    let tag = cipher(key)
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(aad),
            &mut out[begin..],
        )
        .map_err(|_| Error::Invalid("the plaintext is too long to seal".to_owned()))?;
    out.extend_from_slice(tag.as_ref());
    Ok(())
}

/// What [`seal`] sealed; `None` if the key, `aad` or any byte differs.
pub(crate) fn open<'a>(key: &Key, aad: &[u8], sealed: &'a mut [u8]) -> Option<&'a mut [u8]> {
    if sealed.len() < OVERHEAD {
        return None;
    }
    let (nonce, body) = sealed.split_at_mut(NONCE);
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    cipher(key).open_in_place(nonce, Aad::from(aad), body).ok()
}

/// As [`open`], into a buffer of its own.
pub(crate) fn open_vec(key: &Key, aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let mut copy = sealed.to_vec();
    open(key, aad, &mut copy).map(|plain| plain.to_vec())
}

/// The key pair that `seed` stands for: private, public.
pub(crate) fn key_pair(seed: &Key) -> ([u8; 32], [u8; 32]) {
    let (private, public) = X25519HkdfSha256::derive_keypair(seed.as_bytes());
    (private.to_bytes().into(), public.to_bytes().into())
}

/// `encapsulated key ‖ ciphertext ‖ tag`, openable only with the private key of `public`.
///
/// # Errors
/// `public` is no X25519 key.
pub(crate) fn seal_to(public: &[u8; 32], aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>> {
    let fail = |_| Error::Invalid("the repository's public key is not usable".to_owned());
    let public = <X25519HkdfSha256 as hpke::Kem>::PublicKey::from_bytes(public).map_err(fail)?;
    let (encapped, ciphertext) =
        hpke::single_shot_seal::<AesGcm256, HkdfSha256, X25519HkdfSha256, _>(
            &OpModeS::Base,
            &public,
            HPKE_INFO,
            plaintext,
            aad,
            &mut rand::rng(),
        )
        .map_err(fail)?;
    let mut out = encapped.to_bytes().to_vec();
    out.extend_from_slice(&ciphertext);
    Ok(out)
}

/// What [`seal_to`] sealed; `None` if the key, `aad` or any byte differs.
pub(crate) fn open_from(private: &[u8; 32], aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    open_with_info(private, HPKE_INFO, aad, sealed)
}

fn open_with_info(private: &[u8; 32], info: &[u8], aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (encapped, ciphertext) = sealed.split_at_checked(32)?;
    let private = <X25519HkdfSha256 as hpke::Kem>::PrivateKey::from_bytes(private).ok()?;
    let encapped = <X25519HkdfSha256 as hpke::Kem>::EncappedKey::from_bytes(encapped).ok()?;
    hpke::single_shot_open::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &private,
        &encapped,
        info,
        ciphertext,
        aad,
    )
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::unhex;

    fn vector(name: &str) -> Vec<u8> {
        let text = include_str!("../golden/hpke.txt");
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix(name)?.strip_prefix(' '))
            .unwrap();
        unhex(line).unwrap()
    }

    #[test]
    fn sealing_to_a_public_key_is_that_of_rfc_9180() {
        let seed: [u8; 32] = vector("ikmR").try_into().unwrap();
        let (private, public) = key_pair(&Key::from_bytes(seed));
        assert_eq!(
            (private.to_vec(), public.to_vec()),
            (vector("skRm"), vector("pkRm"))
        );
        let sealed = [vector("enc"), vector("ct")].concat();
        let opened = open_with_info(&private, &vector("info"), &vector("aad"), &sealed);
        assert_eq!(opened, Some(vector("pt")));
    }

    #[test]
    fn what_is_sealed_opens_only_unchanged_and_with_its_key() {
        let (private, public) = key_pair(&Key::from_bytes([5; 32]));
        let sealed = seal_to(&public, b"aad", b"root").unwrap();
        assert_eq!(open_from(&private, b"aad", &sealed), Some(b"root".to_vec()));
        assert_eq!(open_from(&private, b"other", &sealed), None);
        assert_eq!(open_from(&[9; 32], b"aad", &sealed), None);
        let key = Key::from_bytes([6; 32]);
        let blob = seal(&key, b"aad", b"blob").unwrap();
        assert_eq!(open_vec(&key, b"aad", &blob), Some(b"blob".to_vec()));
        for at in 0..blob.len() {
            let mut copy = blob.clone();
            copy[at] ^= 1;
            assert_eq!(open_vec(&key, b"aad", &copy), None);
            assert_eq!(open_vec(&key, b"aad", &blob[..at]), None);
        }
        for at in 0..sealed.len() {
            let mut copy = sealed.clone();
            copy[at] ^= 1;
            assert_eq!(open_from(&private, b"aad", &copy), None, "{at}");
        }
    }
}
