//! The shapes of the results in JSON, key by key and type by type, as the design lays them down.

use std::{fs, path::Path};

use orlop_tests::{Orlop, sample};
use serde_json::{Value, json};

/// The value with each part replaced by the name of its type; a list by its first item's.
fn shape(value: &Value) -> Value {
    match value {
        Value::Null => json!("null"),
        Value::Bool(_) => json!("bool"),
        Value::Number(number) if number.is_u64() || number.is_i64() => json!("int"),
        Value::Number(_) => json!("float"),
        Value::String(_) => json!("text"),
        Value::Array(items) => items
            .first()
            .map_or(json!([]), |first| json!([shape(first)])),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, field)| (name.clone(), shape(field)))
            .collect(),
    }
}

fn run(at: &Path, verb: &str, args: &[&str]) -> Value {
    let mut command = Orlop::new(
        at,
        ["repo", verb, "-r", "R", "--key-file", "key", "-o", "json"],
    );
    for arg in args {
        command = command.arg(arg);
    }
    command.run_in(at).exits(0).json()
}

#[test]
fn results_of_the_repo_verbs_have_the_agreed_shapes() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    Orlop::write_key(&at.join("key"));
    fs::create_dir(at.join("volume")).unwrap();
    sample(&at.join("volume"), 61, 1 << 20);
    assert_eq!(
        shape(&run(at, "init", &[])),
        json!({"repository_id": "text", "store": "text"})
    );

    let args = ["--volume", "ns/pod/vol", "volume"];
    let first = run(at, "backup", &args);
    let mut backup = json!({
        "id": "text", "namespace": "text", "pod": "text", "volume": "text", "lineage": "text",
        "parent": "null", "resumed_from": "null", "state": "text", "duration_ms": "int",
        "files": {
            "total": "int", "new": "int", "changed": "int", "unchanged": "int", "removed": "int",
            "opened": "int",
        },
        "dirs": "int", "others": "int", "logical_bytes": "int", "read_bytes": "int",
        "new_bytes": "int", "uploaded_bytes": "int", "objects_put": "int",
        "chunks": {"new": "int", "reused": "int"},
        "issues_total": "int", "issues": [], "peak_rss_bytes": "int",
    });
    assert_eq!(shape(&first), backup);
    assert_eq!(
        (&first["state"], &first["lineage"]),
        (&"complete".into(), &"ns/pod/vol".into())
    );
    assert!(first["peak_rss_bytes"].as_u64().unwrap() > 1 << 20);
    let second = run(at, "backup", &args);
    backup["parent"] = json!("text");
    assert_eq!(shape(&second), backup);
    assert_eq!(second["parent"], first["id"]);

    let mut snapshot = json!({
        "id": "text", "namespace": "text", "pod": "text", "volume": "text", "lineage": "text",
        "time": "text", "state": "text", "parent": "null", "backup": "null", "node": "text",
        "tags": [], "files": "int", "dirs": "int", "others": "int", "logical_bytes": "int",
        "uploaded_bytes": "int", "warnings": "int", "errors": "int",
    });
    let list = run(at, "snapshots", &[]);
    assert_eq!(shape(&list), json!([snapshot.clone()]));
    assert_eq!(
        (&list[0]["id"], &list[1]["id"]),
        (&first["id"], &second["id"]),
        "oldest first"
    );
    snapshot["parent"] = json!("text");
    assert_eq!(shape(&list[1]), snapshot);
    let time = list[0]["time"].as_str().unwrap();
    assert!(
        time.contains('T') && time.ends_with('Z'),
        "{time} is not RFC 3339 in UTC"
    );

    let stats = run(at, "stats", &[]);
    let expected = json!({
        "repository_id": "text", "format": "int", "snapshots": "int", "lineages": "int",
        "logical_bytes": "int", "unique_bytes": "int", "stored_bytes": "int", "dead_bytes": "int",
        "chunks": "int",
        "objects": {
            "data_packs": "int", "meta_packs": "int", "index": "int", "snapshots": "int",
            "refsets": "int", "checkpoints": "int", "log": "int",
        },
        "dedup_ratio": "float", "compression_ratio": "float",
    });
    assert_eq!(shape(&stats), expected);
    assert_eq!(
        (&stats["snapshots"], &stats["lineages"]),
        (&2.into(), &1.into())
    );

    let check = run(at, "check", &[]);
    let expected = json!({
        "depth": "text", "ok": "bool", "objects": "int", "bytes": "int", "resumed_bytes": "int",
        "damage": [], "more_damage": "int",
        "covered": {"total_bytes": "int", "read_bytes": "int", "since": "null", "damaged_packs": "int"}
    });
    assert_eq!(shape(&check), expected);

    let restore = run(at, "restore", &["latest", "--target", "T"]);
    assert_eq!(restore["snapshot"], second["id"]);
    assert_eq!(restore["files"], second["files"]["total"]);
    assert_eq!(
        (&restore["mode"], &restore["issues"]),
        (&"empty".into(), &json!([]))
    );
}
