//! The log file of the Windows service.

use std::fs;
use std::io::Write;

use wf0_agent::store::LogFile;

/// A log goes on where an earlier one ended, and is set aside at its limit: never more than two, and no line is torn.
#[test]
fn a_log_file_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("below/wf0-agent.log");
    let read =
        |name: &str| fs::read_to_string(folder.path().join("below").join(name)).unwrap_or_default();
    LogFile::open(&path, 20)
        .unwrap()
        .write_all(b"first 789\n")
        .unwrap();
    let mut log = LogFile::open(&path, 20).unwrap();
    log.write_all(b"second 89\n").unwrap();
    assert_eq!(
        (read("wf0-agent.log"), read("wf0-agent.log.1")),
        ("first 789\nsecond 89\n".to_owned(), String::new())
    );
    log.write_all(b"third 789\n").unwrap();
    assert_eq!(
        (
            read("wf0-agent.log").as_str(),
            read("wf0-agent.log.1").as_str()
        ),
        ("third 789\n", "first 789\nsecond 89\n")
    );
    log.write_all(b"longer than the whole limit\n").unwrap();
    log.write_all(b"fourth\n").unwrap();
    assert_eq!(
        (
            read("wf0-agent.log").as_str(),
            read("wf0-agent.log.1").as_str()
        ),
        ("fourth\n", "longer than the whole limit\n")
    );
    assert_eq!(
        fs::read_dir(folder.path().join("below")).unwrap().count(),
        2
    );
    // One that cannot be set aside is written on.
    fs::remove_file(folder.path().join("below/wf0-agent.log.1")).unwrap();
    fs::create_dir_all(folder.path().join("below/wf0-agent.log.1/x")).unwrap();
    log.write_all(b"longer than the whole limit\n").unwrap();
    assert_eq!(
        read("wf0-agent.log"),
        "fourth\nlonger than the whole limit\n"
    );
}
