//! One suite for every store, and a power cut at every operation of the file store.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use crate::address::ReversePath;
use crate::disk::{self, Cut, Disk, File, Holder, Lock, Open, RealDisk, SimulatedDisk};
use crate::user::UserName;

use super::commit::{Committer, DIRECT_OCTETS_MIN, Job, JobRecord, Settings};
use super::file::{FileStore, Handles, READER_FILES, mailbox_path};
use super::format::Span;
use super::index::{self, Entry};
use super::journal::PART_OCTETS_MAX;
use super::locks::{SERVER_LOCK_NAME, WRITE_LOCK_NAME};
use super::memory::MemoryStore;
use super::recovery::{self, Tail};
use super::scan;
use super::spool::{ROOM_OCTETS, ROOMS, Shares, Spool, Text};
use super::table;
use super::{AppendError, Message, Reporter, Seen, Store, StoreError};

fn user(name: &str) -> UserName {
    UserName::new(name).unwrap()
}

fn append(store: &dyn Store, to: &[&str], text: &str) -> Result<(), AppendError> {
    let mut spool = store.spool();
    for chunk in text.as_bytes().chunks(7000) {
        spool.push(chunk).unwrap();
    }
    let message = Message {
        reverse_path: ReversePath::parse("<s@h>").unwrap().0,
        recipients: to
            .iter()
            .map(|name| (user(name), format!("{name}@h").into()))
            .collect(),
        trace: "Return-Path: <s@h>\nReceived: here\n".to_owned(),
        received: "T".into(),
        text: spool,
    };
    let (sender, outcome) = mpsc::channel();
    store.append(message, Box::new(move |done| sender.send(done).unwrap()));
    store.commit(false);
    outcome.recv().unwrap()
}

fn mail(store: &dyn Store, name: &str) -> Vec<String> {
    let mailbox = store.open(&user(name)).unwrap();
    assert_eq!(mailbox.torn_octets(), 0, "{name}");
    (1..=mailbox.count())
        .map(|number| {
            let mut record = Vec::new();
            assert!(mailbox.copy(number, &mut record).unwrap());
            String::from_utf8(record).unwrap()
        })
        .collect()
}

fn stores() -> Vec<(&'static str, Box<dyn Store>)> {
    let disk = Arc::new(SimulatedDisk::default());
    vec![
        ("memory", Box::new(MemoryStore::default())),
        ("file", Box::new(serve(disk))),
    ]
}

/// Has a server take a message, and leave.
fn deliver(disk: &Arc<dyn Disk>, to: &[&str], text: &str) {
    let server = serve(Arc::clone(disk));
    append(&server, to, text).unwrap();
    server.close();
}

fn serve(disk: Arc<dyn Disk>) -> FileStore {
    FileStore::serve(disk, handles(8), quiet()).unwrap()
}

fn handles(mailboxes: usize) -> Handles {
    Handles {
        mailboxes,
        spools: 64,
        readers: 64,
    }
}

fn visit(disk: Arc<dyn Disk>) -> FileStore {
    FileStore::visit(disk, quiet())
}

fn noted() -> (Reporter, Arc<Mutex<Vec<String>>>) {
    let findings = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&findings);
    let report = move |what: &str| heard.lock().unwrap().push(what.to_owned());
    (Arc::new(report), findings)
}

fn quiet() -> Reporter {
    Arc::new(|_| {})
}

/// Lines of the script's large messages.
const LARGE_LINES: usize = 8192;
const _: () = assert!(LARGE_LINES as u64 * 4 >= DIRECT_OCTETS_MIN);

const PLAIN: &str = "From: s@h\nTo: Andrew@h\nSubject: x\n\n.\n..\nhi\n";

#[test]
fn every_store_keeps_what_it_is_given() {
    for (what, store) in stores() {
        let big = format!("Subject: big\n\n{}", ".x\n".repeat(ROOM_OCTETS));
        append(&*store, &["Andrew", "Berta"], PLAIN).unwrap();
        append(&*store, &["Andrew"], &big).unwrap();
        append(&*store, &["Berta"], "no header, no line end").unwrap();
        let andrew = mail(&*store, "Andrew");
        assert_eq!(
            andrew[0], "From: s@h\nTo: Andrew@h\nSubject: x\nReceived: T\n..\n...\nhi\n.\n",
            "{what}"
        );
        let big = big.replace("\n.", "\n..");
        assert_eq!(
            andrew[1],
            format!(
                "From: s@h\nTo: Andrew@h\nSubject: big\nReceived: T\n\
                 Return-Path: <s@h>\nReceived: here\n{big}.\n"
            ),
            "{what}"
        );
        let berta = mail(&*store, "Berta");
        assert!(
            berta[0].contains("\nReturn-Path: <s@h>\nReceived: here\nFrom: s@h\n"),
            "{what}"
        );
        assert!(
            berta[1].ends_with("Received: here\nno header, no line end\n.\n"),
            "{what}"
        );
        assert_eq!(
            store.users().unwrap(),
            [user("Andrew"), user("Berta")],
            "{what}"
        );
        assert_eq!(mail(&*store, "Nobody"), Vec::<String>::new(), "{what}");
    }
}

#[test]
fn every_store_removes_what_it_is_told() {
    for (what, store) in stores() {
        for number in 1..=4 {
            append(&*store, &["Andrew"], &format!("Subject: {number}\n\n")).unwrap();
        }
        let before = mail(&*store, "Andrew");
        assert_eq!(
            expunge(&*store, "Andrew", &[2, 5, 0]).unwrap(),
            [5, 0],
            "{what}"
        );
        assert_eq!(mail(&*store, "Andrew"), before, "{what}");
        assert!(
            expunge(&*store, "Andrew", &[1, 3]).unwrap().is_empty(),
            "{what}"
        );
        assert_eq!(
            mail(&*store, "Andrew"),
            [before[1].clone(), before[3].clone()],
            "{what}"
        );
        append(&*store, &["Andrew"], "Subject: 5\n\n").unwrap();
        assert_eq!(mail(&*store, "Andrew").len(), 3, "{what}");
        store.remove(&user("Andrew")).unwrap();
        assert_eq!(mail(&*store, "Andrew"), Vec::<String>::new(), "{what}");
        append(&*store, &["Andrew"], "Subject: 6\n\n").unwrap();
        assert_eq!(mail(&*store, "Andrew").len(), 1, "{what}");
        assert_eq!(expunge(&*store, "Nobody", &[1]).unwrap(), [1], "{what}");
    }
}

fn entries(file: &dyn File) -> Vec<Entry> {
    scan::scan(file, 0, u64::MAX).unwrap()
}

/// All messages as a mail client reads them.
fn messages(store: &dyn Store, name: &str) -> Vec<String> {
    let mailbox = store.open(&user(name)).unwrap();
    (1..=mailbox.count())
        .map(|number| {
            let mut text = Vec::new();
            let mut reading = mailbox.read(number).unwrap().unwrap();
            while reading.next(&mut text).unwrap() {}
            assert_eq!(
                mailbox.octets(number),
                Some(index::with_crlf(&text)),
                "size"
            );
            String::from_utf8(text).unwrap()
        })
        .collect()
}

/// What is seen under these numbers; nothing that is there, where there is nothing.
fn seen(store: &dyn Store, name: &str, numbers: &[usize]) -> Vec<Seen> {
    let mailbox = store.open(&user(name)).unwrap();
    let seen = |&number| {
        let none = Seen { number, hash: 0 };
        mailbox.seen(number).unwrap_or(none)
    };
    numbers.iter().map(seen).collect()
}

/// Removes messages by number; gives those that are not there.
fn expunge(store: &dyn Store, name: &str, numbers: &[usize]) -> Result<Vec<usize>, StoreError> {
    store.expunge(&user(name), &seen(store, name, numbers))
}

