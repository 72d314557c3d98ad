//! What a start needs and that is the same for every start of a service: paths, filter, limits, identity.

use std::ffi::{CString, OsStr};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orama_policy::{CgroupLimits, Namespaces, Policy, Readiness, Rlimit, Variables};

use crate::cgroup::Cgroup;
use crate::error::{PrepareError, SpawnError};
use crate::filter::Filter;
use crate::landlock::Fence;
use crate::refusal::Outcome;
use crate::running::Running;
use crate::template::Template;
use crate::watch::Terms;
use crate::{CGROUP_BASE, datadir, elf, root, spawn, sys};

/// A service that can be started, any number of times, one at a time.
pub struct Prepared {
    pub(crate) name: String,
    pub(crate) cgroup: Cgroup,
    pub(crate) view: root::View,
    /// Built at the first start, and again when what it shows has been replaced.
    pub(crate) template: Mutex<Option<Template>>,
    pub(crate) fence: Fence,
    pub(crate) filter: Arc<Filter>,
    pub(crate) terms: Arc<Terms>,
    pub(crate) binary: CString,
    pub(crate) argv: Vec<CString>,
    pub(crate) envp: Vec<CString>,
    steps: Vec<Step>,
    pub(crate) work_dir: CString,
    pub(crate) hostname: Option<CString>,
    pub(crate) namespaces: Namespaces,
    pub(crate) rlimits: Vec<(u32, libc::rlimit64)>,
    pub(crate) nofile: Option<libc::rlimit64>,
    pub(crate) ambient: u64,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// One `[[prepare]]` step: a run of the service's binary with other arguments, in the same sandbox.
pub struct Step {
    pub(crate) argv: Vec<CString>,
    unless_exists: Option<PathBuf>,
    pub timeout: Duration,
}

/// The standard streams of a start.
pub struct Streams {
    /// `None` = /dev/null.
    pub stdin: Option<OwnedFd>,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// How a service is prepared where it is not exactly as on a node.
pub struct Preparation<'a> {
    policy: &'a Policy,
    variables: &'a Variables,
    base: &'a Path,
    command: Option<(&'a Path, Vec<String>)>,
    data: Option<&'a Path>,
    limits: bool,
    audit: bool,
    trace: bool,
}

/// Makes data directories and cgroup, compiles the filter, collects paths, for a service under [`CGROUP_BASE`].
pub fn prepare(policy: &Policy, variables: &Variables) -> Result<Prepared, PrepareError> {
    Preparation::new(policy, variables).prepare()
}

/// [`prepare`] with another cgroup v2 directory as base.
pub fn prepare_in(base: &Path, policy: &Policy, variables: &Variables) -> Result<Prepared, PrepareError> {
    Preparation::new(policy, variables).base(base).prepare()
}

impl<'a> Preparation<'a> {
    pub fn new(policy: &'a Policy, variables: &'a Variables) -> Preparation<'a> {
        let base = Path::new(CGROUP_BASE);
        Preparation {
            policy,
            variables,
            base,
            command: None,
            data: None,
            limits: true,
            audit: false,
            trace: false,
        }
    }

    /// The cgroup v2 directory in which the service's own is made.
    pub fn base(mut self, base: &'a Path) -> Self {
        self.base = base;
        self
    }

    /// Another program instead of the policy's binary and arguments. It is shown in the policy's stead.
    pub fn command(mut self, binary: &'a Path, arguments: Vec<String>) -> Self {
        self.command = Some((binary, arguments));
        self
    }

    /// Writable paths are backed by directories of the same path below this one.
    pub fn data(mut self, below: &'a Path) -> Self {
        self.data = Some(below);
        self
    }

    /// Leaves the cgroup's limits out: for machines without the controllers.
    pub fn without_limits(mut self) -> Self {
        self.limits = false;
        self
    }

    /// Refused calls run, whatever the policy's mode is.
    pub fn audit(mut self) -> Self {
        self.audit = true;
        self
    }

