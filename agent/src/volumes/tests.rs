//! Volumes of kubelet-shaped directories.

use std::{fs, os::unix::fs::symlink, path::Path};

use super::*;

struct Node {
    dir: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("kubelet/pods")).unwrap();
        fs::create_dir_all(dir.path().join("logs")).unwrap();
        Self { dir }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn pod(&self, namespace: &str, name: &str, uid: &str, volumes: &[&str]) -> &Self {
        fs::create_dir_all(self.path().join(format!("logs/{namespace}_{name}_{uid}"))).unwrap();
        for volume in volumes {
            let path = self
                .path()
                .join("kubelet/pods")
                .join(uid)
                .join("volumes")
                .join(volume);
            fs::create_dir_all(path).unwrap();
        }
        fs::create_dir_all(
            self.path()
                .join("kubelet/pods")
                .join(uid)
                .join("containers/app"),
        )
        .unwrap();
        self
    }

    fn options(&self) -> DiscoverOptions {
        DiscoverOptions {
            kubelet_dir: self.path().join("kubelet"),
            log_pods_dir: Some(self.path().join("logs")),
            pods_file: None,
            volumes_file: None,
            host_roots: Vec::new(),
        }
    }

    fn with_pods(&self, text: &str) -> DiscoverOptions {
        let file = self.path().join("pods");
        fs::write(&file, text).unwrap();
        DiscoverOptions {
            pods_file: Some(file),
            ..self.options()
        }
    }
}

fn summary(found: &[FoundVolume]) -> Vec<String> {
    found
        .iter()
        .map(|one| {
            let mark = match (&one.skip, one.selected) {
                (Some(_), _) => "skip",
                (None, true) => "yes",
                (None, false) => "no",
            };
            format!("{} {} {mark}", one.volume, one.lineage)
        })
        .collect()
}

#[test]
fn the_volume_of_a_pod_that_was_made_again_is_found_beside_the_one_before() {
    let node = Node::new();
    for uid in ["u1", "u2"] {
        node.pod("shop", "db-0", uid, &["kubernetes.io~empty-dir/data"]);
    }
    let all = discover_all(&node.options()).unwrap().volumes;
    let uids: Vec<&str> = all.iter().map(|one| one.pod_uid.as_str()).collect();
    assert_eq!(uids, ["u1", "u2"]);
    // By its name there is one.
    assert_eq!(discover(&node.options()).unwrap().len(), 1);
}

#[test]
fn volumes_are_found_by_pod_with_their_lineage() {
    let node = Node::new();
    node.pod(
        "shop",
        "db-0",
        "u1",
        &[
            "kubernetes.io~csi/pvc-7/mount",
            "kubernetes.io~csi/broken",
            "kubernetes.io~empty-dir/cache",
            "kubernetes.io~empty-dir/orlop-restore",
            "kubernetes.io~nfs/share",
            "kubernetes.io~projected/kube-api-access-x",
            "kubernetes.io~secret/tls",
        ],
    );
    fs::create_dir_all(
        node.path()
            .join("kubelet/pods/u2/volumes/kubernetes.io~empty-dir/x"),
    )
    .unwrap();
    let found = discover(&node.options()).unwrap();
    assert_eq!(
        summary(&found),
        [
            "shop/db-0/broken shop/db-0/broken skip",
            "shop/db-0/cache shop/db-0/cache yes",
            "shop/db-0/kube-api-access-x shop/db-0/kube-api-access-x skip",
            "shop/db-0/orlop-restore shop/db-0/orlop-restore skip",
            "shop/db-0/pvc-7 pv:pvc-7 yes",
            "shop/db-0/share pv:share yes",
            "shop/db-0/tls shop/db-0/tls skip",
            "unknown/u2/x unknown/u2/x skip",
        ]
    );
    let csi = found
        .iter()
        .find(|one| one.volume.volume == "pvc-7")
        .unwrap();
    assert_eq!(csi.plugin, "kubernetes.io/csi");
    assert!(
        csi.path
            .ends_with("pods/u1/volumes/kubernetes.io~csi/pvc-7/mount")
    );
}

const YAML: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: db-0
  namespace: shop
  uid: u1
  annotations:
    backup.velero.io/backup-volumes: ' data , dta'
spec:
  volumes:
  - name: data
    persistentVolumeClaim:
      claimName: data-db-0
  - name: cache
    emptyDir: {}
---
apiVersion: v1
kind: Service
metadata: {name: other}
---
kind: Pod
metadata:
  name: web
  namespace: shop
  annotations: {backup.velero.io/backup-volumes-excludes: tmp}
spec:
  volumes: [{name: tmp, emptyDir: {}}, {name: www, emptyDir: {}}]
";