fn unique_ids(store: &dyn Store, name: &str) -> Vec<String> {
    let mailbox = store.open(&user(name)).unwrap();
    let ids: Vec<String> = (1..=mailbox.count())
        .map(|number| mailbox.unique_id(number).unwrap())
        .collect();
    let different: std::collections::BTreeSet<&String> = ids.iter().collect();
    assert_eq!(different.len(), ids.len(), "{ids:?}");
    assert!(ids.iter().all(|id| (1..=70).contains(&id.len())));
    assert_eq!(
        mailbox
            .unique_id(0)
            .or_else(|| mailbox.unique_id(ids.len() + 1)),
        None
    );
    ids
}

#[test]
fn every_store_gives_messages_as_clients_read_them() {
    for (what, store) in stores() {
        let big = format!("Subject: big\n\n{}", ".x\n".repeat(200_000));
        append(&*store, &["Andrew"], PLAIN).unwrap();
        append(&*store, &["Andrew"], &big).unwrap();
        append(
            &*store,
            &["Andrew"],
            "From: s@h\nTo: Andrew@h\nSubject:\n\n",
        )
        .unwrap();
        let trace = "Return-Path: <s@h>\nReceived: here\n";
        assert_eq!(
            messages(&*store, "Andrew"),
            [
                PLAIN.to_owned(),
                format!("{trace}{big}"),
                "From: s@h\nTo: Andrew@h\nSubject: \n\n".to_owned(),
            ],
            "{what}"
        );
        let mailbox = store.open(&user("Andrew")).unwrap();
        assert!(mailbox.octets(0).or_else(|| mailbox.octets(4)).is_none());
        assert!(mailbox.read(4).unwrap().is_none());
    }
}

#[test]
fn unique_ids_stay_and_never_come_back() {
    for (what, store) in stores() {
        for _ in 0..4 {
            append(&*store, &["Andrew"], PLAIN).unwrap();
        }
        let before = unique_ids(&*store, "Andrew");
        expunge(&*store, "Andrew", &[1, 3]).unwrap();
        assert_eq!(
            unique_ids(&*store, "Andrew"),
            [before[1].clone(), before[3].clone()],
            "{what}"
        );
        append(&*store, &["Andrew"], PLAIN).unwrap();
        expunge(&*store, "Andrew", &[3]).unwrap();
        expunge(&*store, "Andrew", &[1, 2]).unwrap();
        append(&*store, &["Andrew"], PLAIN).unwrap();
        let after = unique_ids(&*store, "Andrew");
        assert!(
            after.len() == 1 && !before.contains(&after[0]),
            "{what}: {before:?} {after:?}"
        );
    }
}

#[test]
fn only_so_many_mailboxes_are_read_at_once() {
    let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::default());
    let mut handles = handles(8);
    handles.readers = 2 * READER_FILES + 1;
    let store = FileStore::serve(Arc::clone(&disk), handles, quiet()).unwrap();
    append(&store, &["Andrew", "Berta", "Carol"], &plain(1)).unwrap();
    let open = |name| store.open(&user(name));
    let (andrew, _berta) = (open("Andrew").unwrap(), open("Berta").unwrap());
    let error = open("Carol").unwrap_err().to_string();
    assert!(
        error.ends_with("too many mailboxes are open at once"),
        "{error}"
    );
    drop(andrew);
    open("Carol").unwrap();
    visit(disk).open(&user("Carol")).unwrap();
}

#[test]
fn a_maildrop_has_one_session() {
    for (what, store) in stores() {
        let lock = store.lock(&user("Andrew")).unwrap();
        assert!(lock.is_some(), "{what}");
        assert!(store.lock(&user("Andrew")).unwrap().is_none(), "{what}");
        assert!(store.lock(&user("Berta")).unwrap().is_some(), "{what}");
        append(&*store, &["Andrew"], PLAIN).unwrap();
        drop(lock);
        assert!(store.lock(&user("Andrew")).unwrap().is_some(), "{what}");
    }
}

/// A file as an editor on another system leaves it, with a block's edge at every place.
#[test]
fn an_edited_file_is_read_as_it_is_meant() {
    let edited = "From: s@h\r\nTo: a@h\r\nSubject: x\r\nReceived: 2021-03-22 : 14 : 05\r\n..\r\nhi\r\n.\r\njust text\n.\n";
    for filler in [0, 100, 262_000, 262_100, 262_120, 262_130, 262_140, 262_144] {
        let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::default());
        disk.make_directory(Path::new("Andrew")).unwrap();
        let file = disk.open(&mailbox_path("Andrew"), Open::Write).unwrap();
        let filler = format!("{}\n.\n", "x".repeat(filler));
        file.write_at(format!("{filler}{edited}").as_bytes(), 0)
            .unwrap();
        let store = visit(Arc::clone(&disk));
        let read = messages(&store, "Andrew");
        assert_eq!(read.len(), 3);
        let expected = "From: s@h\nTo: a@h\nSubject: x\nDate: Mon, 22 Mar 2021 14:05:00 ";
        assert!(read[1].starts_with(expected), "{}", read[1]);
        assert!(read[1].ends_with("\n\n.\nhi\n"), "{}", read[1]);
        assert!(read[2].ends_with("\n\njust text\n"), "{}", read[2]);
    }
}

#[test]
fn a_server_and_a_visitor_share_a_root() {
    let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::default());
    let (report, findings) = noted();
    let server = FileStore::serve(Arc::clone(&disk), handles(8), report).unwrap();
    let visitor = visit(Arc::clone(&disk));
    assert!(
        FileStore::serve(Arc::clone(&disk), handles(8), quiet()).is_err(),
        "one server at a time"
    );
    for number in 0..3 {
        append(&server, &["Andrew"], &format!("Subject: {number}\n\n")).unwrap();
    }
    expunge(&visitor, "Andrew", &[1]).unwrap();
    append(&server, &["Andrew"], "Subject: 3\n\n").unwrap();
    append(&visitor, &["Andrew"], "Subject: no\n\n").unwrap_err();
    append(&server, &["Andrew", "Berta"], "Subject: 4\n\n").unwrap();
    let subjects: String = mail(&server, "Andrew").concat();
    let subjects: Vec<&str> = subjects
        .lines()
        .filter(|line| line.starts_with("Subject: "))
        .step_by(2)
        .collect();
    assert_eq!(
        subjects,
        ["Subject: 1", "Subject: 2", "Subject: 3", "Subject: 4"]
    );
    server.close();
    assert_eq!(findings.lock().unwrap().as_slice(), [] as [&str; 0]);
    assert_eq!(
        disk.names(Path::new("")).unwrap(),
        ["Andrew", "Berta"],
        "nothing is left behind"
    );
}

#[test]
fn a_torn_record_is_set_aside() {
    let whole = "From: a\nTo: b\nSubject: old\nReceived: T\nhi\n.\n";
    for torn in [
        "From: x@loc",
        "From: x\nTo: y\nhi\n.",
        "\0\0\0\0",
        "From: x\n..\n",
    ] {
        let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::default());
        disk.make_directory(Path::new("Andrew")).unwrap();
        let path = mailbox_path("Andrew");
        let file = disk.open(&path, Open::Write).unwrap();
        file.write_at(format!("{whole}{torn}").as_bytes(), 0)
            .unwrap();
        let store = visit(Arc::clone(&disk));
        assert_eq!(
            store.open(&user("Andrew")).unwrap().torn_octets(),
            torn.len() as u64
        );
        deliver(&disk, &["Andrew"], PLAIN);
        let records = mail(&store, "Andrew");
        assert_eq!(records.len(), 2, "{torn:?}");
        assert_eq!(records[0], whole, "{torn:?}");
        let names = disk.names(Path::new("Andrew")).unwrap();
        let aside = names
            .iter()
            .find(|name| name.starts_with("mymailbox.torn-"))
            .unwrap();
        let kept = disk::read(&*disk, &Path::new("Andrew").join(aside))
            .unwrap()
            .unwrap();
        assert_eq!(kept, torn.as_bytes());
    }
}

// --- power cuts and failing disks ---

