//! The house itself: rooms, arrows, sizes. What is fenced off here: an import that turns the map into a knot.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Which rooms a room may import; ARCHITECTURE.md draws the same.
const ARROWS: [(&str, &[&str]); 32] = [
    ("id", &[]),
    ("ordered", &[]),
    ("fault", &["id"]),
    ("error", &["fault", "id"]),
    ("handle", &["error", "id"]),
    ("manifest", &["error", "handle", "id", "ordered"]),
    ("report", &[]),
    ("observe", &["error", "id", "manifest", "report"]),
    ("format", &["error", "handle", "id", "manifest", "ordered"]),
    ("disk", &["error", "id", "observe"]),
    ("outcome", &["manifest"]),
    ("options", &["disk", "id", "manifest", "observe"]),
    ("part", &["handle", "id", "manifest", "options"]),
    ("records", &["disk", "error", "format", "handle", "id", "manifest", "observe"]),
    (
        "accounts",
        &["error", "fault", "format", "handle", "id", "manifest", "options", "ordered", "outcome", "part", "report"],
    ),
    (
        "reclaim",
        &[
            "accounts", "disk", "error", "fault", "format", "handle", "id", "manifest", "observe", "options",
            "outcome", "part", "records", "report",
        ],
    ),
    ("write", &["accounts", "disk", "error", "format", "handle", "id", "manifest", "observe", "options", "reclaim"]),
    (
        "join",
        &[
            "accounts", "disk", "error", "format", "handle", "id", "manifest", "options", "part", "reclaim", "records",
            "write",
        ],
    ),
    ("read", &["disk", "error", "format", "handle", "id", "manifest", "observe", "options", "reclaim"]),
    (
        "recover",
        &[
            "accounts", "disk", "error", "format", "handle", "id", "manifest", "observe", "options", "part", "reclaim",
            "records",
        ],
    ),
    ("check", &["disk", "error", "format", "handle", "id", "manifest", "observe", "read"]),
    (
        "commit",
        &[
            "accounts", "disk", "error", "fault", "handle", "id", "manifest", "observe", "options", "ordered", "part",
            "read", "reclaim", "records", "write",
        ],
    ),
    ("transfer", &["commit", "disk", "error", "format", "handle", "id", "manifest", "observe", "read", "records"]),
    (
        "store",
        &[
            "accounts",
            "check",
            "commit",
            "disk",
            "error",
            "fault",
            "format",
            "id",
            "manifest",
            "observe",
            "options",
            "outcome",
            "part",
            "read",
            "read_only",
            "reclaim",
            "records",
            "recover",
            "report",
            "transfer",
            "write",
        ],
    ),
    ("read_only", &["check", "disk", "error", "format", "id", "options", "read", "reclaim", "records"]),
    ("inspect", &["disk", "error", "format", "id", "handle", "manifest", "observe", "options", "read", "records"]),
    // The inspector has modules of its own, and knows the crate as any other program does.
    ("bin", &["address", "arguments", "commands", "output", "progress", "units", "Outcome", "Verdict"]),
    (
        "contract",
        &[
            "check",
            "commit",
            "disk",
            "error",
            "fault",
            "handle",
            "id",
            "manifest",
            "options",
            "read",
            "read_only",
            "reclaim",
            "recover",
            "store",
            "write",
        ],
    ),
    ("snapshot", &["contract", "error", "handle", "id", "observe"]),
    (
        "policy",
        &[
            "commit", "contract", "error", "handle", "id", "manifest", "options", "outcome", "part", "read", "reclaim",
            "store",
        ],
    ),
    ("testing", &["check", "contract", "disk", "error", "format", "id", "manifest"]),
    (
        "lib",
        &[
            "accounts",
            "check",
            "commit",
            "contract",
            "disk",
            "error",
            "fault",
            "handle",
            "id",
            "join",
            "manifest",
            "options",
            "ordered",
            "outcome",
            "part",
            "policy",
            "read",
            "read_only",
            "reclaim",
            "recover",
            "snapshot",
            "store",
            "testing",
            "transfer",
            "write",
        ],
    ),
];

