//! The in-memory twin of a disk, for tests.
//!
//! Every file and directory is held twice: as programs see it, and as it would be after a power
//! cut. A sync copies the one to the other. Every operation that changes something is counted, and
//! a test can make the power go at any of them, or make one fail.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, File, Holder, Lock, Open, Status, directory_of, not_a_directory};

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

/// What survives of data that was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing.
    Drop,
    /// Everything, as after a killed process.
    Keep,
    /// In each file, of what was written, a part that depends on the seed; blocks that never
    /// arrived hold zeros though the size says otherwise.
    Torn(u64),
}

#[derive(Debug, Default)]
struct State {
    names: Names,
    durable_names: Names,
    files: Vec<Content>,
    /// The locks that are held.
    locks: BTreeMap<PathBuf, Holder>,
    /// The files that are kept from being changed, by so many, or that somebody has taken over: by none.
    kept: BTreeMap<usize, usize>,
    /// Changes so far.
    operations: u64,
    /// The operation at which the power goes.
    cut_at: Option<u64>,
    is_off: bool,
    /// Operations that fail, by number.
    failures: BTreeMap<u64, io::ErrorKind>,
    /// Of so many operations one fails, by this seed.
    chaos: Option<(u64, u64)>,
}

#[derive(Clone, Debug, Default)]
struct Names {
    directories: BTreeSet<PathBuf>,
    /// Each with its place in `State::files`, its inode.
    files: BTreeMap<PathBuf, usize>,
}

#[derive(Clone, Debug, Default)]
struct Content {
    octets: Vec<u8>,
    durable: Vec<u8>,
    /// What the next sync will save. A failed sync empties it: the system holds those octets
    /// for saved.
    unsaved: Vec<std::ops::Range<usize>>,
    mode: u32,
    changes: i128,
}

const BLOCK_OCTETS: usize = 512;

impl SimulatedDisk {
    /// How many changes were made: writes, syncs, names.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Makes the power go at the `operation`th change from the start; nothing works from then
    /// on until [`SimulatedDisk::restart`].
    pub fn cut_at(&self, operation: u64) {
        self.state().cut_at = Some(operation);
    }

    /// Makes the `operation`th change from the start fail. A sync that fails loses what it
    /// should have saved, though it stays to be seen, as Linux does it.
    pub fn fail_at(&self, operation: u64, kind: io::ErrorKind) {
        self.state().failures.insert(operation, kind);
    }

    /// Makes one in so many changes fail, always the same ones for a seed; 0 ends it. A write
    /// that fails is half done.
    pub fn fail_often(&self, one_in: u64, seed: u64) {
        self.state().chaos = (one_in > 0).then_some((one_in, seed));
    }

    /// Gives the disk as the next start finds it.
    #[must_use]
    pub fn restart(&self, cut: Cut) -> Self {
        let state = self.state();
        let names = if cut == Cut::Keep {
            &state.names
        } else {
            &state.durable_names
        };
        let named: BTreeSet<&usize> = names
            .files
            .values()
            .chain(state.durable_names.files.values())
            .collect();
        let files = state.files.iter().enumerate().map(|(index, file)| {
            if !named.contains(&index) {
                return Content::default();
            }
            let mut file = file.clone();
            match cut {
                // The system goes on, and what it holds for unsaved is still to be saved.
                Cut::Keep => return file,
                Cut::Drop => file.octets.clone_from(&file.durable),
                Cut::Torn(seed) => file.octets = file.torn(seed.wrapping_add(index as u64)),
            }
            file.unsaved.clear();
            file.durable.clone_from(&file.octets);
            file
        });
        let files = files.collect();
        let next = State {
            names: names.clone(),
            durable_names: state.durable_names.clone(),
            files,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(next)),
        }
    }

    /// Gives the disk as somebody finds it who has waited for this lock, when a process that is killed
    /// has let go of it and not yet of the others.
    #[must_use]
    pub fn dying(&self, released: &Path) -> Self {
        let disk = self.restart(Cut::Keep);
        let mut locks = self.state().locks.clone();
        locks.remove(released);
        disk.state().locks = locks;
        disk
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts a change, which may be the one at which the power goes or that fails.
    fn change(&mut self) -> io::Result<()> {
        self.is_on()?;
        self.operations += 1;
        if self.cut_at == Some(self.operations) {
            self.is_off = true;
        }
        self.is_on()?;
        if let Some((one_in, seed)) = self.chaos {
            let dice = random(seed, self.operations);
            if dice.is_multiple_of(one_in) {
                let is_full = (dice / one_in).is_multiple_of(2);
                let kind = if is_full {
                    io::ErrorKind::StorageFull
                } else {
                    io::ErrorKind::Other
                };
                return Err(kind.into());
            }
        }
        match self.failures.remove(&self.operations) {
            Some(kind) => Err(kind.into()),
            None => Ok(()),
        }
    }

    fn is_on(&self) -> io::Result<()> {
        if self.is_off {
            Err(io::Error::other("the power is off"))
        } else {
            Ok(())
        }
    }

    fn check_directory(&self, path: &Path) -> io::Result<()> {
        let directory = directory_of(path);
        if directory == Path::new("") || self.names.directories.contains(directory) {
            return Ok(());
        }
        let is_file = self.names.files.contains_key(directory);
        Err(if is_file {
            not_a_directory()
        } else {
            io::ErrorKind::NotFound.into()
        })
    }
}