/// Sends a short script of messages; gives the subjects that were acknowledged, and those whose
/// outcome is open.
fn script(disk: &SimulatedDisk, settings: Settings) -> (Vec<String>, Vec<String>) {
    let (mut acknowledged, mut open) = (Vec::new(), Vec::new());
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut committer = Committer::new(Arc::clone(&disk), settings, quiet());
    for number in 0..6 {
        // Batches of one and two, one and two recipients, small and large, and one of both.
        let is_large = |part| matches!((number, part), (3 | 4, _) | (5, 0));
        let jobs: Vec<Arc<Job>> = (0..=number % 2)
            .map(|part| job(&format!("{number}.{part}"), is_large(part), number != 2))
            .collect();
        let subjects: Vec<String> = (0..=number % 2)
            .map(|part| format!("{number}.{part}"))
            .collect();
        for (subject, outcome) in subjects.into_iter().zip(committer.commit(&jobs)) {
            match outcome {
                Ok(()) => acknowledged.push(subject),
                Err(AppendError::Unknown(_)) => open.push(subject),
                // A message that was refused while the power went may be there or not.
                Err(_) if disk.status(Path::new("x")).is_err() => open.push(subject),
                // Nobody sees it meanwhile: it may come again.
                Err(_) => assert!(!is_to_be_seen(&*disk, &subject), "{subject}: {settings:?}"),
            }
        }
    }
    if committer.close().is_err() {
        // The next start recovers.
    }
    (acknowledged, open)
}

/// Whether a message of this subject is in a mailbox for who reads it now.
fn is_to_be_seen(disk: &dyn Disk, subject: &str) -> bool {
    let needle = format!("\nSubject: {subject}\n");
    ["Andrew", "Berta"].iter().any(|name| {
        let octets = disk::read(disk, &mailbox_path(name)).unwrap();
        let octets = octets.unwrap_or_default();
        memchr::memmem::find(&octets, needle.as_bytes()).is_some()
    })
}

fn job(subject: &str, is_large: bool, is_for_both: bool) -> Arc<Job> {
    let lines = if is_large { LARGE_LINES } else { 40 };
    let text = format!(
        "Subject: {subject}\n\n{}end {subject}\n.\n",
        "abc\n".repeat(lines)
    );
    let users = if is_for_both {
        &["Andrew", "Berta"][..]
    } else {
        &["Andrew"]
    };
    let record = |name: &&str| JobRecord {
        user: user(name),
        head: format!("From: s@h\nTo: {name}\nSubject: {subject}\nReceived: T\n").into_bytes(),
        plain_body: None,
    };
    Arc::new(Job {
        records: users.iter().map(record).collect(),
        trace: b"Return-Path: <s@h>\nReceived: here\n".to_vec(),
        text: Text::from(text.into_bytes()),
    })
}

/// How often each subject is in a mailbox. Every record must be whole.
fn subjects(disk: &dyn Disk, name: &str, when: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    let Some(octets) = disk::read(disk, &mailbox_path(name)).unwrap() else {
        return found;
    };
    let file = disk.open(&mailbox_path(name), Open::Read).unwrap();
    let spans: Vec<Span> = entries(&*file).iter().map(|entry| entry.span).collect();
    assert_eq!(
        spans.last().map_or(0, Span::end),
        octets.len() as u64,
        "{when}: torn {name}"
    );
    for span in spans {
        let end = usize::try_from(span.end()).unwrap();
        let record = &octets[end - usize::try_from(span.octets).unwrap()..end];
        let record = std::str::from_utf8(record).unwrap();
        let subject = record
            .lines()
            .nth(2)
            .unwrap()
            .strip_prefix("Subject: ")
            .unwrap();
        let is_large = subject.starts_with('3') || octets.len() > 20_000 && record.len() > 20_000;
        let lines = if is_large { LARGE_LINES } else { 40 };
        let whole = format!(
            "From: s@h\nTo: {name}\nSubject: {subject}\nReceived: T\nReturn-Path: <s@h>\n\
             Received: here\nSubject: {subject}\n\n{}end {subject}\n.\n",
            "abc\n".repeat(lines)
        );
        assert!(record == whole, "{when}: damaged {name} {subject}");
        *found.entry(subject.to_owned()).or_insert(0) += 1;
    }
    found
}

fn check(disk: &SimulatedDisk, acknowledged: &[String], open: &[String], when: &str) {
    let andrew = subjects(disk, "Andrew", when);
    let berta = subjects(disk, "Berta", when);
    for (subject, count) in andrew.iter().chain(&berta) {
        assert_eq!(*count, 1, "{when}: {subject} is there twice");
        let is_known = acknowledged.contains(subject) || open.contains(subject);
        assert!(is_known, "{when}: {subject} was refused and is there");
    }
    for subject in acknowledged {
        assert!(andrew.contains_key(subject), "{when}: {subject} is lost");
    }
    // Both recipients or none, whatever was answered.
    for subject in acknowledged
        .iter()
        .chain(open)
        .filter(|subject| !subject.starts_with('2'))
    {
        let (a, b) = (andrew.contains_key(subject), berta.contains_key(subject));
        assert_eq!(a, b, "{when}: {subject} is with one of two recipients");
    }
}

fn recover(disk: &SimulatedDisk) -> io::Result<()> {
    recovery::recover(disk, Tail::Doubtful, &quiet())
}

const CUTS: [Cut; 6] = [
    Cut::Drop,
    Cut::Keep,
    Cut::Torn(1),
    Cut::Torn(2),
    Cut::Torn(3),
    Cut::Torn(4),
];

/// All states that a power cut may leave, or two of them where there are many cuts to look at.
fn cuts(settings: Settings, operation: u64) -> Vec<Cut> {
    let is_long = settings.part_octets_max < 1024;
    let first = usize::try_from(operation).unwrap();
    let chosen = [CUTS[first % 6], CUTS[(first + 3) % 6]];
    if is_long {
        chosen.to_vec()
    } else {
        CUTS.to_vec()
    }
}

/// With handles for all mailboxes, with fewer than a message has recipients, and with a journal
/// that is full after each message.
const SETTINGS: [Settings; 4] = [
    settings(8, 16 * 1024),
    settings(1, 16 * 1024),
    settings(8, 300),
    settings(1, 300),
];

const fn settings(handles_max: usize, part_octets_max: u64) -> Settings {
    Settings {
        handles_max,
        part_octets_max,
        in_background: false,
    }
}

#[test]
fn no_power_cut_loses_doubles_or_tears_mail() {
    for settings in SETTINGS {
        let whole = SimulatedDisk::default();
        let (acknowledged, open) = script(&whole, settings);
        assert_eq!((acknowledged.len(), open.len()), (9, 0));
        let operations = whole.operations();
        assert!(operations > 40, "{operations} operations");
        for operation in 1..=operations {
            cut_at(operation, settings);
        }
    }
}

fn cut_at(operation: u64, settings: Settings) {
    let disk = SimulatedDisk::default();
    disk.cut_at(operation);
    let (acknowledged, mut open) = script(&disk, settings);
    for number in 0..6 {
        open.extend((0..=number % 2).map(|part| format!("{number}.{part}")));
    }
    for cut in cuts(settings, operation) {
        let after = disk.restart(cut);
        let when = format!("cut {cut:?} at {operation} with {settings:?}");
        recover(&after).unwrap();
        check(&after, &acknowledged, &open, &when);
        // Once more, with the recovery itself cut short at some operation.
        let first = disk.restart(cut);
        first.cut_at(operation % 7 + 1);
        drop(recover(&first));
        let again = first.restart(CUTS[usize::try_from(operation % 6).unwrap()]);
        recover(&again).unwrap();
        check(
            &again,
            &acknowledged,
            &open,
            &format!("{when}, then in recovery"),
        );
        // And mail goes on.
        let disk: Arc<dyn Disk> = Arc::new(again.clone());
        let outcome = Committer::new(disk, SETTINGS[0], quiet()).commit(&[job("9.9", false, true)]);
        assert_eq!(outcome, [Ok(())], "{when}");
    }
}