#[test]
fn annotations_of_manifests_decide_and_name_claims() {
    let node = Node::new();
    node.pod(
        "shop",
        "db-0",
        "u1",
        &[
            "kubernetes.io~csi/pvc-7/mount",
            "kubernetes.io~empty-dir/cache",
        ],
    )
    .pod(
        "shop",
        "web",
        "u2",
        &["kubernetes.io~empty-dir/tmp", "kubernetes.io~empty-dir/www"],
    )
    .pod("shop", "plain", "u3", &["kubernetes.io~empty-dir/x"]);
    let expected = [
        "shop/db-0/cache shop/db-0/cache no",
        "shop/db-0/data pv:pvc-7 yes",
        "shop/plain/x shop/plain/x no",
        "shop/web/tmp shop/web/tmp no",
        "shop/web/www shop/web/www yes",
    ];
    let found = discover_all(&node.with_pods(YAML)).unwrap();
    assert_eq!(summary(&found.volumes), expected);
    assert_eq!(
        found.warnings,
        [
            "pod shop/db-0: an annotation names the volume \"dta\", which the pod does not have; \
          did you mean \"data\"?"
        ]
    );
    let json = r#"{"kind": "List", "items": [
        {"kind": "Pod", "metadata": {"name": "db-0", "namespace": "shop", "uid": "u1",
            "annotations": {"backup.velero.io/backup-volumes": "data"}},
         "spec": {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "c"}},
                              {"name": "cache", "emptyDir": {}}]}},
        {"kind": "Pod", "metadata": {"name": "static-node", "namespace": "shop", "uid": "not-u2",
            "annotations": {"kubernetes.io/config.mirror": "u2",
                            "backup.velero.io/backup-volumes": "www"}},
         "spec": {"volumes": [{"name": "www", "hostPath": {"path": "/x"}}]}}]}"#;
    let found = discover_all(&node.with_pods(json)).unwrap();
    assert_eq!(
        summary(&found.volumes),
        [
            "shop/db-0/cache shop/db-0/cache no",
            "shop/db-0/data pv:pvc-7 yes",
            "shop/plain/x shop/plain/x no",
            "shop/static-node/tmp shop/static-node/tmp no",
            "shop/static-node/www shop/static-node/www yes",
        ]
    );
    let error = discover(&node.with_pods("kind: [Pod")).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("expected Kubernetes Pod manifests"),
        "{error}"
    );
}

#[test]
fn listed_volumes_need_no_kubelet_and_replace_found_ones() {
    let node = Node::new();
    let list = node.path().join("list");
    let options = |kubelet: &str| DiscoverOptions {
        kubelet_dir: node.path().join(kubelet),
        volumes_file: Some(list.clone()),
        ..node.options()
    };
    fs::write(&list, "# by hand\nshop/db-0/cache /srv/the cache\n\n").unwrap();
    node.pod("shop", "db-0", "u1", &["kubernetes.io~empty-dir/cache"]);
    for kubelet in ["none", "kubelet"] {
        let found = discover(&options(kubelet)).unwrap();
        assert_eq!(summary(&found), ["shop/db-0/cache shop/db-0/cache yes"]);
        assert_eq!(found[0].path, Path::new("/srv/the cache"));
    }
    fs::write(
        &list,
        r#"[{"namespace":"a","pod":"b","volume":"c","path":"/d"}]"#,
    )
    .unwrap();
    assert_eq!(
        summary(&discover(&options("none")).unwrap()),
        ["a/b/c a/b/c yes"]
    );
    for bad in ["a/b/c", "a/b /d", "[{}]"] {
        fs::write(&list, bad).unwrap();
        let error = discover(&options("none")).unwrap_err().to_string();
        assert!(error.contains("lines NAMESPACE/POD/VOLUME PATH"), "{error}");
    }
    let one = r#"{"namespace":"a","pod":"b","volume":"c","path":"/d"}"#;
    for twice in ["a/b/c /d\na/b/c /e\n".to_owned(), format!("[{one},{one}]")] {
        fs::write(&list, twice).unwrap();
        let error = discover(&options("none")).unwrap_err().to_string();
        assert!(error.contains("a/b/c is listed twice"), "{error}");
    }
    let missing = DiscoverOptions {
        kubelet_dir: node.path().join("none"),
        ..node.options()
    };
    assert!(
        discover(&missing)
            .unwrap_err()
            .to_string()
            .starts_with("cannot list")
    );
}

#[test]
fn no_link_on_the_way_to_a_volume_is_followed() {
    let node = Node::new();
    node.pod(
        "n",
        "p",
        "u1",
        &["kubernetes.io~csi/pv/mount", "kubernetes.io~empty-dir/real"],
    );
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir_all(outside.path().join("mount")).unwrap();
    let volumes = node.path().join("kubelet/pods/u1/volumes");
    let found = discover(&node.options()).unwrap();
    assert_eq!(found.len(), 2);
    for openat2 in [true, false] {
        for one in &found {
            one.open_with(openat2).unwrap();
        }
    }
    fs::remove_dir_all(volumes.join("kubernetes.io~csi/pv")).unwrap();
    symlink(outside.path(), volumes.join("kubernetes.io~csi/pv")).unwrap();
    fs::remove_dir(volumes.join("kubernetes.io~empty-dir/real")).unwrap();
    symlink(outside.path(), volumes.join("kubernetes.io~empty-dir/real")).unwrap();
    for openat2 in [true, false] {
        for one in &found {
            assert!(one.open_with(openat2).is_err(), "{one:?}");
        }
    }
    for one in discover(&node.options()).unwrap() {
        assert!(one.skip.unwrap().contains("symbolic link"));
    }
}

#[test]
fn near_names_are_told_nearest_first() {
    let names = ["shop/db-0/data", "shop/db-1/data", "shop/web/www", "x"];
    assert_eq!(
        closest(names, "shop/db-0/dta"),
        ["shop/db-0/data", "shop/db-1/data"]
    );
    assert_eq!(closest(names, "nothing like it"), Vec::<&str>::new());
}
