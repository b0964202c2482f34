//! Kubernetes' own types, for those who do not link its library.

pub use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::{DaemonSet, Deployment},
        core::v1::{ObjectReference, PersistentVolumeClaim, Pod, Secret, SecretKeySelector},
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference, Time},
};
