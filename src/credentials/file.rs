//! The credentials as a text file, `logincred.txt` in the mail root: a user a line.
//!
//! ```text
//! file   = *( [ line ] ( LF / CRLF ) )   ; the last line end may be missing
//! line   = name "," secret               ; split at the first comma
//! name   = <a UserName>
//! secret = <one plain word> / <an Argon2id PHC string, which itself holds commas>
//!        / <a SCRAM-SHA-256 verifier>
//! ```
//!
//! A line of nothing but white space is blank and skipped; so is a line that breaks the grammar,
//! with a [`Warning`]. A name that stands twice, in whatever case, makes the file unusable. A byte
//! order mark at the start, as some editors leave it, is tolerated.
//!
//! Changes are made under a lock, to the text as it is then on disk, and leave every line but the
//! user's own as it was. The file is replaced whole, so that a reader never sees half of it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use super::password::{self, PasswordHash, SCRAM_ITERATIONS, SCRAM_SALT_OCTETS, Shape};
use super::{Credentials, CredentialsError, Doing, Malformed, Warning};
use crate::disk::{self, Disk, Lock, Status};
use crate::sasl::scram::{Keys, hmac};
use crate::secret::{self, Secret};
use crate::user::UserName;

/// The file's name in the mail root.
pub const CREDENTIALS_FILE: &str = "logincred.txt";

/// The largest file that is read: a hundred thousand users with long passwords.
pub const CREDENTIALS_FILE_OCTETS_MAX: u64 = 32 * 1024 * 1024;

/// Held while the file is read, changed and written back.
const LOCK_FILE: &str = ".minismtp.users.lock";

/// 32 random octets. What clients of SCRAM are told about users without a verifier is made from
/// them; with new ones at each start, a salt that stays would tell who has one.
const SALTS_FILE: &str = ".minismtp.salts";

/// What others, or the group, may not do with the file: others read or write, the group write.
const EXPOSING_MODE: u32 = 0o026;

/// How old a file has to be before its timestamps can be trusted to move at the next change. A
/// kernel stamps files with a clock that ticks every few milliseconds.
const TIMESTAMP_TICK_MAX: Duration = Duration::from_millis(50);

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The credentials file of a mail root. Where it is missing there are no users, unless there were.
#[derive(Debug)]
pub struct CredentialsFile {
    disk: Arc<dyn Disk>,
    /// The last parse, with the status of the file it was made from.
    parsed: Mutex<Option<(Status, Arc<Users>)>>,
    /// What stands in the file of salts.
    salts: OnceLock<[u8; 32]>,
    report: Report,
    /// The skipped lines that were reported last.
    reported: Mutex<Vec<Warning>>,
    /// There were users.
    had_users: AtomicBool,
}

/// Hears of lines that are skipped.
struct Report(Box<dyn Fn(&str) + Send + Sync>);

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Report")
    }
}

