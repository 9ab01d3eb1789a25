//! What is made from the command line's definition is fresh, and the rooms keep to the map.
//!
//! The map is read from where people read it, the page of `src/lib.rs`. Tests inside of rooms are
//! free: they may bring a client and a server together.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueEnum as _;
use clap_complete::{Generator as _, Shell};
use minismtp::cli::report::ExitStatus;
use minismtp::cli::{completion_script, man_pages};

/// Writes what is stale anew.
const UPDATE: &str = "MINISMTP_UPDATE=1 cargo test --test it tidy";

/// What `and the stores` means in the map.
const STORES: [&str; 2] = ["credentials", "mailbox"];

/// Rooms that do no input or output.
const PURE: [&str; 6] = ["address", "message", "pop3", "sasl", "smtp", "wire"];

/// What only some may name, and who. A name is a room, or a file where only that one may.
const RESERVED: [(&[&str], &[&str]); 5] = [
    (
        &["std::fs", "rustix::fs", "unix::fs"],
        &[
            "disk",
            // Makes a directory for the tour, shows the mailbox as `cat` does, and removes it all.
            "cli/demo.rs",
            // Writes the manual, which is public and can be made again.
            "cli/man.rs",
            // Opens `/dev/tty`.
            "cli/password.rs",
            // Looks whether the mail root is there.
            "cli/root.rs",
            // Reads a file with a password.
            "cli/send.rs",
            // Reads the authorities that a user trusts.
            "cli/tls.rs",
            // Certificates are where somebody else renews them.
            "server/certificates.rs",
            // A Unix socket has a file.
            "net/local.rs",
        ],
    ),
    (
        &["tokio"],
        &["client", "net", "server", "cli/demo.rs", "cli/serve.rs"],
    ),
    (
        &[
            "TcpListener",
            "TcpStream",
            "TcpSocket",
            "UdpSocket",
            "UnixStream",
        ],
        &["client", "net", "server"],
    ),
    (&["println!", "print!(", "stdout()", "stderr()"], &["cli"]),
    (
        // The wall clock; a file's age is told in the file system's time.
        &["SystemTime::now", "Local::now", "Utc::now"],
        &["clock", "credentials/file.rs", "disk"],
    ),
];

/// What has no place in a pure room.
const IMPURE: [&str; 6] = [
    "std::thread",
    "std::process",
    "std::env",
    "std::os",
    "SystemTime",
    "Instant::now",
];

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn completions_are_fresh() {
    let scripts = Shell::value_variants()
        .iter()
        .map(|shell| (shell.file_name("minismtp"), completion_script(*shell)));
    assert_is_fresh("completions", scripts.collect());
}

#[test]
fn the_readme_has_the_exit_codes_of_the_manual() {
    let readme = fs::read_to_string(project().join("README.md")).unwrap();
    let (_, table) = readme
        .split_once("| code | meaning |\n| --- | --- |\n")
        .unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let rows = ExitStatus::ALL.map(|status| format!("| {} | {} |", status as u8, status.meaning()));
    assert_eq!(table, rows.join("\n"));
}

/// What a reader looks for there, and the generator of pages leaves out.
#[test]
fn man_pages_say_what_options_take_and_what_codes_mean() {
    let pages: BTreeMap<_, _> = man_pages().into_iter().collect();
    let page = |name: &str| String::from_utf8_lossy(&pages[name]).into_owned();
    let synopsis = |name: &str| {
        let page = page(name);
        let (_, rest) = page.split_once(".SH SYNOPSIS\n").unwrap();
        rest.lines().next().unwrap().to_owned()
    };
    for (name, options) in [
        (
            "minismtp-serve.1",
            &[
                r"[\fB\-p\fR|\fB\-\-port\fR \fIPORT\fR]",
                r"[\fB\-\-pop3\-port\fR \fIPORT\fR]",
                r"[\fB\-\-host\fR \fIHOST\fR]...",
                r"[\fB\-\-lab\fR]",
                r"[\fB\-v\fR|\fB\-\-verbose\fR]...",
            ][..],
        ),
        ("minismtp-send.1", &[r"[\fB\-\-tls\-ca\fR \fIFILE\fR]"]),
        ("minismtp.1", &[r"[\fB\-\-root\fR \fIDIR\fR]"]),
    ] {
        let synopsis = synopsis(name);
        for option in options {
            assert!(synopsis.contains(option), "{option}: {synopsis}");
        }
    }
    for name in [
        "minismtp.1",
        "minismtp-users.1",
        "minismtp-send.1",
        "minismtp-shell.1",
    ] {
        assert!(page(name).contains("\n.SH \"EXIT STATUS\"\n"), "{name}");
    }
    assert!(page("minismtp.1").contains(".TP\n\\fB78\\fR\nwrong configuration\n"));
    assert!(page("minismtp.1").contains("\n.SH FILES\n.TP\n\\fBlogincred.txt\\fR\n"));
    assert!(
        pages
            .values()
            .all(|page| !String::from_utf8_lossy(page).contains("SH EXTRA"))
    );
}

