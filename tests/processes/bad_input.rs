//! Goal: each kind of bad input ends with exit 1 and one line that says what, where and what to do;
//! what was committed stays; nothing at or after a bad line's open time is committed; a repaired rerun
//! finishes with the right contents. Method: real processes on real files; the oracle is a fold.

use std::path::Path;
use std::process::Command;

use crate::process::{
    PATIENCE, Ran, command, example, fold, ingest, ingested, last_entry, random, shard, snapshot,
    start, start_ingest, status, upper, verified,
};
use serde_json::Value;

const MIB: usize = 1 << 20;

/// Two closed times, then three rows of time 5, the second of which a test makes bad.
const BEFORE: &str = r#"{"key":"a","value":1,"ts":2}
{"key":"b","value":1,"ts":3}
{"key":"a","value":2,"ts":5}
"#;
const GOOD: &str = r#"{"key":"b","value":2,"ts":5}
"#;
const AFTER: &str = r#"{"key":"c","value":2,"ts":5}
{"key":"b","value":null,"ts":7}
"#;

fn write(dir: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    std::fs::write(dir.join(name), bytes).expect("a file");
}

/// Feeds a bad line between rows of one time and returns what was said about it; then repairs it.
fn bad_line(bad: &[u8]) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    write(dir, "feed", [BEFORE.as_bytes(), bad, b"\n", AFTER.as_bytes()].concat());
    // The second time changes nothing.
    let mut said = String::new();
    for workers in ["1", "2"] {
        let ran = ingest(dir, &["feed", "--shard", "s", "-w", workers]);
        said = ran.error().to_string();
        assert!(said.contains(" at feed:4;"), "{said}");
        let summary = ran.summary();
        assert_eq!((&summary["read"], &summary["upper"]), (&3.into(), &5.into()), "{said}");
        assert_eq!(upper(dir, "s"), 5, "exactly the time of the last good row: {said}");
        assert_eq!(snapshot(dir, "s"), fold(BEFORE.lines().take(2)));
        verified(dir, "s");
    }
    write(dir, "feed", [BEFORE, GOOD, AFTER].concat());
    let summary = ingested(dir, &["feed", "--shard", "s"]);
    assert_eq!((&summary["read"], &summary["below"]), (&6.into(), &2.into()));
    assert_eq!(snapshot(dir, "s"), fold([BEFORE, GOOD, AFTER].concat().lines()));
    assert_eq!(upper(dir, "s"), 8);
    verified(dir, "s");
    said
}