    /// Every call is seen by the watcher ([`crate::Watcher::start_tracing`]); what is refused stays refused.
    pub fn trace(mut self) -> Self {
        self.trace = true;
        self
    }

    pub fn prepare(&self) -> Result<Prepared, PrepareError> {
        let policy = self.policy;
        let binary_path = self.command.as_ref().map_or(policy.binary.as_path(), |(binary, _)| binary);
        let dynamic = elf::is_dynamic(binary_path)?;
        for path in &policy.filesystem.writable {
            let backing = root::backing(self.data, path);
            datadir::ensure(&backing, policy.uid, policy.gid)
                .map_err(|source| PrepareError::DataDirectory { path: backing, source })?;
        }
        for path in &policy.filesystem.readable {
            sys::open_path(path, true)
                .map_err(|source| PrepareError::Readable { path: path.clone(), source })?;
        }
        let allowed = Arc::new(Filter::compile(&policy.seccomp)?);
        let fence = Fence::new(&policy.landlock)?;
        let view = root::View::new(policy, binary_path, dynamic, self.data)?;
        let place = root::binary_place(binary_path);
        let arguments = match &self.command {
            Some((_, arguments)) => arguments.clone(),
            None => policy.expand_args(self.variables),
        };
        let no_limits = CgroupLimits::default();
        let limits = if self.limits { &policy.cgroup } else { &no_limits };
        let cgroup = Cgroup::create(self.base, &policy.name, limits)?;
        let (nofile, mut rlimits): (Vec<_>, Vec<_>) =
            policy.limits.iter().map(rlimit).partition(|(resource, _)| *resource == libc::RLIMIT_NOFILE);
        rlimits.extend(nofile.iter().filter_map(|(_, wanted)| room_for(wanted)));
        let work_dir = policy.data_dir().map_or(OsStr::new("/"), |path| path.as_os_str());
        Ok(Prepared {
            name: policy.name.clone(),
            terms: Arc::new(Terms {
                service: policy.name.clone(),
                cgroup: cgroup.clone(),
                outcome: if self.audit { Outcome::Ran } else { Terms::outcome_of(&policy.seccomp) },
                traced: self.trace.then(|| Arc::clone(&allowed)),
            }),
            filter: if self.trace { Arc::new(Filter::tracing()?) } else { allowed },
            view,
            template: Mutex::new(None),
            cgroup,
            fence,
            binary: c_string("the binary", place.as_os_str().as_bytes())?,
            argv: argv(&place, &arguments)?,
            envp: envp(policy, self.variables)?,
            steps: steps(policy, self.variables)?,
            work_dir: c_string("the data directory", work_dir.as_bytes())?,
            hostname: match policy.namespaces.uts {
                true => Some(c_string("the host name", policy.hostname.as_bytes())?),
                false => None,
            },
            namespaces: policy.namespaces,
            rlimits,
            nofile: nofile.first().map(|(_, limit)| *limit),
            ambient: policy.capabilities.iter().fold(0, |set, capability| set | 1 << capability.number()),
            uid: policy.uid,
            gid: policy.gid,
        })
    }
}

impl Prepared {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// What Landlock does for the service on this kernel, and what it cannot.
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Starts the service with stdin from /dev/null and the data directory as working directory. Returns once it
    /// has been executed or has failed to be. Blocks for milliseconds; may be called from any thread. The service
    /// dies with this process.
    pub fn spawn(&self, stdout: OwnedFd, stderr: OwnedFd) -> Result<Running, SpawnError> {
        self.spawn_with(Streams { stdin: None, stdout, stderr })
    }

    /// [`Prepared::spawn`] with a stdin of choice.
    pub fn spawn_with(&self, streams: Streams) -> Result<Running, SpawnError> {
        spawn::on_spawner(move || spawn::start(self, &self.argv, streams))?
    }

