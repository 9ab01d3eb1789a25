//! Any file of credentials is read or refused as a whole, and a change leaves every other line as
//! it was.
#![no_main]

use std::path::Path;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use minismtp::credentials::{
    CREDENTIALS_FILE, Credentials as _, CredentialsFile, PasswordHash, Warning,
};
use minismtp::disk::{self, Disk, SimulatedDisk};
use minismtp::user::UserName;
use minismtp_fuzz::take_octet;

fuzz_target!(|input: &[u8]| {
    let mut text = input;
    let choice = usize::from(take_octet(&mut text));
    let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::default());
    let path = Path::new(CREDENTIALS_FILE);
    disk::replace(&*disk, path, text).unwrap();
    let octets = || disk::read(&*disk, path).unwrap().unwrap_or_default();
    // A file that has just changed is read anew each time; nothing is kept between these.
    let credentials = || CredentialsFile::new(Arc::clone(&disk));

    let Ok(users) = credentials().list() else {
        // Two spellings of one name: nobody is let in, and nothing is changed.
        let name = UserName::new("somebody").unwrap();
        let word = PasswordHash::parse("word").unwrap();
        assert!(credentials().find("somebody").is_err());
        assert!(credentials().add(&name, &word).is_err());
        assert!(credentials().remove("somebody").is_err());
        assert_eq!(octets(), text);
        return;
    };
    let warnings = credentials().warnings().unwrap();
    let rest = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let lines: Vec<&[u8]> = rest.split_inclusive(|&octet| octet == b'\n').collect();
    let is_blank =
        |line: &&[u8]| std::str::from_utf8(line).is_ok_and(|line| line.trim().is_empty());
    let blank = lines.iter().filter(|line| is_blank(line)).count();
    let is_skipped = |warning: &&Warning| matches!(warning, Warning::Skipped { .. });
    let skipped = warnings.iter().filter(is_skipped).count();
    assert_eq!(users.len() + skipped + blank, lines.len());
    for user in &users {
        for name in [user.as_str().to_owned(), user.as_str().to_uppercase()] {
            // An upper case spelling may be too long, or another name where case does not go
            // back and forth.
            let found = credentials().find(&name).unwrap();
            assert!(found.as_ref() == Some(user) || !user.is(&name), "{name}");
        }
        assert!(!user.is(CREDENTIALS_FILE));
    }

    let name = UserName::new("New.User").unwrap();
    let word = PasswordHash::parse("pass,word").unwrap();
    if credentials().find("new.user").unwrap().is_none() {
        credentials().add(&name, &word).unwrap();
        let added = octets();
        assert!(added.starts_with(text));
        let with_new = credentials().list().unwrap();
        assert_eq!(with_new.split_last(), Some((&name, &users[..])));
        assert_eq!(credentials().warnings().unwrap(), warnings);
        assert!(credentials().add(&name, &word).is_err());
        assert_eq!(credentials().remove("NEW.USER").unwrap(), name);
        let removed = octets();
        assert!(removed.starts_with(text) && removed.len() <= text.len() + 2);
        assert!(removed.len() == text.len() || !text.ends_with(b"\n"));
        disk::replace(&*disk, path, text).unwrap();
    }
    if users.is_empty() {
        return;
    }
    let user = &users[choice % users.len()];
    assert_eq!(credentials().set(user.as_str(), &word).unwrap(), *user);
    assert_eq!(credentials().list().unwrap(), users);
    let changed = octets();
    let differ = changed
        .split_inclusive(|&o| o == b'\n')
        .zip(text.split_inclusive(|&o| o == b'\n'));
    assert!(differ.filter(|(new, old)| new != old).count() <= 1);
    assert_eq!(credentials().remove(user.as_str()).unwrap(), *user);
    assert!(credentials().find(user.as_str()).unwrap().is_none());
    let left = credentials().list().unwrap();
    assert_eq!(
        left,
        users
            .iter()
            .filter(|other| *other != user)
            .cloned()
            .collect::<Vec<_>>()
    );
});
