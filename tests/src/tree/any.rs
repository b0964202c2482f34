//! Trees as proptest makes them up.

use proptest::{collection::vec, option, prelude::*, sample::Index};

use super::{Content, Meta, Step, Tree, What};

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_map(|b| if b == 0 || b == b'/' { b'_' } else { b });
    prop_oneof![
        6 => "[a-c]{1,2}".prop_map(String::into_bytes),
        3 => "[ -.0-~]{1,20}".prop_map(String::into_bytes),
        2 => "\\PC{1,20}".prop_map(|text| text.replace('/', "_").into_bytes()),
        3 => vec(byte.clone(), 1..40),
        1 => vec(byte, 255),
    ]
    .prop_map(|mut name| {
        name.truncate(255);
        if name == b"." || name == b".." {
            name.push(b'x');
        }
        name
    })
}

fn any_content() -> impl Strategy<Value = Content> {
    let piece = (any::<u64>(), any::<u64>(), 1..20_000usize);
    prop_oneof![
        2 => Just(Content::Bytes(Vec::new())),
        4 => vec(any::<u8>(), 1..300).prop_map(Content::Bytes),
        3 => (any::<u64>(), 300..70_000usize).prop_map(|(seed, len)| Content::Noise(seed, len)),
        1 => (any::<u64>(), 70_000..3_000_000usize).prop_map(|(seed, len)| Content::Noise(seed, len)),
        3 => (any::<u64>(), 1..6000usize).prop_map(|(seed, count)| Content::Lines(seed, count)),
        1 => (1..200_000usize).prop_map(Content::Zeros),
        2 => (1..8_000_000u64, vec(piece, 0..4)).prop_map(|(len, pieces)| Content::Sparse(len, pieces)),
    ]
}

fn any_what(root: bool) -> impl Strategy<Value = What> {
    let target = vec(
        any::<u8>().prop_map(|b| if b == 0 { b'x' } else { b }),
        1..300,
    );
    let other = if root {
        (any::<bool>(), 0..4096u32, 0..1_048_576u32)
            .prop_map(|(b, major, minor)| What::Device(b, major, minor))
            .boxed()
    } else {
        Just(What::Fifo).boxed()
    };
    prop_oneof![
        8 => any_content().prop_map(What::File),
        5 => Just(What::Directory),
        2 => target.prop_map(What::Link),
        2 => any::<Index>().prop_map(What::Hardlink),
        1 => Just(What::Fifo),
        1 => Just(What::Socket),
        1 => other,
    ]
}

fn any_meta(root: bool) -> impl Strategy<Value = Meta> {
    let ids = 0..u32::MAX;
    let owner = if root {
        (ids.clone(), ids.clone()).prop_map(Some).boxed()
    } else {
        Just(None).boxed()
    };
    let privileged = if root {
        option::weighted(0.2, ids).boxed()
    } else {
        Just(None).boxed()
    };
    let name = "[a-z]{1,8}".prop_map(|name| format!("user.{name}").into_bytes());
    // Before 1970 and after 2038.
    let seconds =
        prop_oneof![3 => 1_500_000_000..1_700_000_000i64, 1 => -2_000_000_000..10_000_000_000i64];
    (
        0..0o10000u32,
        owner,
        (seconds, 0..1_000_000_000i64),
        vec((name, vec(any::<u8>(), 0..100)), 0..3),
        privileged,
    )
        .prop_map(|(mode, owner, modified, xattrs, privileged)| Meta {
            mode,
            owner,
            modified,
            xattrs,
            privileged,
        })
}

fn step(root: bool) -> impl Strategy<Value = Step> {
    (any::<Index>(), any_name(), any_what(root), any_meta(root)).prop_map(
        |(parent, name, what, meta)| Step {
            parent,
            name,
            what,
            meta,
        },
    )
}

/// Any entry that an ordinary user can make.
pub fn any_step() -> impl Strategy<Value = Step> {
    step(false)
}

/// Any tree that an ordinary user can make, of fewer than `entries` entries.
pub fn any_tree(entries: usize) -> impl Strategy<Value = Tree> {
    vec(step(false), 0..entries).prop_map(Tree)
}

/// Any tree that root can make: with devices, all owners, all permission bits, ACLs, capabilities.
pub fn any_tree_as_root(entries: usize) -> impl Strategy<Value = Tree> {
    vec(step(true), 0..entries).prop_map(Tree)
}