/// Whoever waited for the write lock may have it before a server that is killed has let go of its own.
#[test]
fn whoever_comes_while_the_server_dies_keeps_nothing_half_done() {
    let server_lock = Path::new(SERVER_LOCK_NAME);
    for operation in 1.. {
        let disk = SimulatedDisk::default();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let lock = shared.lock(server_lock, false).unwrap().unwrap();
        lock.set_at_rest(true).unwrap();
        let mut committer = Committer::new(shared, SETTINGS[0], quiet()).of_server(lock);
        let mut acknowledged = vec!["0.0".to_owned()];
        assert_eq!(committer.commit(&[job("0.0", false, true)]), [Ok(())]);
        assert_eq!(disk.holder(server_lock).unwrap(), Holder::AtRest);
        disk.cut_at(disk.operations() + operation);
        let outcomes = committer.commit(&[job("1.0", false, true), job("3.0", true, true)]);
        let open = ["1.0".to_owned(), "3.0".to_owned()];
        let is_done = outcomes == [Ok(()), Ok(())];
        if is_done {
            acknowledged.extend(open.clone());
        }
        for is_reader in [true, false] {
            let after = disk.dying(Path::new(WRITE_LOCK_NAME));
            let visitor = visit(Arc::new(after.clone()));
            if is_reader {
                visitor.open(&user("Andrew")).unwrap();
            } else {
                visitor.create(&user("Carlos")).unwrap();
            }
            let when = format!("cut at {operation}, is_reader {is_reader}");
            check(&after, &acknowledged, &open, &when);
        }
        if is_done {
            assert!(operation > 5, "{operation}");
            return;
        }
    }
}

#[test]
fn no_failing_operation_loses_doubles_or_tears_mail() {
    for settings in SETTINGS {
        let whole = SimulatedDisk::default();
        script(&whole, settings);
        for operation in 1..=whole.operations() {
            for kind in [io::ErrorKind::StorageFull, io::ErrorKind::Other] {
                let disk = SimulatedDisk::default();
                disk.fail_at(operation, kind);
                let (acknowledged, open) = script(&disk, settings);
                let when = format!("{kind:?} at {operation} with {settings:?}");
                assert!(
                    acknowledged.len() + open.len() >= 6,
                    "{when}: {acknowledged:?}"
                );
                for cut in cuts(settings, operation) {
                    let after = disk.restart(cut);
                    recover(&after).unwrap();
                    check(
                        &after,
                        &acknowledged,
                        &open,
                        &format!("{when}, then {cut:?}"),
                    );
                }
            }
        }
    }
}

#[test]
fn no_row_of_failures_loses_doubles_or_tears_mail() {
    for seed in 0..120 {
        let disk = SimulatedDisk::default();
        // A start that goes well, and then a disk that fails at every corner.
        let settings = SETTINGS[usize::try_from(seed / 4 % 4).unwrap()];
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let mut committer = Committer::new(Arc::clone(&shared), settings, quiet());
        let (mut acknowledged, mut open) = (Vec::new(), Vec::new());
        for number in 0..16 {
            disk.fail_often(
                [0, 6, 12, 25][usize::try_from(seed % 4).unwrap()],
                seed + number,
            );
            let subjects: Vec<String> = (0..=number % 3)
                .map(|part| format!("{}.{number}.{part}", 4 + seed % 3))
                .collect();
            let jobs: Vec<Arc<Job>> = subjects
                .iter()
                .map(|subject| job(subject, number % 5 == 4, true))
                .collect();
            for (subject, outcome) in subjects.into_iter().zip(committer.commit(&jobs)) {
                match outcome {
                    Ok(()) => acknowledged.push(subject),
                    Err(AppendError::Unknown(_)) => open.push(subject),
                    Err(_) => {}
                }
            }
        }
        for cut in CUTS {
            let after = disk.restart(cut);
            recover(&after).unwrap();
            // Torn octets are set aside with the next message.
            let next = Committer::new(Arc::new(after.clone()), SETTINGS[0], quiet())
                .commit(&[job("0.1", false, true)]);
            assert_eq!(next, [Ok(())]);
            let mut acknowledged = acknowledged.clone();
            acknowledged.push("0.1".to_owned());
            check(
                &after,
                &acknowledged,
                &open,
                &format!("seed {seed}, {cut:?}"),
            );
        }
    }
}

/// A mailbox of ten messages on a disk where all of it is durable.
fn ten_messages() -> SimulatedDisk {
    let disk = SimulatedDisk::default();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let store = serve(shared);
    for number in 0..10 {
        append(&store, &["Andrew"], &plain(number)).unwrap();
    }
    store.close();
    disk
}

/// A plain one, whose unique-id depends on what was removed. Two pairs of them are equal.
fn plain(number: usize) -> String {
    let number = number - usize::from(matches!(number, 5 | 9));
    let head = "From: s@h\nTo: Andrew@h\nSubject:";
    format!("{head} {number}\n\n{}", "hello\n".repeat(20))
}

/// The same files with other identities, as in a backup.
fn copied(disk: &SimulatedDisk) -> SimulatedDisk {
    let copy = SimulatedDisk::default();
    copy.open(Path::new("another"), Open::New).unwrap();
    copy.make_directory(Path::new("Andrew")).unwrap();
    for directory in ["", "Andrew"].map(Path::new) {
        for name in disk.names(directory).unwrap() {
            let path = directory.join(name);
            // Directories are no files.
            if let Ok(Some(octets)) = disk::read(disk, &path) {
                let file = copy.open(&path, Open::New).unwrap();
                file.write_at(&octets, 0).unwrap();
            }
        }
    }
    copy
}

/// Deletes these messages while the disk cuts out or fails at each operation, and looks whether all
/// of them are gone or none.
fn expunge_at_every_operation(numbers: &[usize]) {
    let begin = ten_messages();
    let store = visit(Arc::new(begin.clone()));
    let look = |store: &FileStore| (mail(store, "Andrew"), unique_ids(store, "Andrew"));
    let before = look(&store);
    let mut after = before.clone();
    for number in numbers.iter().rev() {
        after.0.remove(number - 1);
        after.1.remove(number - 1);
    }
    let whole = begin.restart(Cut::Drop);
    let store = visit(Arc::new(whole.clone()));
    let seen = seen(&store, "Andrew", numbers);
    store.expunge(&user("Andrew"), &seen).unwrap();
    assert_eq!(look(&store), after);
    let operations = whole.operations();
    assert!(operations > 5, "{operations}");
    for operation in 1..=operations {
        for failure in [
            None,
            Some(io::ErrorKind::Other),
            Some(io::ErrorKind::StorageFull),
        ] {
            let disk = begin.restart(Cut::Drop);
            match failure {
                None => disk.cut_at(operation),
                Some(kind) => disk.fail_at(operation, kind),
            }
            let store = visit(Arc::new(disk.clone()));
            let expunged = store.expunge(&user("Andrew"), &seen);
            for cut in CUTS {
                let what = format!("{numbers:?}, {operation}, {failure:?}, {cut:?}");
                let equal = plain(numbers[0] - 1);
                let next = |disk: Arc<dyn Disk>| {
                    deliver(&disk, &["Andrew"], &equal);
                    let next = unique_ids(&visit(disk), "Andrew").pop();
                    let is_new = next.as_ref().is_some_and(|next| !before.1.contains(next));
                    assert!(is_new, "{what}: {next:?} had been removed");
                };
                // Somebody looks at it first, or nobody.
                next(Arc::new(disk.restart(cut)));
                let killed = disk.restart(cut);
                let is_known = |found: &_| *found == before || *found == after;
                let copy = look(&visit(Arc::new(copied(&killed))));
                assert!(is_known(&copy), "{what}, copied: {:?}", copy.1);
                let disk: Arc<dyn Disk> = Arc::new(killed.clone());
                let store = visit(Arc::clone(&disk));
                let found = look(&store);
                assert!(is_known(&found), "{what}: {:?}", found.1);
                let later = look(&visit(Arc::new(killed.restart(Cut::Drop))));
                assert!(is_known(&later), "{what}, and cut: {:?}", later.1);
                assert!(expunged.is_err() || found == after, "{what}");
                next(disk);
                assert_eq!(mail(&store, "Andrew").len(), found.0.len() + 1, "{what}");
            }
        }
    }
}

/// A server in the middle of a batch: what it has written may be taken back.
struct Batch {
    file: Box<dyn File>,
    end: u64,
    server_lock: Box<dyn Lock>,
    _write_lock: Box<dyn Lock>,
}

