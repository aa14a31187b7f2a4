//! What the service `solostack` is told about this machine: how its parts are, its certificates, files for the support bundle.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use config::{Config, Driver};
use system::{Certificate, Certificates, Chain, Document, Machine, Part, Place, Refused, State, bytes_in_words};
use tasks::Engine;
use tls::ImportError;

use crate::cloud::Chosen;
use crate::policies;

/// How long a program may take to show what it knows.
const DEADLINE: Duration = Duration::from_secs(5);
/// More of a program's output is cut off.
const OUTPUT_MAX: usize = 1 << 20;

/// This machine, and the program on it.
#[derive(Debug)]
pub struct ThisMachine {
    pub config: Config,
    pub chosen: Chosen,
    pub engine: Engine,
    pub identity: identity::App,
    /// What KVM can do here, once somebody asked.
    kvm: OnceLock<String>,
}

impl ThisMachine {
    #[must_use]
    pub fn new(config: Config, chosen: Chosen, engine: Engine, identity: identity::App) -> Self {
        Self { config, chosen, engine, identity, kvm: OnceLock::new() }
    }

    fn driver(&self) -> Part {
        const NAME: &str = "hypervisor";
        let text = format!("{}: {}", self.chosen.driver, self.chosen.reason);
        if self.chosen.driver == vmspec::Driver::Fake {
            return Part::ok(NAME, text);
        }
        // It runs a small program under KVM: found once, it stays as it is.
        let verdict = self.kvm.get_or_init(|| hypervisor::probe().kvm.to_string());
        let emulated = self.chosen.driver == vmspec::Driver::Tcg && self.config.driver == Driver::Auto;
        let part = if emulated {
            let advice = "use a host whose KVM runs guests in hardware; solostack doctor says what is missing here";
            Part::bad(NAME, State::Degraded, format!("{text}; servers are emulated, many times slower"), advice)
        } else {
            Part::ok(NAME, text)
        };
        part.fact("kvm", verdict.clone())
    }

    fn reconcilers(&self) -> Part {
        const NAME: &str = "reconcilers";
        let rounds = self.engine.rounds();
        let failing: Vec<String> = rounds
            .iter()
            .filter_map(|round| Some(format!("{} ({} times): {}", round.name, round.failures, round.error.as_ref()?)))
            .collect();
        let part = if failing.is_empty() {
            Part::ok(NAME, format!("{} keep the machine as it should be", rounds.len()))
        } else {
            let advice = "each tries again by itself; if it goes on, its reason says what to mend";
            Part::bad(NAME, State::Degraded, failing.join("; "), advice)
        };
        rounds.iter().fold(part, |part, round| part.fact(round.name, round.ended_at.clone()))
    }

    fn policies(&self) -> Part {
        const NAME: &str = "policy files";
        let row = policies::health(&self.config);
        // Where the state is, is the operator's business.
        let found = row.found.replace(&*self.config.state_dir.to_string_lossy(), "<state>");
        match row.advice {
            None => Part::ok(NAME, found),
            Some(advice) => Part::bad(NAME, State::Degraded, found, advice),
        }
    }
}

/// How the last update of the appliance went, if there ever was one.
fn update(state_dir: &Path) -> Option<Part> {
    const NAME: &str = "update";
    let record = appliance::update::Record::read(state_dir).ok().flatten()?;
    let text = crate::update::sentence(&record);
    let part = match record.state {
        appliance::update::State::Returned => {
            Part::bad(NAME, State::Degraded, text, "install a version that is mended; until then this one goes on")
        }
        _ => Part::ok(NAME, text),
    };
    Some(part.fact("version", record.version))
}

impl Machine for ThisMachine {
    fn parts(&self) -> futures::future::BoxFuture<'_, Vec<Part>> {
        Box::pin(async {
            // Files of the kernel and a probe: microseconds, but for the first look at KVM.
            tokio::task::block_in_place(|| {
                let mut parts = vec![
                    processor(),
                    memory(),
                    disk(&self.config.state_dir),
                    self.driver(),
                    self.reconcilers(),
                    self.policies(),
                ];
                parts.extend(update(&self.config.state_dir));
                parts
            })
        })
    }

    fn several_domains(&self) -> rest::Result<bool> {
        self.identity.several_domains().map_err(rest::Error::internal)
    }

    fn documents(&self) -> Vec<futures::future::BoxFuture<'_, Document>> {
        vec![
            Box::pin(async {
                Document { name: "doctor.txt", content: doctor::examine(&self.config).await.to_text().into_bytes() }
            }),
            // Secrets of the configuration never show themselves.
            Box::pin(async {
                Document { name: "configuration.txt", content: format!("{:#?}\n", self.config).into_bytes() }
            }),
            Box::pin(async { Document { name: "network.txt", content: network().await.into_bytes() } }),
            Box::pin(async { Document { name: "host.txt", content: host().into_bytes() } }),
        ]
    }
}

fn processor() -> Part {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Part::ok("processor", format!("{count} cores, load {load:.1}")).fact("cores", count).fact("load_1min", load)
}

