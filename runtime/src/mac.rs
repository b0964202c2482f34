//! Codes that prove that a message which others have kept is the program's own, unchanged.

use aws_lc_rs::hmac;

/// Bytes that [`MacKey::seal`] adds.
pub const CODE_BYTES: usize = 32;

/// A key for HMAC-SHA256 codes.
#[derive(Clone, Debug)]
pub struct MacKey(hmac::Key);

impl MacKey {
    /// The key that follows from `secret` for one purpose; keys for different purposes are unrelated.
    pub fn derive(secret: &[u8], purpose: &str) -> Self {
        let parent = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let derived = hmac::sign(&parent, format!("orlop mac {purpose}").as_bytes());
        Self(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
    }

    /// The message with its code behind it.
    pub fn seal(&self, mut message: Vec<u8>) -> Vec<u8> {
        let code = hmac::sign(&self.0, &message);
        message.extend_from_slice(code.as_ref());
        message
    }

    /// The message without its code; `None` if it was not sealed with this key or has changed since.
    pub fn open<'a>(&self, sealed: &'a [u8]) -> Option<&'a [u8]> {
        let at = sealed.len().checked_sub(CODE_BYTES)?;
        let (message, code) = sealed.split_at(at);
        hmac::verify(&self.0, message, code).ok()?;
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_sealed_with_the_key_is_opened() {
        let key = MacKey::derive(b"secret", "a");
        let sealed = key.seal(b"message".to_vec());
        assert_eq!(sealed.len(), 7 + CODE_BYTES);
        assert_eq!(key.open(&sealed), Some(&b"message"[..]));
        assert_eq!(MacKey::derive(b"secret", "b").open(&sealed), None);
        assert_eq!(MacKey::derive(b"other", "a").open(&sealed), None);
        for i in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[i] ^= 1;
            assert_eq!(key.open(&changed), None);
            assert_eq!(key.open(&sealed[..i]), None);
        }
    }
}