impl CredentialsFile {
    /// The credentials in the root of `disk`; reads nothing yet.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self {
            disk,
            parsed: Mutex::new(None),
            salts: OnceLock::new(),
            report: Report(Box::new(|_| ())),
            reported: Mutex::new(Vec::new()),
            had_users: AtomicBool::new(false),
        }
    }

    /// Reports the lines that somebody should look at, when they are first read and when others are
    /// after a change, since whoever wrote them is not there to be told.
    #[must_use]
    pub fn reporting(mut self, report: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.report = Report(Box::new(report));
        self
    }

    fn report(&self, warnings: &[Warning]) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if *reported == warnings {
            return;
        }
        let path = self.disk.show(Path::new(CREDENTIALS_FILE));
        for warning in warnings {
            (self.report.0)(&format!("`{}`: {warning}", path.display()));
        }
        *reported = warnings.to_vec();
    }

    /// The users as the file has them now. Some programs save a file by emptying or removing it
    /// first: whoever asks in that moment must not hear that there are no users.
    fn users(&self) -> Result<Arc<Users>, CredentialsError> {
        let Some(status) = self.status()? else {
            return self.none();
        };
        {
            let parsed = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((of, users)) = &*parsed {
                // The mode is no part of what was parsed.
                if (of.identity, of.octets, of.changed)
                    == (status.identity, status.octets, status.changed)
                {
                    return Ok(Arc::clone(users));
                }
            }
        }
        // The status is older than the text: a change in between is seen at the next call.
        let settled = has_settled(&status, SystemTime::now());
        let text = self.read()?;
        if text.is_empty() {
            return self.none();
        }
        let users = Arc::new(self.parse(&text)?);
        self.had_users
            .fetch_or(!users.users.is_empty(), Ordering::Relaxed);
        self.report(&users.warnings);
        *self.parsed.lock().unwrap_or_else(PoisonError::into_inner) =
            settled.then(|| (status, Arc::clone(&users)));
        Ok(users)
    }

    /// What a file without anything in it means.
    fn none(&self) -> Result<Arc<Users>, CredentialsError> {
        if self.had_users.load(Ordering::Relaxed) {
            let path = self.disk.show(Path::new(CREDENTIALS_FILE));
            return Err(CredentialsError::Gone { path });
        }
        Ok(Arc::default())
    }

    fn status(&self) -> Result<Option<Status>, CredentialsError> {
        let status = self
            .disk
            .status(Path::new(CREDENTIALS_FILE))
            .map_err(|error| self.error(Doing::Read, CREDENTIALS_FILE, error))?;
        match status {
            Some(status) if status.octets > CREDENTIALS_FILE_OCTETS_MAX => {
                Err(CredentialsError::TooLarge {
                    path: self.disk.show(Path::new(CREDENTIALS_FILE)),
                    octets: status.octets,
                })
            }
            status => Ok(status),
        }
    }

    /// The text of the file; empty where it is missing.
    fn read(&self) -> Result<Vec<u8>, CredentialsError> {
        disk::read(&*self.disk, Path::new(CREDENTIALS_FILE))
            .map(Option::unwrap_or_default)
            .map_err(|error| self.error(Doing::Read, CREDENTIALS_FILE, error))
    }

    fn parse(&self, text: &[u8]) -> Result<Users, CredentialsError> {
        Users::parse(text).map_err(|twins| CredentialsError::CaseTwins {
            path: self.disk.show(Path::new(CREDENTIALS_FILE)),
            first: twins.first,
            second: twins.second,
            line: twins.line,
        })
    }

    /// Replaces the file with what `edit` makes of its text, while nobody else changes it.
    fn change<T>(
        &self,
        edit: impl FnOnce(&mut Text<'_>, &Users) -> Result<T, CredentialsError>,
    ) -> Result<T, CredentialsError> {
        let _lock = self.lock()?;
        self.status()?;
        let old = self.read()?;
        let users = self.parse(&old)?;
        let mut text = Text::split(&old);
        let done = edit(&mut text, &users)?;
        disk::replace(&*self.disk, Path::new(CREDENTIALS_FILE), &text.join())
            .map_err(|error| self.error(Doing::Write, CREDENTIALS_FILE, error))?;
        Ok(done)
    }

    /// Whether users of the machine who have no business with it can read or change the file.
    ///
    /// # Errors
    ///
    /// The file cannot be looked at, or is none.
    pub fn is_exposed(&self) -> Result<bool, CredentialsError> {
        let status = self.status()?;
        Ok(status.is_some_and(|status| status.mode & EXPOSING_MODE != 0))
    }

    /// The secret that made-up salts come from.
    fn salts(&self) -> Result<[u8; 32], CredentialsError> {
        if let Some(salts) = self.salts.get() {
            return Ok(*salts);
        }
        let new = secret::random().map_err(|e| self.error(Doing::Write, SALTS_FILE, e))?;
        // Where it cannot be kept, a new one at each start has to do.
        let salts = self.kept_salts(&new).unwrap_or(new);
        Ok(*self.salts.get_or_init(|| salts))
    }

    /// The salts on disk; `new` if there were none.
    fn kept_salts(&self, new: &[u8; 32]) -> io::Result<[u8; 32]> {
        let path = Path::new(SALTS_FILE);
        let lock = self.disk.lock(Path::new(LOCK_FILE), true)?;
        let _lock = lock.ok_or(io::ErrorKind::WouldBlock)?;
        if let Some(Ok(kept)) = disk::read(&*self.disk, path)?.map(|kept| kept.try_into()) {
            return Ok(kept);
        }
        disk::replace(&*self.disk, path, new)?;
        Ok(*new)
    }

    fn lock(&self) -> Result<Box<dyn Lock>, CredentialsError> {
        self.disk
            .lock(Path::new(LOCK_FILE), true)
            .and_then(|lock| lock.ok_or_else(|| io::ErrorKind::WouldBlock.into()))
            .map_err(|error| self.error(Doing::Lock, LOCK_FILE, error))
    }

    fn error(&self, doing: Doing, name: &str, error: io::Error) -> CredentialsError {
        CredentialsError::Io {
            doing,
            path: self.disk.show(Path::new(name)),
            error,
        }
    }
}

impl Credentials for CredentialsFile {
    fn find(&self, name: &str) -> Result<Option<UserName>, CredentialsError> {
        Ok(self.users()?.find(name).map(|user| user.name.clone()))
    }

