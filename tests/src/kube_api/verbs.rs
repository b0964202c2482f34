//! What the server does with a request for objects.

use std::{io, pin::Pin, sync::Arc};

use bytes::Bytes;
use futures_util::Stream;
use hyper::body::Frame;
use serde_json::Value;

use super::{
    Shared,
    access::{Deed, KubeUser},
    create::create,
    delete::{DeleteOptions, delete},
    exec::{self, ExecCall},
    failure::Failure,
    forward::{self, ForwardCall},
    kind::Kind,
    list::list,
    lock,
    meta::{child, text},
    patch::patch,
    request::{KubeRequest, Target},
    reviews,
    selector::Selector,
    store::{Key, Store},
    update::{Part, find, update},
    view::View,
    watch::watch,
};

/// Chunks as a watch sends them.
pub(super) type Chunks = Pin<Box<dyn Stream<Item = io::Result<Frame<Bytes>>> + Send>>;

/// What is answered.
pub(super) enum Answer {
    Object(u16, Value),
    Text(String),
    Watch(Chunks),
    /// Over a WebSocket.
    Switch(Switched),
}

/// What a WebSocket is for.
pub(super) enum Switched {
    Exec(ExecCall),
    Forward(ForwardCall),
}

/// A request that is understood.
struct Asked<'a> {
    shared: &'a Arc<Shared>,
    kind: Arc<Kind>,
    target: &'a Target,
    request: &'a KubeRequest,
    user: &'a KubeUser,
}

/// Does what a request for objects asks for.
pub(super) fn answer(
    shared: &Arc<Shared>,
    target: &Target,
    request: &KubeRequest,
    user: &KubeUser,
) -> Result<Answer, Failure> {
    let kind = {
        let store = shared.store();
        let kind = store
            .kinds
            .find(&target.group, &target.version, &target.plural);
        Arc::clone(kind.ok_or_else(Failure::no_such_path)?)
    };
    if target.namespace.is_some() && !kind.namespaced {
        return Err(Failure::no_such_path());
    }
    let asked = Asked {
        shared,
        kind,
        target,
        request,
        user,
    };
    asked.check_access()?;
    if asked.kind.namespaced
        && target.namespace.is_none()
        && (target.name.is_some() || request.method != "GET")
    {
        return Err(Failure::method_not_allowed());
    }
    match target.subresource.as_str() {
        "" if !asked.kind.stored => asked.review(),
        "" => asked.main(),
        "status" if asked.kind.status => asked.part(Part::Status),
        other => asked.further(other),
    }
}

