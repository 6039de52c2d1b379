//! A decoder: the process that reads strangers' files. The service starts some of them from its own program, gives them work over a
//! socket, and kills one that takes too long.
//!
//! Invariant: nothing of a file is read before the process is confined, and a decoder knows nothing but the one file that it has: no
//! settings, no account, no name of anything.

mod work;

use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use rustix::process::nice;

use crate::confine::{self, Confinement, Mapped};
use crate::protocol::{self, Answer, BECOME, BEGIN, DECODE, Hello, Order, Said};
use crate::source::OnDisk;
use work::Input;

/// How much processors prefer what answers people to what decodes, where both want one: three times. With more a decoder on a busy machine
/// would not be done in its time.
const NICE: i32 = 5;

/// Runs this process as what its arguments say, where they make it a child of the service; `None` for the service itself.
#[must_use]
pub fn run_as_child() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let kind = arguments.next()?;
    let memory = arguments.next().and_then(|bytes| bytes.to_str()?.parse().ok());
    let ended = match (kind.to_str()?, memory) {
        (DECODE, Some(memory)) => yield_to_others().and_then(|()| decode(memory)),
        (BECOME, Some(memory)) => yield_to_others().and_then(|()| become_program(memory, arguments.map(PathBuf::from))),
        _ => return None,
    };
    Some(match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    })
}

/// Has processors prefer others to this process, and to the program that it becomes.
fn yield_to_others() -> io::Result<()> {
    Ok(nice(NICE).map(drop)?)
}

/// Confines this process and becomes a program, whose standard input is the file that it reads.
fn become_program(memory: u64, mut arguments: impl Iterator<Item = PathBuf>) -> io::Result<()> {
    let program = arguments.next().ok_or(io::ErrorKind::InvalidInput)?;
    // Asked before, since a confined process is refused what is not there too.
    std::fs::metadata(&program)?;
    confine::close_inherited()?;
    confine::program(&program, io::stdin().as_fd(), memory)?;
    Err(Command::new(program).args(arguments).env_clear().exec())
}

fn decode(memory: u64) -> io::Result<()> {
    confine::close_inherited()?;
    let mut socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    // What a panic says goes to the parent.
    std::panic::set_hook(Box::new(|_| {}));
    let mapped = Mapped::read()?;
    let Confinement { opens_files, reaches_network, starts_programs, inherited_files, inherited_environment } =
        confine::decoder(mapped, memory)?;
    let hello = Hello {
        data: mapped.data,
        opens_files,
        reaches_network,
        starts_programs,
        inherited_files,
        inherited_environment,
    };
    protocol::write(&mut socket, &Answer { said: Some(Said::Hello(hello)) })?;
    while let Some(order) = protocol::read::<Order>(&mut socket, protocol::MAX_ORDER)? {
        let input = receive(&mut socket, &order)?;
        let worked = catch_unwind(AssertUnwindSafe(|| {
            work::perform(&order, input, &mut |weight| wait_for_room(&mut socket, weight))
        }));
        let said = match worked {
            Ok(Ok(done)) => Said::Done(done),
            Ok(Err(reason)) => Said::Failed(reason.into()),
            Err(panic) => {
                let message = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                Said::Panicked(message.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default())
            }
        };
        protocol::write(&mut socket, &Answer { said: Some(said) })?;
    }
    Ok(())
}

/// Takes the file of an order.
fn receive(socket: &mut UnixStream, order: &Order) -> io::Result<Input> {
    if order.is_file {
        return Ok(Input::File(OnDisk::new(protocol::receive_file(&*socket)?.into(), order.length)));
    }
    let mut bytes = vec![0; usize::try_from(order.length).map_err(io::Error::other)?];
    socket.read_exact(&mut bytes)?;
    Ok(Input::Bytes(bytes))
}

/// Says what work weighs and waits for room.
fn wait_for_room(socket: &mut UnixStream, weight: u64) -> io::Result<()> {
    protocol::write(socket, &Answer { said: Some(Said::Weighs(weight)) })?;
    let mut begin = [0];
    socket.read_exact(&mut begin)?;
    if begin == [BEGIN] { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}
