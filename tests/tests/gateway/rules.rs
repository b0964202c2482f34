//! What the gateway refuses, and what it bears from clients that lie, hang or come in crowds.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use orlop_coordinator::GatewayLimits;
use orlop_proto::{
    store::{DATA_BYTES, MAX_OBJECT_BYTES},
    v1::{self, put_request::Piece, start_task},
};
use orlop_repository::{
    ObjectStore,
    store::{DirectoryStore, FaultyStore, MemoryStore, Plan},
};
use tonic::{Code, metadata::MetadataValue};
use tonic_types::StatusExt as _;

use super::{
    puppet::{Puppet, Putting, Session, object, pack, refused},
    world::World,
};

fn limits() -> GatewayLimits {
    GatewayLimits::default()
}

/// A coordinator, an agent whose task is a backup, and the task's session.
async fn backing_up(limits: GatewayLimits) -> (World, Puppet, Session) {
    let world = World::over(Arc::new(MemoryStore::new()), limits).await;
    let (puppet, session) = begin(&world).await;
    (world, puppet, session)
}

async fn begin(world: &World) -> (Puppet, Session) {
    let mut puppet = Puppet::join(world, "node-1", "db").await;
    world.create("b1").await;
    let session = puppet.begin_backup().await;
    (puppet, session)
}

