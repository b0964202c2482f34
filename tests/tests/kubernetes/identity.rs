//! The coordinator's authority, which outlives its disk.

use std::fs;

use orlop_kubernetes::identity::{recall, remember};
use orlop_runtime::identity::Authority;

use super::cluster::started;

#[tokio::test]
async fn an_authority_whose_disk_is_lost_is_the_same_one_to_agents() {
    let (api, connection) = started();
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = Authority::load_or_create(one.path(), &[]).unwrap();
    fs::write(one.path().join("next.key"), "k").unwrap();
    remember(&connection, one.path(), &Authority::FILES)
        .await
        .unwrap();
    recall(&connection, two.path(), &Authority::FILES)
        .await
        .unwrap();
    let again = Authority::load_or_create(two.path(), &[]).unwrap();
    assert_eq!(again.ca_pem, first.ca_pem);
    assert_eq!(fs::read(two.path().join("next.key")).unwrap(), b"k");
    let map = api.get("configmaps", "velero", "orlop-ca").unwrap();
    assert_eq!(map["data"]["ca.pem"], first.ca_pem);

    // What has changed since is remembered too, and what is no more is forgotten.
    fs::remove_file(one.path().join("next.key")).unwrap();
    fs::write(one.path().join("ca.pem"), "other").unwrap();
    remember(&connection, one.path(), &Authority::FILES)
        .await
        .unwrap();
    let secret = api.get("secrets", "velero", "orlop-authority").unwrap();
    assert_eq!(secret["data"]["ca.pem"], "b3RoZXI=");
    assert_eq!(secret["data"].get("next.key"), None);
    // Where there is an authority it stays.
    recall(&connection, two.path(), &Authority::FILES)
        .await
        .unwrap();
    assert_eq!(
        fs::read_to_string(two.path().join("ca.pem")).unwrap(),
        first.ca_pem
    );
}
