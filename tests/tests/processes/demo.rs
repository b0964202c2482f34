//! The demo tells the truth.

use orlop_tests::Orlop;

#[test]
fn the_demo_ends_with_identical() {
    let home = tempfile::tempdir().unwrap();
    let output = Orlop::new(home.path(), ["demo", "--once"]).run().exits(0);
    assert!(output.stdout.contains("identical: "), "{}", output.stdout);
    assert!(!output.stdout.contains("different"), "{}", output.stdout);
    assert!(
        output
            .stdout
            .contains("orlop restore-wait saw the success mark"),
        "{}",
        output.stdout
    );
}

#[test]
fn the_demo_s_comparer_sees_one_flipped_byte() {
    let home = tempfile::tempdir().unwrap();
    let output = Orlop::new(home.path(), ["demo", "--once"])
        .env("ORLOP_DEMO_FLIP_BYTE", "true")
        .run()
        .exits(1);
    let lines: Vec<&str> = output.stdout.lines().map(str::trim).collect();
    assert!(lines.contains(&"different"), "{}", output.stdout);
    assert!(!output.stdout.contains("identical"), "{}", output.stdout);
    assert!(
        output.stderr.contains("is different in 1 entry"),
        "{}",
        output.stderr
    );
}