    fn verify(&self, name: &str, password: &Secret) -> Result<Option<UserName>, CredentialsError> {
        let users = self.users()?;
        let user = users.find(name);
        let shape = users
            .has_verifiers
            .then(|| users.shape(&hmac(&[0; 32], name.as_bytes())));
        let right = password::verify(user.map(|user| &user.password), password, shape);
        Ok(user.filter(|_| right).map(|user| user.name.clone()))
    }

    fn scram_keys(&self, name: &str) -> Result<Keys, CredentialsError> {
        let (users, salts) = (self.users()?, self.salts()?);
        let key = UserName::new(name).map_or_else(|_| name.to_lowercase(), |name| name.key());
        let made_up = |what: &str| hmac(&salts, format!("{what} of {key}").as_bytes());
        let kept = users.find(name).map(|user| &user.password);
        let shape = users.shape(&made_up("shape"));
        Ok(password::scram_keys(kept, shape, made_up))
    }

    fn has_scram_for_all(&self) -> Result<bool, CredentialsError> {
        let users = self.users()?;
        Ok(!users.users.is_empty() && users.shapes.len() == users.users.len())
    }

    fn list(&self) -> Result<Vec<UserName>, CredentialsError> {
        Ok(self
            .users()?
            .users
            .iter()
            .map(|user| user.name.clone())
            .collect())
    }

    fn warnings(&self) -> Result<Vec<Warning>, CredentialsError> {
        Ok(self.users()?.warnings.clone())
    }

    fn add(&self, name: &UserName, password: &PasswordHash) -> Result<(), CredentialsError> {
        if name.is(CREDENTIALS_FILE) {
            return Err(CredentialsError::Reserved { name: name.clone() });
        }
        self.change(|text, users| match users.find(name.as_str()) {
            Some(user) => Err(CredentialsError::Exists {
                name: user.name.clone(),
            }),
            None => {
                text.append(&line_of(name, password));
                Ok(())
            }
        })
    }

    fn set(&self, name: &str, password: &PasswordHash) -> Result<UserName, CredentialsError> {
        self.change(|text, users| {
            let user = users.find(name).ok_or_else(|| no_such_user(name))?;
            text.replace(user.line, &line_of(&user.name, password));
            Ok(user.name.clone())
        })
    }

    fn remove(&self, name: &str) -> Result<UserName, CredentialsError> {
        self.change(|text, users| {
            let user = users.find(name).ok_or_else(|| no_such_user(name))?;
            text.remove(user.line);
            Ok(user.name.clone())
        })
    }
}

/// What a file says, for lookups.
#[derive(Debug, Default)]
struct Users {
    /// In the order of the file.
    users: Vec<User>,
    /// Where in `users` a folded name is.
    by_key: HashMap<String, usize>,
    warnings: Vec<Warning>,
    /// What SCRAM tells about each user that can have it.
    shapes: Vec<Shape>,
    /// Whether anybody has a verifier, whose check is work.
    has_verifiers: bool,
}

#[derive(Debug)]
struct User {
    name: UserName,
    password: PasswordHash,
    line: usize,
}

/// A name that stands twice.
#[derive(Debug, PartialEq, Eq)]
struct Twins {
    first: UserName,
    second: UserName,
    line: usize,
}

impl Users {
    fn parse(text: &[u8]) -> Result<Self, Twins> {
        let mut users = Self::default();
        for (index, line) in Text::split(text).lines.iter().enumerate() {
            let number = index + 1;
            match parse_line(line_without_end(line)) {
                Ok(None) => {}
                Ok(Some((name, password))) => {
                    if password.is_foreign_hash() {
                        users.warnings.push(Warning::ForeignHash {
                            line: number,
                            name: name.clone(),
                        });
                    }
                    users.insert(User {
                        name,
                        password,
                        line: number,
                    })?;
                }
                Err(reason) => users.warnings.push(Warning::Skipped {
                    line: number,
                    reason,
                }),
            }
        }
        Ok(users)
    }

    fn insert(&mut self, user: User) -> Result<(), Twins> {
        let next = self.users.len();
        let at = *self.by_key.entry(user.name.key()).or_insert(next);
        if at != next {
            return Err(Twins {
                first: self.users[at].name.clone(),
                second: user.name,
                line: user.line,
            });
        }
        if let Some(shape) = user.password.scram_shape() {
            self.shapes.push(shape);
            self.has_verifiers |= !user.password.is_plain();
        }
        self.users.push(user);
        Ok(())
    }

