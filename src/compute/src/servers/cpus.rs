//! CPUs of the host that are a server's own.
//!
//! What must stay true: no CPU is two servers' own; the first CPU that this program may use is nobody's, for the host itself,
//! for servers that share, and for what a machine does beside its guest.

use std::collections::BTreeSet;

use db::Tx;
use rest::Result;
use tasks::Failure;
use vmspec::{Dedicated, resources::MAX_HOST_CPUS};

use super::{Server, store};
use crate::App;

/// The CPUs that this program may run on.
fn of_host() -> BTreeSet<u16> {
    let mask = rustix::thread::sched_getaffinity(None).unwrap_or_default();
    (0..MAX_HOST_CPUS).filter(|cpu| mask.is_set(usize::from(*cpu))).collect()
}

/// One for each vCPU. The inner error says what is short, for the server's fault.
pub(crate) fn choose(tx: &Tx<'_>, vcpus: i64) -> Result<std::result::Result<Vec<u16>, String>> {
    let taken = store::dedicated_cpus(tx)?;
    let free: Vec<u16> = of_host().into_iter().skip(1).filter(|cpu| !taken.contains(cpu)).collect();
    let wanted = usize::try_from(vcpus).unwrap_or(usize::MAX);
    if free.len() < wanted {
        return Ok(Err(format!(
            "No valid host was found: {wanted} dedicated CPUs are wanted, and this machine has {} left.",
            free.len()
        )));
    }
    Ok(Ok(free.into_iter().take(wanted).collect()))
}

/// Gives the server CPUs of its own, or none, as its flavor and image say now. The inner error says what is short.
pub(crate) fn refit(tx: &Tx<'_>, server: &Server, dedicated: bool) -> Result<std::result::Result<(), String>> {
    let wanted = if dedicated { server.flavor.vcpus } else { 0 };
    let own = store::dedicated_cpus_of(tx, &server.id)?;
    if i64::try_from(own.len()) == Ok(wanted) {
        return Ok(Ok(()));
    }
    store::delete_dedicated_cpus(tx, &server.id)?;
    Ok(match choose(tx, wanted)? {
        Ok(cpus) => {
            store::insert_dedicated_cpus(tx, &server.id, &cpus)?;
            Ok(())
        }
        Err(shortage) => Err(shortage),
    })
}

/// The server's own, as its machine is told of them.
pub(crate) async fn of_server(app: &App, server: &Server) -> std::result::Result<Dedicated, Failure> {
    let id = server.id.clone();
    let (own, taken) = app
        .db
        .read(move |tx| Ok::<_, db::Error>((store::dedicated_cpus_of(tx, &id)?, store::dedicated_cpus(tx)?)))
        .await?;
    let host = of_host();
    if i64::try_from(own.len()) != Ok(server.flavor.vcpus) {
        return Err(Failure::fatal("The server has no dedicated CPUs of this host: it has to be made again."));
    }
    if let Some(missing) = own.iter().find(|cpu| !host.contains(cpu)) {
        return Err(Failure::fatal(format!("CPU {missing} of the host, which is the server's own, is not there.")));
    }
    Ok(Dedicated {
        vcpus: own.into_iter().map(|cpu| BTreeSet::from([cpu])).collect(),
        others: host.difference(&taken).copied().collect(),
    })
}
