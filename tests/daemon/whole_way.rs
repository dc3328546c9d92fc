//! A ticket's whole way, from the assignment to the result.

use std::fs;

use serde_json::Value;

use crate::support::world::World;

/// The CLI's output, its exit code and what it changed come back.
#[test]
fn a_ticket_is_claimed_run_and_answered() {
    let world = World::new();
    let _agent =
        world.agent("echo hello; echo 'pub fn two() {}' >> src/lib.rs; echo new > new.txt");
    world.assign("T-1");
    let claim = world.backend.frame("ticket.claim");
    assert_eq!(
        (claim["ticketId"].as_str(), claim["attempt"].as_u64()),
        (Some("T-1"), Some(1))
    );
    let result = world.backend.outcome("T-1");
    assert_eq!(result["type"], "ticket.result");
    assert_eq!(result["exitCode"], 0);
    assert_eq!(result["stdout"], "hello\n");
    assert_eq!(result["stdoutTruncated"], false);
    let diff = result["diff"].as_str().unwrap();
    assert!(
        diff.contains("+pub fn two() {}") && diff.contains("+++ b/new.txt"),
        "{diff}"
    );
    assert_eq!(
        result["diffStat"],
        serde_json::json!({"files": 2, "insertions": 2, "deletions": 0})
    );
    assert_eq!(result["baseCommit"], result["headCommit"]);
    assert_eq!(result["warnings"], Value::Array(Vec::new()));
    assert!(
        fs::read_to_string(world.repo().join("new.txt")).is_ok(),
        "the change stays in the work tree"
    );
}