#[test]
fn man_pages_are_fresh() {
    assert_is_fresh("man", man_pages().into_iter().collect());
}

#[track_caller]
fn assert_is_fresh(name: &str, expected: BTreeMap<String, Vec<u8>>) {
    let directory = project().join(name);
    let found = fs::read_dir(&directory).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read(path).unwrap())
    });
    let found: BTreeMap<_, _> = found.collect();
    if std::env::var_os("MINISMTP_UPDATE").is_some() {
        for name in found.keys().filter(|name| !expected.contains_key(*name)) {
            fs::remove_file(directory.join(name)).unwrap();
        }
        for (name, content) in expected {
            fs::write(directory.join(name), content).unwrap();
        }
        return;
    }
    let stale: Vec<_> = found
        .keys()
        .chain(expected.keys())
        .filter(|name| found.get(*name) != expected.get(*name))
        .map(|file| format!("{name}/{file}"))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    assert!(
        stale.is_empty(),
        "stale: {stale:?}; this writes them anew: {UPDATE}"
    );
}

#[test]
fn rooms_use_only_what_the_map_allows() {
    let map = map();
    let rooms: BTreeSet<_> = sources().into_iter().map(|source| source.room).collect();
    let drawn: BTreeSet<_> = map.keys().cloned().collect();
    assert_eq!(drawn, rooms, "the map in src/lib.rs, and the rooms in src/");
    let mut trespasses = Vec::new();
    for source in sources() {
        for (line, text) in &source.code {
            for used in source.rooms_used(text, &rooms) {
                if used != source.room && !map[&source.room].contains(&used) {
                    trespasses.push(format!("src/{}:{line}: {text}", source.name));
                }
            }
        }
    }
    assert!(
        trespasses.is_empty(),
        "the map in src/lib.rs does not allow:\n{}",
        trespasses.join("\n")
    );
}

#[test]
fn what_is_reserved_stays_in_its_rooms() {
    let mut trespasses = Vec::new();
    for source in sources() {
        let is_pure = PURE.contains(&source.room.as_str());
        let reserved = RESERVED
            .into_iter()
            .filter(|(_, allowed)| {
                !allowed.contains(&source.room.as_str()) && !allowed.contains(&source.name.as_str())
            })
            .flat_map(|(names, _)| names);
        let impure = IMPURE.iter().filter(|_| is_pure);
        let forbidden: Vec<_> = reserved.chain(impure).collect();
        for (line, text) in &source.code {
            // What a group brings in could not be found by its whole name.
            let hides = text.contains("use std::{") || text.contains("use tokio::{");
            if hides || forbidden.iter().any(|name| text.contains(**name)) {
                trespasses.push(format!("src/{}:{line}: {text}", source.name));
            }
        }
    }
    assert!(
        trespasses.is_empty(),
        "not here:\n{}",
        trespasses.join("\n")
    );
}

/// A file of `src/`, without its comments and tests.
struct Source {
    /// Its path under `src/`.
    name: String,
    room: String,
    code: Vec<(usize, String)>,
}

/// All files but `lib.rs`, which is the map.
fn sources() -> Vec<Source> {
    let root = project().join("src");
    let mut files = Vec::new();
    files_in(&root, &mut files);
    let names = files.iter().map(|file| {
        let name = file.strip_prefix(&root).unwrap();
        name.to_str().unwrap().to_owned()
    });
    let names: BTreeSet<_> = names.filter(|name| name != "lib.rs").collect();
    let sources = names.into_iter().map(|name| {
        let text = fs::read_to_string(root.join(&name)).unwrap();
        let room = name.split(['/', '.']).next().unwrap().to_owned();
        // A file of tests is named so by its room, under `#[cfg(test)]`.
        let is_test = name.ends_with("/tests.rs");
        let code = if is_test { Vec::new() } else { code(&text) };
        Source { name, room, code }
    });
    sources.collect()
}