/// Fills up with zeros to this length, if there are fewer octets. `Vec::resize` does so one by one
/// where nothing is optimised, and a journal has millions.
fn lengthen(octets: &mut Vec<u8>, to: usize) {
    octets.extend_from_slice(&vec![0; to.saturating_sub(octets.len())]);
}

impl Content {
    fn write(&mut self, octets: &[u8], start: usize) {
        let end = start + octets.len();
        lengthen(&mut self.octets, end);
        self.octets[start..end].copy_from_slice(octets);
        self.unsaved.push(start..end);
    }

    fn save(&mut self) {
        for range in std::mem::take(&mut self.unsaved) {
            let end = range.end.min(self.octets.len());
            let range = range.start.min(end)..end;
            lengthen(&mut self.durable, range.end);
            self.durable[range.clone()].copy_from_slice(&self.octets[range]);
        }
        self.durable.truncate(self.octets.len());
    }

    fn torn(&self, seed: u64) -> Vec<u8> {
        let random = |salt: u64| random(seed, salt);
        let mut torn = if random(0).is_multiple_of(2) {
            vec![0; self.octets.len()]
        } else {
            vec![0; self.durable.len()]
        };
        for (index, block) in torn.chunks_mut(BLOCK_OCTETS).enumerate() {
            let arrived = random(index as u64 + 1).is_multiple_of(2);
            let source = if arrived { &self.octets } else { &self.durable };
            let start = (index * BLOCK_OCTETS).min(source.len());
            let end = (start + block.len()).min(source.len());
            block[..end - start].copy_from_slice(&source[start..end]);
        }
        torn
    }
}

/// A number that looks random and is always the same.
fn random(seed: u64, salt: u64) -> u64 {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt.wrapping_add(1);
    x ^= x >> 29;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^ (x >> 32)
}

impl Disk for SimulatedDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>> {
        let mut state = self.state();
        state.is_on()?;
        state.check_directory(path)?;
        let found = state.names.files.get(path).copied();
        let inode = match (found, how) {
            (Some(_), Open::New | Open::NewSynced) => {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            (Some(inode), _) => inode,
            (None, Open::Read) => return Err(io::ErrorKind::NotFound.into()),
            (None, Open::Write | Open::New | Open::NewSynced) => {
                state.change()?;
                state.files.push(Content {
                    mode: 0o600,
                    ..Content::default()
                });
                let inode = state.files.len() - 1;
                state.names.files.insert(path.to_owned(), inode);
                inode
            }
        };
        Ok(Box::new(SimulatedFile {
            disk: self.clone(),
            inode,
            is_counted: AtomicBool::new(false),
        }))
    }

    fn status(&self, path: &Path) -> io::Result<Option<Status>> {
        let state = self.state();
        state.is_on()?;
        match state.check_directory(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            checked => checked?,
        }
        Ok(state
            .names
            .files
            .get(path)
            .map(|&inode| status(&state, inode)))
    }