fn memory() -> Part {
    const NAME: &str = "memory";
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = |name: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
    };
    let (total, free) = (kib("MemTotal:") * 1024, kib("MemAvailable:") * 1024);
    let reason = format!("{} of {} available", bytes_in_words(free), bytes_in_words(total));
    let part = if free * 20 < total {
        Part::bad(NAME, State::Degraded, reason, "stop servers, or give the machine more memory")
    } else {
        Part::ok(NAME, reason)
    };
    part.fact("total_bytes", total).fact("available_bytes", free)
}

fn disk(state_dir: &Path) -> Part {
    const NAME: &str = "disk";
    const FULL: u64 = 128 << 20;
    let stat = match nix::sys::statvfs::statvfs(state_dir) {
        Ok(stat) => stat,
        Err(error) => {
            return Part::bad(NAME, State::Failed, format!("it cannot be looked at: {error}"), "mount it again");
        }
    };
    let (total, free) = (stat.blocks() * stat.fragment_size(), stat.blocks_available() * stat.fragment_size());
    let reason = format!("{} of {} free", bytes_in_words(free), bytes_in_words(total));
    let advice = "delete images or servers that nobody needs, or give the machine a larger disk";
    let part = if free < FULL {
        Part::bad(NAME, State::Failed, reason, advice)
    } else if free * 10 < total && free < 20 << 30 {
        Part::bad(NAME, State::Degraded, reason, advice)
    } else {
        Part::ok(NAME, reason)
    };
    part.fact("total_bytes", total).fact("free_bytes", free)
}

async fn network() -> String {
    let mut text = String::new();
    for line in ["ip address", "ip route", "ip -6 route", "ip netns list", "nft list ruleset"] {
        text.push_str(&format!("$ {line}\n{}\n", output(line).await));
    }
    text
}

/// What a program says, whatever its end is.
async fn output(line: &str) -> String {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default();
    let found = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(|dir| Path::new(dir).join(name));
    let Some(program) = found.iter().find(|path| path.is_file()) else { return format!("{name} is not installed\n") };
    let run =
        tokio::process::Command::new(program).args(words).env_clear().stdin(Stdio::null()).kill_on_drop(true).output();
    match tokio::time::timeout(DEADLINE, run).await {
        Err(_) => format!("no answer within {} s\n", DEADLINE.as_secs()),
        Ok(Err(error)) => format!("it does not run: {error}\n"),
        Ok(Ok(output)) => {
            let mut bytes = if output.status.success() { output.stdout } else { output.stderr };
            bytes.truncate(OUTPUT_MAX);
            String::from_utf8_lossy(&bytes).into_owned()
        }
    }
}

fn host() -> String {
    let mut text = String::new();
    for file in
        ["/etc/os-release", "/proc/version", "/proc/uptime", "/proc/loadavg", "/proc/meminfo", "/proc/partitions"]
    {
        let content = std::fs::read_to_string(file).unwrap_or_else(|error| format!("{error}\n"));
        text.push_str(&format!("$ cat {file}\n{content}\n"));
    }
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let first = processors.split("\n\n").next().unwrap_or_default();
    text.push_str(&format!("$ head /proc/cpuinfo\n{first}\n"));
    text
}

/// The authority of this machine, for the service.
#[derive(Debug)]
pub struct OurCertificates(pub tls::Authority);

impl OurCertificates {
    #[must_use]
    pub fn shared(authority: tls::Authority) -> Arc<dyn Certificates> {
        Arc::new(Self(authority))
    }
}

impl Certificates for OurCertificates {
    fn chain(&self) -> Chain {
        let status = self.0.status();
        let shown = |one: tls::Certificate| Certificate {
            place: match one.place {
                tls::Place::Leaf => Place::Leaf,
                tls::Place::Intermediate => Place::Intermediate,
                tls::Place::Root => Place::Root,
            },
            subject: one.subject,
            issuer: one.issuer,
            names: one.names,
            not_before: one.not_before,
            not_after: one.not_after,
            fingerprint: one.fingerprint,
            brought: one.brought,
        };
        Chain {
            certificates: self.0.certificates().into_iter().map(shown).collect(),
            left_out: status.left_out,
            brought: status.imported,
            problem: status.problem,
        }
    }

    fn fingerprint(&self) -> String {
        self.0.fingerprint()
    }

    fn rotate(&self) -> Result<(), Refused> {
        self.0.rotate().map(|_| ()).map_err(|error| Refused::Failed(error.into()))
    }

    fn bring(&self, certificate: &str, key: &str, root: Option<&str>) -> Result<(), Refused> {
        match self.0.import_intermediate(certificate, key, root) {
            Ok(_) => Ok(()),
            Err(error @ ImportError::Store(_)) => Err(Refused::Failed(error.into())),
            Err(reason) => Err(Refused::ByReason(reason.to_string())),
        }
    }

    fn reset(&self) -> Result<bool, Refused> {
        let failed = |error: tls::Error| Refused::Failed(error.into());
        let was_brought = tls::Authority::reset_import(self.0.setup()).map_err(failed)?;
        if was_brought {
            self.0.renew_if_due().map_err(failed)?;
        }
        Ok(was_brought)
    }
}