    /// The policy's `[[prepare]]` steps, in order: before each start those that are due are to be run to a
    /// successful end, each within its timeout, its cgroup emptied.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Starts one step as [`Prepared::spawn`] starts the service.
    pub fn spawn_step(&self, step: &Step, stdout: OwnedFd, stderr: OwnedFd) -> Result<Running, SpawnError> {
        let streams = Streams { stdin: None, stdout, stderr };
        spawn::on_spawner(move || spawn::start(self, &step.argv, streams))?
    }
}

impl Step {
    /// Whether it has to run: what it makes is not there yet, or it says nothing of what it makes.
    pub fn is_due(&self) -> std::io::Result<bool> {
        let Some(path) = &self.unless_exists else { return Ok(true) };
        match fs::symlink_metadata(path) {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Its arguments without the binary, for messages.
    pub fn arguments(&self) -> impl Iterator<Item = std::borrow::Cow<'_, str>> {
        self.argv.iter().skip(1).map(|argument| argument.to_string_lossy())
    }
}

fn argv(binary: &Path, arguments: &[String]) -> Result<Vec<CString>, PrepareError> {
    let mut argv = vec![c_string("the binary", binary.as_os_str().as_bytes())?];
    for argument in arguments {
        argv.push(c_string("an argument", argument.as_bytes())?);
    }
    Ok(argv)
}

fn envp(policy: &Policy, variables: &Variables) -> Result<Vec<CString>, PrepareError> {
    let mut pairs = policy.expand_env(variables);
    if matches!(policy.readiness, Readiness::Notify { .. }) {
        pairs.push(("NOTIFY_SOCKET".to_owned(), root::NOTIFY_SOCKET.to_owned()));
    }
    pairs
        .into_iter()
        .map(|(name, value)| c_string("the environment", format!("{name}={value}").as_bytes()))
        .collect()
}

fn steps(policy: &Policy, variables: &Variables) -> Result<Vec<Step>, PrepareError> {
    let step = |step: &orama_policy::Prepare| {
        let arguments: Vec<String> =
            step.args.iter().map(|template| policy.expand(template, variables)).collect();
        let unless_exists = step.unless_exists.as_ref();
        Ok(Step {
            argv: argv(&policy.binary, &arguments)?,
            unless_exists: unless_exists.map(|template| PathBuf::from(policy.expand(template, variables))),
            timeout: step.timeout,
        })
    };
    policy.prepare.iter().map(step).collect()
}

fn c_string(what: &'static str, bytes: &[u8]) -> Result<CString, PrepareError> {
    CString::new(bytes).map_err(|_| PrepareError::Nul { what })
}

fn rlimit(limit: &Rlimit) -> (u32, libc::rlimit64) {
    let (resource, value) = match *limit {
        Rlimit::Nofile(files) => (libc::RLIMIT_NOFILE, files),
        Rlimit::Nproc(processes) => (libc::RLIMIT_NPROC, processes),
        Rlimit::CoreBytes(bytes) => (libc::RLIMIT_CORE, bytes),
        Rlimit::MemlockBytes(bytes) => (libc::RLIMIT_MEMLOCK, bytes),
        Rlimit::FsizeBytes(bytes) => (libc::RLIMIT_FSIZE, bytes),
        Rlimit::StackBytes(bytes) => (libc::RLIMIT_STACK, bytes),
    };
    (resource, libc::rlimit64 { rlim_cur: value, rlim_max: value })
}

/// The limit of open files is set last, by a child that may only lower it. Where ours is lower than what is wanted (4096
/// for PID 1), the child makes room while it still may.
fn room_for(wanted: &libc::rlimit64) -> Option<(u32, libc::rlimit64)> {
    let (soft, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).ok()?;
    let room = libc::rlimit64 { rlim_cur: soft, rlim_max: wanted.rlim_max };
    (hard < wanted.rlim_max).then_some((libc::RLIMIT_NOFILE, room))
}
