//! Small steps in objects whose types nobody declares.

use serde_json::{Map, Value};

use crate::selection::labels::Labels;

/// The text at a pointer, if there is one that is not empty.
pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    let text = object.pointer(pointer).and_then(Value::as_str);
    text.filter(|text| !text.is_empty())
}

/// The list at a pointer; nothing if there is none.
pub(super) fn items<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    let list = object.pointer(pointer).and_then(Value::as_array);
    list.into_iter().flatten()
}

/// The same, to be changed.
pub(super) fn items_mut<'a>(
    object: &'a mut Value,
    pointer: &str,
) -> impl Iterator<Item = &'a mut Value> {
    let list = object.pointer_mut(pointer).and_then(Value::as_array_mut);
    list.into_iter().flatten()
}

/// The object at a pointer, to be changed.
pub(super) fn map_mut<'a>(
    object: &'a mut Value,
    pointer: &str,
) -> Option<&'a mut Map<String, Value>> {
    object.pointer_mut(pointer).and_then(Value::as_object_mut)
}

/// The list of this name in an object, which is made if it is not there.
pub(super) fn list_of<'a>(object: &'a mut Map<String, Value>, key: &str) -> &'a mut Vec<Value> {
    let list = object.entry(key).or_insert_with(|| Value::Array(vec![]));
    if !list.is_array() {
        *list = Value::Array(vec![]);
    }
    list.as_array_mut().expect("it was made a list")
}

/// The object of this name in an object, which is made if it is not there.
pub(super) fn map_of<'a>(
    object: &'a mut Map<String, Value>,
    key: &str,
) -> &'a mut Map<String, Value> {
    let map = object
        .entry(key)
        .or_insert_with(|| Value::Object(Map::new()));
    if !map.is_object() {
        *map = Value::Object(Map::new());
    }
    map.as_object_mut().expect("it was made an object")
}

/// Takes a field away, if it is there.
pub(super) fn remove(object: &mut Value, pointer: &str, key: &str) {
    if let Some(map) = map_mut(object, pointer) {
        map.remove(key);
    }
}

/// An annotation's value.
pub(super) fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][key].as_str()
}

/// The labels that are texts.
pub(super) fn labels(object: &Value) -> Labels {
    let labels = object["metadata"]["labels"].as_object();
    let labels = labels.into_iter().flatten();
    labels
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// Sets a label or an annotation.
pub(super) fn set_meta(object: &mut Value, of: &str, key: &str, value: &str) {
    if let Some(object) = object.as_object_mut() {
        let map = map_of(map_of(object, "metadata"), of);
        map.insert(key.to_owned(), value.into());
    }
}