impl Batch {
    /// For a mailbox that has this many messages by then, and would have one more.
    fn begin(disk: &Arc<dyn Disk>, count: usize) -> Self {
        let lock = |name| disk.lock(Path::new(name), false).unwrap().unwrap();
        let server_lock = lock(SERVER_LOCK_NAME);
        let mut committer = Committer::new(Arc::clone(disk), SETTINGS[0], quiet());
        for number in 0..count {
            let job = job(&number.to_string(), false, false);
            assert_eq!(committer.commit(&[job]), [Ok(())]);
        }
        let write_lock = lock(WRITE_LOCK_NAME);
        server_lock.set_at_rest(false).unwrap();
        let file = disk.open(&mailbox_path("Andrew"), Open::Write).unwrap();
        let end = file.status().unwrap().octets;
        let record = b"From: s@h\nTo: Andrew@h\nSubject: x\nReceived: T\nhello\n.\n";
        file.write_at(record, end).unwrap();
        Self {
            file,
            end,
            server_lock,
            _write_lock: write_lock,
        }
    }

    fn take_back(self) {
        self.file.truncate(self.end).unwrap();
        self.server_lock.set_at_rest(true).unwrap();
    }
}

#[test]
fn a_reader_waits_for_the_end_of_a_batch() {
    let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::default());
    let batch = Batch::begin(&disk, 3);
    let (sender, counts) = mpsc::channel();
    let reader = visit(Arc::clone(&disk));
    let reader = std::thread::spawn(move || {
        let count = reader.open(&user("Andrew")).unwrap().count();
        sender.send(count).unwrap();
    });
    let early = counts.recv_timeout(Duration::from_millis(50));
    assert!(early.is_err(), "{early:?} messages before the end");
    batch.take_back();
    assert_eq!(counts.recv().unwrap(), 3);
    reader.join().unwrap();
}

/// Some batches take longer than anybody should wait.
#[test]
fn a_reader_who_cannot_wait_asks_the_journal() {
    let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::default());
    let batch = Batch::begin(&disk, 3);
    let reader = visit(Arc::clone(&disk));
    for _ in 0..2 {
        assert_eq!(mail(&reader, "Andrew").len(), 3);
    }
    batch.take_back();
    assert_eq!(mail(&reader, "Andrew").len(), 3);
}

/// A server that starts has to bring the root up first.
#[test]
fn a_reader_beside_a_recovery_sees_what_counts() {
    let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::default());
    drop(Batch::begin(&disk, 3));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (heard, root) = (Arc::clone(&seen), Arc::clone(&disk));
    let report: Reporter = Arc::new(move |_| {
        // In the middle of it: something was set aside.
        let count = visit(Arc::clone(&root))
            .open(&user("Andrew"))
            .unwrap()
            .count();
        heard.lock().unwrap().push(count);
    });
    let server = FileStore::serve(Arc::clone(&disk), handles(8), report).unwrap();
    assert_eq!(mail(&server, "Andrew").len(), 3);
    server.close();
    assert_eq!(*seen.lock().unwrap(), [3]);
}

#[test]
fn what_somebody_reads_stays_as_it_is() {
    for numbers in [&[10][..], &[9], &[1]] {
        let disk: Arc<dyn Disk> = Arc::new(ten_messages());
        let reader = visit(Arc::clone(&disk));
        let before = reader.open(&user("Andrew")).unwrap();
        let record = |number| {
            let mut record = Vec::new();
            assert!(before.copy(number, &mut record).unwrap());
            record
        };
        let known: Vec<Vec<u8>> = (1..=10).map(record).collect();
        expunge(&visit(Arc::clone(&disk)), "Andrew", numbers).unwrap();
        deliver(&disk, &["Andrew"], "Subject: new\n\nanother\n");
        for number in 1..=10 {
            assert_eq!(record(number), known[number - 1], "{numbers:?}, {number}");
        }
        assert_eq!(mail(&reader, "Andrew").len(), 10);
    }
}

/// What numbers a mailbox belongs to it, and not to the one that came to its place.
#[test]
fn what_was_removed_is_known_of_the_mailbox_that_is_read() {
    let disk: Arc<dyn Disk> = Arc::new(ten_messages());
    let path = mailbox_path("Andrew");
    let file = disk.open(&path, Open::Read).unwrap();
    file.keep().unwrap();
    let removed = |file: &dyn File| table::removed(&*disk, &path, file).unwrap();
    assert!(removed(&*file).is_some());
    expunge(&visit(Arc::clone(&disk)), "Andrew", &[1]).unwrap();
    assert!(removed(&*file).is_none());
    assert!(removed(&*disk.open(&path, Open::Read).unwrap()).is_some());
}

#[test]
fn only_what_was_seen_is_deleted() {
    for (what, store) in stores() {
        append(&*store, &["Andrew"], "Subject: 1\n\n").unwrap();
        append(&*store, &["Andrew"], "Subject: 2\n\n").unwrap();
        let seen = seen(&*store, "Andrew", &[1, 2]);
        expunge(&*store, "Andrew", &[2]).unwrap();
        append(&*store, &["Andrew"], "Subject: 3\n\n").unwrap();
        let missing = store.expunge(&user("Andrew"), &seen).unwrap();
        assert_eq!(
            (missing, mail(&*store, "Andrew").len()),
            (vec![2], 2),
            "{what}"
        );
    }
}

#[test]
fn the_last_message_is_deleted_or_not() {
    expunge_at_every_operation(&[10]);
}

#[test]
fn a_message_near_the_end_is_deleted_or_not() {
    expunge_at_every_operation(&[8]);
}

#[test]
fn messages_near_the_end_are_deleted_all_or_none() {
    expunge_at_every_operation(&[8, 9]);
}

#[test]
fn messages_in_the_middle_are_deleted_all_or_none() {
    expunge_at_every_operation(&[2, 5]);
}

#[test]
fn the_end_of_a_mailbox_moves_up_in_its_place() {
    let disk: Arc<dyn Disk> = Arc::new(ten_messages());
    let inode = || {
        let status = disk.status(&mailbox_path("Andrew")).unwrap();
        status.unwrap().identity
    };
    let store = visit(Arc::clone(&disk));
    let first = inode();
    expunge(&store, "Andrew", &[9]).unwrap();
    assert_eq!((inode(), mail(&store, "Andrew").len()), (first, 9));
    expunge(&store, "Andrew", &[2]).unwrap();
    assert_ne!(inode(), first);
    assert_eq!(mail(&store, "Andrew").len(), 8);
}

/// Enough messages for an index, with twins before and behind its end.
#[test]
fn an_index_says_what_the_mailbox_says() {
    let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::default());
    disk.make_directory(Path::new("Andrew")).unwrap();
    let file = disk.open(&mailbox_path("Andrew"), Open::Write).unwrap();
    let index = Path::new("Andrew/.minismtp.index");
    let record =
        |number: usize| format!("From: s@h\nTo: a@h\nSubject: {number}\nReceived: T\nhello\n.\n");
    let mut text = String::new();
    let mut grow = |numbers: &mut dyn Iterator<Item = usize>| {
        for number in numbers {
            text.push_str(&record(number));
        }
        file.write_at(text.as_bytes(), 0).unwrap();
    };
    let look = |disk: &Arc<dyn Disk>| {
        let store = visit(Arc::clone(disk));
        let mailbox = store.open(&user("Andrew")).unwrap();
        let ids: Vec<String> = (1..=mailbox.count())
            .map(|number| mailbox.unique_id(number).unwrap())
            .collect();
        for (number, id) in (1..).zip(&ids) {
            assert_eq!(mailbox.find(id), Some(number), "{id}");
        }
        (ids, messages(&store, "Andrew"))
    };
    let without_index = |disk: &Arc<dyn Disk>| {
        disk.remove(index).unwrap();
        let looked = look(disk);
        drop(disk.remove(index));
        looked
    };
    grow(&mut (0..1200).map(|number| number % 1100));
    let first = look(&disk);
    assert!(disk.status(index).unwrap().is_some());
    assert_eq!(look(&disk), first);
    // Behind it, with twins of records on both sides.
    grow(&mut (1000..1150));
    let grown = look(&disk);
    assert_eq!(grown.0[..1200], first.0[..]);
    assert_eq!(grown, without_index(&disk));
    // A record less, near the end and in the middle.
    for number in [1340, 500] {
        look(&disk);
        let store = visit(Arc::clone(&disk));
        expunge(&store, "Andrew", &[number]).unwrap();
        assert!(disk.status(index).unwrap().is_some(), "{number}");
        let left = look(&disk);
        assert_eq!(left.0.len(), look(&disk).0.len());
        assert_eq!(left, without_index(&disk), "{number}");
        look(&disk);
    }
}

