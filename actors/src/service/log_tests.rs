use super::*;

fn lines(from: usize, to: usize) -> String {
    (from..to).map(|number| format!("line {number}\n")).collect()
}

#[test]
fn the_last_lines_come_from_both_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = log_path(&folder.path().join("logs"), "rqlite");
    assert_eq!(tail(&path, 10).unwrap(), "", "a log that does not exist is empty");
    let mut log = LogFile::open(&path).unwrap();
    log.append(lines(0, 5).as_bytes()).unwrap();
    fs::rename(&path, rotated(&path)).unwrap();
    let mut log = LogFile::open(&path).unwrap();
    log.append(lines(5, 8).as_bytes()).unwrap();
    assert_eq!(tail(&path, 2).unwrap(), lines(6, 8));
    assert_eq!(tail(&path, 5).unwrap(), lines(3, 8));
    assert_eq!(tail(&path, 1000).unwrap(), lines(0, 8));
    assert_eq!(tail(&path, 0).unwrap(), "");
    log.append(b"no end yet").unwrap();
    assert_eq!(tail(&path, 1).unwrap(), "no end yet");
    assert_eq!(tail(&path, 2).unwrap(), "line 7\nno end yet");
}

#[test]
fn two_files_of_a_mebibyte_are_the_most() {
    let folder = tempfile::tempdir().unwrap();
    let path = log_path(folder.path(), "gateway");
    let mut log = LogFile::open(&path).unwrap();
    let block = "x".repeat(READ_BYTES - 1) + "\n";
    for _ in 0..50 {
        log.append(block.as_bytes()).unwrap();
    }
    let sizes: Vec<u64> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).collect();
    assert_eq!(sizes.len(), 2);
    assert!(sizes.iter().all(|size| *size <= ROTATE_BYTES), "{sizes:?}");
    // Opened again it goes on counting where it was.
    let again = LogFile::open(&path).unwrap();
    assert_eq!(again.size_bytes, fs::metadata(&path).unwrap().len());
}

#[test]
fn an_answer_is_bounded_and_clean() {
    let folder = tempfile::tempdir().unwrap();
    let path = log_path(folder.path(), "olric");
    let mut log = LogFile::open(&path).unwrap();
    log.append(b"\x1b[31mred\r\n\xff\ttab\n").unwrap();
    assert_eq!(tail(&path, 10).unwrap(), "?[31mred?\n\u{fffd}\ttab\n");
    let line = "y".repeat(999) + "\n";
    log.append(line.repeat(200).as_bytes()).unwrap();
    let text = tail(&path, 1000).unwrap();
    assert!(text.len() <= TAIL_BYTES && text.len() > TAIL_BYTES - 2 * line.len());
    assert!(text.starts_with("yyy") && text.lines().all(|line| line.len() == 999), "whole lines only");
}
