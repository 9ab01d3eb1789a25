//! The limit: loops that take mail without understanding it, in two ways. One appends the octets to
//! one file that is there in full length and syncs once for all messages that came together. The
//! other has a thread for each connection, which appends to a file for each mailbox and syncs that.
//! The faster of the two is what a server that promises as much can hardly reach.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::io::{ReadWriteFlags, pwritev2};

/// The file is written to its end, and then from the start again.
const JOURNAL_OCTETS: usize = 32 * 1024 * 1024;
const LISTENER: u64 = u64::MAX;

struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    is_text: bool,
    recipient: String,
}

struct Disk {
    journal: File,
    end: usize,
    batch: Vec<u8>,
}

/// Which of the two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Way {
    /// One file for all, and one sync for all messages that came together.
    Journal,
    /// A thread for each connection, and a file for each mailbox.
    Files,
}

/// Takes mail until it is killed. Prints its address first.
pub(crate) fn serve(way: Way, directory: &Path, out: &mut impl Write) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    rustix::net::listen(&listener, 1024)?;
    let address = listener.local_addr()?;
    let mut tell = || {
        writeln!(out, "listening smtp {address}")?;
        out.flush()
    };
    if way == Way::Files {
        tell()?;
        return serve_files(&listener, directory);
    }
    listener.set_nonblocking(true)?;
    let journal = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(directory.join("journal"))?;
    journal.write_all_at(&vec![0; JOURNAL_OCTETS + 1024 * 1024], 0)?;
    journal.sync_all()?;
    let mut disk = Disk {
        journal,
        end: 0,
        batch: Vec::new(),
    };
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let flags = epoll::EventFlags::IN;
    epoll::add(
        &epoll,
        &listener,
        epoll::EventData::new_u64(LISTENER),
        flags,
    )?;
    tell()?;
    let mut clients: HashMap<u64, Client> = HashMap::new();
    let mut events = Vec::with_capacity(256);
    let mut next = 0;
    loop {
        events.clear();
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
        let mut waiting = Vec::new();
        for event in &events {
            let number = event.data.u64();
            if number == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    let client = Client::greet(stream)?;
                    let data = epoll::EventData::new_u64(next);
                    epoll::add(&epoll, &client.stream, data, flags)?;
                    clients.insert(next, client);
                    next += 1;
                }
                continue;
            }
            let Some(client) = clients.get_mut(&number) else {
                continue;
            };
            match client.take() {
                Ok(None) => {}
                Ok(Some(text)) => {
                    disk.batch.extend_from_slice(&text);
                    waiting.push(number);
                }
                Err(_) => drop(clients.remove(&number)),
            }
        }
        disk.commit()?;
        for number in waiting {
            if let Some(client) = clients.get_mut(&number) {
                drop(client.stream.write_all(b"250 stored\r\n"));
            }
        }
    }
}

type Mailboxes = Mutex<HashMap<String, Arc<File>>>;

fn serve_files(listener: &TcpListener, directory: &Path) -> io::Result<()> {
    let mailboxes = Arc::new(Mailboxes::default());
    for stream in listener.incoming() {
        let mut client = Client::greet(stream?)?;
        let (directory, mailboxes) = (directory.to_owned(), Arc::clone(&mailboxes));
        std::thread::spawn(move || {
            // Whoever goes away is done.
            while let Ok(text) = client.take() {
                if let Some(text) = text {
                    let mailbox = mailbox(&client.recipient, &directory, &mailboxes);
                    let stored = mailbox.and_then(|mailbox| {
                        (&*mailbox).write_all(&text)?;
                        mailbox.sync_data()
                    });
                    stored.expect("a disk that works");
                    drop(client.stream.write_all(b"250 stored\r\n"));
                }
            }
        });
    }
    Ok(())
}

fn mailbox(recipient: &str, directory: &Path, mailboxes: &Mailboxes) -> io::Result<Arc<File>> {
    let mut mailboxes = mailboxes.lock().map_err(|_| io::ErrorKind::Other)?;
    if let Some(file) = mailboxes.get(recipient) {
        return Ok(Arc::clone(file));
    }
    let name = recipient.split('@').next().unwrap_or_default();
    let mut options = File::options();
    let file = Arc::new(
        options
            .append(true)
            .create(true)
            .open(directory.join(name))?,
    );
    // The new name counts too.
    File::open(directory)?.sync_all()?;
    mailboxes.insert(recipient.to_owned(), Arc::clone(&file));
    Ok(file)
}

impl Client {
    fn greet(mut stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.write_all(b"220 limit\r\n")?;
        Ok(Self {
            stream,
            input: Vec::new(),
            is_text: false,
            recipient: String::new(),
        })
    }

    /// Takes what the client sent; gives a text that is complete.
    fn take(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = [0; 64 * 1024];
        let got = self.stream.read(&mut buffer)?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.input.extend_from_slice(&buffer[..got]);
        if self.is_text {
            if !self.input.ends_with(b"\r\n.\r\n") {
                return Ok(None);
            }
            self.is_text = false;
            return Ok(Some(std::mem::take(&mut self.input)));
        }
        let mut replies = Vec::new();
        while let Some(end) = self.input.iter().position(|&octet| octet == b'\n') {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            match &line[..4] {
                b"QUIT" => {
                    self.stream.write_all(b"221 bye\r\n")?;
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                b"DATA" => {
                    self.is_text = true;
                    replies.extend_from_slice(b"354 go on\r\n");
                }
                b"RCPT" => {
                    self.recipient.clear();
                    let address = String::from_utf8_lossy(&line[9..line.len() - 3]);
                    self.recipient.push_str(&address);
                    replies.extend_from_slice(b"250 ok\r\n");
                }
                _ => replies.extend_from_slice(b"250 ok\r\n"),
            }
        }
        self.stream.write_all(&replies)?;
        Ok(None)
    }
}

impl Disk {
    fn commit(&mut self) -> io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        if self.end + self.batch.len() > JOURNAL_OCTETS {
            self.end = 0;
        }
        let pieces = [io::IoSlice::new(&self.batch)];
        let written = pwritev2(
            &self.journal,
            &pieces,
            self.end as u64,
            ReadWriteFlags::DSYNC,
        )?;
        assert_eq!(written, self.batch.len(), "a whole batch");
        self.end += written;
        self.batch.clear();
        Ok(())
    }
}