    fn make_directory(&self, path: &Path) -> io::Result<bool> {
        let mut state = self.state();
        state.is_on()?;
        if state.names.files.contains_key(path) {
            return Err(not_a_directory());
        }
        if state.names.directories.contains(path) {
            return Ok(false);
        }
        state.change()?;
        Ok(state.names.directories.insert(path.to_owned()))
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        let State {
            names,
            durable_names,
            ..
        } = &mut *state;
        let is_inside = |name: &Path| name.parent() == Some(path);
        durable_names.directories.retain(|name| !is_inside(name));
        let directories = names
            .directories
            .iter()
            .filter(|name| is_inside(name))
            .cloned();
        durable_names.directories.extend(directories);
        durable_names.files.retain(|name, _| !is_inside(name));
        let files = names.files.iter().filter(|(name, _)| is_inside(name));
        durable_names
            .files
            .extend(files.map(|(name, &inode)| (name.clone(), inode)));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        let inode = state
            .names
            .files
            .remove(from)
            .ok_or(io::ErrorKind::NotFound)?;
        state.names.files.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.names.files.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change()?;
        state.names.files.remove(path);
        Ok(())
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        if state.names.directories.remove(path) {
            Ok(())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn names(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        state.is_on()?;
        let all = state
            .names
            .directories
            .iter()
            .chain(state.names.files.keys());
        let inside = all.filter(|name| name.parent() == Some(path));
        let mut names: Vec<String> = inside
            .filter_map(|name| Some(name.file_name()?.to_string_lossy().into_owned()))
            .collect();
        names.sort();
        Ok(names)
    }

    fn lock(&self, path: &Path, wait: bool) -> io::Result<Option<Box<dyn Lock>>> {
        loop {
            let mut state = self.state();
            state.is_on()?;
            if !state.locks.contains_key(path) {
                state.locks.insert(path.to_owned(), Holder::Busy);
                break;
            }
            drop(state);
            if !wait {
                return Ok(None);
            }
            std::thread::yield_now();
        }
        Ok(Some(Box::new(SimulatedLock {
            disk: self.clone(),
            path: path.to_owned(),
        })))
    }

    fn holder(&self, path: &Path) -> io::Result<Holder> {
        let state = self.state();
        state.is_on()?;
        Ok(state.locks.get(path).copied().unwrap_or(Holder::Nobody))
    }

    fn show(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }
}

#[derive(Debug)]
struct SimulatedLock {
    disk: SimulatedDisk,
    path: PathBuf,
}

impl Lock for SimulatedLock {
    fn set_at_rest(&self, is_at_rest: bool) -> io::Result<()> {
        let mut state = self.disk.state();
        state.is_on()?;
        let held = if is_at_rest {
            Holder::AtRest
        } else {
            Holder::Busy
        };
        state.locks.insert(self.path.clone(), held);
        Ok(())
    }
}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        self.disk.state().locks.remove(&self.path);
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    inode: usize,
    /// This handle is counted in [`State::kept`].
    is_counted: AtomicBool,
}

impl SimulatedFile {
    fn change<T>(&self, change: impl FnOnce(&mut Content) -> T) -> io::Result<T> {
        let mut state = self.disk.state();
        state.change()?;
        let content = &mut state.files[self.inode];
        content.changes += 1;
        Ok(change(content))
    }

    fn write(&self, octets: &[u8], start: usize) -> io::Result<()> {
        self.change(|content| content.write(octets, start))
    }
}

impl File for SimulatedFile {
    fn status(&self) -> io::Result<Status> {
        let state = self.disk.state();
        state.is_on()?;
        Ok(status(&state, self.inode))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        state.is_on()?;
        let octets = &state.files[self.inode].octets;
        let start = usize::try_from(offset).map_or(octets.len(), |at| at.min(octets.len()));
        let count = buffer.len().min(octets.len() - start);
        buffer[..count].copy_from_slice(&octets[start..start + count]);
        Ok(count)
    }

    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let written = self.write(octets, start);
        if written.is_err() {
            let mut state = self.disk.state();
            if !state.is_off {
                state.files[self.inode].write(&octets[..octets.len() / 2], start);
            }
        }
        written
    }

    fn truncate(&self, octets: u64) -> io::Result<()> {
        let octets = usize::try_from(octets).map_err(io::Error::other)?;
        self.change(|content| {
            content.unsaved.push(content.octets.len()..octets);
            content.octets.truncate(octets);
            lengthen(&mut content.octets, octets);
        })
    }

    fn sync(&self) -> io::Result<()> {
        let synced = self.change(Content::save);
        if synced.is_err() {
            let mut state = self.disk.state();
            if !state.is_off {
                state.files[self.inode].unsaved.clear();
            }
        }
        synced
    }

    fn keep(&self) -> io::Result<()> {
        loop {
            let mut state = self.disk.state();
            state.is_on()?;
            let kept = state.kept.get(&self.inode).copied();
            if kept != Some(0) {
                state.kept.insert(self.inode, kept.unwrap_or(0) + 1);
                self.is_counted.store(true, Ordering::Relaxed);
                return Ok(());
            }
            drop(state);
            std::thread::yield_now();
        }
    }

    fn take_over(&self) -> io::Result<bool> {
        let mut state = self.disk.state();
        state.is_on()?;
        let is_free = !state.kept.contains_key(&self.inode);
        if is_free {
            state.kept.insert(self.inode, 0);
            self.is_counted.store(true, Ordering::Relaxed);
        }
        Ok(is_free)
    }

    fn set_access(&self, like: &Status) -> io::Result<()> {
        self.change(|content| content.mode = like.mode)
    }
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        if self.is_counted.load(Ordering::Relaxed) {
            let kept = &mut self.disk.state().kept;
            match kept.get_mut(&self.inode) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(kept.remove(&self.inode)),
            }
        }
    }
}

fn status(state: &State, inode: usize) -> Status {
    let content = &state.files[inode];
    Status {
        identity: (0, inode as u64),
        octets: content.octets.len() as u64,
        mode: content.mode,
        owner: (0, 0),
        changed: (content.changes, content.changes),
    }
}