fn files_in(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_in(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The lines of a file with their numbers, without comments and what is under `#[cfg(test)]`.
fn code(text: &str) -> Vec<(usize, String)> {
    let mut code = Vec::new();
    let mut lines = (1..).zip(text.lines());
    while let Some((number, line)) = lines.next() {
        let (indent, line) = line.split_at(line.len() - line.trim_start().len());
        if line == "#[cfg(test)]" {
            // Its item: one line, or up to the brace that stands where it began.
            let end = format!("{indent}}}");
            if lines.next().is_some_and(|(_, item)| !item.ends_with(';')) {
                lines
                    .by_ref()
                    .take_while(|(_, line)| *line != end)
                    .for_each(drop);
            }
            continue;
        }
        let line = line
            .split_once("// ")
            .map_or(line, |(code, _)| code)
            .trim_end();
        if !line.is_empty() && !line.starts_with("//") {
            code.push((number, line.to_owned()));
        }
    }
    code
}

impl Source {
    /// The rooms that a line names: by `crate::`, or by `super::` in a file that is its room's root.
    fn rooms_used(&self, line: &str, rooms: &BTreeSet<String>) -> Vec<String> {
        let is_room = self.name == format!("{}.rs", self.room)
            || self.name == format!("{}/mod.rs", self.room);
        let roots = if self.name == "main.rs" {
            &["minismtp::"][..]
        } else if is_room {
            &["crate::", "super::"][..]
        } else {
            &["crate::", "super::super::"][..]
        };
        let mut used = Vec::new();
        for root in roots {
            for (_, path) in line
                .match_indices(root)
                .map(|(at, _)| line.split_at(at + root.len()))
            {
                let names = path.strip_prefix('{').map_or_else(
                    || {
                        path.split(|c: char| !c.is_alphanumeric() && c != '_')
                            .take(1)
                            .collect::<Vec<_>>()
                    },
                    |group| {
                        group
                            .split([',', '}'])
                            .map(|name| name.trim().split(':').next().unwrap())
                            .collect()
                    },
                );
                let names = names.into_iter().filter(|name| rooms.contains(*name));
                used.extend(names.map(str::to_owned));
            }
        }
        used
    }
}

/// Which rooms each room may use, from the map in `src/lib.rs`: lines that begin with a file or a
/// folder, and end, maybe some lines on, with the rooms in brackets.
fn map() -> BTreeMap<String, BTreeSet<String>> {
    let page = fs::read_to_string(project().join("src/lib.rs")).unwrap();
    let (_, page) = page.split_once("# The map").unwrap();
    let text = page.split("```").nth(1).unwrap();
    let mut entries: Vec<(String, String)> = Vec::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("//! ")) {
        if let Some(name) = line
            .split(' ')
            .next()
            .filter(|name| !name.is_empty() && *name != "text")
        {
            let room = name.trim_end_matches(".rs").trim_end_matches('/');
            entries.push((room.to_owned(), String::new()));
        }
        if let Some((_, entry)) = entries.last_mut() {
            entry.push_str(line);
            entry.push(' ');
        }
    }
    let rooms: BTreeSet<_> = entries.iter().map(|(room, _)| room.clone()).collect();
    let entries = entries.into_iter().map(|(room, entry)| {
        let allowed = entry.trim_end().strip_suffix(']');
        let allowed = allowed.and_then(|entry| entry.rsplit_once('['));
        let Some((_, allowed)) = allowed else {
            panic!("the map has no [..] at the end of: {entry}");
        };
        let allowed = rooms_named(allowed, &rooms);
        (room, allowed)
    });
    entries.collect()
}

/// `a b`, `all`, or `all but a, b, and the stores`.
fn rooms_named(words: &str, rooms: &BTreeSet<String>) -> BTreeSet<String> {
    let named = |words: &str| -> BTreeSet<String> {
        let stores = STORES.into_iter().filter(|_| words.contains("the stores"));
        words
            .split([',', ' '])
            .filter(|word| !["", "and", "the", "stores"].contains(word))
            .inspect(|word| assert!(rooms.contains(*word), "the map has no room `{word}`"))
            .chain(stores)
            .map(str::to_owned)
            .collect()
    };
    match words.strip_prefix("all") {
        Some(rest) => {
            let excepted = named(rest.trim_start().strip_prefix("but ").unwrap_or_default());
            rooms.difference(&excepted).cloned().collect()
        }
        None => named(words),
    }
}

#[test]
fn map_is_read_as_it_is_written() {
    let map = map();
    let allowed = |room: &str| map[room].iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(allowed("main"), ["cli"]);
    assert!(allowed("wire").is_empty());
    assert!(map["cli"].contains("server"));
    assert!(map["client"].contains("smtp") && !map["client"].contains("mailbox"));
}

#[test]
fn code_is_told_from_comments_and_tests() {
    let text = "//! a\nuse a; // b\n#[cfg(test)]\nmod tests;\n\n    #[cfg(test)]\n    fn c() {\n        d\n    }\n    e\n";
    let code: Vec<_> = code(text)
        .into_iter()
        .map(|(line, text)| format!("{line} {text}"))
        .collect();
    assert_eq!(code, ["2 use a;", "10 e"]);
}