impl Asked<'_> {
    fn name(&self) -> &str {
        self.target.name()
    }

    fn key(&self) -> Key {
        Key::new(&self.kind, self.target.namespace(), self.name())
    }

    fn strict(&self) -> bool {
        self.request.parameter("fieldValidation") == "Strict"
    }

    fn show(&self, code: u16, object: &Value) -> Answer {
        let view = View::of(self.request);
        Answer::Object(code, view.show(&self.kind, object))
    }

    /// Runs a write, and forgets it if it is only tried.
    fn write<T>(&self, work: impl FnOnce(&mut Store) -> Result<T, Failure>) -> Result<T, Failure> {
        self.shared.write(self.request.is_dry_run(), work)
    }

    fn check_access(&self) -> Result<(), Failure> {
        let access = lock(&self.shared.access);
        if !access.required {
            return Ok(());
        }
        let target = self.target;
        let resource = match target.subresource.as_str() {
            "" => target.plural.clone(),
            sub => format!("{}/{sub}", target.plural),
        };
        let mut namespace = target.namespace();
        if self.kind.is("", "namespaces") {
            namespace = self.name();
        }
        let verb = target.verb(self.request);
        // Which of the two is asked for depends on the server's version: ours wants both.
        let verbs: &[&str] = match resource.as_str() {
            "pods/exec" | "pods/portforward" => &["get", "create"],
            _ => &[verb],
        };
        let store = self.shared.store();
        for verb in verbs {
            let deed = Deed {
                verb: (*verb).to_owned(),
                group: target.group.clone(),
                resource: resource.clone(),
                namespace: namespace.to_owned(),
                name: self.name().to_owned(),
            };
            if !access.allows(&store, self.user, &deed) {
                let place = match namespace {
                    "" => "at the cluster scope".to_owned(),
                    namespace => format!("in the namespace {namespace:?}"),
                };
                let why = format!(
                    "User {:?} cannot {verb} resource {resource:?} in API group {:?} {place}",
                    self.user.name, target.group
                );
                return Err(Failure::forbidden(&self.kind, self.name(), &why));
            }
        }
        Ok(())
    }

    fn review(&self) -> Result<Answer, Failure> {
        if self.request.method != "POST" {
            return Err(Failure::method_not_allowed());
        }
        let access = lock(&self.shared.access);
        let store = self.shared.store();
        let given = self.request.object()?;
        let done = reviews::review(&store, &access, &self.kind, self.user, given);
        Ok(Answer::Object(201, done))
    }

    /// What is done to whole objects and to collections.
    fn main(&self) -> Result<Answer, Failure> {
        match (self.request.method.as_str(), self.target.name.is_some()) {
            ("GET", _) if self.request.flag("watch") => {
                let chunks = watch(self.shared, &self.kind, self.target, self.request)?;
                Ok(Answer::Watch(Box::pin(chunks)))
            }
            ("GET", false) => {
                let namespace = self.target.namespace.as_deref();
                let found = list(&self.shared.store(), &self.kind, namespace, self.request)?;
                Ok(Answer::Object(200, found))
            }
            ("POST", false) => {
                let object = self.request.object()?;
                let namespace = self.target.namespace();
                let made = self
                    .write(|store| create(store, &self.kind, namespace, object, self.strict()))?;
                Ok(self.show(201, &made))
            }
            ("DELETE", true) => self.delete(),
            ("DELETE", false) => self.delete_collection(),
            (_, true) => self.part(Part::Main),
            _ => Err(Failure::method_not_allowed()),
        }
    }

    /// Reads and changes of an object or of its status.
    fn part(&self, part: Part) -> Result<Answer, Failure> {
        let key = self.key();
        match self.request.method.as_str() {
            "GET" => {
                let store = self.shared.store();
                if let Some(version) = self.request.number("resourceVersion")?
                    && version > store.revision()
                {
                    return Err(Failure::too_large_version(version, store.revision()));
                }
                let found = find(&store, &self.kind, &key)?;
                Ok(self.show(200, &found))
            }
            "PUT" => {
                let object = self.request.object()?;
                let strict = self.strict();
                let written =
                    self.write(|store| update(store, &self.kind, &key, object, part, strict))?;
                Ok(self.show(200, &written))
            }
            "PATCH" => {
                let (written, created) =
                    self.write(|store| patch(store, &self.kind, &key, self.request, part))?;
                Ok(self.show(if created { 201 } else { 200 }, &written))
            }
            _ => Err(Failure::method_not_allowed()),
        }
    }

    fn delete_options(&self) -> Result<DeleteOptions, Failure> {
        let body = self.request.json();
        let propagation = self.request.parameter("propagationPolicy");
        DeleteOptions::parse(&body, propagation)
    }

    fn delete(&self) -> Result<Answer, Failure> {
        let options = self.delete_options()?;
        let dry_run = options.dry_run || self.request.is_dry_run();
        let key = self.key();
        let answer = self
            .shared
            .write(dry_run, |store| delete(store, &self.kind, &key, &options))?;
        if answer["kind"] == "Status" {
            return Ok(Answer::Object(200, answer));
        }
        Ok(self.show(200, &answer))
    }

    fn delete_collection(&self) -> Result<Answer, Failure> {
        let options = self.delete_options()?;
        let selector = Selector::parse(
            self.request.parameter("labelSelector"),
            self.request.parameter("fieldSelector"),
        )?;
        let dry_run = options.dry_run || self.request.is_dry_run();
        let (gone, revision) = self.shared.write(dry_run, |store| {
            let mut found = store.list(&self.kind.place(), self.target.namespace.as_deref());
            found.retain(|(_, object)| selector.takes(object));
            for (key, _) in &found {
                delete(store, &self.kind, key, &options)?;
            }
            Ok((found, store.revision()))
        })?;
        let metadata = serde_json::json!({"resourceVersion": revision.to_string()});
        let objects = gone.iter().map(|(_, object)| &**object);
        let shown = View::of(self.request).show_list(&self.kind, &metadata, objects);
        Ok(Answer::Object(200, shown))
    }

    /// What only single kinds have.
    fn further(&self, subresource: &str) -> Result<Answer, Failure> {
        let key = self.key();
        let group = self.kind.group.as_str();
        let method = self.request.method.as_str();
        match (group, self.kind.plural.as_str(), subresource, method) {
            ("", "pods", "exec", "GET" | "POST") => {
                let pod = find(&self.shared.store(), &self.kind, &key)?;
                let call = exec::call(&pod, self.request)?;
                Ok(Answer::Switch(Switched::Exec(call)))
            }
            ("", "pods", "portforward", "GET" | "POST") => {
                let pod = find(&self.shared.store(), &self.kind, &key)?;
                let call = forward::call(&pod, self.request)?;
                Ok(Answer::Switch(Switched::Forward(call)))
            }
            ("", "pods", "log", "GET") => {
                find(&self.shared.store(), &self.kind, &key)?;
                let container = self.request.parameter("container").to_owned();
                let logs = lock(&self.shared.pods.logs);
                let found = logs.get(&[key.namespace, key.name, container]);
                Ok(Answer::Text(found.cloned().unwrap_or_default()))
            }
            ("", "pods", "eviction", "POST") => {
                let options = DeleteOptions::default();
                let done = self.write(|store| delete(store, &self.kind, &key, &options))?;
                Ok(Answer::Object(201, done))
            }
            ("", "pods", "binding", "POST") => {
                let node = text(&self.request.object()?, "target.name").to_owned();
                let done = self.write(|store| {
                    let mut pod = Value::clone(&*find(store, &self.kind, &key)?);
                    child(&mut pod, "spec").insert("nodeName".to_owned(), node.into());
                    store.set(key, pod);
                    Ok(serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
                })?;
                Ok(Answer::Object(201, done))
            }
            ("", "serviceaccounts", "token", "POST") => {
                let mut access = lock(&self.shared.access);
                let request = self.request.object()?;
                let store = self.shared.store();
                let made = reviews::request_token(&store, &mut access, &self.kind, &key, request)?;
                Ok(Answer::Object(201, made))
            }
            ("", "namespaces", "finalize", "PUT") => self.part(Part::Main),
            _ => Err(Failure::no_such_part()),
        }
    }
}