/// Rooms that only know and compute: no lock, no file, no clock, and nothing of the disk.
const PURE: [&str; 3] = ["accounts", "format", "ordered"];

/// Lines of a file without its tests.
const LONGEST_FILE: usize = 500;

/// A source file up to its module of tests, whoever may see that.
fn without_tests(text: &str) -> &str {
    let is_tests = |at: &usize| {
        let module = text[*at..].lines().nth(1).unwrap_or_default();
        module == "mod tests {" || module == "pub(super) mod tests {"
    };
    text.match_indices("#[cfg(test)]\n").map(|(at, _)| at).find(is_tests).map_or(text, |at| &text[..at])
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file, by its path under `src`.
fn sources() -> Vec<(PathBuf, String)> {
    walkdir::WalkDir::new(root().join("src"))
        .into_iter()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| (entry.path().strip_prefix(root().join("src")).unwrap().to_owned(), entry.path().to_owned()))
        .map(|(name, path)| (name, fs::read_to_string(path).unwrap()))
        .collect()
}

/// The folder or file directly under `src`.
fn room(path: &Path) -> String {
    path.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// The code of a file: no comments, and nothing from its tests on.
fn code(text: &str) -> String {
    let text = without_tests(text);
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The rooms that a file names: `crate::room`, and each `room` of `use crate::{room::..., ...}`.
fn imports(code: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0_usize;
            let mut start = true;
            let mut name = String::new();
            for c in group.chars() {
                match c {
                    '}' if depth == 0 => break,
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 0 => start = true,
                    c if start && (c.is_alphanumeric() || c == '_') => name.push(c),
                    ':' if depth == 0 && start => start = false,
                    _ => {}
                }
                if (!start || c == ',') && !name.is_empty() {
                    rooms.insert(std::mem::take(&mut name));
                }
            }
        } else {
            rooms.insert(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    rooms
}

#[test]
fn imports_of_a_group_are_all_seen() {
    let code = "use crate::{\n    disk::{layout, volume::Volume},\n    error::Result,\n    id::{A, B},\n};\nuse crate::read::C;";
    assert_eq!(imports(code), ["disk", "error", "id", "read"].map(str::to_owned).into());
}

#[test]
fn rooms_import_only_what_the_map_allows() {
    for (path, text) in sources() {
        let room = room(&path);
        let allowed = ARROWS.iter().find(|(name, _)| *name == room);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("{} is in no room of the map", path.display()));
        for import in imports(&code(&text)) {
            let own = import == room || import == "Error" || import == "Result";
            assert!(own || allowed.contains(&import.as_str()), "{} imports {import}", path.display());
        }
    }
}

#[test]
fn pure_rooms_take_no_lock_and_touch_no_file_and_read_no_clock() {
    for (path, text) in sources().into_iter().filter(|(path, _)| PURE.contains(&&*room(path))) {
        let code = code(&text);
        for word in
            ["parking_lot", "Mutex", "RwLock", "std::fs", "rustix", "std::time::Instant", "SystemTime", "crate::disk"]
        {
            assert!(!code.contains(word), "{} mentions {word}", path.display());
        }
    }
}

#[test]
fn every_module_is_on_the_map() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for (path, _) in sources() {
        let file = path.file_name().unwrap().to_str().unwrap();
        let name = if file == "mod.rs" { format!("{}/", room(&path)) } else { file.to_owned() };
        assert!(map.contains(&format!("`{name}`")), "ARCHITECTURE.md does not mention `{name}` of {}", path.display());
    }
}

#[test]
fn every_name_on_the_map_exists() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let files: BTreeSet<_> = sources().into_iter().map(|(path, _)| path.file_name().unwrap().to_owned()).collect();
    for name in map
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| !name.contains('/') && Path::new(name).extension().is_some_and(|end| end == "rs"))
    {
        assert!(files.contains(std::ffi::OsStr::new(name)), "{name} is on the map and not in the house");
    }
}

#[test]
fn no_file_is_a_god() {
    for (path, text) in sources() {
        let lines = without_tests(&text).lines().count();
        assert!(lines <= LONGEST_FILE, "{} has {lines} lines", path.display());
    }
}