    /// The shape of somebody's keys, for a user who has none: no other than there are.
    fn shape(&self, seed: &[u8; 32]) -> Shape {
        let count = self.shapes.len().max(1);
        let add = |index, octet: &u8| (index * 256 + usize::from(*octet)) % count;
        let usual = (SCRAM_ITERATIONS, SCRAM_SALT_OCTETS);
        self.shapes
            .get(seed.iter().fold(0, add))
            .copied()
            .unwrap_or(usual)
    }

    fn find(&self, name: &str) -> Option<&User> {
        let key = UserName::key_of(name)?;
        self.by_key.get(&*key).map(|&index| &self.users[index])
    }
}

/// One line without its end; `None` where it is blank.
fn parse_line(line: &[u8]) -> Result<Option<(UserName, PasswordHash)>, Malformed> {
    let line = std::str::from_utf8(line).map_err(|_| Malformed::Encoding)?;
    if line.trim().is_empty() {
        return Ok(None);
    }
    let (name, secret) = line.split_once(',').ok_or(Malformed::NoComma)?;
    let name = UserName::new(name).map_err(Malformed::Name)?;
    if name.is(CREDENTIALS_FILE) {
        return Err(Malformed::Reserved);
    }
    let password = PasswordHash::parse(secret).map_err(Malformed::Password)?;
    Ok(Some((name, password)))
}

/// A file's lines, each with the end it has, for changes that leave the others alone.
#[derive(Debug)]
struct Text<'a> {
    mark: &'a [u8],
    lines: Vec<Cow<'a, [u8]>>,
}

impl<'a> Text<'a> {
    fn split(text: &'a [u8]) -> Self {
        let rest = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        Self {
            mark: &text[..text.len() - rest.len()],
            lines: rest
                .split_inclusive(|&octet| octet == b'\n')
                .map(Into::into)
                .collect(),
        }
    }

    fn join(&self) -> Vec<u8> {
        let mut text = self.mark.to_vec();
        for line in &self.lines {
            text.extend_from_slice(line);
        }
        text
    }

    /// Adds a line at the end, ended as the first line is.
    fn append(&mut self, line: &[u8]) {
        let end: &[u8] = match self.lines.first() {
            Some(first) if first.ends_with(b"\r\n") => b"\r\n",
            _ => b"\n",
        };
        match self.lines.last_mut() {
            // Half an end is made whole: another CR would be part of the password.
            Some(last) if last.ends_with(b"\r") => last.to_mut().push(b'\n'),
            Some(last) if !last.ends_with(b"\n") => last.to_mut().extend_from_slice(end),
            _ => {}
        }
        self.lines.push([line, end].concat().into());
    }

    /// Changes line `number`, from 1, and keeps its end.
    fn replace(&mut self, number: usize, line: &[u8]) {
        let old = &mut self.lines[number - 1];
        let end = &old[line_without_end(old).len()..];
        *old = [line, end].concat().into();
    }

    fn remove(&mut self, number: usize) {
        self.lines.remove(number - 1);
    }
}

fn line_without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn line_of(name: &UserName, password: &PasswordHash) -> Vec<u8> {
    [name.as_str().as_bytes(), b",", &*password.expose()].concat()
}

fn no_such_user(name: &str) -> CredentialsError {
    CredentialsError::NoSuchUser {
        name: name.to_owned(),
    }
}

