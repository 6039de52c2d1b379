//! Confinement: what a child process gives up for good before it reads a stranger's byte.
//!
//! Invariant: nothing here is taken back. A decoder can open no file, reach no network, start no program and send no signal; it has the
//! socket that its work comes by, and memory and CPU time within limits of the kernel. Where the kernel lacks one of the means, the
//! rest holds, and [`Confinement`] says what is missing: it is found by trying, not by asking.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, RawFd};
use std::path::Path;
use std::process::{Command, Stdio};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, PathBeneath, Ruleset, RulesetAttr as _, RulesetCreated,
    RulesetCreatedAttr as _, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

/// The CPU time after which the kernel ends a process, in seconds: the parent ends it long before, unless it is gone itself.
const CPU_SECONDS: u64 = 120;
/// Address space beyond data, in bytes: for what is mapped and hardly touched, such as the stacks and arenas of threads.
const SPARE_ADDRESSES: u64 = 256 << 20;
/// Address space of a program's libraries, in bytes: they are mapped from their files.
const LIBRARIES: u64 = 512 << 20;
/// What ffmpeg's libraries lie in, wherever it was installed by a package.
const PROGRAMS: [&str; 7] = ["/usr", "/lib", "/lib64", "/bin", "/opt", "/nix/store", "/etc/ld.so.cache"];

/// What a confined process still can do, by its own trial. All of it is to be false.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Confinement {
    pub(crate) opens_files: bool,
    pub(crate) reaches_network: bool,
    pub(crate) starts_programs: bool,
    /// It has more open files than standard input, output and error.
    pub(crate) inherited_files: bool,
    /// It has environment variables.
    pub(crate) inherited_environment: bool,
}

impl Confinement {
    /// What is missing, as an operator reads it; nothing when all holds.
    pub(crate) fn missing(self) -> Vec<&'static str> {
        [
            (self.opens_files, "it can open files"),
            (self.reaches_network, "it can reach the network"),
            (self.starts_programs, "it can start programs"),
            (self.inherited_files, "it has files of its parent"),
            (self.inherited_environment, "it has an environment"),
        ]
        .into_iter()
        .filter_map(|(wrong, what)| wrong.then_some(what))
        .collect()
    }
}

/// Memory of this process at the moment, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapped {
    pub(crate) addresses: u64,
    pub(crate) data: u64,
}

impl Mapped {
    /// Reads it from the kernel.
    ///
    /// # Errors
    /// When `/proc` is not there.
    pub(crate) fn read() -> io::Result<Self> {
        let text = std::fs::read_to_string("/proc/self/status")?;
        let kibibytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
            number.map(|number| number << 10).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
        };
        Ok(Self { addresses: kibibytes("VmSize:")?, data: kibibytes("VmData:")? })
    }
}

/// Confines this process, which is to decode, to at most `data` bytes of memory beyond what it has mapped.
///
/// # Errors
/// When not even the limits of memory can be set.
pub(crate) fn decoder(mapped: Mapped, data: u64) -> io::Result<Confinement> {
    let mut found = Confinement {
        // Standard input, output and error, and the socket, which is standard input once more.
        inherited_files: open_files()?.len() > 4,
        inherited_environment: std::env::vars_os().next().is_some(),
        ..Confinement::default()
    };
    limit(Resource::Data, mapped.data + data)?;
    limit(Resource::As, mapped.addresses + data + SPARE_ADDRESSES)?;
    limit(Resource::Nofile, 16)?;
    limit_rest()?;
    let nothing = ruleset().map(landlock::RulesetCreated::restrict_self);
    drop(nothing);
    // The trial tells whether it worked.
    let _ = forbid_calls(SeccompAction::Errno(libc::EPERM as u32), allowed_calls());
    found.opens_files = std::fs::File::open("/proc/self/status").is_ok();
    found.reaches_network = match TcpStream::connect(("127.0.0.1", 1)) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::PermissionDenied,
    };
    found.starts_programs = can_start();
    Ok(found)
}

/// Confines this process, which is to become the program at `path`, to its libraries and the file behind `input`.
///
/// # Errors
/// When not even the limits of memory can be set.
pub(crate) fn program(path: &Path, input: impl AsFd, memory: u64) -> io::Result<()> {
    limit(Resource::Data, memory)?;
    limit(Resource::As, memory + SPARE_ADDRESSES + LIBRARIES)?;
    limit(Resource::Nofile, 64)?;
    limit_rest()?;
    let reads = AccessFs::Execute | AccessFs::ReadFile | AccessFs::ReadDir;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let restricted = ruleset().and_then(|rules| {
        let rules = rules.add_rules(path_beneath_rules(PROGRAMS, reads))?;
        let rules = rules.add_rules(path_beneath_rules([folder], reads))?;
        let rules = rules.add_rules(path_beneath_rules(["/dev/null"], AccessFs::ReadFile | AccessFs::WriteFile))?;
        let rules = rules.add_rule(PathBeneath::new(input, AccessFs::ReadFile))?;
        rules.restrict_self()
    });
    if !restricted.is_ok_and(|status| status.ruleset != RulesetStatus::NotEnforced) {
        eprintln!("this kernel cannot keep ffmpeg from files");
    }
    if forbid_calls(SeccompAction::Allow, forbidden_calls()).is_err() {
        eprintln!("this kernel cannot keep ffmpeg from the network");
    }
    Ok(())
}

/// A set of rules that allows nothing yet.
fn ruleset() -> Result<RulesetCreated, landlock::RulesetError> {
    let abi = ABI::V6;
    Ruleset::default()
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()
}