async fn names(world: &World, prefix: &str) -> Vec<String> {
    let found = world.store.list(prefix).await.unwrap();
    found.into_iter().map(|object| object.name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_elsewhere_are_told_no_url() {
    let world = World::over(Arc::new(MemoryStore::new()), limits()).await;
    let mut puppet = Puppet::join(&world, "node-1", "db").await;
    world.create("b1").await;
    let order = puppet.order().await;
    assert!(
        matches!(order.store, Some(start_task::Store::Gateway(_))),
        "{order:?}"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_puts_once_and_reads_again_what_is_its_own() {
    let (world, _puppet, session) = backing_up(limits()).await;
    for (class, len) in [
        ("p", 3 * DATA_BYTES + 1),
        ("m", DATA_BYTES),
        ("i", 7),
        ("p", 0),
    ] {
        let bytes = pack(1, len);
        let name = object(class, &bytes, session.number);
        assert!(session.put(&name, &bytes).await.unwrap(), "{name}");
        assert!(!session.put(&name, &bytes).await.unwrap(), "once only");
        assert_eq!(world.store.get(&name).await.unwrap(), bytes);
        assert_eq!(session.get(&name).await.unwrap(), bytes);
        assert_eq!(session.stat(&name).await.unwrap(), Some(len as u64));
    }
    let journal = format!("w/{}/checkpoint", session.number);
    assert!(session.put(&journal, &pack(2, 9)).await.unwrap());
    assert!(
        !session.put(&journal, &pack(3, 9)).await.unwrap(),
        "it was not touched"
    );
    assert_eq!(session.get(&journal).await.unwrap(), pack(2, 9));
    let listed = session.list(&format!("w/{}/", session.number)).await;
    assert_eq!(listed.unwrap(), [journal]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_those_of_the_name_are_refused() {
    let (world, _puppet, session) = backing_up(limits()).await;
    let bytes = pack(1, DATA_BYTES + 5);
    for class in ["p", "m", "i"] {
        let name = object(class, &bytes, session.number);
        for at in [0, DATA_BYTES, DATA_BYTES + 4] {
            let mut other = bytes.to_vec();
            other[at] ^= 1;
            let put = session.put(&name, &other.into()).await;
            let status = put.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
            assert!(status.message().contains("hash"), "{status:?}");
        }
        assert_eq!(session.stat(&name).await.unwrap(), None);
        assert!(
            session.put(&name, &bytes).await.unwrap(),
            "the right ones are not"
        );
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_others_and_of_the_repository_are_refused() {
    let (world, _puppet, session) = backing_up(limits()).await;
    let bytes = pack(1, 100);
    let own = object("p", &bytes, session.number);
    session.put(&own, &bytes).await.unwrap();
    let other = session.number + 1;
    let hash = &own[5..own.len() - 2];
    let before = names(&world, "").await;
    for name in [
        object("p", &bytes, other),
        object("m", &bytes, other),
        object("i", &bytes, other),
        own.replacen(&own[2..4], "zz", 1),
        own.replacen("p/", "x/", 1),
        format!("i/1/{hash}.{}", session.number),
        format!("w/{other}/x"),
        format!("w/{}/../{other}/x", session.number),
        "repo.cfg".to_owned(),
        "keys/0123456789abcdef0123456789abcdef".to_owned(),
        "log/0000000000000002".to_owned(),
        "s/a/b/c".to_owned(),
        "r/a/b/c".to_owned(),
        "state/1".to_owned(),
        "v/1".to_owned(),
        "records/backups/b1".to_owned(),
        "../outside".to_owned(),
        "/etc/passwd".to_owned(),
    ] {
        let answer = session.put(&name, &bytes).await;
        assert_eq!(refused(answer), Code::PermissionDenied, "{name}");
    }
    assert_eq!(names(&world, "").await, before, "nothing has come of it");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_log_and_snapshots_cannot_be_read() {
    let (world, _puppet, session) = backing_up(limits()).await;
    let all = names(&world, "").await;
    for kind in ["keys/", "log/", "repo.cfg"] {
        assert!(all.iter().any(|name| name.starts_with(kind)), "{all:?}");
    }
    let guesses = [
        "s/a/b/c",
        "r/a/b/c",
        "records/x",
        "",
        "../x",
        "p/",
        "w/999/x",
    ];
    for name in all.iter().map(String::as_str).chain(guesses) {
        let code = if name.is_empty() {
            Code::InvalidArgument
        } else {
            Code::PermissionDenied
        };
        assert_eq!(refused(session.get(name).await), code, "{name}");
        assert_eq!(refused(session.stat(name).await), code, "{name}");
    }
    for prefix in ["", "keys/", "log/", "p/", "m/", "i/", "w/", "w/999/"] {
        let answer = session.list(prefix).await;
        assert_eq!(refused(answer), Code::PermissionDenied, "{prefix}");
    }
    // A pack of another session is: chunks are shared, and nobody opens them without their secrets.
    let bytes = pack(9, 50);
    let other = object("p", &bytes, session.number + 5);
    let parts = vec![bytes.clone()];
    let put = world
        .store
        .put(&other, parts, orlop_repository::store::Durability::Now);
    put.await.unwrap();
    assert_eq!(session.get(&other).await.unwrap(), bytes);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_of_its_task_and_a_task_of_its_node() {
    let world = World::over(Arc::new(MemoryStore::new()), limits()).await;
    let (_puppet, session) = begin(&world).await;
    let mut other = Puppet::join(&world, "node-2", "web").await;
    world.create("b2").await;
    // The first one's volume is backed up again too; only the second one's task is of this node.
    let order = other.order().await;
    let own = other.begin_write(&order.task_id).await;
    let bytes = pack(1, 10);
    let put = |session: Session| {
        let name = object("p", &bytes, session.number);
        let bytes = bytes.clone();
        async move { session.put(&name, &bytes).await }
    };
    // A session of another task.
    let stolen = Session {
        number: session.number,
        ..own.clone()
    };
    assert_eq!(refused(put(stolen).await), Code::PermissionDenied);
    // A task of another node.
    let foreign = Session {
        store: own.store.clone(),
        ..session.clone()
    };
    assert_eq!(refused(foreign.get("p/x").await), Code::PermissionDenied);
    assert_eq!(refused(put(foreign).await), Code::PermissionDenied);
    // No task at all.
    let nobody = Session {
        task_id: orlop_core::TaskId::from_bytes([9; 16]).to_string(),
        ..own.clone()
    };
    assert_eq!(refused(put(nobody).await), Code::PermissionDenied);
    // A session that nobody has begun.
    let invented = Session {
        number: own.number + 1000,
        ..own.clone()
    };
    assert_eq!(refused(put(invented).await), Code::FailedPrecondition);
    assert!(names(&world, "p/").await.is_empty());
    assert!(put(own).await.unwrap());
    assert!(put(session).await.unwrap());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_served_without_token_and_node() {
    let (world, _puppet, session) = backing_up(limits()).await;
    let request = || {
        tonic::Request::new(v1::StatRequest {
            task_id: session.task_id.clone(),
            session: session.number,
            name: object("p", b"", 1),
        })
    };
    let mut without_node = v1::store_client::StoreClient::new(world.client(None).await);
    let answer = without_node.stat(request()).await;
    assert_eq!(refused(answer), Code::InvalidArgument);
    let mut wrong = v1::store_client::StoreClient::new(world.channel().await);
    let mut named = request();
    named
        .metadata_mut()
        .insert("orlop-node", MetadataValue::from_static("node-1"));
    assert_eq!(refused(wrong.stat(named).await), Code::Unauthenticated);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_has_ended_puts_nothing_more() {
    let (world, puppet, session) = backing_up(limits()).await;
    let bytes = pack(1, DATA_BYTES + 1);
    let name = object("p", &bytes, session.number);
    // One that began before the end must not finish after it either.
    let mut late = session
        .begin(session.header(&name, bytes.len() as u64))
        .await;
    late.ready().await.unwrap();
    late.send(bytes.slice(..DATA_BYTES)).await;
    let request = v1::EndRequest {
        task_id: session.task_id.clone(),
        session: session.number,
    };
    puppet.sessions().end(request).await.unwrap();
    late.send(bytes.slice(DATA_BYTES..)).await;
    for status in [
        late.end().await.unwrap_err(),
        session.put(&name, &bytes).await.unwrap_err(),
    ] {
        assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "SESSION_ENDED");
    }
    assert!(names(&world, "p/").await.is_empty());
    // The task goes on with another session.
    let next = puppet.begin_write(&session.task_id).await;
    let name = object("p", &bytes, next.number);
    assert!(next.put(&name, &bytes).await.unwrap());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_reads_puts_nothing_and_reads_only_packs() {
    let mut world = World::over(Arc::new(MemoryStore::new()), limits()).await;
    let volume = world.pod("db");
    std::fs::write(volume.join("file"), pack(1, 100_000)).unwrap();
    world.start_agent().await;
    let backup = world.backup("b1").await;
    assert_eq!(backup.phase(), v1::RunPhase::Completed, "{backup:?}");
    let mut puppet = Puppet::join(&world, "node-2", "web").await;
    world.create_restore("r1", "b1", "db", "web").await;
    let order = puppet.order().await;
    let Some(start_task::Work::Restore(work)) = order.work else {
        panic!("it is a restore");
    };
    let request = v1::BeginReadRequest {
        task_id: order.task_id.clone(),
        snapshot_id: work.snapshot_id,
    };
    let grant = puppet.sessions().begin_read(request).await.unwrap();
    let session = Session {
        store: v1::store_client::StoreClient::new(puppet.client.clone()),
        task_id: order.task_id,
        number: grant.into_inner().session,
    };
    let bytes = pack(2, 10);
    for number in [session.number, 1] {
        let name = object("p", &bytes, number);
        assert_eq!(
            refused(session.put(&name, &bytes).await),
            Code::PermissionDenied
        );
    }
    for name in names(&world, "").await {
        let is_pack = name.starts_with("p/") || name.starts_with("m/");
        match session.get(&name).await {
            Ok(bytes) => assert!(
                is_pack && bytes == world.store.get(&name).await.unwrap(),
                "{name}"
            ),
            Err(status) => {
                assert!(!is_pack, "{name}: {status:?}");
                assert_eq!(status.code(), Code::PermissionDenied, "{name}");
            }
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_breaks_its_word_is_refused_and_leaves_nothing() {
    let (world, _puppet, session) = backing_up(limits()).await;
    let bytes = pack(1, DATA_BYTES + 10);
    let name = object("p", &bytes, session.number);
    let size = bytes.len() as u64;
    let data = |range: std::ops::Range<usize>| Some(Piece::Data(bytes.slice(range)));
    let header = |size| Some(Piece::Header(session.header(&name, size)));

    // What does not begin as it should.
    for first in [None, data(0..10), header(MAX_OBJECT_BYTES + 1)] {
        let putting = Putting::open(&session.store, first).await;
        assert_eq!(refused(putting.end().await), Code::InvalidArgument);
    }
    // What does not go on as it should.
    let whole = DATA_BYTES..DATA_BYTES + 10;
    let broken: [Vec<Option<Piece>>; 8] = [
        vec![],
        vec![data(0..DATA_BYTES)],
        vec![data(0..DATA_BYTES), data(whole.start..whole.end - 1)],
        vec![data(0..DATA_BYTES), data(whole.clone()), data(0..1)],
        vec![data(0..1)],
        vec![data(0..0)],
        vec![None],
        vec![header(size)],
    ];
    for messages in broken {
        let mut putting = session.begin(session.header(&name, size)).await;
        putting.ready().await.unwrap();
        for message in messages {
            putting.send_piece(message).await;
        }
        assert_eq!(refused(putting.end().await), Code::InvalidArgument);
    }
    assert!(names(&world, "p/").await.is_empty());
    assert!(session.put(&name, &bytes).await.unwrap());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stands_still_is_sent_away_and_leaves_nothing() {
    let dir = orlop_tests::quick_dir();
    let limits = GatewayLimits {
        idle: Duration::from_secs(1),
        // One that hangs would keep all others out.
        put_bytes: 1 << 20,
        put_bytes_per_node: 1 << 20,
        ..limits()
    };
    let store: Arc<dyn ObjectStore> = Arc::new(DirectoryStore::new(dir.path().to_owned()));
    let world = World::over(store, limits).await;
    let (_puppet, session) = begin(&world).await;
    let bytes = pack(1, 1 << 20);
    let name = object("p", &bytes, session.number);

    let mut silent = Putting::open(&session.store, None).await;
    assert_eq!(silent.refusal().await.code(), Code::DeadlineExceeded);

    let mut half = session.begin(session.header(&name, 1 << 20)).await;
    half.ready().await.unwrap();
    half.send(bytes.slice(..DATA_BYTES)).await;
    half.send(bytes.slice(DATA_BYTES..2 * DATA_BYTES)).await;
    assert_eq!(half.refusal().await.code(), Code::DeadlineExceeded);

    // One that goes away in the middle frees its room without any deadline.
    let mut gone = session.begin(session.header(&name, 1 << 20)).await;
    gone.ready().await.unwrap();
    gone.send(bytes.slice(..DATA_BYTES)).await;
    drop(gone);

    assert!(
        session.put(&name, &bytes).await.unwrap(),
        "there is room again"
    );
    let left = std::fs::read_dir(dir.path().join("tmp")).unwrap().count();
    assert_eq!(left, 0, "nothing is half-written");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_objects_as_fit_are_in_memory_at_once() {
    let (world, _puppet, session) = backing_up(limits()).await;
    let len = 16 << 20;
    let (told, mut ready) = tokio::sync::mpsc::unbounded_channel();
    let mut puts = tokio::task::JoinSet::new();
    let go = Arc::new(tokio::sync::Semaphore::new(0));
    for n in 0..8 {
        let (session, told, go) = (session.clone(), told.clone(), Arc::clone(&go));
        puts.spawn(async move {
            let bytes = pack(n, len);
            let name = object("p", &bytes, session.number);
            let mut putting = session.begin(session.header(&name, len as u64)).await;
            putting.ready().await.unwrap();
            told.send(()).unwrap();
            go.acquire().await.unwrap().forget();
            for data in bytes.chunks(DATA_BYTES) {
                putting.send(bytes.slice_ref(data)).await;
            }
            putting.end().await.unwrap()
        });
    }
    // A node's share is four packs. The others wait outside, and each that ends lets one in.
    for _ in 0..4 {
        ready.recv().await.unwrap();
    }
    for _ in 0..4 {
        let early = tokio::time::timeout(Duration::from_millis(100), ready.recv()).await;
        assert!(early.is_err(), "more than its share is let in");
        go.add_permits(1);
        ready.recv().await.unwrap();
    }
    go.add_permits(4);
    assert!(puts.join_all().await.into_iter().all(|created| created));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_takes_all_its_share_keeps_no_other_out() {
    let limits = GatewayLimits {
        streams: 8,
        streams_per_node: 4,
        put_bytes: 3 << 20,
        put_bytes_per_node: 2 << 20,
        ..limits()
    };
    let (world, _puppet, session) = backing_up(limits).await;
    let mut other = Puppet::join(&world, "node-2", "web").await;
    world.create("b2").await;
    let order = other.order().await;
    let honest = other.begin_write(&order.task_id).await;
    let bytes = pack(1, 1 << 20);
    let mut hanging = Vec::new();
    for n in 0..4 {
        let name = object("p", &pack(n + 10, 8), session.number);
        let mut putting = session.begin(session.header(&name, 1 << 20)).await;
        if n < 2 {
            putting.ready().await.unwrap();
        }
        hanging.push(putting);
    }
    let name = object("p", &bytes, session.number);
    let fifth = session.put(&name, &bytes).await;
    assert_eq!(refused(fifth), Code::Unavailable, "its streams are used up");
    let name = object("p", &bytes, honest.number);
    assert!(honest.put(&name, &bytes).await.unwrap());
    drop(hanging);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_is_told_as_such() {
    let inner: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let world = World::over(Arc::clone(&inner), limits()).await;
    world.stop().await;
    // The log's entry of the session still fits.
    let full = Arc::new(FaultyStore::new(inner, Plan::FullFrom(1)));
    let world = World::with(full, limits()).await;
    let (_puppet, session) = begin(&world).await;
    let bytes = Bytes::from_static(b"x");
    let name = object("p", &bytes, session.number);
    let status = session.put(&name, &bytes).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "STORE_FULL");
    world.stop().await;
}