/// Whether a change after `now` is sure to show in the timestamps. The inode's is asked, which
/// nobody can set.
fn has_settled(status: &Status, now: SystemTime) -> bool {
    let Ok(now) = now.duration_since(SystemTime::UNIX_EPOCH) else {
        return false;
    };
    let age = i128::try_from(now.as_nanos()).unwrap_or(i128::MAX) - status.changed.1;
    age > i128::try_from(TIMESTAMP_TICK_MAX.as_nanos()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::credentials::PasswordError;
    use crate::disk::RealDisk;
    use crate::user::UserNameError;

    const NITC: &str = "Stallings,network$ecurity\nFourouzan,d@t@comm\nAndrew,@dministr@tor\n";
    const HASH: &str =
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

    /// A mail root that goes with the test.
    struct Root(PathBuf);

    impl Root {
        fn new() -> Self {
            static COUNT: AtomicUsize = AtomicUsize::new(0);
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("minismtp-credentials-{}-{count}", std::process::id());
            let path = std::env::temp_dir().join(name);
            drop(std::fs::remove_dir_all(&path));
            Self(path)
        }

        fn with(text: impl AsRef<[u8]>) -> (Self, CredentialsFile) {
            let root = Self::new();
            let credentials = root.open();
            root.write(text);
            (root, credentials)
        }

        fn open(&self) -> CredentialsFile {
            CredentialsFile::new(Arc::new(RealDisk::open(&self.0).unwrap()))
        }

        fn file(&self) -> PathBuf {
            self.0.join(CREDENTIALS_FILE)
        }

        fn write(&self, text: impl AsRef<[u8]>) {
            std::fs::write(self.file(), text).unwrap();
        }

        fn text(&self) -> String {
            std::fs::read_to_string(self.file()).unwrap()
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    fn name(name: &str) -> UserName {
        UserName::new(name).unwrap()
    }

    fn plain(password: &str) -> PasswordHash {
        PasswordHash::plain(&Secret::new(password)).unwrap()
    }

    fn names(credentials: &CredentialsFile) -> Vec<String> {
        let users = credentials.list().unwrap();
        users.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nitcs_file_works_as_it_stands() {
        let (_root, credentials) = Root::with(NITC);
        assert_eq!(names(&credentials), ["Stallings", "Fourouzan", "Andrew"]);
        assert_eq!(credentials.warnings().unwrap(), []);
        for (user, password, expected) in [
            ("Stallings", "network$ecurity", Some("Stallings")),
            ("andrew", "@dministr@tor", Some("Andrew")),
            ("FOUROUZAN", "d@t@comm", Some("Fourouzan")),
            ("Andrew", "d@t@comm", None),
            ("Andrew", "", None),
            ("Nobody", "d@t@comm", None),
            ("", "", None),
            ("../x", "d@t@comm", None),
        ] {
            let found = credentials.verify(user, &Secret::new(password)).unwrap();
            assert_eq!(found, expected.map(name), "{user} {password}");
        }
        assert_eq!(
            credentials.find("STALLINGS").unwrap(),
            Some(name("Stallings"))
        );
        assert_eq!(credentials.find("Stalling").unwrap(), None);
    }

    #[test]
    fn a_missing_or_empty_file_has_no_users() {
        let root = Root::new();
        let credentials = root.open();
        assert_eq!(names(&credentials), [""; 0]);
        assert_eq!(credentials.verify("a", &Secret::new("b")).unwrap(), None);
        root.write("");
        assert_eq!(names(&credentials), [""; 0]);
    }

    #[test]
    fn lines_are_split_at_the_first_comma_and_bad_ones_are_skipped() {
        let password = |error| Malformed::Password(error);
        let character = |character| UserNameError::Character { character };
        for (case, text, expected, warnings) in [
            ("plain", "a,b".into(), vec!["a"], vec![]),
            ("commas in the password", "a,b,c,".into(), vec!["a"], vec![]),
            (
                "hash",
                format!("a,{HASH}\nb,x\n").into(),
                vec!["a", "b"],
                vec![],
            ),
            ("CRLF", "a,x\r\nb,y\r\n".into(), vec!["a", "b"], vec![]),
            (
                "no last line end",
                "a,x\nb,y".into(),
                vec!["a", "b"],
                vec![],
            ),
            (
                "blank lines",
                "\n\r\n  \t\na,x\n\n".into(),
                vec!["a"],
                vec![],
            ),
            (
                "byte order mark",
                b"\xef\xbb\xbfa,x\n".to_vec(),
                vec!["a"],
                vec![],
            ),
            (
                "no comma",
                "a\nb,y\n".into(),
                vec!["b"],
                vec![(1, Malformed::NoComma)],
            ),
            (
                "comment",
                "# users\nb,y\n".into(),
                vec!["b"],
                vec![(1, Malformed::NoComma)],
            ),
            (
                "no name",
                "b,y\n,x\n".into(),
                vec!["b"],
                vec![(2, Malformed::Name(UserNameError::Empty))],
            ),
            (
                "two words",
                "b,y\na c,x\n".into(),
                vec!["b"],
                vec![(2, Malformed::Name(character(' ')))],
            ),
            (
                "outside",
                "../b,y\nc/d,x\n".into(),
                vec![],
                vec![
                    (1, Malformed::Name(UserNameError::FirstCharacter)),
                    (2, Malformed::Name(character('/'))),
                ],
            ),
            (
                "own name",
                "LoginCred.txt,y\n".into(),
                vec![],
                vec![(1, Malformed::Reserved)],
            ),
            (
                "no password",
                "a,\n".into(),
                vec![],
                vec![(1, password(PasswordError::Empty))],
            ),
            (
                "space after comma",
                "a, b\n".into(),
                vec![],
                vec![(1, password(PasswordError::NotOneWord))],
            ),
            (
                "half a hash",
                "a,$argon2id$v=19\n".into(),
                vec![],
                vec![(1, password(PasswordError::BadHash))],
            ),
            (
                "CR within",
                "a,x\ry\n".into(),
                vec![],
                vec![(1, password(PasswordError::NotOneLine))],
            ),
            (
                "NUL",
                b"a,x\0\nb,y\n".to_vec(),
                vec!["b"],
                vec![(1, password(PasswordError::NotOneLine))],
            ),
            (
                "Latin-1",
                b"a,\xe9\nb,y\n".to_vec(),
                vec!["b"],
                vec![(1, Malformed::Encoding)],
            ),
        ]
            as [(&str, Vec<u8>, Vec<&str>, Vec<(usize, Malformed)>); 19]
        {
            let users = Users::parse(&text).unwrap();
            let names: Vec<_> = users.users.iter().map(|user| user.name.as_str()).collect();
            assert_eq!(names, expected, "{case}");
            let warnings: Vec<_> = warnings
                .into_iter()
                .map(|(line, reason)| Warning::Skipped { line, reason })
                .collect();
            assert_eq!(users.warnings, warnings, "{case}");
        }
    }

    #[test]
    fn hashes_with_commas_verify() {
        let (_root, credentials) = Root::with(format!("x,y\nAndrew,{HASH}\r\n"));
        let right = Secret::new("password");
        assert_eq!(
            credentials.verify("ANDREW", &right).unwrap(),
            Some(name("Andrew"))
        );
        assert_eq!(
            credentials.verify("Andrew", &Secret::new(HASH)).unwrap(),
            None
        );
        assert_eq!(
            credentials.verify("Andrew", &Secret::new("wrong")).unwrap(),
            None
        );
    }

    #[test]
    fn scram_is_answered_alike_whoever_asks() {
        const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
            WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
            wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        let (root, credentials) = Root::with(format!("Hashed,{HASH}\nKept,{VERIFIER}\n"));
        let keys = |name: &str| credentials.scram_keys(name).unwrap();
        assert!(keys("KEPT").are_of(&Secret::new("pencil")));
        let found = credentials.verify("kept", &Secret::new("pencil")).unwrap();
        assert_eq!(found, Some(name("Kept")));
        assert_eq!(credentials.verify("kept", &Secret::new("x")).unwrap(), None);
        // The same shape as Kept's, the only one there is; the same salt every time, in any case,
        // with another start of the server too.
        let again = root.open();
        for (one, other) in [("hashed", "Hashed"), ("Nobody", "nobody"), ("a b", "A B")] {
            let (one, other) = (keys(one), again.scram_keys(other).unwrap());
            assert_eq!(one, other);
            assert_eq!((one.iterations, one.salt.len()), (4096, 16));
        }
        assert!(!keys("Hashed").are_of(&Secret::new("password")));
        let salts: std::collections::HashSet<_> = ["Kept", "Hashed", "Nobody", "Nobodz"]
            .map(|name| keys(name).salt.clone())
            .into();
        assert_eq!(salts.len(), 4);
        let metadata = std::fs::metadata(root.0.join(SALTS_FILE)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
        // Plain words serve too.
        root.write(format!("{NITC}Hashed,{HASH}\n"));
        let andrew = keys("andrew");
        assert!(andrew.are_of(&Secret::new("@dministr@tor")));
        assert_eq!(andrew, again.scram_keys("ANDREW").unwrap());
    }

    #[test]
    fn scram_is_for_all_or_not_offered() {
        let (root, credentials) = Root::with("");
        for (text, expected) in [
            (String::new(), false),
            (NITC.to_owned(), true),
            (format!("{NITC}a,{HASH}\n"), false),
            (format!("a,{HASH}\n"), false),
        ] {
            root.write(&text);
            assert_eq!(credentials.has_scram_for_all().unwrap(), expected, "{text}");
        }
        let hash = PasswordHash::scram(&Secret::new("x")).unwrap();
        root.write("a,b\n");
        credentials.add(&name("b"), &hash).unwrap();
        assert!(credentials.has_scram_for_all().unwrap());
    }

    #[test]
    fn a_file_that_others_may_read_or_change_is_exposed() {
        let (root, credentials) = Root::with(NITC);
        for (mode, expected) in [
            (0o600, false),
            (0o640, false),
            (0o400, false),
            (0o644, true),
            (0o660, true),
            (0o602, true),
        ] {
            let permissions = PermissionsExt::from_mode(mode);
            std::fs::set_permissions(root.file(), permissions).unwrap();
            assert_eq!(credentials.is_exposed().unwrap(), expected, "{mode:o}");
        }
        std::fs::remove_file(root.file()).unwrap();
        assert!(!credentials.is_exposed().unwrap());
    }

    #[test]
    fn twins_make_the_file_unusable() {
        for (text, first, second, line) in [
            ("Andrew,x\nb,y\nandrew,z\n", "Andrew", "andrew", 3),
            ("a,x\n\na,x\n", "a", "a", 3),
            ("ä,x\nÄ,y\n", "ä", "Ä", 2),
        ] {
            let (root, credentials) = Root::with(text);
            let check = |result: Result<(), CredentialsError>| match result {
                Err(CredentialsError::CaseTwins {
                    path,
                    first: f,
                    second: s,
                    line: l,
                }) => {
                    assert_eq!(
                        (path, f, s, l),
                        (root.file(), name(first), name(second), line)
                    );
                }
                other => panic!("{text:?} gave {other:?}"),
            };
            check(credentials.list().map(drop));
            check(credentials.warnings().map(drop));
            check(credentials.find("b").map(drop));
            check(credentials.verify("b", &Secret::new("y")).map(drop));
            check(credentials.add(&name("new"), &plain("x")));
            check(credentials.set("b", &plain("x")).map(drop));
            check(credentials.remove("b").map(drop));
            assert_eq!(root.text(), text);
        }
    }

    #[test]
    fn changes_leave_the_other_lines_alone() {
        type Change = fn(&CredentialsFile) -> Result<(), CredentialsError>;
        let add: Change = |file| file.add(&name("new"), &plain("p,w"));
        let set: Change = |file| {
            file.set("ANDREW", &plain("p,w"))
                .map(|n| assert_eq!(n, name("Andrew")))
        };
        let remove: Change = |file| file.remove("andreW").map(|n| assert_eq!(n, name("Andrew")));
        for (case, change, old, new) in [
            ("first", add, "", "new,p,w\n"),
            ("add", add, "a,x\n", "a,x\nnew,p,w\n"),
            ("add, no line end", add, "a,x", "a,x\nnew,p,w\n"),
            (
                "add, CRLF",
                add,
                "a,x\r\nb,y\r\n",
                "a,x\r\nb,y\r\nnew,p,w\r\n",
            ),
            (
                "add, half an end",
                add,
                "a,x\r\nb,y\r",
                "a,x\r\nb,y\r\nnew,p,w\r\n",
            ),
            (
                "add, CRLF, no line end",
                add,
                "a,x\r\nb,y",
                "a,x\r\nb,y\r\nnew,p,w\r\n",
            ),
            (
                "add, after rubbish",
                add,
                "a,x\n\n# no\n",
                "a,x\n\n# no\nnew,p,w\n",
            ),
            (
                "add, marked",
                add,
                "\u{feff}a,x\n",
                "\u{feff}a,x\nnew,p,w\n",
            ),
            ("set", set, "\na\nAndrew,x\r\nb,y", "\na\nAndrew,p,w\r\nb,y"),
            ("set, last", set, "b,y\nAndrew,x", "b,y\nAndrew,p,w"),
            (
                "set, marked",
                set,
                "\u{feff}Andrew,x\n",
                "\u{feff}Andrew,p,w\n",
            ),
            ("remove", remove, "\na\r\nAndrew,x\r\n\nb,y", "\na\r\n\nb,y"),
            ("remove, last", remove, "b,y\nAndrew,x", "b,y\n"),
            ("remove, only", remove, "Andrew,x\n", ""),
            (
                "remove, marked",
                remove,
                "\u{feff}Andrew,x\nb,y\n",
                "\u{feff}b,y\n",
            ),
        ] {
            let (root, credentials) = Root::with(old);
            change(&credentials).unwrap();
            assert_eq!(root.text(), new, "{case}");
        }
    }

    #[test]
    fn a_name_is_added_once_and_only_what_is_there_is_changed() {
        let (root, credentials) = Root::with(NITC);
        match credentials.add(&name("ANDREW"), &plain("x")) {
            Err(CredentialsError::Exists { name: kept }) => assert_eq!(kept, name("Andrew")),
            other => panic!("{other:?}"),
        }
        for missing in [
            credentials.set("nobody", &plain("x")).map(drop),
            credentials.remove("nobody").map(drop),
            credentials.remove("../x").map(drop),
        ] {
            assert!(
                matches!(missing, Err(CredentialsError::NoSuchUser { .. })),
                "{missing:?}"
            );
        }
        let reserved = credentials.add(&name("LOGINCRED.TXT"), &plain("x"));
        assert!(
            matches!(reserved, Err(CredentialsError::Reserved { .. })),
            "{reserved:?}"
        );
        assert_eq!(root.text(), NITC);
    }

    #[test]
    fn the_mode_is_kept_and_private_when_new() {
        let root = Root::new();
        let credentials = root.open();
        let mode = || std::fs::metadata(root.file()).unwrap().permissions().mode() & 0o7777;
        credentials.add(&name("a"), &plain("x")).unwrap();
        assert_eq!(mode(), 0o600);
        std::fs::set_permissions(root.file(), PermissionsExt::from_mode(0o640)).unwrap();
        credentials.add(&name("b"), &plain("x")).unwrap();
        assert_eq!(mode(), 0o640);
        let files = std::fs::read_dir(&root.0).unwrap().count();
        assert_eq!(files, 2, "the file and its lock");
    }

    #[test]
    fn changes_by_others_are_seen_at_once() {
        let (root, credentials) = Root::with("a,x\n");
        // The same size, and often within the same tick of the clock.
        for round in 0..100 {
            let letter = char::from(b'a' + round % 26);
            root.write(format!("{letter},x\n"));
            assert_eq!(names(&credentials), [letter.to_string()]);
        }
        root.write("\n");
        assert_eq!(names(&credentials), [""; 0], "somebody wants no users");
    }

    #[test]
    fn a_file_that_is_being_saved_is_not_one_without_users() {
        let root = Root::new();
        let credentials = root.open();
        assert_eq!(names(&credentials), [""; 0], "there were none yet");
        root.write("a,x\n");
        assert_eq!(names(&credentials), ["a"]);
        let remove = || std::fs::remove_file(root.file()).unwrap();
        let truncate = || root.write("");
        for take_away in [&remove as &dyn Fn(), &truncate] {
            take_away();
            for _ in 0..2 {
                let error = credentials.find("a").unwrap_err();
                assert!(matches!(error, CredentialsError::Gone { .. }), "{error}");
            }
            root.write("b,x\n");
            assert_eq!(names(&credentials), ["b"]);
        }
    }

    #[test]
    fn a_parse_is_kept_while_the_file_stays_as_it_is() {
        let (root, credentials) = Root::with(NITC);
        credentials.list().unwrap();
        assert!(
            credentials.parsed.lock().unwrap().is_none(),
            "too fresh to be sure"
        );
        let changed = credentials.status().unwrap().unwrap().changed.1;
        while !has_settled(&credentials.status().unwrap().unwrap(), SystemTime::now()) {
            std::thread::yield_now();
        }
        let one = credentials.users().unwrap();
        assert!(Arc::ptr_eq(&one, &credentials.users().unwrap()));
        credentials.remove("Andrew").unwrap();
        assert_ne!(credentials.status().unwrap().unwrap().changed.1, changed);
        assert_eq!(names(&credentials), ["Stallings", "Fourouzan"]);
        assert_eq!(root.text(), &NITC[..NITC.find("Andrew").unwrap()]);
    }

    #[test]
    fn ten_thousand_users_are_found() {
        let text: String = (0..10_000).map(|n| format!("user{n},{HASH}\n")).collect();
        let users = Users::parse(text.as_bytes()).unwrap();
        assert_eq!(users.users.len(), 10_000);
        for n in 0..10_000 {
            assert_eq!(users.find(&format!("USER{n}")).unwrap().line, n + 1);
        }
    }

    #[test]
    fn two_at_once_lose_nothing() {
        let root = Root::new();
        let credentials = root.open();
        let other = root.open();
        std::thread::scope(|scope| {
            for (file, start) in [(&credentials, 0), (&credentials, 10), (&other, 20)] {
                scope.spawn(move || {
                    for n in start..start + 10 {
                        file.add(&name(&format!("u{n}")), &plain("x")).unwrap();
                    }
                });
            }
        });
        assert_eq!(names(&credentials).len(), 30);
    }

    #[test]
    fn what_is_no_plain_file_is_refused() {
        let (root, credentials) = Root::with(NITC);
        let elsewhere = root.0.join("elsewhere");
        std::fs::rename(root.file(), &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, root.file()).unwrap();
        let refused = |result: Result<(), CredentialsError>| {
            let shown = root.file();
            let text = format!(
                "cannot read credentials file `{}`: not a regular file",
                shown.display()
            );
            assert_eq!(result.unwrap_err().to_string(), text);
        };
        refused(credentials.list().map(drop));
        refused(credentials.add(&name("new"), &plain("x")));
        assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), NITC);
        std::fs::remove_file(root.file()).unwrap();
        std::fs::create_dir(root.file()).unwrap();
        refused(credentials.find("a").map(drop));
    }

    #[test]
    fn a_huge_file_is_refused_unread() {
        let (root, credentials) = Root::with("");
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(root.file())
            .unwrap();
        file.set_len(CREDENTIALS_FILE_OCTETS_MAX + 1).unwrap();
        let error = credentials.list().unwrap_err();
        assert!(
            matches!(error, CredentialsError::TooLarge { .. }),
            "{error}"
        );
    }
}