fn limit(resource: Resource, to: u64) -> io::Result<()> {
    Ok(setrlimit(resource, Rlimit { current: Some(to), maximum: Some(to) })?)
}

fn limit_rest() -> io::Result<()> {
    limit(Resource::Cpu, CPU_SECONDS)?;
    limit(Resource::Fsize, 0)?;
    limit(Resource::Core, 0)
}

/// The numbers of open files, the one that lists them left out.
fn open_files() -> io::Result<Vec<RawFd>> {
    let listed: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    // The list itself is closed by now.
    Ok(listed.into_iter().filter(|file| std::fs::symlink_metadata(format!("/proc/self/fd/{file}")).is_ok()).collect())
}

/// Closes every file but standard input, output and error. Whoever started the parent may have left it some that children inherit.
///
/// # Errors
/// When they cannot be listed.
pub(crate) fn close_inherited() -> io::Result<()> {
    for file in open_files()?.into_iter().filter(|file| *file > 2) {
        // One that is closed already is none that is left.
        let _ = nix::unistd::close(file);
    }
    Ok(())
}

fn can_start() -> bool {
    let started = Command::new("/proc/self/exe").arg("nothing").stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    started.map(|mut child| child.wait()).is_ok()
}

/// A system call with the conditions under which it is meant: all of one list, or any list; no list: always.
type Calls = Vec<(libc::c_long, Vec<Vec<SeccompCondition>>)>;

/// The system calls of a process that computes, and talks by one socket that it has.
fn allowed_calls() -> Calls {
    let equals = |argument, value: u64| is(argument, SeccompCmpOp::Eq, value);
    let has_not = |argument, bits: u64| is(argument, SeccompCmpOp::MaskedEq(bits), 0);
    let (executable, shared) = (libc::PROT_EXEC as u64, libc::MAP_TYPE as u64);
    let private = is(3, SeccompCmpOp::MaskedEq(shared), libc::MAP_PRIVATE as u64);
    let always = [
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_readv,
        libc::SYS_writev,
        libc::SYS_pread64,
        libc::SYS_recvfrom,
        libc::SYS_recvmsg,
        libc::SYS_sendto,
        libc::SYS_close,
        libc::SYS_lseek,
        libc::SYS_fstat,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_brk,
        libc::SYS_madvise,
        libc::SYS_futex,
        libc::SYS_sched_yield,
        libc::SYS_sched_getaffinity,
        libc::SYS_set_robust_list,
        libc::SYS_rseq,
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_nanosleep,
        libc::SYS_restart_syscall,
        libc::SYS_getrandom,
        libc::SYS_getpid,
        libc::SYS_gettid,
        // Its flags lie in memory, where no filter reads them: it is answered below that it does not exist, and clone is used.
        libc::SYS_clone3,
    ];
    let mut calls: Calls = always.into_iter().map(|call| (call, Vec::new())).collect();
    let own = u64::from(std::process::id());
    calls.extend([
        // A thread of this process, and no other process.
        (
            libc::SYS_clone,
            vec![vec![is(0, SeccompCmpOp::MaskedEq(libc::CLONE_THREAD as u64), libc::CLONE_THREAD as u64)]],
        ),
        (libc::SYS_mmap, vec![vec![has_not(2, executable), private]]),
        (libc::SYS_mprotect, vec![vec![has_not(2, executable)]]),
        (libc::SYS_prctl, vec![vec![equals(0, libc::PR_SET_NAME as u64)]]),
        // How it ends itself.
        (libc::SYS_tgkill, vec![vec![equals(0, own)]]),
        (libc::SYS_kill, vec![vec![equals(0, own)]]),
        (libc::SYS_fcntl, vec![vec![equals(1, libc::F_GETFD as u64)], vec![equals(1, libc::F_SETFD as u64)]]),
    ]);
    calls
}

/// The system calls that a program has no use for which reads one file and writes to its standard output.
fn forbidden_calls() -> Calls {
    let calls = [
        libc::SYS_socket,
        libc::SYS_socketpair,
        libc::SYS_connect,
        libc::SYS_bind,
        libc::SYS_listen,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_open,
        libc::SYS_pidfd_getfd,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_io_uring_setup,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_prlimit64,
        libc::SYS_setrlimit,
    ];
    calls.into_iter().map(|call| (call, Vec::new())).collect()
}

fn is(argument: u8, compare: SeccompCmpOp, value: u64) -> SeccompCondition {
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, compare, value).expect("a call has six arguments")
}

/// Keeps this process to a list of system calls. Where `others` is what happens to calls that are not on it, those on it are allowed; where
/// others are allowed, those on it are refused.
fn forbid_calls(others: SeccompAction, calls: Calls) -> Result<(), Box<dyn std::error::Error>> {
    let arch = std::env::consts::ARCH.try_into()?;
    let on_list = match others {
        SeccompAction::Allow => SeccompAction::Errno(libc::EPERM as u32),
        _ => SeccompAction::Allow,
    };
    let unknown = SeccompAction::Errno(libc::ENOSYS as u32);
    let clone3 =
        SeccompFilter::new(BTreeMap::from([(libc::SYS_clone3, Vec::new())]), SeccompAction::Allow, unknown, arch)?;
    let mut rules = BTreeMap::new();
    for (call, conditions) in calls {
        let alternatives: Result<Vec<_>, _> = conditions.into_iter().map(SeccompRule::new).collect();
        rules.insert(call, alternatives?);
    }
    let filter = SeccompFilter::new(rules, others, on_list, arch)?;
    let (clone3, filter): (BpfProgram, BpfProgram) = (clone3.try_into()?, filter.try_into()?);
    apply_filter(&clone3)?;
    apply_filter(&filter)?;
    Ok(())
}