/// A person's edit is seen, whatever the index says.
#[test]
fn an_index_that_lies_is_not_believed() {
    let record = "From: s@h\nTo: a@h\nSubject: x\nReceived: T\nhello\n.\n";
    type Edit<'a> = (&'a str, &'a dyn Fn(&mut String));
    let edits: [Edit<'_>; 4] = [
        ("shorter", &|text| text.truncate(record.len() * 1100)),
        ("a record more at the start", &|text| {
            text.insert_str(0, record);
        }),
        ("a word changed", &|text| text.replace_range(11..12, "S")),
        ("a line more in the middle", &|text| {
            text.insert_str(record.len() * 600, "more\n");
        }),
    ];
    for (what, edit) in edits {
        let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::default());
        disk.make_directory(Path::new("Andrew")).unwrap();
        let file = disk.open(&mailbox_path("Andrew"), Open::Write).unwrap();
        let mut text = record.repeat(1200);
        file.write_at(text.as_bytes(), 0).unwrap();
        let store = visit(Arc::clone(&disk));
        assert_eq!(store.open(&user("Andrew")).unwrap().count(), 1200);
        let index = Path::new("Andrew/.minismtp.index");
        assert!(disk.status(index).unwrap().is_some());
        edit(&mut text);
        file.truncate(0).unwrap();
        file.write_at(text.as_bytes(), 0).unwrap();
        let found = mail(&store, "Andrew");
        assert_eq!(found.concat(), text, "{what}");
        // Cut short, as by a power cut before it was written.
        let stored = disk.open(index, Open::Write).unwrap();
        let octets = stored.status().unwrap().octets;
        stored.truncate(octets / 2).unwrap();
        assert_eq!(mail(&store, "Andrew").concat(), text, "{what}");
    }
}

/// Records enough for an index, of sizes that differ, and the index is made.
fn indexed(records: &[String]) -> (Arc<dyn Disk>, FileStore) {
    let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::default());
    disk.make_directory(Path::new("Andrew")).unwrap();
    let file = disk.open(&mailbox_path("Andrew"), Open::Write).unwrap();
    file.write_at(records.concat().as_bytes(), 0).unwrap();
    let store = visit(Arc::clone(&disk));
    assert_eq!(mail(&store, "Andrew"), records);
    assert!(disk.status(Path::new(INDEX)).unwrap().is_some());
    (disk, store)
}

const INDEX: &str = "Andrew/.minismtp.index";

fn numbered(count: usize) -> Vec<String> {
    let record = |number: usize| {
        let text = "x".repeat(number % 7);
        format!("From: s@h\nTo: a@h\nSubject: {number}\nReceived: T\n{text}\n.\n")
    };
    (0..count).map(record).collect()
}

/// An editor that writes to the file itself, and as many octets as there were; then mail comes.
#[test]
fn messages_that_a_person_moved_are_not_taken_for_others() {
    for (from, to) in [(5, 900), (9, 10)] {
        let mut records = numbered(1200);
        let (disk, store) = indexed(&records);
        let moved = records.remove(from);
        records.insert(to, moved);
        records.push("From: s@h\nTo: a@h\nSubject: new\nReceived: T\n\n.\n".to_owned());
        let file = disk.open(&mailbox_path("Andrew"), Open::Write).unwrap();
        file.write_at(records.concat().as_bytes(), 0).unwrap();
        let deleted = expunge(&store, "Andrew", &[from + 1]).unwrap();
        if deleted.is_empty() {
            records.remove(from);
        }
        assert_eq!(
            mail(&store, "Andrew"),
            records,
            "{from} to {to}: {deleted:?}"
        );
    }
}

#[test]
fn a_damaged_index_destroys_no_mail() {
    let mut records = numbered(1200);
    let (disk, store) = indexed(&records);
    let (header, entry) = (72, 48);
    for octet in (0..header).chain(header + 1194 * entry..header + 1195 * entry) {
        let index = disk.open(Path::new(INDEX), Open::Write).unwrap();
        let mut flipped = [0];
        index.read_at(&mut flipped, octet).unwrap();
        index
            .write_at(&[flipped[0] ^ 1 << (octet % 8)], octet)
            .unwrap();
        let number = records.len() - 5;
        // Who tries again has it done.
        let missing = expunge(&store, "Andrew", &[number]).unwrap();
        if missing.is_empty() || expunge(&store, "Andrew", &[number]).unwrap().is_empty() {
            records.remove(number - 1);
        }
        assert_eq!(mail(&store, "Andrew"), records, "{octet}");
        drop(disk.remove(Path::new(INDEX)));
        records.push(format!(
            "From: s@h\nTo: a@h\nSubject: {octet}\nReceived: T\n\n.\n"
        ));
        let file = disk.open(&mailbox_path("Andrew"), Open::Write).unwrap();
        file.write_at(records.concat().as_bytes(), 0).unwrap();
        assert_eq!(mail(&store, "Andrew"), records, "{octet}");
    }
}

#[test]
fn a_full_journal_begins_anew() {
    for in_background in [false, true] {
        let disk = SimulatedDisk::default();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let mut committer = Committer::new(
            shared,
            Settings {
                in_background,
                ..settings(8, PART_OCTETS_MAX)
            },
            quiet(),
        );
        let mut expected = 0;
        while expected < 700 {
            let jobs: Vec<Arc<Job>> = (0..50)
                .map(|n| {
                    let mut job = job(&format!("{}", expected + n), false, true);
                    Arc::get_mut(&mut job).unwrap().text =
                        format!("{}.\n", "x\n".repeat(12_000)).into_bytes().into();
                    job
                })
                .collect();
            assert!(committer.commit(&jobs).iter().all(Result::is_ok));
            expected += 50;
        }
        let after = disk.restart(Cut::Drop);
        recover(&after).unwrap();
        for name in ["Andrew", "Berta"] {
            let file = after.open(&mailbox_path(name), Open::Read).unwrap();
            assert_eq!(entries(&*file).len(), 700, "{name}");
        }
    }
}

/// What has no room is no sign that anything else is lost.
#[test]
fn a_large_message_without_room_troubles_nobody() {
    let disk = SimulatedDisk::default();
    let mut committer = Committer::new(Arc::new(disk.clone()), SETTINGS[0], quiet());
    let journal = || {
        disk.status(Path::new(".minismtp.journal"))
            .unwrap()
            .unwrap()
    };
    assert_eq!(committer.commit(&[job("1", false, true)]), [Ok(())]);
    let before = journal().identity;
    let operations = disk.operations();
    for operation in 1..3 {
        disk.fail_at(operations + operation, io::ErrorKind::StorageFull);
    }
    let outcomes = committer.commit(&[job("32", true, true)]);
    assert!(matches!(outcomes[..], [Err(AppendError::NoSpace(_))]));
    assert_eq!(committer.commit(&[job("2", false, true)]), [Ok(())]);
    assert_eq!(journal().identity, before, "nothing had to be recovered");
    let found = subjects(&disk, "Andrew", "without room");
    assert_eq!(found.keys().collect::<Vec<_>>(), ["1", "2"]);
}

