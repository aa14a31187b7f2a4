//! Requests about diagnostics.

use axum::extract::{Path, State};
use rest::{Ctx, Error, Reply, Result};

use super::{policy, views};
use crate::{
    App, network_info, servers,
    servers::model::PowerState,
    vms::{Observed, VmError},
};

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    let server = servers::handlers::visible_to_few(&app, &ctx, &id, policy::SHOW).await?;
    let off = |state: &str| {
        Error::conflict(format!("Cannot 'get_diagnostics' instance {id} while it is in power state {state}"))
    };
    if server.power_state != PowerState::Running as i64 {
        let state =
            [(PowerState::Paused, "paused"), (PowerState::Shutdown, "shutdown"), (PowerState::Crashed, "crashed")]
                .into_iter()
                .find(|(state, _)| *state as i64 == server.power_state);
        return Err(off(state.map_or("pending", |(_, word)| word)));
    }
    let uuid = uuid::Uuid::try_parse(&server.id).map_err(Error::internal)?;
    // The row may be behind: a guest can power off at any moment.
    let failed = |error: VmError| match error {
        VmError::NotRunning { .. } => off("shutdown"),
        other => Error::conflict(format!("Diagnostics of instance {id} are not available now.")).caused_by(other),
    };
    let statistics = app.driver.statistics(uuid).await.map_err(failed)?;
    let pid = match app.driver.observe(uuid).await {
        Ok(Observed::Running(running)) => Some(running.pid),
        _ => None,
    };
    let uptime_s = pid.and_then(uptime_s);
    let interfaces = servers::handlers::interfaces(&app, &server.id).await?;
    let mut cards = Vec::with_capacity(interfaces.len());
    for interface in interfaces {
        let traffic = network_info::traffic(&app, &interface).await;
        cards.push(views::Card { interface, traffic });
    }
    let subject = views::Subject { server: &server, options: &app.options, cards, statistics, uptime_s };
    Ok(Reply::ok(&if ctx.since(2, 48) { subject.standard() } else { subject.free_form() }))
}

/// How long a process has run, in seconds.
fn uptime_s(pid: u32) -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let up: f64 = read("/proc/uptime")?.split_whitespace().next()?.parse().ok()?;
    let ticks = rustix::param::clock_ticks_per_second();
    started_s(&read(&format!("/proc/{pid}/stat"))?, ticks).map(|at| {
        let seconds = (up - at).max(0.0);
        // A time in seconds fits many times over.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and small")]
        let whole = seconds as u64;
        whole
    })
}

/// When it started, in seconds after the machine, of the contents of `/proc/<pid>/stat`.
fn started_s(stat: &str, ticks_per_second: u64) -> Option<f64> {
    // The name of the program may hold spaces and parentheses; the 20th field behind it is the time of start.
    let ticks: u32 = stat.rsplit(')').next()?.split_whitespace().nth(19)?.parse().ok()?;
    Some(f64::from(ticks) / f64::from(u32::try_from(ticks_per_second.max(1)).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_process_is_read_behind_its_name() {
        let stat = "12 (a ) b) S 1 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 1234 9 9";
        assert_eq!(started_s(stat, 100), Some(12.34));
        assert_eq!(started_s("garbage", 100), None);
    }
}