fn nested(depth: usize) -> String {
    format!(r#"{{"key":1,"value":{}{},"ts":5}}"#, "[".repeat(depth), "]".repeat(depth))
}

/// A row that is so many bytes long.
fn long(bytes: usize) -> String {
    let [start, end] = [r#"{"key":"long","value":""#, r#"","ts":5}"#];
    format!("{start}{}{end}", "x".repeat(bytes - start.len() - end.len()))
}

#[test]
fn a_bad_line_stops_before_its_time_and_a_repaired_rerun_goes_on() {
    for (line, what) in [
        (r#"{"key":"b","value":2,"ts":5"#, "not JSON"),
        ("nonsense", "not JSON"),
        (r#"{"key":"b","value":2,"ts":5} more"#, "not JSON"),
        (r#"{"key":"b","value":02,"ts":5}"#, "not JSON"),
        (r#"{"key":"b","value":NaN,"ts":5}"#, "not JSON"),
        (r#"{"key":"b","value":"\ud800","ts":5}"#, "not JSON"),
        (r#"["key","b"]"#, "not an object"),
        ("{}", "missing \"key\""),
        (r#"{"value":2,"ts":5}"#, "missing \"key\""),
        (r#"{"key":"b","ts":5}"#, "missing \"value\""),
        (r#"{"key":"b","value":2}"#, "missing \"ts\""),
        (r#"{"key":"b","key":"b","value":2,"ts":5}"#, "two members named \"key\""),
        (r#"{"key":"b","value":2,"ts":5,"x":1,"\u0078":1}"#, "two members named \"x\""),
        (r#"{"key":"b","value":2,"ts":4}"#, "decreases from 5 to 4"),
        (r#"{"key":"b","value":2,"ts":-5}"#, "\"ts\" is not"),
        (r#"{"key":"b","value":2,"ts":5.0}"#, "\"ts\" is not"),
        (r#"{"key":"b","value":2,"ts":5e0}"#, "\"ts\" is not"),
        (r#"{"key":"b","value":2,"ts":"5"}"#, "\"ts\" is not"),
        (r#"{"key":"b","value":2,"ts":null}"#, "\"ts\" is not"),
        (r#"{"key":"b","value":2,"ts":18446744073709551615}"#, "\"ts\" is not"),
        (r#"{"key":"b","value":2,"ts":18446744073709551616}"#, "\"ts\" is not"),
        (r#"{"key":"b","value":2,"ts":5,"offset":9}"#, "\"offset\" is on some rows only"),
        (r#"{"closed":-1}"#, "\"closed\" is not"),
    ] {
        let said = bad_line(line.as_bytes());
        assert!(said.starts_with(what) || said.contains(what), "{line}: {said}");
    }
    let said = bad_line(b"{\"key\":\"\xFF\",\"value\":2,\"ts\":5}");
    assert!(said.starts_with("not UTF-8"), "{said}");
    for depth in [127, 128, 100_000] {
        let said = bad_line(nested(depth).as_bytes());
        assert!(said.contains("nest"), "{said}");
    }
}

#[test]
fn a_line_has_16_mib_and_not_a_byte_more() {
    let said = bad_line(long(16 * MIB + 1).as_bytes());
    assert!(said.starts_with("a line longer than 16 MiB"), "{said}");
    let dir = tempfile::tempdir().expect("a directory");
    let line = long(16 * MIB);
    write(dir.path(), "feed", format!("{line}\r\n{}\n", nested(126)));
    ingested(dir.path(), &["feed", "--shard", "s"]);
    assert_eq!(snapshot(dir.path(), "s"), fold([&*line, &nested(126)]));
}

#[test]
fn a_half_written_last_line_counts_when_it_is_whole() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let whole = [BEFORE, GOOD, AFTER].concat();
    let start_of_line_4 = BEFORE.len();
    for cut in start_of_line_4 + 1..start_of_line_4 + GOOD.len() - 1 {
        let url = format!("s{cut}");
        write(dir, "feed", &whole[..cut]);
        ingest(dir, &["feed", "--shard", &url]).error();
        assert_eq!(upper(dir, &url), 5, "cut at {cut}");
        if cut % 7 == 0 {
            write(dir, "feed", &whole);
            ingested(dir, &["feed", "--shard", &url]);
            assert_eq!(snapshot(dir, &url), fold(whole.lines()));
        }
    }
    // Whole but for its line break, the last line counts: the feed ends there, time 7 included.
    write(dir, "feed", whole.trim_end());
    ingested(dir, &["feed", "--shard", "s"]);
    assert_eq!((upper(dir, "s"), snapshot(dir, "s")), (8, fold(whole.lines())));
}

#[test]
fn the_greatest_ts_is_taken() {
    let dir = tempfile::tempdir().expect("a directory");
    let row = r#"{"key":1,"value":2,"ts":18446744073709551614}"#;
    write(dir.path(), "feed", row);
    ingested(dir.path(), &["feed", "--shard", "s"]);
    assert_eq!(upper(dir.path(), "s"), u64::MAX);
    assert_eq!(snapshot(dir.path(), "s"), fold([row]));
    let again = ingested(dir.path(), &["feed", "--shard", "s", "--seal"]);
    assert_eq!((&again["wins"], &again["upper"]), (&0.into(), &Value::Null));
}

#[test]
fn keys_and_values_are_what_their_canonical_text_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let huge = "1".repeat(5000);
    let feed = format!(
        r#"{{"key":1,"value":"int","ts":1}}
{{"key":1.0,"value":"float","ts":1}}
{{"key":{{"b":1,"a":[1, 2]}},"value":"first","ts":1}}
{{"key":{{"a":[1,2],"b":1}},"value":{{"z":1,"y":2,"z":3}},"ts":1}}
{{"key":null,"value":"null key","ts":1}}
{{"key":"","value":"empty","ts":1}}
{{"key":"\u0061\u00e9\ud83d\ude00\/","value":"escaped","ts":1}}
{{"key":"aé😀/","value":"plain","ts":1}}
{{"key":"tab\u0009\u0000","value":"control","ts":1}}
{{"key":-{huge},"value":{huge},"ts":1}}
{{"key":18446744073709551616,"value":1e999,"ts":1}}
{{"key":true,"value":false,"ts":1,"other":[{{}}]}}
{{"key":"gone","value":1,"ts":1}}
{{"key":"gone","value":null,"ts":2}}
{{"key":"kept","value":{{"value":null}},"ts":2}}
"#
    );
    write(dir, "feed", feed);
    ingested(dir, &["feed", "--shard", "s"]);
    let mut expected = vec![
        "{\"key\":\"\",\"value\":\"empty\"}".to_string(),
        "{\"key\":\"aé😀/\",\"value\":\"plain\"}".to_string(),
        "{\"key\":\"kept\",\"value\":{\"value\":null}}".to_string(),
        "{\"key\":\"tab\\t\\u0000\",\"value\":\"control\"}".to_string(),
        format!("{{\"key\":-{huge},\"value\":{huge}}}"),
        "{\"key\":1,\"value\":\"int\"}".to_string(),
        "{\"key\":1.0,\"value\":\"float\"}".to_string(),
        "{\"key\":18446744073709551616,\"value\":1e999}".to_string(),
        "{\"key\":null,\"value\":\"null key\"}".to_string(),
        "{\"key\":true,\"value\":false}".to_string(),
        "{\"key\":{\"a\":[1,2],\"b\":1},\"value\":{\"y\":2,\"z\":3}}".to_string(),
    ];
    // They stand in the order of the keys' bytes.
    expected.sort_by(|a, b| {
        let key = |line: &str| line[7..line.rfind(",\"value\":").expect("a value")].to_string();
        let inner = |line: &str| match line.find("},\"value\":") {
            Some(end) => line[7..=end].to_string(),
            None => key(line),
        };
        inner(a).cmp(&inner(b))
    });
    assert_eq!(snapshot(dir, "s"), expected);
}

#[test]
fn bad_lines_are_kept_as_errors_until_a_good_row_comes() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let bad = "nonsense\n{\"key\":\"k\",\"ts\":5}\n{\"key\":\"l\",\"value\":1,\"ts\":1}\n";
    write(dir, "feed", [BEFORE, bad, AFTER].concat());
    let args = ["feed", "--shard", "s", "--on-error", "keep"];
    let summary = ingested(dir, &args);
    assert_eq!((&summary["errors"], &summary["read"]), (&3.into(), &8.into()));
    let lines = snapshot(dir, "s");
    let errors: Vec<Value> = lines
        .iter()
        .filter(|line| line.contains("\"error\":"))
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let keys: Vec<String> = errors.iter().map(|line| line["key"].to_string()).collect();
    assert_eq!(keys, ["\"k\"", "\"l\"", "{\"key_base64\":\"bm9uc2Vuc2U=\"}"]);
    let text = |index: usize| errors[index]["error"].as_str().expect("text");
    assert!(text(0).contains("missing \"value\"") && text(0).contains("line 5"), "{}", text(0));
    assert!(text(1).contains("decreases from 5 to 1"), "{}", text(1));
    assert!(text(2).contains("not JSON"), "{}", text(2));
    verified(dir, "s");
    // A rerun says the same, and a later good row takes an error's place.
    assert_eq!(ingested(dir, &args)["wins"], 0);
    let good = "{\"key\":\"k\",\"value\":1,\"ts\":9}\n{\"key\":\"l\",\"value\":null,\"ts\":9}\n";
    write(dir, "feed", [BEFORE, bad, AFTER, good].concat());
    let summary = ingested(dir, &args);
    assert_eq!((&summary["updated"], &summary["deleted"]), (&1.into(), &1.into()));
    let lines = snapshot(dir, "s");
    assert_eq!(lines.iter().filter(|line| line.contains("\"error\":")).count(), 1);
    assert!(lines.contains(&"{\"key\":\"k\",\"value\":1}".to_string()), "{lines:?}");
}

#[test]
fn a_feed_that_cannot_be_read_is_said() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    std::fs::create_dir(dir.join("directory")).expect("a directory");
    write(dir, "file", "");
    for (feed, what) in [
        ("nothing", "No such file"),
        ("directory", "a directory"),
        ("file/below", "Not a directory"),
        ("git:nothing", "nothing"),
        ("git:directory", "directory"),
    ] {
        let ran = ingest(dir, &[feed, "--shard", "s"]);
        assert!(ran.error().contains(what), "{}", ran.stderr);
        assert_eq!(ran.summary()["read"], 0);
        assert!(!dir.join("s").exists(), "a mistyped name makes no shard");
    }
}

#[test]
fn a_place_that_is_no_shard_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    write(dir, "feed", BEFORE);
    write(dir, "file", "text");
    std::fs::create_dir(dir.join("other")).expect("a directory");
    write(dir, "other/letter", "dear");
    for (url, what) in [
        ("other", "something else"),
        ("file:other", "something else"),
        ("file", "not a directory"),
        ("file/below", "a part of the path is a file"),
        ("s3://bucket/prefix", "aws"),
    ] {
        let ran = ingest(dir, &["feed", "--shard", url]);
        assert!(ran.error().contains(what), "{}", ran.stderr);
        ran.summary();
        shard(dir, &["snapshot", url]).error();
        shard(dir, &["verify", url]).error();
    }
    let left = std::fs::read_dir(dir.join("other")).expect("a directory").count();
    assert_eq!((left, std::fs::read(dir.join("file")).expect("a file")), (1, b"text".to_vec()));
}

#[test]
fn a_newer_shard_is_refused_by_all() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    write(dir, "feed", BEFORE);
    ingested(dir, &["feed", "--shard", "s"]);
    let format = std::fs::read_to_string(dir.join("s/FORMAT")).expect("a shard has one");
    let line = format.lines().next().expect("a line");
    let newer = [("format", 2), ("min_reader", 2), ("min_writer", 2)].iter().fold(
        format!("{line}\n"),
        |text, (name, version)| {
            text.replace(&format!("\"{name}\":{version}"), &format!("\"{name}\":9"))
        },
    );
    assert_ne!(newer, format!("{line}\n"));
    write(dir, "s/FORMAT", format!("{newer}crc32c {:08x}\n", crc32c::crc32c(newer.as_bytes())));
    let ran = ingest(dir, &["feed", "--shard", "s"]);
    assert!(ran.error().contains("newer version"), "{}", ran.stderr);
    for command in ["status", "snapshot", "tail", "verify"] {
        let ran = shard(dir, &[command, "s"]);
        assert!(ran.error().contains("newer version"), "{command}: {}", ran.stderr);
        assert_eq!(ran.stdout, "");
    }
    // Put back, nothing has happened.
    write(dir, "s/FORMAT", format);
    assert_eq!(ingested(dir, &["feed", "--shard", "s"])["wins"], 0);
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn a_flipped_bit_is_never_wrong_rows() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let mut random = random(3);
    // Entries with rows inside, parts of their own, and enough entries for a rollup.
    let mut feed = String::new();
    for ts in 0..150 {
        let value = if ts % 50 == 7 { "x".repeat(300_000) } else { "small".to_string() };
        feed.push_str(&format!("{{\"key\":{},\"value\":\"{value}\",\"ts\":{ts}}}\n", ts % 7));
    }
    feed.push_str("{\"closed\":150}\n");
    write(dir, "feed", &feed);
    // A run that is done would merge what it leaves; one that is told to stop leaves it as it is.
    let args = ["feed", "--shard", "s", "--history", "keep", "--follow", "--ahead", "off"];
    let mut run = start_ingest(dir, &args);
    run.until("all of it", || last_entry(dir, "s") > 0 && upper(dir, "s") == 150);
    run.signal("TERM");
    run.end(PATIENCE).good();
    let all = files(&dir.join("s"));
    let of = |kind: &str| all.iter().filter(|path| path.to_string_lossy().contains(kind)).count();
    assert!(of(".seg") > 0 && of("/part/") > 0 && of("/rollup/") > 0, "{all:?}");
    let good = snapshot(dir, "s");
    // The marks of a log hold what matters twice, and its lock holds nothing.
    let some = all.iter().filter(|path| !path.ends_with("marks") && !path.ends_with("lock"));
    for path in some {
        // A copy each: whatever runs on it may delete what it needs no more.
        let copied = Command::new("cp").args(["-r", "s", "t"]).current_dir(dir).status();
        assert!(copied.is_ok_and(|copied| copied.success()));
        let path = dir.join("t").join(path.strip_prefix(dir.join("s")).expect("a file of it"));
        let mut flipped = std::fs::read(&path).expect("a file");
        // A segment ends in zeros, which are nobody's.
        let used = flipped.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let at = random.usize(..used);
        flipped[at] ^= 1 << random.u64(..8);
        std::fs::write(&path, &flipped).expect("a file");
        // Verify reads everything; the others fail too, or have not needed that file.
        let verify = shard(dir, &["verify", "t"]);
        assert_eq!(verify.code, Some(1), "{path:?} at {at}: {}", verify.stdout);
        assert!(!verify.error().is_empty());
        let ran = shard(dir, &["snapshot", "t"]);
        match ran.code {
            Some(0) => assert_eq!(ran.lines(), good, "{path:?} at {at}"),
            _ => assert!(!ran.error().is_empty()),
        }
        let ran = ingest(dir, &["feed", "--shard", "t"]);
        match ran.code {
            Some(0) => assert_eq!(ran.summary()["wins"], 0, "{path:?} at {at}"),
            _ => assert!(!ran.error().is_empty()),
        }
        std::fs::remove_dir_all(dir.join("t")).expect("the copy");
    }
    verified(dir, "s");
    assert_eq!(snapshot(dir, "s"), good);
}

/// Runs `ingest` where no file may grow beyond so many blocks of 512 bytes: like a full disk, and
/// allowed to everyone.
fn cramped(dir: &Path, blocks: usize, args: &[&str]) -> Ran {
    let mut command = Command::new("sh");
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    command.arg("-c").arg(script).arg(example("ingest")).args(args).current_dir(dir);
    start(command).end(PATIENCE)
}

#[test]
fn a_disk_that_takes_no_more_keeps_what_it_has() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let row =
        |key: &str, value: &str, ts| format!("{{\"key\":{key},\"value\":{value},\"ts\":{ts}}}\n");
    // Time 2 goes into a part of its own, or into a log entry that is too long for a first segment.
    let text = |bytes| format!("\"{}\"", "x".repeat(bytes));
    for (name, large, limit) in [("part", text(200_000), 64), ("entry", text(16_300), 32)] {
        let feed = [
            row("\"a\"", "1", 0),
            row("\"b\"", "1", 1),
            row("\"a\"", "2", 2),
            row("\"c\"", &large, 2),
            row("\"d\"", "1", 2),
            row("\"a\"", "null", 3),
        ]
        .concat();
        write(dir, "feed", &feed);
        for (workers, ahead) in [("1", "on"), ("2", "on"), ("1", "off"), ("2", "off")] {
            let args = ["feed", "--shard", name, "-w", workers, "--ahead", ahead];
            let ran = cramped(dir, limit, &args);
            assert!(ran.error().contains("too large"), "the cause is said: {}", ran.stderr);
            assert!(ran.error().ends_with("; let files grow larger and rerun; see `ulimit -f`"));
            assert!(!ran.stderr.contains("may have happened"), "it surely has not: {}", ran.stderr);
            // Ahead, the closed times that share an append with one that cannot be written wait with it.
            let upper = upper(dir, name);
            assert!(upper == 2 || (ahead == "on" && upper < 2), "{upper}");
            let said = ran.error().contains(&format!("nothing of times [{upper}, "));
            assert!(upper == 2 || said, "{}", ran.stderr);
            assert_eq!(ran.summary()["upper"], upper);
            assert_eq!(snapshot(dir, name), fold(feed.lines().take(upper as usize)));
            verified(dir, name);
        }
        ingested(dir, &["feed", "--shard", name]);
        assert_eq!(snapshot(dir, name), fold(feed.lines()));
        verified(dir, name);
    }
    // No room even to begin.
    let ran = cramped(dir, 0, &["feed", "--shard", "none"]);
    assert!(ran.error().contains("too large"), "{}", ran.stderr);
    ran.summary();
    ingested(dir, &["feed", "--shard", "none"]);
    assert_eq!(upper(dir, "none"), 4);
}

/// Runs `ingest` in a mount namespace of its own, where a directory is read-only to root as well.
#[cfg(target_os = "linux")]
fn on_a_read_only_mount(dir: &Path, directory: &str, args: &[&str]) -> Ran {
    let mount = format!("mount --bind {directory} {directory}");
    let script = format!("{mount} && mount -o remount,bind,ro {directory} && exec \"$0\" \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &script]).arg(example("ingest")).args(args).current_dir(dir);
    start(command).end(PATIENCE)
}

#[cfg(target_os = "linux")]
#[test]
fn a_directory_that_may_not_be_written() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let more = "{\"key\":\"c\",\"value\":1,\"ts\":8}\n";
    write(dir, "feed", [BEFORE, GOOD].concat());
    ingested(dir, &["feed", "--shard", "s"]);
    write(dir, "feed", [BEFORE, GOOD, more].concat());
    let set = |mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(dir.join("s/data/log"), mode).expect("ours to change");
    };
    // A record needs no new name, but a file that may be written.
    let set_files = |mode| {
        for file in files(&dir.join("s/data/log")) {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(file, mode).expect("ours to change");
        }
    };
    set_files(0o444);
    set(0o555);
    // Modes bind everyone but root.
    let ran = match std::fs::write(dir.join("s/data/log/try"), "") {
        Err(_) => ingest(dir, &["feed", "--shard", "s"]),
        Ok(()) => {
            std::fs::remove_file(dir.join("s/data/log/try")).expect("ours to remove");
            on_a_read_only_mount(dir, "s", &["feed", "--shard", "s"])
        }
    };
    let said = ran.error();
    assert!(said.contains("denied") || said.contains("Read-only"), "{}", ran.stderr);
    let denied = "; let this user write there, or use another directory, and rerun";
    let read_only = "; mount the file system for writing, or use another directory";
    assert!(said.ends_with(denied) || said.ends_with(read_only), "{said}");
    assert!(!said.contains("may have happened"), "it surely has not: {said}");
    assert_eq!(ran.summary()["upper"], 6);
    // Readers do not mind.
    assert_eq!(snapshot(dir, "s"), fold([BEFORE, GOOD].concat().lines()));
    verified(dir, "s");
    set(0o755);
    set_files(0o644);
    ingested(dir, &["feed", "--shard", "s"]);
    assert_eq!(snapshot(dir, "s"), fold([BEFORE, GOOD, more].concat().lines()));
    // Nobody can make a directory here.
    let ran = ingest(dir, &["feed", "--shard", "/proc/self/shard"]);
    assert!(ran.error().contains("/proc/self/shard"), "{}", ran.stderr);
    ran.summary();
}

#[test]
fn a_sealed_shard_takes_no_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    write(dir, "feed", BEFORE);
    let summary = ingested(dir, &["feed", "--shard", "s", "--seal"]);
    assert_eq!(summary["upper"], Value::Null);
    let said = status(dir, "s");
    assert_eq!((&said["upper"], &said["sealed_at"]), (&Value::Null, &6.into()));
    write(dir, "feed", [BEFORE, "{\"key\":\"late\",\"value\":1,\"ts\":6}\n"].concat());
    let ran = start(command("ingest", dir, &["feed", "--shard", "s"])).end(PATIENCE);
    assert!(ran.error().contains("sealed at 6"), "{}", ran.stderr);
    assert_eq!(snapshot(dir, "s"), fold(BEFORE.lines()));
}