#[test]
fn a_spool_is_in_memory_or_in_a_file() {
    let disk = SimulatedDisk::default();
    let shares = Shares::new(3);
    let spool = |octets: usize| {
        let mut spool = Spool::new(Arc::new(disk.clone()), shares.clone());
        for _ in 0..octets / 1000 {
            spool.push(&[b'x'; 1000]).unwrap();
        }
        spool
    };
    let mut large: Vec<Text> = (0..ROOMS)
        .map(|_| spool(101_000).finish().unwrap())
        .collect();
    let small = spool(60_000);
    assert_eq!(disk.operations(), 0, "there is room");
    let without_room = spool(101_000);
    assert!(disk.operations() > 0);
    assert!(!without_room.is_whole() && small.is_whole());
    large.pop();
    assert!(spool(101_000).is_whole(), "who goes makes room");
    assert!(!spool(ROOM_OCTETS + 1000).is_whole());
    let mut shared = spool(101_000);
    shared.move_to_file().unwrap();
    let mut other = spool(101_000);
    other.move_to_file().unwrap();
    let mut one_more = spool(101_000);
    assert!(one_more.move_to_file().is_err(), "there are three files");
    drop(other);
    one_more.move_to_file().unwrap();
    drop(one_more);
    let copies = [shared.copy(), shared, without_room];
    let found = disk.names(Path::new("")).unwrap();
    assert_eq!(found, [] as [&str; 0], "it has no name");
    for text in copies.map(Spool::finish).map(Result::unwrap) {
        assert!(matches!(text, Text::File { .. }));
        assert_eq!(text.octets(), 101_000 + 3);
    }
}

/// Emptied while the server runs: the person is right.
/// What stands in a mailbox's place now is no file: that is true for all messages that come together.
#[test]
fn a_mailbox_that_has_become_a_directory_takes_no_message_of_a_batch() {
    let root = std::env::temp_dir().join(format!("minismtp-directory-{}", std::process::id()));
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&root).unwrap());
    let mut committer = Committer::new(Arc::clone(&disk), SETTINGS[0], quiet());
    assert_eq!(committer.commit(&[job("0.0", false, false)]), [Ok(())]);
    let path = mailbox_path("Andrew");
    disk.remove(&path).unwrap();
    std::fs::create_dir(root.join(&path)).unwrap();
    let outcomes = committer.commit(&[job("0.1", false, false), job("0.2", false, false)]);
    drop(committer.close());
    std::fs::remove_dir_all(&root).unwrap();
    for outcome in outcomes {
        assert!(
            matches!(outcome, Err(AppendError::Failed(_))),
            "{outcome:?}"
        );
    }
}

#[test]
fn a_mailbox_that_two_users_share_is_refused_and_a_renamed_one_is_not() {
    let root = std::env::temp_dir().join(format!("minismtp-shared-{}", std::process::id()));
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&root).unwrap());
    let [andrew, berta] = ["Andrew", "Berta"].map(|name| root.join(mailbox_path(name)));
    let mut committer = Committer::new(Arc::clone(&disk), SETTINGS[0], quiet());
    assert_eq!(committer.commit(&[job("0.0", false, false)]), [Ok(())]);
    disk.make_directory(Path::new("Berta")).unwrap();
    std::fs::hard_link(&andrew, &berta).unwrap();
    let shared = committer.commit(&[job("0.1", false, true), job("0.2", false, false)]);
    std::fs::remove_file(&andrew).unwrap();
    let renamed = committer.commit(&[job("0.3", false, true)]);
    drop(committer.close());
    let found = ["Andrew", "Berta"].map(|name| mail(&visit(Arc::clone(&disk)), name).len());
    std::fs::remove_dir_all(&root).unwrap();
    assert!(
        matches!(&shared[..], [Err(AppendError::Failed(why)), Ok(())] if why.contains("the same file")),
        "{shared:?}"
    );
    assert_eq!(renamed, [Ok(())]);
    assert_eq!(found, [1, 3]);
}

#[test]
fn a_person_who_empties_a_mailbox_is_right() {
    let disk = SimulatedDisk::default();
    let mut committer = Committer::new(Arc::new(disk.clone()), SETTINGS[0], quiet());
    assert_eq!(committer.commit(&[job("0.0", false, true)]), [Ok(())]);
    let path = mailbox_path("Andrew");
    disk.open(&path, Open::Write).unwrap().truncate(0).unwrap();
    let (report, findings) = noted();
    recovery::recover(&disk, Tail::KeepWhole, &report).unwrap();
    assert_eq!(findings.lock().unwrap().len(), 1, "{findings:?}");
    assert_eq!(disk::read(&disk, &path).unwrap().unwrap(), b"");
}

/// Restored from a backup after a crash: what was acknowledged is there, and so is the backup.
#[test]
fn a_backup_in_the_place_of_a_mailbox_is_kept() {
    for keep in [20, 0] {
        let disk = SimulatedDisk::default();
        let mut committer = Committer::new(Arc::new(disk.clone()), SETTINGS[0], quiet());
        assert_eq!(committer.commit(&[job("0.0", false, true)]), [Ok(())]);
        if keep == 0 {
            // One too short for the records of this run.
            committer.close().unwrap();
            assert_eq!(committer.commit(&[job("1.0", false, true)]), [Ok(())]);
        }
        let path = mailbox_path("Andrew");
        disk.remove(&path).unwrap();
        let backup = "From: x@y\nTo: z\nSubject: backup\nReceived: T\nhi\n.\n".repeat(keep);
        disk.open(&path, Open::New)
            .unwrap()
            .write_at(backup.as_bytes(), 0)
            .unwrap();
        recover(&disk).unwrap();
        let mut all = Vec::new();
        for name in disk.names(Path::new("Andrew")).unwrap() {
            all.extend(
                disk::read(&disk, &Path::new("Andrew").join(name))
                    .unwrap()
                    .unwrap(),
            );
        }
        let all = String::from_utf8(all).unwrap();
        assert!(all.matches("Subject: backup").count() >= keep, "{all}");
        assert!(
            all.contains(if keep == 0 {
                "end 1.0\n.\n"
            } else {
                "end 0.0\n.\n"
            }),
            "{all}"
        );
    }
}

/// The root is copied elsewhere with its journal, before it was recovered: other files, the same
/// mail, torn at any block.
#[test]
fn a_copy_of_a_root_is_recovered() {
    for pad in 0..40 {
        let disk = SimulatedDisk::default();
        let mut first = job("0.0", false, true);
        Arc::get_mut(&mut first).unwrap().text = format!("{}.\n", "pad\n".repeat(60 + 3 * pad))
            .into_bytes()
            .into();
        let mut committer = Committer::new(Arc::new(disk.clone()), SETTINGS[0], quiet());
        assert_eq!(committer.commit(&[first]), [Ok(())]);
        committer.close().unwrap();
        let path = mailbox_path("Andrew");
        let before = disk::read(&disk, &path).unwrap().unwrap().len();
        assert_eq!(committer.commit(&[job("1.0", false, true)]), [Ok(())]);
        let whole = disk::read(&disk, &path).unwrap().unwrap();
        let edges = (before..whole.len()).filter(|at| at % 512 == 0);
        for (keep, length) in edges.flat_map(|at| [(at, whole.len()), (at, at)]) {
            let copy = SimulatedDisk::default();
            copy.open(Path::new("another"), Open::Write).unwrap();
            for directory in ["Andrew", "Berta"] {
                copy.make_directory(Path::new(directory)).unwrap();
            }
            for path in [mailbox_path("Berta"), ".minismtp.journal".into()] {
                let octets = disk::read(&disk, &path).unwrap().unwrap();
                copy.open(&path, Open::New)
                    .unwrap()
                    .write_at(&octets, 0)
                    .unwrap();
            }
            let torn = copy.open(&path, Open::New).unwrap();
            torn.write_at(&whole[..keep], 0).unwrap();
            torn.truncate(length as u64).unwrap();
            recover(&copy).unwrap();
            let recovered = disk::read(&copy, &path).unwrap().unwrap();
            assert!(recovered == whole, "torn at {keep} of {length}");
        }
    }
}

