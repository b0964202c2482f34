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
    if sealed.len() < 32 {
        return None;
    }
    let private = <X25519HkdfSha256 as hpke::Kem>::PrivateKey::from_bytes(private).ok()?;
    let encapped = <X25519HkdfSha256 as hpke::Kem>::EncappedKey::from_bytes(&sealed[..32]).ok()?;
    hpke::single_shot_open::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &private,
        &encapped,
        HPKE_INFO,
        &sealed[32..],
        aad,
    )
    .ok()
}
