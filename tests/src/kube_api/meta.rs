//! Names, times and other metadata of objects.

use jiff::Timestamp;
use rand::Rng as _;
use serde_json::{Map, Value};

/// Characters of generated names: no vowels, so that no words arise.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// The text at a path of keys divided by dots; empty if there is none.
pub(super) fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    at(object, path).as_str().unwrap_or_default()
}

/// The value at a path of keys divided by dots.
pub(super) fn at<'a>(object: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(object, |value, key| &value[key])
}

/// The elements of a list at a path, none if it is no list.
pub(super) fn items<'a>(object: &'a Value, path: &str) -> &'a [Value] {
    at(object, path).as_array().map_or(&[], Vec::as_slice)
}

/// The object's metadata, made if there is none.
pub(super) fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    child(object, "metadata")
}

/// A map within a map, made if there is none.
pub(super) fn child<'a>(object: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let inner = &mut object[key];
    if !inner.is_object() {
        *inner = Value::Object(Map::new());
    }
    inner.as_object_mut().expect("it was made a map")
}

/// The time as objects tell it: in whole seconds.
pub(super) fn now() -> String {
    time(Timestamp::now())
}

pub(super) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A random UUID of version 4.
pub(super) fn uid() -> String {
    let mut bits: u128 = rand::random();
    bits = bits & !(0xf << 76) | (4 << 76);
    bits = bits & !(3 << 62) | (2 << 62);
    let hex = format!("{bits:032x}");
    [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-")
}

/// Random characters as at the end of generated names.
pub(super) fn random_suffix(length: usize) -> String {
    let mut rng = rand::rng();
    (0..length)
        .map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]))
        .collect()
}

/// A copy without what changes with every write, to see whether anything else does.
pub(super) fn without_version(object: &Value) -> Value {
    let mut copy = object.clone();
    metadata(&mut copy).remove("resourceVersion");
    copy
}

/// Whether the object is on its way out.
pub(super) fn is_deleting(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// Whether something must happen before the object may go.
pub(super) fn has_finalizers(object: &Value) -> bool {
    !items(object, "metadata.finalizers").is_empty()
}