/// An edited mailbox is opened anew, and that fails: what was acknowledged before must still reach
/// the disk.
#[test]
fn a_mailbox_that_cannot_be_opened_again_keeps_what_it_owes() {
    for failure in 0..40 {
        let disk = SimulatedDisk::default();
        let mut committer = Committer::new(Arc::new(disk.clone()), SETTINGS[0], quiet());
        assert_eq!(committer.commit(&[job("0.0", false, true)]), [Ok(())]);
        let path = mailbox_path("Andrew");
        let file = disk.open(&path, Open::Write).unwrap();
        file.write_at(b"From: torn", file.status().unwrap().octets)
            .unwrap();
        disk.fail_at(disk.operations() + failure, io::ErrorKind::Other);
        let outcome = committer.commit(&[job("1.0", false, true)]).remove(0);
        drop(committer.close());
        let after = disk.restart(Cut::Drop);
        recover(&after).unwrap();
        // The next message has the torn octets set aside.
        let next = Committer::new(Arc::new(after.clone()), SETTINGS[0], quiet())
            .commit(&[job("0.1", false, true)]);
        assert_eq!(next, [Ok(())]);
        let mut acknowledged = vec!["0.0".to_owned(), "0.1".to_owned()];
        acknowledged.extend(outcome.is_ok().then(|| "1.0".to_owned()));
        check(
            &after,
            &acknowledged,
            &["1.0".to_owned()],
            &format!("failure {failure}"),
        );
    }
}

#[test]
fn more_recipients_than_handles_get_their_mail() {
    let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::default());
    let store = FileStore::serve(Arc::clone(&disk), handles(4), quiet()).unwrap();
    let names: Vec<String> = (0..50).map(|number| format!("user{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for _ in 0..3 {
        append(&store, &names, PLAIN).unwrap();
        append(
            &store,
            &names[10..20],
            &format!("Subject: big\n\n{}", "x\n".repeat(40_000)),
        )
        .unwrap();
    }
    store.close();
    for (number, name) in names.iter().enumerate() {
        let expected = if (10..20).contains(&number) { 6 } else { 3 };
        assert_eq!(mail(&store, name).len(), expected, "{name}");
    }
}

#[test]
fn of_a_long_header_section_nobody_knows_the_end() {
    let (_, store) = stores().remove(1);
    let folded = " \n".repeat(ROOM_OCTETS);
    let text = format!("Subject: x\nTo: Andrew@h\nFrom: s@h\n{folded}X-Signature: abc\n\nhi\n");
    append(&*store, &["Andrew"], &text).unwrap();
    assert!(mail(&*store, "Andrew")[0].contains("\nReturn-Path: <s@h>\n"));
    assert!(messages(&*store, "Andrew")[0].ends_with(&text));
}

/// A visitor may die, or fail, between the removal of the journal's two files.
#[test]
fn a_journal_that_is_removed_by_half_loses_nothing() {
    let mut half = 0;
    for failing in 1..60 {
        let disk = SimulatedDisk::default();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let mut committer = Committer::new(Arc::clone(&shared), settings(8, 4096), quiet());
        let mut acknowledged = Vec::new();
        let mut send = |committer: &mut Committer, count: usize| {
            for _ in 0..count {
                let subject = format!("0.{}", acknowledged.len());
                assert_eq!(committer.commit(&[job(&subject, false, true)]), [Ok(())]);
                acknowledged.push(subject);
            }
        };
        send(&mut committer, 25);
        disk.fail_at(disk.operations() + failing, io::ErrorKind::Other);
        // A visitor who wants to delete something; the server is at rest.
        let visited = recovery::recover(&disk, Tail::KeepWhole, &quiet());
        let left = super::journal::identities(&disk).unwrap();
        if visited.is_ok() {
            break;
        }
        half += usize::from(left.iter().flatten().count() == 1);
        send(&mut committer, 40);
        let when = format!("{visited:?} at {failing}, left {left:?}");
        // Nothing crashed.
        check(&disk, &acknowledged, &[], &when);
        let after = disk.restart(Cut::Keep);
        recover(&after).unwrap();
        check(&after, &acknowledged, &[], &when);
    }
    assert!(half > 0);
}

/// Who cannot mend a mailbox that is half moved up must not take it for mail.
#[test]
fn a_mailbox_that_is_half_moved_up_is_not_read() {
    let mut refused = 0;
    for failing in 1..40 {
        let disk = ten_messages();
        let visitor = visit(Arc::new(disk.clone()));
        let before = mail(&visitor, "Andrew");
        let messages = seen(&visitor, "Andrew", &[8]);
        disk.fail_at(disk.operations() + failing, io::ErrorKind::Other);
        if visitor.expunge(&user("Andrew"), &messages).is_ok() {
            break;
        }
        // As where an error has the file system mounted read-only.
        disk.fail_often(1, 1);
        let Ok(mailbox) = visitor.open(&user("Andrew")) else {
            refused += 1;
            continue;
        };
        let read = (1..=mailbox.count()).map(|number| {
            let mut record = Vec::new();
            mailbox.copy(number, &mut record).unwrap();
            String::from_utf8(record).unwrap()
        });
        let read: Vec<String> = read.collect();
        let mut after = before.clone();
        after.remove(7);
        assert!(
            read == before || read == after,
            "failing {failing}: {read:#?}"
        );
    }
    assert!(refused < 10, "{refused}");
}

/// Who removes the journal may die, or fail, before that is durable; who comes next finds none.
#[test]
fn what_is_deleted_stays_deleted_though_an_earlier_visitor_failed() {
    let mut unnoticed = 0;
    for failing in 1..40 {
        let disk = SimulatedDisk::default();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let mut committer = Committer::new(Arc::clone(&shared), SETTINGS[0], quiet());
        assert_eq!(committer.commit(&[job("0.0", false, true)]), [Ok(())]);
        disk.fail_at(disk.operations() + failing, io::ErrorKind::Other);
        if recover(&disk).is_ok() {
            break;
        }
        unnoticed += usize::from(!super::journal::exists(&disk).unwrap());
        let visitor = visit(Arc::clone(&shared));
        assert_eq!(expunge(&visitor, "Berta", &[1]).unwrap(), [0; 0]);
        let after = disk.restart(Cut::Drop);
        recover(&after).unwrap();
        let berta = subjects(&after, "Berta", "");
        assert!(berta.is_empty(), "failing {failing}: {berta:?} came back");
    }
    assert!(unnoticed > 0);
}

/// Somebody tidied the journal away by hand, and then a mailbox cannot be synced.
#[test]
fn a_sync_that_fails_after_the_journal_was_tidied_away_is_told() {
    let disk = SimulatedDisk::default();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let (report, told) = noted();
    let mut committer = Committer::new(Arc::clone(&shared), SETTINGS[0], report);
    assert_eq!(committer.commit(&[job("0.0", false, true)]), [Ok(())]);
    disk.remove(Path::new(super::journal::JOURNAL_NAMES[0]))
        .unwrap();
    disk.fail_at(disk.operations() + 1, io::ErrorKind::Other);
    let closed = committer.close();
    assert!(
        closed.is_err() || !told.lock().unwrap().is_empty(),
        "{closed:?}"
    );
}

/// Records that have lost their place, on a full disk: no try leaves half a copy behind.
#[test]
fn tries_to_keep_records_leave_no_half_copies() {
    let disk = SimulatedDisk::default();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut committer = Committer::new(Arc::clone(&shared), SETTINGS[0], quiet());
    assert_eq!(committer.commit(&[job("0.0", false, false)]), [Ok(())]);
    committer.close().unwrap();
    assert_eq!(committer.commit(&[job("0.1", false, false)]), [Ok(())]);
    let file = disk.open(&mailbox_path("Andrew"), Open::Write).unwrap();
    file.truncate(0).unwrap();
    for _ in 0..3 {
        // The sync of the mailbox, the copy's name, its directory, the copy.
        disk.fail_at(disk.operations() + 4, io::ErrorKind::StorageFull);
        recovery::recover(&disk, Tail::Doubtful, &quiet()).unwrap_err();
    }
    let names = disk.names(Path::new("Andrew")).unwrap();
    let copies = names
        .iter()
        .filter(|name| name.starts_with("mymailbox.torn-"));
    assert_eq!(copies.count(), 0, "{names:?}");
}
